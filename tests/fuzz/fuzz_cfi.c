/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A target's call frame information. The first byte says what the rest is: a whole file, .eh_frame, .debug_frame, packed .debug_frame, or
 * .eh_frame that only PT_GNU_EH_FRAME points to. The last four lie in a small file that is valid.
 */
#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "probe/cfi.h"
#include "util/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum mode { MODE_FILE, MODE_EH, MODE_DEBUG, MODE_PACKED, MODE_HDR, MODE_NR };

#define CODE 0x1000u
#define CODE_BYTES 0x1000000u

static const char names[] = "\0.eh_frame\0.debug_frame";

/* Headers, section, names; addresses are offsets. */
struct wrapped {
	Elf64_Ehdr eh;
	Elf64_Phdr segments[3];
	Elf64_Shdr sections[3];
	char names[sizeof(names)];
	uint8_t hdr[8]; /* .eh_frame_hdr */
	uint8_t data[];
};

static size_t wrap(enum mode mode, const uint8_t *data, size_t size, struct wrapped **ret)
{
	size_t total = sizeof(struct wrapped) + size, at = offsetof(struct wrapped, data);
	struct wrapped *w = xcalloc(1, total);

	w->eh = (Elf64_Ehdr){
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_machine = EM_X86_64,
		.e_phoff = offsetof(struct wrapped, segments),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3,
		.e_shoff = offsetof(struct wrapped, sections),
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = mode == MODE_HDR ? 0 : 3,
		.e_shstrndx = 2,
	};
	w->segments[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_filesz = total, .p_memsz = total };
	w->segments[1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_X, .p_vaddr = CODE, .p_memsz = CODE_BYTES };
	w->segments[2] = (Elf64_Phdr){ .p_type = PT_GNU_EH_FRAME,
				       .p_offset = offsetof(struct wrapped, hdr),
				       .p_vaddr = offsetof(struct wrapped, hdr),
				       .p_filesz = sizeof(w->hdr) };
	w->sections[1] = (Elf64_Shdr){ .sh_name = mode == MODE_EH ? 1 : 11,
				       .sh_type = SHT_PROGBITS,
				       .sh_flags = mode == MODE_PACKED ? SHF_COMPRESSED : 0,
				       .sh_addr = at,
				       .sh_offset = at,
				       .sh_size = size };
	w->sections[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB,
				       .sh_offset = offsetof(struct wrapped, names),
				       .sh_size = sizeof(names) };
	memcpy(w->names, names, sizeof(names));
	memcpy(w->hdr, "\x01\x1b\xff\xff\x04\x00\x00\x00", sizeof(w->hdr)); /* .eh_frame lies behind the pointer */
	if (size)
		memcpy(w->data, data, size);
	*ret = w;
	return total;
}

/* What the contract promises of any input. */
static void check(const struct cfi *c)
{
	size_t n_other = 0;

	if (c->n_rules < 1 || c->n_rules > UNWIND_RULES || c->rules[0].kind != UNWIND_NONE || c->n_rows > CFI_ROWS_MAX)
		abort();
	for (size_t i = 0; i < c->n_rows; i++) {
		const struct cfi_row *row = &c->rows[i];
		if (row->rule >= c->n_rules || cfi_find(c, row->vaddr) != row)
			abort();
		if (i && (row->vaddr <= row[-1].vaddr || row->rule == row[-1].rule))
			abort();
		const struct unwind_rule *rule = &c->rules[row->rule];
		if (rule->kind >= UNWIND_KIND_NR || rule->bp > UNWIND_BP_LOST)
			abort();
		n_other += rule->kind == UNWIND_OTHER;
	}
	if (n_other != c->n_other || (c->n_rows && c->rows[c->n_rows - 1].rule != UNWIND_RULE_NONE))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) struct wrapped *file = NULL;
	_cleanup_(cfi_done) struct cfi c = { 0 };
	enum mode mode = size ? data[0] % MODE_NR : MODE_FILE;
	int err;

	if (!size)
		return 0;
	if (mode == MODE_FILE) {
		err = cfi_build_mem(data + 1, size - 1, &c);
	} else {
		size_t total = wrap(mode, data + 1, size - 1, &file);
		err = cfi_build_mem(file, total, &c);
	}
	if (!err)
		check(&c);
	return 0;
}
