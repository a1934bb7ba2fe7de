/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the policy that keeps the cost of observing a process to its budget. Refuses to act: it attaches nothing and reads no clock.
 *
 * What is held. Over ten seconds or so: cost / CPU time = budget, both counted over all of the time, not only while the probes are in
 * place. That is what the user loses in throughput when the process is short of CPU. It is held from both sides: a budget that is not
 * used is precision given away.
 *
 *      |<------------- period ------------->|<------------- period ------------->|
 *      |        +--slice--+                 |  +--slice--+                       |
 *      |--------|#########|-----------------|--|#########|-----------------------|
 *               random                         random
 *                                           ^ step: what was seen -> next period, slice, rate, hits_limit
 *
 * How dear the process is. The demand is the overhead that it would have with the probes always in place: the cost that was seen,
 * scaled to the whole period, over the CPU time of the period. Slices are at random, so that estimate is right in the mean whatever the
 * process does; periods in which it idles add nothing to either side, so that the demand of a program that alternates between idle and a
 * storm is known before the next storm begins. The share of time that the budget pays for is then budget / demand, and one formula serves
 * both kinds of process:
 * - short of CPU (a malloc storm: 15 ns a pair bare, 1.3 us probed): in the slice nearly all CPU time is cost and it gets 1/80 of its work
 *   done. The demand stops at 0.99; the share is the budget itself.
 * - paced (5 % of a core, ten times that in a slice): the slice costs more CPU time than the process uses outside of it, so the demand goes
 *   beyond 1 and the share well below the budget. Cost over CPU time within the slice would miss that by far.
 * Sums fade over FADE_NS. A period that cost twice what it was allowed moves the estimate at once ("up fast"), a cheaper one only by the
 * fading ("down slow").
 *
 * Keeping account. The estimate is never quite right, so what each period was allowed (budget x CPU time) less what it cost goes to a
 * balance, and the balance steers the next slices by a gain of 1 + balance / (3 periods' allowance): an integral controller, whose
 * overshoot after one wrong slice is paid back in the next few periods. It acts on the mean of many periods, so noise of the single one
 * does not matter. With an estimate that is off by a factor of e one period changes the balance by (gain e - 1) allowances, so errors fade
 * by 1 - e/3 from one period to the next: stable up to e = 6, without swinging up to e = 3. Debt and credit are bounded: a long calm does
 * not buy a storm, and a bad minute is not paid for an hour.
 *
 * Keeping still. A new slice within 15 % of the old one is not taken; "always" is left below 0.9 and entered from 1.1; a shorter period is
 * taken only if its slice is twice the smallest useful one; a finer rate after 5 calm periods, and only so far that it is not taken back.
 *
 * The unknown. A slice may meet what was not seen before, so each comes with a limit on its hits worth four periods' allowance and what is
 * saved. A slice that was cut by it starts anew with a small one, as a new process does; from one period to the next a slice grows at
 * most fourfold.
 *
 * Periods. Attaching and detaching take 10-50 ms, nearly all of it ours, so slices are at least 10 ms and small shares get longer
 * periods, up to 4 s. If 5 ms in 4 s would still be too much (single-stepped probes in a paced process; an attach that costs the target
 * itself), there are none, and a look after 8, 16, 32, 60 s tells whether that still holds.
 */
#include "probe/governor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sampling.h"

#define MS 1e6
#define SECOND 1e9

#define BUDGET_DEFAULT_PCT 2
#define PERIOD_NS (1 * SECOND)
#define PERIODS_NR 3	      /* 1, 2, 4 s */
#define SLICE_NS (10 * MS)    /* the smallest that is chosen freely... */
#define SLICE_MIN_NS (5 * MS) /* ... and of the longest period */
#define SLICE_FIRST_NS (20 * MS)
#define SHARE_MAX 0.9 /* more is "always": between slices there has to be time to detach and attach */
#define GROWTH 4      /* of a share, from one period to the next */
#define DEADBAND 0.15

#define FADE_NS (8 * SECOND)
#define FORGIVE_NS (30 * SECOND) /* balances fade too: what is this old no user remembers */
#define PAY_PERIODS 3		 /* in which a balance is spent or paid back */
#define CREDIT_PERIODS 3
#define DEBT_PERIODS 8
#define GAIN_MIN 0.25
#define GAIN_MAX 2
#define OVERHANG_FIRST 0.5 /* of the first that is seen: one attach on a busy machine is no reason to give up slices */
#define SURPRISE 2	   /* times the allowance: the estimate follows at once */

#define PERIOD_MAX_NS (3600 * SECOND) /* none of ours */
#define CPUS_MAX 8192		      /* NR_CPUS of x86-64: Linux 6.18, arch/x86/Kconfig */

#define LIMIT_PERIODS 4	    /* allowances that one slice may cost */
#define LIMIT_CPU_SHARE 0.1 /* limits suppose at least this much of a core: an idle process may wake up */
#define LIMIT_HITS_MIN 1024 /* hits are counted in steps of HITS_STEP per thread */

#define SLOWDOWN_FADE_NS (60 * SECOND) /* a ratio of ratios scatters: more is remembered */
#define SLOWDOWN_SHARE 0.75 /* of the CPU time in slices: with calibration 10 % off, the rest is known to 30 % */

/*
 * Measured by the throughput of programs within slices and outside (tests/bench/slices.py; Linux 6.18, a virtual machine), as what a hit cost beyond calibration and beyond what our programs
 * took in it, how much more these took than calibrated, and the time between two hits: a loop of malloc and free 80, 35 ns, 0; redis -10, 36 ns, 0.9 us; Python with json and re 270, 117 ns,
 * 0.7 us; a gunicorn worker with Flask 690, 165 ns, 4.6 us. So of what our programs take, the first 35 ns are the reading of the clock. The four are within 10 % of what
 * they lost; a program that does little but walk through more memory than caches hold loses up to twice what is said.
 */
#define COLD_CLOCK_NS 35.0
#define COLD_MORE 3.0
#define COLD_BETWEEN 0.065	   /* of the time between two hits... */
#define COLD_BETWEEN_MAX_NS 8000.0 /* ... up to here */
#define BETWEEN_WEIGHT 0.25	   /* of a period: the figure moves the cost that it is taken from */
#define COLD_UNKNOWN 0.3	   /* of the emulated hit, where it can't be seen */
#define COLD_MAX 2.0		   /* ... and at most */
#define COLD_HITS_MIN 1024	   /* bodies are measured one in BODY_SAMPLE (include/abi.h) */
#define COLD_SAMPLED_MAX 0.2 /* of the hits: else our programs do different things, walk Python's frames among them */

#define CALM_PERIODS 5
#define WAIT_FIRST 2 /* longest periods without probes... */
#define WAIT_MAX 15  /* ... up to a minute */

/* Where nothing was measured: rather too high for a virtual machine of 2024 (540, 19000, 450 ns there), so that the budget holds. */
static const struct hit_costs cautious = {
	.emulated_ns = 900,
	.stepped_ns = 25000,
	.return_ns = 700,
	.body_skip_ns = 150,
	.body_count_ns = 500,
	.body_stack_ns = 2500,
};

/* --- what a period cost --- */

static double known(double cost, double instead)
{
	return cost > 0 && cost < COST_MAX_NS ? cost : instead;
}

static double share_of(double v)
{
	return v > 0 ? fmin(v, 1) : 0;
}

/*
 * What a hit costs beyond calibration, where nothing came between two hits. A program that works in between has the caches and branch predictors
 * for itself, and both sides find them cold after each. How cold our side finds them is seen: a call that is left out takes our programs the same few steps
 * each time, and the kernel's part of the hit loses COLD_MORE times what these steps lose. The other side loses the more, the more it does between two hits; seen
 * in slices, where a Flask worker paid 1.6 us a hit, and not with probes that stay in place, where it paid 1.1 to 1.2.
 */
static double cold_ns(const struct hit_costs *c, const struct governor_look *seen, double emulated)
{
	double hits = (double)seen->hits, sampled = (double)seen->sampled;
	double warm = COLD_CLOCK_NS + known(c->body_skip_ns, cautious.body_skip_ns) +
		      sampled / hits *
			      (known(c->body_count_ns, cautious.body_count_ns) +
			       known(c->body_stack_ns, cautious.body_stack_ns));
	double behind = COLD_BETWEEN * fmin(fmax(seen->between_ns, 0), COLD_BETWEEN_MAX_NS),
	       ours = COLD_UNKNOWN * emulated;

	if (seen->body_ns && seen->hits >= COLD_HITS_MIN && sampled <= COLD_SAMPLED_MAX * hits)
		ours = fmax(COLD_MORE * ((double)seen->body_ns / hits - warm), 0);
	return fmin(ours + behind, COLD_MAX * emulated);
}

/* A period's cost by what changes it: the sampling rate acts on `sampled` alone. */
struct cost_split {
	double entry_ns, sampled_ns, switch_ns;
};

static struct cost_split split_cost(const struct hit_costs *c, const struct governor_look *seen)
{
	double hits = (double)seen->hits, returns = (double)seen->returns, sampled = (double)seen->sampled;
	double emulated = known(c->skip_ns, known(c->emulated_ns, cautious.emulated_ns));
	double stepped = known(c->stepped_ns, cautious.stepped_ns), stepped_share = share_of(seen->stepped_share);
	double return_ns = known(c->return_ns, cautious.return_ns);
	double skip_ns = known(c->body_skip_ns, cautious.body_skip_ns) * hits;
	double body_ns = (double)seen->body_ns;
	double chosen = fmin(returns,
			     sampled); /* other returns are there whatever is sampled: no session could skip them */

	if (!seen->body_ns && seen->hits)
		body_ns = skip_ns + sampled * (known(c->body_count_ns, cautious.body_count_ns) +
					       known(c->body_stack_ns, cautious.body_stack_ns));
	return (struct cost_split){
		.entry_ns = hits * ((emulated + (hits > 0 ? cold_ns(c, seen, emulated) : 0)) * (1 - stepped_share) +
				    stepped * stepped_share) +
			    (returns - chosen) * return_ns + fmin(body_ns, skip_ns),
		.sampled_ns = chosen * return_ns + fmax(body_ns - skip_ns, 0),
		.switch_ns = (double)seen->switch_ns,
	};
}

double governor_cost_ns(const struct hit_costs *costs, const struct governor_look *seen)
{
	struct cost_split s = split_cost(costs, seen);

	return s.entry_ns + s.sampled_ns + s.switch_ns;
}

/* --- learning --- */

/*
 * Differences of counters or clocks that went backwards (a slot that was taken again) are huge, and sums would be long in forgetting them.
 */
static bool is_possible(const struct governor_look *seen)
{
	double period_ns = (double)seen->period_ns, cpus_ns = period_ns * CPUS_MAX;

	return seen->period_ns && period_ns <= PERIOD_MAX_NS && (double)seen->hits <= period_ns &&
	       (double)seen->returns <= period_ns && (double)seen->sampled <= period_ns &&
	       (double)seen->cpu_ns <= cpus_ns && (double)seen->attached_cpu_ns <= cpus_ns &&
	       (double)seen->body_ns <= cpus_ns && (double)seen->switch_ns <= cpus_ns;
}

static double budget_of(const struct governor *g)
{
	return g->budget_pct / 100;
}

/* Overhead with probes always in place; NAN: not known. */
static double demand_of(const struct governor_past *p)
{
	return p->probed_cpu_ns >= 1 ? (p->entry_ns + p->sampled_ns) / p->probed_cpu_ns : NAN;
}

static void fade(struct governor_past *p, double wall_ns)
{
	double keep = exp(-wall_ns / FADE_NS), keep_slices = exp(-wall_ns / SLOWDOWN_FADE_NS);

	p->wall_ns *= keep;
	p->attached_ns *= keep;
	p->cpu_ns *= keep;
	p->cost_ns *= keep;
	p->probed_cpu_ns *= keep;
	p->entry_ns *= keep;
	p->sampled_ns *= keep;
	p->slice_wall_ns *= keep_slices;
	p->slice_attached_ns *= keep_slices;
	p->slice_cpu_ns *= keep_slices;
	p->slice_attached_cpu_ns *= keep_slices;
	p->slice_cost_ns *= keep_slices;
}

/*
 * The period cost much more than it was allowed: believe it at once. But no single look is believed to show a demand above 1: a slice that
 * hits the one burst of its period does so by chance.
 */
static void believe(struct governor_past *p, double look_demand, double look_cpu_ns)
{
	double before = demand_of(p), demand = fmin(look_demand, fmax(before, 1));

	if (before >= demand)
		return;
	p->probed_cpu_ns = fmax(p->probed_cpu_ns, look_cpu_ns);
	double factor = demand * p->probed_cpu_ns / (p->entry_ns + p->sampled_ns);
	p->entry_ns *= factor;
	p->sampled_ns *= factor;
}

/* How a process fares in its slices, and outside of them. Work is CPU time less cost. */
static void compare_slices(struct governor *g)
{
	const struct governor_past *p = &g->past;
	double within_ns = p->slice_attached_cpu_ns - p->slice_cost_ns;
	double outside_ns = p->slice_cpu_ns - p->slice_attached_cpu_ns,
	       outside_wall_ns = p->slice_wall_ns - p->slice_attached_ns;

	g->slowdown = g->work_outside = g->cost_within = NAN;
	if (g->mode != GOVERNOR_SLICES || !(within_ns > (1 - SLOWDOWN_SHARE) * p->slice_attached_cpu_ns) ||
	    !(outside_wall_ns > 0) || !(outside_ns > 0))
		return;
	g->work_outside = outside_ns / outside_wall_ns;
	g->slowdown = g->work_outside / (within_ns / p->slice_attached_ns);
	g->cost_within = p->slice_cost_ns / p->slice_attached_cpu_ns;
}

/*
 * Where CPU is short, placing the probes and being woken at the slice's end take several times their usual time. Of a slice that was cut only the least is known
 * that it can have been.
 */
static void learn_overhang(struct governor *g, double beyond_ns, bool cut, double weight)
{
	double more_ns = fmax(beyond_ns, 0) - g->overhang_ns;

	if (more_ns > 0 || !cut)
		g->overhang_ns += (g->overhang_ns > 0 ? weight : OVERHANG_FIRST) * more_ns;
}

/* What a slice costs beyond its length, means over some slices; and how the process fares in it. */
static void learn_slice(struct governor *g, const struct governor_look *seen, double attached_ns, double probes_ns)
{
	struct governor_past *p = &g->past;
	double weight = g->mode == GOVERNOR_PAGES ? 1 : 0.25; /* the one look of a minute is all there is */

	if (g->plan.slice_ns == 0 || g->plan.slice_ns >= g->plan.period_ns || attached_ns <= 0)
		return;
	g->switch_ns += weight * ((double)seen->switch_ns - g->switch_ns);
	if (seen->slice_ns)
		learn_overhang(g, attached_ns - (double)seen->slice_ns, seen->cut, weight);
	if (seen->cut)
		return;
	if (!seen->attached_cpu_ns)
		return;
	p->slice_wall_ns += (double)seen->period_ns;
	p->slice_attached_ns += attached_ns;
	p->slice_cpu_ns += (double)seen->cpu_ns;
	p->slice_attached_cpu_ns += (double)seen->attached_cpu_ns;
	p->slice_cost_ns += probes_ns;
}

static void learn_between(struct governor *g, double between_ns)
{
	g->between_ns = g->between_ns > 0 ? g->between_ns + BETWEEN_WEIGHT * (between_ns - g->between_ns) : between_ns;
}

/* Returns the cost of the period. */
static double learn(struct governor *g, const struct hit_costs *costs, const struct governor_look *seen)
{
	struct cost_split c = split_cost(costs, seen);
	struct governor_past *p = &g->past;
	double wall_ns = (double)seen->period_ns, attached_ns = fmin((double)seen->attached_ns, wall_ns);
	double probes_ns = c.entry_ns + c.sampled_ns, cost_ns = probes_ns + c.switch_ns;
	double cpu_ns = fmax((double)seen->cpu_ns, cost_ns); /* it was paid, whatever the clocks have told so far */

	g->cpu_share = cpu_ns / wall_ns;
	fade(p, wall_ns);
	p->wall_ns += wall_ns;
	p->attached_ns += attached_ns;
	p->cpu_ns += cpu_ns;
	p->cost_ns += cost_ns;
	if (seen->hits >= LIMIT_HITS_MIN)
		g->hit_ns = probes_ns / (double)seen->hits;
	if (seen->hits >= LIMIT_HITS_MIN && seen->attached_cpu_ns)
		learn_between(g, fmax((double)seen->attached_cpu_ns - probes_ns, 0) / (double)seen->hits);
	if (attached_ns > 0) {
		double whole = wall_ns / attached_ns;

		p->probed_cpu_ns += cpu_ns;
		p->entry_ns += c.entry_ns * whole;
		p->sampled_ns += c.sampled_ns * whole;
		if (probes_ns > SURPRISE * budget_of(g) * cpu_ns)
			believe(p, probes_ns * whole / cpu_ns, cpu_ns);
	}
	learn_slice(g, seen, attached_ns, probes_ns);
	g->overhead_pct = p->cpu_ns > 0 ? 100 * p->cost_ns / p->cpu_ns : NAN;
	g->attached_share = p->attached_ns / p->wall_ns;
	compare_slices(g);
	return cost_ns;
}

/* --- the account --- */

static double cpu_per_wall(const struct governor_past *p)
{
	return p->wall_ns > 0 ? p->cpu_ns / p->wall_ns : 0;
}

static double clamp(double v, double low, double high)
{
	return fmin(fmax(v, low), high);
}

static void keep_account(struct governor *g, double wall_ns, double cost_ns)
{
	double allowed_ns = budget_of(g) * g->cpu_share * wall_ns;
	double unit = budget_of(g) * fmax(g->cpu_share, cpu_per_wall(&g->past)) * wall_ns;

	g->balance_ns = g->balance_ns * exp(-wall_ns / FORGIVE_NS) + allowed_ns - cost_ns;
	g->balance_ns = clamp(g->balance_ns, -DEBT_PERIODS * unit, CREDIT_PERIODS * unit);
}

/* By how much the next slices are longer or shorter than the estimate says. */
static double gain_of(const struct governor *g)
{
	double allowance_ns = budget_of(g) * cpu_per_wall(&g->past) * (double)g->plan.period_ns;

	return allowance_ns > 0 ? clamp(1 + g->balance_ns / (PAY_PERIODS * allowance_ns), GAIN_MIN, GAIN_MAX) : 1;
}

/* --- the levers --- */

/* The first lever. Sampled calls may cost what the entries cost; more only if all of it fits the budget. */
static void choose_rate(struct governor *g)
{
	struct governor_past *p = &g->past;
	double allowed_ns = budget_of(g) * p->probed_cpu_ns;
	bool fits = p->entry_ns + p->sampled_ns <= allowed_ns;
	bool finer = 4 * p->sampled_ns < p->entry_ns || p->entry_ns + 2 * p->sampled_ns < 0.6 * allowed_ns;

	if (!fits && p->sampled_ns > p->entry_ns && g->plan.rate < RATE_MAX) {
		double steps = clamp(ceil(log2(p->sampled_ns / fmax(p->entry_ns, 1))), 1, RATE_MAX - g->plan.rate);

		g->plan.rate += (uint32_t)steps;
		p->sampled_ns =
			ldexp(p->sampled_ns,
			      -(int)steps); /* expected; blocks above R go on costing the same, and are seen to */
		g->calm = 0;
		return;
	}
	g->calm = finer && g->plan.rate > 1 ? g->calm + 1 : 0;
	if (g->calm > CALM_PERIODS) {
		g->plan.rate--;
		p->sampled_ns *= 2;
		g->calm = 0;
	}
}

/* The share of time that is paid for: budget less switches, over demand. May be above 1. NAN demand: as much as growth allows. */
static double affordable(const struct governor *g, double gain, double period_ns)
{
	double demand = demand_of(&g->past), cpu_ns = cpu_per_wall(&g->past) * period_ns;
	double switches = cpu_ns > 0 ? g->switch_ns / cpu_ns : 0;

	if (!(demand > 0))
		return INFINITY;
	return (budget_of(g) * gain - switches) / demand;
}

static double period_of(const struct governor *g, int i)
{
	return ldexp(PERIOD_NS, i) * g->stretch;
}

/* The slice that period i would get. */
static double slice_of(const struct governor *g, int i, double gain, bool grown_enough)
{
	double period_ns = period_of(g, i), share = affordable(g, gain, period_ns);

	if (!grown_enough)
		share = fmin(share, g->share * GROWTH);
	return fmin(share, SHARE_MAX) * period_ns - g->overhang_ns;
}

/* The shortest period whose slice is worth its attaching. */
static int choose_period(const struct governor *g, double gain)
{
	for (int i = 0; i < PERIODS_NR - 1; i++) {
		bool shorter = period_of(g, i) < (double)g->plan.period_ns;

		if (slice_of(g, i, gain, false) >= SLICE_NS * (shorter ? 2 : 1))
			return i;
	}
	return PERIODS_NR - 1;
}

static void plan_slice(struct governor *g, double period_ns, double slice_ns)
{
	g->plan.period_ns = (uint64_t)period_ns;
	g->plan.slice_ns = (uint64_t)slice_ns;
	g->share = slice_ns / period_ns;
}

/* The last lever: no probes, and a look after a wait that doubles. */
static void plan_pages(struct governor *g)
{
	double period_ns = period_of(g, PERIODS_NR - 1);

	if (g->mode != GOVERNOR_PAGES)
		g->wait = WAIT_FIRST;
	g->mode = GOVERNOR_PAGES;
	if (g->waited < g->wait) {
		g->waited++;
		g->plan.period_ns = (uint64_t)period_ns;
		g->plan.slice_ns = 0;
		return;
	}
	g->waited = 0;
	g->wait = g->wait * 2 < WAIT_MAX ? g->wait * 2 : WAIT_MAX;
	plan_slice(g, period_ns, SLICE_MIN_NS);
}

static bool is_always(const struct governor *g, double gain)
{
	double share = affordable(g, gain, INFINITY); /* without switches: there are none */

	return share >= (g->mode == GOVERNOR_ALWAYS ? 0.9 : 1.1) && g->share * GROWTH >= 1;
}

static bool is_too_dear(const struct governor *g)
{
	return slice_of(g, PERIODS_NR - 1, 1, true) < SLICE_MIN_NS * (g->mode == GOVERNOR_PAGES ? 1.5 : 1);
}

/* The second lever, and whether it must be the third. */
static void choose_slice(struct governor *g, bool cut)
{
	double gain = gain_of(g), old_period_ns = (double)g->plan.period_ns, old_slice_ns = (double)g->plan.slice_ns;

	if (is_too_dear(g)) {
		plan_pages(g);
		return;
	}
	g->waited = 0;
	if (!cut && is_always(g, gain)) {
		g->mode = GOVERNOR_ALWAYS;
		plan_slice(g, period_of(g, 0), period_of(g, 0));
		return;
	}
	g->mode = GOVERNOR_SLICES;
	int i = choose_period(g, gain);
	double period_ns = period_of(g, i), slice_ns = fmax(slice_of(g, i, gain, false), SLICE_MIN_NS);

	if (cut)
		slice_ns = fmin(slice_ns, SLICE_FIRST_NS);
	else if (period_ns == old_period_ns && fabs(slice_ns - old_slice_ns) < DEADBAND * old_slice_ns)
		slice_ns = old_slice_ns;
	plan_slice(g, period_ns, slice_ns);
}

static uint64_t limit_hits(const struct governor *g, const struct hit_costs *costs)
{
	double entry_ns = known(costs->skip_ns, known(costs->emulated_ns, cautious.emulated_ns)) +
			  known(costs->body_skip_ns, cautious.body_skip_ns);
	double cpu_share = fmax(fmax(g->cpu_share, cpu_per_wall(&g->past)), LIMIT_CPU_SHARE);
	double allowance_ns = budget_of(g) * cpu_share * (double)g->plan.period_ns;
	double hits = (LIMIT_PERIODS * allowance_ns + fmax(g->balance_ns, 0)) / fmax(g->hit_ns, entry_ns);

	return (uint64_t)clamp(hits, LIMIT_HITS_MIN, (double)(1ull << 62));
}

static void name_lever(struct governor *g)
{
	char rate[32] = "";

	if (g->plan.rate > 1)
		snprintf(rate, sizeof(rate), ", 1/%u of the samples", 1u << (g->plan.rate - 1));
	if (g->mode == GOVERNOR_ALWAYS)
		snprintf(g->lever, sizeof(g->lever), "always%s", rate);
	else if (g->mode == GOVERNOR_SLICES)
		snprintf(g->lever, sizeof(g->lever), "%.2g %% of the time%s", 100 * g->share, rate);
	else
		snprintf(g->lever, sizeof(g->lever), "page layer only");
}

/* --- outside --- */

void governor_init(struct governor *g, double budget_pct)
{
	memset(g, 0, sizeof(*g));
	g->budget_pct = budget_pct >= 0 ? fmin(budget_pct, 100) : BUDGET_DEFAULT_PCT;
	g->overhead_pct = g->attached_share = g->slowdown = g->work_outside = g->cost_within = NAN;
	g->stretch = 1;
	g->plan.rate = 1;
	if (g->budget_pct > 0) {
		g->mode = GOVERNOR_SLICES;
		plan_slice(g, PERIOD_NS, SLICE_FIRST_NS);
		g->plan.hits_limit = limit_hits(g, &cautious);
	} else {
		g->mode = GOVERNOR_ALWAYS;
		plan_slice(g, PERIOD_NS, PERIOD_NS);
	}
	name_lever(g);
}

struct governor_plan governor_step(struct governor *g, const struct hit_costs *costs, const struct governor_look *seen)
{
	if (!is_possible(seen))
		return g->plan;
	if (!g->stretch)
		g->stretch = 1;
	double cost_ns = learn(g, costs, seen);
	if (!(g->budget_pct > 0))
		return g->plan;
	keep_account(g, (double)seen->period_ns, cost_ns);
	choose_rate(g);
	choose_slice(g, seen->cut);
	g->plan.hits_limit = limit_hits(g, costs);
	name_lever(g);
	return g->plan;
}

const char *governor_lever_name(const struct governor *g)
{
	return g->lever;
}
