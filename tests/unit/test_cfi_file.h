/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes small ELF files around call frame information that a test writes byte for byte. */
#ifndef TIDEMARK_TEST_CFI_FILE_H
#define TIDEMARK_TEST_CFI_FILE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "util/mem.h"

/* Layout: all bytes of the file lie at their offset as address; the code has no bytes in it. */
#define CODE 0x100000u
#define CODE_BYTES 0x1000000u
#define HDR_OFFSET 0x200u
#define EH_OFFSET 0x210u
#define FUNCTION_BYTES 0x100u

struct bytes {
	uint8_t *p;
	size_t n, cap;
};

static inline void bytes_done(struct bytes *b)
{
	free(b->p);
}

static inline void put(struct bytes *b, const void *data, size_t n)
{
	b->p = grow_to(b->p, &b->cap, b->n + n, 1);
	if (n)
		memcpy(b->p + b->n, data, n);
	b->n += n;
}

static inline void put_int(struct bytes *b, uint64_t value, size_t n)
{
	put(b, &value, n);
}

static inline void pad_to(struct bytes *b, size_t n)
{
	while (b->n < n)
		put_int(b, 0, 1);
}

/* An entry: where its length is, to be filled in at its end. */
static inline size_t entry_begin(struct bytes *b)
{
	put_int(b, 0, 4);
	return b->n - 4;
}

static inline void entry_end(struct bytes *b, size_t begin)
{
	uint32_t n = (uint32_t)(b->n - begin - 4);

	memcpy(b->p + begin, &n, 4);
}

#define DEFAULT_CIE_PROGRAM "\x0c\x07\x08\x90\x01" /* CFA is rsp + 8, return address at CFA - 8 */

/* .eh_frame's usual one: version 1, zR (or other letters and data), pcrel sdata4. Its offset. */
static inline size_t add_cie_with(struct bytes *b, const char *letters, const char *data, size_t n_data,
				  const char *program, size_t n)
{
	size_t at = entry_begin(b);

	put_int(b, 0, 4);
	put_int(b, 1, 1);
	put(b, letters, strlen(letters) + 1);
	put(b, "\x01\x78\x10", 3); /* code 1, data -8, return address 16 */
	if (letters[0] == 'z')
		put_int(b, n_data, 1);
	put(b, data, n_data);
	put(b, program, n);
	entry_end(b, at);
	return at;
}

static inline size_t add_cie(struct bytes *b)
{
	return add_cie_with(b, "zR", "\x1b", 1, DEFAULT_CIE_PROGRAM, sizeof(DEFAULT_CIE_PROGRAM) - 1);
}

static inline void add_fde(struct bytes *b, size_t cie, uint64_t start, uint64_t n_code, const void *program, size_t n)
{
	size_t at = entry_begin(b);

	put_int(b, b->n - cie, 4);
	put_int(b, start - (EH_OFFSET + b->n), 4);
	put_int(b, n_code, 4);
	put_int(b, 0, 1); /* augmentation data */
	put(b, program, n);
	entry_end(b, at);
}

static inline void add_debug_cie(struct bytes *b, int version)
{
	size_t at = entry_begin(b);

	put_int(b, UINT32_MAX, 4);
	put_int(b, (uint64_t)version, 1);
	put_int(b, 0, 1);
	if (version == 4)
		put(b, "\x08\x00", 2); /* addresses of 8 bytes, no segments */
	put(b, "\x01\x78\x10", 3);
	put(b, DEFAULT_CIE_PROGRAM, sizeof(DEFAULT_CIE_PROGRAM) - 1);
	entry_end(b, at);
}

static inline void add_debug_fde(struct bytes *b, size_t cie, uint64_t start, uint64_t n_code, const void *program,
				 size_t n)
{
	size_t at = entry_begin(b);

	put_int(b, cie, 4);
	put_int(b, start, 8);
	put_int(b, n_code, 8);
	put(b, program, n);
	entry_end(b, at);
}

struct file_parts {
	const struct bytes *eh, *debug; /* NULL: none */
	bool has_hdr;			/* PT_GNU_EH_FRAME */
	bool has_no_sections;
	bool is_debug_packed;
};

static inline void put_section(struct bytes *im, uint32_t name, uint64_t flags, size_t at, size_t n)
{
	const Elf64_Shdr sh = { .sh_name = name,
				.sh_type = SHT_PROGBITS,
				.sh_flags = flags,
				.sh_addr = flags & SHF_ALLOC ? at : 0,
				.sh_offset = at,
				.sh_size = n };

	put(im, &sh, sizeof(sh));
}

static inline void put_sections(struct bytes *im, const struct file_parts *f, size_t debug_at)
{
	static const char names[] = "\0.eh_frame\0.debug_frame\0.shstrtab";
	const Elf64_Shdr none = { 0 };
	size_t names_at = im->n, table = names_at + sizeof(names);

	put(im, names, sizeof(names));
	memcpy(im->p + offsetof(Elf64_Ehdr, e_shoff), &table, 8);
	put(im, &none, sizeof(none));
	put_section(im, 24, 0, names_at, sizeof(names));
	uint16_t n = 2;
	if (f->eh) {
		put_section(im, 1, SHF_ALLOC, EH_OFFSET, f->eh->n);
		n++;
	}
	if (f->debug) {
		put_section(im, 11, f->is_debug_packed ? SHF_COMPRESSED : 0, debug_at, f->debug->n);
		n++;
	}
	memcpy(im->p + offsetof(Elf64_Ehdr, e_shnum), &n, 2);
}

static inline void make_file(const struct file_parts *f, struct bytes *im)
{
	const Elf64_Ehdr eh = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
				.e_type = ET_DYN,
				.e_machine = EM_X86_64,
				.e_version = EV_CURRENT,
				.e_phoff = sizeof(eh),
				.e_ehsize = sizeof(eh),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = f->has_hdr ? 3 : 2,
				.e_shentsize = sizeof(Elf64_Shdr),
				.e_shstrndx = 1 };
	size_t end = EH_OFFSET + (f->eh ? f->eh->n : 0);
	const Elf64_Phdr segments[] = {
		{ .p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = end, .p_memsz = end },
		{ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = CODE, .p_memsz = CODE_BYTES },
		{ .p_type = PT_GNU_EH_FRAME, .p_offset = HDR_OFFSET, .p_vaddr = HDR_OFFSET, .p_filesz = 12 },
	};

	*im = (struct bytes){ 0 };
	put(im, &eh, sizeof(eh));
	put(im, segments, sizeof(segments));
	pad_to(im, HDR_OFFSET);
	put(im, "\x01\x1b\x03\x3b", 4); /* version 1; pcrel sdata4, udata4, datarel sdata4 */
	put_int(im, EH_OFFSET - (HDR_OFFSET + 4), 4);
	pad_to(im, EH_OFFSET);
	if (f->eh)
		put(im, f->eh->p, f->eh->n);
	size_t debug_at = im->n;
	if (f->debug)
		put(im, f->debug->p, f->debug->n);
	if (!f->has_no_sections)
		put_sections(im, f, debug_at);
}

#endif
