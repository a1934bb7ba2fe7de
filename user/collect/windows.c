/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/windows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <uthash.h>

#include "abi.h"
#include "collect/accounts.h"
#include "collect/extrapolate.h"
#include "sampling.h"
#include "tables.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

#define COSTS_ERROR \
	0.15 /* of what hits are taken to cost: calibrations on different programs (make bench ARGS=calibrate) */

/* The kernel side's counters of a process, and its CPU time. */
struct reading {
	uint64_t hits, returns, sampled, body_ns, booked_bytes, booked_var, cpu_ns;
};

enum phase { PHASE_BEFORE, PHASE_OPEN, PHASE_AFTER };

struct window {
	uint32_t account; /* key */
	uint32_t pid;
	struct governor governor;
	struct governor_plan plan; /* of this period, lengths as drawn */
	enum phase phase;
	bool attached, was_away;
	uint64_t began_ns, open_ns, close_ns, end_ns; /* of the period; of its slice */
	uint64_t slice_ns;			      /* as drawn; 0: none, or always */
	struct reading at_begin;
	uint64_t limited_ns; /* since then hits_limit and spent are this period's */
	char refused[80];    /* why its probes can't be placed; "": they can */
	uint64_t attached_since_ns, attached_since_cpu_ns;
	uint64_t attached_ns, attached_cpu_ns; /* in this period */
	bool cut;
	struct {
		uint64_t ns; /* since when; 0: none is open */
		double scale;
		struct reading at;
	} open;
	struct extrapolation stands_for;
	bool looked;	    /* a window was open in this period */
	uint64_t unseen_ns; /* periods before this one without any: the next window stands for them, too */
	uint64_t share_since_ns, share_attached_ns; /* interval of windows_figures */
	uint64_t cost_ns, cpu_ns;		    /* since windows_overhead_pct */
	bool wanted;
	UT_hash_handle hh;
};

struct windows {
	struct windows_opts opts;
	struct window *all;
};

struct windows *windows_new(const struct windows_opts *o)
{
	struct windows *w = xcalloc(1, sizeof(*w));

	w->opts = *o;
	if (windows_governed(w))
		attacher_force_process(o->attacher);
	return w;
}

static void forget(struct windows *w, struct window *x)
{
	HASH_DEL(w->all, x);
	free(x);
}

void windows_free(struct windows *w)
{
	while (w && w->all)
		forget(w, w->all);
	free(w);
}

bool windows_governed(const struct windows *w)
{
	return !w->opts.exact && w->opts.budget_pct > 0;
}

static struct window *window_find(const struct windows *w, uint32_t account)
{
	struct window *x = NULL;

	HASH_FIND(hh, w->all, &account, sizeof(account), x);
	return x;
}

/* Its place in the kernel's table; NULL: it is gone. */
static struct proc *slot_of(const struct windows *w, const struct window *x)
{
	struct proc *p = &w->opts.slots[account_slot(x->account)];

	return p->account == x->account && p->tgid == x->pid ? p : NULL;
}

static uint64_t cpu_ns_of(uint32_t pid)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid((pid_t)pid, &clock) || clock_gettime(clock, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct reading read_counters(const struct windows *w, const struct window *x)
{
	const struct proc *p = slot_of(w, x);
	struct reading r = { .cpu_ns = cpu_ns_of(x->pid) };

	if (!p) /* gone: nothing was counted since */
		return x->open.ns ? x->open.at : x->at_begin;
	r.hits = p->hits;
	r.returns = p->returns;
	r.sampled = p->sampled;
	r.body_ns = p->body_ns;
	r.booked_bytes = p->booked_bytes;
	r.booked_var = p->booked_var;
	if (r.cpu_ns < x->at_begin.cpu_ns)
		r.cpu_ns = x->at_begin.cpu_ns; /* it ends: its clock can't be read any more */
	return r;
}

/* In [0, 1). */
static double random_share(void)
{
	uint32_t r = 0;

	(void)getrandom(&r, sizeof(r), 0); /* never fails for so few bytes once the machine is up */
	return (double)r / 4294967296.0;
}

/* --- one period --- */

static void begin_period(const struct windows *w, struct window *x, uint64_t now)
{
	bool governed = windows_governed(w);
	/* Periods differ in length: a program with a period of its own must not meet ours in step. */
	double stretch = governed ? 0.75 + 0.5 * random_share() : 1;
	uint64_t period = (uint64_t)((double)x->plan.period_ns * stretch);
	uint64_t slice = x->plan.slice_ns < x->plan.period_ns ? (uint64_t)((double)x->plan.slice_ns * stretch) : period;

	/* From where the last one ended, not from when we woke up: all of the time belongs to a period. */
	x->began_ns = x->end_ns && now - x->end_ns < period ? x->end_ns : now;
	x->end_ns = x->began_ns + period;
	if (!governed) /* probes stay in place: periods of all end in one turn */
		x->end_ns -= x->end_ns % period;
	x->open_ns = slice ? x->began_ns + (uint64_t)((double)(period - slice) * random_share()) : x->end_ns;
	x->close_ns = x->open_ns + slice;
	x->slice_ns = slice < period ? slice : 0;
	x->phase = slice ? PHASE_BEFORE : PHASE_AFTER;
	x->at_begin = read_counters(w, x);
	x->limited_ns = now;
	x->attached_ns = x->attached_cpu_ns = 0;
	x->attached_since_ns = now;
	x->attached_since_cpu_ns = x->at_begin.cpu_ns;
	x->cut = x->looked = false;
	struct proc *p = slot_of(w, x);
	if (!p)
		return;
	if (!w->opts.exact)
		p->rate = x->plan.rate ? x->plan.rate : 1;
	/* In this order: a hit in between would be told as past the limit before. */
	__atomic_store_n(&p->hits_limit, x->plan.hits_limit ? p->hits + x->plan.hits_limit : 0, __ATOMIC_RELEASE);
	__atomic_store_n(&p->spent, 0, __ATOMIC_RELEASE);
}

static bool is_always(const struct window *x)
{
	return x->plan.slice_ns >= x->plan.period_ns;
}

static bool attach(const struct windows *w, struct window *x)
{
	if (x->attached)
		return true;
	x->attached_since_ns = mono_ns();
	x->attached_since_cpu_ns = cpu_ns_of(x->pid);
	int err = attacher_resume(w->opts.attacher, x->pid);
	x->refused[0] = 0;
	if (err)
		(void)snprintf(x->refused, sizeof(x->refused), "probes can't be placed (%s)", strerror(-err));
	x->attached = !err;
	if (x->attached && attacher_tells_codes(w->opts.attacher, x->pid))
		accounts_watch_codes(w->opts.accounts, x->account, true);
	return x->attached;
}

static void count_attached(struct window *x, uint64_t now)
{
	uint64_t cpu = cpu_ns_of(x->pid);

	if (!x->attached)
		return;
	x->attached_ns += now - x->attached_since_ns;
	if (now > x->share_since_ns) /* of this interval only */
		x->share_attached_ns += now - (x->attached_since_ns > x->share_since_ns ? x->attached_since_ns
											: x->share_since_ns);
	if (cpu > x->attached_since_cpu_ns)
		x->attached_cpu_ns += cpu - x->attached_since_cpu_ns;
	x->attached_since_ns = now;
	x->attached_since_cpu_ns = cpu;
}

static void detach(const struct windows *w, struct window *x)
{
	struct proc *p = slot_of(w, x);

	if (p)
		p->window_end_ns = 0;
	if (!x->attached)
		return;
	accounts_watch_codes(w->opts.accounts, x->account, false);
	attacher_pause(w->opts.attacher, x->pid);
	count_attached(x, mono_ns());
	x->attached = false;
	x->was_away = true;
}

/* What hits cost between two readings, and what was work. */
static struct governor_look look_between(const struct windows *w, const struct window *x, const struct reading *from,
					 const struct reading *to)
{
	return (struct governor_look){
		.cpu_ns = to->cpu_ns > from->cpu_ns ? to->cpu_ns - from->cpu_ns
						    : 0, /* it ends: its clock can't be read any more */
		.hits = to->hits - from->hits,
		.returns = to->returns - from->returns,
		.sampled = to->sampled - from->sampled,
		.body_ns = to->body_ns - from->body_ns,
		.stepped_share = attacher_stepped_share(w->opts.attacher, x->pid),
		.between_ns = x->slice_ns ? x->governor.between_ns : 0,
	};
}

static double work_between(const struct windows *w, const struct window *x, const struct reading *from,
			   const struct reading *to)
{
	struct governor_look seen = look_between(w, x, from, to);

	return (double)seen.cpu_ns - governor_cost_ns(w->opts.costs, &seen);
}

/* The code nearest to the scale of a window that opens now. */
static uint32_t scale_of(const struct windows *w, const struct window *x, uint64_t now, uint64_t slice_ns)
{
	struct reading r = read_counters(w, x);
	double rest_ns = x->end_ns > now ? (double)(x->end_ns - now) : 0;
	struct window_ahead ahead = {
		.plain = (double)(x->end_ns - x->began_ns + x->unseen_ns) / (double)slice_ns,
		.work_ns = work_between(w, x, &x->at_begin, &r),
		.rest_ns = x->governor.work_outside * rest_ns,
		.within_ns = x->governor.work_outside / x->governor.slowdown * (double)slice_ns,
	};
	double code = round(SCALE_PER_OCTAVE * log2(extrapolate_scale(&x->stands_for, &ahead)));

	return code < 0 ? 0 : code > SCALE_MAX ? SCALE_MAX : (uint32_t)code;
}

static void open_window(const struct windows *w, struct window *x)
{
	struct proc *p = slot_of(w, x);
	uint64_t slice = x->close_ns - x->open_ns;

	x->phase = PHASE_OPEN;
	if (!p || !attach(w, x)) {
		x->phase = PHASE_AFTER;
		return;
	}
	x->looked = true;
	/* A window that follows on one that never closes: no call may fall between the two. */
	if (!is_always(x))
		p->window_end_ns = 0;
	uint64_t now = mono_ns();
	p->scale = is_always(x) ? 0 : scale_of(w, x, now, slice);
	x->close_ns = is_always(x) ? x->end_ns : now + slice;
	if (x->end_ns < x->close_ns)
		x->end_ns = x->close_ns;
	x->open.at = read_counters(w, x);
	x->open.scale = exp2((double)p->scale / SCALE_PER_OCTAVE);
	x->open.ns = now;
	__atomic_store_n(&p->window_end_ns, is_always(x) ? WINDOW_ALWAYS : x->close_ns, __ATOMIC_RELEASE);
}

/* What it has seen so far. The kernel has closed it, maybe some time ago: of what was done since it opened, only the part up to there. */
static struct window_seen seen_in_window(const struct windows *w, const struct window *x, uint64_t now)
{
	struct reading r = read_counters(w, x);
	double unit = (double)w->opts.sample_bytes / SAMPLE_VAR_UNIT, since = (double)(now - x->open.ns);
	double part = !is_always(x) && x->close_ns < now ? (double)(x->close_ns - x->open.ns) / since : 1;

	return (struct window_seen){
		.scale = x->open.scale,
		.work_ns = part * work_between(w, x, &x->open.at, &r),
		.bytes = (double)(r.booked_bytes - x->open.at.booked_bytes),
		.var = (double)(r.booked_var - x->open.at.booked_var) * unit * unit,
	};
}

static void close_window(const struct windows *w, struct window *x, uint64_t now)
{
	if (!x->open.ns)
		return;
	struct window_seen seen = seen_in_window(w, x, now);
	extrapolate_window(&x->stands_for, &seen);
	x->open.ns = 0;
}

/* --- what a period taught --- */

static void end_period(struct windows *w, struct window *x, uint64_t now)
{
	close_window(w, x, now);
	count_attached(x, now);
	struct reading r = read_counters(w, x);
	struct governor_look seen = look_between(w, x, &x->at_begin, &r);

	seen.period_ns = now - x->began_ns;
	seen.attached_ns = x->attached_ns;
	seen.attached_cpu_ns = x->attached_cpu_ns;
	seen.slice_ns = x->slice_ns;
	seen.cut = x->cut;
	uint64_t cost = (uint64_t)governor_cost_ns(w->opts.costs, &seen);

	x->cost_ns += cost;
	x->cpu_ns += seen.cpu_ns;
	extrapolate_period(&x->stands_for, (double)seen.cpu_ns - (double)cost);
	x->unseen_ns = x->looked ? 0 : x->unseen_ns + seen.period_ns;
	x->plan = governor_step(&x->governor, w->opts.costs, &seen);
	log_debug("pid %u: hits %llu cost %.3f ms cpu %.3f ms attached %.3f of %.3f ms: %.2f %%; next: slice %.3f of "
		  "%.3f ms rate %u",
		  x->pid, (unsigned long long)seen.hits, (double)cost / 1e6, (double)seen.cpu_ns / 1e6,
		  (double)seen.attached_ns / 1e6, (double)seen.period_ns / 1e6, x->governor.overhead_pct,
		  (double)x->plan.slice_ns / 1e6, (double)x->plan.period_ns / 1e6, x->plan.rate);
}

/* A process's next turn; when it wants another. */
static uint64_t step_one(struct windows *w, struct window *x, uint64_t now)
{
	if (x->phase == PHASE_BEFORE && now >= x->open_ns)
		open_window(w, x);
	if (x->phase == PHASE_OPEN && now >= x->close_ns) {
		x->phase = PHASE_AFTER;
		close_window(w, x, now);
		if (!is_always(x))
			detach(w, x);
	}
	if (now >= x->end_ns) {
		end_period(w, x, now);
		if (!is_always(x))
			detach(w, x); /* it was always in place, and is not to be any more */
		begin_period(w, x, now);
		if (is_always(x) || x->open_ns <= now)
			open_window(w, x);
	}
	return x->phase == PHASE_BEFORE ? x->open_ns : x->phase == PHASE_OPEN ? x->close_ns : x->end_ns;
}

uint64_t windows_step(struct windows *w, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	for (struct window *x = w->all; x; x = x->hh.next) {
		uint64_t due = step_one(w, x, now);
		next = due < next ? due : next;
	}
	return next;
}

void windows_spent(struct windows *w, uint32_t account, uint64_t told_ns, uint64_t now)
{
	struct window *x = window_find(w, account);

	if (!x || !x->attached || !windows_governed(w) || told_ns < x->limited_ns)
		return;
	x->cut = true;
	x->phase = PHASE_AFTER;
	close_window(w, x, now);
	detach(w, x);
	if (is_always(x)) /* nothing was planned behind it */
		x->end_ns = now;
}

/* --- which processes --- */

static struct window *take(struct windows *w, const struct window_wish *wish, uint64_t now)
{
	struct window *x = xcalloc(1, sizeof(*x));

	x->account = wish->account;
	x->pid = wish->pid;
	x->share_since_ns = now;
	governor_init(&x->governor, w->opts.exact ? 0 : w->opts.budget_pct);
	x->plan = x->governor.plan;
	HASH_ADD(hh, w->all, account, sizeof(x->account), x);
	if (windows_governed(w))
		attacher_pause(w->opts.attacher, x->pid);
	else
		x->attached = true;
	x->was_away = windows_governed(w) || wish->was_away;
	begin_period(w, x, now);
	return x;
}

void windows_sync(struct windows *w, const struct window_wish *list, size_t n, uint64_t now)
{
	struct window *x, *next;

	for (size_t i = 0; i < n; i++) {
		x = window_find(w, list[i].account);
		(x ? x : take(w, &list[i], now))->wanted = true;
	}
	HASH_ITER(hh, w->all, x, next) {
		if (!x->wanted)
			forget(w, x);
		else
			x->wanted = false;
	}
}

/* The period under way, whose window has been already or has not; and what cost is taken for work, or work for cost. */
static double edge_error(const struct windows *w, const struct window *x, uint64_t now)
{
	struct reading r = read_counters(w, x);
	struct window_seen open = x->open.ns ? seen_in_window(w, x, now) : (struct window_seen){ 0 };
	double cost = isnan(x->governor.cost_within) ? 0 : x->governor.cost_within;

	if (!x->was_away)
		return 0;
	return hypot(extrapolate_edge(&x->stands_for, work_between(w, x, &x->at_begin, &r), open.scale * open.work_ns),
		     COSTS_ERROR * cost / (1 - cost));
}

bool windows_figures(struct windows *w, uint32_t account, uint64_t now, struct window_figures *ret)
{
	struct window *x = window_find(w, account);

	if (!x)
		return false;
	count_attached(x, now);
	double since = (double)(now - x->share_since_ns);
	/* Nearly all of the window is cost: how much work it stands for can't be told, nor how far off that is. */
	bool blind = x->governor.mode == GOVERNOR_SLICES && isnan(x->governor.slowdown);

	*ret = (struct window_figures){
		.overhead_pct = x->governor.overhead_pct,
		.attached_share = since > 0 ? (double)x->share_attached_ns / since : x->attached,
		.spread = !x->was_away ? 1
			  : blind      ? NAN
				       : extrapolate_spread(&x->stands_for),
		.edge = edge_error(w, x, now),
		.whole = !x->was_away,
		.windows = x->stands_for.windows,
		.counted_ns = x->stands_for.counted_ns,
		.is_open = x->open.ns != 0,
		.rate = x->plan.rate,
		.lever = x->refused[0] ? x->refused : governor_lever_name(&x->governor),
	};
	x->share_since_ns = now;
	x->share_attached_ns = 0;
	return true;
}

bool windows_in_slice(const struct windows *w, uint32_t account)
{
	const struct window *x = window_find(w, account);

	return x && x->attached && !is_always(x);
}

bool windows_any_slice(const struct windows *w)
{
	for (const struct window *x = w->all; x; x = x->hh.next)
		if (x->attached && !is_always(x))
			return true;
	return false;
}

void windows_stretch(struct windows *w, uint32_t times)
{
	for (struct window *x = w->all; x; x = x->hh.next)
		x->governor.stretch = times;
}

double windows_overhead_pct(struct windows *w)
{
	double cost = 0, cpu = 0;

	for (struct window *x = w->all; x; x = x->hh.next) {
		cost += (double)x->cost_ns;
		cpu += (double)x->cpu_ns;
		x->cost_ns = x->cpu_ns = 0;
	}
	return cpu > 0 ? 100 * cost / cpu : NAN;
}
