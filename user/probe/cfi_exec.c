/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A table of instructions: what operands follow and what is done. Time is bounded by the program's length: no instruction takes longer for a
 * greater operand, and programs have no loops. Instructions of vendors for other machines are broken here.
 */
#include "probe/cfi_exec.h"

#include <dwarf.h>

enum arg { ARG_NONE, ARG_LOW6, ARG_U1, ARG_U2, ARG_U4, ARG_U8, ARG_ULEB, ARG_SLEB, ARG_BLOCK, ARG_ADDRESS };

struct value {
	uint64_t u; /* a block's length too; signed ones as two's complement */
	const uint8_t *block;
};

struct instruction {
	enum arg arg[2];
	void (*act)(struct cfi_run *r, struct value a, struct value b);
};

/* The high two bits say which one it is, the low six are its first operand. */
#define PRIMARY 0xc0

static void fail(struct cfi_run *r)
{
	r->is_bad = true;
}

static void tell(struct cfi_run *r)
{
	if (r->has_changed)
		r->sink.state(r->sink.ctx, r->loc, &r->now);
	r->has_changed = false;
}

/* Several changes at one address make one state. */
static void go_to(struct cfi_run *r, uint64_t loc)
{
	if (r->is_cie || loc < r->loc) {
		fail(r);
		return;
	}
	if (loc > r->loc)
		tell(r);
	r->loc = loc;
}

static void advance(struct cfi_run *r, struct value a, struct value unused)
{
	uint64_t bytes, loc;

	(void)unused;
	if (__builtin_mul_overflow(a.u, r->cie->code_align, &bytes) || __builtin_add_overflow(r->loc, bytes, &loc))
		fail(r);
	else
		go_to(r, loc);
}

static void set_loc(struct cfi_run *r, struct value a, struct value unused)
{
	(void)unused;
	go_to(r, a.u);
}

/* CFI_PLACE_NR: a register that is not followed. */
static enum cfi_place place_of(uint64_t reg)
{
	if (reg == CFI_REG_RBP)
		return CFI_RBP;
	if (reg == CFI_REG_RSP)
		return CFI_RSP;
	return reg == CFI_REG_RA ? CFI_RA : CFI_PLACE_NR;
}

static void put(struct cfi_run *r, enum cfi_place place, struct cfi_cell cell)
{
	if (place == CFI_PLACE_NR)
		return;
	r->now.cell[place] = cell;
	r->has_changed = true;
}

static void put_factored(struct cfi_run *r, uint64_t reg, enum cfi_how how, uint64_t factored, bool is_signed)
{
	struct cfi_cell cell = { .how = how };

	if ((!is_signed && factored > INT64_MAX) ||
	    __builtin_mul_overflow((int64_t)factored, r->cie->data_align, &cell.value))
		fail(r);
	else
		put(r, place_of(reg), cell);
}

static void offset(struct cfi_run *r, struct value reg, struct value n)
{
	put_factored(r, reg.u, CFI_OFFSET, n.u, false);
}

static void offset_sf(struct cfi_run *r, struct value reg, struct value n)
{
	put_factored(r, reg.u, CFI_OFFSET, n.u, true);
}

static void offset_negative(struct cfi_run *r, struct value reg, struct value n)
{
	if (n.u > INT64_MAX)
		fail(r);
	else
		put_factored(r, reg.u, CFI_OFFSET, -n.u, true);
}

static void val_offset(struct cfi_run *r, struct value reg, struct value n)
{
	put_factored(r, reg.u, CFI_VAL_OFFSET, n.u, false);
}

static void val_offset_sf(struct cfi_run *r, struct value reg, struct value n)
{
	put_factored(r, reg.u, CFI_VAL_OFFSET, n.u, true);
}

static void undefined(struct cfi_run *r, struct value reg, struct value unused)
{
	(void)unused;
	put(r, place_of(reg.u), (struct cfi_cell){ .how = CFI_UNDEFINED });
}

static void same_value(struct cfi_run *r, struct value reg, struct value unused)
{
	(void)unused;
	put(r, place_of(reg.u), (struct cfi_cell){ .how = CFI_SAME });
}

static void in_register(struct cfi_run *r, struct value reg, struct value other)
{
	put(r, place_of(reg.u), (struct cfi_cell){ .how = CFI_REGISTER, .reg = (uint32_t)other.u });
}

static void restore(struct cfi_run *r, struct value reg, struct value unused)
{
	enum cfi_place place = place_of(reg.u);

	(void)unused;
	/* In a CIE: to a register that has no rule yet. gas moves what begins a function's cold part there. */
	if (place != CFI_PLACE_NR)
		put(r, place, r->cie->initial.cell[place]);
}

/* All of the state, the CFA's rule too: compilers rely on it. */
static void remember_state(struct cfi_run *r, struct value unused_a, struct value unused_b)
{
	(void)unused_a;
	(void)unused_b;
	if (r->n_kept == CFI_KEPT_MAX)
		fail(r);
	else
		r->kept[r->n_kept++] = r->now;
}

static void restore_state(struct cfi_run *r, struct value unused_a, struct value unused_b)
{
	(void)unused_a;
	(void)unused_b;
	if (!r->n_kept) {
		fail(r);
		return;
	}
	r->now = r->kept[--r->n_kept];
	r->has_changed = true;
}

static void put_cfa(struct cfi_run *r, uint64_t reg, int64_t value)
{
	/* No machine has so many registers: told apart from those that are followed is all that is needed. */
	uint32_t known = reg > UINT32_MAX ? UINT32_MAX : (uint32_t)reg;

	put(r, CFI_CFA, (struct cfi_cell){ .how = CFI_REGISTER, .reg = known, .value = value });
}

static void def_cfa(struct cfi_run *r, struct value reg, struct value n)
{
	put_cfa(r, reg.u, (int64_t)n.u);
}

static void def_cfa_sf(struct cfi_run *r, struct value reg, struct value n)
{
	int64_t value;

	if (__builtin_mul_overflow((int64_t)n.u, r->cie->data_align, &value))
		fail(r);
	else
		put_cfa(r, reg.u, value);
}

/*
 * Register and offset are kept while an expression holds: the next instruction that names a register goes back to the offset last set, one that
 * sets an offset leaves the expression. DWARF allows neither, but libgcc's unwinder does so and hand-written assembly (libgcrypt) relies on it.
 */
static void def_cfa_register(struct cfi_run *r, struct value reg, struct value unused)
{
	(void)unused;
	put_cfa(r, reg.u, r->now.cell[CFI_CFA].value);
}

static void def_cfa_offset(struct cfi_run *r, struct value n, struct value unused)
{
	(void)unused;
	r->now.cell[CFI_CFA].value = (int64_t)n.u;
	r->has_changed = true;
}

static void def_cfa_offset_sf(struct cfi_run *r, struct value n, struct value unused)
{
	(void)unused;
	if (__builtin_mul_overflow((int64_t)n.u, r->cie->data_align, &r->now.cell[CFI_CFA].value))
		fail(r);
	r->has_changed = true;
}

static void def_cfa_expression(struct cfi_run *r, struct value block, struct value unused)
{
	struct cfi_cell cell = r->now.cell[CFI_CFA];

	(void)unused;
	cell.how = CFI_EXPR;
	cell.expr = block.block;
	cell.expr_bytes = (uint32_t)block.u;
	put(r, CFI_CFA, cell);
}

static struct cfi_cell expr_cell(enum cfi_how how, struct value block)
{
	return (struct cfi_cell){ .how = how, .expr = block.block, .expr_bytes = (uint32_t)block.u };
}

static void expression(struct cfi_run *r, struct value reg, struct value block)
{
	put(r, place_of(reg.u), expr_cell(CFI_EXPR, block));
}

static void val_expression(struct cfi_run *r, struct value reg, struct value block)
{
	put(r, place_of(reg.u), expr_cell(CFI_VAL_EXPR, block));
}

static void nothing(struct cfi_run *r, struct value unused_a, struct value unused_b)
{
	(void)r;
	(void)unused_a;
	(void)unused_b;
}

/* By the instruction's byte; primary ones by it without its operand. */
static const struct instruction instructions[256] = {
	[DW_CFA_advance_loc] = { { ARG_LOW6 }, advance },
	[DW_CFA_offset] = { { ARG_LOW6, ARG_ULEB }, offset },
	[DW_CFA_restore] = { { ARG_LOW6 }, restore },
	[DW_CFA_nop] = { { ARG_NONE }, nothing },
	[DW_CFA_set_loc] = { { ARG_ADDRESS }, set_loc },
	[DW_CFA_advance_loc1] = { { ARG_U1 }, advance },
	[DW_CFA_advance_loc2] = { { ARG_U2 }, advance },
	[DW_CFA_advance_loc4] = { { ARG_U4 }, advance },
	[DW_CFA_MIPS_advance_loc8] = { { ARG_U8 }, advance },
	[DW_CFA_offset_extended] = { { ARG_ULEB, ARG_ULEB }, offset },
	[DW_CFA_restore_extended] = { { ARG_ULEB }, restore },
	[DW_CFA_undefined] = { { ARG_ULEB }, undefined },
	[DW_CFA_same_value] = { { ARG_ULEB }, same_value },
	[DW_CFA_register] = { { ARG_ULEB, ARG_ULEB }, in_register },
	[DW_CFA_remember_state] = { { ARG_NONE }, remember_state },
	[DW_CFA_restore_state] = { { ARG_NONE }, restore_state },
	[DW_CFA_def_cfa] = { { ARG_ULEB, ARG_ULEB }, def_cfa },
	[DW_CFA_def_cfa_register] = { { ARG_ULEB }, def_cfa_register },
	[DW_CFA_def_cfa_offset] = { { ARG_ULEB }, def_cfa_offset },
	[DW_CFA_def_cfa_expression] = { { ARG_BLOCK }, def_cfa_expression },
	[DW_CFA_expression] = { { ARG_ULEB, ARG_BLOCK }, expression },
	[DW_CFA_offset_extended_sf] = { { ARG_ULEB, ARG_SLEB }, offset_sf },
	[DW_CFA_def_cfa_sf] = { { ARG_ULEB, ARG_SLEB }, def_cfa_sf },
	[DW_CFA_def_cfa_offset_sf] = { { ARG_SLEB }, def_cfa_offset_sf },
	[DW_CFA_val_offset] = { { ARG_ULEB, ARG_ULEB }, val_offset },
	[DW_CFA_val_offset_sf] = { { ARG_ULEB, ARG_SLEB }, val_offset_sf },
	[DW_CFA_val_expression] = { { ARG_ULEB, ARG_BLOCK }, val_expression },
	[DW_CFA_GNU_args_size] = { { ARG_ULEB }, nothing },
	[DW_CFA_GNU_negative_offset_extended] = { { ARG_ULEB, ARG_ULEB }, offset_negative },
};

static const uint8_t arg_bytes[] = { [ARG_U1] = 1, [ARG_U2] = 2, [ARG_U4] = 4, [ARG_U8] = 8, [ARG_ADDRESS] = 0 };

static struct value read_arg(struct cfi_run *r, enum arg arg, uint8_t byte)
{
	struct cfi_bytes *in = &r->program;
	struct value v = { 0 };

	if (arg == ARG_LOW6) {
		v.u = byte & ~PRIMARY;
	} else if (arg == ARG_ULEB) {
		v.u = bytes_uleb(in);
	} else if (arg == ARG_SLEB) {
		v.u = (uint64_t)bytes_sleb(in);
	} else if (arg == ARG_BLOCK) {
		v.u = bytes_uleb(in);
		v.block = bytes_take(in, v.u);
	} else if (arg == ARG_ADDRESS) {
		uint64_t at = r->section->vaddr + (uint64_t)(in->at - r->section->data);
		v.u = bytes_pointer(in, r->cie->encoding, at, 0);
	} else if (arg != ARG_NONE) {
		v.u = bytes_unsigned(in, arg_bytes[arg]);
	}
	return v;
}

/* What lies behind the function's end is not run: it would tell of addresses that are another's. */
static bool run(struct cfi_run *r)
{
	while (!r->is_bad && bytes_left(&r->program) && r->loc < r->end) {
		uint8_t byte = *r->program.at++;
		const struct instruction *i = &instructions[byte & PRIMARY ? byte & PRIMARY : byte];
		if (!i->act)
			return false;
		struct value a = read_arg(r, i->arg[0], byte);
		struct value b = read_arg(r, i->arg[1], byte);
		if (r->program.is_bad)
			return false;
		i->act(r, a, b);
	}
	return !r->is_bad;
}

bool cfi_exec_cie(struct cfi_bytes program, const struct cfi_section *s, struct cfi_cie *cie)
{
	/* No function yet: an instruction that moves fails, so that nobody is told. */
	struct cfi_run r = { .section = s, .cie = cie, .program = program, .end = 1, .is_cie = true };

	if (!run(&r))
		return false;
	cie->initial = r.now;
	return true;
}

bool cfi_exec_fde(struct cfi_run *r)
{
	r->is_cie = false;
	r->is_bad = false;
	r->has_changed = true; /* the CIE's state is the first one */
	r->loc = r->start;
	r->n_kept = 0;
	r->now = r->cie->initial;
	if (!run(r))
		return false;
	if (r->loc < r->end)
		tell(r);
	return true;
}
