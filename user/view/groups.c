/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/groups.h"

#include <math.h>
#include <string.h>
#include <uthash.h>
#include <xxhash.h>

#include "model/shared_error.h"
#include "util/arena.h"
#include "util/mem.h"
#include "view/frames.h"
#include "view/order.h"
#include "view/stack_dict.h"

#define UNKNOWN_NAME "[unknown]"
#define OTHERS_NAME "[others]"

struct group {
	struct report_group row; /* while it grows, *_se are sums of squares */
	bool growth_known;
	UT_hash_handle hh; /* key: row.name */
};

struct grouper {
	const struct group_source *src;
	struct frame_list frames;
	struct group *by_name[LAYER_NR];
};

/* --- names --- */

static const char *name_function(struct grouper *g, const struct sym_frame *f)
{
	(void)g; /* same signature for all */
	return f->name;
}

/* Python's modules are files. */
static const char *name_module(struct grouper *g, const struct sym_frame *f)
{
	(void)g; /* same signature for all */
	return f->kind == FRAME_PYTHON ? f->file : f->module;
}

static const char *name_line(struct grouper *g, const struct sym_frame *f)
{
	return f->file && f->line ? arena_printf(g->src->arena, "%s:%u", f->file, f->line) : f->file;
}

static const char *name_by_frame(struct grouper *g, const struct snap_stack *s)
{
	static const char *(*const namers[GROUP_NR])(struct grouper *, const struct sym_frame *) = {
		[GROUP_FUNCTION] = name_function,
		[GROUP_MODULE] = name_module,
		[GROUP_FILE_LINE] = name_line,
	};
	const struct snap_stackdef *def = stack_dict_find(g->src->dict, s->stack_id);

	if (!def)
		return NULL;
	frames_resolve_innermost(&g->frames, g->src->sym, def, s->layer, g->src->q);
	return g->frames.n ? namers[g->src->q->group](g, g->frames.frames[0]) : NULL;
}

static const char *thread_text(struct arena *arena, uint32_t tid, const char *thread)
{
	return arena_printf(arena, "%u%s%s", tid, thread ? " " : "", thread ? thread : "");
}

static const char *name_of(struct grouper *g, const struct snap_stack *s)
{
	const char *name;

	if (g->src->q->group != GROUP_THREAD)
		name = name_by_frame(g, s);
	else if (!s->tid)
		name = NULL;
	else
		name = thread_text(g->src->arena, s->tid, s->thread);
	return name && *name ? name : UNKNOWN_NAME;
}

/* --- sums --- */

static void add_known(uint64_t *sum, uint64_t v)
{
	*sum = *sum == UNKNOWN_U64 || v == UNKNOWN_U64 ? UNKNOWN_U64 : *sum + v;
}

/* All but the errors. */
static void add_counts(struct counts *sum, const struct counts *c)
{
	add_known(&sum->live_bytes, c->live_bytes);
	add_known(&sum->live_count, c->live_count);
	add_known(&sum->alloc_bytes, c->alloc_bytes);
	add_known(&sum->alloc_count, c->alloc_count);
	add_known(&sum->free_bytes, c->free_bytes);
	add_known(&sum->free_count, c->free_count);
	add_known(&sum->untracked_bytes, c->untracked_bytes);
	add_known(&sum->untracked_count, c->untracked_count);
	add_known(&sum->cow_bytes, c->cow_bytes);
	sum->peak_live_bytes = UNKNOWN_U64; /* stacks peak at different times */
}

static struct group *group_new(const struct grouper *g, enum layer layer, const char *name)
{
	struct group *e = xcalloc(1, sizeof(*e));

	e->row.layer = layer;
	e->row.name = name;
	e->row.id = XXH3_64bits(name, strlen(name));
	e->row.counts.live_known = g->src->live_known[layer];
	return e;
}

static struct group *group_of(struct grouper *g, const struct snap_stack *s)
{
	const char *name = name_of(g, s);
	struct group *e;

	HASH_FIND_STR(g->by_name[s->layer], name, e);
	if (!e) {
		e = group_new(g, s->layer, name);
		if (g->src->q->group == GROUP_THREAD) {
			e->row.tid = s->tid;
			e->row.thread = arena_strdup(g->src->arena, s->thread);
		}
		HASH_ADD_KEYPTR(hh, g->by_name[s->layer], e->row.name, strlen(e->row.name), e);
	}
	return e;
}

/* A slope is unknown as long as a stack is young: it counts from when it is known. Rates are known together. */
static void add_growth(struct group *e, double per_s, bool known)
{
	if (!known)
		return;
	e->row.growth_bytes_per_s += per_s;
	e->growth_known = true;
}

static void add_stack(struct grouper *g, const struct model_stack *s)
{
	struct group *e = group_of(g, s->snap);
	struct counts *sum = &e->row.counts.c;
	const struct counts *c = &s->snap->counts;
	double edge = edge_of_layer(g->src->edge, s->snap->layer);

	add_counts(sum, c);
	sum->live_bytes_se += error_own_square(c->live_bytes_se, edge, c->live_bytes);
	sum->alloc_bytes_se += error_own_square(c->alloc_bytes_se, edge, c->alloc_bytes);
	sum->cow_bytes_se += c->cow_bytes_se * c->cow_bytes_se;
	e->row.counts.alloc_bytes_per_s += s->alloc_bytes_per_s;
	e->row.counts.allocs_per_s += s->allocs_per_s;
	e->row.delta_bytes += s->delta_bytes;
	e->row.n_stacks++;
	add_growth(e, s->growth_bytes_per_s, !isnan(s->growth_bytes_per_s));
}

/* While both still have sums of squares. */
static void add_group(struct group *sum, const struct group *e)
{
	struct counts *to = &sum->row.counts.c;
	const struct counts *c = &e->row.counts.c;

	add_counts(to, c);
	to->live_bytes_se += c->live_bytes_se;
	to->alloc_bytes_se += c->alloc_bytes_se;
	to->cow_bytes_se += c->cow_bytes_se;
	sum->row.counts.alloc_bytes_per_s += e->row.counts.alloc_bytes_per_s;
	sum->row.counts.allocs_per_s += e->row.counts.allocs_per_s;
	sum->row.delta_bytes += e->row.delta_bytes;
	sum->row.n_stacks += e->row.n_stacks;
	add_growth(sum, e->row.growth_bytes_per_s, e->growth_known);
}

/* --- order and limit --- */

struct ranked_group {
	double figure;
	const struct group *g;
};

static double group_figure(const struct group *e, enum sort_key key)
{
	struct row_figures f = {
		.layer = e->row.layer,
		.counts = &e->row.counts.c,
		.growth_bytes_per_s = e->growth_known ? e->row.growth_bytes_per_s : NAN,
		.alloc_bytes_per_s = e->row.counts.alloc_bytes_per_s,
		.age_s = NAN, /* a median of medians is none */
	};

	return figure_by_key(&f, key);
}

static int compare_groups(const void *va, const void *vb)
{
	const struct ranked_group *a = va, *b = vb;
	int order = compare_figures(a->figure, b->figure);

	if (!order)
		order = compare_figures(figure_of(a->g->row.counts.c.alloc_bytes),
					figure_of(b->g->row.counts.c.alloc_bytes));
	return order ? order : strcmp(a->g->row.name, b->g->row.name);
}

static void finish(const struct grouper *g, const struct group *e, struct report_group *ret)
{
	double edge = edge_of_layer(g->src->edge, e->row.layer);

	*ret = e->row;
	struct counts *c = &ret->counts.c;
	c->live_bytes_se = error_of_sum(c->live_bytes_se, edge, c->live_bytes);
	c->alloc_bytes_se = error_of_sum(c->alloc_bytes_se, edge, c->alloc_bytes);
	c->cow_bytes_se = sqrt(c->cow_bytes_se);
	if (!e->growth_known)
		ret->growth_bytes_per_s = NAN;
}

/* Writes the rows of a layer; returns their number. */
static size_t rank_layer(const struct grouper *g, enum layer layer, struct report_group *ret)
{
	size_t n = HASH_COUNT(g->by_name[layer]), kept = 0, limit = g->src->q->limit;
	_cleanup_(freep) struct ranked_group *ranked = xcalloc(n, sizeof(*ranked));
	_cleanup_(freep) struct group *others = group_new(g, layer, OTHERS_NAME);

	for (struct group *e = g->by_name[layer]; e; e = e->hh.next)
		ranked[kept++] = (struct ranked_group){ group_figure(e, g->src->q->stack_sort), e };
	qsort(ranked, n, sizeof(*ranked), compare_groups);
	if (limit && n > limit)
		n = limit;
	for (size_t i = 0; i < n; i++)
		finish(g, ranked[i].g, &ret[i]);
	for (size_t i = n; i < kept; i++)
		add_group(others, ranked[i].g);
	if (kept > n)
		finish(g, others, &ret[n++]);
	return n;
}

static void groups_free(struct group **all)
{
	struct group *e, *next;

	HASH_ITER(hh, *all, e, next) {
		HASH_DEL(*all, e);
		free(e);
	}
}

size_t groups_build(const struct group_source *src, const struct report_group **ret)
{
	struct grouper g = { .src = src, .frames = { .arena = src->arena } };
	size_t room = 0, n = 0;

	for (size_t i = 0; i < src->n_stacks; i++)
		add_stack(&g, src->stacks[i]);
	for (int l = 0; l < LAYER_NR; l++)
		room += HASH_COUNT(g.by_name[l]); /* the row of others takes the place of one at least */
	struct report_group *rows = arena_alloc(src->arena, room, sizeof(*rows));
	for (int l = 0; l < LAYER_NR; l++)
		n += rank_layer(&g, (enum layer)l, rows + n);
	for (int l = 0; l < LAYER_NR; l++)
		groups_free(&g.by_name[l]);
	frame_list_done(&g.frames);
	*ret = rows;
	return n;
}
