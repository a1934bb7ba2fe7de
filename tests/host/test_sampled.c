/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sampled calls in the state machine: who is counted, by which weight, and that what was counted goes again as it came, whatever
 * happened to the thread meanwhile. Which distribution the weights have is tests/unit/test_sampling.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"
#include "heap_fixture.h"
#include "sampled_fixture.h"

/* --- one call --- */
static void test_counted_by_weight(void **state)
{
	double x = 100.0 / R, weight = 100 / -expm1(-x), unit = (double)R / SAMPLE_VAR_UNIT;

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	expect_live(P1, 100);
	assert_int_equal(live_at(f.id, P1)->rate, 1);
	struct sample_weight w = weight_at(P1);
	assert_in_range(w.bytes, floor(weight), ceil(weight) + 1);
	assert_in_range(w.count, floor(weight / 100), ceil(weight / 100));
	assert_true(fabs((double)w.var * unit * unit / (exp(-x) * weight * weight) - 1) < 1e-3);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(w.bytes, w.count));
	assert_int_equal(sums_at(f.id, SITE_A).alloc_var, w.var);
	assert_int_equal(proc_of(f.p)->sampled, 1);
	assert_int_equal(proc_of(f.p)->booked_bytes, w.bytes);
	assert_int_equal(proc_of(f.p)->booked_var, w.var);
	do_free(P1);
	expect_all_gone();
	assert_int_equal(proc_of(f.p)->peak_live_bytes[LAYER_HEAP], w.bytes);
	assert_int_equal(proc_of(f.p)->booked_bytes, w.bytes); /* of allocations alone */
}

static void test_left_out(void **state)
{
	(void)state;
	sample_none();
	call_begin(f.th, &fn_malloc, SITE_A, ARGS(100));
	expect_awaited(0);
	call_end(f.th, P1);
	assert_int_equal(state_of(f.th)->left, FAR_AWAY - 100);
	do_malloc(SITE_A, 0, P2); /* as if it had a byte */
	assert_int_equal(state_of(f.th)->left, FAR_AWAY - 101);
	do_free(P1); /* no loss: it most likely was not sampled */
	EXPECT_SUMS(f.id, 0, ALLOCS(0, 0));
	assert_int_equal(live_count(), 0);
	assert_int_equal(proc_of(f.p)->sampled, 0);
}

/* A point in the block's last byte is in the block, one behind it is in the next. */
static void test_where_the_point_lies(void **state)
{
	(void)state;
	next_point(f.th, 100);
	do_malloc(SITE_A, 100, P1);
	expect_live(P1, 100);
	next_point(f.th, 101);
	do_malloc(SITE_A, 100, P2);
	assert_null(live_at(f.id, P2));
	do_malloc(SITE_B, 0, P3);
	expect_live(P3, 0);
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(0, weight_at(P3).count)); /* blocks without bytes */
	assert_true(weight_at(P3).count >= R);
}

/* Far above R a block is itself, with no doubt. */
static void test_large(void **state)
{
	(void)state;
	do_malloc(SITE_A, R * SAMPLE_X, P1); /* whatever the distance: drawn here for the first time */
	expect_live(P1, R * SAMPLE_X);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(R * SAMPLE_X, 1));
	assert_int_equal(sums_at(f.id, 0).alloc_var, 0);
}

/* A failed call is sampled as others are, and leaves nothing. */
static void test_failed(void **state)
{
	(void)state;
	sampled_malloc(SITE_A, 100, FAILED);
	sample_next();
	call(f.th, &fn_realloc, SITE_A, ARGS(0, 100), FAILED);
	expect_all_gone();
	EXPECT_SUMS(f.id, 0, ALLOCS(0, 0));
}

/* --- every shape --- */
static void test_every_shape_sampled(void **state)
{
	(void)state;
	for (int i = 0; i < SHAPE_CALLS; i++) {
		sample_next();
		shape_call(i);
		expect_live(P1, 300);
		assert_int_equal(live_count(), 1);
		call(f.th, &fn_free_sized, SITE_C, ARGS(P1, 300), 0);
		expect_all_gone();
	}
	assert_int_equal(proc_of(f.p)->sampled, SHAPE_CALLS);
}

static void test_every_shape_left_out(void **state)
{
	(void)state;
	for (int i = 0; i < SHAPE_CALLS; i++) {
		sample_none();
		shape_call(i);
		assert_int_equal(state_of(f.th)->left, FAR_AWAY - 300); /* once */
		do_free(P1);
	}
	EXPECT_SUMS(f.id, 0, ALLOCS(0, 0));
	assert_int_equal(live_count(), 0);
	assert_int_equal(proc_of(f.p)->sampled, 0);
}

/* --- the filter before the table --- */

/* Blocks that it does not tell of are not looked for. */
static void test_filter_is_asked(void **state)
{
	__u64 key = live_key(P1, LAYER_HEAP, f.id);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	live_filter_remove(live_filter, key);
	do_free(P1);
	call(f.th, &fn_realloc, SITE_A, ARGS(P1, 50), P1);
	expect_live(P1, 100);
	assert_true(live_filter_add(live_filter, key));
	proc_of(f.p)->rate = 2; /* a block of any rate */
	do_free(P1);
	expect_all_gone();
}

/* Blocks of calls that were not sampled are in no filter, and found all the same. */
static void test_filter_after_exact(void **state)
{
	(void)state;
	proc_of(f.p)->rate = 0;
	do_malloc(SITE_A, 100, P1);
	do_malloc(SITE_A, 100, P2);
	proc_of(f.p)->rate = 1;
	sample_none();
	do_free(P1);
	call(f.th, &fn_realloc, SITE_A, ARGS(P2, 50), P2);
	expect_all_gone();
}

/* User space's own, which have no rate. */
static void test_filter_has_ghosts(void **state)
{
	struct live_block ghost = { .sum = LIVE_GHOST_SUM };

	(void)state;
	sample_none();
	assert_true(live_put(live_key(P1, LAYER_HEAP, f.id), &ghost));
	do_free(P1);
	expect_all_gone();
}

/* What a block that found no room was counted with is taken back. */
static void test_filter_table_full(void **state)
{
	(void)state;
	world_shrink(1, 64);
	config_set((struct config){ .sample_bytes = R });
	for (uint64_t i = 0; i <= LIVE_WAYS; i++)
		sampled_malloc(SITE_A, 100, P1 + i * 0x100);
	assert_int_equal(loss_take(f.p, LOSS_LIVE_FULL), 1);
	assert_int_equal(live_count(), LIVE_WAYS);
	books_check_filter();
	for (uint64_t i = 0; i <= LIVE_WAYS; i++)
		do_free(P1 + i * 0x100);
	expect_all_gone();
}

/* A full cell says "maybe" for good. */
static void test_filter_cell_full(void **state)
{
	__u64 key = live_key(P1, LAYER_HEAP, f.id), other = live_key(P1 + 0x10, LAYER_HEAP, f.id);

	(void)state;
	for (__u64 i = 0; i < LIVE_CELL_MOST; i++) {
		assert_int_equal(live_filter_has(live_filter, key), i > 0);
		assert_true(live_filter_add(live_filter, key));
	}
	assert_true(live_filter_add(live_filter, key));
	for (__u64 i = 0; i < 2 * LIVE_CELL_MOST; i++)
		live_filter_remove(live_filter, key);
	assert_true(live_filter_has(live_filter, key));
	live_filter_remove(live_filter, other); /* was not there */
	assert_false(live_filter_has(live_filter, other));
	assert_false(live_filter_has(live_filter, live_key(P1, LAYER_PYTHON, f.id)));
	memset(live_filter, 0, sizeof(live_filter));
}

/* --- realloc --- */
static void test_realloc_sampled_twice(void **state)
{
	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	struct sample_weight w = weight_at(P1);
	sample_next();
	do_realloc(SITE_B, P1, 300, P2);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(w.bytes, w.count), FREES(w.bytes, w.count));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(weight_at(P2).bytes, weight_at(P2).count));
	do_free(P2);
	expect_all_gone();
}

/* The new size is not sampled: the call is followed for the old block's sake. */
static void realloc_left_out(uint64_t bytes, uint64_t result)
{
	sampled_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, bytes));
	expect_awaited(1);
	assert_null(live_at(f.id, P1));
	books_check();
	call_end(f.th, result);
}

static void test_realloc_left_out_moved(void **state)
{
	(void)state;
	realloc_left_out(300, P2);
	expect_all_gone();
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(0, 0));
	do_free(P2);
}

static void test_realloc_left_out_in_place(void **state)
{
	(void)state;
	realloc_left_out(300, P1);
	expect_all_gone();
	do_free(P1);
	expect_all_gone();
}

static void test_realloc_left_out_fails(void **state)
{
	(void)state;
	realloc_left_out(300, FAILED);
	expect_live(P1, 100);
	struct sample_weight w = weight_at(P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(w.bytes, w.count));
	do_free(P1);
	expect_all_gone();
}

static void test_realloc_left_out_to_nothing(void **state)
{
	(void)state;
	realloc_left_out(0, FAILED); /* glibc */
	expect_all_gone();
	realloc_left_out(0, P1); /* others: a block without bytes */
	expect_all_gone();
}

static void test_realloc_to_nothing(void **state)
{
	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	sample_next();
	do_realloc(SITE_B, P1, 0, FAILED);
	expect_all_gone();
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(0, 0));
}

static void test_realloc_of_unknown(void **state)
{
	(void)state;
	sample_none();
	do_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 200));
	expect_awaited(0);
	call_end(f.th, P1);
	sample_next();
	do_realloc(SITE_B, P1, 300, P2); /* no loss: it most likely was not sampled */
	expect_live(P2, 300);
	sample_next();
	do_realloc(SITE_C, P3, 300, FAILED);
	do_free(P2);
	expect_all_gone();
}

/* Blocks grow by and by; each step is sampled by itself. */
static void test_realloc_chain(void **state)
{
	uint64_t at = P1, to;

	(void)state;
	for (uint64_t i = 1; i <= 40; i++) {
		next_point(f.th, i % 3 ? FAR_AWAY : 1);
		to = i % 5 ? at : i % 10 ? P2 : P1;
		call(f.th, i % 2 ? &fn_realloc : &fn_reallocarray, SITE_A,
		     i % 2 ? ARGS(i > 1 ? at : 0, i * 50) : ARGS(at, i, 50), i % 7 ? to : FAILED);
		at = i % 7 ? to : at;
		assert_true(live_count() <= 1);
		books_check();
	}
	do_free(at);
	expect_all_gone();
}

/* The allocator gives the old place away before the return is seen. */
static void test_realloc_old_place_reused(void **state)
{
	struct thread *other = thread_new(f.p);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 300));
	next_point(other, 1);
	call(other, &fn_malloc, SITE_C, ARGS(50), P1);
	call_end(f.th, P2);
	expect_live(P1, 50);
	assert_int_equal(live_count(), 1);
	do_free(P1);
	expect_all_gone();
}

/* --- other threads --- */
static void test_freed_elsewhere(void **state)
{
	struct thread *other = thread_new(f.p);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	sampled_malloc(SITE_B, 70, P2);
	call(other, &fn_free, SITE_C, ARGS(P1), 0); /* a thread that never allocated */
	next_point(other, FAR_AWAY);
	call(other, &fn_realloc, SITE_C, ARGS(P2, 1000), P3);
	expect_all_gone();
}

/* Each thread has points of its own. */
static void test_threads_apart(void **state)
{
	struct thread *other = thread_new(f.p);

	(void)state;
	next_point(f.th, 1000);
	next_point(other, 100);
	do_malloc(SITE_A, 999, P1);
	call(other, &fn_malloc, SITE_B, ARGS(100), P2);
	assert_null(live_at(f.id, P1));
	expect_live(P2, 100);
	do_malloc(SITE_A, 1, P3);
	expect_live(P3, 1);
}

/* No memory for the thread's state: the call is lost and counted so; frees need none. */
static void test_no_thread_state(void **state)
{
	struct thread *other = thread_new(f.p);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	host.no_task_storage = true;
	call(other, &fn_malloc, SITE_B, ARGS(100), P2);
	call(other, &fn_realloc, SITE_B, ARGS(P2, 200), P2);
	call_begin(other, &fn_new, SITE_B, ARGS(24));
	call(other, &fn_malloc, INSIDE(fn_new), ARGS(24), P3);
	call_end(other, P3);
	assert_int_equal(loss_take(f.p, LOSS_THREAD_STATE), 4);
	call(other, &fn_free, SITE_C, ARGS(P1), 0);
	expect_all_gone();
	host.no_task_storage = false;
}

/* --- operators of C++ --- */
static void test_new_decides(void **state)
{
	(void)state;
	sample_next();
	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	uint64_t left = state_of(f.th)->left;
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P1);
	assert_int_equal(state_of(f.th)->left, left); /* drawn from once */
	call_end(f.th, P1);
	expect_live(P1, 24);
	assert_int_equal(live_at(f.id, P1)->rate, 1);
	assert_int_equal(stack_at(f.id, P1)->site, fn_new.cookie.site);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(weight_at(P1).bytes, weight_at(P1).count));
	do_free(P1);
	expect_all_gone();
}

/* Its malloc is not sampled in its place, though a point would fall into it. */
static void test_new_left_out(void **state)
{
	(void)state;
	next_point(f.th, 30);
	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	call_begin(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24));
	expect_awaited(0);
	call_end(f.th, P1);
	call_end(f.th, P1);
	assert_int_equal(live_count(), 0);
	do_malloc(SITE_B, 6, P2); /* the mark is used up, the next byte but five is the point's */
	expect_live(P2, 6);
	assert_int_equal(stack_at(f.id, P2)->site, fn_malloc.cookie.site);
}

static void test_new_by_jumps(void **state)
{
	(void)state;
	for (uint64_t sampled = 0; sampled < 2; sampled++) {
		next_point(f.th, sampled ? 24 : FAR_AWAY);
		call_begin(f.th, &fn_new_nothrow, SITE_A, ARGS(24));
		call_begin(f.th, &fn_new_array, INSIDE(fn_new_nothrow), ARGS(24));
		fn_reach(f.th, &fn_new, ARGS(24));
		fn_reach(f.th, &fn_malloc, ARGS(24));
		call_end(f.th, P1);
		call_end(f.th, P1);
		assert_int_equal(live_count(), sampled);
		if (!sampled)
			assert_int_equal(state_of(f.th)->left, FAR_AWAY - 24);
	}
	assert_int_equal(stack_at(f.id, P1)->site, fn_new_nothrow.cookie.site);
	do_free(P1);
	expect_all_gone();
}

/* The aligned forms call functions that may call others. */
static void test_new_aligned(void **state)
{
	(void)state;
	for (uint64_t sampled = 1; sampled < 2; sampled--) { /* sampled first: it shows what is inside what */
		next_point(f.th, sampled ? 1 : 25);
		call_begin(f.th, &fn_new, SITE_A, ARGS(24));
		call_begin(f.th, &fn_memalign, INSIDE(fn_new), ARGS(64, 64));
		call(f.th, &fn_malloc, INSIDE(fn_memalign), ARGS(128), P1);
		call_end(f.th, P1);
		call_end(f.th, P1);
		assert_int_equal(live_count(), sampled);
		do_free(P1);
	}
	expect_all_gone();
}

/* It fails at first; what the handler and the second try do is sampled as any call. */
static void test_new_retries(void **state)
{
	(void)state;
	sample_next();
	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	sample_none();
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), FAILED);
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P1);
	call_end(f.th, P1);
	assert_int_equal(live_count(), 0);
	assert_int_equal(state_of(f.th)->left, FAR_AWAY - 24);
}

/* --- ends --- */
static void test_thread_ends_in_realloc(void **state)
{
	struct thread *other = thread_new(f.p);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	struct sample_weight w = weight_at(P1);
	next_point(other, FAR_AWAY);
	call_begin(other, &fn_realloc, SITE_B, ARGS(P1, 300));
	assert_int_equal(live_count(), 0);
	proc_of(f.p)->rate = 4;
	thread_exit(other);
	assert_int_equal(weight_at(P1).bytes, w.bytes);
	do_free(P1);
	expect_all_gone();
}

/* Inside a call that was left out there is nothing to be put back, and the record is gone with the thread. */
static void test_thread_ends_in_left_out(void **state)
{
	struct thread *other = thread_new(f.p);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	next_point(other, 1);
	call(other, &fn_realloc, SITE_A, ARGS(P1, 300), P2);
	next_point(other, FAR_AWAY);
	call_begin(other, &fn_calloc, SITE_B, ARGS(1, 300));
	thread_exit(other);
	assert_int_equal(live_count(), 1);
	do_free(P2);
	expect_all_gone();
}

static void test_exec_in_realloc(void **state)
{
	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	struct sample_weight w = weight_at(P1);
	uint32_t before = f.id;
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 300));
	process_exec(f.th);
	assert_int_not_equal(account_of(f.p), before);
	expect_live(P1, 100); /* the old image's numbers stand */
	EXPECT_SUMS(before, 0, ALLOCS(w.bytes, w.count));
	f.id = account_of(f.p);
	frame_enter(f.th, MAIN_AT);
	proc_of(f.p)->rate = 1;
	sampled_malloc(SITE_A, 50, P1);
	do_free(P1);
	EXPECT_SUMS(f.id, 0, ALLOCS(sums_at(f.id, 0).alloc_bytes, sums_at(f.id, 0).alloc_count),
		    FREES(sums_at(f.id, 0).alloc_bytes, sums_at(f.id, 0).alloc_count));
	EXPECT_SUMS(before, 0, ALLOCS(w.bytes, w.count));
}

/* The same, left out: the new image's stack may hold anything where the record's slot was. */
static void test_exec_in_left_out(void **state)
{
	(void)state;
	sample_none();
	uint64_t slot = f.th->sp - 8;
	call_begin(f.th, &fn_calloc, SITE_A, ARGS(1, 300));
	process_exec(f.th);
	f.id = account_of(f.p);
	poke(f.th, slot, SITE_A);
	f.th->sp = slot - 64;
	proc_of(f.p)->rate = 1;
	sampled_malloc(INSIDE(fn_calloc), 50, P1);
	expect_live(P1, 50);
}

/* --- all together --- */
#define PLACES 200
#define ROUNDS 6000

static uint64_t dice;

static uint64_t draw(uint64_t below)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return dice % below;
}

struct truth {
	uint64_t bytes[PLACES + 1];
	double alloc, live;
};

static uint64_t place(uint64_t i)
{
	return HEAP_BASE + 0x100000 + i * 64;
}

/* Something happens to the block at one place; the place PLACES is kept free for those that move. */
static void act(struct truth *t, struct thread *th, uint64_t i)
{
	uint64_t bytes = draw(10) ? 1 + draw(400) : draw(20000), how = draw(4);

	if (!t->bytes[i]) {
		call(th, how ? &fn_malloc : &fn_calloc, SITE_A + how * 16, how ? ARGS(bytes) : ARGS(1, bytes),
		     place(i)); /* one place calls one function */
	} else if (how == 0) {
		call(th, &fn_realloc, SITE_B, ARGS(place(i), bytes), FAILED);
		if (bytes)
			return;
	} else if (how == 1) {
		call(th, &fn_realloc, SITE_B, ARGS(place(i), bytes), bytes ? place(i) : FAILED);
	} else {
		call(th, &fn_free, SITE_C, ARGS(place(i)), 0);
		bytes = 0;
	}
	t->alloc += (double)bytes;
	t->live += (double)bytes - (double)t->bytes[i];
	t->bytes[i] = bytes;
}

static void expect_about(double estimate, double truth, double var)
{
	double se = sqrt(var) * R / SAMPLE_VAR_UNIT;

	if (fabs(estimate - truth) > 4 * se)
		fail_msg("%.0f for %.0f, standard error %.0f", estimate, truth, se);
	assert_true(se < truth / 4); /* else it says nothing */
}

static void test_adds_up(void **state)
{
	struct truth t = { 0 };
	struct thread *th[] = { f.th, thread_new(f.p), thread_new(f.p) };

	(void)state;
	dice = 88172645463325252ull;
	for (int i = 0; i < ROUNDS; i++) {
		proc_of(f.p)->rate = i / 500 % 3 + 1;
		act(&t, th[draw(3)], draw(PLACES));
	}
	books_check();
	struct sum s = sums_at(f.id, 0);
	expect_about((double)s.alloc_bytes, t.alloc, (double)s.alloc_var);
	expect_about((double)(s.alloc_bytes - s.free_bytes), t.live, (double)(s.alloc_var - s.gone_var));
	for (uint64_t i = 0; i < PLACES; i++)
		call(th[i % 3], &fn_free, SITE_C, ARGS(place(i)), 0);
	expect_all_gone();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAMPLED(test_counted_by_weight),
		SAMPLED(test_left_out),
		SAMPLED(test_where_the_point_lies),
		SAMPLED(test_large),
		SAMPLED(test_failed),
		SAMPLED(test_every_shape_sampled),
		SAMPLED(test_every_shape_left_out),
		SAMPLED(test_filter_is_asked),
		SAMPLED(test_filter_after_exact),
		SAMPLED(test_filter_has_ghosts),
		SAMPLED(test_filter_table_full),
		SAMPLED(test_filter_cell_full),
		SAMPLED(test_realloc_sampled_twice),
		SAMPLED(test_realloc_left_out_moved),
		SAMPLED(test_realloc_left_out_in_place),
		SAMPLED(test_realloc_left_out_fails),
		SAMPLED(test_realloc_left_out_to_nothing),
		SAMPLED(test_realloc_to_nothing),
		SAMPLED(test_realloc_of_unknown),
		SAMPLED(test_realloc_chain),
		SAMPLED(test_realloc_old_place_reused),
		SAMPLED(test_freed_elsewhere),
		SAMPLED(test_threads_apart),
		SAMPLED(test_no_thread_state),
		SAMPLED(test_new_decides),
		SAMPLED(test_new_left_out),
		SAMPLED(test_new_by_jumps),
		SAMPLED(test_new_aligned),
		SAMPLED(test_new_retries),
		SAMPLED(test_thread_ends_in_realloc),
		SAMPLED(test_thread_ends_in_left_out),
		SAMPLED(test_exec_in_realloc),
		SAMPLED(test_exec_in_left_out),
		SAMPLED(test_adds_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
