/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The model over synthetic snapshots: sums, rates, growth, deltas, what is forgotten and what it costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#include "model/history.h"
#include "model/model.h"
#include "model/query.h"
#include "model/series.h"
#include "snapshot_fixture.h"
#include "util/clock.h"

#define MIB (1ull << 20)

struct fixture {
	struct synth *world;
	struct history *history;
	struct snapshot *snap;
	struct model *model;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->world = synth_new();
	f->history = history_new(60);
	*state = f;
	return 0;
}

static void drop_model(struct fixture *f)
{
	model_free(f->model);
	if (f->snap)
		synth_snapshot_free(f->snap);
	f->model = NULL;
	f->snap = NULL;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	drop_model(f);
	history_free(f->history);
	synth_free(f->world);
	free(f);
	return 0;
}

/* The model of the world at this second. */
static const struct model *step(struct fixture *f, double at_s)
{
	drop_model(f);
	f->snap = synth_snapshot(f->world, at_s);
	assert_int_equal(model_build(f->snap, f->history, NULL, &f->model), 0);
	return f->model;
}

static const struct model_stack *stack_of(const struct model_proc *p, uint64_t id)
{
	for (size_t i = 0; i < p->n_stacks; i++)
		if (p->stacks[i].snap->stack_id == id)
			return &p->stacks[i];
	return NULL;
}

static void sums_over_stacks(void **state)
{
	struct fixture *f = *state;
	struct snap_stack *a, *b, *c;
	const struct counts *heap;

	synth_proc(f->world, 1)->peak_live_bytes[LAYER_HEAP] = 5000;
	synth_proc(f->world, 2);
	a = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	c = synth_stack(f->world, 2, LAYER_HEAP, 0x12); /* the same stack in another process, in between */
	b = synth_stack(f->world, 1, LAYER_HEAP, 0x22);
	synth_alloc(synth_stack(f->world, 1, LAYER_MAP, 0x11), 4096);
	synth_alloc(a, 1000);
	synth_alloc(a, 200);
	synth_release(a, 1000);
	synth_alloc(b, 50);
	b->counts.untracked_bytes = 7;
	a->counts.live_bytes_se = 3;
	b->counts.live_bytes_se = 4;
	synth_alloc(c, 99);
	synth_stack(f->world, 3, LAYER_HEAP, 0x32)->id.pid = 3; /* of no process: in no sum */

	const struct model *m = step(f, 0);

	assert_int_equal(m->n_procs, 2);
	assert_int_equal(m->procs[0].n_stacks, 3);
	assert_int_equal(m->procs[1].n_stacks, 1);
	assert_ptr_equal(stack_of(&m->procs[0], 0x22)->snap, &f->snap->stacks[2]);
	heap = &m->procs[0].layers[LAYER_HEAP].counts;
	assert_int_equal(heap->live_bytes, 250);
	assert_int_equal(heap->live_count, 2);
	assert_int_equal(heap->alloc_bytes, 1250);
	assert_int_equal(heap->alloc_count, 3);
	assert_int_equal(heap->free_bytes, 1000);
	assert_int_equal(heap->free_count, 1);
	assert_int_equal(heap->untracked_bytes, 7);
	assert_int_equal(heap->peak_live_bytes, 5000);
	assert_float_equal((float)heap->live_bytes_se, 5, 1e-6);
	assert_int_equal(m->procs[0].layers[LAYER_MAP].counts.live_bytes, 4096);
	assert_false(m->procs[0].layers[LAYER_MAP].on);
	assert_true(m->procs[0].layers[LAYER_HEAP].on);
	assert_int_equal(m->procs[1].layers[LAYER_HEAP].counts.live_bytes, 99);
}

static void page_layer_is_the_kernels_figure(void **state)
{
	struct fixture *f = *state;
	struct snap_proc *p = synth_proc(f->world, 1);
	const struct counts *c = &step(f, 0)->procs[0].layers[LAYER_PAGE].counts;

	assert_int_equal(c->live_bytes, 10 * MIB);
	assert_true(c->alloc_bytes == UNKNOWN_U64 && c->free_bytes == UNKNOWN_U64 && c->live_count == UNKNOWN_U64);
	synth_alloc(synth_stack(f->world, 1, LAYER_PAGE, 0x10), 8192);
	p->rss_bytes = UNKNOWN_U64;

	const struct model_proc *now = &step(f, 1)->procs[0];

	c = &now->layers[LAYER_PAGE].counts;
	assert_true(c->live_bytes == UNKNOWN_U64);
	assert_int_equal(c->alloc_bytes, 8192);
	assert_true(isnan(now->stacks[0].growth_bytes_per_s));
	assert_int_equal(now->stacks[0].delta_bytes, 0);
}

/* Where faults are counted none is none; copies are no part of what became resident. */
static void page_layer_adds_up_faults(void **state)
{
	struct fixture *f = *state;
	struct snap_proc *p = synth_proc(f->world, 1);
	struct snap_stack *a, *b;
	const struct counts *c;

	p->faults_counted = true;
	c = &step(f, 0)->procs[0].layers[LAYER_PAGE].counts;
	assert_int_equal(c->alloc_bytes, 0);
	assert_int_equal(c->cow_bytes, 0);
	assert_true(c->free_bytes == UNKNOWN_U64);
	a = synth_stack(f->world, 1, LAYER_PAGE, 0x10);
	b = synth_stack(f->world, 1, LAYER_PAGE, 0x20);
	synth_alloc(a, 8192);
	synth_alloc(b, 4096);
	a->counts.alloc_bytes_se = 3;
	b->counts.alloc_bytes_se = 4;
	b->counts.cow_bytes = 12288;
	b->counts.cow_bytes_se = 5;
	a->counts.cow_bytes = 4096;
	a->counts.cow_bytes_se = 12;
	c = &step(f, 1)->procs[0].layers[LAYER_PAGE].counts;
	assert_int_equal(c->live_bytes, p->rss_bytes);
	assert_int_equal(c->alloc_bytes, 12288);
	assert_int_equal(c->cow_bytes, 16384);
	assert_float_equal((float)c->alloc_bytes_se, 5, 1e-6);
	assert_float_equal((float)c->cow_bytes_se, 13, 1e-6);
	p->faults_counted = false;
	f->world->n_stacks = 0;
	c = &step(f, 2)->procs[0].layers[LAYER_PAGE].counts;
	assert_true(c->cow_bytes == UNKNOWN_U64 && isnan(c->cow_bytes_se));
}

/* Errors that all stacks share do not average out. */
static void shared_errors_add(void **state)
{
	struct fixture *f = *state;

	synth_proc(f->world, 1)->edge = 0.3;
	for (uint64_t i = 0; i < 100; i++) {
		struct snap_stack *s = synth_stack(f->world, 1, LAYER_HEAP, i << 4 | 2);
		synth_alloc(s, 1000);
		s->counts.live_bytes_se = s->counts.alloc_bytes_se = hypot(40, 300);
	}
	const struct counts *c = &step(f, 0)->procs[0].layers[LAYER_HEAP].counts;
	assert_int_equal(c->live_bytes, 100000);
	assert_float_equal((float)c->live_bytes_se, (float)hypot(400, 30000), 1);
	assert_float_equal((float)c->alloc_bytes_se, (float)hypot(400, 30000), 1);
}

static void rates_are_of_the_last_interval(void **state)
{
	struct fixture *f = *state;
	struct snap_stack *a, *b;
	const struct model_proc *p;

	synth_proc(f->world, 1);
	a = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	synth_alloc(a, 1000000);
	p = step(f, 0)->procs;
	assert_true(isnan(p->stacks[0].alloc_bytes_per_s)); /* when that was is not known */
	assert_true(isnan(p->layers[LAYER_HEAP].allocs_per_s));
	synth_alloc(a, 300);
	synth_alloc(a, 300);
	synth_release(a, 300);
	b = synth_stack(f->world, 1, LAYER_HEAP, 0x22);
	synth_alloc(b, 100);
	p = step(f, 2)->procs;
	assert_float_equal((float)stack_of(p, 0x12)->alloc_bytes_per_s, 300, 1e-6);
	assert_float_equal((float)stack_of(p, 0x12)->allocs_per_s, 1, 1e-6);
	assert_float_equal((float)stack_of(p, 0x22)->alloc_bytes_per_s, 50, 1e-6);
	assert_float_equal((float)p->layers[LAYER_HEAP].alloc_bytes_per_s, 350, 1e-6);
	assert_float_equal((float)p->layers[LAYER_HEAP].allocs_per_s, 1.5F, 1e-6);
	p = step(f, 3)->procs;
	assert_true(p->layers[LAYER_HEAP].alloc_bytes_per_s == 0);
	a->counts.alloc_bytes -= 10; /* not a total any more */
	assert_true(isnan(stack_of(step(f, 4)->procs, 0x12)->alloc_bytes_per_s));
}

static void growth_needs_points_and_time(void **state)
{
	struct fixture *f = *state;
	struct snap_proc *p = synth_proc(f->world, 1);
	struct snap_stack *s = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	double growth = NAN;

	for (int i = 0; i <= 20; i++) { /* four snapshots per second */
		growth = step(f, i * 0.25)->procs[0].growth_bytes_per_s;
		assert_int_equal(isnan(growth), i < 8);
		assert_int_equal(isnan(f->model->procs[0].stacks[0].growth_bytes_per_s), i < 8);
		p->rss_bytes += MIB;
		synth_alloc(s, 1000);
	}
	assert_float_equal((float)(growth / (double)(4 * MIB)), 1, 1e-5);
	assert_float_equal((float)f->model->procs[0].stacks[0].growth_bytes_per_s, 4000, 0.1F);
}

static void growth_is_of_the_window(void **state)
{
	struct fixture *f = *state;
	struct snap_proc *p = synth_proc(f->world, 1);
	double growth = NAN;

	for (int i = 0; i < 300; i++) {
		growth = step(f, i)->procs[0].growth_bytes_per_s;
		p->rss_bytes += i < 200 ? MIB : 0;
	}
	assert_true(fabs(growth) < 1e-3);
	for (int i = 300; i < 330; i++) {
		p->rss_bytes -= 4096;
		growth = step(f, i)->procs[0].growth_bytes_per_s;
	}
	assert_true(growth < 0);
}

static void limit_is_reached_in_time(void **state)
{
	struct fixture *f = *state;
	struct snap_proc *p = synth_proc(f->world, 1);
	double eta = NAN;

	p->limit_bytes = 100 * MIB;
	p->limit_used_bytes = 40 * MIB;
	for (int i = 0; i < 10; i++) {
		eta = step(f, i)->procs[0].limit_eta_s;
		p->rss_bytes += MIB;
	}
	assert_float_equal((float)eta, 60, 0.01F);
	p->limit_used_bytes = 101 * MIB;
	assert_true(step(f, 10)->procs[0].limit_eta_s == 0);
	p->limit_bytes = UNKNOWN_U64;
	assert_true(isnan(step(f, 11)->procs[0].limit_eta_s));
	p->limit_bytes = 200 * MIB;
	for (int i = 12; i < 100; i++)
		eta = step(f, i)->procs[0].limit_eta_s;
	assert_true(isnan(eta)); /* it does not grow any more */
}

static void deltas_count_from_the_baseline(void **state)
{
	struct fixture *f = *state;
	struct snap_stack *a, *b;
	struct snap_proc *pages;
	const struct model *m;

	synth_proc(f->world, 1);
	pages = synth_proc(f->world, 2);
	pages->layer_on[LAYER_HEAP] = false;
	a = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	synth_alloc(a, 1000);
	assert_int_equal(step(f, 0)->procs[0].delta_bytes, 0);
	synth_release(a, 400);
	b = synth_stack(f->world, 1, LAYER_HEAP, 0x22);
	synth_alloc(b, 70);
	pages->rss_bytes += 4096;
	m = step(f, 1);
	assert_int_equal(m->procs[0].delta_bytes, -330);
	assert_int_equal(stack_of(m->procs, 0x12)->delta_bytes, -400);
	assert_int_equal(stack_of(m->procs, 0x22)->delta_bytes, 70);
	assert_int_equal(m->procs[1].delta_bytes, 4096);
	history_set_baseline(f->history);
	synth_alloc(b, 5);
	pages->layer_on[LAYER_HEAP] = true; /* observed from now on: all of its blocks are new */
	synth_alloc(synth_stack(f->world, 2, LAYER_HEAP, 0x32), 11);
	synth_proc(f->world, 3);
	synth_alloc(synth_stack(f->world, 3, LAYER_HEAP, 0x42), 13);
	m = step(f, 2);
	assert_int_equal(m->procs[0].delta_bytes, 5);
	assert_int_equal(stack_of(m->procs, 0x12)->delta_bytes, 0);
	assert_int_equal(m->procs[1].delta_bytes, 11);
	assert_int_equal(m->procs[2].delta_bytes, 13);
}

static void history_forgets_what_is_gone(void **state)
{
	struct fixture *f = *state;
	struct snap_proc *p;

	synth_proc(f->world, 1);
	p = synth_proc(f->world, 2);
	synth_alloc(synth_stack(f->world, 1, LAYER_HEAP, 0x12), 10);
	synth_alloc(synth_stack(f->world, 2, LAYER_HEAP, 0x12), 10);
	step(f, 0);
	assert_int_equal(HASH_COUNT(f->history->stacks), 2);
	p->state = PROC_EXITED;
	assert_int_equal(step(f, 1)->procs[1].layers[LAYER_HEAP].counts.live_bytes, 10);
	f->world->n_procs = f->world->n_stacks = 1;
	step(f, 2);
	assert_int_equal(HASH_COUNT(f->history->procs), 1);
	assert_int_equal(HASH_COUNT(f->history->stacks), 1);
	/* The same pid again, another start: a new process, with no history. */
	synth_proc(f->world, 2)->id.start_ticks++;
	assert_true(isnan(step(f, 3)->procs[1].growth_bytes_per_s));
}

static void verdicts_follow_the_line(void **state)
{
	struct fixture *f = *state;
	struct snap_stack *grows, *steady, *saw;
	const struct model_proc *p = NULL;

	synth_proc(f->world, 1);
	grows = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	steady = synth_stack(f->world, 1, LAYER_HEAP, 0x22);
	saw = synth_stack(f->world, 1, LAYER_HEAP, 0x32);
	synth_alloc(steady, 50000);
	for (int i = 0; i < 40; i++) {
		synth_alloc(grows, 1000);
		synth_alloc(saw, 1000);
		if (i % 8 == 7)
			synth_release(saw, saw->counts.live_bytes);
		p = step(f, i)->procs;
		if (i < 5)
			assert_int_equal(stack_of(p, 0x12)->leak.verdict, VERDICT_UNKNOWN);
	}
	assert_int_equal(stack_of(p, 0x12)->leak.verdict, VERDICT_GROWING);
	assert_true(stack_of(p, 0x12)->leak.slope_r2 > 0.999);
	assert_true(stack_of(p, 0x12)->leak.seen_s == 39);
	assert_true(isnan(stack_of(p, 0x12)->leak.probability));
	assert_int_equal(stack_of(p, 0x22)->leak.verdict, VERDICT_STEADY);
	assert_int_equal(stack_of(p, 0x32)->leak.verdict, VERDICT_UNKNOWN);
}

/* Threads that share a stack have a past of their own each. */
static void threads_are_told_apart(void **state)
{
	struct fixture *f = *state;
	struct snap_stack *a, *b;
	const struct model *m;

	synth_proc(f->world, 1);
	a = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	b = synth_stack(f->world, 1, LAYER_HEAP, 0x12);
	a->tid = 1;
	b->tid = 2;
	synth_alloc(b, 5000);
	step(f, 0);
	synth_alloc(a, 300);
	m = step(f, 1);
	assert_int_equal(m->procs[0].n_stacks, 2);
	assert_true(m->procs[0].stacks[0].alloc_bytes_per_s == 300);
	assert_int_equal(m->procs[0].stacks[0].delta_bytes, 300);
	assert_true(m->procs[0].stacks[1].alloc_bytes_per_s == 0);
	assert_int_equal(m->procs[0].stacks[1].delta_bytes, 0);
	assert_int_equal(m->procs[0].layers[LAYER_HEAP].counts.live_bytes, 5300);
}

static void groupings_have_names(void **state)
{
	enum group_by g;

	(void)state;
	for (int i = GROUP_NONE + 1; i < GROUP_NR; i++) {
		assert_int_equal(group_by_parse(group_by_name((enum group_by)i), &g), 0);
		assert_int_equal(g, i);
	}
	assert_int_equal(group_by_parse("none", &g), -EINVAL);
	assert_int_equal(group_by_parse("file", &g), -EINVAL);
	assert_int_equal(group_by_parse("", &g), -EINVAL);
}

static void series_stays_bounded(void **state)
{
	struct series s = { 0 };

	(void)state;
	for (int i = 0; i < 20000; i++) {
		series_add(&s, i * 0.01, i, 60);
		assert_true(s.n <= 32);
		assert_true(s.points[s.n - 1].v == i);
		assert_true(s.points[0].t >= i * 0.01 - 60);
	}
	assert_true(series_slope(&s).span_s > 55);
	assert_float_equal((float)series_slope(&s).per_s, 100, 1e-3F);
	series_done(&s);
}

static void many_stacks_are_cheap(void **state)
{
	struct fixture *f = *state;
	struct snap_stack *s;
	uint64_t start, least = UINT64_MAX;

	for (uint32_t p = 1; p <= 20; p++)
		synth_proc(f->world, p);
	for (uint64_t i = 0; i < 8000; i++) {
		s = synth_stack(f->world, 1 + (uint32_t)(i % 20), LAYER_HEAP, i << 4 | LAYER_HEAP);
		synth_alloc(s, i);
	}
	for (int i = 0; i < 40; i++)
		step(f, i);
	/* With sanitizers about 10 ms; comparing all with all would take seconds, each time. */
	for (int i = 40; i < 60; i++) {
		start = mono_ns();
		step(f, i);
		least = mono_ns() - start < least ? mono_ns() - start : least;
	}
	assert_true(least < 500000000ull);
	assert_int_equal(f->model->procs[19].n_stacks, 400);
}

static void empty_snapshot(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(step(f, 0)->n_procs, 0);
	history_set_baseline(f->history);
	model_free(NULL);
	history_free(NULL);
}

static void sort_keys_have_names(void **state)
{
	enum sort_key k = SORT_AGE;

	(void)state;
	for (int i = 0; i < SORT_NR; i++) {
		assert_int_equal(sort_key_parse(sort_key_name((enum sort_key)i), &k), 0);
		assert_int_equal(k, i);
	}
	assert_string_equal(sort_key_name(SORT_LIVE), "live_bytes");
	k = SORT_RSS;
	assert_int_equal(sort_key_parse("live", &k), -EINVAL);
	assert_int_equal(sort_key_parse("", &k), -EINVAL);
	assert_int_equal(k, SORT_RSS);
}

#define with_world(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_world(sums_over_stacks),
		with_world(page_layer_is_the_kernels_figure),
		with_world(page_layer_adds_up_faults),
		with_world(shared_errors_add),
		with_world(rates_are_of_the_last_interval),
		with_world(growth_needs_points_and_time),
		with_world(growth_is_of_the_window),
		with_world(limit_is_reached_in_time),
		with_world(deltas_count_from_the_baseline),
		with_world(history_forgets_what_is_gone),
		with_world(verdicts_follow_the_line),
		with_world(threads_are_told_apart),
		cmocka_unit_test(groupings_have_names),
		cmocka_unit_test(series_stays_bounded),
		with_world(many_stacks_are_cheap),
		with_world(empty_snapshot),
		cmocka_unit_test(sort_keys_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
