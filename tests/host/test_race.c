/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two threads meet: while one is in a call, the other makes a whole call of its own. Tried at each point of the first
 * where the kernel side could be interrupted, one after the other.
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

#define MAIN_AT (PROG_TEXT + 0x100)
#define SITE_A (PROG_TEXT + 0x1000)
#define P1 (HEAP_BASE + 0x1000)
#define P2 (HEAP_BASE + 0x2000)
#define P3 (HEAP_BASE + 0x3000)
#define CGROUP 4711

struct meeting {
	struct process *p;
	struct thread *first, *second;
	void (*act)(struct thread *th); /* what the second does */
	int left;			/* points until then; 0: it is done */
	bool entering;			/* the first was just then entering its process, which nobody could see yet */
};

static struct meeting m;

static void at_point(void)
{
	struct task_struct *task = host_task;

	if (!m.left || --m.left)
		return;
	m.entering = adopting && proc_find(m.p->pid) == NO_SLOT;
	m.act(m.second);
	host_task = task;
}

static void setup(uint32_t flags)
{
	world_init(true);
	m.p = process_new();
	m.first = m.p->leader;
	m.second = thread_new(m.p);
	if (flags) {
		be(m.first);
		process_follow(m.p, flags);
	}
	frame_enter(m.first, MAIN_AT);
	frame_enter(m.second, MAIN_AT);
}

/* Runs `first` with the other's call at point n. False: it has no such point. */
static bool meet(int n, void (*first)(struct thread *th), void (*second)(struct thread *th))
{
	m.act = second;
	m.left = n;
	m.entering = false;
	host.at_point = at_point;
	first(m.first);
	host.at_point = NULL;
	return !m.left;
}

static void alloc_p1(struct thread *th)
{
	call(th, &fn_malloc, SITE_A, ARGS(100), P1);
}

static void alloc_p2(struct thread *th)
{
	call(th, &fn_malloc, SITE_A, ARGS(50), P2);
}

static void free_p3(struct thread *th)
{
	call(th, &fn_free, SITE_A, ARGS(P3), 0);
}

static void realloc_p3(struct thread *th)
{
	call(th, &fn_realloc, SITE_A, ARGS(P3, 70), P1);
}

static void done(void)
{
	books_check();
	expect_no_loss();
}

/* Both show a stack that nobody has seen: as threads of a pool do that start together. */
static void test_new_stack(void **state)
{
	(void)state;
	bool met = true;

	for (int n = 1; met; n++) {
		setup(PROC_HEAP);
		met = meet(n, alloc_p1, alloc_p2);
		if (!met)
			alloc_p2(m.second);
		EXPECT_SUMS(account_of(m.p), SITE_A, ALLOCS(150, 2));
		assert_int_equal(live_count(), 2);
		done();
	}
	world_done();
}

static void test_alloc_and_free(void **state)
{
	(void)state;
	bool met = true;

	for (int n = 1; met; n++) {
		setup(PROC_HEAP);
		call(m.first, &fn_malloc, SITE_A, ARGS(30), P3);
		met = meet(n, alloc_p1, free_p3);
		if (!met)
			free_p3(m.second);
		EXPECT_SUMS(account_of(m.p), SITE_A, ALLOCS(130, 2), FREES(30, 1));
		assert_int_equal(live_count(), 1);
		done();
	}
	world_done();
}

/* Sampled blocks whose cells lie in one word of the filter: what one thread counts there, the other does not undo. */
#define NEAR_P1 (P1 + 0x10)

static void setup_sampled(void)
{
	setup(PROC_HEAP);
	config_set((struct config){ .sample_bytes = 1 }); /* as good as certain for each call */
	proc_of(m.p)->rate = 1;
	__u64 a = live_key(P1, LAYER_HEAP, account_of(m.p)), b = live_key(NEAR_P1, LAYER_HEAP, account_of(m.p));
	assert_ptr_equal(live_cell_word(live_filter, live_cell(a)), live_cell_word(live_filter, live_cell(b)));
	assert_int_not_equal(live_cell(a), live_cell(b));
}

static void free_near_p1(struct thread *th)
{
	call(th, &fn_free, SITE_A, ARGS(NEAR_P1), 0);
}

static void realloc_near_p1(struct thread *th)
{
	call(th, &fn_realloc, SITE_A, ARGS(NEAR_P1, 70), P2);
}

static void alloc_and_free_p1(struct thread *th)
{
	alloc_p1(th);
	call(th, &fn_free, SITE_A, ARGS(P1), 0);
}

static void meet_sampled(void (*first)(struct thread *th), void (*second)(struct thread *th), struct sum want,
			 uint32_t left)
{
	bool met = true;

	for (int n = 1; met; n++) {
		setup_sampled();
		call(m.first, &fn_malloc, SITE_A, ARGS(40), NEAR_P1);
		met = meet(n, first, second);
		if (!met)
			second(m.second);
		expect_sums(account_of(m.p), SITE_A, want);
		assert_int_equal(live_count(), left);
		done();
	}
	world_done();
}

static void test_sampled(void **state)
{
	(void)state;
	meet_sampled(alloc_p1, free_near_p1, (struct sum){ ALLOCS(140, 2), FREES(40, 1) }, 1);
	meet_sampled(free_near_p1, alloc_p1, (struct sum){ ALLOCS(140, 2), FREES(40, 1) }, 1);
	meet_sampled(alloc_p1, realloc_near_p1, (struct sum){ ALLOCS(210, 3), FREES(40, 1) }, 2);
	meet_sampled(free_near_p1, alloc_and_free_p1, (struct sum){ ALLOCS(140, 2), FREES(140, 2) }, 0);
}

static void test_realloc_and_alloc(void **state)
{
	(void)state;
	bool met = true;

	for (int n = 1; met; n++) {
		setup(PROC_HEAP);
		call(m.first, &fn_malloc, SITE_A, ARGS(30), P3);
		met = meet(n, realloc_p3, alloc_p2);
		if (!met)
			alloc_p2(m.second);
		EXPECT_SUMS(account_of(m.p), SITE_A, ALLOCS(150, 3), FREES(30, 1));
		assert_int_equal(live_count(), 2);
		done();
	}
	world_done();
}

/* One account, told of once; calls made while it was entered are before the attach, all others exact. */
static void expect_adopted(bool second_counted)
{
	uint64_t wake, n = second_counted ? 2 : 1, bytes = second_counted ? 150 : 100;

	for_each_elem(&sums, e)
	{
		const struct sum *s = e->value;
		assert_true(!s->key || s->account == account_of(m.p));
	}
	assert_int_equal(loss_take(m.p, LOSS_LATE_ATTACH), 1);
	EXPECT_SUMS(account_of(m.p), SITE_A, ALLOCS(bytes, n));
	assert_int_equal(live_count(), n);
	uint32_t kinds = 0;
	for (struct event *e; (e = event_next(&wake)); free(e)) {
		assert_int_equal(e->account, account_of(m.p));
		assert_false(kinds & 1u << e->kind);
		kinds |= 1u << e->kind;
	}
	assert_int_equal(kinds, 1u << EVENT_EXEC | 1u << EVENT_LAYOUT); /* nothing is known of its code */
	call(m.first, &fn_free, SITE_A, ARGS(P2), 0);
	call(m.second, &fn_free, SITE_A, ARGS(P1), 0);
	assert_int_equal(loss_take(m.p, LOSS_UNMATCHED_FREE), !second_counted);
	EXPECT_SUMS(account_of(m.p), SITE_A, ALLOCS(bytes, n), FREES(bytes, n));
	call(m.second, &fn_malloc, SITE_A, ARGS(7), P3);
	EXPECT_SUMS(account_of(m.p), SITE_A, ALLOCS(bytes + 7, n + 1), FREES(bytes, n));
}

/* Two threads of a process that is adopted from a cgroup are its first sight at once: it is one process. */
static void test_adoption(void **state)
{
	(void)state;
	bool met = true;
	int missed = 0;

	for (int n = 1; met; n++) {
		setup(0);
		m.first->task.cgroups[1] = m.second->task.cgroups[1] = CGROUP;
		config_set((struct config){ .cgroup_id = CGROUP, .cgroup_level = 1, .adopt_flags = PROC_HEAP });
		met = meet(n, alloc_p1, alloc_p2);
		if (!met)
			alloc_p2(m.second);
		expect_adopted(!m.entering);
		assert_int_equal(adopting, 0);
		missed += m.entering;
		done();
	}
	assert_true(missed > 0); /* both ways were tried */
	world_done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_stack), cmocka_unit_test(test_alloc_and_free),
		cmocka_unit_test(test_sampled),	  cmocka_unit_test(test_realloc_and_alloc),
		cmocka_unit_test(test_adoption),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
