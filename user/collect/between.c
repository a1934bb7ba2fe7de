/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/between.h"

#include <math.h>

/* Blocks begin to be counted when we come, so that live grows from nothing to what it is: the share that stays falls. It is taken to fall on as it did. */
static double next_gain(double gain, double was)
{
	return gain > 0 && was > gain ? gain * gain / was : gain;
}

void between_look(struct between *b, double live, double var, double allocated)
{
	double more = allocated - b->allocated;

	if (more > 0) {
		double gain = fmin(1, fmax(-1, (live - b->live) / more)), missed = gain - b->expected;

		/* What lives of all that ever was says little of what comes next. */
		b->gain_var = b->looks ? missed * missed : fabs(gain * (1 - gain));
		b->gain_var = fmin(1, b->gain_var + var / (more * more));
		b->expected = next_gain(gain, b->looks ? b->gain : 1);
		b->gain = gain;
	}
	b->live = live;
	b->var = var;
	b->allocated = allocated;
	b->looks++;
}

struct between_now between_at(const struct between *b, double allocated)
{
	double more = fmax(0, allocated - b->allocated);

	return (struct between_now){ b->live + b->expected * more, b->var + b->gain_var * more * more };
}
