/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the state of the consecutive-check rule: per process the figure of the check before, the run of growth it
 * is in, and whether its alert stands. Refuses to tell a leak from a cache: the rule says that something grows and
 * does not stop, and what grows.
 */
#include "model/leak.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "model/model.h"
#include "model/series.h"
#include "util/arena.h"
#include "util/fmt.h"
#include "util/mem.h"

const struct leak_rule leak_rule_default = {
	.threshold_pct = 2,
	.consecutive = 3,
	.min_bytes = 1 << 20,
	.warmup_s = 0,
};

struct growth_run {
	uint32_t checks;
	uint64_t before; /* the figure when it began */
	double start_s;
};

struct watched {
	struct proc_key id;
	uint64_t generation; /* of the last step that saw it */
	double first_s;
	enum layer layer; /* of the figure */
	bool has_prev;
	uint64_t prev;
	double prev_s;
	struct growth_run run;
	bool is_firing;
	double fired_ts;
	uint64_t high; /* highest figure since it fires */
	uint32_t calm; /* checks without a new high */
	UT_hash_handle hh;
};

struct leak_watch {
	struct leak_rule rule;
	struct watched *procs;
	uint64_t generation;
	bool found;
};

/* One check of one process. */
struct check {
	const struct model_proc *proc;
	enum layer layer;
	uint64_t figure;
	double now_s, ts;
};

const char *verdict_name(enum verdict v)
{
	static const char *const names[] = {
		[VERDICT_UNKNOWN] = "unknown", [VERDICT_LEAK] = "leak",	    [VERDICT_CACHE] = "cache",
		[VERDICT_GROWING] = "growing", [VERDICT_STEADY] = "steady", [VERDICT_CHURN] = "churn",
	};

	return names[v];
}

/* ---- one stack ---- */

/* Below this a line says more about the noise than about the stack. */
#define JUDGE_SPAN_S 10.0
#define JUDGE_POINTS 8
#define JUDGE_R2 0.9
#define JUDGE_CHANGE 0.01 /* of the mean, over the span */

struct leak_verdict leak_judge(const struct slope *live, double seen_s)
{
	struct leak_verdict v = {
		.verdict = VERDICT_UNKNOWN,
		.probability = NAN,
		.growth_bytes_per_s = live->per_s,
		.survivors_pct = NAN,
		.slope_r2 = live->r2,
		.seen_s = seen_s,
	};
	double change = live->per_s * live->span_s;

	if (live->n < JUDGE_POINTS || live->span_s < JUDGE_SPAN_S || !(live->mean > 0))
		return v;
	if (fabs(change) < JUDGE_CHANGE * live->mean)
		v.verdict = VERDICT_STEADY;
	else if (change > 0 && live->r2 >= JUDGE_R2)
		v.verdict = VERDICT_GROWING;
	return v;
}

/* Bytes per second; before there is a slope, what came since the stack was first seen. */
static double growth_of(const struct model_stack *s)
{
	if (!isnan(s->growth_bytes_per_s))
		return s->growth_bytes_per_s;
	return s->leak.seen_s > 0 ? (double)s->delta_bytes / s->leak.seen_s : 0;
}

static uint64_t old_of(const struct model_stack *s)
{
	return s->snap->old_live_bytes == UNKNOWN_U64 ? 0 : s->snap->old_live_bytes;
}

/*
 * A stack with less than this share of the fastest stack's growth is not what grows, however much old memory it
 * holds.
 */
#define SUSPECT_SHARE 0.1

/* NULL: nothing of this layer grows. */
static const struct model_stack *suspect_of(const struct model_proc *p, enum layer layer)
{
	const struct model_stack *best = NULL;
	double fastest = 0;

	for (size_t i = 0; i < p->n_stacks; i++)
		if (p->stacks[i].snap->layer == layer)
			fastest = fmax(fastest, growth_of(&p->stacks[i]));
	for (size_t i = 0; fastest > 0 && i < p->n_stacks; i++) {
		const struct model_stack *s = &p->stacks[i];

		if (s->snap->layer != layer || growth_of(s) < SUSPECT_SHARE * fastest)
			continue;
		if (!best || old_of(s) > old_of(best) || (old_of(s) == old_of(best) && growth_of(s) > growth_of(best)))
			best = s;
	}
	return best;
}

/* ---- alerts ---- */

static const char *figure_name(enum layer layer)
{
	return layer == LAYER_HEAP ? "live heap" : "resident anonymous memory";
}

static const char *suspect_text(struct arena *arena, const struct model_stack *s)
{
	char old[FMT_CAP], live[FMT_CAP];

	if (!s)
		return "";
	fmt_bytes(live, (double)s->snap->counts.live_bytes);
	if (!old_of(s))
		return arena_printf(arena, "; grows most: stack 0x%016" PRIx64 " (%s live)", s->snap->stack_id, live);
	return arena_printf(arena, "; most old live bytes: stack 0x%016" PRIx64 " (%s of %s live)", s->snap->stack_id,
			    fmt_bytes(old, (double)old_of(s)), live);
}

static const char *message_of(struct arena *arena, const struct alert *a, enum layer figure, const char *suspect)
{
	char before[FMT_CAP], now[FMT_CAP], rate[FMT_CAP];

	fmt_bytes(before, (double)a->bytes_before);
	fmt_bytes(now, (double)a->bytes_now);
	if (a->state == ALERT_RESOLVED)
		return arena_printf(arena, "\"%s\" (pid %u) grows no more: %s %s, no new high in %u checks", a->comm,
				    a->id.pid, figure_name(figure), now, a->checks);
	return arena_printf(arena, "\"%s\" (pid %u) grows: %s %s -> %s over %u checks (%s/s)%s", a->comm, a->id.pid,
			    figure_name(figure), before, now, a->checks, fmt_bytes(rate, a->growth_bytes_per_s),
			    suspect);
}

/* Where the heap is not observed a mapping may still be named, if those are. */
static void name_suspect(struct alert *a, const struct check *c, const struct model_stack **ret)
{
	enum layer layer = c->layer == LAYER_HEAP ? LAYER_HEAP : LAYER_MAP;
	const struct model_stack *s = suspect_of(c->proc, layer);

	*ret = s;
	a->old_live_bytes = UNKNOWN_U64;
	a->live_bytes = c->figure;
	a->layer = c->layer;
	if (!s)
		return;
	a->layer = layer;
	a->stack_id = s->snap->stack_id;
	a->tid = s->snap->tid;
	a->live_bytes = s->snap->counts.live_bytes;
	a->old_live_bytes = s->snap->old_live_bytes;
}

static struct alert alert_of(const struct watched *w, const struct check *c, enum alert_state state,
			     struct arena *arena)
{
	double run_s = c->now_s - w->run.start_s;
	struct alert a = {
		.kind = "leak",
		.severity = "critical",
		.id = w->id,
		.comm = arena_strdup(arena, c->proc->snap->comm ? c->proc->snap->comm : ""),
		.growth_bytes_per_s = ((double)c->figure - (double)w->run.before) / run_s,
		.first_seen_ts = w->fired_ts,
		.state = state,
		.checks = state == ALERT_FIRING ? w->run.checks : w->calm,
		.bytes_before = w->run.before,
		.bytes_now = c->figure,
	};
	const struct model_stack *suspect;

	name_suspect(&a, c, &suspect);
	a.message = message_of(arena, &a, c->layer, suspect_text(arena, suspect));
	return a;
}

/* ---- the rule ---- */

/* false: unknown at this check. */
static bool watched_figure(const struct model_proc *p, enum layer *ret_layer, uint64_t *ret)
{
	bool heap = p->layers[LAYER_HEAP].on && !p->snap->live_unknown && !p->snap->unanswered[LAYER_HEAP];
	uint64_t figure = heap ? p->layers[LAYER_HEAP].counts.live_bytes : p->snap->anon_bytes;

	if (figure == UNKNOWN_U64)
		return false;
	*ret_layer = heap ? LAYER_HEAP : LAYER_PAGE;
	*ret = figure;
	return true;
}

static bool has_grown(const struct leak_watch *lw, const struct watched *w, const struct check *c)
{
	if (!w->has_prev || !w->prev || c->figure <= w->prev)
		return false;
	if (w->prev_s - w->first_s < lw->rule.warmup_s)
		return false; /* part of this growth was warm-up */
	return (double)(c->figure - w->prev) >= lw->rule.threshold_pct / 100 * (double)w->prev;
}

static void follow_run(struct watched *w, bool grown)
{
	if (!grown) {
		w->run.checks = 0;
		return;
	}
	if (!w->run.checks) {
		w->run.before = w->prev;
		w->run.start_s = w->prev_s;
	}
	w->run.checks++;
}

/* The run that fired stays as it was while the alert stands: it is the evidence. */
static bool step_firing(const struct leak_watch *lw, struct watched *w, const struct check *c)
{
	if (c->figure > w->high) {
		w->high = c->figure;
		w->calm = 0;
		return false;
	}
	return ++w->calm >= lw->rule.consecutive;
}

static bool step_watching(const struct leak_watch *lw, struct watched *w, const struct check *c)
{
	follow_run(w, has_grown(lw, w, c));
	return w->run.checks >= lw->rule.consecutive && c->figure - w->run.before >= lw->rule.min_bytes;
}

/* true: *ret is set. */
static bool step_proc(struct leak_watch *lw, struct watched *w, const struct check *c, struct arena *arena,
		      struct alert *ret)
{
	bool turned = w->is_firing ? step_firing(lw, w, c) : step_watching(lw, w, c);

	w->has_prev = true;
	w->prev = c->figure;
	w->prev_s = c->now_s;
	if (!turned)
		return false;
	if (w->is_firing) {
		*ret = alert_of(w, c, ALERT_RESOLVED, arena);
		w->is_firing = false;
		w->run = (struct growth_run){ 0 };
		return true;
	}
	w->is_firing = true;
	w->fired_ts = c->ts;
	w->high = c->figure;
	w->calm = 0;
	lw->found = true;
	*ret = alert_of(w, c, ALERT_FIRING, arena);
	return true;
}

static struct watched *watched_of(struct leak_watch *lw, const struct proc_key *id, double now_s)
{
	struct watched *w;

	HASH_FIND(hh, lw->procs, id, sizeof(*id), w);
	if (!w) {
		w = xcalloc(1, sizeof(*w));
		w->id = *id;
		w->first_s = now_s;
		HASH_ADD(hh, lw->procs, id, sizeof(w->id), w);
	}
	w->generation = lw->generation;
	return w;
}

/* Another figure is watched from here on: nothing before can be compared with it. */
static void change_layer(struct watched *w, enum layer layer)
{
	w->layer = layer;
	w->has_prev = false;
	w->run = (struct growth_run){ 0 };
	w->is_firing = false;
}

static void forget_gone(struct leak_watch *lw)
{
	struct watched *w, *next;

	HASH_ITER(hh, lw->procs, w, next) {
		if (w->generation == lw->generation)
			continue;
		HASH_DEL(lw->procs, w);
		free(w);
	}
}

struct leak_watch *leak_watch_new(const struct leak_rule *rule)
{
	struct leak_watch *lw = xcalloc(1, sizeof(*lw));

	lw->rule = *rule;
	if (!lw->rule.consecutive)
		lw->rule.consecutive = 1;
	return lw;
}

void leak_watch_free(struct leak_watch *lw)
{
	if (!lw)
		return;
	lw->generation++;
	forget_gone(lw);
	free(lw);
}

const struct alert *leak_watch_step(struct leak_watch *lw, const struct model *m, struct arena *arena, size_t *ret_n)
{
	_cleanup_(freep) struct alert *found = NULL;
	size_t n = 0, cap = 0;
	struct alert *alerts;

	lw->generation++;
	for (size_t i = 0; i < m->n_procs; i++) {
		struct check c = { .proc = &m->procs[i], .now_s = (double)m->snap->mono_ns / 1e9, .ts = m->snap->ts };
		struct watched *w;

		if (c.proc->snap->state == PROC_EXITED)
			continue; /* its last figures are of a moment between two checks */
		w = watched_of(lw, &c.proc->snap->id, c.now_s);
		if (!watched_figure(c.proc, &c.layer, &c.figure))
			continue;
		if (w->layer != c.layer)
			change_layer(w, c.layer);
		found = grow_to(found, &cap, n + 1, sizeof(*found));
		n += step_proc(lw, w, &c, arena, &found[n]);
	}
	forget_gone(lw);
	alerts = arena_alloc(arena, n, sizeof(*alerts));
	if (n)
		memcpy(alerts, found, n * sizeof(*alerts));
	*ret_n = n;
	return alerts;
}

bool leak_watch_found(const struct leak_watch *lw)
{
	return lw->found;
}
