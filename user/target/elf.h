/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ELF file as far as attaching needs it: identity, function symbols, code bytes. Input is hostile: all offsets and
 * counts are bounded by the file's size. libelf does the reading.
 */
#ifndef TIDEMARK_TARGET_ELF_H
#define TIDEMARK_TARGET_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUILD_ID_MAX 32

struct elf_func {
	char *name;	      /* without version suffix */
	uint64_t vaddr;	      /* as linked */
	uint64_t file_offset; /* of the first instruction */
	uint64_t bytes;	      /* st_size; 0: unknown */
};

struct elf_file {
	uint64_t dev, inode;
	uint8_t build_id[BUILD_ID_MAX];
	size_t build_id_len;				 /* 0: none */
	bool is_64, is_x86_64, has_gopclntab, is_static; /* is_static: no PT_INTERP and no DT_NEEDED */
	/* Defined functions of .dynsym and .symtab but STT_GNU_IFUNC, sorted by name, unique by (name, vaddr). */
	struct elf_func *funcs;
	size_t n_funcs;
	uint64_t text_start, text_end; /* addresses as linked that the executable segments span */
	void *priv;		       /* owned by elf.c: the file */
};

/*
 * Reads from an open descriptor (borrowed during the call). `want` (optional) keeps only the names for which it
 * returns true. 0, -ENOEXEC (not ELF), -EBADMSG (broken), -ENOTSUP (other class or machine; identity fields are
 * set).
 */
int elf_open(int fd, bool (*want)(const char *name, void *ctx), void *ctx, struct elf_file *ret);
void elf_done(struct elf_file *e);

/* First function with this name, or NULL. */
const struct elf_func *elf_find(const struct elf_file *e, const char *name);
/* Function whose [vaddr, vaddr + bytes) holds it, or NULL. */
const struct elf_func *elf_find_vaddr(const struct elf_file *e, uint64_t vaddr);

/*
 * Copies up to cap code bytes from a virtual address as linked (segment-bounded). Returns the number copied or
 * negative errno.
 */
int elf_read_code(const struct elf_file *e, uint64_t vaddr, uint8_t *buf, size_t cap);

/*
 * Name of the function that a call or jump to this address reaches through the procedure linkage table (.plt,
 * .plt.sec, .plt.got: `jmp *slot(%rip)`, slot relocated with JUMP_SLOT or GLOB_DAT). NULL: not a PLT stub. Borrowed
 * from e.
 */
const char *elf_plt_target(const struct elf_file *e, uint64_t vaddr);

/* File offset <-> address as linked, by the PT_LOAD segments. -ENOENT: in none. */
int elf_offset_to_vaddr(const struct elf_file *e, uint64_t offset, uint64_t *ret);
int elf_vaddr_to_offset(const struct elf_file *e, uint64_t vaddr, uint64_t *ret);

#endif
