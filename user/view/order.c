/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/order.h"

#include <math.h>
#include <stdbool.h>

double figure_of(uint64_t v)
{
	return v == UNKNOWN_U64 ? NAN : (double)v;
}

int compare_figures(double a, double b)
{
	if (isnan(a) || isnan(b))
		return isnan(a) - isnan(b);
	return (a < b) - (a > b);
}

/* Resident bytes of one stack are unknown, its live bytes stand for them; of pages, what came or was copied by it. */
double figure_by_key(const struct row_figures *f, enum sort_key key)
{
	const struct counts *c = f->counts;
	bool pages = f->layer == LAYER_PAGE;
	double live = pages ? figure_of(c->alloc_bytes) + figure_of(c->cow_bytes) : figure_of(c->live_bytes);
	const double figures[SORT_NR] = {
		[SORT_GROWTH] = f->growth_bytes_per_s,
		[SORT_RSS] = live,
		[SORT_LIVE] = live,
		[SORT_COUNT] = figure_of(pages ? c->alloc_count : c->live_count),
		[SORT_RATE] = f->alloc_bytes_per_s,
		[SORT_ALLOC] = figure_of(c->alloc_bytes),
		[SORT_AGE] = f->age_s,
	};

	return figures[key];
}
