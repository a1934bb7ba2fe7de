/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/between.h"

#include <math.h>

void between_look(struct between *b, double live, double var, double allocated)
{
	double more = allocated - b->allocated, was = b->gain;

	if (more > 0) {
		b->gain = fmin(1, fmax(-1, (live - b->live) / more));
		/* The first share is of all that was ever allocated, old blocks among it: it may be any other by now. */
		b->gain_var = b->looks ? (b->gain - was) * (b->gain - was) : fabs(b->gain * (1 - b->gain));
		b->gain_var = fmin(1, b->gain_var + var / (more * more));
	}
	b->live = live;
	b->var = var;
	b->allocated = allocated;
	b->looks++;
}

struct between_now between_at(const struct between *b, double allocated)
{
	double more = fmax(0, allocated - b->allocated);

	return (struct between_now){ b->live + b->gain * more, b->var + b->gain_var * more * more };
}
