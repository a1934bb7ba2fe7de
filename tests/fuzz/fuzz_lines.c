/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug information of a target's file: an ELF file is made here whose debug sections are the input, so that the headers
 * need not be guessed. The input is parted by the text "====": .debug_info, .debug_abbrev, .debug_line, .debug_str,
 * .debug_ranges, .debug_rnglists, .debug_line_str, .debug_addr. What libdw makes of it must be a bounded answer.
 */
#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sym/lines.h"
#include "util/mem.h"

#define MARK "===="
#define SECTIONS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[SECTIONS] = { ".debug_info",   ".debug_abbrev",	 ".debug_line",	    ".debug_str",
					     ".debug_ranges", ".debug_rnglists", ".debug_line_str", ".debug_addr" };

struct file {
	Elf64_Ehdr eh;
	Elf64_Shdr sections[SECTIONS + 3];
	char names[256];
};

static void describe(struct file *f, const uint8_t *data, size_t size)
{
	size_t name = 1, at = 0;

	memcpy(f->eh.e_ident, ELFMAG, SELFMAG);
	f->eh.e_ident[EI_CLASS] = ELFCLASS64;
	f->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	f->eh.e_ident[EI_VERSION] = EV_CURRENT;
	f->eh.e_type = ET_DYN;
	f->eh.e_machine = EM_X86_64;
	f->eh.e_version = EV_CURRENT;
	f->eh.e_ehsize = sizeof(f->eh);
	f->eh.e_shoff = offsetof(struct file, sections);
	f->eh.e_shentsize = sizeof(Elf64_Shdr);
	f->eh.e_shnum = SECTIONS + 3;
	f->eh.e_shstrndx = SECTIONS + 2;
	for (size_t i = 0; i < SECTIONS; i++) {
		const uint8_t *mark = memmem(data + at, size - at, MARK, 4);
		size_t len = mark ? (size_t)(mark - data) - at : size - at;
		f->sections[i + 1] = (Elf64_Shdr){ .sh_name = (Elf64_Word)name,
						   .sh_type = SHT_PROGBITS,
						   .sh_offset = sizeof(*f) + at,
						   .sh_size = len,
						   .sh_addralign = 1 };
		memcpy(f->names + name, names[i], strlen(names[i]));
		name += strlen(names[i]) + 1;
		at = mark ? at + len + 4 : size;
	}
	f->sections[SECTIONS + 1] = (Elf64_Shdr){ .sh_type = SHT_NULL };
	f->sections[SECTIONS + 2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB,
						  .sh_offset = offsetof(struct file, names),
						  .sh_size = sizeof(f->names),
						  .sh_addralign = 1 };
}

static void ask(struct lines *l, uint64_t addr)
{
	struct line_result r = { .n = 0 };

	if (lines_find(l, addr, &r) < 0)
		return;
	if (!r.n || r.n > LINES_FRAMES_MAX)
		abort();
	for (size_t i = 0; i < r.n; i++)
		if (r.frames[i].line && !r.frames[i].file)
			abort(); /* a line of no file */
	line_result_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct file f = { .names = "" };
	_cleanup_(closep) int fd = memfd_create("elf", MFD_CLOEXEC);
	atomic_bool stop = false;
	struct lines *l;

	describe(&f, data, size);
	if (fd < 0 || write(fd, &f, sizeof(f)) != sizeof(f) || write(fd, data, size) != (ssize_t)size)
		return 0;
	struct lines_index *index = lines_index_new();
	const struct lines_query q = { .fd = fd, .open_path = "", .index = index, .stop = &stop };
	if (lines_open(&q, &l) == 0) {
		for (uint64_t addr = 0x1000; addr < 0x1200; addr += 17)
			ask(l, addr);
		ask(l, 0);
		ask(l, UINT64_MAX);
		lines_free(l);
	}
	lines_index_free(index);
	return 0;
}
