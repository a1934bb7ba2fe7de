/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How often we were hit: told in steps, limited by user space (EVENT_SPENT). And when blocks were born: the clock as of the last tick. */
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
#include "sampled_fixture.h"

/* Calls that are left out, until the thread was hit so often. */
static void hit(struct thread *th, uint32_t times)
{
	next_point(th, FAR_AWAY);
	for (uint32_t i = 0; i < times; i++)
		call(th, &fn_malloc, SITE_A, ARGS(16), P1);
}

/* Takes the events that wait; all of them have to be EVENT_SPENT of the process. Gives their number. */
static int spent_events(void)
{
	uint64_t wake;
	int n = 0;

	for (struct event *e; (e = event_next(&wake)); n++) {
		assert_int_equal(e->kind, EVENT_SPENT);
		assert_int_equal(e->account, f.id);
		assert_true(id_equal(&e->id, &proc_of(f.p)->id));
		assert_int_equal(wake, BPF_RB_FORCE_WAKEUP);
		free(e);
	}
	return n;
}

static void test_in_steps(void **state)
{
	struct thread *other = thread_new(f.p);

	(void)state;
	hit(f.th, HITS_STEP - 1);
	hit(other, HITS_STEP - 1);
	assert_int_equal(proc_of(f.p)->hits, 0);
	call(other, &fn_free, SITE_C, ARGS(P1), 0);
	assert_int_equal(proc_of(f.p)->hits, HITS_STEP);
	hit(f.th, 2 * HITS_STEP + 1);
	assert_int_equal(proc_of(f.p)->hits, 4 * HITS_STEP);
	assert_int_equal(spent_events(), 0); /* without a limit */
}

/* Threads that live for a few calls each are paid for like others. */
static void test_short_threads(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		struct thread *th = thread_new(f.p);
		for (int k = 0; k < HITS_STEP + 7; k++)
			call(th, &fn_free, SITE_C, ARGS(P1), 0);
		thread_exit(th);
	}
	assert_int_equal(proc_of(f.p)->hits, 10 * (HITS_STEP + 7));
}

static void test_returns(void **state)
{
	(void)state;
	for (int i = 0; i < HITS_STEP; i++) {
		assert_int_equal(proc_of(f.p)->returns, 0);
		sampled_malloc(SITE_A, 16, P1);
		do_free(P1);
	}
	assert_int_equal(proc_of(f.p)->returns, HITS_STEP);
	hit(f.th, HITS_STEP); /* without sessions every call's return is paid for */
	assert_int_equal(proc_of(f.p)->returns, world.sessions ? HITS_STEP : 2 * HITS_STEP);
}

/* Of layers that are not observed there are none. */
static void test_not_asked_for(void **state)
{
	(void)state;
	hit(f.th, 1);
	proc_of(f.p)->flags = PROC_PYTHON;
	for (int i = 0; i < 2 * HITS_STEP; i++)
		do_free(P1);
	assert_int_equal(proc_of(f.p)->hits, 0);
	uint32_t zero = 0;
	assert_int_equal(((struct cpu_stat *)bpf_map_lookup_elem(&cpu_stats, &zero))->foreign_hits, 2 * HITS_STEP);
}

static void test_spent_once(void **state)
{
	(void)state;
	proc_of(f.p)->hits_limit = 2 * HITS_STEP;
	hit(f.th, 2 * HITS_STEP); /* all that it may */
	assert_int_equal(spent_events(), 0);
	hit(f.th, HITS_STEP);
	assert_int_equal(spent_events(), 1);
	assert_int_equal(proc_of(f.p)->spent, 1);
	hit(f.th, 10 * HITS_STEP);
	hit(thread_new(f.p), 10 * HITS_STEP);
	assert_int_equal(spent_events(), 0);
	proc_of(f.p)->spent = 0; /* user space has seen it, and allows no more */
	hit(f.th, HITS_STEP - 1);
	assert_int_equal(spent_events(), 0);
	hit(f.th, 1);
	assert_int_equal(spent_events(), 1);
	proc_of(f.p)->hits_limit = 100 * HITS_STEP;
	proc_of(f.p)->spent = 0;
	hit(f.th, 20 * HITS_STEP);
	assert_int_equal(spent_events(), 0);
}

static void test_spent_ring_full(void **state)
{
	(void)state;
	proc_of(f.p)->hits_limit = HITS_STEP;
	host.ring_full = true;
	hit(f.th, 3 * HITS_STEP);
	assert_int_equal(proc_of(f.p)->spent, 0);
	host.ring_full = false;
	hit(f.th, HITS_STEP);
	assert_int_equal(spent_events(), 1);
	hit(f.th, HITS_STEP);
	assert_int_equal(spent_events(), 0);
}

/* Another program image begins anew, and by no limit. */
static void test_spent_then_exec(void **state)
{
	(void)state;
	proc_of(f.p)->hits_limit = HITS_STEP;
	hit(f.th, 2 * HITS_STEP);
	assert_int_equal(spent_events(), 1);
	proc_of(f.p)->flags |= PROC_FOLLOW;
	process_exec(f.th);
	uint64_t wake;
	struct event *e = event_next(&wake);
	assert_int_equal(e->kind, EVENT_EXEC);
	free(e);
	f.id = account_of(f.p);
	assert_int_equal(proc_of(f.p)->spent + proc_of(f.p)->hits + proc_of(f.p)->hits_limit, 0);
	proc_of(f.p)->rate = 1;
	frame_enter(f.th, MAIN_AT);
	hit(f.th, 2 * HITS_STEP);
	assert_int_equal(spent_events(), 0);
}

/* --- births --- */
#define MS 1000000ull
#define JIFFIES_AT_BOOT (0x100000000ull - 300 * 250) /* include/linux/jiffies.h: INITIAL_JIFFIES */

static uint32_t born(void)
{
	sampled_malloc(SITE_A, 100, P1);
	return live_at(f.id, P1)->birth_ms;
}

static void tick_on(uint64_t ticks)
{
	host.jiffies += ticks;
	host.now_ns += ticks * 4 * MS;
}

static void test_birth_by_ticks(void **state)
{
	(void)state;
	config_set((struct config){ .sample_bytes = R, .tick_us = 4000 });
	host.jiffies = JIFFIES_AT_BOOT;
	host.now_ns = 5000 * MS;
	for (uint64_t ticks = 0; ticks < 400; ticks += 1 + ticks % 100) {
		tick_on(ticks);
		uint64_t now = host.now_ns / MS, at = born();
		assert_in_range(at, now - 1, now + 1);
	}
	host.now_ns += 3 * MS; /* no tick yet */
	assert_in_range(born(), host.now_ns / MS - 4, host.now_ns / MS);
}

/* 32 bits of milliseconds are 49 days. */
static void test_birth_wraps(void **state)
{
	(void)state;
	config_set((struct config){ .sample_bytes = R, .tick_us = 4000 });
	host.jiffies = JIFFIES_AT_BOOT;
	host.now_ns = (0x100000000ull - 8) * MS;
	assert_int_equal(born(), 0xfffffff8);
	tick_on(3);
	assert_int_equal(born(), 4);
	tick_on(100);
	assert_int_equal(born(), 404);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAMPLED(test_in_steps),	       SAMPLED(test_short_threads),  SAMPLED(test_returns),
		SAMPLED(test_not_asked_for),   SAMPLED(test_spent_once),     SAMPLED(test_spent_ring_full),
		SAMPLED(test_spent_then_exec), SAMPLED(test_birth_by_ticks), SAMPLED(test_birth_wraps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
