/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What windows of a process stand for: scales that make up for the time without probes, and how far off the sums then are. Pure arithmetic,
 * one value per process, owned by the caller.
 *
 * A program allocates as it works, so work is what sums are held against: its CPU time, less what observing it costs. Each window's scale
 * is such that with it, all windows so far stand for all work so far and for what is expected until the period's end. What a window was short of or
 * beyond (it fell between two bursts, it was cut, the program is slower while it is watched) is therefore made up for by the next
 * one, and does not add up over the windows: sums are off by what one period leaves open, however many there were. The scale is settled
 * before the window opens, from what was before it, so it does not favour what happens in it.
 *
 * How far allocations scatter around what work suggests is measured, too: alloc_var (include/sampling.h) supposes that blocks come one by one;
 * where they come in bursts, windows differ by more, and standard errors are raised by as much.
 */
#ifndef TIDEMARK_COLLECT_EXTRAPOLATE_H
#define TIDEMARK_COLLECT_EXTRAPOLATE_H

#include <stdbool.h>

/* All zero: nothing has been seen. Times in ns. */
struct extrapolation {
	double work_ns;	   /* of all periods that have ended */
	double counted_ns; /* work that the windows so far stand for */
	unsigned windows;
	/* Sums over windows that fade: of bytes booked and work stood for, their squares and product, and what alloc_var says. */
	double bytes, counted, bytes2, counted2, both, supposed;
};

/* A window that is about to open. */
struct window_ahead {
	double plain;	  /* its scale by the clock alone: the time that it stands for, over its own length */
	double work_ns;	  /* in this period so far */
	double rest_ns;	  /* work expected from now to the period's end */
	double within_ns; /* work expected in the window; NAN: not known, the clock decides */
};
double extrapolate_scale(const struct extrapolation *x, const struct window_ahead *a);

/* A window that has closed. */
struct window_seen {
	double scale, work_ns; /* in it */
	double bytes, var;     /* booked in it, scale included */
};
void extrapolate_window(struct extrapolation *x, const struct window_seen *w);
/* A period is over. */
void extrapolate_period(struct extrapolation *x, double work_ns);

/*
 * By how much sums are off as a whole, as a part of them: what is not stood for yet, or stood for in advance. open_ns: work that the
 * window which is open now stands for so far; work_ns: of the period so far.
 */
double extrapolate_edge(const struct extrapolation *x, double work_ns, double open_ns);
/* Standard errors are to be multiplied by it: >= 1; NAN: of so few windows nothing can be said. */
double extrapolate_spread(const struct extrapolation *x);

#endif
