/* SPDX-License-Identifier: GPL-2.0-or-later */
/* C++ operators: booked is where the outermost one was called, with the bytes that it was asked for. */
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

/* --- C++ wrappers --- */
static void test_new(void **state)
{
	(void)state;
	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P1);
	call_end(f.th, P1);
	expect_live(P1, 24);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(24, 1));
	assert_int_equal(stack_at(f.id, P1)->site, fn_new.cookie.site);
	do_malloc(SITE_B, 5, P2); /* the mark is used up */
	assert_int_equal(stack_at(f.id, P2)->site, fn_malloc.cookie.site);
}

static void test_new_by_jump(void **state)
{
	(void)state;
	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	fn_reach(f.th, &fn_malloc, ARGS(24));
	call_end(f.th, P1);
	assert_int_equal(f.th->ip, SITE_A);
	expect_live(P1, 24);
	assert_int_equal(stack_at(f.id, P1)->site, fn_new.cookie.site);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(24, 1));
}

static void test_new_nested(void **state)
{
	(void)state;
	call_begin(f.th, &fn_new_array, SITE_A, ARGS(24));
	call_begin(f.th, &fn_new, INSIDE(fn_new_array), ARGS(24));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P1);
	call_end(f.th, P1);
	call_end(f.th, P1);
	assert_int_equal(stack_at(f.id, P1)->site, fn_new_array.cookie.site);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(24, 1));
	call_begin(f.th, &fn_new_array, SITE_B, ARGS(10)); /* by a jump */
	fn_reach(f.th, &fn_new, ARGS(10));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(10), P2);
	call_end(f.th, P2);
	assert_int_equal(stack_at(f.id, P2)->site, fn_new_array.cookie.site);
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(10, 1));
}

/* libstdc++: operator new[](nothrow) calls operator new[], which jumps to operator new, which calls malloc. */
static void test_new_three_deep(void **state)
{
	(void)state;
	call_begin(f.th, &fn_new_nothrow, SITE_A, ARGS(24));
	call_begin(f.th, &fn_new_array, INSIDE(fn_new_nothrow), ARGS(24));
	fn_reach(f.th, &fn_new, ARGS(24));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P1);
	call_end(f.th, P1);
	call_end(f.th, P1);
	assert_int_equal(stack_at(f.id, P1)->site, fn_new_nothrow.cookie.site);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(24, 1));
}

/* new of 0 bytes asks malloc for 1; aligned forms round up: what was asked for is what counts. */
static void test_new_bytes_as_asked(void **state)
{
	(void)state;
	call_begin(f.th, &fn_new, SITE_A, ARGS(0));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(1), P1);
	call_end(f.th, P1);
	expect_live(P1, 0);
}

/* Memory is short: operator new asks the handler, then tries again. Nothing but the call that succeeds counts. */
static void test_new_retries(void **state)
{
	(void)state;
	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), FAILED);
	EXPECT_SUMS(f.id, 0, ALLOCS(0, 0));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P1);
	call_end(f.th, P1);
	expect_live(P1, 24);
	EXPECT_SUMS(f.id, 0, ALLOCS(24, 1));
	do_malloc(SITE_B, 5, P2);
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(5, 1));
}

/* Same, and it throws: the unwinder allocates, then the program goes on elsewhere. */
static void test_new_throws(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), FAILED);
	jump_to(f.th, j);
	do_malloc(SITE_B, 5, P1);
	EXPECT_SUMS(f.id, 0, ALLOCS(5, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(5, 1));
}

/* A wrapper whose malloc was not seen leaves a mark: calls from elsewhere, wrapped or not, do not take it. */
static void test_stale_mark(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	frame_enter(f.th, SITE_C);
	call_begin(f.th, &fn_new, SITE_A, ARGS(1000));
	jump_to(f.th, j);
	do_malloc(SITE_B, 5, P1);
	assert_int_equal(stack_at(f.id, P1)->site, fn_malloc.cookie.site);
	call_begin(f.th, &fn_new, SITE_B, ARGS(24));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P2);
	call_end(f.th, P2);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(0, 0));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(29, 2));
}

/* The same where the next calls stand at the very slot of the one that was left. */
static void test_stale_mark_same_slot(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	call_begin(f.th, &fn_new, SITE_A, ARGS(1000));
	jump_to(f.th, j);
	do_malloc(SITE_B, 5, P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(0, 0));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(5, 1));
}

static void test_stale_mark_same_slot_new(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	call_begin(f.th, &fn_new, SITE_A, ARGS(1000));
	jump_to(f.th, j);
	call_begin(f.th, &fn_new, SITE_B, ARGS(24));
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P1);
	call_end(f.th, P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(0, 0));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(24, 1));
}

/* --- operators that allocate themselves: no return is awaited where they may throw --- */
static void do_own_new(uint64_t bytes, uint64_t result)
{
	call_begin(f.th, &fn_own_new, SITE_A, ARGS(bytes));
	if (world.sessions)
		assert_int_equal(f.th->n_ri, result ? 1 : 0);
	call_end(f.th, result);
}

static void test_own_new(void **state)
{
	(void)state;
	do_own_new(24, P1);
	do_own_new(THROWS_FROM_BYTES - 1, P2);
	expect_live(P1, 24);
	expect_live(P2, THROWS_FROM_BYTES - 1);
}

static void test_own_new_may_throw(void **state)
{
	(void)state;
	do_own_new(THROWS_FROM_BYTES, 0);
	do_own_new(UINT64_MAX, 0);
	proc_of(f.p)->flags |= PROC_TIGHT;
	do_own_new(1, 0);
	assert_int_equal(loss_take(f.p, LOSS_RETURN_UNSAFE), 3);
	EXPECT_SUMS(f.id, 0, ALLOCS(0, 0));
	do_malloc(SITE_A, 10, P1); /* throws nothing */
	expect_live(P1, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_new),
		BOTH(test_new_by_jump),
		BOTH(test_new_nested),
		BOTH(test_new_three_deep),
		BOTH(test_new_bytes_as_asked),
		BOTH(test_new_retries),
		BOTH(test_new_throws),
		BOTH(test_stale_mark),
		BOTH(test_stale_mark_same_slot),
		BOTH(test_stale_mark_same_slot_new),
		BOTH(test_own_new),
		BOTH(test_own_new_may_throw),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
