/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds a model from a snapshot and the history. Owns the arithmetic over processes, layers and stacks; refuses
 * to know names or to choose what is shown. Every stack costs one look-up and one short regression, nothing is
 * compared with everything.
 */
#include "model/model.h"

#include <math.h>

#include "model/history.h"
#include "model/shared_error.h"
#include "util/arena.h"
#include "util/mem.h"

static uint64_t sum_known(uint64_t a, uint64_t b)
{
	return a == UNKNOWN_U64 || b == UNKNOWN_U64 ? UNKNOWN_U64 : a + b;
}

static double rate_of(uint64_t now, uint64_t before, double interval_s)
{
	/* A total that went back is not one total: two runs in one key, which says nothing of a rate. */
	if (now == UNKNOWN_U64 || before == UNKNOWN_U64 || now < before)
		return NAN;
	return (double)(now - before) / interval_s;
}

static int64_t delta_of(uint64_t now, uint64_t base)
{
	return now == UNKNOWN_U64 || base == UNKNOWN_U64 ? 0 : (int64_t)(now - base);
}

/* ---- stacks ---- */

/* Of pages it is known where they came from, not which of them went. */
static uint64_t live_of(const struct snap_stack *s)
{
	return s->layer == LAYER_PAGE ? UNKNOWN_U64 : s->counts.live_bytes;
}

static void build_stack(struct history *h, const struct snap_stack *s, struct model_stack *ret)
{
	struct stack_key key = { .proc = s->id, .stack_id = s->stack_id, .tid = s->tid };
	bool is_new;
	struct past_stack *past = history_stack(h, &key, &is_new);
	uint64_t live = live_of(s);

	/* The first snapshot is the baseline; a stack that comes later had nothing then. */
	if (is_new)
		past->live_base = h->generation == 1 ? live : 0;
	past->live_now = live;
	if (live != UNKNOWN_U64)
		series_add(&past->live, h->now_s, (double)live, h->window_s);
	struct slope slope = series_slope(&past->live);

	*ret = (struct model_stack){
		.snap = s,
		.alloc_bytes_per_s = rate_of(s->counts.alloc_bytes, past->rate.alloc_bytes, h->interval_s),
		.allocs_per_s = rate_of(s->counts.alloc_count, past->rate.alloc_count, h->interval_s),
		.growth_bytes_per_s = slope.per_s,
		.delta_bytes = delta_of(live, past->live_base),
		.leak = leak_judge(&slope, h->now_s - past->first_s),
	};
	past->rate = (struct past_rate){ s->counts.alloc_bytes, s->counts.alloc_count };
}

/* ---- layers ---- */

static bool is_windowed(enum layer layer)
{
	return layer == LAYER_HEAP || layer == LAYER_PYTHON;
}

/* Standard errors are sums of squares until layer_finish. */
static void layer_add(struct counts *sum, const struct counts *c, double edge)
{
	sum->live_bytes = sum_known(sum->live_bytes, c->live_bytes);
	sum->live_count = sum_known(sum->live_count, c->live_count);
	sum->alloc_bytes = sum_known(sum->alloc_bytes, c->alloc_bytes);
	sum->alloc_count = sum_known(sum->alloc_count, c->alloc_count);
	sum->free_bytes = sum_known(sum->free_bytes, c->free_bytes);
	sum->free_count = sum_known(sum->free_count, c->free_count);
	sum->untracked_bytes = sum_known(sum->untracked_bytes, c->untracked_bytes);
	sum->untracked_count = sum_known(sum->untracked_count, c->untracked_count);
	sum->live_bytes_se += error_own_square(c->live_bytes_se, edge, c->live_bytes);
	sum->alloc_bytes_se += error_own_square(c->alloc_bytes_se, edge, c->alloc_bytes);
	sum->cow_bytes = sum_known(sum->cow_bytes, c->cow_bytes);
	sum->cow_bytes_se += c->cow_bytes_se * c->cow_bytes_se;
}

/* Stacks say which pages came; what is resident is the kernel's figure, and what went is known to nobody. */
static void finish_pages(struct counts *c, const struct snap_proc *p, bool has_stacks)
{
	if (!has_stacks && !p->faults_counted) {
		c->alloc_bytes = c->alloc_count = c->cow_bytes = UNKNOWN_U64;
		c->untracked_bytes = c->untracked_count = UNKNOWN_U64;
		c->alloc_bytes_se = c->cow_bytes_se = NAN;
	}
	c->live_bytes = p->rss_bytes;
	c->live_bytes_se = p->rss_bytes == UNKNOWN_U64 ? NAN : 0;
	c->live_count = c->free_bytes = c->free_count = UNKNOWN_U64;
	if (!c->peak_live_bytes)
		c->peak_live_bytes = UNKNOWN_U64;
}

static void layer_finish(struct model_layer *l, enum layer layer, const struct snap_proc *p, bool has_stacks)
{
	struct counts *c = &l->counts;

	l->on = p->layer_on[layer];
	c->live_bytes_se = error_of_sum(c->live_bytes_se, edge_of_layer(p->edge, layer), c->live_bytes);
	c->alloc_bytes_se = error_of_sum(c->alloc_bytes_se, edge_of_layer(p->edge, layer), c->alloc_bytes);
	c->cow_bytes_se = sqrt(c->cow_bytes_se);
	c->peak_live_bytes = p->peak_live_bytes[layer];
	/* Of samples that never came nothing tells how many calls there were without. */
	if (p->mode == MODE_SAMPLED && !has_stacks && is_windowed(layer))
		c->live_bytes_se = c->alloc_bytes_se = NAN;
	if (layer == LAYER_PAGE)
		finish_pages(c, p, has_stacks);
	/* Stacks and processes are read one after the other: the sum may be newer than the peak. */
	else if (c->live_bytes != UNKNOWN_U64 && c->live_bytes > c->peak_live_bytes)
		c->peak_live_bytes = c->live_bytes;
}

static void build_layers(struct model_proc *p, struct past_proc *past, double interval_s)
{
	bool has_stacks[LAYER_NR] = { false };

	for (size_t i = 0; i < p->n_stacks; i++) {
		const struct snap_stack *s = p->stacks[i].snap;

		layer_add(&p->layers[s->layer].counts, &s->counts, edge_of_layer(p->snap->edge, s->layer));
		has_stacks[s->layer] = true;
	}
	for (int i = 0; i < LAYER_NR; i++) {
		struct model_layer *l = &p->layers[i];
		struct past_rate *before = &past->layers[i];

		layer_finish(l, (enum layer)i, p->snap, has_stacks[i]);
		l->alloc_bytes_per_s = rate_of(l->counts.alloc_bytes, before->alloc_bytes, interval_s);
		l->allocs_per_s = rate_of(l->counts.alloc_count, before->alloc_count, interval_s);
		*before = (struct past_rate){ l->counts.alloc_bytes, l->counts.alloc_count };
	}
}

/* ---- processes ---- */

/* Resident memory comes in pages: what does not gain one in the window is not growing but the line's rounding. */
static double limit_eta(const struct snap_proc *p, double growth_bytes_per_s, double window_s)
{
	if (p->limit_bytes == UNKNOWN_U64 || p->limit_used_bytes == UNKNOWN_U64 ||
	    !(growth_bytes_per_s * window_s >= 4096))
		return NAN;
	if (p->limit_used_bytes >= p->limit_bytes)
		return 0;
	return (double)(p->limit_bytes - p->limit_used_bytes) / growth_bytes_per_s;
}

/* What is put together for one process while the model is built. */
struct row {
	struct past_proc *past;
	bool is_new;
	struct model_stack *stacks;
	size_t n_stacks;
};

/*
 * Against the baseline. A process that came after it counts from nothing on the heap (its blocks are all newer)
 * and from its first sight in resident bytes: it may have run long before it was observed.
 */
static void set_delta(struct model_proc *p, const struct row *row, bool is_first)
{
	struct past_proc *past = row->past;
	bool heap = p->snap->layer_on[LAYER_HEAP];

	past->heap_now = heap ? p->layers[LAYER_HEAP].counts.live_bytes : 0;
	past->rss_now = p->snap->rss_bytes;
	if (row->is_new) {
		past->heap_base = is_first ? past->heap_now : 0;
		past->rss_base = past->rss_now;
	}
	if (past->rss_base == UNKNOWN_U64)
		past->rss_base = past->rss_now;
	p->delta_bytes = heap ? delta_of(past->heap_now, past->heap_base) : delta_of(past->rss_now, past->rss_base);
}

static void build_proc(struct history *h, const struct row *row, struct model_proc *p)
{
	struct past_proc *past = row->past;

	p->stacks = row->stacks;
	p->n_stacks = row->n_stacks;
	build_layers(p, past, h->interval_s);
	if (p->snap->rss_bytes != UNKNOWN_U64 && p->snap->state == PROC_RUNNING)
		series_add(&past->rss, h->now_s, (double)p->snap->rss_bytes, h->window_s);
	p->growth_bytes_per_s = series_slope(&past->rss).per_s;
	p->limit_eta_s = limit_eta(p->snap, p->growth_bytes_per_s, h->window_s);
	set_delta(p, row, h->generation == 1);
}

/* ---- the whole ---- */

static void begin_procs(const struct snapshot *s, struct history *h, struct row *rows)
{
	for (size_t i = 0; i < s->n_procs; i++) {
		rows[i].past = history_proc(h, &s->procs[i].id, &rows[i].is_new);
		rows[i].past->index = i;
	}
}

/* Number of the row of every stack; a stack of no process of this snapshot gets `n_procs`. */
static void count_stacks(const struct snapshot *s, const struct history *h, struct row *rows, size_t *row_of)
{
	for (size_t i = 0; i < s->n_stacks; i++) {
		const struct past_proc *past = history_find(h, &s->stacks[i].id);

		row_of[i] = past ? past->index : s->n_procs;
		if (past)
			rows[past->index].n_stacks++;
	}
}

/* Stacks of one process lie together, in the order of the snapshot. */
static void build_stacks(const struct snapshot *s, struct history *h, struct row *rows, struct arena *arena)
{
	_cleanup_(freep) size_t *row_of = xcalloc(s->n_stacks, sizeof(*row_of));
	struct model_stack *at = arena_alloc(arena, s->n_stacks, sizeof(*at));

	count_stacks(s, h, rows, row_of);
	for (size_t i = 0; i < s->n_procs; i++) {
		rows[i].stacks = at;
		at += rows[i].n_stacks;
		rows[i].n_stacks = 0;
	}
	for (size_t i = 0; i < s->n_stacks; i++) {
		if (row_of[i] < s->n_procs) {
			struct row *row = &rows[row_of[i]];

			build_stack(h, &s->stacks[i], &row->stacks[row->n_stacks++]);
		}
	}
}

int model_build(const struct snapshot *s, struct history *h, struct leak_watch *watch, struct model **ret)
{
	_cleanup_(freep) struct row *rows = xcalloc(s->n_procs, sizeof(*rows));
	struct arena *arena = arena_new();
	struct model *m = arena_alloc(arena, 1, sizeof(*m));
	struct model_proc *procs = arena_alloc(arena, s->n_procs, sizeof(*procs));

	history_begin(h, s);
	begin_procs(s, h, rows);
	build_stacks(s, h, rows, arena);
	for (size_t i = 0; i < s->n_procs; i++) {
		procs[i].snap = &s->procs[i];
		build_proc(h, &rows[i], &procs[i]);
	}
	history_end(h);
	*m = (struct model){ .arena = arena, .snap = s, .procs = procs, .n_procs = s->n_procs };
	if (watch)
		m->alerts = leak_watch_step(watch, m, arena, &m->n_alerts);
	*ret = m;
	return 0;
}

void model_free(struct model *m)
{
	if (m)
		arena_free(m->arena);
}
