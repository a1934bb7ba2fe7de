/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Call frame information of one ELF file, compiled to unwind rows (include/unwind.h). Reads .eh_frame and, for what that does not cover,
 * .debug_frame. Input is hostile: everything is bounded by the file's size and by the limits here; what is broken is left out,
 * and addresses without a rule get UNWIND_NONE, those with one that can't be expressed UNWIND_OTHER.
 */
#ifndef TIDEMARK_PROBE_CFI_H
#define TIDEMARK_PROBE_CFI_H

#include <stddef.h>
#include <stdint.h>

#include "unwind.h"

#define CFI_ROWS_MAX (4u << 20) /* per file: 16 MiB of rows; chromium has 2.5 M */

struct cfi_row {
	uint64_t vaddr; /* as linked: the rule holds from here to the next row's */
	uint32_t rule;	/* index in cfi.rules */
};

/* Rows ascending by vaddr, neighbours differ in their rule; the last one is UNWIND_NONE. rules[0] is UNWIND_NONE. */
struct cfi {
	struct cfi_row *rows;
	size_t n_rows;
	struct unwind_rule *rules;
	size_t n_rules;	 /* at most UNWIND_RULES: what comes then is UNWIND_OTHER */
	size_t n_other;	 /* rows that can't be expressed */
	size_t n_broken; /* entries left out because they are broken */
};

/*
 * From an open descriptor (borrowed). 0 (n_rows 0: the file has no such information), -ENOEXEC, -EBADMSG, -EIO, -EFBIG (over CFI_ROWS_MAX, or sections
 * that no file with fewer rows has).
 */
int cfi_build(int fd, struct cfi *ret);
/* From a file's image in memory: the vdso. */
int cfi_build_mem(const void *image, size_t bytes, struct cfi *ret);
void cfi_done(struct cfi *c);

/* The row that holds at an address, NULL: before the first. For tests and tools. */
const struct cfi_row *cfi_find(const struct cfi *c, uint64_t vaddr);

#endif
