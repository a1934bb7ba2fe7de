/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Simulated processes for the governor, in steps of a millisecond: their hits cost what they cost, while the governor sees CPU times with
 * noise, counters in steps and the costs of a calibration that may be wrong.
 */
#ifndef TESTS_GOVERNOR_FIXTURE_H
#define TESTS_GOVERNOR_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/governor.h"

#define SECOND_NS 1e9
#define LATENCY_TICKS 3 /* from hits_limit passed to the slice's end */
#define LOOKS_MAX 4096

/* What the kernel and our programs really take here: close to what was measured on one cloud guest. */
#define ENTRY_NS 540.0
#define BODY_NS 110.0
#define SAMPLED_BODY_NS 2000.0
#define RETURN_NS 450.0

extern const struct hit_costs sim_costs;

struct program {
	const char *name;
	double cores;	      /* that it can use at most */
	double work;	      /* cores of bare work that come in; above `cores`: as much as it gets */
	double hits_per_us;   /* of bare CPU time */
	double sampled_share; /* of the hits, at rate 1 */
	double on_s, off_s;   /* alternates; off_s 0: does not */
	double off_work, off_hits_per_us;
	double jitter;	  /* of the work that comes in, each 10 ms */
	double switch_ns; /* what attaching and detaching cost it */
	bool stepped;
};

struct sim {
	const struct program *p;
	double now_s, backlog_ns, work_now;
	double noise, fault; /* of CPU times; of calibration: believed = true x fault */
	uint64_t random;
	struct governor g;
	/* the truth */
	double cpu_ns, cost_ns, work_ns;
	double slice_cost_max; /* in allowances of the period's CPU time or of a tenth of a core */
	uint32_t changes, flips, n;
	int cuts;
	double last_change;
	struct {
		double s, cpu_ns, cost_ns, slice_ns, period_ns;
	} looks[LOOKS_MAX];
};

enum { FLASK, FLASK_PACED, REDIS, REDIS_PACED, STORM, ALTERNATING, SLOW_TURNS, BURSTS, PROGRAMS_NR };

extern const struct program sim_programs[PROGRAMS_NR];

/* fault: of calibration, believed = true x fault. */
struct sim *sim_new(const struct program *p, double budget_pct, double fault, uint64_t seed);
void sim_run(struct sim *s, double seconds);
/* Judged is what comes from here on. */
void sim_forget(struct sim *s);
double sim_overhead_pct(const struct sim *s);
/* What always attached costs, percent: more than that no budget can be used. */
double sim_demand_pct(const struct program *p);
double sim_uniform(struct sim *s); /* 0 to 1 */

#endif
