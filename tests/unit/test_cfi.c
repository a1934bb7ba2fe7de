/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Call frame programs, byte for byte, and the rows that they must give: each instruction, each rule, each way to be broken. Expected values are worked
 * out by hand from DWARF 5, 6.4.2.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "probe/cfi.h"
#include "test_cfi_file.h"

#define ROWS_MAX 6

/* A row of a function; `at` from its start. */
struct want {
	uint32_t at;
	struct unwind_rule rule;
};

struct program {
	const char *name;
	const char *bytes;
	size_t n;
	struct want rows[ROWS_MAX]; /* up to one of rule UNWIND_NONE, at the end */
};

#define BYTES(s) (s), sizeof(s) - 1
/* clang-format off */
#define FULL(k, b, off, cfa, add) { .kind = (k), .bp = (b), .bp_off = (off), .cfa_off = (cfa), .cfa_add = (add) }
#define RULE(kind, off, add) FULL(kind, UNWIND_BP_SAME, 0, off, add)
#define ONLY(kind) RULE(kind, 0, 0)
#define SP(off) RULE(UNWIND_SP, off, 0)
#define SP_CFA(off, bp) FULL(UNWIND_SP, UNWIND_BP_AT_CFA, bp, off, 0)
#define LOST FULL(UNWIND_SP, UNWIND_BP_LOST, 0, 8, 0)
#define END { FUNCTION_BYTES, ONLY(UNWIND_NONE) }
/* clang-format on */

static void check_rows(const char *name, const struct cfi *c, uint64_t start, const struct want *want)
{
	for (size_t i = 0;; i++) {
		if (i >= c->n_rows)
			fail_msg("%s: %zu rows", name, c->n_rows);
		const struct unwind_rule *got = &c->rules[c->rows[i].rule];
		if (c->rows[i].vaddr != start + want[i].at || memcmp(got, &want[i].rule, sizeof(*got)) != 0)
			fail_msg("%s: row %zu: +0x%lx kind %d cfa %d %d rbp %d %d", name, i,
				 (unsigned long)(c->rows[i].vaddr - start), got->kind, got->cfa_off, got->cfa_add,
				 got->bp, got->bp_off);
		if (want[i].rule.kind == UNWIND_NONE) {
			if (c->n_rows != i + 1)
				fail_msg("%s: %zu rows", name, c->n_rows);
			return;
		}
	}
}

static void build_one(const char *letters, const char *data, size_t n_data, const void *program, size_t n,
		      struct cfi *ret)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, im = { 0 };
	size_t cie = add_cie_with(&eh, letters, data, n_data, BYTES(DEFAULT_CIE_PROGRAM));

	add_fde(&eh, cie, CODE, FUNCTION_BYTES, program, n);
	make_file(&(struct file_parts){ .eh = &eh }, &im);
	assert_int_equal(cfi_build_mem(im.p, im.n, ret), 0);
}

static void check_programs(const struct program *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_(cfi_done) struct cfi c = { 0 };
		build_one("zR", "\x1b", 1, p[i].bytes, p[i].n, &c);
		if (c.n_broken)
			fail_msg("%s: broken", p[i].name);
		check_rows(p[i].name, &c, CODE, p[i].rows);
	}
}

static void test_moves(void **state)
{
	static const struct program programs[] = {
		{ "nothing", BYTES(""), { { 0, SP(8) }, END } },
		{ "nop", BYTES("\x00\x00"), { { 0, SP(8) }, END } },
		{ "advance_loc", BYTES("\x45\x0e\x10"), { { 0, SP(8) }, { 5, SP(16) }, END } },
		{ "advance_loc1", BYTES("\x02\x80\x0e\x10"), { { 0, SP(8) }, { 0x80, SP(16) }, END } },
		{ "advance_loc2", BYTES("\x03\x81\x00\x0e\x10"), { { 0, SP(8) }, { 0x81, SP(16) }, END } },
		{ "advance_loc4", BYTES("\x04\x82\x00\x00\x00\x0e\x10"), { { 0, SP(8) }, { 0x82, SP(16) }, END } },
		{ "advance_loc8",
		  BYTES("\x1d\x83\x00\x00\x00\x00\x00\x00\x00\x0e\x10"),
		  { { 0, SP(8) }, { 0x83, SP(16) }, END } },
		{ "advance by 0", BYTES("\x40\x0e\x10"), { { 0, SP(16) }, END } },
		{ "two changes at one address", BYTES("\x41\x0e\x10\x0e\x18"), { { 0, SP(8) }, { 1, SP(24) }, END } },
		{ "there and back", BYTES("\x41\x0e\x10\x0e\x08\x41\x0e\x20"), { { 0, SP(8) }, { 2, SP(32) }, END } },
		{ "another register", BYTES("\x41\x83\x02\x41\xc3"), { { 0, SP(8) }, END } },
		{ "args_size", BYTES("\x41\x2e\x40\x41\x0e\x10"), { { 0, SP(8) }, { 2, SP(16) }, END } },
		{ "behind the end", BYTES("\x41\x0e\x10\x03\x00\x02\x0e\x18"), { { 0, SP(8) }, { 1, SP(16) }, END } },
		{ "broken behind the end", BYTES("\x03\x00\x01\x3f\x3f"), { { 0, SP(8) }, END } },
	};

	(void)state;
	check_programs(programs, ARRAY_SIZE(programs));
}

static void test_cfa(void **state)
{
	static const struct program programs[] = {
		{ "def_cfa", BYTES("\x0c\x06\x10"), { { 0, RULE(UNWIND_BP, 16, 0) }, END } },
		{ "def_cfa_register", BYTES("\x0d\x06"), { { 0, RULE(UNWIND_BP, 8, 0) }, END } },
		{ "def_cfa_offset", BYTES("\x0e\x80\x01"), { { 0, SP(128) }, END } },
		{ "def_cfa_sf", BYTES("\x12\x06\x7e"), { { 0, RULE(UNWIND_BP, 16, 0) }, END } },
		{ "def_cfa_offset_sf", BYTES("\x13\x7d"), { { 0, SP(24) }, END } },
		{ "padded LEB128",
		  BYTES("\x0e\x90\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
		  { { 0, SP(16) }, END } },
		{ "rax", BYTES("\x0c\x00\x08"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "r10", BYTES("\x0c\x0a\x00\x41\x0c\x07\x08"), { { 0, ONLY(UNWIND_OTHER) }, { 1, SP(8) }, END } },
		{ "register 2^32 + 7", BYTES("\x0c\x87\x80\x80\x80\x10\x08"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "offset of 2^31 - 1", BYTES("\x0e\xff\xff\xff\xff\x07"), { { 0, SP(INT32_MAX) }, END } },
		{ "offset of 2^31", BYTES("\x0e\x80\x80\x80\x80\x08"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "offset of 2^64 - 8", BYTES("\x0e\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01"), { { 0, SP(-8) }, END } },
		{ "expression, then a register: the offset of before",
		  BYTES("\x0e\x38\x0f\x02\x77\x10\x41\x0d\x06"),
		  { { 0, SP(16) }, { 1, RULE(UNWIND_BP, 56, 0) }, END } },
		{ "expression, then an offset: it stays",
		  BYTES("\x0f\x02\x77\x10\x41\x0e\x28\x41\x0d\x07"),
		  { { 0, SP(16) }, { 2, SP(40) }, END } },
	};

	(void)state;
	check_programs(programs, ARRAY_SIZE(programs));
}

static void test_saved_rbp(void **state)
{
	static const struct program programs[] = {
		{ "offset", BYTES("\x86\x02"), { { 0, SP_CFA(8, -16) }, END } },
		{ "offset_extended", BYTES("\x05\x06\x03"), { { 0, SP_CFA(8, -24) }, END } },
		{ "offset_extended_sf", BYTES("\x11\x06\x7e"), { { 0, SP_CFA(8, 16) }, END } },
		{ "negative_offset_extended", BYTES("\x2f\x06\x02"), { { 0, SP_CFA(8, 16) }, END } },
		{ "same_value", BYTES("\x86\x02\x41\x08\x06"), { { 0, SP_CFA(8, -16) }, { 1, SP(8) }, END } },
		{ "restore", BYTES("\x86\x02\x41\xc6"), { { 0, SP_CFA(8, -16) }, { 1, SP(8) }, END } },
		{ "restore_extended", BYTES("\x86\x02\x41\x06\x06"), { { 0, SP_CFA(8, -16) }, { 1, SP(8) }, END } },
		{ "undefined", BYTES("\x07\x06"), { { 0, LOST }, END } },
		{ "in a register", BYTES("\x09\x06\x03"), { { 0, LOST }, END } },
		{ "val_offset", BYTES("\x14\x06\x02"), { { 0, LOST }, END } },
		{ "val_offset_sf", BYTES("\x15\x06\x7e"), { { 0, LOST }, END } },
		{ "val_expression", BYTES("\x16\x06\x02\x76\x00"), { { 0, LOST }, END } },
		{ "expression: rbp - 16",
		  BYTES("\x10\x06\x02\x76\x70"),
		  { { 0, FULL(UNWIND_SP, UNWIND_BP_AT_BP, -16, 8, 0) }, END } },
		{ "expression: rsp", BYTES("\x10\x06\x02\x77\x00"), { { 0, LOST }, END } },
		{ "expression: *rbp", BYTES("\x10\x06\x03\x76\x00\x06"), { { 0, LOST }, END } },
		{ "expression: empty", BYTES("\x10\x06\x00"), { { 0, LOST }, END } },
		{ "as far as 16 bits reach", BYTES("\x05\x06\x80\x20"), { { 0, SP_CFA(8, INT16_MIN) }, END } },
		{ "further", BYTES("\x05\x06\x81\x20"), { { 0, LOST }, END } },
	};

	(void)state;
	check_programs(programs, ARRAY_SIZE(programs));
}

static void test_return_address(void **state)
{
	static const struct program programs[] = {
		{ "undefined", BYTES("\x41\x07\x10"), { { 0, SP(8) }, { 1, ONLY(UNWIND_END) }, END } },
		{ "undefined, CFA unknown", BYTES("\x0c\x00\x08\x07\x10"), { { 0, ONLY(UNWIND_END) }, END } },
		{ "elsewhere", BYTES("\x90\x02"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "in a register", BYTES("\x09\x10\x01"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "same", BYTES("\x08\x10"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "expression", BYTES("\x10\x10\x02\x77\x00"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "rsp is the CFA", BYTES("\x14\x07\x00"), { { 0, SP(8) }, END } },
		{ "rsp is something else", BYTES("\x09\x07\x08"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "rsp is the CFA + 8", BYTES("\x15\x07\x7f"), { { 0, ONLY(UNWIND_OTHER) }, END } },
	};

	(void)state;
	check_programs(programs, ARRAY_SIZE(programs));
}

static void test_kept_states(void **state)
{
	static const struct program programs[] = {
		{ "the CFA's rule too",
		  BYTES("\x41\x0e\x10\x86\x02\x41\x0a\x0c\x06\x20\x41\x0b"),
		  { { 0, SP(8) },
		    { 1, SP_CFA(16, -16) },
		    { 2, FULL(UNWIND_BP, UNWIND_BP_AT_CFA, -16, 32, 0) },
		    { 3, SP_CFA(16, -16) },
		    END } },
		{ "one in the other",
		  BYTES("\x0a\x0e\x10\x0a\x0e\x18\x41\x0b\x41\x0b"),
		  { { 0, SP(24) }, { 1, SP(16) }, { 2, SP(8) }, END } },
	};
	struct want deep[] = { { 0, SP(8) }, END };
	char kept[64];

	(void)state;
	check_programs(programs, ARRAY_SIZE(programs));
	memset(kept, 0x0a, 32);
	memset(kept + 32, 0x0b, 32);
	_cleanup_(cfi_done) struct cfi c = { 0 };
	build_one("zR", "\x1b", 1, kept, sizeof(kept), &c);
	assert_int_equal(c.n_broken, 0);
	check_rows("32 states", &c, CODE, deep);
}

static void test_cfa_expressions(void **state)
{
	static const struct program programs[] = {
		{ "ld's linkage table",
		  BYTES("\x0f\x0b\x77\x08\x80\x00\x3f\x1a\x3b\x2a\x33\x24\x22"),
		  { { 0, RULE(UNWIND_PLT, 11, 0) }, END } },
		{ "with branch tracking",
		  BYTES("\x0f\x0b\x77\x08\x80\x00\x3f\x1a\x39\x2a\x33\x24\x22"),
		  { { 0, RULE(UNWIND_PLT, 9, 0) }, END } },
		{ "constant written otherwise",
		  BYTES("\x0f\x0c\x77\x08\x80\x00\x3f\x1a\x08\x0b\x2a\x33\x24\x22"),
		  { { 0, RULE(UNWIND_PLT, 11, 0) }, END } },
		{ "rsp + 16",
		  BYTES("\x0f\x0b\x77\x10\x80\x00\x3f\x1a\x3b\x2a\x33\x24\x22"),
		  { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "another mask",
		  BYTES("\x0f\x0b\x77\x08\x80\x00\x3e\x1a\x3b\x2a\x33\x24\x22"),
		  { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "another shift",
		  BYTES("\x0f\x0b\x77\x08\x80\x00\x3f\x1a\x3b\x2a\x34\x24\x22"),
		  { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "pc + 1",
		  BYTES("\x0f\x0b\x77\x08\x80\x01\x3f\x1a\x3b\x2a\x33\x24\x22"),
		  { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "one operation more",
		  BYTES("\x0f\x0d\x77\x08\x80\x00\x3f\x1a\x3b\x2a\x33\x24\x22\x31\x22"),
		  { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "rsp + 24", BYTES("\x0f\x02\x77\x18"), { { 0, SP(24) }, END } },
		{ "rsp + 24 + 8", BYTES("\x0f\x04\x77\x18\x23\x08"), { { 0, SP(32) }, END } },
		{ "rbp + 24 + 8", BYTES("\x0f\x04\x76\x18\x38\x22"), { { 0, RULE(UNWIND_BP, 32, 0) }, END } },
		{ "*(rbp - 8)", BYTES("\x0f\x03\x76\x78\x06"), { { 0, RULE(UNWIND_BP_DEREF, -8, 0) }, END } },
		{ "*(rsp + 152) + 8",
		  BYTES("\x0f\x06\x77\x98\x01\x06\x23\x08"),
		  { { 0, RULE(UNWIND_SP_DEREF, 152, 8) }, END } },
		{ "*(rsp + 8) + 3",
		  BYTES("\x0f\x05\x77\x08\x06\x33\x22"),
		  { { 0, RULE(UNWIND_SP_DEREF, 8, 3) }, END } },
		{ "*(rsp + 8) - 16 as a constant",
		  BYTES("\x0f\x06\x77\x08\x06\x09\xf0\x22"),
		  { { 0, RULE(UNWIND_SP_DEREF, 8, -16) }, END } },
		{ "**rsp", BYTES("\x0f\x04\x77\x00\x06\x06"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "*rax", BYTES("\x0f\x03\x70\x00\x06"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "a literal without plus", BYTES("\x0f\x04\x77\x00\x06\x38"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "offset too large",
		  BYTES("\x0f\x07\x77\x80\x80\x80\x80\x08\x06"),
		  { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "sum too large",
		  BYTES("\x0f\x0c\x77\x08\x23\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
		  { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "empty", BYTES("\x0f\x00"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "operand cut", BYTES("\x0f\x01\x77"), { { 0, ONLY(UNWIND_OTHER) }, END } },
		{ "unknown operation", BYTES("\x0f\x03\x77\x00\xff"), { { 0, ONLY(UNWIND_OTHER) }, END } },
	};

	(void)state;
	check_programs(programs, ARRAY_SIZE(programs));
}

/* An operand padded beyond any use: read again for each row, it would cost as much as the section has bytes, squared. */
static void test_long_expression(void **state)
{
	static const struct want fits[] = { { 0, SP(16) }, END }, too_long[] = { { 0, ONLY(UNWIND_OTHER) }, END };
	char program[2 + 25] = { 0x0f, 0, 0x77, (char)0x90 };

	(void)state;
	for (size_t n = 24; n <= 25; n++) {
		_cleanup_(cfi_done) struct cfi c = { 0 };
		program[1] = (char)n;
		memset(program + 4, 0x80, n - 3);
		program[n + 1] = 0;
		build_one("zR", "\x1b", 1, program, n + 2, &c);
		check_rows("long", &c, CODE, n == 24 ? fits : too_long);
	}
}

/* The kernel's frame is marked S and takes rsp from struct ucontext at 160. */
static void test_signal_frames(void **state)
{
	static const struct {
		const char *letters;
		const char *bytes;
		size_t n;
		struct unwind_rule rule;
	} cases[] = {
		{ "zRS", BYTES("\x0f\x04\x77\xa0\x01\x06"), ONLY(UNWIND_SIGNAL) },
		{ "zRS", BYTES("\x0f\x04\x77\xa0\x01\x06\x10\x06\x03\x77\xf8\x00"), ONLY(UNWIND_SIGNAL) },
		{ "zR", BYTES("\x0f\x04\x77\xa0\x01\x06"), RULE(UNWIND_SP_DEREF, 160, 0) },
		{ "zRS", BYTES("\x0c\x06\x10"), RULE(UNWIND_BP, 16, 0) },
		{ "zRS", BYTES("\x0f\x03\x77\x08\x06"), RULE(UNWIND_SP_DEREF, 8, 0) },
		{ "zRS", BYTES("\x07\x10"), ONLY(UNWIND_END) },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(cfi_done) struct cfi c = { 0 };
		const struct want want[] = { { 0, cases[i].rule }, END };
		char name[32];
		(void)snprintf(name, sizeof(name), "signal %zu", i); /* fits */
		build_one(cases[i].letters, "\x1b", 1, cases[i].bytes, cases[i].n, &c);
		check_rows(name, &c, CODE, want);
	}
}

/* A moved address as the pointer's encoding has it; backwards is broken. */
static void test_set_loc(void **state)
{
	const struct want want[] = { { 0, SP(8) }, { 0x30, SP(16) }, END };
	uint64_t to = CODE + 0x30;
	char program[11] = { 0x01 };

	(void)state;
	memcpy(program + 1, &to, 8);
	memcpy(program + 9, "\x0e\x10", 2);
	_cleanup_(bytes_done) struct bytes debug = { 0 }, im = { 0 };
	_cleanup_(cfi_done) struct cfi c = { 0 };
	add_debug_cie(&debug, 3);
	add_debug_fde(&debug, 0, CODE, FUNCTION_BYTES, program, sizeof(program));
	make_file(&(struct file_parts){ .debug = &debug }, &im);
	assert_int_equal(cfi_build_mem(im.p, im.n, &c), 0);
	check_rows("set_loc", &c, CODE, want);
}

/* What is broken is left out whole: what it said before it broke too. */
static void test_broken_programs(void **state)
{
	static const struct {
		const char *name;
		const char *bytes;
		size_t n;
	} cases[] = {
		{ "unknown instruction", BYTES("\x41\x0e\x10\x41\x17") },
		{ "of another machine", BYTES("\x2d") },
		{ "operand cut", BYTES("\x0e") },
		{ "LEB128 cut", BYTES("\x0e\x80\x80") },
		{ "second operand cut", BYTES("\x0c\x07") },
		{ "advance cut", BYTES("\x04\x01\x00\x00") },
		{ "block cut", BYTES("\x0f\x05\x77\x08") },
		{ "block of 2^63 bytes", BYTES("\x0f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x77") },
		{ "advance beyond 2^64", BYTES("\x1d\xff\xff\xff\xff\xff\xff\xff\xff") },
		{ "back", BYTES("\x44\x01\x00\x00\x00\x00\x00\x00\x00\x00") },
		{ "nothing kept", BYTES("\x0a\x0b\x0b") },
		{ "factored beyond 2^63", BYTES("\x05\x06\xff\xff\xff\xff\xff\xff\xff\xff\x7f") },
		{ "factored from 2^63 on", BYTES("\x05\x06\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01") },
		{ "negative beyond 2^63", BYTES("\x2f\x06\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01") },
		{ "CFA beyond 2^63", BYTES("\x12\x07\xff\xff\xff\xff\xff\xff\xff\xff\x3f") },
		{ "CFA's offset beyond 2^63", BYTES("\x13\xff\xff\xff\xff\xff\xff\xff\xff\x3f") },
	};
	char kept[33];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(cfi_done) struct cfi c = { 0 };
		build_one("zR", "\x1b", 1, cases[i].bytes, cases[i].n, &c);
		if (c.n_broken != 1 || c.n_rows)
			fail_msg("%s: %zu broken, %zu rows", cases[i].name, c.n_broken, c.n_rows);
	}
	memset(kept, 0x0a, sizeof(kept));
	_cleanup_(cfi_done) struct cfi c = { 0 };
	build_one("zR", "\x1b", 1, kept, sizeof(kept), &c);
	assert_int_equal(c.n_broken, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),		cmocka_unit_test(test_cfa),
		cmocka_unit_test(test_saved_rbp),	cmocka_unit_test(test_return_address),
		cmocka_unit_test(test_kept_states),	cmocka_unit_test(test_cfa_expressions),
		cmocka_unit_test(test_long_expression), cmocka_unit_test(test_signal_frames),
		cmocka_unit_test(test_set_loc),		cmocka_unit_test(test_broken_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
