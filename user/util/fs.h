/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small files (proc, sysfs, cgroup) read whole; numbers out of them. Errors are negative errno. */
#ifndef TIDEMARK_UTIL_FS_H
#define TIDEMARK_UTIL_FS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Reads at most `cap - 1` bytes into `buf` and ends them with 0. Returns the number of bytes read.
 * A longer file is cut silently: for files whose wanted part comes first.
 */
int fs_read_into(const char *path, char *buf, size_t cap);

/* Reads the whole file, at most `max` bytes (-EFBIG beyond). *ret is zero-terminated; the caller frees. */
int fs_read_all(const char *path, size_t max, char **ret, size_t *ret_len);

/* First number in the file; the word "max" gives UINT64_MAX. */
int fs_read_u64(const char *path, uint64_t *ret);

struct stat;
/* Of a file's content, by its size and when it was written: differs once it has been written to, or the inode is another file's. Never 0. */
uint64_t fs_version(const struct stat *st);

#endif
