/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The governor: holds what observing costs a process below a share of the CPU time that it uses. Pure: what was seen goes in, what to do
 * comes out; one value per process, owned by the caller. No clock, no allocation, no I/O.
 *
 * Levers, in this order: a coarser sampling rate; probes in place only for a slice of each period; none at all (the page and mapping layers only).
 */
#ifndef TIDEMARK_PROBE_GOVERNOR_H
#define TIDEMARK_PROBE_GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/calibrate.h"

/* One period, seen at its end. Counters are what was added in it. */
struct governor_look {
	uint64_t period_ns;   /* wall time */
	uint64_t attached_ns; /* of it, with the probes in place */
	uint64_t cpu_ns;      /* CPU time of the process, cost of observing included */
	uint64_t attached_cpu_ns; /* of it, while attached */
	uint64_t hits, returns, sampled; /* struct proc */
	uint64_t body_ns;
	uint64_t switch_ns;   /* CPU time or stall that attaching and detaching cost the process, as far as known */
	bool cut;	      /* the slice was ended by hits_limit */
};

struct governor_plan {
	uint32_t rate;	      /* sampling rate code, include/sampling.h: >= 1 */
	uint64_t period_ns, slice_ns; /* slice == period: always attached; 0: not at all in this period */
	uint64_t hits_limit;  /* hits after which the slice is to be ended at once; 0: none */
};

struct governor {
	double budget_pct; /* 0: no limit */
	double overhead_pct; /* smoothed cost in percent of the CPU time; NAN: nothing seen yet */
	struct governor_plan plan;
	/* the policy's own state */
	double hits_per_cpu_ns, cost_per_hit_ns, allowance_ns;
	uint32_t calm, probing;
};

void governor_init(struct governor *g, double budget_pct);
/* The plan for the next period. */
struct governor_plan governor_step(struct governor *g, const struct hit_costs *costs, const struct governor_look *seen);
/* What observing cost in this period, ns. */
double governor_cost_ns(const struct hit_costs *costs, const struct governor_look *seen);
/* "always", "sampled 1/4 MiB", "12 % of the time", "page layer only": for the status line. */
const char *governor_lever_name(const struct governor *g);

#endif
