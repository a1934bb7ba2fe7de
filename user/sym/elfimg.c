/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/elfimg.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/mem.h"

/*
 * Real files: 30 to 80 sections; -ffunction-sections objects are never mapped. The gABI's own limit without escapes
 * is 0xff00.
 */
#define SECTIONS_MAX 0xff00u
#define NAMES_MAX (4u << 20)
#define NOTES_MAX (64u << 10)
#define NOTE_SECTIONS_MAX 64 /* real files: 2 to 8 */

int open_regular(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd); /* nothing was written */
		return -EINVAL;
	}
	return fd;
}

size_t elfimg_read(const struct elfimg *e, uint64_t off, void *buf, size_t n)
{
	size_t used = 0;

	if (off >= e->size)
		return 0;
	if (n > e->size - off)
		n = e->size - off;
	if (e->fd < 0) {
		memcpy(buf, e->mem + off, n);
		return n;
	}
	while (used < n) {
		ssize_t got = pread(e->fd, (char *)buf + used, n - used, (off_t)(off + used));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	return used;
}

int elfimg_load(const struct elfimg *e, const Elf64_Shdr *sh, size_t max, char **ret, size_t *ret_len)
{
	if (sh->sh_size > max)
		return -EFBIG;
	if (sh->sh_offset > e->size || sh->sh_size > e->size - sh->sh_offset)
		return -EBADMSG;
	_cleanup_(freep) char *buf = xcalloc(1, sh->sh_size + 1);
	if (elfimg_read(e, sh->sh_offset, buf, sh->sh_size) != sh->sh_size)
		return -EBADMSG;
	*ret = buf;
	*ret_len = sh->sh_size;
	buf = NULL;
	return 0;
}

static int read_sections(struct elfimg *e, const Elf64_Ehdr *eh)
{
	Elf64_Shdr first;
	size_t n = eh->e_shnum, names = eh->e_shstrndx;

	if (!eh->e_shoff)
		return 0; /* valid: a file with segments only */
	if (eh->e_shentsize != sizeof(first) || elfimg_read(e, eh->e_shoff, &first, sizeof(first)) != sizeof(first))
		return -EBADMSG;
	/* gABI: numbers of 0xff00 and more are kept in the first section header. */
	if (!n)
		n = first.sh_size;
	if (names == SHN_XINDEX)
		names = first.sh_link;
	if (!n || n > SECTIONS_MAX || names >= n || n * sizeof(first) > e->size)
		return -EBADMSG;
	e->sections = xcalloc(n, sizeof(first));
	if (elfimg_read(e, eh->e_shoff, e->sections, n * sizeof(first)) != n * sizeof(first))
		return -EBADMSG;
	e->n_sections = n;
	e->sections_off = eh->e_shoff;
	return elfimg_load(e, &e->sections[names], NAMES_MAX, &e->names, &e->names_len);
}

static int open_common(struct elfimg *e, struct elfimg *ret)
{
	Elf64_Ehdr eh;

	if (elfimg_read(e, 0, &eh, sizeof(eh)) != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
		return -ENOEXEC;
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_ident[EI_DATA] != ELFDATA2LSB)
		return -ENOEXEC;
	int r = read_sections(e, &eh);
	if (r < 0) {
		elfimg_done(e);
		return r;
	}
	*ret = *e;
	return 0;
}

int elfimg_open(int fd, struct elfimg *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -EIO;
	struct elfimg e = { .fd = fd, .size = (uint64_t)st.st_size };
	return open_common(&e, ret);
}

int elfimg_open_mem(const void *mem, size_t size, struct elfimg *ret)
{
	struct elfimg e = { .fd = -1, .mem = mem, .size = size };

	return open_common(&e, ret);
}

void elfimg_done(struct elfimg *e)
{
	free(e->sections);
	free(e->names);
	*e = (struct elfimg){ .fd = -1 };
}

const char *elfimg_section_name(const struct elfimg *e, const Elf64_Shdr *sh)
{
	return sh->sh_name < e->names_len ? e->names + sh->sh_name : "";
}

const Elf64_Shdr *elfimg_section(const struct elfimg *e, const char *name)
{
	for (size_t i = 1; i < e->n_sections; i++) {
		const Elf64_Shdr *sh = &e->sections[i];
		if (sh->sh_type != SHT_NOBITS && sh->sh_size && !strcmp(elfimg_section_name(e, sh), name))
			return sh;
	}
	return NULL;
}

static size_t align4(size_t n)
{
	return (n + 3) & ~(size_t)3;
}

static int note_build_id(const char *notes, size_t len, char ret[BUILD_ID_HEX_CAP])
{
	for (size_t pos = 0; len - pos >= sizeof(Elf64_Nhdr);) {
		Elf64_Nhdr nh;
		memcpy(&nh, notes + pos, sizeof(nh));
		pos += sizeof(nh);
		if (nh.n_namesz > len - pos || align4(nh.n_namesz) > len - pos)
			break;
		const char *name = notes + pos;
		pos += align4(nh.n_namesz);
		if (nh.n_descsz > len - pos)
			break;
		if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == 4 && !memcmp(name, "GNU", 4) && nh.n_descsz > 0 &&
		    nh.n_descsz * 2 < BUILD_ID_HEX_CAP) {
			for (size_t i = 0; i < nh.n_descsz; i++)
				(void)snprintf(ret + 2 * i, 3, "%02x",
					       (unsigned char)notes[pos + i]); /* fits: checked above */
			return 0;
		}
		if (align4(nh.n_descsz) > len - pos)
			break;
		pos += align4(nh.n_descsz);
	}
	return -ENOENT;
}

int elfimg_build_id(const struct elfimg *e, char ret[BUILD_ID_HEX_CAP])
{
	size_t left = NOTE_SECTIONS_MAX;

	for (size_t i = 1; i < e->n_sections && left; i++) {
		_cleanup_(freep) char *notes = NULL;
		size_t len;
		left -= e->sections[i].sh_type == SHT_NOTE;
		if (e->sections[i].sh_type != SHT_NOTE || elfimg_load(e, &e->sections[i], NOTES_MAX, &notes, &len) < 0)
			continue;
		if (!note_build_id(notes, len, ret))
			return 0;
	}
	return -ENOENT;
}

bool elfimg_is(int fd, const char *build_id)
{
	_cleanup_(elfimg_done) struct elfimg img = { .fd = -1 };
	char id[BUILD_ID_HEX_CAP];

	return elfimg_open(fd, &img) == 0 && elfimg_build_id(&img, id) == 0 && !strcmp(id, build_id);
}

uint64_t elfimg_unpacked_bytes(const struct elfimg *e, const Elf64_Shdr *sh)
{
	Elf64_Chdr ch;

	if (!(sh->sh_flags & SHF_COMPRESSED) || sh->sh_type == SHT_NOBITS)
		return 0;
	return elfimg_read(e, sh->sh_offset, &ch, sizeof(ch)) == sizeof(ch) ? ch.ch_size : 0;
}
