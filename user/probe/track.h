/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a function's arguments are while its first instructions run: which register holds which argument, and how far
 * rsp has moved. One path, no memory but the slot below rbp into which -O0 puts the pointer: an argument that is only
 * on the stack is lost.
 */
#ifndef TIDEMARK_PROBE_TRACK_H
#define TIDEMARK_PROBE_TRACK_H

#include "probe/decode.h"
#include "shapes.h"

#define TRACK_REGS 15 /* enum arg_reg, then r10 and r11, which no cookie can name */

enum track_value { VALUE_OTHER, VALUE_ARG0, VALUE_ARG1, VALUE_ARG2, VALUE_ARG3, VALUE_PRODUCT };

struct track {
	unsigned char value[TRACK_REGS]; /* enum track_value */
	int roles[4];			 /* letters of the shape's row; 0: no argument */
	int64_t sp_bytes;		 /* by which rsp lies below the return address' slot */
	bool sp_known;
	bool bp_changed;  /* rbp is no longer the caller's */
	bool null_tested; /* the flags say whether the pointer argument is 0 */
	bool spilled;	  /* the pointer argument is also at rbp + spill_disp (what -O0 tests) */
	int64_t spill_disp;
};

struct track_regs {
	unsigned char ptr, size, count; /* enum arg_reg */
};

void track_init(struct track *t, enum shape shape);
/* The state behind the instruction. */
void track_step(struct track *t, struct decoder *d, const cs_insn *insn);
/* Are the arguments that the shape needs in registers? Then which. */
bool track_find(const struct track *t, struct track_regs *ret);
/* Does the shape's row have this role (letter of shapes.h)? */
bool shape_has_role(enum shape shape, char role);

#endif
