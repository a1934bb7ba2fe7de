/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The consecutive-check rule over synthetic snapshots: what has to fire, what must not, whom it names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/leak.h"
#include "model/model.h"
#include "model/series.h"
#include "snapshot_fixture.h"

#define MIB (1ull << 20)
#define ALERTS_MAX 32

/* An alert, without what dies with the model. */
struct seen_alert {
	struct alert a;
	char message[512];
	double at_s;
};

struct fixture {
	struct synth *world;
	struct history *history;
	struct leak_watch *watch;
	double now_s;
	struct seen_alert seen[ALERTS_MAX];
	size_t n_seen;
};

static struct fixture *with_rule(struct leak_rule rule)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->world = synth_new();
	f->history = history_new(60);
	f->watch = leak_watch_new(&rule);
	return f;
}

static void drop(struct fixture *f)
{
	leak_watch_free(f->watch);
	history_free(f->history);
	synth_free(f->world);
	free(f);
}

/* One second later, one check. */
static void check(struct fixture *f)
{
	struct snapshot *s = synth_snapshot(f->world, f->now_s);
	struct model *m;

	assert_int_equal(model_build(s, f->history, f->watch, &m), 0);
	for (size_t i = 0; i < m->n_alerts; i++) {
		struct seen_alert *a = &f->seen[f->n_seen++];

		assert_true(f->n_seen <= ALERTS_MAX);
		a->a = m->alerts[i];
		a->at_s = f->now_s;
		strncpy(a->message, m->alerts[i].message, sizeof(a->message) - 1);
	}
	model_free(m);
	synth_snapshot_free(s);
	f->now_s++;
}

/* Checks a heap whose live bytes take these values one after the other. */
static void run_heap(struct fixture *f, struct snap_stack *s, const uint64_t *live, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t before = s->counts.live_bytes;

		if (live[i] > before)
			synth_alloc(s, live[i] - before);
		else if (live[i] < before)
			synth_release(s, before - live[i]);
		check(f);
	}
}

static struct snap_stack *one_process(struct fixture *f)
{
	synth_proc(f->world, 42);
	return synth_stack(f->world, 42, LAYER_HEAP, 0xabc2);
}

static void steady_leak_fires_once(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_stack *s = one_process(f);
	uint64_t live[50];
	double v = (double)(100 * MIB);

	(void)state;
	for (size_t i = 0; i < 50; i++, v *= 1.03)
		live[i] = (uint64_t)v;
	run_heap(f, s, live, 3);
	assert_false(leak_watch_found(f->watch));
	run_heap(f, s, live + 3, 47);
	assert_true(leak_watch_found(f->watch));
	assert_int_equal(f->n_seen, 1);

	const struct alert *a = &f->seen[0].a;

	assert_true(f->seen[0].at_s == 3);
	assert_int_equal(a->state, ALERT_FIRING);
	assert_string_equal(a->kind, "leak");
	assert_string_equal(a->severity, "critical");
	assert_int_equal(a->id.pid, 42);
	assert_int_equal(a->layer, LAYER_HEAP);
	assert_int_equal(a->stack_id, 0xabc2);
	assert_int_equal(a->checks, 3);
	assert_int_equal(a->bytes_before, live[0]);
	assert_int_equal(a->bytes_now, live[3]);
	assert_int_equal(a->live_bytes, live[3]);
	assert_true(a->first_seen_ts == 1700000003);
	assert_float_equal((float)(a->growth_bytes_per_s / ((double)(live[3] - live[0]) / 3)), 1, 1e-6);
	assert_string_equal(f->seen[0].message,
			    "\"worker\" (pid 42) grows: live heap 100M -> 109M over 3 checks (3.1M/s); "
			    "grows most: stack 0x000000000000abc2 (109M live)");
	drop(f);
}

static void slow_growth_is_below_the_threshold(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_stack *s = one_process(f);
	uint64_t live[60];
	double v = (double)(100 * MIB);

	(void)state;
	for (size_t i = 0; i < 60; i++, v *= 1.019)
		live[i] = (uint64_t)v;
	run_heap(f, s, live, 60);
	assert_int_equal(f->n_seen, 0);
	assert_false(leak_watch_found(f->watch));
	drop(f);
}

static void plateau_does_not_fire(void **state)
{
	/* From nothing to the plateau: the first check starts from 0 bytes, of which nothing is a percentage. */
	static const uint64_t live[] = { 0,	   20 * MIB, 30 * MIB, 32 * MIB, 32 * MIB, 32 * MIB,
					 32 * MIB, 32 * MIB, 32 * MIB, 32 * MIB, 32 * MIB, 32 * MIB };
	struct fixture *f = with_rule(leak_rule_default);

	(void)state;
	run_heap(f, one_process(f), live, sizeof(live) / sizeof(live[0]));
	assert_int_equal(f->n_seen, 0);
	drop(f);
}

static void warm_up_is_left_out(void **state)
{
	struct leak_rule rule = leak_rule_default;
	uint64_t live[30];

	(void)state;
	for (size_t i = 0; i < 30; i++) /* fills for 10 s, then stays */
		live[i] = (i < 10 ? i + 1 : 10) * 10 * MIB;
	struct fixture *f = with_rule(rule);
	run_heap(f, one_process(f), live, 30);
	assert_int_equal(f->n_seen, 2); /* without a warm-up: fires, and resolves */
	drop(f);
	rule.warmup_s = 9;
	f = with_rule(rule);
	run_heap(f, one_process(f), live, 30);
	assert_int_equal(f->n_seen, 0);
	drop(f);
}

static void leak_after_the_warm_up_fires(void **state)
{
	struct leak_rule rule = leak_rule_default;
	uint64_t live[30];

	(void)state;
	for (size_t i = 0; i < 30; i++)
		live[i] = (i + 1) * 10 * MIB;
	rule.warmup_s = 9;
	struct fixture *f = with_rule(rule);
	run_heap(f, one_process(f), live, 30);
	assert_int_equal(f->n_seen, 1);
	assert_true(f->seen[0].at_s == 12); /* three checks after second 9 */
	assert_int_equal(f->seen[0].a.bytes_before, live[9]);
	drop(f);
}

static void sawtooth_does_not_fire(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	uint64_t live[60];

	(void)state;
	for (size_t i = 0; i < 60; i++) /* two checks up, one down */
		live[i] = (50 + 10 * (i % 3)) * MIB;
	run_heap(f, one_process(f), live, 60);
	assert_int_equal(f->n_seen, 0);
	drop(f);
}

static void small_growth_is_none(void **state)
{
	static const uint64_t live[] = { 1000, 2000, 4000, 8000, 16000, 1 << 19, 1 << 20, (1 << 20) + (1 << 19) };
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_stack *s = one_process(f);

	(void)state;
	run_heap(f, s, live, 7);
	assert_int_equal(f->n_seen, 0); /* a thousand times more, but below 1 MiB */
	run_heap(f, s, live + 7, 1);
	assert_int_equal(f->n_seen, 1); /* the whole run counts */
	assert_int_equal(f->seen[0].a.checks, 7);
	assert_int_equal(f->seen[0].a.bytes_before, 1000);
	drop(f);
}

static void resolves_and_fires_again(void **state)
{
	static const uint64_t up[] = { 10 * MIB, 12 * MIB, 14 * MIB, 16 * MIB, 18 * MIB };
	static const uint64_t calm[] = { 18 * MIB, 17 * MIB, 18 * MIB, 18 * MIB, 18 * MIB, 18 * MIB };
	static const uint64_t more[] = { 20 * MIB, 22 * MIB, 24 * MIB, 26 * MIB };
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_stack *s = one_process(f);

	(void)state;
	run_heap(f, s, up, 5);
	assert_int_equal(f->n_seen, 1);
	run_heap(f, s, calm, 2);
	assert_int_equal(f->n_seen, 1);
	run_heap(f, s, calm + 2, 4);
	assert_int_equal(f->n_seen, 2);
	assert_int_equal(f->seen[1].a.state, ALERT_RESOLVED);
	assert_true(f->seen[1].at_s == 7);
	assert_true(f->seen[1].a.first_seen_ts == f->seen[0].a.first_seen_ts);
	assert_string_equal(f->seen[1].message,
			    "\"worker\" (pid 42) grows no more: live heap 18.0M, no new high in 3 checks");
	run_heap(f, s, more, 4);
	assert_int_equal(f->n_seen, 3);
	assert_int_equal(f->seen[2].a.state, ALERT_FIRING);
	assert_int_equal(f->seen[2].a.bytes_before, 18 * MIB);
	drop(f);
}

static void growth_below_the_threshold_keeps_it_firing(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	uint64_t live[200];

	(void)state;
	for (size_t i = 0; i < 200; i++) /* the same leak gets less in percent */
		live[i] = (10 + i) * MIB;
	run_heap(f, one_process(f), live, 200);
	assert_int_equal(f->n_seen, 1);
	drop(f);
}

static void names_the_oldest_of_what_grows(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_stack *table, *leak, *young, *other_layer;

	(void)state;
	leak = one_process(f);
	table = synth_stack(f->world, 42, LAYER_HEAP, 0x7772); /* big, old, and does not grow */
	young = synth_stack(f->world, 42, LAYER_HEAP, 0x8882);
	other_layer = synth_stack(f->world, 42, LAYER_MAP, 0x9991);
	synth_alloc(table, 30 * MIB);
	table->old_live_bytes = 30 * MIB;
	young->old_live_bytes = 0;
	other_layer->old_live_bytes = 50 * MIB;
	for (int i = 0; i < 6; i++) {
		synth_alloc(leak, 2 * MIB);
		synth_alloc(young, 3 * MIB);
		synth_alloc(other_layer, 20 * MIB);
		leak->old_live_bytes = leak->counts.live_bytes / 2;
		check(f);
	}
	assert_int_equal(f->n_seen, 1);
	assert_int_equal(f->seen[0].a.stack_id, 0xabc2);
	assert_int_equal(f->seen[0].a.live_bytes, 8 * MIB);
	assert_int_equal(f->seen[0].a.old_live_bytes, 4 * MIB);
	assert_non_null(
		strstr(f->seen[0].message, "; most old live bytes: stack 0x000000000000abc2 (4.0M of 8.0M live)"));
	drop(f);
}

static void without_ages_the_fastest_is_named(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_stack *slow = one_process(f), *fast = synth_stack(f->world, 42, LAYER_HEAP, 0x8882);

	(void)state;
	synth_alloc(slow, 20 * MIB);
	for (int i = 0; i < 5; i++) {
		synth_alloc(slow, MIB);
		synth_alloc(fast, 3 * MIB);
		check(f);
	}
	assert_int_equal(f->n_seen, 1);
	assert_int_equal(f->seen[0].a.stack_id, 0x8882);
	assert_true(f->seen[0].a.old_live_bytes == UNKNOWN_U64);
	drop(f);
}

static void without_heap_anonymous_memory_is_watched(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_proc *p = synth_proc(f->world, 7);

	(void)state;
	p->layer_on[LAYER_HEAP] = false;
	p->anon_bytes = UNKNOWN_U64;
	check(f);
	p->anon_bytes = 10 * MIB;
	for (int i = 0; i < 4; i++, p->anon_bytes += 5 * MIB)
		check(f);
	assert_int_equal(f->n_seen, 1);
	assert_int_equal(f->seen[0].a.layer, LAYER_PAGE);
	assert_int_equal(f->seen[0].a.stack_id, 0);
	assert_int_equal(f->seen[0].a.live_bytes, 25 * MIB);
	assert_string_equal(f->seen[0].message, "\"worker\" (pid 7) grows: resident anonymous memory 10.0M -> 25.0M "
						"over 3 checks (5.0M/s)");
	drop(f);
}

static void a_heap_that_cannot_be_seen_is_not_watched(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_proc *p = synth_proc(f->world, 7);

	(void)state;
	p->live_unknown = true; /* live heap is 0 there whatever happens */
	for (int i = 0; i < 4; i++, p->anon_bytes += 5 * MIB)
		check(f);
	assert_int_equal(f->n_seen, 1);
	assert_int_equal(f->seen[0].a.layer, LAYER_PAGE);
	drop(f);
}

static void change_of_the_figure_is_no_growth(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_proc *p = synth_proc(f->world, 7);
	struct snap_stack *s = synth_stack(f->world, 7, LAYER_HEAP, 0x12);

	(void)state;
	synth_alloc(s, MIB);
	check(f);
	for (int i = 0; i < 2; i++) {
		synth_alloc(s, MIB);
		check(f);
	}
	p->layer_on[LAYER_HEAP] = false; /* 3 MiB of blocks, then 10 MiB of pages */
	check(f);
	check(f);
	assert_int_equal(f->n_seen, 0);
	drop(f);
}

static void processes_are_apart_and_leave(void **state)
{
	struct fixture *f = with_rule(leak_rule_default);
	struct snap_stack *a, *b;
	struct snap_proc *p;

	(void)state;
	p = synth_proc(f->world, 1);
	synth_proc(f->world, 2);
	a = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	b = synth_stack(f->world, 2, LAYER_HEAP, 0x12);
	synth_alloc(b, 20 * MIB);
	for (int i = 0; i < 5; i++) {
		synth_alloc(a, 2 * MIB);
		check(f);
	}
	assert_int_equal(f->n_seen, 1);
	assert_int_equal(f->seen[0].a.id.pid, 1);
	p->state = PROC_EXITED;
	check(f);
	p->state = PROC_RUNNING;
	p->id.start_ticks++; /* the pid comes back as another process */
	a->id = p->id;
	a->counts = (struct counts){ 0 };
	for (int i = 0; i < 3; i++) {
		synth_alloc(a, 2 * MIB);
		check(f);
	}
	assert_int_equal(f->n_seen, 1);
	synth_alloc(a, 2 * MIB);
	check(f);
	assert_int_equal(f->n_seen, 2); /* its own growth, its own alert */
	drop(f);
}

static void one_check_may_be_enough(void **state)
{
	static const uint64_t live[] = { 10 * MIB, 12 * MIB };
	struct fixture *f = with_rule((struct leak_rule){ .threshold_pct = 0, .consecutive = 0, .min_bytes = 1 });

	(void)state;
	run_heap(f, one_process(f), live, 2);
	assert_int_equal(f->n_seen, 1);
	drop(f);
}

static void zero_threshold_still_wants_growth(void **state)
{
	static const uint64_t live[] = { 10 * MIB, 10 * MIB, 10 * MIB, 10 * MIB, 10 * MIB };
	struct fixture *f = with_rule((struct leak_rule){ .threshold_pct = 0, .consecutive = 1, .min_bytes = 0 });

	(void)state;
	run_heap(f, one_process(f), live, 5);
	assert_int_equal(f->n_seen, 0);
	drop(f);
}

static void a_line_is_judged_only_when_it_is_one(void **state)
{
	struct slope s = { .per_s = 1000, .r2 = 0.99, .mean = 20000, .span_s = 20, .n = 20 };

	(void)state;
	assert_int_equal(leak_judge(&s, 20).verdict, VERDICT_GROWING);
	s.r2 = 0.5;
	assert_int_equal(leak_judge(&s, 20).verdict, VERDICT_UNKNOWN);
	s.per_s = 1;
	assert_int_equal(leak_judge(&s, 20).verdict, VERDICT_STEADY);
	s.span_s = 9;
	assert_int_equal(leak_judge(&s, 20).verdict, VERDICT_UNKNOWN);
	s = (struct slope){ .per_s = NAN, .r2 = NAN, .mean = NAN };
	assert_int_equal(leak_judge(&s, 0).verdict, VERDICT_UNKNOWN);
	assert_string_equal(verdict_name(VERDICT_STEADY), "steady");
	assert_string_equal(verdict_name(VERDICT_UNKNOWN), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steady_leak_fires_once),
		cmocka_unit_test(slow_growth_is_below_the_threshold),
		cmocka_unit_test(plateau_does_not_fire),
		cmocka_unit_test(warm_up_is_left_out),
		cmocka_unit_test(leak_after_the_warm_up_fires),
		cmocka_unit_test(sawtooth_does_not_fire),
		cmocka_unit_test(small_growth_is_none),
		cmocka_unit_test(resolves_and_fires_again),
		cmocka_unit_test(growth_below_the_threshold_keeps_it_firing),
		cmocka_unit_test(names_the_oldest_of_what_grows),
		cmocka_unit_test(without_ages_the_fastest_is_named),
		cmocka_unit_test(without_heap_anonymous_memory_is_watched),
		cmocka_unit_test(a_heap_that_cannot_be_seen_is_not_watched),
		cmocka_unit_test(change_of_the_figure_is_no_growth),
		cmocka_unit_test(processes_are_apart_and_leave),
		cmocka_unit_test(one_check_may_be_enough),
		cmocka_unit_test(zero_threshold_still_wants_growth),
		cmocka_unit_test(a_line_is_judged_only_when_it_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
