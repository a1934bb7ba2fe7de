/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs call frame programs (DWARF 5, 6.4.2). Follows the CFA and three registers only: rbp, rsp and the return address. Decides nothing about
 * what a state means for unwinding (cfi_rule.h).
 */
#ifndef TIDEMARK_PROBE_CFI_EXEC_H
#define TIDEMARK_PROBE_CFI_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/cfi_bytes.h"
#include "probe/cfi_image.h"

#define CFI_KEPT_MAX 32 /* DW_CFA_remember_state, one in the other; compilers nest 1, hand-written assembly 2 */

enum cfi_how {
	CFI_UNSET,
	CFI_UNDEFINED,
	CFI_SAME,
	CFI_OFFSET,	/* at CFA + value */
	CFI_VAL_OFFSET, /* is CFA + value */
	CFI_REGISTER,	/* in another register; of the CFA: register `reg` + value */
	CFI_EXPR,	/* at what the expression gives; of the CFA: what it gives */
	CFI_VAL_EXPR,	/* is what the expression gives */
};

struct cfi_cell {
	enum cfi_how how;
	uint32_t reg;	     /* CFI_REGISTER */
	uint32_t expr_bytes; /* expressions */
	int64_t value; /* of the CFA: kept beside an expression, for an instruction that goes back to a register */
	const uint8_t *expr; /* in the section */
};

enum cfi_place { CFI_CFA, CFI_RBP, CFI_RSP, CFI_RA, CFI_PLACE_NR };

struct cfi_state {
	struct cfi_cell cell[CFI_PLACE_NR];
};

/* System V ABI, AMD64 supplement, figure 3.36. */
enum { CFI_REG_RBP = 6, CFI_REG_RSP = 7, CFI_REG_RA = 16 };

struct cfi_cie {
	uint64_t code_align;
	int64_t data_align;
	uint32_t offset; /* of the entry in its section */
	uint8_t encoding;
	bool has_data;	/* FDEs carry a length of augmentation data */
	bool is_signal; /* augmentation S */
	bool is_broken;
	struct cfi_state initial; /* after its program */
};

/* Told where a state begins to hold: ascending, at least once per function. */
struct cfi_sink {
	void (*state)(void *ctx, uint64_t vaddr, const struct cfi_state *s);
	void *ctx;
};

struct cfi_run {
	const struct cfi_section *section;
	const struct cfi_cie *cie;
	struct cfi_bytes program;
	uint64_t start, end; /* of the function */
	struct cfi_sink sink;
	/* The rest belongs to cfi_exec.c. */
	bool is_cie, is_bad, has_changed;
	uint64_t loc;
	unsigned int n_kept;
	struct cfi_state now;
	struct cfi_state kept[CFI_KEPT_MAX];
};

/* The initial program of a CIE (`program`): fills cie->initial. False: broken. */
bool cfi_exec_cie(struct cfi_bytes program, const struct cfi_section *s, struct cfi_cie *cie);
/* The program of a function, r->section .. r->sink set. False: broken; the sink was told of a part. */
bool cfi_exec_fde(struct cfi_run *r);

#endif
