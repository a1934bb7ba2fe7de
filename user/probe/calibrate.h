/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a hit costs on this machine: measured in a child of our own, once per boot (the figures are kept in /run/tidemark, one file that any later
 * run reads; where that can't be written they are measured again). Takes 25 to 100 ms.
 */
#ifndef TIDEMARK_PROBE_CALIBRATE_H
#define TIDEMARK_PROBE_CALIBRATE_H

#include <stdbool.h>

struct features;
struct loader;

/*
 * Nanoseconds of CPU time per hit, medians. The first five are the kernel's part, with an empty program; what the programs themselves take is in
 * body_*, NAN if not measured. All between COST_MIN_NS and COST_MAX_NS, but for what is said to be 0 or NAN.
 */
struct hit_costs {
	double emulated_ns;    /* a hit on an instruction that the kernel emulates */
	double stepped_ns;     /* ... that it must single-step */
	double nop5_ns;	       /* ... on a nop of five bytes, which newer kernels turn into a call */
	double skip_ns;	       /* a session's entry that wants no return; 0: no sessions here */
	double return_ns;      /* what a return adds to the entry */
	double body_skip_ns;   /* our program: a call that is not sampled */
	double body_count_ns;  /* a pair of entry and return that books on the shortest stack: one frame, repeated */
	double body_free_ns;   /* the free of a block that is tracked */
	double body_stack_ns;  /* what a native stack of CALIBRATE_FRAMES frames that repeats adds */
	double body_python_ns; /* what a Python stack adds; NAN: not measured */
};

#define COST_MIN_NS 1.0
#define COST_MAX_NS 1e6
#define CALIBRATE_FRAMES 16

/*
 * 0; -errno: nothing could be measured, and *ret holds what is usual on virtual machines, which are the dear ones. *ret_fresh: measured now, not
 * read. To be called before anything is attached: the programs run on a process of ours meanwhile, of which no trace is left in the tables.
 */
int calibrate(struct loader *l, struct hit_costs *ret, bool *ret_fresh);

/* The kernel's part only, for which no programs of ours are needed. What the file says of the bodies is given too, else NAN. */
int calibrate_kernel(const struct features *f, struct hit_costs *ret, bool *ret_fresh);

/* Only what was kept: 0; -ENOENT or another -errno: nothing that is of use. */
int calibrate_kept(const struct features *f, struct hit_costs *ret);

/* Are the bodies known? */
bool hit_costs_complete(const struct hit_costs *c);

#endif
