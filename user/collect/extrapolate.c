/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/extrapolate.h"

#include <math.h>

#define FADE 0.9	/* what a window weighs one window later */
#define SCALE_LESS 0.25 /* of what the clock says: a window counts for something, whatever the ones before it did */
#define SCALE_MORE 64.0 /* times what the clock says: no window is taken to have shown less */
#define WINDOWS_MIN 3	/* for a spread */
#define PRIOR_WINDOWS 4 /* so many windows of the supposed scatter are taken for granted */

double extrapolate_scale(const struct extrapolation *x, const struct window_ahead *a)
{
	double owed = x->work_ns + a->work_ns + a->rest_ns - x->counted_ns;

	if (!(a->within_ns > 0) || !isfinite(owed))
		return a->plain;
	return fmin(fmax(owed / a->within_ns, SCALE_LESS * a->plain), SCALE_MORE * a->plain);
}

void extrapolate_window(struct extrapolation *x, const struct window_seen *w)
{
	double counted = w->scale * fmax(w->work_ns, 0);

	x->counted_ns += counted;
	x->windows++;
	x->bytes = x->bytes * FADE + w->bytes;
	x->counted = x->counted * FADE + counted;
	x->bytes2 = x->bytes2 * FADE + w->bytes * w->bytes;
	x->counted2 = x->counted2 * FADE + counted * counted;
	x->both = x->both * FADE + w->bytes * counted;
	x->supposed = x->supposed * FADE + w->var;
}

void extrapolate_period(struct extrapolation *x, double work_ns)
{
	x->work_ns += fmax(work_ns, 0);
}

double extrapolate_edge(const struct extrapolation *x, double work_ns, double open_ns)
{
	double work = x->work_ns + fmax(work_ns, 0);

	return work > 0 ? fabs(work - x->counted_ns - open_ns) / work : 0;
}

/* Bytes against what the work suggests: the squares of what is left when each window is held against the mean of all. */
static double seen_scatter(const struct extrapolation *x)
{
	double rate = x->counted > 0 ? x->bytes / x->counted : 0;
	double left = x->bytes2 - 2 * rate * x->both + rate * rate * x->counted2;
	double n = fmin(x->windows, 1 / (1 - FADE)); /* the rate was taken from the same windows */

	return fmax(left, 0) * n / (n - 1);
}

double extrapolate_spread(const struct extrapolation *x)
{
	if (x->windows < WINDOWS_MIN)
		return NAN;
	double known = fmin(x->windows, 1 / (1 - FADE)), prior = PRIOR_WINDOWS * x->supposed / known;

	return fmax(1, sqrt((seen_scatter(x) + prior) / (x->supposed + prior + 1)));
}
