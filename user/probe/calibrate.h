/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a hit costs on this machine: measured in a child of our own, once per boot (the figures are kept in /run/tidemark, one file that any later
 * run reads; where that can't be written they are measured again). At most 150 ms.
 */
#ifndef TIDEMARK_PROBE_CALIBRATE_H
#define TIDEMARK_PROBE_CALIBRATE_H

#include <stdbool.h>

struct loader;

/* Nanoseconds per hit, with an empty program; what the programs themselves take is in body_*. */
struct hit_costs {
	double emulated_ns; /* a hit on an instruction that the kernel emulates */
	double stepped_ns;  /* ... that it must single-step */
	double skip_ns;	    /* a session's entry that wants no return; 0: no sessions here */
	double return_ns;   /* what a return adds to the entry */
	double body_skip_ns;  /* our program: a call that is not sampled */
	double body_count_ns; /* a pair of entry and return that books without a stack */
	double body_stack_ns; /* what a native stack that repeats adds */
	double body_python_ns; /* what a Python stack adds; NAN: not measured (no Python at hand) */
};

/* 0 or -errno; *ret_fresh: measured now, not read. */
int calibrate(const struct loader *l, struct hit_costs *ret, bool *ret_fresh);

#endif
