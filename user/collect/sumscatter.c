/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/sumscatter.h"

#include <math.h>
#include <stdlib.h>
#include <uthash.h>

#include "util/mem.h"

#define FADE 0.9	/* what a window weighs one window later */
#define WINDOWS_MIN 3	/* for a spread */
#define PRIOR_WINDOWS 4 /* so many windows of the supposed scatter are taken for granted */

/* All zero: no window yet. */
struct scatter {
	unsigned windows;
	double bytes, var, counted; /* of the last one: booked, scale included; work that it stands for */
	double seen,
		supposed; /* squares of what each differs from the one before, which fade; what alloc_var says of them */
};

struct entry {
	uint32_t sum;
	struct sum_counted last;
	struct scatter scatter;
	UT_hash_handle hh;
};

struct sum_scatters {
	struct entry *all;
};

struct sum_scatters *sum_scatters_new(void)
{
	return xcalloc(1, sizeof(struct sum_scatters));
}

static void drop(struct sum_scatters *s, struct entry *e)
{
	HASH_DEL(s->all, e);
	free(e);
}

void sum_scatters_forget(struct sum_scatters *s, uint32_t account)
{
	struct entry *e, *next;

	HASH_ITER(hh, s->all, e, next) {
		if (e->last.account == account)
			drop(s, e);
	}
}

void sum_scatters_free(struct sum_scatters *s)
{
	struct entry *e, *next;

	if (!s)
		return;
	HASH_ITER(hh, s->all, e, next)
		drop(s, e);
	free(s);
}

/* Two windows of unequal length, each weighed with the other's: of the difference squared, the mean is the scatter of one. */
static void compare(struct scatter *s, double bytes, double var, double counted)
{
	double both = counted * counted + s->counted * s->counted, off = bytes * s->counted - s->bytes * counted;

	if (!(both > 0))
		return;
	s->seen = s->seen * FADE + off * off / both;
	s->supposed = s->supposed * FADE + (var * s->counted * s->counted + s->var * counted * counted) / both;
}

static void scatter_add(struct scatter *s, double bytes, double var, double counted)
{
	if (s->windows++)
		compare(s, bytes, var, counted);
	s->bytes = bytes;
	s->var = var;
	s->counted = counted;
}

static double scatter_spread(const struct scatter *s)
{
	if (s->windows < WINDOWS_MIN)
		return NAN;
	double prior = PRIOR_WINDOWS * s->supposed / fmin(s->windows - 1, 1 / (1 - FADE));

	return fmax(1, sqrt((s->seen + prior) / (s->supposed + prior + 1)));
}

static struct entry *entry_of(struct sum_scatters *s, const struct sum_counted *now)
{
	struct entry *e = NULL;

	HASH_FIND(hh, s->all, &now->sum, sizeof(now->sum), e);
	/* The place was given back, and another stack has it: what it counted before the first look is of windows that can't be told apart. */
	if (e && (e->last.account != now->account || e->last.bytes > now->bytes)) {
		drop(s, e);
		e = NULL;
	}
	if (!e) {
		e = xcalloc(1, sizeof(*e));
		e->sum = now->sum;
		e->last = *now;
		HASH_ADD(hh, s->all, sum, sizeof(e->sum), e);
	}
	return e;
}

double sum_scatters_spread(struct sum_scatters *s, const struct sum_counted *now)
{
	struct entry *e = entry_of(s, now);

	if (now->windows > e->last.windows && !now->is_open) {
		scatter_add(&e->scatter, now->bytes - e->last.bytes, now->var - e->last.var,
			    now->counted_ns - e->last.counted_ns);
		e->last = *now;
	}
	return scatter_spread(&e->scatter);
}
