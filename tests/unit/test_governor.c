/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The governor in a closed loop. What is judged is the true overhead: cost over CPU time, of all of the time. GOVERNOR_TABLE=1 prints it for
 * each program, budget and error of calibration.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "governor_fixture.h"
#include "probe/governor.h"
#include "sampling.h"

static const double budgets[] = { 1, 2, 5, 10 };
static const double faults[] = { 0.83, 1, 1.2 };
#define BUDGETS (sizeof(budgets) / sizeof(budgets[0]))
#define FAULTS (sizeof(faults) / sizeof(faults[0]))
#define SEEDS 3

/* --- the budget is held, and used --- */

static void judge(const struct sim *s, double want_pct, double low, double high)
{
	double got = sim_overhead_pct(s);

	if (getenv("GOVERNOR_TABLE"))
		printf("%-14s budget %4.1f fault %.2f: %6.3f %% of %6.3f (%.2f), own estimate %6.3f, largest %4.1f "
		       "allowances, %2u changes, %2u turns, %d cuts, %s\n",
		       s->p->name, s->g.budget_pct, s->fault, got, want_pct, got / want_pct, s->g.overhead_pct,
		       s->slice_cost_max, s->changes, s->flips, s->cuts, governor_lever_name(&s->g));
	if (got < low * want_pct || got > high * want_pct)
		fail_msg("%s, budget %g %%, calibration x %g: %.3f %% instead of %.3f", s->p->name, s->g.budget_pct,
			 s->fault, got, want_pct);
}

static void check_program(const struct program *p, double seconds, double low, double high)
{
	double demand = sim_demand_pct(p);

	for (size_t b = 0; b < BUDGETS; b++)
		for (size_t f = 0; f < FAULTS; f++)
			for (uint64_t seed = 1; seed <= SEEDS; seed++) {
				struct sim *s = sim_new(p, budgets[b], faults[f], seed);

				sim_run(s, seconds);
				judge(s, fmin(budgets[b], demand), low, high);
				free(s);
			}
}

static void test_budget_is_held(void **state)
{
	(void)state;
	/* Two minutes: at 1 % the alternating one has a dozen slices in one, and what they meet is chance. */
	for (int i = 0; i < BURSTS; i++)
		check_program(&sim_programs[i], 120, 0.75, 1.25);
}

/* A few of many short bursts are met: within a minute that is chance. */
static void test_budget_is_held_in_the_long_run(void **state)
{
	(void)state;
	check_program(&sim_programs[BURSTS], 240, 0.6, 1.25);
}

/* --- speed, and standing still --- */

/* A calm service, always attached, becomes a storm at 30 s. */
static const struct program step_up = {
	"step up",  .cores = 2,	 .work = 8,	  .hits_per_us = 133,	   .sampled_share = 0.0001,
	.on_s = 30, .off_s = 30, .off_work = 0.3, .off_hits_per_us = 0.002
};

static void test_a_storm_is_met_within_one_period(void **state)
{
	(void)state;
	for (size_t b = 0; b < BUDGETS; b++) {
		struct sim *s = sim_new(&step_up, budgets[b], 1, 7);
		double period, spent_ns = 0, cpu_ns = 0;

		s->now_s = 30; /* the calm half comes first */
		sim_run(s, 29.5);
		assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
		assert_int_equal(s->cuts, 0);
		sim_forget(s);
		sim_run(s, 0.9); /* the period in which the storm begins */
		assert_int_equal(s->n, 1);
		assert_int_equal(s->cuts, 1);
		/* four allowances of a tenth of a core or what it used, three that were saved, and the latency */
		period = s->looks[0].period_ns;
		assert_true(s->looks[0].cost_ns <
			    7 * budgets[b] / 100 * 0.4 * period + 0.02 * LATENCY_TICKS * SECOND_NS / 10);
		assert_int_equal(s->g.mode, GOVERNOR_SLICES);
		assert_true(s->g.plan.slice_ns <= 20000000);
		sim_run(s, 10);
		for (uint32_t i = 1; i < s->n; i++) {
			spent_ns += s->looks[i].cost_ns;
			cpu_ns += s->looks[i].cpu_ns;
		}
		assert_true(100 * spent_ns / cpu_ns < 1.25 * budgets[b]);
		sim_run(s, 10);
		judge(s, budgets[b], 0.75, 1.25);
		free(s);
	}
}

static void test_no_slice_bursts_its_bound(void **state)
{
	const int kinds[] = { FLASK, FLASK_PACED, REDIS, REDIS_PACED, STORM };

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t b = 0; b < BUDGETS; b++) {
			struct sim *s = sim_new(&sim_programs[kinds[k]], budgets[b], 1, 3);

			sim_run(s, 60);
			assert_true(s->slice_cost_max < 4);
			free(s);
		}
}

static void test_a_steady_demand_gets_a_steady_plan(void **state)
{
	const int kinds[] = { FLASK, FLASK_PACED, REDIS, REDIS_PACED, STORM };

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t b = 0; b < BUDGETS; b++) {
			struct sim *s = sim_new(&sim_programs[kinds[k]], budgets[b], 1, 11);
			double low = INFINITY, high = 0;

			sim_run(s, 15);
			sim_forget(s);
			sim_run(s, 60);
			for (uint32_t i = 0; i < s->n; i++) {
				low = fmin(low, s->looks[i].slice_ns / s->looks[i].period_ns);
				high = fmax(high, s->looks[i].slice_ns / s->looks[i].period_ns);
			}
			if (s->changes > 20 || high > 2.2 * low)
				fail_msg("%s at %g %%: %u changes, share of time from %g to %g", s->p->name, budgets[b],
					 s->changes, low, high);
			assert_int_equal(s->cuts, 0);
			free(s);
		}
}

/* Three times the demand of before is below hits_limit: the estimate has to see it, and not the mean of the last ten seconds. */
static void test_a_rise_below_the_limit_is_met_in_the_next_period(void **state)
{
	const struct program rise = { .name = "rise",
				      .cores = 1,
				      .work = 2,
				      .hits_per_us = 0.083,
				      .on_s = 30,
				      .off_s = 30,
				      .off_work = 0.9,
				      .off_hits_per_us = 0.028 };
	struct sim *s = sim_new(&rise, 2, 1, 7);

	(void)state;
	s->now_s = 30;
	sim_run(s, 30);
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	sim_forget(s);
	sim_run(s, 6);
	assert_int_equal(s->cuts, 0);
	assert_true(s->looks[0].cost_ns > 0.04 * s->looks[0].cpu_ns);
	for (uint32_t i = 1; i < s->n; i++)
		assert_true(s->looks[i].cost_ns < 0.03 * s->looks[i].cpu_ns);
	free(s);
}

/* Without faults of calibration what remains is noise; what the slow start saved is used. */
static void test_nothing_is_given_away(void **state)
{
	const int kinds[] = { FLASK, FLASK_PACED, REDIS, REDIS_PACED, STORM };

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t b = 0; b < BUDGETS; b++) {
			struct sim *s = sim_new(&sim_programs[kinds[k]], budgets[b], 1, 23);

			sim_run(s, 20);
			judge(s, fmin(budgets[b], sim_demand_pct(s->p)), 0.92, 1.1);
			free(s);
		}
}

/* On the edge between always and nearly always. */
static void test_always_and_slices_do_not_alternate(void **state)
{
	(void)state;
	for (int demand = 90; demand <= 115; demand += 5) {
		const struct program edge = {
			.name = "edge", .cores = 1, .work = 0.5, .hits_per_us = 0.0315 * demand / 100, .jitter = 0.5
		};
		struct sim *s = sim_new(&edge, 2, 1, (uint64_t)demand);
		int turns = 0;

		sim_run(s, 15);
		for (int i = 0; i < 60; i++) {
			enum governor_mode before = s->g.mode;

			sim_run(s, 0.9);
			turns += s->g.mode != before;
		}
		assert_true(turns <= 6);
		free(s);
	}
}

static void test_what_is_cheap_is_always_attached(void **state)
{
	const struct program calm = { "calm", .cores = 1, .work = 0.5, .hits_per_us = 0.005 };
	struct sim *s = sim_new(&calm, 2, 1, 1);

	(void)state;
	sim_run(s, 6);
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	sim_forget(s);
	sim_run(s, 60);
	assert_int_equal(s->changes, 0);
	assert_true(s->g.plan.slice_ns == s->g.plan.period_ns && s->g.plan.hits_limit > 0);
	assert_true(s->g.attached_share > 0.99);
	assert_string_equal(governor_lever_name(&s->g), "always");
	free(s);
}

static void test_a_new_process_begins_with_a_small_slice(void **state)
{
	struct governor g;

	(void)state;
	governor_init(&g, 2);
	assert_int_equal(g.mode, GOVERNOR_SLICES);
	assert_true(g.plan.slice_ns <= 20000000 && g.plan.period_ns == 1000000000);
	/* a tenth of a core, four allowances, at what a hit may cost where nothing was measured */
	assert_in_range(g.plan.hits_limit, 1024, 8000000 / 650);
	assert_true(isnan(g.overhead_pct) && isnan(g.attached_share) && isnan(g.slowdown));
	for (int i = 0; i < 3; i++) { /* and grows step by step, although nothing was dear so far */
		uint64_t before = g.plan.slice_ns;

		governor_step(&g, &sim_costs,
			      &(struct governor_look){ .period_ns = g.plan.period_ns, .attached_ns = before });
		assert_true(g.plan.slice_ns > before && g.plan.slice_ns <= 4 * before);
	}
	assert_int_equal(g.mode, GOVERNOR_ALWAYS);
}

/* --- levers --- */

static void test_dear_samples_make_the_rate_coarser(void **state)
{
	const struct program large = { "large blocks",	   .cores = 1,		 .work = 2,
				       .hits_per_us = 0.1, .sampled_share = 0.5, .on_s = 40,
				       .off_s = 60,	   .off_work = 0.5,	 .off_hits_per_us = 0.002 };
	struct sim *s = sim_new(&large, 2, 1, 5);
	uint32_t coarse;

	(void)state;
	sim_run(s, 20);
	coarse = s->g.plan.rate;
	assert_in_range(
		coarse, 2,
		4); /* half of the hits at 2.6 us: twice the entries' cost, and less than a quarter two steps on */
	assert_non_null(strstr(governor_lever_name(&s->g), "of the samples"));
	for (int i = 0; i < 15; i++) {
		sim_run(s, 1);
		assert_int_equal(s->g.plan.rate, coarse);
	}
	s->now_s = 40; /* calm from here on */
	sim_run(s, 5);
	assert_int_equal(s->g.plan.rate, coarse);
	sim_run(s, 50);
	assert_int_equal(s->g.plan.rate, 1);
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	free(s);
}

static void test_the_rate_has_an_end(void **state)
{
	struct governor g;
	const struct governor_look all_sampled = { .period_ns = 1000000000,
						   .attached_ns = 20000000,
						   .cpu_ns = 1000000000,
						   .hits = 20000,
						   .returns = 20000,
						   .sampled = 20000,
						   .body_ns = 900000000 };

	(void)state;
	governor_init(&g, 1);
	for (int i = 0; i < 100; i++) {
		governor_step(&g, &sim_costs, &all_sampled);
		assert_in_range(g.plan.rate, 1, RATE_MAX);
	}
	assert_int_equal(g.plan.rate, RATE_MAX);
}

/* Paced, and each hit single-stepped: 5 ms in 4 s cost more than the budget. */
static const struct program hopeless = { "stepped",	   .cores = 1,	     .work = 0.01,
					 .hits_per_us = 3, .stepped = true,  .on_s = 400,
					 .off_s = 400,	   .off_work = 0.01, .off_hits_per_us = 0.0001 };

static void test_what_no_slice_can_pay_is_left_to_the_pages(void **state)
{
	struct sim *s = sim_new(&hopeless, 1, 1, 5);
	uint32_t slices = 0;

	(void)state;
	sim_run(s, 120);
	assert_int_equal(s->g.mode, GOVERNOR_PAGES);
	assert_string_equal(governor_lever_name(&s->g), "page layer only");
	sim_forget(s);
	sim_run(s, 270);
	for (uint32_t i = 0; i < s->n; i++)
		slices += s->looks[i].slice_ns > 0;
	assert_in_range(slices, 3, 6);		/* one a minute */
	assert_true(sim_overhead_pct(s) < 2.5); /* a look a minute, at any price that hits_limit allows */
	sim_run(s, 90);				/* cheap since 10 s from here: the next look finds it */
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	free(s);
}

static void test_switches_are_paid_from_the_budget(void **state)
{
	const struct program service = { "switches", .cores = 1, .work = 2, .hits_per_us = 0.5, .switch_ns = 6000000 };
	const struct program small = { "switches, small", .cores = 1, .work = 0.01, .hits_per_us = 2,
				       .switch_ns = 6000000 };
	struct sim *s;

	(void)state;
	for (size_t b = 0; b < BUDGETS; b++) {
		s = sim_new(&service, budgets[b], 1, 5);
		sim_run(s, 60);
		judge(s, budgets[b], 0.75, 1.25);
		free(s);
	}
	s = sim_new(&small, 2, 1, 5); /* 0.2 ms a second are allowed, one attach costs 6 */
	sim_run(s, 300);
	assert_int_equal(s->g.mode, GOVERNOR_PAGES);
	sim_forget(s);
	sim_run(s, 600);
	assert_true(sim_overhead_pct(s) < 2.5);
	free(s);
}

/* In each of 100 periods; mean. */
static double slowdown_over(const struct program *p, uint64_t seed)
{
	struct sim *s = sim_new(p, 5, 1, seed);
	double sum = 0;

	sim_run(s, 30);
	for (int i = 0; i < 100; i++) {
		sim_run(s, 0.9);
		sum += s->g.slowdown;
	}
	free(s);
	return sum / 100;
}

static void test_slower_while_probed(void **state)
{
	double flask = 0, paced = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 30; seed++) {
		flask += slowdown_over(&sim_programs[FLASK], seed) / 30;
		paced += slowdown_over(&sim_programs[FLASK_PACED], seed) / 30;
	}
	assert_true(fabs(flask - 1.131) < 0.015); /* 0.2 hits a us at 650 ns and some samples */
	assert_true(fabs(paced - 1) < 0.015);
	assert_true(isnan(slowdown_over(&sim_programs[STORM], 5)));
}

static void test_stretched_periods_cost_the_same(void **state)
{
	struct sim *s = sim_new(&sim_programs[REDIS], 2, 1, 5);
	double shares = 0;

	(void)state;
	sim_run(s, 20);
	s->g.stretch = 4;
	sim_run(s, 10);
	assert_true(s->g.plan.period_ns >= 4000000000);
	sim_forget(s);
	sim_run(s, 80);
	judge(s, 2, 0.75, 1.25);
	for (uint32_t i = 0; i < s->n; i++)
		shares += s->looks[i].slice_ns / s->looks[i].period_ns / s->n;
	assert_true(shares > 0.015 && shares < 0.06);
	free(s);
}

/* --- costs --- */

static void test_costs_add_up(void **state)
{
	struct governor_look look = { .period_ns = 1000000000,
				      .hits = 2000,
				      .returns = 100,
				      .sampled = 100,
				      .body_ns = (uint64_t)(2000 * BODY_NS), /* no colder than in calibration */
				      .switch_ns = 7 };
	double bodies = 2000 * BODY_NS;
	struct hit_costs no_session = sim_costs, none = { 0 };

	(void)state;
	assert_float_equal(governor_cost_ns(&sim_costs, &look), 2000 * ENTRY_NS + 100 * RETURN_NS + bodies + 7, 1);
	no_session.skip_ns = 0;
	no_session.emulated_ns = 600;
	assert_float_equal(governor_cost_ns(&no_session, &look), 2000 * 600 + 100 * RETURN_NS + bodies + 7, 1);
	look.stepped_share = 0.5;
	assert_float_equal(governor_cost_ns(&sim_costs, &look),
			   1000 * ENTRY_NS + 1000 * 19000 + 100 * RETURN_NS + bodies + 7, 1);
	look.stepped_share = 0;
	look.body_ns = 0; /* not measured: from calibration, and neither cold nor warm */
	assert_float_equal(governor_cost_ns(&sim_costs, &look),
			   2000 * (1.3 * ENTRY_NS + BODY_NS) + 100 * (RETURN_NS + 2000) + 7, 1);
	/* nothing is known: more than what is known of here */
	assert_true(governor_cost_ns(&none, &look) > governor_cost_ns(&sim_costs, &look));
	assert_float_equal(governor_cost_ns(&sim_costs, &(struct governor_look){ .period_ns = 1 }), 0, 0);
}

#define CLOCK_NS 35 /* governor.c: COLD_CLOCK_NS */

static double cost_of_hits(uint64_t hits, uint64_t sampled, double body_ns)
{
	struct governor_look look = {
		.period_ns = 1000000000, .hits = hits, .sampled = sampled, .body_ns = (uint64_t)((double)hits * body_ns)
	};

	return governor_cost_ns(&sim_costs, &look) / (double)hits - body_ns;
}

/* What our programs take beyond calibration tells what the kernel's part does. */
static void test_cold_hits_cost_more(void **state)
{
	(void)state;
	assert_float_equal(cost_of_hits(100000, 0, BODY_NS), ENTRY_NS, 0.1);
	assert_float_equal(cost_of_hits(100000, 0, BODY_NS - 40), ENTRY_NS, 0.1);
	assert_float_equal(cost_of_hits(100000, 0, BODY_NS + CLOCK_NS), ENTRY_NS, 0.1);
	assert_float_equal(cost_of_hits(100000, 0, BODY_NS + CLOCK_NS + 60), ENTRY_NS + 180, 0.1);
	assert_float_equal(cost_of_hits(100000, 0, BODY_NS + 5000), 3 * ENTRY_NS, 0.1);
	/* calls that are counted take what they take */
	assert_float_equal(cost_of_hits(100000, 10000, BODY_NS + 0.1 * SAMPLED_BODY_NS), ENTRY_NS, 0.1);
	/* too few, or nearly all of them: it can't be told */
	assert_float_equal(cost_of_hits(1000, 0, BODY_NS + 60), 1.3 * ENTRY_NS, 0.1);
	assert_float_equal(cost_of_hits(100000, 30000, BODY_NS + 60), 1.3 * ENTRY_NS, 0.1);
}

/* What the process does between two hits is found cold behind each. */
static void test_work_between_hits(void **state)
{
	struct governor_look look = { .period_ns = 1000000000,
				      .attached_ns = 1000000000,
				      .cpu_ns = 900000000,
				      .attached_cpu_ns = 900000000,
				      .hits = 100000,
				      .body_ns = (uint64_t)(100000 * BODY_NS) };
	double warm = governor_cost_ns(&sim_costs, &look), last = warm;
	struct governor g;

	(void)state;
	for (int us = 1; us <= 8; us++) {
		look.between_ns = 1000 * us;
		assert_true(governor_cost_ns(&sim_costs, &look) > last + 100000 * 20);
		last = governor_cost_ns(&sim_costs, &look);
	}
	look.between_ns = 1e9;
	assert_float_equal(governor_cost_ns(&sim_costs, &look), last, 1);
	assert_true(last < 3 * warm);
	/* It is learnt, and what is made of it settles. */
	governor_init(&g, 0);
	for (int i = 0; i < 40; i++) {
		look.between_ns = g.between_ns;
		(void)governor_step(&g, &sim_costs, &look);
	}
	look.between_ns = g.between_ns;
	assert_float_equal(g.between_ns, (900000000 - governor_cost_ns(&sim_costs, &look)) / 100000, 1);
}

/* Costs that are not known are taken too high: the budget is not burst, and still used. */
static void test_uncalibrated(void **state)
{
	(void)state;
	for (int i = 0; i < BURSTS; i++) {
		struct sim *s = sim_new(&sim_programs[i], 5, NAN, 5);

		sim_run(s, 60);
		judge(s, 5, 0.4, 1.05);
		free(s);
	}
}

/* --- the ends of the scale --- */

static void test_no_limit(void **state)
{
	struct sim *s = sim_new(&sim_programs[STORM], 0, 1, 5);

	(void)state;
	assert_true(s->g.plan.slice_ns == s->g.plan.period_ns);
	sim_run(s, 20);
	assert_int_equal(s->changes, 0);
	assert_int_equal(s->g.plan.hits_limit, 0);
	assert_int_equal(s->g.plan.rate, 1);
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	assert_true(s->g.overhead_pct > 95 && s->g.overhead_pct < 105); /* told all the same */
	free(s);
}

static void test_budget_100(void **state)
{
	struct sim *s = sim_new(&sim_programs[REDIS], 100, 1, 5);

	(void)state;
	sim_run(s, 10);
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	assert_int_equal(s->cuts, 0);
	free(s);
}

static void test_budgets_out_of_range(void **state)
{
	struct governor g;

	(void)state;
	governor_init(&g, NAN);
	assert_float_equal(g.budget_pct, 2, 0);
	governor_init(&g, -1);
	assert_float_equal(g.budget_pct, 2, 0);
	governor_init(&g, INFINITY);
	assert_float_equal(g.budget_pct, 100, 0);
}

static void test_an_idle_process_is_attached_and_guarded(void **state)
{
	const struct program idle = { "idle", .cores = 1, .work = 0, .hits_per_us = 100 };
	struct sim *s = sim_new(&idle, 2, 1, 5);

	(void)state;
	sim_run(s, 8);
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	assert_in_range(s->g.plan.hits_limit, 1024, 20000);
	sim_run(s, 2 * 3600.0); /* sums fade to nothing, and no further */
	assert_int_equal(s->g.mode, GOVERNOR_ALWAYS);
	assert_true(isnan(s->g.overhead_pct) || s->g.overhead_pct == 0);
	free(s);
}

static void assert_sane(const struct governor *g)
{
	const struct governor_plan *p = &g->plan;

	assert_in_range(p->rate, 1, RATE_MAX);
	assert_in_range(p->period_ns, 1000000000ull, 4000000000ull * g->stretch);
	assert_true(p->slice_ns <= p->period_ns);
	assert_true(p->slice_ns == 0 || p->slice_ns >= 5000000);
	assert_true((p->slice_ns == p->period_ns) == (g->mode == GOVERNOR_ALWAYS));
	assert_true(p->slice_ns > 0 || g->mode == GOVERNOR_PAGES);
	assert_true(p->hits_limit > 0);
	assert_true(isfinite(g->balance_ns) && isfinite(g->hit_ns) && isfinite(g->past.cpu_ns) &&
		    isfinite(g->past.entry_ns));
	assert_true(strlen(governor_lever_name(g)) > 0);
}

static void test_nothing_was_seen(void **state)
{
	struct governor g, before;
	const struct governor_look nothing = { 0 };

	(void)state;
	governor_init(&g, 2);
	before = g;
	governor_step(&g, &sim_costs, &nothing);
	assert_memory_equal(&before.plan, &g.plan, sizeof(g.plan));
	assert_sane(&g);
}

static uint64_t odd_number(struct sim *s)
{
	static const uint64_t odd[] = { 0, 1, 63, 1000, 20000000, 1000000000, 1ull << 40, 1ull << 63, UINT64_MAX };
	const size_t n = sizeof(odd) / sizeof(odd[0]);

	return odd[(size_t)(sim_uniform(s) * (double)n)];
}

static double odd_cost(struct sim *s)
{
	static const double odd[] = { 0, -1, NAN, INFINITY, -INFINITY, 1e-300, 1e300, 500, 20000 };
	const size_t n = sizeof(odd) / sizeof(odd[0]);

	return odd[(size_t)(sim_uniform(s) * (double)n)];
}

static void test_whatever_is_told_plans_are_sane(void **state)
{
	struct sim *s = sim_new(&sim_programs[FLASK], 2, 1, 99);
	const double percent[] = { 0.01, 1, 2, 50, 100 };

	(void)state;
	for (int run = 0; run < 400; run++) {
		governor_init(&s->g, percent[run % 5]);
		for (int i = 0; i < 100; i++) {
			const struct hit_costs costs = {
				.emulated_ns = odd_cost(s),
				.stepped_ns = odd_cost(s),
				.skip_ns = odd_cost(s),
				.return_ns = odd_cost(s),
				.body_skip_ns = odd_cost(s),
				.body_count_ns = odd_cost(s),
			};
			const struct governor_look look = {
				.period_ns = odd_number(s),
				.attached_ns = odd_number(s),
				.cpu_ns = odd_number(s),
				.attached_cpu_ns = odd_number(s),
				.hits = odd_number(s),
				.returns = odd_number(s),
				.sampled = odd_number(s),
				.body_ns = odd_number(s),
				.switch_ns = odd_number(s),
				.stepped_share = odd_cost(s),
				.cut = sim_uniform(s) < 0.3,
			};

			s->g.stretch = 1u << (int)(sim_uniform(s) * 4);
			governor_step(&s->g, &costs, &look);
			s->g.stretch = 8;
			assert_sane(&s->g);
		}
	}
	/* and it comes back to its senses */
	s->g.stretch = 1;
	s->g.budget_pct = 2;
	sim_run(s, 120);
	sim_forget(s);
	sim_run(s, 60);
	judge(s, 2, 0.75, 1.25);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget_is_held),
		cmocka_unit_test(test_budget_is_held_in_the_long_run),
		cmocka_unit_test(test_a_storm_is_met_within_one_period),
		cmocka_unit_test(test_no_slice_bursts_its_bound),
		cmocka_unit_test(test_a_steady_demand_gets_a_steady_plan),
		cmocka_unit_test(test_a_rise_below_the_limit_is_met_in_the_next_period),
		cmocka_unit_test(test_nothing_is_given_away),
		cmocka_unit_test(test_always_and_slices_do_not_alternate),
		cmocka_unit_test(test_what_is_cheap_is_always_attached),
		cmocka_unit_test(test_a_new_process_begins_with_a_small_slice),
		cmocka_unit_test(test_dear_samples_make_the_rate_coarser),
		cmocka_unit_test(test_the_rate_has_an_end),
		cmocka_unit_test(test_what_no_slice_can_pay_is_left_to_the_pages),
		cmocka_unit_test(test_switches_are_paid_from_the_budget),
		cmocka_unit_test(test_slower_while_probed),
		cmocka_unit_test(test_stretched_periods_cost_the_same),
		cmocka_unit_test(test_costs_add_up),
		cmocka_unit_test(test_cold_hits_cost_more),
		cmocka_unit_test(test_work_between_hits),
		cmocka_unit_test(test_uncalibrated),
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_budget_100),
		cmocka_unit_test(test_budgets_out_of_range),
		cmocka_unit_test(test_an_idle_process_is_attached_and_guarded),
		cmocka_unit_test(test_nothing_was_seen),
		cmocka_unit_test(test_whatever_is_told_plans_are_sane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
