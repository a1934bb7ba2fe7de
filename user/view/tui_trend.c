/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/tui_trend.h"

#include <math.h>
#include <string.h>
#include <uthash.h>

#include "util/mem.h"
#include "view/glyph.h"
#include "view/report.h"

/* Compared as bytes: proc_key is 16 bytes without holes. */
struct trend_key {
	struct proc_key proc;
	uint64_t stack_id;
	uint32_t tid, pad;
};
_Static_assert(sizeof(struct trend_key) == 32, "no padding: the key is hashed as bytes");

struct trend {
	struct trend_key key;
	uint64_t n;	     /* report.n of the newest value */
	double v[TREND_LEN]; /* oldest first; NAN: not shown then */
	UT_hash_handle hh;
};

struct trends {
	struct trend *all; /* hash */
	bool has_n;
	uint64_t n;
};

struct trends *trends_new(void)
{
	return xcalloc(1, sizeof(struct trends));
}

static void forget(struct trends *t, struct trend *e)
{
	HASH_DEL(t->all, e);
	free(e);
}

void trends_free(struct trends *t)
{
	struct trend *e, *next;

	if (!t)
		return;
	HASH_ITER(hh, t->all, e, next)
		forget(t, e);
	free(t);
}

static struct trend *find_or_add(struct trends *t, const struct trend_key *key)
{
	struct trend *e;

	HASH_FIND(hh, t->all, key, sizeof(*key), e);
	if (e || HASH_COUNT(t->all) >= TRENDS_MAX)
		return e;
	e = xcalloc(1, sizeof(*e));
	e->key = *key;
	for (int i = 0; i < TREND_LEN; i++)
		e->v[i] = NAN;
	HASH_ADD(hh, t->all, key, sizeof(e->key), e);
	return e;
}

static void push(struct trends *t, const struct trend_key *key, uint64_t n, double value)
{
	struct trend *e = find_or_add(t, key);

	if (!e)
		return;
	/* A stack beyond the report's limit was not seen for some intervals: those stay holes. */
	uint64_t shift = n - e->n < TREND_LEN ? n - e->n : TREND_LEN;
	for (; shift; shift--) {
		memmove(e->v, e->v + 1, sizeof(e->v[0]) * (TREND_LEN - 1));
		e->v[TREND_LEN - 1] = NAN;
	}
	e->v[TREND_LEN - 1] = value;
	e->n = n;
}

static void add_proc(struct trends *t, const struct report_proc *p, uint64_t n)
{
	struct trend_key key = { .proc = p->id };

	push(t, &key, n, p->rss_bytes == UNKNOWN_U64 ? NAN : (double)p->rss_bytes);
	for (size_t i = 0; i < p->n_stacks; i++) {
		key.stack_id = p->stacks[i].stack_id;
		key.tid = p->stacks[i].tid;
		if (p->stacks[i].counts.live_known && key.stack_id && p->stacks[i].counts.c.live_bytes != UNKNOWN_U64)
			push(t, &key, n, (double)p->stacks[i].counts.c.live_bytes);
	}
}

static void forget_old(struct trends *t, uint64_t n)
{
	struct trend *e, *next;

	HASH_ITER(hh, t->all, e, next)
		if (n - e->n > TREND_LEN)
			forget(t, e);
}

void trends_add(struct trends *t, const struct report *r)
{
	if (t->has_n && r->n <= t->n)
		return;
	for (size_t i = 0; i < r->n_procs; i++)
		add_proc(t, &r->procs[i], r->n);
	forget_old(t, r->n);
	t->has_n = true;
	t->n = r->n;
}

static double least_of(const double *v, double *ret_most)
{
	double least = INFINITY, most = -INFINITY;

	for (int i = 0; i < TREND_LEN; i++)
		if (!isnan(v[i])) {
			least = fmin(least, v[i]);
			most = fmax(most, v[i]);
		}
	*ret_most = most;
	return least;
}

const char *trend_text(const struct trends *t, const struct proc_key *proc, const struct report_stack *stack, bool utf8,
		       char buf[TREND_TEXT_CAP])
{
	static const char ascii[TREND_LEN + 1] = "_.-:=+*#";
	struct trend_key key = { .proc = *proc };
	struct trend *e;
	double most;
	size_t at = 0;

	if (stack) {
		key.stack_id = stack->stack_id;
		key.tid = stack->tid;
	}
	buf[0] = 0;
	HASH_FIND(hh, t->all, &key, sizeof(key), e);
	if (!e || isnan(e->v[TREND_LEN - 2]))
		return buf;
	double least = least_of(e->v, &most);
	/* The full height is 5 % of the value at least: noise of some bytes must not look like a tide. */
	double span = fmax(most - least, most * 0.05);
	for (int i = 0; i < TREND_LEN; i++) {
		int level = span > 0 && !isnan(e->v[i]) ? (int)((e->v[i] - least) / span * 7.99) : 0;

		if (isnan(e->v[i]))
			buf[at++] = ' ';
		else if (utf8)
			at += glyph_encode(L'\x2581' + level, buf + at); /* U+2581..U+2588: lower eighths */
		else
			buf[at++] = ascii[level];
	}
	buf[at] = 0;
	return buf;
}
