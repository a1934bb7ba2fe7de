// SPDX-License-Identifier: GPL-2.0-or-later
#include "probe/sample_tables.h"

#include <math.h>
#include <string.h>

#include "sampling.h"

static __u32 fixed(double value, unsigned shift)
{
	return (__u32)llround(ldexp(value, (int)shift));
}

/* x / (1 - exp(-x)), which is 1 at 0. expm1, because 1 - exp(-x) has lost its digits for small x. */
static double weight_at(double x)
{
	return x > 0 ? x / -expm1(-x) : 1;
}

void sampling_tables_fill(struct sampling_tables *t)
{
	memset(t, 0, sizeof(*t));
	for (int i = 0; i < SCALE_CODES; i++)
		t->scale[i] = fixed(exp2((double)(i < SCALE_MAX ? i : SCALE_MAX) / SCALE_PER_OCTAVE), SCALE_ONE_SHIFT);
	for (int i = 0; i <= SAMPLE_STEPS; i++) {
		double x = (double)i * SAMPLE_X / SAMPLE_STEPS, weight = weight_at(x);

		t->weight[i] = fixed(weight, SAMPLE_ONE_SHIFT);
		t->var[i] = fixed(exp(-x) * weight * weight, SAMPLE_VAR_SHIFT);
	}
	for (int i = 0; i < SAMPLE_LN_STEPS; i++)
		t->ln[i] = fixed(log1p((double)i / SAMPLE_LN_STEPS), SAMPLE_LN_SHIFT);
}
