/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the probes of each process are in place. Carries out what the governor plans: in each period a slice at a random moment, in it a window in which
 * allocations are counted, with a scale that makes up for the rest of the time (collect/extrapolate.h). The kernel side closes the window by its own
 * clock, so its length is exact however late we wake up; its scale is settled before it opens, so what is counted in it is right in the mean.
 */
#ifndef TIDEMARK_COLLECT_WINDOWS_H
#define TIDEMARK_COLLECT_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/attach.h"
#include "probe/calibrate.h"
#include "probe/governor.h"

struct accounts;
struct proc;
struct windows;

struct windows_opts {
	struct attacher *attacher; /* borrowed, as all below: must outlive */
	struct accounts *accounts;
	struct proc *slots; /* the kernel's process table */
	const struct hit_costs *costs;
	uint64_t sample_bytes; /* R of rate 1 */
	double budget_pct;     /* 0: no limit */
	bool exact;	       /* probes always stay, every call is counted; what that costs is measured */
};

struct windows *windows_new(const struct windows_opts *o);
void windows_free(struct windows *w); /* leaves probes as they are */

/* Are probes taken away and put back at all? Then the attacher's links are for one process each. */
bool windows_governed(const struct windows *w);

/*
 * The processes whose heap is to be observed: new ones are taken (before their files are looked into, so that no probe of theirs is placed out of turn),
 * others forgotten, known ones left as they are.
 */
struct window_wish {
	uint32_t account, pid;
	bool was_away; /* it was observed before, and not since */
};
void windows_sync(struct windows *w, const struct window_wish *list, size_t n, uint64_t now_ns);

/* Does what is due. When it wants to be called again, CLOCK_MONOTONIC; UINT64_MAX: no need. */
uint64_t windows_step(struct windows *w, uint64_t now_ns);
/* EVENT_SPENT, told at told_ns: the slice ends now, if it is still the same. */
void windows_spent(struct windows *w, uint32_t account, uint64_t told_ns, uint64_t now_ns);

struct window_figures {
	double overhead_pct;   /* of the process's CPU time, over the last 10 s or so; NAN: not known yet */
	double attached_share; /* of the time since the last call */
	double spread;	       /* standard errors are to be multiplied by it; >= 1 */
	double edge;	       /* error of totals that all stacks share, as a part of them */
	bool whole;	       /* it was never without probes: live figures need no survival */
	unsigned windows;      /* that have closed */
	double counted_ns;     /* work that these stand for */
	bool is_open;	       /* one is */
	uint32_t rate;	       /* sampling rate now */
	const char *lever;     /* what holds the cost, in words; or why no probe can be placed */
};
/* false: not among them. Begins a new interval for attached_share. */
bool windows_figures(struct windows *w, uint32_t account, uint64_t now_ns, struct window_figures *ret);

/* Are probes of it in place just now, and about to go? Of any of them? */
bool windows_in_slice(const struct windows *w, uint32_t account);
bool windows_any_slice(const struct windows *w);

/* Periods are so many times longer from now on: placing probes takes too much of our own CPU time. */
void windows_stretch(struct windows *w, uint32_t times);

/* Cost of observing all of them since the last call, in percent of their CPU time; NAN: not known. */
double windows_overhead_pct(struct windows *w);

#endif
