/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which figure a sort key means for a row, and that what is unknown comes last. Sorts nothing. */
#ifndef TIDEMARK_VIEW_ORDER_H
#define TIDEMARK_VIEW_ORDER_H

#include <stdint.h>

#include "collect/snapshot.h"
#include "model/query.h"

/* What a row of stacks (one, or a group of them) can be ordered by. NAN: unknown. */
struct row_figures {
	enum layer layer;
	const struct counts *counts;
	double growth_bytes_per_s, alloc_bytes_per_s, age_s;
};

double figure_of(uint64_t v); /* UNKNOWN_U64: NAN */
double figure_by_key(const struct row_figures *f, enum sort_key key);
/* Largest first, unknown last: < 0 when a stands before b. */
int compare_figures(double a, double b);

#endif
