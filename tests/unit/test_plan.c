/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The planner over the first bytes of real functions (Debian 12: glibc 2.36-9, libstdc++ 12.2, jemalloc 5.3.0,
 * mimalloc 2.0.9; glibc 2.43), over small functions made to mislead it, and over this machine's own libraries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe/decode.h"
#include "probe/plan.h"
#include "util/mem.h"

#define V(major, minor) ((major) << 16 | (minor) << 8)
#define CODE_MAX 256

/* --- a file made of a few pieces of code and names --- */

struct piece {
	uint64_t vaddr;
	const char *hex;
};

struct name {
	uint64_t vaddr;
	const char *name;
};

struct image {
	struct piece code[4];
	struct name plt[6], own[4];
};

static size_t unhex(const char *hex, uint8_t *buf)
{
	size_t n = strlen(hex) / 2;

	assert_true(n <= CODE_MAX);
	for (size_t i = 0; i < n; i++) {
		char two[3] = { hex[2 * i], hex[2 * i + 1], 0 };

		buf[i] = (uint8_t)strtoul(two, NULL, 16);
	}
	return n;
}

static int image_read(const void *ctx, uint64_t vaddr, uint8_t *buf, size_t cap)
{
	const struct image *im = ctx;
	uint8_t code[CODE_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(im->code) && im->code[i].hex; i++) {
		size_t n = unhex(im->code[i].hex, code), at = vaddr - im->code[i].vaddr;

		if (vaddr < im->code[i].vaddr || at >= n)
			continue;
		n = n - at < cap ? n - at : cap;
		memcpy(buf, code + at, n);
		return (int)n;
	}
	return -EFAULT;
}

static const char *name_at(const struct name *names, size_t n, uint64_t vaddr)
{
	for (size_t i = 0; i < n && names[i].name; i++)
		if (names[i].vaddr == vaddr)
			return names[i].name;
	return NULL;
}

static const char *image_plt(const void *ctx, uint64_t vaddr)
{
	return name_at(((const struct image *)ctx)->plt, 6, vaddr);
}

static const char *image_own(const void *ctx, uint64_t vaddr)
{
	return name_at(((const struct image *)ctx)->own, 4, vaddr);
}

static bool image_defines(const void *ctx, const char *name)
{
	const struct image *im = ctx;

	for (size_t i = 0; i < ARRAY_SIZE(im->own) && im->own[i].name; i++)
		if (!strcmp(im->own[i].name, name))
			return true;
	return false;
}

static int plan_image(const struct image *im, const char *symbol, uint32_t version, struct plan *ret)
{
	struct code_source src = { im, image_read, image_plt, image_own, image_defines };
	struct elf_func f = { .name = (char *)symbol,
			      .vaddr = im->code[0].vaddr,
			      .file_offset = im->code[0].vaddr - 0x1000,
			      .bytes = im->code[0].hex ? strlen(im->code[0].hex) / 2 : 0 };
	const struct plan_kernel kernel = { version };
	_cleanup_(decoder_close) struct decoder d = { 0 };

	assert_non_null(family_find(symbol));
	assert_int_equal(decoder_open(&src, &d), 0);
	return plan_code(&d, &f, family_find(symbol), &kernel, ret);
}

/* --- where the probe goes --- */

struct place {
	const char *what, *symbol;
	uint64_t vaddr;
	const char *hex;
	uint32_t version, delta;
	enum insn_kind kind;
	const char *insn;
	unsigned char ptr, size, count, slot;
};

static const struct place places[] = {
	{ "glibc 2.36", "malloc", 0x98930, "415455534889fb4883ec10803d461b1400000f84f80100004885db0f88fd010000",
	  V(6, 1), 0, INSN_EMULATED, "push r12", REG_NONE, REG_DI, REG_NONE, 0 },
	{ "glibc 2.36: past the NULL test", "free", 0x98ef0,
	  "4885ff0f84bf00000055488d77f0534883ec18488b1dd69e1300488b47f8648b2ba802755b", V(6, 1), 9, INSN_EMULATED,
	  "push rbp", REG_DI, REG_NONE, REG_NONE, 0 },
	{ "glibc 2.36", "realloc", 0x99130,
	  "4157415641554154554889f5534889fb4883ec28803d3d131400000f84570100004885ed7522", V(6, 1), 0, INSN_EMULATED,
	  "push r15", REG_DI, REG_SI, REG_NONE, 0 },
	{ "glibc 2.36", "calloc", 0x996e0, "41554889f8415455534883ec1848f7e64889c30f90c04885db0f88d9020000", V(6, 1), 0,
	  INSN_EMULATED, "push r13", REG_NONE, REG_SI, REG_DI, 0 },
	{ "glibc 2.36: the je itself", "memalign", 0x99610,
	  "803d710e1400007407e932f6ffff66904883ec18488974240848893c24e8bebcffff488b742408488b3c244883c418e90cf6ffff",
	  V(6, 1), 7, INSN_EMULATED, "je 0x99620", REG_NONE, REG_SI, REG_NONE, 0 },
	{ "glibc 2.36", "valloc", 0x99650,
	  "803d310e140000534889fb741b488b05349813004889de5b488b7818e9dff5ffff0f1f8000000000e873bcffffebde", V(6, 1), 7,
	  INSN_EMULATED, "push rbx", REG_NONE, REG_DI, REG_NONE, 0 },
	{ "glibc 2.36", "posix_memalign", 0x9a280, "803d010214000041544989d4554889fd534889f3745a4889da", V(6, 1), 7,
	  INSN_EMULATED, "push r12", REG_DI, REG_DX, REG_NONE, 0 },
	{ "glibc 2.36: product in rsi", "reallocarray", 0x9a7e0,
	  "4889f048f7e24889c67005e940b8f8ff488b05e985130064c7000c00000031c0c3", V(6, 1), 9, INSN_EMULATED, "jo 0x9a7f0",
	  REG_DI, REG_SI, REG_NONE, 0 },
	{ "glibc 2.43: second test", "free", 0xa51e0, "4885ff0f84e700000040f6c70f0f85cd0000004c8b47f84d89c2", V(6, 18),
	  13, INSN_EMULATED, "jne 0xa52c0", REG_DI, REG_NONE, REG_NONE, 0 },
	{ "jemalloc 5.3: stack moved by one word", "_ZdlPvm", 0xae110,
	  "4885ff74134883ec08e81233f8ff4883c408c30f1f440000c3", V(6, 1), 9, INSN_EMULATED, "call 0x31430", REG_DI,
	  REG_NONE, REG_NONE, 1 },
	{ "mimalloc 2: pointer only in rcx", "free", 0x10ee0,
	  "4889f94885ff745d488d7fff4889c84881e7000000fe4829f848c1e810488d048048c1e004488db008010000644c8b04250000000048"
	  "8b9700010000"
	  "8b84070c0100004829c64801fe4939d07532807e0e00753c",
	  V(6, 1), 76, INSN_EMULATED, "jne 0x10f60", REG_CX, REG_NONE, REG_NONE, 0 },
	{ "mimalloc 2: arguments moved up", "realloc", 0x11670, "488b0549a900004889f24889fe64488b004889c7e9f74effff",
	  V(6, 1), 20, INSN_EMULATED, "jmp 0x6580", REG_SI, REG_DX, REG_NONE, 0 },

	{ "endbr64 is skipped", "malloc", 0x1000, "f30f1efa53c3", V(6, 1), 4, INSN_EMULATED, "push rbx", REG_NONE,
	  REG_DI, REG_NONE, 0 },
	{ "mov and sub only", "malloc", 0x1000, "4889f84883ec18e8000000004883c418c3", V(6, 1), 0, INSN_STEPPED,
	  "mov rax, rdi", REG_NONE, REG_DI, REG_NONE, 0 },
	{ "size overwritten by 32 bits", "malloc", 0x1000, "89ff55c3", V(6, 1), 0, INSN_STEPPED, "mov edi, edi",
	  REG_NONE, REG_DI, REG_NONE, 0 },
	{ "xchg", "calloc", 0x1000, "4887fe55c3", V(6, 1), 3, INSN_EMULATED, "push rbp", REG_NONE, REG_DI, REG_SI, 0 },
	{ "imul product", "calloc", 0x1000, "480faff755c3", V(6, 1), 4, INSN_EMULATED, "push rbp", REG_NONE, REG_SI,
	  REG_NONE, 0 },
	{ "product of other registers", "calloc", 0x1000, "480faff255c3", V(6, 1), 0, INSN_STEPPED, "imul rsi, rdx",
	  REG_NONE, REG_SI, REG_DI, 0 },
	/* mov rax, rdi; push rbp; test; jmp back to the push */
	{ "a loop back to the candidate", "malloc", 0x1000, "4889f8554885c07402ebf8c3", V(6, 1), 0, INSN_STEPPED,
	  "mov rax, rdi", REG_NONE, REG_DI, REG_NONE, 0 },
	/* mov rax, rdi; L: mov rcx, rax; push; ...; jmp L: the way in is before the candidate */
	{ "entered from elsewhere before the candidate", "malloc", 0x1000, "4889f84889c153ebfac3", V(6, 1), 0,
	  INSN_STEPPED, "mov rax, rdi", REG_NONE, REG_DI, REG_NONE, 0 },
	/* test edi, edi; js +1; push rbx; ret: the push is bypassed, the js is not */
	{ "bypassed: the branch is taken instead", "malloc", 0x1000, "85ff780153c3", V(6, 1), 2, INSN_EMULATED,
	  "js 0x1005", REG_NONE, REG_DI, REG_NONE, 0 },
	/* cmp rsi, 0; je out; push rbp: not the pointer that is tested */
	{ "a test of something else is no NULL test", "free", 0x1000, "4883fe00740255c3c3", V(6, 1), 4, INSN_EMULATED,
	  "je 0x1008", REG_DI, REG_NONE, REG_NONE, 0 },
	/* test rdi, rdi; je out; mov rdi, [rdi]; push rbp */
	{ "pointer lost past the NULL test: its je", "free", 0x1000, "4885ff7405488b3f5dc3c3", V(6, 1), 3,
	  INSN_EMULATED, "je 0x100a", REG_DI, REG_NONE, REG_NONE, 0 },
	/* push rbp; mov rbp, rsp; test rdi, rdi; je out; push rbx */
	{ "frame first, NULL test after it", "free", 0x1000, "554889e54885ff740153c3", V(6, 1), 9, INSN_EMULATED,
	  "push rbx", REG_DI, REG_NONE, REG_NONE, 1 },

	{ "nop5 before 6.18", "malloc", 0x1000, "0f1f44000053c3", V(6, 17), 5, INSN_EMULATED, "push rbx", REG_NONE,
	  REG_DI, REG_NONE, 0 },
	{ "nop5 from 6.18", "malloc", 0x1000, "0f1f44000053c3", V(6, 18), 0, INSN_NOP5, "nop dword ptr [rax + rax]",
	  REG_NONE, REG_DI, REG_NONE, 0 },
	{ "nop5 across two pages", "malloc", 0x1ffc, "0f1f44000053c3", V(6, 18), 0, INSN_EMULATED,
	  "nop dword ptr [rax + rax]", REG_NONE, REG_DI, REG_NONE, 0 },
	{ "mov to itself before 6.19", "malloc", 0x1000, "4889ff53c3", V(6, 18), 3, INSN_EMULATED, "push rbx", REG_NONE,
	  REG_DI, REG_NONE, 0 },
	{ "mov to itself from 6.19", "malloc", 0x1000, "4889ff53c3", V(6, 19), 0, INSN_EMULATED, "mov rdi, rdi",
	  REG_NONE, REG_DI, REG_NONE, 0 },
	{ "lea 0 from 6.19", "malloc", 0x1000, "488d7f0053c3", V(6, 19), 0, INSN_EMULATED, "lea rdi, [rdi]", REG_NONE,
	  REG_DI, REG_NONE, 0 },
	{ "pause is no nop", "malloc", 0x1000, "f39053c3", V(6, 19), 2, INSN_EMULATED, "push rbx", REG_NONE, REG_DI,
	  REG_NONE, 0 },
	{ "66-prefixed nop", "malloc", 0x1000, "669053c3", V(5, 10), 0, INSN_EMULATED, NULL, REG_NONE, REG_DI, REG_NONE,
	  0 },
	{ "push of memory is not emulated", "malloc", 0x1000, "ff3753c3", V(6, 19), 0, INSN_STEPPED,
	  "push qword ptr [rdi]", REG_NONE, REG_DI, REG_NONE, 0 },
	{ "a jump through a slot is not emulated", "malloc", 0x1000, "ff2500000000", V(6, 19), 0, INSN_STEPPED, NULL,
	  REG_NONE, REG_DI, REG_NONE, 0 },
};

static void check_place(const struct place *c)
{
	const struct image im = { .code = { { c->vaddr, c->hex } } };
	struct plan p;

	assert_int_equal(plan_image(&im, c->symbol, c->version, &p), 0);
	if (c->insn)
		assert_string_equal(p.insn, c->insn);
	assert_int_equal(p.insn_delta, c->delta);
	assert_int_equal(p.kind, c->kind);
	assert_int_equal(p.ptr_reg, c->ptr);
	assert_int_equal(p.size_reg, c->size);
	assert_int_equal(p.count_reg, c->count);
	assert_int_equal(p.slot_words, c->slot);
	assert_int_equal(p.can_return, !c->slot);
	assert_int_equal(p.probe_offset, c->vaddr - 0x1000 + c->delta);
	assert_true(p.planned);
	assert_true(p.why[0]);
	/* A stepped probe is never silent about it, an emulated one never complains. */
	assert_int_equal(strstr(p.hazards[0], "single-stepped") != NULL, c->kind == INSN_STEPPED);
}

static void each_prologue(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		print_message("%s: %s\n", places[i].symbol, places[i].what);
		check_place(&places[i]);
	}
}

static void unreadable_code(void **state)
{
	const struct image im = { .code = { { 0 } } };
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&im, "malloc", V(6, 1), &p), -EIO);
	assert_false(p.planned);
	assert_true(p.why[0]);
}

static void cut_code(void **state)
{
	/* The file ends within the second instruction. */
	const struct image im = { .code = { { 0x1000, "4889f848" } } };
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&im, "malloc", V(6, 1), &p), 0);
	assert_int_equal(p.insn_delta, 0);
	assert_int_equal(p.kind, INSN_STEPPED);
}

/* jmp to the entry: seen again in one call. */
static void branch_to_the_entry(void **state)
{
	const struct image im = { .code = { { 0x1000, "534885ff75fac3" } } };
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&im, "malloc", V(6, 1), &p), 0);
	assert_string_equal(p.insn, "push rbx");
	assert_non_null(strstr(p.hazards[0], "twice"));
}

/* --- operator new and delete --- */

/* libstdc++ 12.2: the allocation, the handler's loop, and the cold part that throws. */
static const struct image libstdcxx_new = {
	.code = { { 0xa9570, "f30f1efa4885ffb80100000053480f45c74889c34889dfe86408ffff4885c074025bc3e8a808ffff4885c00f8"
			     "4553fffffffd0ebdf" },
		  { 0x9d4f6,
		    "bf08000000e800d4ffff488b1519691700488b35aa5b17004889c7488b05c06017004883c010488907e80cdbffff" } },
	.plt = { { 0x99df0, "malloc" },
		 { 0x99e40, "_ZSt15get_new_handlerv" },
		 { 0x9a900, "__cxa_allocate_exception" },
		 { 0x9b030, "__cxa_throw" } },
	.own = { { 0xa9570, "_Znwm" } },
};

static void new_over_malloc_is_a_wrapper(void **state)
{
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&libstdcxx_new, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_WRAP);
	assert_int_equal(p.func->shape, SHAPE_SIZE_TO_PTR);
	assert_true(p.planned);
	assert_false(p.needs_return);
	assert_int_equal(p.insn_delta, 12);
	assert_string_equal(p.insn, "push rbx");
	assert_int_equal(p.ptr_reg, REG_NONE);
	assert_int_equal(p.size_reg, REG_DI);
	assert_non_null(strstr(p.why, "site of malloc"));
	assert_int_equal(p.func_bytes, 53);
}

/* The same code without the allocation: every path throws or loops, none allocates. */
static void new_that_never_allocates_is_no_wrapper(void **state)
{
	struct image im = libstdcxx_new;
	struct plan p;

	(void)state;
	im.plt[0].name = "getenv";
	assert_int_equal(plan_image(&im, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_SIZE_TO_PTR);
}

static void nothrow_new_calls_new(void **state)
{
	const struct image im = { .code = { { 0xa95b0, "f30f1efa4883ec08e81303ffff4883c408c3" } },
				  .plt = { { 0x998d0, "_Znwm" } } };
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&im, "_ZnwmRKSt9nothrow_t", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_WRAP);
	assert_string_equal(p.insn, "call 0x998d0");
	assert_int_equal(p.slot_words, 1);
	assert_false(p.can_return);
}

/*
 * A wrapper behind `push rbp; mov rbp, rsp` could not walk the caller's stack: the push is taken. mov rbp, rdi; call:
 * nothing is left.
 */
static void wrapper_keeps_the_callers_frame(void **state)
{
	const struct image framed = { .code = { { 0x2000, "554889e5e8f7efffff5dc3" } },
				      .plt = { { 0x1000, "malloc" } } };
	const struct image spoiled = { .code = { { 0x2000, "4889fde8f8efffffc3" } }, .plt = { { 0x1000, "malloc" } } };
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&framed, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_WRAP);
	assert_int_equal(p.insn_delta, 0);
	assert_int_equal(p.kind, INSN_EMULATED);
	assert_int_equal(plan_image(&spoiled, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_WRAP);
	assert_int_equal(p.kind, INSN_STEPPED);
}

static void array_new_jumps_to_new(void **state)
{
	const struct image im = { .code = { { 0xa95d0, "f30f1efae9f702ffff" } }, .plt = { { 0x998d0, "_Znwm" } } };
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&im, "_Znam", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_WRAP);
	assert_int_equal(p.insn_delta, 4);
	assert_int_equal(p.kind, INSN_EMULATED);
}

/* cmp rdi, 0x1000; ja slow; ...; ret; slow: call malloc; ret. Blocks of the fast path are seen here or nowhere. */
static void new_with_a_fast_path_returns(void **state)
{
	const struct image im = { .code = { { 0x2000, "4881ff00100000770431c0c390e8efefffffc3" } },
				  .own = { { 0x1000, "malloc" }, { 0x2000, "_Znwm" } } };
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&im, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_SIZE_TO_PTR);
	assert_true(p.planned);
	assert_true(p.needs_return);
	assert_int_equal(p.size_reg, REG_DI);
	assert_string_equal(p.insn, "ja 0x200d");
	assert_non_null(strstr(p.hazards[0], "bad_alloc"));
}

/* push rbx; call 0x2100; pop rbx; ret - and there: mov rax, rdi; jmp malloc, or a way out before that. */
static void new_through_an_internal_call(void **state)
{
	const struct image im = { .code = { { 0x2000, "53e8fa0000005bc3" }, { 0x2100, "4889f8e9f8eeffff" } },
				  .own = { { 0x1000, "malloc" }, { 0x2000, "_Znwm" } } };
	struct image way_out = im;
	struct plan p;

	(void)state;
	way_out.code[1].hex = "4885ff7405e9f6eeffffc3";
	assert_int_equal(plan_image(&im, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_WRAP);
	assert_int_equal(plan_image(&way_out, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_SIZE_TO_PTR);
}

/* -fno-plt: push rbx; call [rip + 0]; pop rbx; ret */
static void new_through_the_got(void **state)
{
	const struct image im = { .code = { { 0x2000, "53ff15000000005bc3" } }, .own = { { 0x2000, "_Znwm" } } };
	struct image with_malloc = im;
	struct plan p;

	(void)state;
	assert_int_equal(plan_image(&im, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_WRAP);
	with_malloc.own[1] = (struct name){ 0x9000, "malloc" };
	assert_int_equal(plan_image(&with_malloc, "_Znwm", V(6, 1), &p), 0);
	assert_int_equal(p.shape, SHAPE_SIZE_TO_PTR);
}

struct delete_case {
	const char *what, *symbol, *hex;
	struct name plt, own;
	bool planned;
};

static const struct delete_case deletes[] = {
	{ "libstdc++: jmp free@plt", "_ZdlPv", "f30f1efae9f7efffff", { 0x1000, "free" }, { 0 }, false },
	{ "libstdc++: jmp another delete", "_ZdlPvm", "f30f1efae9f7efffff", { 0x1000, "_ZdlPv" }, { 0 }, false },
	{ "test rdi, rdi; je out; jmp free; out: ret",
	  "_ZdlPv",
	  "4885ff7405e9f6efffffc3",
	  { 0x1000, "free" },
	  { 0 },
	  false },
	{ "-O0: the pointer in a local",
	  "_ZdlPv",
	  "554889e54883ec1048897df848837df800740c488b45f84889c7e8e1efffff90c9c3",
	  { 0x1000, "free" },
	  { 0 },
	  false },
	{ "a size that decides: not every path frees",
	  "_ZdlPvm",
	  "4885f67405e9f6efffffc3",
	  { 0x1000, "free" },
	  { 0 },
	  true },
	{ "own pool", "_ZdlPv", "53488907e8f7efffff5bc3", { 0x1000, "memset" }, { 0x5000, "free" }, true },
	{ "free_sized jumps to free", "free_sized", "e9fbefffff", { 0 }, { 0x1000, "free" }, false },
	{ "-fno-plt", "_ZdlPv", "ff2500000000", { 0 }, { 0 }, false },
};

static void deletes_that_free(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(deletes); i++) {
		const struct delete_case *c = &deletes[i];
		const struct image im = { .code = { { 0x2000, c->hex } }, .plt = { c->plt }, .own = { c->own } };
		struct plan p;

		print_message("%s: %s\n", c->symbol, c->what);
		assert_int_equal(plan_image(&im, c->symbol, V(6, 1), &p), 0);
		assert_int_equal(p.planned, c->planned);
		assert_int_equal(strstr(p.why, "reaches") != NULL, !c->planned);
		assert_int_equal(p.shape, family_find(c->symbol)->shape);
	}
}

/* --- any bytes --- */

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Half the bytes come from what prologues are made of, so that walks get somewhere. */
static void random_hex(char *hex, size_t bytes, uint32_t *seed)
{
	static const uint8_t likely[] = { 0x48, 0x89, 0x55, 0x53, 0x85, 0xff, 0x74, 0x75,
					  0x0f, 0xeb, 0xe8, 0xe9, 0xc3, 0x83, 0xec };

	for (size_t i = 0; i < bytes; i++) {
		uint32_t r = next_random(seed);

		(void)snprintf(hex + 2 * i, 3, "%02x", r & 1 ? likely[(r >> 1) % sizeof(likely)] : r >> 1 & 0xff);
	}
}

static void hostile_code(void **state)
{
	static const char *const symbols[] = { "malloc", "free",   "calloc",	    "reallocarray",
					       "_Znwm",	 "_ZdlPv", "posix_memalign" };
	uint32_t seed = 1;

	(void)state;
	for (int i = 0; i < 1500; i++) {
		char hex[2 * 48 + 1];
		const struct image im = { .code = { { 0x1000, hex } },
					  .plt = { { 0x1020, "malloc" }, { 0x1028, "free" } } };
		struct plan p;
		int err;

		random_hex(hex, 48, &seed);
		err = plan_image(&im, symbols[(size_t)i % ARRAY_SIZE(symbols)], V(6, 19), &p);
		assert_true(err == 0 || err == -EIO);
		assert_true(p.why[0]);
		if (err || !p.planned)
			continue;
		assert_true(p.insn_delta < 48);
		assert_true(!p.needs_return || p.can_return);
		assert_true(p.kind != INSN_STEPPED || !p.insn_delta);
		assert_int_equal(p.ptr_reg == REG_NONE, strchr("m_c", p.symbol[0]) && strcmp(p.symbol, "_ZdlPv"));
	}
}

/* --- real files --- */

static int plan_path(const char *path, struct elf_file *e, struct plan **ret, size_t *ret_n)
{
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	const struct plan_kernel kernel = { V(6, 1) };

	if (fd < 0)
		return -ENOENT;
	assert_int_equal(elf_open(fd, family_wants, NULL, e), 0);
	assert_int_equal(plan_file(e, &kernel, ret, ret_n), 0);
	return 0;
}

static const struct plan *plan_named(const struct plan *plans, size_t n, const char *symbol)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(plans[i].symbol, symbol))
			return &plans[i];
	return NULL;
}

static void check_unique(const struct plan *plans, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		assert_true(plans[i].why[0]);
		for (size_t j = i + 1; j < n; j++)
			if (plans[i].planned && plans[j].planned)
				assert_int_not_equal(plans[i].func_offset, plans[j].func_offset);
	}
}

static void this_libc(void **state)
{
	static const char *const wanted[] = {
		"malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc"
	};
	_cleanup_(freep) struct plan *plans = NULL;
	struct elf_file e = { 0 };
	size_t n = 0;

	(void)state;
	if (plan_path("/lib/x86_64-linux-gnu/libc.so.6", &e, &plans, &n) < 0)
		skip();
	check_unique(plans, n);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		const struct plan *p = plan_named(plans, n, wanted[i]);

		assert_non_null(p);
		assert_true(p->planned);
		assert_int_equal(p->kind, INSN_EMULATED);
		assert_true(!p->needs_return || p->can_return);
		assert_int_equal(p->probe_offset, p->func_offset + p->insn_delta);
	}
	elf_done(&e);
}

static void this_libstdcxx(void **state)
{
	_cleanup_(freep) struct plan *plans = NULL;
	struct elf_file e = { 0 };
	size_t n = 0;

	(void)state;
	if (plan_path("/lib/x86_64-linux-gnu/libstdc++.so.6", &e, &plans, &n) < 0)
		skip();
	check_unique(plans, n);
	assert_int_equal(plan_named(plans, n, "_Znwm")->shape, SHAPE_WRAP);
	assert_int_equal(plan_named(plans, n, "_Znam")->shape, SHAPE_WRAP);
	for (size_t i = 0; i < n; i++) {
		assert_false(plans[i].needs_return && plans[i].planned);
		assert_int_equal(plans[i].planned, strncmp(plans[i].symbol, "_Zd", 3) != 0);
	}
	elf_done(&e);
}

static void kernel_of_this_machine(void **state)
{
	struct plan_kernel k = { 0 };

	(void)state;
	assert_int_equal(plan_kernel_current(&k), 0);
	assert_true(k.version >= V(3, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_prologue),
		cmocka_unit_test(unreadable_code),
		cmocka_unit_test(cut_code),
		cmocka_unit_test(branch_to_the_entry),
		cmocka_unit_test(new_over_malloc_is_a_wrapper),
		cmocka_unit_test(new_that_never_allocates_is_no_wrapper),
		cmocka_unit_test(nothrow_new_calls_new),
		cmocka_unit_test(wrapper_keeps_the_callers_frame),
		cmocka_unit_test(array_new_jumps_to_new),
		cmocka_unit_test(new_with_a_fast_path_returns),
		cmocka_unit_test(new_through_an_internal_call),
		cmocka_unit_test(new_through_the_got),
		cmocka_unit_test(deletes_that_free),
		cmocka_unit_test(hostile_code),
		cmocka_unit_test(this_libc),
		cmocka_unit_test(this_libstdcxx),
		cmocka_unit_test(kernel_of_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
