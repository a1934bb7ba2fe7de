/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A quick look into an ELF file of x86-64: a defined symbol by its name, bytes at an address as linked, a section's place. Costs a handful of small
 * reads, so that it can be done to every file that a process maps. Reads no whole table but on request (dynsym_find_any); target/elf.h does that.
 */
#ifndef TIDEMARK_TARGET_DYNSYM_H
#define TIDEMARK_TARGET_DYNSYM_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DYNSYM_SEGMENTS_MAX 64u /* files have 8 to 15 */
#define DYNSYM_NAME_MAX 32u	/* with its end; longer ones are not found */

struct mapping;

struct dynsym {
	int fd; /* borrowed */
	Elf64_Phdr segments[DYNSYM_SEGMENTS_MAX];
	size_t n_segments;
	uint64_t hash, symbols, strings; /* DT_GNU_HASH, DT_SYMTAB, DT_STRTAB, addresses as linked; 0: none */
	uint64_t sections_at;		 /* in the file */
	uint16_t n_sections, names;	 /* names: index of the section that holds them */
};

/* false: no ELF file for x86-64, or broken. */
bool dynsym_open(int fd, struct dynsym *ret);

/* From an address as linked, within one segment's part of the file. */
bool dynsym_read(const struct dynsym *f, uint64_t vaddr, void *buf, size_t n);

/* A defined symbol of .dynsym, through the GNU hash table. */
bool dynsym_find(const struct dynsym *f, const char *name, Elf64_Sym *ret);

/* First section of that name. */
bool dynsym_section(const struct dynsym *f, const char *name, Elf64_Shdr *ret);

/* As dynsym_find, else a defined symbol of this type (STT_*) in .symtab, which is read through: for files that are known to matter. */
bool dynsym_find_any(const struct dynsym *f, const char *name, int type, Elf64_Sym *ret);

/* Run-time address minus address as linked, from an executable mapping of the file. false: it shows no executable segment of this file. */
bool dynsym_bias(const struct dynsym *f, const struct mapping *m, uint64_t *ret);

#endif
