/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layer python in the state machine of calls: counted beside the heap, never with it; domains that call each other, also through hooks of
 * another library, are one call; processes whose Python is not observed cost nothing but the look.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"
#include "heap_fixture.h"

#define PY_FN(nr) (PROG_TEXT + 0x8000 + (nr)*0x100)
#define PY_ALLOC(nr, fn_name, shape_of, ptr, size) \
	{ \
		fn_name, PY_FN(nr), FN_ALLOC, \
		{ \
			.layer = LAYER_PYTHON, .shape = shape_of, .ptr_reg = ptr, .size_reg = size, \
			.count_reg = REG_NONE, .may_nest = 1, .site = SITE_FIRST_PROBE + 20 + (nr), .extent = NEAR \
		} \
	}

/* The context comes first. */
static const struct fn fn_obj_malloc = PY_ALLOC(0, "_PyObject_Malloc", SHAPE_SIZE_TO_PTR, REG_NONE, REG_SI);
static const struct fn fn_obj_realloc = PY_ALLOC(1, "_PyObject_Realloc", SHAPE_PTR_SIZE_TO_PTR, REG_SI, REG_DX);
static const struct fn fn_raw_malloc = PY_ALLOC(2, "_PyMem_RawMalloc", SHAPE_SIZE_TO_PTR, REG_NONE, REG_SI);
static const struct fn fn_obj_free = { "_PyObject_Free",
				       PY_FN(3),
				       FN_FREE,
				       { .layer = LAYER_PYTHON,
					 .shape = SHAPE_PTR_TO_VOID,
					 .ptr_reg = REG_SI,
					 .size_reg = REG_NONE,
					 .count_reg = REG_NONE,
					 .slot_words = 1,
					 .site = SITE_FIRST_PROBE + 23,
					 .extent = NEAR } };

#define CTX 0

static void observe(uint32_t flags)
{
	proc_of(f.p)->flags = flags | PROC_FOLLOW;
}

static const struct live_block *python_at(uint64_t addr)
{
	const struct live_block *b;

	return live_find(live_key(addr, LAYER_PYTHON, f.id), &b) ? b : NULL;
}

static void test_beside_the_heap(void **state)
{
	(void)state;
	observe(PROC_HEAP | PROC_PYTHON);
	call_begin(f.th, &fn_obj_malloc, SITE_A, ARGS(CTX, 1000));
	do_malloc(INSIDE(fn_obj_malloc), 1000, P1);
	call_end(f.th, P1);
	assert_int_equal(python_at(P1)->bytes, 1000);
	expect_live(P1, 1000);
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_PYTHON], 1000);
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_HEAP], 1000);
	call(f.th, &fn_obj_free, SITE_C, ARGS(CTX, P1), 0);
	assert_null(python_at(P1));
	expect_live(P1, 1000); /* the heap's own free is another call */
	do_free(P1);
	assert_int_equal(live_count(), 0);
}

static void test_domains_are_one_call(void **state)
{
	(void)state;
	observe(PROC_PYTHON);
	call_begin(f.th, &fn_obj_malloc, SITE_A, ARGS(CTX, 600));
	call(f.th, &fn_raw_malloc, INSIDE(fn_obj_malloc), ARGS(CTX, 632), P1); /* padded */
	call_end(f.th, P1);
	assert_int_equal(python_at(P1)->bytes, 600);
	assert_int_equal(live_count(), 1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(600, 1));
}

/* A hook of an extension module, far from the interpreter's code, stands before the raw domain. */
static void test_through_a_hook(void **state)
{
	uint64_t hook = CXX_TEXT + 0x5000;

	(void)state;
	observe(PROC_PYTHON);
	call_begin(f.th, &fn_obj_malloc, SITE_A, ARGS(CTX, 24));
	frame_enter(f.th, INSIDE(fn_obj_malloc));
	call(f.th, &fn_raw_malloc, hook, ARGS(CTX, 1536), P2); /* the table of arenas grows */
	frame_leave(f.th);
	call_end(f.th, P1);
	assert_int_equal(python_at(P1)->bytes, 24);
	assert_null(python_at(P2));
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(24, 1));
}

static void test_resized(void **state)
{
	(void)state;
	observe(PROC_PYTHON);
	call(f.th, &fn_obj_malloc, SITE_A, ARGS(CTX, 100), P1);
	call(f.th, &fn_obj_realloc, SITE_B, ARGS(CTX, P1, 300), P2);
	assert_null(python_at(P1));
	assert_int_equal(python_at(P2)->bytes, 300);
	call(f.th, &fn_obj_realloc, SITE_B, ARGS(CTX, P2, 1ull << 50), FAILED);
	assert_int_equal(python_at(P2)->bytes, 300);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), FREES(100, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(300, 1));
}

static void test_not_asked_for(void **state)
{
	(void)state;
	observe(PROC_HEAP);
	call(f.th, &fn_obj_malloc, SITE_A, ARGS(CTX, 100), P1);
	assert_int_equal(live_count(), 0);
	observe(PROC_PYTHON);
	do_malloc(SITE_A, 100, P1);
	assert_int_equal(live_count(), 0);
	EXPECT_SUMS(f.id, 0, ALLOCS(0, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_beside_the_heap), BOTH(test_domains_are_one_call), BOTH(test_through_a_hook),
		BOTH(test_resized),	    BOTH(test_not_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
