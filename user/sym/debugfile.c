/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/debugfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/mem.h"

#define DEBUG_DIR "/usr/lib/debug"
#define CRC_FILE_MAX (256ull << 20)

/* CRC-32 of IEEE 802.3 (reflected 0xedb88320), as .gnu_debuglink wants it; by nibbles, the table is 64 bytes. */
static uint32_t crc32_step(uint32_t crc, const uint8_t *p, size_t n)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};

	for (size_t i = 0; i < n; i++) {
		crc = table[(crc ^ p[i]) & 15] ^ crc >> 4;
		crc = table[(crc ^ (uint32_t)(p[i] >> 4)) & 15] ^ crc >> 4;
	}
	return crc;
}

static bool has_crc(int fd, uint32_t want)
{
	_cleanup_(freep) uint8_t *buf = xcalloc(1, 65536);
	uint32_t crc = UINT32_MAX;
	uint64_t off = 0;
	ssize_t n;

	while ((n = pread(fd, buf, 65536, (off_t)off)) > 0) {
		crc = crc32_step(crc, buf, (size_t)n);
		off += (uint64_t)n;
		if (off > CRC_FILE_MAX)
			return false;
	}
	return n == 0 && ~crc == want;
}

static bool is_same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Takes the path over. */
static int try_file(const struct debugfile_query *q, char *owned, const uint32_t *crc, char **ret_path)
{
	_cleanup_(freep) char *path = owned;
	_cleanup_(closep) int fd = open_regular(path);
	bool is_it;

	if (fd < 0 || is_same_file(fd, q->img->fd))
		return -ENOENT;
	if (q->build_id[0])
		is_it = elfimg_is(fd, q->build_id);
	else
		is_it = crc && has_crc(fd, *crc);
	if (!is_it)
		return -ENOENT;
	int taken = steal_fd(&fd);
	*ret_path = path;
	path = NULL;
	return taken;
}

static int by_build_id(const struct debugfile_query *q, const char *root, char **ret_path)
{
	if (strlen(q->build_id) < 4)
		return -ENOENT;
	return try_file(q, xasprintf("%s" DEBUG_DIR "/.build-id/%.2s/%s.debug", root, q->build_id, q->build_id + 2),
			NULL, ret_path);
}

struct debuglink {
	char *name;
	uint32_t crc;
};

/* Name, zero, padding to 4, CRC. */
static int read_debuglink(const struct elfimg *img, struct debuglink *ret)
{
	const Elf64_Shdr *sh = elfimg_section(img, ".gnu_debuglink");
	_cleanup_(freep) char *data = NULL;
	size_t len;

	if (!sh || elfimg_load(img, sh, 4096, &data, &len) < 0)
		return -ENOENT;
	size_t at = (strlen(data) + 1 + 3) & ~(size_t)3;
	if (at + 4 > len || !data[0] || strchr(data, '/'))
		return -ENOENT;
	memcpy(&ret->crc, data + at, 4);
	ret->name = data;
	data = NULL;
	return 0;
}

static int by_link(const struct debugfile_query *q, const char *root, const char *path, const struct debuglink *link,
		   char **ret_path)
{
	const char *slash = strrchr(path, '/');

	if (path[0] != '/')
		return -ENOENT;
	int dir_len = (int)(slash - path), fd = -ENOENT;
	if (dir_len > 4096)
		return -ENOENT;
	fd = try_file(q, xasprintf("%s%.*s/%s", root, dir_len, path, link->name), &link->crc, ret_path);
	if (fd < 0)
		fd = try_file(q, xasprintf("%s%.*s/.debug/%s", root, dir_len, path, link->name), &link->crc, ret_path);
	if (fd < 0)
		fd = try_file(q, xasprintf("%s" DEBUG_DIR "%.*s/%s", root, dir_len, path, link->name), &link->crc,
			      ret_path);
	return fd;
}

/* "/proc/PID/root" if the file was opened below /proc/PID. */
static bool target_root(const char *open_path, char *ret, size_t cap)
{
	unsigned int pid;
	char slash;

	if (sscanf(open_path, "/proc/%u%c", &pid, &slash) != 2 || slash != '/')
		return false;
	return (size_t)snprintf(ret, cap, "/proc/%u/root", pid) < cap;
}

int debugfile_open(const struct debugfile_query *q, char **ret_path)
{
	struct debuglink link = { 0 };
	char root[64];
	bool has_root = target_root(q->open_path, root, sizeof(root));
	int fd = by_build_id(q, "", ret_path);

	if (fd < 0 && has_root)
		fd = by_build_id(q, root, ret_path);
	if (fd >= 0 || read_debuglink(q->img, &link) < 0)
		return fd;
	fd = by_link(q, "", q->path, &link, ret_path);
	if (fd < 0 && has_root)
		fd = by_link(q, root, q->path, &link, ret_path);
	if (fd < 0 && !has_root)
		fd = by_link(q, "", q->open_path, &link, ret_path);
	free(link.name);
	return fd;
}

/*
 * What dwz shared between files: by build id; else where Debian's packages have it, under DEBUG_DIR/.dwz/. Of the name in
 * the file only what follows ".dwz/" counts.
 */
static int alt_under(const struct debugfile_query *q, const char *root, const char *name, char **ret_path)
{
	const char *tail = strstr(name, "/.dwz/");
	int fd = by_build_id(q, root, ret_path);

	if (fd >= 0 || !tail || strstr(tail, "/../"))
		return fd;
	return try_file(q, xasprintf("%s" DEBUG_DIR "%.4096s", root, tail), NULL, ret_path);
}

int debugfile_open_alt(const char *build_id, const char *name, const char *open_path, char **ret_path)
{
	static const struct elfimg none = { .fd = -1 };
	const struct debugfile_query q = { .img = &none, .build_id = build_id, .path = "", .open_path = open_path };
	char root[64];
	int fd = alt_under(&q, "", name, ret_path);

	if (fd < 0 && target_root(open_path, root, sizeof(root)))
		fd = alt_under(&q, root, name, ret_path);
	return fd;
}
