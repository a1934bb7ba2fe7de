/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "util/mem.h"

int fs_read_into(const char *path, char *buf, size_t cap)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t used = 0;
	while (used < cap - 1) {
		ssize_t n = read(fd, buf + used, cap - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	buf[used] = 0;
	return (int)used;
}

int fs_read_all(const char *path, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	_cleanup_(freep) char *buf = NULL;
	size_t used = 0, cap = 0;
	for (;;) {
		buf = grow_to(buf, &cap, used + 4096, 1);
		ssize_t n = read(fd, buf + used, cap - used - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
		if (used > max)
			return -EFBIG;
	}
	buf[used] = 0;
	*ret = buf;
	buf = NULL;
	if (ret_len)
		*ret_len = used;
	return 0;
}

int fs_read_u64(const char *path, uint64_t *ret)
{
	char buf[64], *end;
	int n = fs_read_into(path, buf, sizeof(buf));

	if (n < 0)
		return n;
	if (!strncmp(buf, "max", 3)) {
		*ret = UINT64_MAX;
		return 0;
	}
	errno = 0;
	unsigned long long v = strtoull(buf, &end, 10);
	if (end == buf || errno)
		return -EINVAL;
	*ret = v;
	return 0;
}

uint64_t fs_version(const struct stat *st)
{
	const uint64_t words[] = { (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec };

	return XXH3_64bits(words, sizeof(words)) | 1;
}
