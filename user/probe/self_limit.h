/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tidemark's own CPU time: how often work is done that may as well be done less often (walks of ages, looks for survivors, sweeps of
 * tables, slices per minute). Pure, as the governor is.
 */
#ifndef TIDEMARK_PROBE_SELF_LIMIT_H
#define TIDEMARK_PROBE_SELF_LIMIT_H

#include <stdint.h>

#define SELF_LIMIT_PCT 2 /* of the machine: all CPUs are 100 */
#define SELF_STRETCH_MAX 8

struct self_limit {
	double limit_pct;
	uint32_t stretch; /* 1, 2, 4, 8: intervals between such work are so many times longer */
	uint32_t calm;
};

void self_limit_init(struct self_limit *l, double limit_pct); /* <= 0 or NAN: SELF_LIMIT_PCT */
/* own_pct: our share of the machine's CPU time in the last interval; NAN: not known, nothing changes. Returns the stretch. */
uint32_t self_limit_step(struct self_limit *l, double own_pct);

#endif
