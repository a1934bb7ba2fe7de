/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The governor: holds what observing costs a process to a share of the CPU time that it uses. Pure: what was seen goes in, what to do
 * comes out; one value per process, owned by the caller. No clock, no allocation, no I/O.
 *
 * Levers, in this order: a coarser sampling rate; probes in place only for a slice of each period; none at all (the page and mapping
 * layers only). The essay is in governor.c.
 *
 * What the caller promises, so that figures stay true:
 * - the slice begins at a random moment of its period. Length of slice and period are settled before the period begins, from what was
 *   seen before it, so every moment has the same chance to be seen and what was seen may be scaled by period / slice. (Not so after `cut`:
 *   what was seen then is of the part of the slice up to the cut, and too high in the mean.)
 * - hits_limit counts the hits of one period, also when the probes stay in place from one to the next.
 * - attached_ns and attached_cpu_ns run from before the first probe is placed until all are told to go. The kernel first waits for its readers then,
 *   10 ms or, where CPU is short, ten times that; hits meanwhile count, so that a slice looks dearer than it was, and never cheaper.
 */
#ifndef TIDEMARK_PROBE_GOVERNOR_H
#define TIDEMARK_PROBE_GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/calibrate.h"

/* One period, seen at its end. Counters are what was added in it. */
struct governor_look {
	uint64_t period_ns;		 /* wall time; 0, or counters that can't be: nothing was seen, the plan stays */
	uint64_t attached_ns;		 /* of it, with any probe in place */
	uint64_t cpu_ns;		 /* CPU time of the process, cost of observing included */
	uint64_t attached_cpu_ns;	 /* of it, while attached; 0: not known */
	uint64_t hits, returns, sampled; /* struct proc */
	uint64_t body_ns;		 /* struct proc; 0 with hits: not measured */
	uint64_t switch_ns;   /* CPU time or stall that attaching and detaching cost the process, as far as known */
	double stepped_share; /* of the hits: on instructions that the kernel must single-step */
	double between_ns;    /* as governor.between_ns; 0: not known, or the probes always are in place */
	uint64_t slice_ns;    /* as long as the slice was to be; 0: there was none, or the probes always are in place */
	bool cut;	      /* the slice was ended by hits_limit */
};

struct governor_plan {
	uint32_t rate;		      /* sampling rate code, include/sampling.h: >= 1 */
	uint64_t period_ns, slice_ns; /* slice == period: always attached; 0: not at all in this period */
	uint64_t hits_limit;	      /* hits after which the slice is to be ended at once; 0: none */
};

enum governor_mode {
	GOVERNOR_ALWAYS, /* the probes stay in place */
	GOVERNOR_SLICES, /* in place for a slice of each period */
	GOVERNOR_PAGES,	 /* even a slice is too dear: a look every now and then whether it still is */
	GOVERNOR_MODE_NR
};

struct governor {
	double budget_pct;     /* 0: no limit */
	double overhead_pct;   /* cost in percent of the CPU time, over the last 10 s or so; NAN: nothing seen yet */
	double attached_share; /* of the wall time, the same; NAN */
	/*
	 * Work per wall time outside of the slices, over that within. What was seen in slices stands for so much more than its share of the
	 * time: 1 for a paced process, 1.13 for a service that is short of CPU and loses 12 % of it while probed. Over a minute or so; it
	 * scatters, also below 1, and to cut that off would be a bias. NAN: always attached, or not known, or so much of the slice is
	 * cost (SLOWDOWN_SHARE) that no figure can be given: what was seen is then too low by more than fourfold.
	 */
	double slowdown;
	double work_outside; /* CPU time less cost, per wall time, outside of slices; NAN as slowdown */
	double cost_within;  /* share of cost in the CPU time within slices; NAN as slowdown */
	double between_ns;   /* CPU time of the process's own from one hit to the next; 0: not known yet */
	/*
	 * >= 1, written by the owner: periods are so many times longer. For when placing probes takes too much of our own CPU time
	 * (probe/self_limit.h); the target pays the same.
	 */
	uint32_t stretch;
	enum governor_mode mode;
	struct governor_plan plan;

	/* The policy's own state: see governor.c. */
	struct governor_past {
		double wall_ns, attached_ns, cpu_ns, cost_ns; /* of all periods */
		double slice_wall_ns, slice_attached_ns;      /* of periods with slices, as the next three */
		double slice_cpu_ns, slice_attached_cpu_ns, slice_cost_ns;
		double probed_cpu_ns, entry_ns,
			sampled_ns;    /* of periods with probes; costs as if these had been in place throughout */
	} past;			       /* sums that fade */
	double balance_ns;	       /* what is saved; below 0: owed */
	double cpu_share;	       /* CPU time per wall time in the last period */
	double share;		       /* slice / period of the last period that had a slice */
	double hit_ns;		       /* mean cost of a hit */
	double overhang_ns, switch_ns; /* attached longer than the slice; cost of one attach and detach */
	uint32_t calm;		       /* periods in a row in which a finer rate could be paid */
	uint32_t waited, wait;	       /* GOVERNOR_PAGES: periods since the last look, and to be waited */
	char lever[64];
};

/* budget_pct: out of range (negative, NAN): the default, 2. The plan for the first period is in g->plan. */
void governor_init(struct governor *g, double budget_pct);
/* The plan for the next period. */
struct governor_plan governor_step(struct governor *g, const struct hit_costs *costs, const struct governor_look *seen);
/* What observing cost in this period, ns. Costs that are not known are taken from constants that are rather too high. */
double governor_cost_ns(const struct hit_costs *costs, const struct governor_look *seen);
/* "always", "always, 1/4 of the samples", "12 % of the time", "page layer only": for the status line. Lives in *g, until the next step. */
const char *governor_lever_name(const struct governor *g);

#endif
