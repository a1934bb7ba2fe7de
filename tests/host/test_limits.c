/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The heap when tables are full or busy, and with several processes: fork, exec, vfork. */
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

/* --- limits and faults --- */
/* Blocks that fill the only bucket but for `room` places. */
static void fill_live(uint64_t room)
{
	world_shrink(1, 64);
	for (uint64_t i = 0; i < LIVE_WAYS - room; i++)
		do_malloc(SITE_B, 1, HEAP_BASE + 0x10000 + i * 16);
}

static void test_live_full(void **state)
{
	(void)state;
	fill_live(2);
	do_malloc(SITE_A, 10, P1);
	do_malloc(SITE_A, 20, P2);
	do_malloc(SITE_A, 30, P3);
	assert_null(live_at(f.id, P3));
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(60, 3), UNTRACKED(30, 1));
	assert_int_equal(loss_take(f.p, LOSS_LIVE_FULL), 1);
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_HEAP], 30 + LIVE_WAYS - 2);
	do_free(P3); /* can't be told from a block of before the attach */
	assert_int_equal(loss_take(f.p, LOSS_UNMATCHED_FREE), 1);
	do_free(P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(60, 3), FREES(10, 1), UNTRACKED(30, 1));
	do_malloc(SITE_A, 40, P3); /* a place that was given back */
	expect_live(P3, 40);
}

/* A failed realloc's old block finds its place in `live` taken by others: it lives on untracked; it was not freed. */
static void test_live_full_when_putting_back(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	fill_live(1);
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
	world_shrink(64, 1);
	do_malloc(SITE_A, 10, P1);
	do_malloc(SITE_B, 20, P2);
	assert_int_equal(loss_take(f.p, LOSS_SUMS_FULL), 1);
	assert_null(live_at(f.id, P2));
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1));
}

/* The new block finds no sum; the old one is gone all the same. */
static void test_sums_full_realloc(void **state)
{
	(void)state;
	world_shrink(64, 1);
	do_malloc(SITE_A, 100, P1);
	do_realloc(SITE_B, P1, 300, P2);
	assert_int_equal(loss_take(f.p, LOSS_SUMS_FULL), 1);
	assert_null(live_at(f.id, P1));
	assert_null(live_at(f.id, P2));
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1), FREES(100, 1));
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

/* A size that no machine has is known to fail; what is resized is known to go. */
static void test_no_return_sizes(void **state)
{
	(void)state;
	do_malloc(SITE_A, 100, P1);
	proc_of(f.p)->flags |= PROC_NO_RETURN;
	call(f.th, &fn_calloc, SITE_A, ARGS(1ull << 33, 1ull << 33), FAILED);
	call(f.th, &fn_realloc, SITE_B, ARGS(P1, UINT64_MAX), FAILED);
	EXPECT_SUMS(f.id, 0, ALLOCS(100, 1));
	expect_live(P1, 100);
	do_realloc(SITE_B, P1, 300, P2);
	assert_null(live_at(f.id, P1));
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(100, 1), FREES(100, 1));
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(300, 1), UNTRACKED(300, 1));
	assert_int_equal(proc_of(f.p)->live_bytes[LAYER_HEAP], 0);
	assert_int_equal(loss_take(f.p, LOSS_RETURN_UNSAFE), 3);
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
	assert_non_null(live_at(account_of(q), P1));
	EXPECT_SUMS(f.id, 0, ALLOCS(10, 1), FREES(10, 1));
	EXPECT_SUMS(account_of(q), 0, ALLOCS(500, 1));
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
	EXPECT_SUMS(account_of(child), 0, ALLOCS(20, 1));
	assert_int_equal(proc_of(child)->live_bytes[LAYER_HEAP], 20);
}

static void test_exec(void **state)
{
	(void)state;
	uint32_t before = f.id;

	do_malloc(SITE_A, 10, P1);
	do_malloc(SITE_A, 30, P3);
	process_exec(f.th);
	f.id = account_of(f.p);
	assert_int_not_equal(f.id, before);
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
	EXPECT_SUMS(account_of(child), 0, ALLOCS(40, 1));
	expect_live(P2, 20);
	do_free(P2);
	EXPECT_SUMS(f.id, 0, ALLOCS(30, 2), FREES(30, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_live_full),
		BOTH(test_live_full_when_putting_back),
		BOTH(test_missed_free),
		BOTH(test_sums_full),
		BOTH(test_sums_full_realloc),
		BOTH(test_no_thread_state),
		BOTH(test_no_return),
		BOTH(test_not_followed),
		BOTH(test_same_addresses),
		BOTH(test_fork_child_frees_inherited),
		BOTH(test_exec),
		BOTH(test_vfork),
		BOTH(test_no_return_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
