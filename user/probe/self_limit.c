/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns one number and when it changes: doubled at once above the limit, halved after a calm. Halving can at most double our CPU time, so
 * below 40 % of the limit it leads to no more than 80 %, and is not taken back.
 */
#include "probe/self_limit.h"

#define CALM_PCT 40	  /* of the limit */
#define CALM_INTERVALS 10 /* the most expensive work is done every few seconds: one quiet interval says nothing */

void self_limit_init(struct self_limit *l, double limit_pct)
{
	*l = (struct self_limit){ .limit_pct = limit_pct > 0 ? limit_pct : SELF_LIMIT_PCT, .stretch = 1 };
}

uint32_t self_limit_step(struct self_limit *l, double own_pct)
{
	if (!(own_pct >= 0))
		return l->stretch;
	if (own_pct > l->limit_pct) {
		if (l->stretch < SELF_STRETCH_MAX)
			l->stretch *= 2;
		l->calm = 0;
		return l->stretch;
	}
	l->calm = own_pct * 100 < l->limit_pct * CALM_PCT ? l->calm + 1 : 0;
	if (l->calm >= CALM_INTERVALS && l->stretch > 1) {
		l->stretch /= 2;
		l->calm = 0;
	}
	return l->stretch;
}
