/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ranges: each rule of ranges.h by example. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <linux/mman.h>

#include "collect/ranges.h"

#define PG 4096ull
#define BASE 0x10000000ull

enum { STACK_A = 0x101, STACK_B = 0x201, STACK_C = 0x301, STACK_BRK = 0x401 };

static const struct proc_key self = { .start_ticks = 77, .pid = 100, .image = 1 };

static struct event map_event(enum event_kind kind, uint32_t tid, uint64_t ts)
{
	struct event e = { .kind = kind, .tid = tid, .id = self, .ts_ns = ts };

	e.map.fd = -1;
	return e;
}

static void do_mmap(struct ranges *r, uint64_t page, uint64_t pages, uint64_t stack, uint64_t ts)
{
	struct event e = map_event(EVENT_MMAP, 1, ts);

	e.map.addr = BASE + page * PG;
	e.map.bytes = pages * PG;
	e.map.ids.id = stack;
	e.map.mmap_flags = MAP_ANONYMOUS;
	ranges_step(r, &e);
}

static void do_munmap(struct ranges *r, uint32_t tid, uint64_t page, uint64_t pages)
{
	struct event e = map_event(EVENT_MUNMAP, tid, 0);

	e.map.addr = e.map.old_addr = BASE + page * PG;
	e.map.bytes = e.map.old_bytes = pages * PG;
	ranges_step(r, &e);
}

static void do_mremap(struct ranges *r, uint32_t tid, uint64_t page, uint64_t pages, uint32_t flags)
{
	struct event e = map_event(EVENT_MREMAP, tid, 0);

	e.map.old_addr = BASE + page * PG;
	e.map.old_bytes = pages * PG;
	e.map.mmap_flags = flags;
	ranges_step(r, &e);
}

static void do_moved(struct ranges *r, uint32_t tid, uint64_t page, uint64_t pages, uint64_t stack)
{
	struct event e = map_event(EVENT_MREMAP_DONE, tid, 0);

	e.map.addr = BASE + page * PG;
	e.map.bytes = pages * PG;
	e.map.ids.id = stack;
	ranges_step(r, &e);
}

static void do_undo(struct ranges *r, uint32_t tid)
{
	struct event e = map_event(EVENT_UNDO, tid, 0);

	ranges_step(r, &e);
}

static void do_brk(struct ranges *r, uint64_t from, uint64_t to)
{
	struct event e = map_event(EVENT_BRK, 1, 0);

	e.map.old_addr = from;
	e.map.addr = to;
	e.map.ids.id = STACK_BRK;
	ranges_step(r, &e);
}

struct wanted {
	uint64_t stack;
	struct range_sum got;
	bool found;
	uint64_t live_total;
};

static void pick(const struct range_sum *s, void *ctx)
{
	struct wanted *w = ctx;
	const struct sum *c = &s->sum;

	assert_true(c->alloc_bytes >= c->free_bytes + c->untracked_bytes);
	assert_true(c->alloc_count >= c->free_count + c->untracked_count);
	w->live_total += c->alloc_bytes - c->free_bytes - c->untracked_bytes;
	if (s->ids.id != w->stack)
		return;
	w->got = *s;
	w->found = true;
}

/* The sums of one stack; also checks that live of all stacks is the process's. */
static struct range_sum sum_of(const struct ranges *r, uint64_t stack)
{
	struct wanted w = { .stack = stack };
	struct range_proc p;

	ranges_each(r, pick, &w);
	assert_int_equal(ranges_proc(r, &self, &p), 0);
	assert_int_equal(p.live_bytes, w.live_total);
	assert_true(p.peak_live_bytes >= p.live_bytes);
	return w.got;
}

static uint64_t live_of(const struct ranges *r, uint64_t stack)
{
	struct range_sum s = sum_of(r, stack);

	return s.sum.alloc_bytes - s.sum.free_bytes;
}

static uint64_t unmatched(const struct ranges *r)
{
	struct range_proc p = { 0 };

	assert_int_equal(ranges_proc(r, &self, &p), 0);
	return p.unmatched_bytes;
}

static void count_live(uint64_t start, uint64_t bytes, uint64_t stack_id, uint64_t birth_ns, void *ctx)
{
	(void)start;
	(void)bytes;
	(void)stack_id;
	(void)birth_ns;
	++*(size_t *)ctx;
}

static size_t n_ranges(const struct ranges *r)
{
	size_t n = 0;

	ranges_each_live(r, &self, count_live, &n);
	return n;
}

static void split_counts_once(void **state)
{
	struct ranges *r = ranges_new();
	struct range_sum s;

	(void)state;
	do_mmap(r, 0, 10, STACK_A, 5);
	do_munmap(r, 1, 4, 2);
	s = sum_of(r, STACK_A);
	assert_int_equal(n_ranges(r), 2);
	assert_int_equal(s.sum.free_bytes, 2 * PG);
	assert_int_equal(s.sum.free_count, 0);
	do_munmap(r, 1, 0, 4);
	assert_int_equal(sum_of(r, STACK_A).sum.free_count, 0);
	do_munmap(r, 1, 6, 4);
	s = sum_of(r, STACK_A);
	assert_int_equal(s.sum.free_count, 1);
	assert_int_equal(s.sum.alloc_count, 1);
	assert_int_equal(s.sum.free_bytes, 10 * PG);
	assert_int_equal(s.sum.peak_live_bytes, 10 * PG);
	assert_int_equal(s.oldest_birth_ns, 0);
	ranges_free(r);
}

static void lengths_are_whole_pages(void **state)
{
	struct ranges *r = ranges_new();
	struct event e = map_event(EVENT_MMAP, 1, 1);

	(void)state;
	e.map.addr = BASE;
	e.map.bytes = 1;
	e.map.ids.id = STACK_A;
	ranges_step(r, &e);
	assert_int_equal(live_of(r, STACK_A), PG);
	e.kind = EVENT_MUNMAP;
	e.map.bytes = PG - 1;
	ranges_step(r, &e);
	assert_int_equal(live_of(r, STACK_A), 0);
	e.kind = EVENT_MMAP;
	e.map.mmap_flags = MAP_HUGETLB | MAP_ANONYMOUS; /* no size in the flags: 2 MiB */
	e.map.addr = 1ull << 30;
	ranges_step(r, &e);
	assert_int_equal(live_of(r, STACK_A), 2ull << 20);
	ranges_free(r);
}

static void fixed_mapping_frees_what_it_covers(void **state)
{
	struct ranges *r = ranges_new();

	(void)state;
	do_mmap(r, 0, 4, STACK_A, 1);
	do_mmap(r, 4, 4, STACK_B, 2);
	do_mmap(r, 2, 4, STACK_C, 3);
	assert_int_equal(live_of(r, STACK_A), 2 * PG);
	assert_int_equal(live_of(r, STACK_B), 2 * PG);
	assert_int_equal(live_of(r, STACK_C), 4 * PG);
	assert_int_equal(unmatched(r), 0);
	do_mmap(r, 0, 8, STACK_C, 4);
	assert_int_equal(sum_of(r, STACK_A).sum.free_count, 1);
	assert_int_equal(sum_of(r, STACK_C).sum.free_count, 1);
	assert_int_equal(live_of(r, STACK_C), 8 * PG);
	assert_int_equal(n_ranges(r), 1);
	ranges_free(r);
}

static void undo_puts_back_exactly(void **state)
{
	struct ranges *r = ranges_new();
	struct range_sum before, after;

	(void)state;
	do_mmap(r, 0, 4, STACK_A, 1);
	do_mmap(r, 6, 4, STACK_B, 2);
	before = sum_of(r, STACK_A);
	do_munmap(r, 1, 0, 20);
	assert_int_equal(live_of(r, STACK_A), 0);
	assert_int_equal(unmatched(r), 12 * PG);
	do_undo(r, 1);
	after = sum_of(r, STACK_A);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(live_of(r, STACK_B), 4 * PG);
	assert_int_equal(unmatched(r), 0);
	assert_int_equal(n_ranges(r), 2);
	do_munmap(r, 1, 1, 2); /* the middle: what comes back joins again */
	assert_int_equal(n_ranges(r), 3);
	do_undo(r, 1);
	assert_int_equal(n_ranges(r), 2);
	do_undo(r, 1); /* only the last announcement can be undone, once */
	assert_int_equal(live_of(r, STACK_A), 4 * PG);
	ranges_free(r);
}

static void undo_is_per_thread_and_ends_with_the_next_event(void **state)
{
	struct ranges *r = ranges_new();

	(void)state;
	do_mmap(r, 0, 2, STACK_A, 1);
	do_mmap(r, 2, 2, STACK_B, 1);
	do_munmap(r, 7, 0, 2);
	do_munmap(r, 8, 2, 2);
	do_undo(r, 7);
	assert_int_equal(live_of(r, STACK_A), 2 * PG);
	assert_int_equal(live_of(r, STACK_B), 0);
	do_munmap(r, 8, 100, 1);
	do_undo(r, 8); /* of page 100: B's went for good */
	assert_int_equal(live_of(r, STACK_B), 0);
	assert_int_equal(unmatched(r), 0);
	ranges_free(r);
}

static void undo_is_of_the_same_process(void **state)
{
	struct ranges *r = ranges_new();
	struct proc_key other = { .start_ticks = 78, .pid = 200, .image = 1 };
	struct event e = map_event(EVENT_UNDO, 7, 2);
	struct range_proc p;

	(void)state;
	do_mmap(r, 0, 4, STACK_A, 1);
	do_munmap(r, 7, 0, 4);
	e.id = other; /* the thread's number came again, and its own announcement was lost */
	ranges_step(r, &e);
	assert_int_equal(live_of(r, STACK_A), 0);
	assert_int_equal(ranges_proc(r, &other, &p), 0);
	assert_int_equal(p.live_bytes, 0);
	ranges_free(r);
}

static void undo_leaves_what_others_mapped_since(void **state)
{
	struct ranges *r = ranges_new();

	(void)state;
	do_mmap(r, 0, 10, STACK_A, 1);
	do_munmap(r, 7, 0, 10);
	do_mmap(r, 3, 2, STACK_B, 2); /* another thread, MAP_FIXED */
	do_undo(r, 7);
	assert_int_equal(live_of(r, STACK_A), 8 * PG);
	assert_int_equal(live_of(r, STACK_B), 2 * PG);
	assert_int_equal(sum_of(r, STACK_A).sum.free_bytes, 2 * PG);
	assert_int_equal(sum_of(r, STACK_A).sum.free_count, 0);
	ranges_free(r);
}

static void mremap_is_like_realloc(void **state)
{
	struct ranges *r = ranges_new();
	struct range_sum s;

	(void)state;
	do_mmap(r, 0, 4, STACK_A, 1);
	do_mremap(r, 1, 0, 4, MREMAP_MAYMOVE);
	do_moved(r, 1, 50, 8, STACK_B);
	s = sum_of(r, STACK_A);
	assert_int_equal(s.sum.free_count, 1);
	assert_int_equal(live_of(r, STACK_A), 0);
	assert_int_equal(live_of(r, STACK_B), 8 * PG);
	do_mremap(r, 1, 50, 8, 0);
	do_undo(r, 1);
	assert_int_equal(live_of(r, STACK_B), 8 * PG);
	assert_int_equal(sum_of(r, STACK_B).sum.free_count, 0);
	do_mremap(r, 1, 50, 8, 0); /* shrinks in place */
	do_moved(r, 1, 50, 2, STACK_B);
	assert_int_equal(live_of(r, STACK_B), 2 * PG);
	assert_int_equal(sum_of(r, STACK_B).sum.alloc_count, 2);
	ranges_free(r);
}

static void mremap_of_what_was_there_before(void **state)
{
	struct ranges *r = ranges_new();

	(void)state;
	do_mremap(r, 1, 0, 4, MREMAP_MAYMOVE);
	do_moved(r, 1, 20, 6, STACK_A);
	assert_int_equal(unmatched(r), 4 * PG);
	assert_int_equal(live_of(r, STACK_A), 6 * PG);
	ranges_free(r);
}

static void mremap_that_keeps_the_old_range(void **state)
{
	struct ranges *r = ranges_new();

	(void)state;
	do_mmap(r, 0, 4, STACK_A, 1);
	do_mremap(r, 1, 0, 0, MREMAP_MAYMOVE);
	do_moved(r, 1, 10, 4, STACK_B);
	assert_int_equal(live_of(r, STACK_A), 4 * PG);
	assert_int_equal(live_of(r, STACK_B), 4 * PG);
	do_mremap(r, 1, 0, 4, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	do_moved(r, 1, 20, 4, STACK_B);
	assert_int_equal(live_of(r, STACK_A), 4 * PG);
	assert_int_equal(live_of(r, STACK_B), 8 * PG);
	assert_int_equal(unmatched(r), 0);
	ranges_free(r);
}

static void file_mappings_stay_files(void **state)
{
	struct ranges *r = ranges_new();
	struct event e = map_event(EVENT_MMAP, 1, 1);

	(void)state;
	e.map.addr = BASE;
	e.map.bytes = 4 * PG;
	e.map.ids.id = STACK_A;
	e.map.fd = 3;
	ranges_step(r, &e);
	assert_int_equal(sum_of(r, STACK_A).file_live_bytes, 4 * PG);
	do_mremap(r, 1, 0, 4, MREMAP_MAYMOVE);
	do_moved(r, 1, 10, 6, STACK_B);
	assert_int_equal(sum_of(r, STACK_A).file_live_bytes, 0);
	assert_int_equal(sum_of(r, STACK_B).file_live_bytes, 6 * PG);
	e.map.mmap_flags = MAP_ANONYMOUS; /* the descriptor is ignored then */
	ranges_step(r, &e);
	assert_int_equal(sum_of(r, STACK_A).file_live_bytes, 0);
	ranges_free(r);
}

static void brk_grows_and_shrinks_at_its_end(void **state)
{
	struct ranges *r = ranges_new();
	uint64_t at = BASE + 0x123; /* the end before the attach: not on a page */

	(void)state;
	do_brk(r, at, at);
	do_brk(r, at, at + 8); /* same page */
	assert_int_equal(sum_of(r, STACK_BRK).sum.alloc_count, 0);
	do_brk(r, at, BASE + 5 * PG);
	assert_int_equal(live_of(r, STACK_BRK), 4 * PG);
	do_brk(r, BASE + 5 * PG, BASE + 7 * PG);
	assert_int_equal(sum_of(r, STACK_BRK).sum.alloc_count, 2);
	do_brk(r, BASE + 7 * PG, BASE + 4 * PG);
	assert_int_equal(live_of(r, STACK_BRK), 3 * PG);
	assert_int_equal(sum_of(r, STACK_BRK).sum.free_count, 1);
	do_brk(r, BASE + 4 * PG, BASE - 2 * PG);
	assert_int_equal(live_of(r, STACK_BRK), 0);
	assert_int_equal(unmatched(r), 3 * PG);
	ranges_free(r);
}

static void end_keeps_the_last_figures(void **state)
{
	struct ranges *r = ranges_new();
	struct event e = map_event(EVENT_EXIT, 1, 9);
	struct range_proc p;

	(void)state;
	do_mmap(r, 0, 4, STACK_A, 1);
	do_munmap(r, 5, 0, 1);
	e.final.flags = PROC_BORROWS_MM; /* a vfork child is gone, its parent goes on */
	ranges_step(r, &e);
	do_undo(r, 5);
	assert_int_equal(live_of(r, STACK_A), 4 * PG);
	e.final.flags = 0;
	ranges_step(r, &e);
	do_mmap(r, 10, 4, STACK_A, 1);
	assert_int_equal(live_of(r, STACK_A), 4 * PG);
	ranges_forget(r, &self);
	assert_int_equal(ranges_proc(r, &self, &p), -ENOENT);
	ranges_forget(r, &self);
	ranges_free(r);
	ranges_free(NULL);
}

static void exec_ends_only_the_same_process(void **state)
{
	struct ranges *r = ranges_new();
	struct event e = map_event(EVENT_EXEC, 1, 9);

	(void)state;
	do_mmap(r, 0, 4, STACK_A, 1);
	e.life.other = self;
	e.id.pid = 101; /* a vfork child that was booked on us */
	ranges_step(r, &e);
	do_mmap(r, 4, 1, STACK_A, 1);
	assert_int_equal(live_of(r, STACK_A), 5 * PG);
	e.id.pid = 100;
	e.id.image = 2;
	ranges_step(r, &e);
	do_mmap(r, 5, 1, STACK_A, 1);
	assert_int_equal(live_of(r, STACK_A), 5 * PG);
	ranges_free(r);
}

static void births_and_ages(void **state)
{
	struct ranges *r = ranges_new();

	(void)state;
	do_mmap(r, 0, 1, STACK_A, 10);
	do_mmap(r, 1, 1, STACK_A, 20);
	do_mmap(r, 2, 1, STACK_A, 30);
	assert_int_equal(n_ranges(r), 3); /* they touch, but are three allocations */
	do_munmap(r, 1, 0, 1);
	assert_int_equal(sum_of(r, STACK_A).oldest_birth_ns, 20);
	assert_int_equal(sum_of(r, STACK_A).newest_birth_ns, 30);
	ranges_free(r);
}

static void too_many_ranges_are_untracked(void **state)
{
	enum { MAX = 4 * 65536 };
	struct ranges *r = ranges_new();
	struct range_sum s;

	(void)state;
	for (uint64_t i = MAX + 10; i > 0; i--)
		do_mmap(r, 2 * (MAX + 10 - i), 1, STACK_A, i);
	s = sum_of(r, STACK_A);
	assert_int_equal(s.sum.alloc_count, MAX + 10);
	assert_int_equal(s.sum.untracked_count, 10);
	assert_int_equal(s.sum.untracked_bytes, 10 * PG);
	assert_int_equal(n_ranges(r), MAX);
	do_munmap(r, 1, 0, 2 * MAX);
	assert_int_equal(n_ranges(r), 0);
	do_undo(r, 1);
	assert_int_equal(n_ranges(r), MAX);
	ranges_free(r);
}

static void pending_threads_are_bounded(void **state)
{
	enum { THREADS = 5000 };
	struct ranges *r = ranges_new();

	(void)state;
	do_mmap(r, 0, THREADS, STACK_A, 1);
	for (uint32_t i = 0; i < THREADS; i++)
		do_munmap(r, 1000 + i, i, 1);
	for (uint32_t i = 0; i < THREADS; i++)
		do_undo(r, 1000 + i);
	assert_int_equal(live_of(r, STACK_A), 4096 * PG);
	ranges_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_counts_once),
		cmocka_unit_test(lengths_are_whole_pages),
		cmocka_unit_test(fixed_mapping_frees_what_it_covers),
		cmocka_unit_test(undo_puts_back_exactly),
		cmocka_unit_test(undo_is_per_thread_and_ends_with_the_next_event),
		cmocka_unit_test(undo_is_of_the_same_process),
		cmocka_unit_test(undo_leaves_what_others_mapped_since),
		cmocka_unit_test(mremap_is_like_realloc),
		cmocka_unit_test(mremap_of_what_was_there_before),
		cmocka_unit_test(mremap_that_keeps_the_old_range),
		cmocka_unit_test(file_mappings_stay_files),
		cmocka_unit_test(brk_grows_and_shrinks_at_its_end),
		cmocka_unit_test(end_keeps_the_last_figures),
		cmocka_unit_test(exec_ends_only_the_same_process),
		cmocka_unit_test(births_and_ages),
		cmocka_unit_test(too_many_ranges_are_untracked),
		cmocka_unit_test(pending_threads_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
