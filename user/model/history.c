/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the memory between two models. Refuses to interpret: what the figures mean is model.c's. */
#include "model/history.h"

#include <math.h>

#include "model/model.h"
#include "util/mem.h"

struct history *history_new(double window_s)
{
	struct history *h = xcalloc(1, sizeof(*h));

	h->window_s = window_s;
	return h;
}

static void stack_drop(struct history *h, struct past_stack *s)
{
	HASH_DEL(h->stacks, s);
	series_done(&s->live);
	free(s);
}

static void proc_drop(struct history *h, struct past_proc *p)
{
	HASH_DEL(h->procs, p);
	series_done(&p->rss);
	free(p);
}

/* `keep`: entries of this generation stay. */
static void drop_others(struct history *h, uint64_t keep)
{
	struct past_stack *s, *next_s;
	struct past_proc *p, *next_p;

	HASH_ITER(hh, h->stacks, s, next_s) {
		if (s->generation != keep)
			stack_drop(h, s);
	}
	HASH_ITER(hh, h->procs, p, next_p) {
		if (p->generation != keep)
			proc_drop(h, p);
	}
}

void history_free(struct history *h)
{
	if (!h)
		return;
	drop_others(h, UINT64_MAX);
	free(h);
}

void history_set_baseline(struct history *h)
{
	for (struct past_stack *s = h->stacks; s; s = s->hh.next)
		s->live_base = s->live_now;
	for (struct past_proc *p = h->procs; p; p = p->hh.next) {
		p->heap_base = p->heap_now;
		p->rss_base = p->rss_now;
	}
}

void history_begin(struct history *h, const struct snapshot *s)
{
	double now_s = (double)s->mono_ns / 1e9;

	h->interval_s = h->generation && now_s > h->now_s ? now_s - h->now_s : NAN;
	h->now_s = now_s;
	h->generation++;
}

struct past_proc *history_proc(struct history *h, const struct proc_key *id, bool *ret_is_new)
{
	struct past_proc *p;

	HASH_FIND(hh, h->procs, id, sizeof(*id), p);
	*ret_is_new = !p;
	if (!p) {
		p = xcalloc(1, sizeof(*p));
		p->id = *id;
		HASH_ADD(hh, h->procs, id, sizeof(p->id), p);
	}
	p->generation = h->generation;
	return p;
}

struct past_stack *history_stack(struct history *h, const struct stack_key *key, bool *ret_is_new)
{
	struct past_stack *s;

	HASH_FIND(hh, h->stacks, key, sizeof(*key), s);
	*ret_is_new = !s;
	if (!s) {
		s = xcalloc(1, sizeof(*s));
		s->key = *key;
		s->first_s = h->now_s;
		HASH_ADD(hh, h->stacks, key, sizeof(s->key), s);
	}
	s->generation = h->generation;
	return s;
}

const struct past_proc *history_find(const struct history *h, const struct proc_key *id)
{
	const struct past_proc *p;

	HASH_FIND(hh, h->procs, id, sizeof(*id), p);
	return p && p->generation == h->generation ? p : NULL;
}

void history_end(struct history *h)
{
	drop_others(h, h->generation);
}
