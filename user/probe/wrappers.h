/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the C library enters the kernel for memory mappings. The registers that a system call leaves behind belong to
 * such a wrapper, which has no frame pointer of its own: its caller is found through the return address' slot.
 */
#ifndef TIDEMARK_PROBE_WRAPPERS_H
#define TIDEMARK_PROBE_WRAPPERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file;

struct wrapper_site {
	uint64_t vaddr;	     /* as linked, of the instruction behind `syscall`: the rip that the kernel saved */
	uint32_t slot_words; /* the return address is at rsp + 8 * slot_words there */
};

/* For the filter of elf_open: names of functions that wrappers_find looks at. */
bool wrapper_wants(const char *symbol);

/*
 * Sites of mmap, munmap, mremap, brk in the file, by the names above and, for files without symbols, by the code
 * before a `syscall` and the functions listed in .eh_frame_hdr. Other calls of the same functions are among them. Each
 * address once, in no order. One whose rsp is not the same on all paths is left out. Returns the number written, at
 * most max.
 */
size_t wrappers_find(const struct elf_file *e, struct wrapper_site *ret, size_t max);

#endif
