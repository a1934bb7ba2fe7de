/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The entries of .eh_frame and .debug_frame: common ones (CIE) and those of functions (FDE), as DWARF 5, 6.4.1, and the Linux Standard Base,
 * "Exception Frames", lay them out. Runs no call frame program but the initial ones of CIEs (once each).
 */
#ifndef TIDEMARK_PROBE_CFI_ENTRY_H
#define TIDEMARK_PROBE_CFI_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/cfi_bytes.h"
#include "probe/cfi_exec.h"
#include "probe/cfi_image.h"

#define CFI_CIES_MAX (1u << 18) /* a chromium's .debug_frame: one per object file, some 40,000 */
#define CFI_FDES_MAX (2u << 20)

struct cfi_fde {
	uint64_t start, end;	       /* as linked */
	uint32_t program, program_end; /* offsets in the section */
	uint32_t cie;		       /* index */
	uint32_t order;		       /* in the section */
};

struct cfi_entries {
	struct cfi_cie *cies;
	size_t n_cies;
	struct cfi_fde *fdes; /* ascending by start, then by order */
	size_t n_fdes;
	size_t n_broken;
};

/* 0, -EFBIG (over a limit above). */
int cfi_entries_build(const struct cfi_section *s, const struct cfi_image *im, struct cfi_entries *ret);
void cfi_entries_done(struct cfi_entries *e);

#endif
