/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rates and windows change under the calls: what was counted goes as it came, by the weight that it was given then.
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

/* --- rates --- */
static void test_rate_changes_between(void **state)
{
	uint32_t *rate = &proc_of(f.p)->rate;

	(void)state;
	for (uint32_t later = 0; later <= RATE_MAX; later++) {
		*rate = 2;
		sampled_malloc(SITE_A, 100, P1);
		assert_int_equal(live_at(f.id, P1)->rate, 2);
		*rate = later;
		do_free(P1);
		expect_all_gone();
	}
}

/* Between the entry and the return the entry's holds. */
static void test_rate_changes_within(void **state)
{
	uint32_t *rate = &proc_of(f.p)->rate;

	(void)state;
	sample_next();
	call_begin(f.th, &fn_malloc, SITE_A, ARGS(100));
	*rate = 3;
	call_end(f.th, P1);
	assert_int_equal(live_at(f.id, P1)->rate, 1);
	*rate = 0;
	call_begin(f.th, &fn_malloc, SITE_A, ARGS(200));
	*rate = 1;
	call_end(f.th, P2);
	assert_int_equal(live_at(f.id, P2)->rate, 0);
	assert_int_equal(weight_at(P2).bytes, 200);
	sample_next();
	call_begin(f.th, &fn_new, SITE_A, ARGS(24));
	*rate = 0;
	call(f.th, &fn_malloc, INSIDE(fn_new), ARGS(24), P3);
	call_end(f.th, P3);
	assert_int_equal(live_at(f.id, P3)->rate, 1);
	do_free(P1);
	do_free(P2);
	do_free(P3);
	expect_all_gone();
}

/* Also of the calls inside one that was left out, and of one that is followed for the old block's sake. */
static void test_rate_changes_within_left_out(void **state)
{
	uint32_t *rate = &proc_of(f.p)->rate;

	(void)state;
	show_nesting(&fn_calloc, &fn_malloc, ARGS(1, 100));
	call_begin(f.th, &fn_calloc, SITE_A, ARGS(1, 100));
	*rate = 0;
	call(f.th, &fn_malloc, INSIDE(fn_calloc), ARGS(100), P1);
	call_end(f.th, P1);
	assert_int_equal(live_count(), 0);
	*rate = 1;
	sampled_malloc(SITE_C, 100, P2);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P2, 300));
	*rate = 0;
	call(f.th, &fn_malloc, INSIDE(fn_realloc), ARGS(300), P3);
	call_end(f.th, P3);
	expect_all_gone();
	struct thread *fresh = thread_new(f.p);
	*rate = 1;
	next_point(fresh, FAR_AWAY);
	call_begin(fresh, &fn_realloc, SITE_B, ARGS(P1, 300)); /* not known: no loss, whatever the rate is by then */
	*rate = 0;
	call_end(fresh, P1);
	*rate = 1;
	sample_next();
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 400));
	*rate = 0;
	call_end(f.th, P1);
	do_free(P1);
	expect_all_gone();
}

/* Another R needs another distance; without a change there is none. */
static void test_distance_of_a_rate(void **state)
{
	(void)state;
	sample_none();
	do_malloc(SITE_A, 1, P1);
	assert_int_equal(state_of(f.th)->left, FAR_AWAY - 1);
	proc_of(f.p)->rate = 8;
	do_malloc(SITE_A, 1, P1);
	assert_int_equal(state_of(f.th)->left_rate, 8);
	assert_true(state_of(f.th)->left < 100 * (R << 7)); /* e^-100 */
	proc_of(f.p)->rate = 0;
	do_malloc(SITE_A, 5, P2); /* every call */
	assert_int_equal(live_at(f.id, P2)->rate, 0);
	assert_int_equal(state_of(f.th)->left_rate, 8);
}

/* --- windows --- */
static void test_window_closed(void **state)
{
	uint64_t ends[2];

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	sampled_malloc(SITE_A, 200, P2);
	struct sum before = sums_at(f.id, 0);
	ends[0] = 0;
	ends[1] = host.now_ns; /* the clock moves on */
	for (int i = 0; i < 2; i++) {
		proc_of(f.p)->window_end_ns = ends[i];
		uint64_t sampled = proc_of(f.p)->sampled;
		for (int k = 0; k < SHAPE_CALLS; k++) {
			sample_next();
			shape_call(k);
		}
		assert_int_equal(proc_of(f.p)->sampled, sampled);
		assert_int_equal(live_count(), 2 - i);
		assert_int_equal(sums_at(f.id, 0).alloc_bytes, before.alloc_bytes);
		do_free(i ? P2 : P1);
	}
	expect_all_gone();
}

/* What was counted in a window goes whenever it does. */
static void test_window_closes(void **state)
{
	(void)state;
	proc_of(f.p)->window_end_ns = host.now_ns + 1000000;
	sampled_malloc(SITE_A, 100, P1);
	sampled_malloc(SITE_A, 200, P2);
	sample_next();
	call_begin(f.th, &fn_malloc, SITE_A, ARGS(50));
	host.now_ns += 1000000;
	call_end(f.th, P3); /* entered in the window */
	assert_int_equal(live_count(), 3);
	do_free(P1);
	sample_next();
	do_realloc(SITE_B, P2, 300, P2);
	do_free(P3);
	expect_all_gone();
	EXPECT_SUMS(f.id, SITE_B, ALLOCS(0, 0));
	proc_of(f.p)->window_end_ns = WINDOW_ALWAYS;
	sampled_malloc(SITE_B, 100, P1);
	expect_live(P1, 100);
}

/* Nothing inside a call that came too late counts in its place, also where the window opens meanwhile. */
static void test_window_opens_within(void **state)
{
	(void)state;
	show_nesting(&fn_calloc, &fn_malloc, ARGS(1, 100));
	proc_of(f.p)->window_end_ns = 0;
	sample_next();
	call_begin(f.th, &fn_calloc, SITE_A, ARGS(1, 100));
	proc_of(f.p)->window_end_ns = WINDOW_ALWAYS;
	sample_next();
	call(f.th, &fn_malloc, INSIDE(fn_calloc), ARGS(100), P1);
	call_end(f.th, P1);
	assert_int_equal(live_count(), 0);
}

/* A process that is born while user space opens windows has none yet. */
static void test_born_windowed(void **state)
{
	(void)state;
	config_set((struct config){ .sample_bytes = R, .rate = 3, .windowed = 1 });
	struct process *child = process_fork(f.th, false);
	assert_int_equal(proc_of(child)->window_end_ns, 0);
	assert_int_equal(proc_of(child)->rate, 3);
	frame_enter(child->leader, MAIN_AT);
	next_point(child->leader, 1);
	call(child->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	EXPECT_SUMS(account_of(child), 0, ALLOCS(0, 0));
}

static void test_scales(void **state)
{
	static const uint32_t shares[] = { 1, 3, SCALE_PER_OCTAVE, 2 * SCALE_PER_OCTAVE, SCALE_MAX };
	struct proc *p = proc_of(f.p);

	(void)state;
	for (size_t i = 0; i < (sizeof(shares) / sizeof(shares[0])); i++) {
		double scale = exp2((double)shares[i] / SCALE_PER_OCTAVE), plain = 100 / -expm1(-100.0 / R);
		p->scale = shares[i];
		struct sum before = sums_at(f.id, 0);
		sampled_malloc(SITE_A, 100, P1);
		struct sum after = sums_at(f.id, 0);
		double bytes = (double)(after.alloc_bytes - before.alloc_bytes),
		       count = (double)(after.alloc_count - before.alloc_count);
		assert_int_equal(live_at(f.id, P1)->scale, shares[i]);
		/* whole bytes and blocks, before scaling and after */
		assert_true(fabs(bytes - plain * scale) <= 1.1 * scale + 1);
		assert_true(fabs(count - plain / 100 * scale) <= 1.1 * scale + 1);
		assert_true(after.alloc_var - before.alloc_var > 0);
		p->scale = shares[(i + 1) % (sizeof(shares) / sizeof(shares[0]))];
		p->rate = 1 + (__u32)i;
		if (i % 2)
			do_free(P1);
		else
			do_realloc(SITE_B, P1, 0, FAILED);
		p->rate = 1;
		expect_all_gone();
	}
}

/* Weights are rounded twice, and are right in the mean. */
static void test_scale_in_the_mean(void **state)
{
	double plain = 100 / -expm1(-100.0 / R), scale = exp2(3.0 / SCALE_PER_OCTAVE), n = 500;

	(void)state;
	proc_of(f.p)->scale = 3;
	for (int i = 0; i < n; i++) {
		sampled_malloc(SITE_A, 100, P1);
		do_free(P1);
	}
	struct sum s = sums_at(f.id, 0);
	/* a rounding's standard error is at most half of what is rounded to: before scaling, and after */
	double se = hypot(scale / 2, 0.5) / sqrt(n);
	assert_true(fabs((double)s.alloc_count / n - plain / 100 * scale) < 4 * se);
	assert_true(fabs((double)s.alloc_bytes / n - plain * scale) < 4 * se + 1); /* scaled bytes are cut */
	expect_all_gone();
}

/* A large block is certain within its window, not that there was a window. */
static void test_scale_of_large(void **state)
{
	struct proc *p = proc_of(f.p);

	(void)state;
	p->scale = SCALE_PER_OCTAVE; /* half of the time */
	sampled_malloc(SITE_A, R * SAMPLE_X, P1);
	EXPECT_SUMS(f.id, SITE_A, ALLOCS(2 * R * SAMPLE_X, 2));
	/* (1 - 1/2) / (1/2)² = 2 times the square of its bytes, in squares of R / SAMPLE_VAR_UNIT */
	assert_int_equal(sums_at(f.id, 0).alloc_var, 2ull * SAMPLE_X * SAMPLE_X * SAMPLE_VAR_UNIT * SAMPLE_VAR_UNIT);
	p->scale = 0;
	do_free(P1);
	expect_all_gone();
}

/* The old block of a realloc that fails keeps its weight through another window. */
static void test_scale_put_back(void **state)
{
	struct proc *p = proc_of(f.p);

	(void)state;
	p->scale = 5;
	sampled_malloc(SITE_A, 100, P1);
	struct sample_weight w = weight_at(P1);
	p->scale = 9;
	sample_next();
	do_realloc(SITE_B, P1, 500, FAILED);
	assert_int_equal(weight_at(P1).bytes, w.bytes);
	assert_int_equal(weight_at(P1).count, w.count);
	assert_int_equal(weight_at(P1).var, w.var);
	do_free(P1);
	expect_all_gone();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAMPLED(test_rate_changes_between),
		SAMPLED(test_rate_changes_within),
		SAMPLED(test_rate_changes_within_left_out),
		SAMPLED(test_distance_of_a_rate),
		SAMPLED(test_window_closed),
		SAMPLED(test_window_closes),
		SAMPLED(test_window_opens_within),
		SAMPLED(test_born_windowed),
		SAMPLED(test_scales),
		SAMPLED(test_scale_in_the_mean),
		SAMPLED(test_scale_of_large),
		SAMPLED(test_scale_put_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
