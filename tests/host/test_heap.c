/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state machine of allocation calls, case by case, with sessions and with pairs of probes. */
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

/* --- shapes --- */
static void test_malloc_free(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	do_malloc(SITE_A, 50, P2);
	do_malloc(SITE_B, 0, P3);
	expect_live(P1, 100);
	expect_live(P3, 0);
	do_free(P1);
	do_free(FAILED); /* NULL: nothing */
	assert_null(live_at(f.id, P1));
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(150, 2), FREES(100, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(0, 1));
	assert_int_equal(stack_at(f.id, P2)->site, fn_malloc.cookie.site);
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_HEAP], 50);
	assert_int_equal(proc_of(f.p)->peak_live_bytes[LAYER_HEAP], 150);
}

static void test_failed(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, FAILED);
	call(f.th, &fn_calloc, SITE_A, ARGS(3, 100), FAILED);
	call(f.th, &fn_memalign, SITE_A, ARGS(64, 100), FAILED);
	EXPECT_SUMS(f.id, 0, ALLOCS(0, 0));
	assert_int_equal(live_count(), 0);
}

static void test_every_shape(void **state)
{
	(void)state;
	uint64_t out = f.th->sp - 512;

	call(f.th, &fn_calloc, SITE_A, ARGS(3, 100), P1);
	expect_live(P1, 300);
	call(f.th, &fn_memalign, SITE_A, ARGS(64, 1000), P2);
	expect_live(P2, 1000);
	poke(f.th, out, P3);
	call(f.th, &fn_posix_memalign, SITE_A, ARGS(out, 64, 77), 0);
	expect_live(P3, 77);
	call(f.th, &fn_reallocarray, SITE_B, ARGS(P3, 10, 20), P3);
	expect_live(P3, 200);
	call(f.th, &fn_free_sized, SITE_C, ARGS(P2, 1000), 0);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(1377, 3), FREES(1077, 2));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(200, 1));
}

static void test_posix_memalign_fails(void **state)
{
	(void)state;
	uint64_t out = f.th->sp - 512;

	poke(f.th, out, P1); /* what stood there before */
	call(f.th, &fn_posix_memalign, SITE_A, ARGS(out, 64, 77), ENOMEM);
	/* The upper half of the result register is garbage. */
	call(f.th, &fn_posix_memalign, SITE_A, ARGS(out, 64, 50), 0xabcd00000000ull);
	EXPECT_SUMS(f.id, 0, ALLOCS(50, 1));
	call(f.th, &fn_posix_memalign, SITE_A, ARGS(0x10, 64, 77), 0);
	assert_int_equal(loss_take(f.p, LOSS_USER_READ), 1);
	EXPECT_SUMS(f.id, 0, ALLOCS(50, 1));
}

/* --- realloc --- */
static void test_realloc_moved(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 300));
	assert_null(live_at(f.id, P1));
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1)); /* not a free yet */
	books_check();
	call_end(f.th, P2);
	expect_live(P2, 300);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), FREES(100, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(300, 1));
}

static void test_realloc_in_place(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	do_realloc(SITE_B, P1, 40, P1);
	expect_live(P1, 40);
	assert_int_equal(live_count(), 1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), FREES(100, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(40, 1));
	assert_int_equal(proc_of(f.p)->peak_live_bytes[LAYER_HEAP], 100);
}

static void test_realloc_fails(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	do_realloc(SITE_B, P1, 1ull << 60, FAILED);
	expect_live(P1, 100);
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1));
	do_free(P1);
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1), FREES(100, 1));
}

static void test_realloc_to_nothing(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	do_realloc(SITE_B, P1, 0, FAILED); /* glibc: that is a free */
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1), FREES(100, 1));
	do_malloc(SITE_A, 100, P1);
	do_realloc(SITE_B, P1, 0, P1); /* others: a block without bytes */
	expect_live(P1, 0);
	do_malloc(SITE_A, 30, P2);
	call(f.th, &fn_reallocarray, SITE_B, ARGS(P2, 0, 8), FAILED);
	assert_null(live_at(f.id, P2));
}

static void test_realloc_of_nothing(void **state)
{
	(void)state;
	do_realloc(SITE_A, 0, 64, P1);
	expect_live(P1, 64);
	do_realloc(SITE_A, 0, 0, P2);
	expect_live(P2, 0);
	do_realloc(SITE_A, 0, 64, FAILED);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(64, 2));
}

static void test_realloc_unknown(void **state)
{
	(void)state;
	do_realloc(SITE_A, P1, 64, P2); /* allocated before the attach */
	expect_live(P2, 64);
	assert_int_equal(loss_take(f.p, LOSS_UNMATCHED_FREE), 1);
	do_realloc(SITE_A, P1, 64, FAILED); /* it lives on, unknown as before */
	EXPECT_SUMS(f.id, 0, ALLOCS(64, 1));
	do_free(P1);
	assert_int_equal(loss_take(f.p, LOSS_UNMATCHED_FREE), 1);
}

/* n * size that does not fit fails, also where the product's low bits are 0. */
static void test_reallocarray_overflow(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	call(f.th, &fn_reallocarray, SITE_B, ARGS(P1, 1ull << 33, 1ull << 33), FAILED);
	expect_live(P1, 100);
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1));
}

/* The allocator gives the old place to another thread before the return is seen. */
static void test_realloc_old_place_reused(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	do_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 300));
	call(other, &fn_malloc, SITE_C, ARGS(50), P1);
	call_end(f.th, P2);
	expect_live(P1, 50);
	expect_live(P2, 300);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), FREES(100, 1));
	EXPECT_SUMS(f.id, SITE_C, ALLOCS(50, 1));
}

/* realloc made of other calls: malloc, copy, free. */
static void test_realloc_nested(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 300));
	call(f.th, &fn_malloc, INSIDE(fn_realloc), ARGS(300), P2);
	call(f.th, &fn_free, INSIDE(fn_realloc), ARGS(P1), 0);
	call_end(f.th, P2);
	expect_live(P2, 300);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), FREES(100, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(300, 1));
}

/* --- nested and tail calls --- */
static void test_nested(void **state)
{
	(void)state;
	call_begin(f.th, &fn_calloc, SITE_A, ARGS(2, 50));
	int pending = f.th->n_ri;
	call_begin(f.th, &fn_malloc, INSIDE(fn_calloc), ARGS(128));
	assert_int_equal(f.th->n_ri, world.sessions ? pending : pending + 1); /* no return is paid for inside */
	call_end(f.th, P1);
	assert_int_equal(live_count(), 0);
	call_end(f.th, P1);
	expect_live(P1, 100);
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1));
	assert_int_equal(stack_at(f.id, P1)->site, fn_calloc.cookie.site);
}

static void test_nested_deep(void **state)
{
	(void)state;
	call_begin(f.th, &fn_posix_memalign, SITE_A, ARGS(f.th->sp - 512, 64, 10));
	call_begin(f.th, &fn_memalign, INSIDE(fn_posix_memalign), ARGS(64, 20));
	call_begin(f.th, &fn_malloc, INSIDE(fn_memalign), ARGS(30));
	call(f.th, &fn_malloc, INSIDE(fn_malloc), ARGS(40), P2);
	call_end(f.th, P1);
	call_end(f.th, P1);
	poke(f.th, f.th->sp - 512 + 8, P1);
	call_end(f.th, 0);
	expect_live(P1, 10);
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1));
}

static void test_tail_call(void **state)
{
	(void)state;
	call_begin(f.th, &fn_calloc, SITE_A, ARGS(2, 50));
	assert_int_equal(peek(f.th, f.th->sp), TRAMPOLINE);
	fn_reach(f.th, &fn_malloc, ARGS(128)); /* jmp malloc: the slot stays */
	assert_int_equal(f.th->n_ri, world.sessions ? 1 : 2);
	call_end(f.th, P1);
	assert_int_equal(f.th->ip, SITE_A);
	expect_live(P1, 100);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1));
	do_malloc(SITE_B, 5, P2);
	expect_live(P2, 5);
}

/* A jump into an allocation function from one that is not probed: an ordinary call. */
static void test_tail_call_from_plain(void **state)
{
	(void)state;
	push(f.th, SITE_A);
	fn_reach(f.th, &fn_malloc, ARGS(9));
	call_end(f.th, P1);
	expect_live(P1, 9);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(9, 1));
}

/* --- calls that never return --- */
static void leave_malloc(uint64_t caller, uint64_t bytes)
{
	struct jump j = jump_save(f.th);

	call_begin(f.th, &fn_malloc, caller, ARGS(bytes));
	jump_to(f.th, j);
}

static void test_longjmp_same_slot(void **state)
{
	(void)state;
	leave_malloc(SITE_A, 100);
	do_malloc(SITE_B, 20, P1); /* its return address overwrites the slot */
	expect_live(P1, 20);
	EXPECT_SUMS(f.id, 0, ALLOCS(20, 1));
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
}

static void test_longjmp_next_call_above(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	for (int i = 0; i < 5; i++)
		frame_enter(f.th, SITE_A + (uint64_t)i * 16);
	call_begin(f.th, &fn_malloc, SITE_A, ARGS(100));
	jump_to(f.th, j);
	do_malloc(SITE_B, 20, P1); /* the slot lies below and still holds the trampoline */
	expect_live(P1, 20);
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
}

static void test_longjmp_next_call_below(void **state)
{
	(void)state;
	leave_malloc(SITE_A, 100);
	for (int i = 0; i < 5; i++)
		frame_enter(f.th, SITE_A + (uint64_t)i * 16);
	do_malloc(SITE_B, 20, P1);
	expect_live(P1, 20);
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
	for (int i = 0; i < 5; i++)
		frame_leave(f.th);
}

/* The old slot lies untouched in a hole of a later frame: only the caller tells that nothing encloses the new call. */
static void test_longjmp_slot_in_hole(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	leave_malloc(SITE_A, 100);
	f.th->sp -= 256; /* a local array that nobody wrote */
	frame_enter(f.th, SITE_A);
	assert_int_equal(peek(f.th, j.sp - 8), TRAMPOLINE);
	do_malloc(SITE_B, 20, P1);
	expect_live(P1, 20);
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
}

static void test_longjmp_from_inner(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	call_begin(f.th, &fn_calloc, SITE_A, ARGS(1, 100));
	call_begin(f.th, &fn_malloc, INSIDE(fn_calloc), ARGS(100));
	jump_to(f.th, j);
	do_malloc(SITE_B, 20, P1);
	expect_live(P1, 20);
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
}

static void test_longjmp_then_free(void **state)
{
	(void)state;
	do_malloc(SITE_A, 10, P1);
	leave_malloc(SITE_A, 100);
	do_free(P1);
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1), FREES(10, 1));
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
}

static void leave_realloc(uint64_t old, uint64_t bytes)
{
	struct jump j = jump_save(f.th);

	call_begin(f.th, &fn_realloc, SITE_B, ARGS(old, bytes));
	jump_to(f.th, j);
}

static void test_longjmp_from_realloc(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	leave_realloc(P1, 300);
	assert_null(live_at(f.id, P1));
	do_malloc(SITE_A, 20, P2);
	expect_live(P1, 100); /* back, with its stack */
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(120, 2));
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
	do_free(P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(120, 2), FREES(100, 1));
}

/* What is freed next may be the very block that the call left had taken. */
static void test_longjmp_from_realloc_then_free(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	leave_realloc(P1, 300);
	do_free(P1);
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1), FREES(100, 1));
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
	assert_int_equal(live_count(), 0);
}

/* The realloc that was left had given its old block up; the address is taken again. */
static void test_longjmp_from_realloc_place_taken(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	do_malloc(SITE_A, 100, P1);
	leave_realloc(P1, 300);
	call(other, &fn_malloc, SITE_C, ARGS(50), P1);
	do_malloc(SITE_B, 20, P2);
	expect_live(P1, 50);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), FREES(100, 1));
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
}

static void test_thread_ends_in_realloc(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	do_malloc(SITE_A, 100, P1);
	call_begin(other, &fn_realloc, SITE_B, ARGS(P1, 300));
	thread_exit(other);
	expect_live(P1, 100);
	do_free(P1);
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1), FREES(100, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_malloc_free),
		BOTH(test_failed),
		BOTH(test_every_shape),
		BOTH(test_posix_memalign_fails),
		BOTH(test_realloc_moved),
		BOTH(test_realloc_in_place),
		BOTH(test_realloc_fails),
		BOTH(test_realloc_to_nothing),
		BOTH(test_realloc_of_nothing),
		BOTH(test_realloc_unknown),
		BOTH(test_reallocarray_overflow),
		BOTH(test_realloc_old_place_reused),
		BOTH(test_realloc_nested),
		BOTH(test_nested),
		BOTH(test_nested_deep),
		BOTH(test_tail_call),
		BOTH(test_tail_call_from_plain),
		BOTH(test_longjmp_same_slot),
		BOTH(test_longjmp_next_call_above),
		BOTH(test_longjmp_next_call_below),
		BOTH(test_longjmp_slot_in_hole),
		BOTH(test_longjmp_from_inner),
		BOTH(test_longjmp_then_free),
		BOTH(test_longjmp_from_realloc),
		BOTH(test_longjmp_from_realloc_then_free),
		BOTH(test_longjmp_from_realloc_place_taken),
		BOTH(test_thread_ends_in_realloc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
