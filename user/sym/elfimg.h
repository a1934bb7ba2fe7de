/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers and sections of one 64-bit little-endian ELF file, read by position from a descriptor or from memory.
 * Input is hostile: every offset and count is bounded by the file's size. Nothing is mapped: a file that shrinks
 * meanwhile gives short reads, never SIGBUS.
 */
#ifndef TIDEMARK_SYM_ELFIMG_H
#define TIDEMARK_SYM_ELFIMG_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUILD_ID_HEX_CAP 65 /* 32 bytes at most; ld writes 20 (sha1), 16 (md5, uuid) or 8 (xxhash of lld) */

struct elfimg {
	int fd;		    /* borrowed; -1: in memory */
	const uint8_t *mem; /* borrowed */
	uint64_t size;
	uint64_t sections_off; /* in the file */
	Elf64_Shdr *sections;
	size_t n_sections;
	char *names; /* section names, ended with 0 */
	size_t names_len;
};

/* 0, -ENOEXEC (no ELF of this class), -EBADMSG (broken), -EIO. */
int elfimg_open(int fd, struct elfimg *ret);
int elfimg_open_mem(const void *mem, size_t size, struct elfimg *ret);
void elfimg_done(struct elfimg *e);

/* Reads as much of [off, off + n) as the file has. Returns the number of bytes. */
size_t elfimg_read(const struct elfimg *e, uint64_t off, void *buf, size_t n);
/* First section with this name that has bytes in the file, or NULL. */
const Elf64_Shdr *elfimg_section(const struct elfimg *e, const char *name);
/* "" where it is broken. */
const char *elfimg_section_name(const struct elfimg *e, const Elf64_Shdr *sh);
/* Copies a section, zero-terminated. 0, -EFBIG (over max), -EBADMSG (cut). Caller frees. */
int elfimg_load(const struct elfimg *e, const Elf64_Shdr *sh, size_t max, char **ret, size_t *ret_len);
/* 0 or -ENOENT. */
int elfimg_build_id(const struct elfimg *e, char ret[BUILD_ID_HEX_CAP]);
/* Is it an ELF file with this build id? */
bool elfimg_is(int fd, const char *build_id);
/* Bytes that a compressed section takes once unpacked; 0: is not compressed. */
uint64_t elfimg_unpacked_bytes(const struct elfimg *e, const Elf64_Shdr *sh);

/* Unpacks .gnu_debugdata (an ELF file, xz). 0, -ENOENT, -EBADMSG, -EFBIG. Caller frees. */
int minidebug_load(const struct elfimg *e, uint8_t **ret, size_t *ret_len);

/* Opens a regular file for reading; never waits (a FIFO) and never takes a terminal. Descriptor or negative errno. */
int open_regular(const char *path);

/* Takes a descriptor out of a variable that would close it. */
static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
