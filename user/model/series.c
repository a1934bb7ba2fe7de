/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owns the points of one figure. There is one series per stack, so it starts small and never gets over 512 bytes. */
#include "model/series.h"

#include <math.h>
#include <string.h>

#include "util/mem.h"

/*
 * POINTS_DENSE points come as fast as they are given, so that a slope is known early; later ones keep a distance.
 * With the default window of 60 s that is one point in 2.1 s, of which rates of change over a minute lose nothing
 * that matters.
 */
enum { POINTS_FIRST = 4, POINTS_MAX = 32, POINTS_DENSE = 8, POINTS_NEEDED = 3 };
#define SPAN_NEEDED_S 2.0

static void drop_oldest(struct series *s, uint32_t n)
{
	memmove(s->points, s->points + n, (s->n - n) * sizeof(*s->points));
	s->n -= n;
}

void series_add(struct series *s, double t, double v, double window_s)
{
	double distance = window_s / (POINTS_MAX - 3);
	uint32_t old = 0;

	while (old < s->n && s->points[old].t < t - window_s)
		old++;
	if (old)
		drop_oldest(s, old);
	/* The last point is moved on until it is far enough from the one before it. */
	if (s->n >= POINTS_DENSE && s->points[s->n - 1].t - s->points[s->n - 2].t < distance)
		s->n--;
	if (s->n == POINTS_MAX)
		drop_oldest(s, 1);
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : POINTS_FIRST;
		s->points = xrealloc(s->points, s->cap, sizeof(*s->points));
	}
	s->points[s->n++] = (struct series_point){ t, v };
}

struct slope series_slope(const struct series *s)
{
	struct slope r = { .per_s = NAN, .r2 = NAN, .mean = NAN, .n = s->n };
	double mean_t = 0, mean_v = 0, tt = 0, tv = 0, vv = 0;

	if (s->n)
		r.span_s = s->points[s->n - 1].t - s->points[0].t;
	if (s->n < POINTS_NEEDED || r.span_s < SPAN_NEEDED_S)
		return r;
	for (uint32_t i = 0; i < s->n; i++) {
		mean_t += s->points[i].t / s->n;
		mean_v += s->points[i].v / s->n;
	}
	for (uint32_t i = 0; i < s->n; i++) {
		double t = s->points[i].t - mean_t, v = s->points[i].v - mean_v;

		tt += t * t;
		tv += t * v;
		vv += v * v;
	}
	r.mean = mean_v;
	r.per_s = tv / tt;
	if (vv > 0)
		r.r2 = tv * tv / (tt * vv);
	return r;
}

void series_done(struct series *s)
{
	free(s->points);
	*s = (struct series){ 0 };
}
