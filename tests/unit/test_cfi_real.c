/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows of real files against libdw, which reads the same sections with other code: at both ends of each row and at random addresses. What
 * libdw says is translated to a rule by what its documentation calls the operations, not by our parser. Arguments, if any, are the files to check.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <libelf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "probe/cfi.h"
#include "util/mem.h"

#define RANDOM_ADDRESSES 20000
#define GAP_MIN 16 /* probe/cfi.h's contract: shorter gaps are padding */
#define SIGNAL_RSP 160
#define VDSO_BYTES_MAX 65536

struct reference {
	Elf *elf;
	Dwarf *dwarf;
	Dwarf_CFI *eh, *debug; /* NULL: has none. eh belongs to the ELF handle, debug to the other one */
};

static void reference_open(struct reference *r, Elf *elf)
{
	*r = (struct reference){ .elf = elf };
	assert_non_null(elf);
	r->eh = dwarf_getcfi_elf(elf);
	r->dwarf = dwarf_begin_elf(elf, DWARF_C_READ, NULL);
	r->debug = r->dwarf ? dwarf_getcfi(r->dwarf) : NULL;
}

static void reference_done(struct reference *r)
{
	if (r->eh)
		dwarf_cfi_end(r->eh);
	dwarf_end(r->dwarf);
	elf_end(r->elf);
}

static Dwarf_Frame *frame_at(const struct reference *r, uint64_t at)
{
	Dwarf_Frame *frame = NULL;

	if (r->eh && !dwarf_cfi_addrframe(r->eh, at, &frame))
		return frame;
	return r->debug && !dwarf_cfi_addrframe(r->debug, at, &frame) ? frame : NULL;
}

/* Register and offset of one operation; false: it is no such. */
static bool reg_and_offset(const Dwarf_Op *op, uint64_t *reg, int64_t *off)
{
	if (op->atom == DW_OP_bregx) {
		*reg = op->number;
		*off = (int64_t)op->number2;
		return true;
	}
	if (op->atom < DW_OP_breg0 || op->atom > DW_OP_breg31)
		return false;
	*reg = op->atom - DW_OP_breg0;
	*off = (int64_t)op->number;
	return true;
}

/* All CFA expressions that a rule stands for, as found in files and written in the System V ABI's and ld's terms. */
static void expected_cfa(const Dwarf_Op *ops, size_t n, bool is_signal, struct unwind_rule *ret)
{
	static const uint8_t plt[] = { DW_OP_breg7, DW_OP_breg16, DW_OP_lit15, DW_OP_and, 0,
				       DW_OP_ge,    DW_OP_lit3,	  DW_OP_shl,   DW_OP_plus };
	uint64_t reg;
	int64_t off;

	*ret = (struct unwind_rule){ .kind = UNWIND_OTHER };
	if (n == ARRAY_SIZE(plt) && ops[0].number == 8 && ops[1].number == 0) {
		for (size_t i = 0; i < n; i++)
			if (plt[i] && plt[i] != ops[i].atom)
				return;
		*ret = (struct unwind_rule){ .kind = UNWIND_PLT, .cfa_off = ops[4].atom - DW_OP_lit0 };
		return;
	}
	if (!n || !reg_and_offset(&ops[0], &reg, &off) || (reg != 6 && reg != 7) || off != (int32_t)off)
		return;
	bool is_sp = reg == 7, is_sum = n == 3 && ops[1].atom == DW_OP_deref && ops[2].atom == DW_OP_plus_uconst;
	ret->cfa_off = (int32_t)off;
	if (n == 1)
		ret->kind = is_sp ? UNWIND_SP : UNWIND_BP;
	else if ((n == 2 && ops[1].atom == DW_OP_deref) || is_sum)
		ret->kind = is_sp ? UNWIND_SP_DEREF : UNWIND_BP_DEREF;
	if (is_sum)
		ret->cfa_add = (int32_t)ops[2].number;
	if (is_signal && ret->kind == UNWIND_SP_DEREF && off == SIGNAL_RSP)
		*ret = (struct unwind_rule){ .kind = UNWIND_SIGNAL };
}

/* libdw: no operations and its own memory: undefined; no memory: same value; else a location that begins with the CFA. */
static enum unwind_bp where(Dwarf_Frame *frame, int reg, int64_t *ret_off)
{
	Dwarf_Op mem[3], *ops;
	uint64_t base;
	size_t n;

	*ret_off = 0;
	assert_int_equal(dwarf_frame_register(frame, reg, mem, &ops, &n), 0);
	if (!n)
		return ops ? UNWIND_BP_LOST : UNWIND_BP_SAME;
	if (ops[0].atom != DW_OP_call_frame_cfa || ops[n - 1].atom == DW_OP_stack_value)
		return UNWIND_BP_LOST;
	if (n == 1)
		return UNWIND_BP_AT_CFA;
	if (n == 2 && ops[1].atom == DW_OP_plus_uconst) {
		*ret_off = (int64_t)ops[1].number;
		return UNWIND_BP_AT_CFA;
	}
	if (n == 2 && reg_and_offset(&ops[1], &base, ret_off) && base == 6)
		return UNWIND_BP_AT_BP;
	*ret_off = 0;
	return UNWIND_BP_LOST;
}

static bool is_undefined(Dwarf_Frame *frame, int reg)
{
	Dwarf_Op mem[3], *ops;
	size_t n;

	assert_int_equal(dwarf_frame_register(frame, reg, mem, &ops, &n), 0);
	return !n && ops;
}

static struct unwind_rule expected(Dwarf_Frame *frame)
{
	struct unwind_rule rule = { .kind = UNWIND_END }, other = { .kind = UNWIND_OTHER };
	Dwarf_Op *ops;
	int64_t off;
	bool is_signal;
	size_t n;

	if (is_undefined(frame, 16))
		return rule;
	(void)dwarf_frame_info(frame, NULL, NULL, &is_signal); /* gives the return address's column */
	assert_int_equal(dwarf_frame_cfa(frame, &ops, &n), 0);
	expected_cfa(ops, n, is_signal, &rule);
	if (rule.kind == UNWIND_SIGNAL)
		return rule;
	if (rule.kind == UNWIND_OTHER || where(frame, 16, &off) != UNWIND_BP_AT_CFA || off != -8)
		return other;
	rule.bp = where(frame, 6, &off);
	rule.bp_off = (int16_t)off;
	return rule;
}

static bool is_known(const struct reference *r, uint64_t at)
{
	Dwarf_Frame *frame = frame_at(r, at);

	free(frame);
	return frame;
}

/* How many bytes around `at` libdw knows nothing of, GAP_MIN: that many or more. */
static unsigned int gap_around(const struct reference *r, uint64_t at)
{
	unsigned int before = 0, behind = 0;

	while (before < GAP_MIN && !is_known(r, at - before - 1))
		before++;
	while (behind < GAP_MIN && !is_known(r, at + behind + 1))
		behind++;
	return before + 1 + behind < GAP_MIN ? before + 1 + behind : GAP_MIN;
}

struct tally {
	size_t compared, padding, none, differs;
};

static void compare_at(const struct cfi *c, const struct reference *r, uint64_t at, struct tally *t)
{
	const struct cfi_row *row = cfi_find(c, at);
	struct unwind_rule got = c->rules[row ? row->rule : UNWIND_RULE_NONE], want = { 0 };
	Dwarf_Frame *frame = frame_at(r, at);

	t->compared++;
	if (!frame) {
		bool is_padding = got.kind != UNWIND_NONE && gap_around(r, at) < GAP_MIN;
		t->padding += is_padding;
		t->none += got.kind == UNWIND_NONE;
		if (is_padding || got.kind == UNWIND_NONE)
			return;
	} else {
		want = expected(frame);
		free(frame);
	}
	if (!memcmp(&got, &want, sizeof(got)))
		return;
	if (!t->differs++)
		print_error("0x%lx: kind %d cfa %d %d rbp %d %d, libdw: kind %d cfa %d %d rbp %d %d\n",
			    (unsigned long)at, got.kind, got.cfa_off, got.cfa_add, got.bp, got.bp_off, want.kind,
			    want.cfa_off, want.cfa_add, want.bp, want.bp_off);
}

static void check_order(const struct cfi *c)
{
	assert_int_equal(c->rules[UNWIND_RULE_NONE].kind, UNWIND_NONE);
	assert_int_equal(c->rows[c->n_rows - 1].rule, UNWIND_RULE_NONE);
	for (size_t i = 0; i < c->n_rows; i++) {
		assert_true(c->rows[i].rule < c->n_rules);
		if (i) {
			assert_true(c->rows[i - 1].vaddr < c->rows[i].vaddr);
			assert_int_not_equal(c->rows[i - 1].rule, c->rows[i].rule);
		}
	}
}

static void compare(const char *name, const struct cfi *c, const struct reference *r)
{
	struct tally t = { 0 };
	uint64_t seed = 88172645463325252u;

	if (!c->n_rows) {
		assert_true(!r->eh && !r->debug);
		return;
	}
	check_order(c);
	for (size_t i = 0; i + 1 < c->n_rows; i++) {
		compare_at(c, r, c->rows[i].vaddr, &t);
		compare_at(c, r, c->rows[i + 1].vaddr - 1, &t);
	}
	uint64_t first = c->rows[0].vaddr - 64, span = c->rows[c->n_rows - 1].vaddr + 64 - first;
	for (unsigned int i = 0; i < RANDOM_ADDRESSES; i++) {
		/* xorshift64: the same addresses in each run */
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		compare_at(c, r, first + seed % span, &t);
	}
	print_message("%s: %zu rows, %zu rules, %zu other, %zu broken; %zu addresses: %zu in padding, %zu without a "
		      "rule, %zu differ\n",
		      name, c->n_rows, c->n_rules, c->n_other, c->n_broken, t.compared, t.padding, t.none, t.differs);
	assert_int_equal(t.differs, 0);
}

static void check_file(const char *path)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(cfi_done) struct cfi c = { 0 };
	_cleanup_(reference_done) struct reference r;

	assert_true(fd >= 0);
	reference_open(&r, elf_begin(fd, ELF_C_READ_MMAP, NULL));
	assert_int_equal(cfi_build(fd, &c), 0);
	compare(path, &c, &r);
	assert_int_equal(c.n_broken, 0);
}

/* Where the dynamic linker finds it; a library that this machine doesn't have is not checked. */
static void check_library(const char *name, bool is_needed)
{
	struct link_map *map = NULL;
	void *lib = dlopen(name, RTLD_LAZY);

	if (!lib && !is_needed) {
		print_message("%s: not here\n", name);
		return;
	}
	assert_non_null(lib);
	assert_int_equal(dlinfo(lib, RTLD_DI_LINKMAP, &map), 0);
	check_file(map->l_name);
	assert_int_equal(dlclose(lib), 0);
}

static void test_c_library(void **state)
{
	(void)state;
	check_library("libc.so.6", true);
	check_library("libm.so.6", true);
}

static void test_dynamic_linker(void **state)
{
	(void)state;
	check_library("ld-linux-x86-64.so.2", true);
}

static void test_cxx_library(void **state)
{
	(void)state;
	check_library("libstdc++.so.6", true);
}

/* Hand-written assembly with expressions, and registers that no rule follows. */
static void test_crypto_library(void **state)
{
	(void)state;
	check_library("libcrypto.so.3", false);
}

static void test_programs(void **state)
{
	(void)state;
	check_file("/proc/self/exe");
	if (!access("/usr/bin/python3", R_OK))
		check_file("/usr/bin/python3");
}

/* Its mapping's size, for it has no file. */
static size_t mapped_bytes(uintptr_t start)
{
	_cleanup_(fclosep) FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long a, b;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &a, &b) == 2 && a == start && b - a <= VDSO_BYTES_MAX)
			return b - a;
	return 0;
}

static void test_vdso(void **state)
{
	(void)state;
	uintptr_t at = getauxval(AT_SYSINFO_EHDR);
	if (!at)
		skip();
	_cleanup_(cfi_done) struct cfi c = { 0 };
	_cleanup_(reference_done) struct reference r;
	size_t bytes = mapped_bytes(at);
	assert_true(bytes > 0);
	_cleanup_(freep) void *copy = xcalloc(bytes, 1);
	memcpy(copy, (const void *)at, bytes);
	reference_open(&r, elf_memory(copy, bytes));
	assert_int_equal(cfi_build_mem((const void *)at, bytes, &c), 0);
	assert_true(c.n_rows > 0);
	assert_int_equal(c.n_other, 0);
	compare("vdso", &c, &r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_c_library),   cmocka_unit_test(test_dynamic_linker),
		cmocka_unit_test(test_cxx_library), cmocka_unit_test(test_crypto_library),
		cmocka_unit_test(test_programs),    cmocka_unit_test(test_vdso),
	};

	elf_version(EV_CURRENT);
	for (int i = 1; i < argc; i++)
		check_file(argv[i]);
	return argc > 1 ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}
