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

#define MAIN_AT (PROG_TEXT + 0x100)
#define SITE_A (PROG_TEXT + 0x1000)
#define SITE_B (PROG_TEXT + 0x2000)
#define SITE_C (PROG_TEXT + 0x3000)
#define P1 (HEAP_BASE + 0x1000)
#define P2 (HEAP_BASE + 0x2000)
#define P3 (HEAP_BASE + 0x3000)
#define FAILED 0ull

struct fixture {
	struct process *p;
	struct thread *th;
	struct proc_key id;
};

static struct fixture f;

static int setup(bool sessions)
{
	world_init(sessions);
	f.p = process_new();
	f.th = f.p->leader;
	be(f.th);
	process_follow(f.p, PROC_HEAP | PROC_FOLLOW);
	f.id = id_of(f.p);
	frame_enter(f.th, MAIN_AT);
	return 0;
}

static int setup_sessions(void **state)
{
	(void)state;
	return setup(true);
}

static int setup_pairs(void **state)
{
	(void)state;
	return setup(false);
}

static int teardown(void **state)
{
	(void)state;
	books_check();
	expect_no_loss();
	world_done();
	return 0;
}

static void do_malloc(uint64_t caller, uint64_t bytes, uint64_t result)
{
	call(f.th, &fn_malloc, caller, ARGS(bytes), result);
}

static void do_realloc(uint64_t caller, uint64_t old, uint64_t bytes, uint64_t result)
{
	call(f.th, &fn_realloc, caller, ARGS(old, bytes), result);
}

static void do_free(uint64_t addr)
{
	call(f.th, &fn_free, SITE_C, ARGS(addr), 0);
}

static void expect_live(uint64_t addr, uint64_t bytes)
{
	const struct live_block *b = live_at(f.id, addr);

	assert_non_null(b);
	assert_int_equal(b->bytes, bytes);
}

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

/* --- limits and faults --- */
static void test_live_full(void **state)
{
	(void)state;
	host_map_of(&live)->max = 2;
	do_malloc(SITE_A, 10, P1);
	do_malloc(SITE_A, 20, P2);
	do_malloc(SITE_A, 30, P3);
	assert_null(live_at(f.id, P3));
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(60, 3), UNTRACKED(30, 1));
	assert_int_equal(loss_take(f.p, LOSS_LIVE_FULL), 1);
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_HEAP], 30);
	do_free(P3); /* can't be told from a block of before the attach */
	assert_int_equal(loss_take(f.p, LOSS_UNMATCHED_FREE), 1);
	do_free(P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(60, 3), FREES(10, 1), UNTRACKED(30, 1));
}

static void test_live_busy(void **state)
{
	(void)state;
	struct host_map *m = host_map_of(&live);

	m->fail_with = -EBUSY;
	m->fail_cnt = 1;
	do_malloc(SITE_A, 10, P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(10, 1), UNTRACKED(10, 1));
	assert_int_equal(loss_take(f.p, LOSS_LIVE_BUSY), 1);
}

/* A failed realloc's old block finds its place in `live` taken by others: it lives on untracked; it was not freed. */
static void test_live_full_when_putting_back(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	host_map_of(&live)->max = 1;
	do_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 1ull << 60));
	call(other, &fn_malloc, SITE_C, ARGS(50), P2);
	call_end(f.th, FAILED);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), UNTRACKED(100, 1));
	assert_int_equal(loss_take(f.p, LOSS_LIVE_FULL), 1);
}

static void test_missed_free(void **state)
{
	(void)state;
	do_malloc(SITE_A, 10, P1);
	do_malloc(SITE_B, 20, P1);
	expect_live(P1, 20);
	assert_int_equal(live_count(), 1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(10, 1), FREES(10, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(20, 1));
	assert_int_equal(loss_take(f.p, LOSS_MISSED_FREE), 1);
}

static void test_sums_full(void **state)
{
	(void)state;
	host_map_of(&sums)->max = 1;
	do_malloc(SITE_A, 10, P1);
	do_malloc(SITE_B, 20, P2);
	assert_int_equal(loss_take(f.p, LOSS_SUMS_FULL), 1);
	assert_null(live_at(f.id, P2));
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1));
}

static void test_no_thread_state(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	do_malloc(SITE_A, 10, P1);
	host.no_task_storage = true;
	call(other, &fn_malloc, SITE_A, ARGS(10), P2);
	assert_int_equal(loss_take(f.p, LOSS_THREAD_STATE), 1);
	call(other, &fn_free, SITE_A, ARGS(P1), 0); /* needs none */
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1), FREES(10, 1));
}

static void test_no_return(void **state)
{
	(void)state;
	proc_of(f.p)->flags |= PROC_NO_RETURN;
	call_begin(f.th, &fn_malloc, SITE_A, ARGS(10));
	if (world.sessions)
		assert_int_equal(f.th->n_ri, 0);
	call_end(f.th, P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(10, 1), UNTRACKED(10, 1));
	assert_int_equal(live_count(), 0);
	(void)loss_take(
		f.p, LOSS_RETURN_UNSAFE); /* a property of the process or a count of calls: not this file's business */
	do_free(P1);
	assert_int_equal(loss_take(f.p, LOSS_UNMATCHED_FREE), 1);
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_HEAP], 0);
}

static void test_not_followed(void **state)
{
	(void)state;
	struct process *stranger = process_new();
	uint32_t zero = 0;

	call(stranger->leader, &fn_malloc, SITE_A, ARGS(10), P1);
	call(stranger->leader, &fn_free, SITE_A, ARGS(P1), 0);
	proc_of(f.p)->flags &= ~PROC_HEAP;
	do_malloc(SITE_A, 10, P1);
	assert_int_equal(live_count(), 0);
	assert_int_equal(((struct cpu_stat *)bpf_map_lookup_elem(&cpu_stats, &zero))->foreign_hits, 3);
	assert_int_equal(proc_of(f.p)->hits, 0);
}

/* --- several processes --- */
static void test_same_addresses(void **state)
{
	(void)state;
	struct process *q = process_new();

	be(q->leader);
	process_follow(q, PROC_HEAP);
	do_malloc(SITE_A, 10, P1);
	call(q->leader, &fn_malloc, SITE_A, ARGS(500), P1);
	do_free(P1);
	assert_non_null(live_at(id_of(q), P1));
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1), FREES(10, 1));
	EXPECT_SUMS(id_of(q), 0, ALLOCS(500, 1));
}

static void test_fork_child_frees_inherited(void **state)
{
	(void)state;
	do_malloc(SITE_A, 10, P1);
	struct process *child = process_fork(f.th, false);

	call(child->leader, &fn_free, SITE_B, ARGS(P1), 0);
	call(child->leader, &fn_realloc, SITE_B, ARGS(P2, 20), P1);
	assert_int_equal(loss_take(child, LOSS_UNMATCHED_FREE), 2);
	expect_live(P1, 10);
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1));
	EXPECT_SUMS(id_of(child), 0, ALLOCS(20, 1));
	assert_int_equal(proc_of(child)->live_bytes[LAYER_HEAP], 20);
}

static void test_exec(void **state)
{
	(void)state;
	struct proc_key before = f.id;

	do_malloc(SITE_A, 10, P1);
	do_malloc(SITE_A, 30, P3);
	process_exec(f.th);
	f.id = id_of(f.p);
	assert_int_not_equal(f.id.image, before.image);
	frame_enter(f.th, MAIN_AT);
	do_free(P1);
	assert_int_equal(loss_take(f.p, LOSS_UNMATCHED_FREE), 1);
	do_malloc(SITE_A, 20, P3);
	EXPECT_SUMS(before, 0, ALLOCS(40, 2));
	EXPECT_SUMS(f.id, 0, ALLOCS(20, 1));
}

static void test_vfork(void **state)
{
	(void)state;
	do_malloc(SITE_A, 10, P1);
	struct process *child = process_fork(f.th, true);

	assert_true(proc_of(child)->flags & PROC_BORROWS_MM);
	call(child->leader, &fn_free, SITE_B, ARGS(P1), 0);
	call(child->leader, &fn_malloc, SITE_B, ARGS(20), P2);
	EXPECT_SUMS(f.id, 0, ALLOCS(30, 2), FREES(10, 1));
	process_exec(child->leader);
	assert_false(proc_of(child)->flags & PROC_BORROWS_MM);
	call(child->leader, &fn_malloc, SITE_A, ARGS(40), P2);
	EXPECT_SUMS(id_of(child), 0, ALLOCS(40, 1));
	expect_live(P2, 20);
	do_free(P2);
	EXPECT_SUMS(f.id, 0, ALLOCS(30, 2), FREES(30, 2));
}

#define BOTH(name) \
	{ #name " (session)", name, setup_sessions, teardown, NULL }, \
	{ \
#name " (pair)", name, setup_pairs, teardown, NULL \
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
		BOTH(test_live_full),
		BOTH(test_live_busy),
		BOTH(test_live_full_when_putting_back),
		BOTH(test_missed_free),
		BOTH(test_sums_full),
		BOTH(test_no_thread_state),
		BOTH(test_no_return),
		BOTH(test_not_followed),
		BOTH(test_same_addresses),
		BOTH(test_fork_child_frees_inherited),
		BOTH(test_exec),
		BOTH(test_vfork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
