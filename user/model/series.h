/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A figure over a window of time in a bounded number of points, and the straight line through them. A zeroed
 * struct is empty.
 */
#ifndef TIDEMARK_MODEL_SERIES_H
#define TIDEMARK_MODEL_SERIES_H

#include <stddef.h>
#include <stdint.h>

struct series_point {
	double t, v; /* seconds, figure */
};

struct series {
	struct series_point *points; /* oldest first */
	uint32_t n, cap;
};

/* Least squares. Unknown (NAN) below three points or two seconds. */
struct slope {
	double per_s;
	double r2;   /* share of the variation that the line explains; NAN also if the figure never changed */
	double mean; /* of the points */
	double span_s;
	uint32_t n;
};

/*
 * Points come in the order of time. Those older than window_s before `t` go, and what lies closer together than the
 * window's share of a point is thinned; the newest point is always kept.
 */
void series_add(struct series *s, double t, double v, double window_s);
struct slope series_slope(const struct series *s);
void series_done(struct series *s);

#endif
