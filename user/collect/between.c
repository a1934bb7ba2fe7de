/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/between.h"

#include <math.h>

#define SURE 2 /* standard errors */

/*
 * Blocks begin to be counted when we come, so that live grows from nothing to what it is, and the share that stays falls. Where it did, it is taken to fall on
 * by as much.
 */
static double next_gain(double gain, double was, double se)
{
	return was - gain > se ? gain * gain / was : gain;
}

static void learn(struct between *b, double live, double var, double more)
{
	double noise = (var + b->var) / (more * more), gain = (live - b->live) / more;

	if (b->looks && noise >= 1) { /* too little was allocated to tell anything: what was known is in doubt */
		b->gain_var = 1;
		return;
	}
	double missed = fmin(1, fmax(-1, gain - b->expected));
	gain = fmin(1, fmax(0, gain)); /* old blocks that go do not go with what comes */
	/* What lives of all that ever was says little of what comes next. */
	b->gain_var = fmin(1, noise + (b->looks ? missed * missed : gain * (1 - gain)));
	b->expected = gain > SURE * sqrt(noise) ? next_gain(gain, b->looks ? b->gain : 1, sqrt(noise)) : 0;
	b->gain = gain;
}

void between_look(struct between *b, double live, double var, double allocated)
{
	double more = allocated - b->allocated;

	if (more > 0)
		learn(b, live, var, more);
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
