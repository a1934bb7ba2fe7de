/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds the report: sorts, limits, filters, has frames named. Computes no figure: those come from
 * the model, and what cannot be known is marked unknown here, so that no view has to think about it.
 */
#include "view/report.h"

#include <math.h>
#include <string.h>

#include "util/arena.h"
#include "util/mem.h"
#include "view/frames.h"
#include "view/groups.h"
#include "view/order.h"
#include "view/stack_dict.h"

struct builder {
	const struct model *m;
	const struct report_meta *meta;
	const struct query *q;
	struct sym *sym;
	struct stack_dict *stacks;
	struct arena *arena;
	enum layer compared;	  /* whose figures order the processes */
	struct frame_list frames; /* scratch: of one stack */
};

static bool same_proc(const struct proc_key *a, const struct proc_key *b)
{
	return a->pid == b->pid && a->start_ticks == b->start_ticks && a->image == b->image;
}

double report_start_ts(const struct report_meta *meta, const struct proc_key *id)
{
	return meta->boot_ts > 0 ? meta->boot_ts + (double)id->start_ticks / 100 : NAN; /* USER_HZ */
}

/* --- order --- */

struct ranked_stack {
	double figure;
	const struct model_stack *s;
};

static double stack_figure(const struct model_stack *s, enum sort_key key)
{
	struct row_figures f = {
		.layer = s->snap->layer,
		.counts = &s->snap->counts,
		.growth_bytes_per_s = s->growth_bytes_per_s,
		.alloc_bytes_per_s = s->alloc_bytes_per_s,
		.age_s = s->snap->ages_known ? (double)s->snap->age_p50_s : NAN,
	};

	return figure_by_key(&f, key);
}

/* By layer, then by figure; allocated bytes decide between equals, so that a figure that a layer does not have gives a useful order too. */
static int compare_stacks(const void *va, const void *vb)
{
	const struct ranked_stack *a = va, *b = vb;
	const struct snap_stack *x = a->s->snap, *y = b->s->snap;
	int order = (int)x->layer - (int)y->layer;

	if (!order)
		order = compare_figures(a->figure, b->figure);
	if (!order)
		order = compare_figures(figure_of(x->counts.alloc_bytes), figure_of(y->counts.alloc_bytes));
	if (!order)
		order = (x->stack_id > y->stack_id) - (x->stack_id < y->stack_id);
	if (!order)
		order = (x->tid > y->tid) - (x->tid < y->tid);
	return order;
}

struct ranked_proc {
	double figure;
	const struct model_proc *p;
};

static bool layer_shown(const struct builder *b, const struct model_proc *p, enum layer layer)
{
	return p->layers[layer].on && b->q->layer_on[layer];
}

/* One layer for all processes, the innermost that any has: ten bytes mapped are not more than five allocated. */
static enum layer compared_layer(const struct builder *b)
{
	static const enum layer order[] = { LAYER_HEAP, LAYER_PYTHON, LAYER_MAP };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		for (size_t k = 0; k < b->m->n_procs; k++)
			if (layer_shown(b, &b->m->procs[k], order[i]))
				return order[i];
	return LAYER_PAGE;
}

static double oldest_stack(const struct model_proc *p)
{
	double oldest = NAN;

	for (size_t i = 0; i < p->n_stacks; i++)
		if (p->stacks[i].snap->ages_known)
			oldest = fmax(oldest, (double)p->stacks[i].snap->age_p50_s);
	return oldest;
}

static double proc_figure(const struct builder *b, const struct model_proc *p)
{
	const struct model_layer *l = &p->layers[b->compared];
	double known = layer_shown(b, p, b->compared) ? 0 : NAN; /* NAN + x is NAN */
	const double figures[SORT_NR] = {
		[SORT_GROWTH] = p->growth_bytes_per_s,
		[SORT_RSS] = figure_of(p->snap->rss_bytes),
		[SORT_LIVE] = known + figure_of(l->counts.live_bytes),
		[SORT_COUNT] = known + figure_of(l->counts.live_count),
		[SORT_RATE] = known + l->alloc_bytes_per_s,
		[SORT_ALLOC] = known + figure_of(l->counts.alloc_bytes),
		[SORT_AGE] = b->q->proc_sort == SORT_AGE ? oldest_stack(p) : NAN,
	};

	return figures[b->q->proc_sort];
}

static int compare_procs(const void *va, const void *vb)
{
	const struct ranked_proc *a = va, *b = vb;
	const struct proc_key *x = &a->p->snap->id, *y = &b->p->snap->id;
	int order = compare_figures(a->figure, b->figure);

	if (!order)
		order = (x->pid > y->pid) - (x->pid < y->pid);
	if (!order)
		order = (x->image > y->image) - (x->image < y->image);
	return order;
}

/* --- frames --- */

/* Is more of it looked at than its row among the others? */
static bool is_looked_at(const struct builder *b, const struct model_proc *p)
{
	return !b->q->only_opened || same_proc(&b->q->opened, &p->snap->id);
}

/* looked_at: frames and site, too; else the summary alone. */
static void add_frames(struct builder *b, struct report_stack *row, bool looked_at)
{
	const struct named_stack *named = (looked_at ? stack_dict_name : stack_dict_sum_up)(
		b->stacks, row->stack_id, row->layer, b->q, b->sym, &b->frames);

	if (!named) {
		row->cut = CUT_UNKNOWN;
		row->summary = "unknown stack";
		return;
	}
	const struct snap_stackdef *def = named->def;
	row->complete = def->complete;
	row->cut = def->complete ? CUT_NONE : def->cut < CUT_NR ? (enum stack_cut)def->cut : CUT_UNKNOWN;
	row->has_python = def->n_python > 0;
	row->python_cut = def->python_cut < CUT_NR ? (enum stack_cut)def->python_cut : CUT_UNKNOWN;
	row->summary = named->summary;
	if (!looked_at)
		return;
	row->site = named->site;
	row->frames = named->frames;
	row->n_frames = named->n_frames;
}

/* --- rows --- */

/* Where returns cannot be probed no block is ever seen, so nothing can be said of what is live; nor where its allocator can't be asked. */
static bool live_known(const struct model_proc *p, enum layer layer)
{
	bool calls = layer == LAYER_HEAP || layer == LAYER_PYTHON;

	return !calls || (!p->snap->live_unknown && !p->snap->unanswered[layer]);
}

/* Pages that went are known per process only. */
static bool stack_live_known(const struct model_proc *p, enum layer layer)
{
	return layer != LAYER_PAGE && live_known(p, layer);
}

static void build_stack(struct builder *b, const struct model_proc *p, const struct model_stack *s,
			struct report_stack *row)
{
	*row = (struct report_stack){
		.stack_id = s->snap->stack_id,
		.tid = s->snap->tid,
		.thread = arena_strdup(b->arena, s->snap->thread),
		.layer = s->snap->layer,
		.counts = {
			.c = s->snap->counts,
			.alloc_bytes_per_s = s->alloc_bytes_per_s,
			.allocs_per_s = s->allocs_per_s,
			.live_known = stack_live_known(p, s->snap->layer),
		},
		.growth_bytes_per_s = s->growth_bytes_per_s,
		.delta_bytes = s->delta_bytes,
		.ages_known = s->snap->ages_known,
		.age_p50_s = (double)s->snap->age_p50_s,
		.age_p95_s = (double)s->snap->age_p95_s,
		.age_max_s = (double)s->snap->age_max_s,
		.leak = s->leak,
		.file_bytes = s->snap->file_bytes,
	};
	add_frames(b, row, is_looked_at(b, p));
}

static bool is_alerted(const struct model *m, const struct snap_stack *s)
{
	for (size_t i = 0; i < m->n_alerts; i++)
		if (m->alerts[i].stack_id && m->alerts[i].stack_id == s->stack_id && m->alerts[i].tid == s->tid &&
		    same_proc(&m->alerts[i].id, &s->id))
			return true;
	return false;
}

/* Drops what is over the limit of its layer, but for what an alert names: its reader has to find it. Returns how many stay. */
static size_t limit_stacks(const struct builder *b, const struct model_proc *p, struct ranked_stack *ranked, size_t n)
{
	size_t in_layer[LAYER_NR] = { 0 }, kept = 0, limit = is_looked_at(b, p) ? b->q->limit : 1;

	for (size_t i = 0; i < n; i++) {
		const struct snap_stack *s = ranked[i].s->snap;

		if (!limit || in_layer[s->layer]++ < limit || is_alerted(b->m, s))
			ranked[kept++] = ranked[i];
	}
	return kept;
}

static void build_groups(struct builder *b, const struct model_proc *p, const struct ranked_stack *ranked, size_t n,
			 struct report_proc *row)
{
	_cleanup_(freep) const struct model_stack **all = xcalloc(n, sizeof(*all));
	struct group_source src = { all, n, b->q, b->stacks, b->sym, b->arena, { false }, p->snap->edge };

	for (size_t i = 0; i < n; i++)
		all[i] = ranked[i].s;
	for (int l = 0; l < LAYER_NR; l++)
		src.live_known[l] = stack_live_known(p, l);
	row->n_groups = groups_build(&src, &row->groups);
}

static void build_stacks(struct builder *b, const struct model_proc *p, struct report_proc *row)
{
	_cleanup_(freep) struct ranked_stack *ranked = xcalloc(p->n_stacks, sizeof(*ranked));
	size_t n = 0;

	for (size_t i = 0; i < p->n_stacks; i++)
		if (layer_shown(b, p, p->stacks[i].snap->layer))
			ranked[n++] = (struct ranked_stack){ stack_figure(&p->stacks[i], b->q->stack_sort),
							     &p->stacks[i] };
	qsort(ranked, n, sizeof(*ranked), compare_stacks);
	row->n_stacks_total = n;
	if (b->q->group != GROUP_NONE && is_looked_at(b, p))
		build_groups(b, p, ranked, n, row);
	n = limit_stacks(b, p, ranked, n);
	struct report_stack *rows = arena_alloc(b->arena, n, sizeof(*rows));
	for (size_t i = 0; i < n; i++)
		build_stack(b, p, ranked[i].s, &rows[i]);
	row->stacks = rows;
	row->n_stacks = n;
}

static void build_layers(const struct builder *b, const struct model_proc *p, struct report_proc *row)
{
	for (int l = 0; l < LAYER_NR; l++) {
		row->layer_on[l] = layer_shown(b, p, l);
		row->layers[l] = (struct report_counts){
			.c = p->layers[l].counts,
			.alloc_bytes_per_s = p->layers[l].alloc_bytes_per_s,
			.allocs_per_s = p->layers[l].allocs_per_s,
			.live_known = live_known(p, l),
		};
	}
}

static void build_proc(struct builder *b, const struct model_proc *p, struct report_proc *row)
{
	const struct snap_proc *s = p->snap;

	*row = (struct report_proc){
		.id = s->id,
		.start_ts = report_start_ts(b->meta, &s->id),
		.ppid = s->ppid,
		.comm = arena_strdup(b->arena, s->comm),
		.cmdline = arena_strdup(b->arena, s->cmdline),
		.cgroup = arena_strdup(b->arena, s->cgroup),
		.python = arena_strdup(b->arena, s->python),
		.python_refused = s->python_refused ? arena_strdup(b->arena, s->python_refused) : NULL,
		.py_allocator = s->py_allocator ? arena_strdup(b->arena, s->py_allocator) : NULL,
		.py_coverage = s->py_coverage,
		.state = s->state,
		.mode = s->mode,
		.faults_counted = s->faults_counted,
		.given_back_bytes = s->given_back_bytes,
		.lever = s->lever ? arena_strdup(b->arena, s->lever) : NULL,
		.attached_share = s->attached_share,
		.overhead_pct = s->overhead_pct,
		.rss_bytes = s->rss_bytes,
		.anon_bytes = s->anon_bytes,
		.file_bytes = s->file_bytes,
		.shmem_bytes = s->shmem_bytes,
		.swap_bytes = s->swap_bytes,
		.limit_bytes = s->limit_bytes,
		.limit_eta_s = p->limit_eta_s,
		.growth_bytes_per_s = p->growth_bytes_per_s,
		.delta_bytes = p->delta_bytes,
	};
	memcpy(row->losses, s->losses, sizeof(row->losses));
	build_layers(b, p, row);
	build_stacks(b, p, row);
}

/* --- filter --- */

static bool contains(const char *text, const char *wanted)
{
	return text && strstr(text, wanted);
}

static bool frames_match(struct builder *b, const struct model_proc *p)
{
	for (size_t i = 0; i < p->n_stacks; i++) {
		const struct snap_stack *s = p->stacks[i].snap;
		const struct named_stack *named = layer_shown(b, p, s->layer)
							  ? stack_dict_name(b->stacks, s->stack_id, s->layer, b->q,
									    b->sym, &b->frames)
							  : NULL;

		for (size_t k = 0; named && k < named->n_frames; k++)
			if (contains(named->frames[k]->name, b->q->filter))
				return true;
	}
	return false;
}

static bool proc_matches(struct builder *b, const struct model_proc *p)
{
	const char *wanted = b->q->filter;

	return !*wanted || contains(p->snap->comm, wanted) || contains(p->snap->cmdline, wanted) || frames_match(b, p);
}

static void build_procs(struct builder *b, struct report *r)
{
	_cleanup_(freep) struct ranked_proc *ranked = xcalloc(b->m->n_procs, sizeof(*ranked));
	size_t n = 0;

	for (size_t i = 0; i < b->m->n_procs; i++) {
		const struct model_proc *p = &b->m->procs[i];

		if (proc_matches(b, p))
			ranked[n++] = (struct ranked_proc){ proc_figure(b, p), p };
	}
	qsort(ranked, n, sizeof(*ranked), compare_procs);
	struct report_proc *rows = arena_alloc(b->arena, n, sizeof(*rows));
	for (size_t i = 0; i < n; i++)
		build_proc(b, ranked[i].p, &rows[i]);
	r->procs = rows;
	r->n_procs = n;
}

/* --- alerts --- */

static bool in_model(const struct model *m, const struct proc_key *id)
{
	for (size_t i = 0; i < m->n_procs; i++)
		if (same_proc(&m->procs[i].snap->id, id))
			return true;
	return false;
}

static const struct report_proc *find_proc(const struct report *r, const struct proc_key *id)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (same_proc(&r->procs[i].id, id))
			return &r->procs[i];
	return NULL;
}

static const struct report_stack *find_stack(const struct report_proc *p, const struct alert *a)
{
	for (size_t i = 0; p && a->stack_id && i < p->n_stacks; i++)
		if (p->stacks[i].stack_id == a->stack_id && p->stacks[i].tid == a->tid)
			return &p->stacks[i];
	return NULL;
}

/* The model's sentence ends with the stack's number; what it is called, only the report knows. */
static const char *named_message(struct arena *arena, const char *message, const char *summary)
{
	return arena_printf(arena, "%s, allocated by %s", message, summary);
}

static void build_alerts(struct builder *b, struct report *r)
{
	struct alert *alerts = arena_alloc(b->arena, b->m->n_alerts, sizeof(*alerts));

	for (size_t i = 0; i < b->m->n_alerts; i++) {
		const struct alert *a = &b->m->alerts[i];
		const struct report_proc *p = find_proc(r, &a->id);
		const struct report_stack *s = find_stack(p, a);

		if (!p && in_model(b->m, &a->id))
			continue; /* the filter hides it */
		struct alert *row = &alerts[r->n_alerts++];
		*row = *a;
		row->comm = arena_strdup(b->arena, a->comm);
		row->message = s && a->state == ALERT_FIRING ? named_message(b->arena, a->message, s->summary)
							     : arena_strdup(b->arena, a->message);
		if (!s)
			row->stack_id = 0; /* an id that leads nowhere names nothing */
	}
	r->alerts = alerts;
}

static void build_self(struct builder *b, struct report *r)
{
	struct snap_map *maps = arena_alloc(b->arena, b->m->snap->self.n_maps, sizeof(*maps));

	r->self = b->m->snap->self;
	for (size_t i = 0; i < r->self.n_maps; i++) {
		maps[i] = r->self.maps[i];
		maps[i].name = arena_strdup(b->arena, maps[i].name);
	}
	r->self.maps = maps;
}

int report_build(const struct model *m, const struct report_meta *meta, const struct query *q, struct sym *sym,
		 struct stack_dict *stacks, struct report **ret)
{
	struct report *r = xcalloc(1, sizeof(*r));
	struct builder b = { .m = m, .meta = meta, .q = q, .sym = sym, .stacks = stacks };

	b.arena = b.frames.arena = r->arena = arena_new();
	b.compared = compared_layer(&b);
	r->meta = meta;
	r->query = q;
	r->n = m->snap->n;
	r->ts = m->snap->ts;
	build_procs(&b, r);
	build_alerts(&b, r);
	build_self(&b, r);
	frame_list_done(&b.frames);
	*ret = r;
	return 0;
}

void report_free(struct report *r)
{
	if (!r)
		return;
	arena_free(r->arena);
	free(r);
}
