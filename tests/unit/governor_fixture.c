/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One process, one governor, and the truth about both. */
#include "governor_fixture.h"

#include <math.h>
#include <stdlib.h>

#define TICK_NS 1000000.0
#define OVERHANG_TICKS 8 /* attaching and detaching: probes in place beyond the slice */
#define HIT_NS (ENTRY_NS + BODY_NS)

const struct hit_costs sim_costs = {
	.emulated_ns = ENTRY_NS,
	.stepped_ns = 19000,
	.skip_ns = ENTRY_NS,
	.return_ns = RETURN_NS,
	.body_skip_ns = BODY_NS,
	.body_count_ns = 500,
	.body_stack_ns = 1500,
	.body_python_ns = NAN,
};

/* SplitMix64's steps (Steele, Lea, Flood 2014) */
double sim_uniform(struct sim *s)
{
	uint64_t z = (s->random += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static bool is_off(const struct sim *s)
{
	return s->p->off_s > 0 && fmod(s->now_s, s->p->on_s + s->p->off_s) >= s->p->on_s;
}

static double work_at(struct sim *s)
{
	const struct program *p = s->p;
	uint64_t tick = (uint64_t)llround(s->now_s * 1000);

	if (is_off(s))
		return p->off_work;
	if (p->jitter <= 0)
		return p->work;
	if (tick % 10 == 0)
		s->work_now = p->work * (1 + p->jitter * (2 * sim_uniform(s) - 1));
	return s->work_now;
}

struct tick {
	double cpu_ns, hits, sampled, cost_ns;
};

/* One millisecond. A bare ns of work takes 1 + (hits in it) x (their cost) when the probes are in place. */
static struct tick run_tick(struct sim *s, bool probed)
{
	const struct program *p = s->p;
	double sampled_share = fmin(ldexp(p->sampled_share, 1 - (int)s->g.plan.rate), 1);
	double per_ns = (is_off(s) ? p->off_hits_per_us : p->hits_per_us) / 1000;
	double hit_ns = BODY_NS + (p->stepped ? sim_costs.stepped_ns : ENTRY_NS) +
			sampled_share * (RETURN_NS + SAMPLED_BODY_NS);
	double blow = probed ? 1 + per_ns * hit_ns : 1;
	double want_ns = s->backlog_ns + work_at(s) * TICK_NS;
	double done_ns = fmin(want_ns, p->cores * TICK_NS / blow);
	struct tick t = { .cpu_ns = done_ns * blow };

	/* what does not get done waits, but no longer than clients do */
	s->backlog_ns = fmin(want_ns - done_ns, 0.2 * SECOND_NS * p->cores);
	if (probed) {
		t.hits = done_ns * per_ns;
		t.sampled = t.hits * sampled_share;
		t.cost_ns = t.hits * hit_ns;
	}
	s->work_ns += done_ns;
	s->cpu_ns += t.cpu_ns;
	s->cost_ns += t.cost_ns;
	s->now_s += TICK_NS / SECOND_NS;
	return t;
}

static double noisy(struct sim *s, double v)
{
	return v * (1 + s->noise * (2 * sim_uniform(s) - 1));
}

/* Runs the plan for one period and tells what a collector would have seen. */
static struct governor_look run_period(struct sim *s, double *ret_cpu_ns, double *ret_cost_ns)
{
	struct governor_plan plan = s->g.plan;
	int period = (int)(plan.period_ns / (uint64_t)TICK_NS), slice = (int)(plan.slice_ns / (uint64_t)TICK_NS);
	bool always = plan.slice_ns == plan.period_ns;
	int length = always ? period : plan.slice_ns ? slice + OVERHANG_TICKS : 0;
	int start = always ? 0 : (int)(sim_uniform(s) * fmax(period - length, 0)), end = start + length, attached = 0;
	double cpu = 0, attached_cpu = 0, hits = 0, sampled = 0, cost = 0;
	bool cut = false;

	for (int i = 0; i < period; i++) {
		bool probed = i >= start && i < end;
		struct tick t = run_tick(s, probed);

		cpu += t.cpu_ns;
		hits += t.hits;
		sampled += t.sampled;
		cost += t.cost_ns;
		attached += probed;
		attached_cpu += probed ? t.cpu_ns : 0;
		if (!cut && probed && plan.hits_limit && hits > (double)plan.hits_limit) {
			cut = true;
			end = i + 1 + LATENCY_TICKS < end ? i + 1 + LATENCY_TICKS : end;
		}
	}
	double switch_ns = length && !always ? s->p->switch_ns : 0;

	cpu += switch_ns;
	cost += switch_ns;
	s->cpu_ns += switch_ns;
	s->cost_ns += switch_ns;
	*ret_cpu_ns = cpu;
	*ret_cost_ns = cost;
	s->cuts += cut;
	return (struct governor_look){
		.period_ns = (uint64_t)(period * TICK_NS),
		.attached_ns = (uint64_t)(attached * TICK_NS),
		.cpu_ns = (uint64_t)noisy(s, cpu),
		.attached_cpu_ns = (uint64_t)noisy(s, attached_cpu),
		.hits = (uint64_t)hits & ~63ull,
		.returns = (uint64_t)sampled,
		.sampled = (uint64_t)sampled,
		.body_ns = (uint64_t)noisy(s, hits * BODY_NS + sampled * SAMPLED_BODY_NS),
		.switch_ns = (uint64_t)switch_ns,
		.stepped_share = s->p->stepped,
		.slice_ns = always ? 0 : plan.slice_ns,
		.cut = cut,
	};
}

static void count_changes(struct sim *s, const struct governor_plan *before)
{
	double change = (double)s->g.plan.slice_ns - (double)before->slice_ns;

	if (s->g.plan.slice_ns == before->slice_ns && s->g.plan.period_ns == before->period_ns &&
	    s->g.plan.rate == before->rate)
		return;
	s->changes++;
	s->flips += change * s->last_change < 0;
	s->last_change = change;
}

void sim_run(struct sim *s, double seconds)
{
	struct hit_costs believed = sim_costs;

	believed.emulated_ns *= s->fault;
	believed.skip_ns *= s->fault;
	believed.return_ns *= s->fault;
	for (double end = s->now_s + seconds; s->now_s < end - 1e-9;) {
		struct governor_plan before = s->g.plan;
		double cpu, cost;
		struct governor_look look = run_period(s, &cpu, &cost);
		double allowance = s->g.budget_pct / 100 * fmax(cpu, (double)before.period_ns * 0.1);

		if (allowance > 0)
			s->slice_cost_max = fmax(s->slice_cost_max, cost / allowance);
		if (s->n < LOOKS_MAX) {
			s->looks[s->n].s = s->now_s;
			s->looks[s->n].cpu_ns = cpu;
			s->looks[s->n].cost_ns = cost;
			s->looks[s->n].slice_ns = (double)before.slice_ns;
			s->looks[s->n].period_ns = (double)before.period_ns;
			s->n++;
		}
		governor_step(&s->g, &believed, &look);
		count_changes(s, &before);
	}
}

struct sim *sim_new(const struct program *p, double budget_pct, double fault, uint64_t seed)
{
	struct sim *s = calloc(1, sizeof(*s));

	s->p = p;
	s->fault = fault;
	s->noise = 0.1;
	s->random = seed * 1000003;
	s->work_now = p->work;
	governor_init(&s->g, budget_pct);
	return s;
}

void sim_forget(struct sim *s)
{
	s->cpu_ns = s->cost_ns = s->work_ns = 0;
	s->changes = s->flips = s->n = 0;
	s->cuts = 0;
	s->slice_cost_max = 0;
}

double sim_overhead_pct(const struct sim *s)
{
	return 100 * s->cost_ns / s->cpu_ns;
}

double sim_demand_pct(const struct program *p)
{
	struct sim *s = sim_new(p, 0, 1, 1);
	double pct;

	sim_run(s, 24);
	pct = sim_overhead_pct(s);
	free(s);
	return pct;
}

const struct program sim_programs[PROGRAMS_NR] = {
	[FLASK] = { "flask", .cores = 1, .work = 2, .hits_per_us = 0.2, .sampled_share = 0.002 },
	[FLASK_PACED] = { "flask, paced", .cores = 1, .work = 0.3, .hits_per_us = 0.2, .sampled_share = 0.002,
			  .jitter = 0.8 },
	[REDIS] = { "redis", .cores = 1, .work = 2, .hits_per_us = 2, .sampled_share = 0.0002 },
	[REDIS_PACED] = { "redis, paced", .cores = 1, .work = 0.05, .hits_per_us = 2, .sampled_share = 0.0002,
			  .jitter = 0.5 },
	[STORM] = { "storm", .cores = 2, .work = 8, .hits_per_us = 133, .sampled_share = 0.0001 },
	[ALTERNATING] = { "alternating", .cores = 2, .work = 8, .hits_per_us = 133, .sampled_share = 0.0001, .on_s = 3,
			  .off_s = 3 },
	[SLOW_TURNS] = { "slow turns", .cores = 2, .work = 8, .hits_per_us = 133, .sampled_share = 0.0001, .on_s = 10,
			 .off_s = 10, .off_work = 0.1, .off_hits_per_us = 0.3 },
	[BURSTS] = { "bursts", .cores = 2, .work = 8, .hits_per_us = 133, .sampled_share = 0.0001, .on_s = 0.23,
		     .off_s = 0.71, .off_work = 0.02, .off_hits_per_us = 1 },
};
