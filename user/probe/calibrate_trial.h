/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The trial: small functions of our own, called in batches by a child, and the statistics of what the batches took. Attaches nothing: which links are
 * in place while it runs is the caller's business.
 */
#ifndef TIDEMARK_PROBE_CALIBRATE_TRIAL_H
#define TIDEMARK_PROBE_CALIBRATE_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/calibrate.h"

struct proc;

/* Each is called by nobody else, and has one way of being probed. */
enum trial_func {
	FUNC_BARE, /* not probed */
	FUNC_PUSH, /* emulated; so are all below but TEST and NOP5 */
	FUNC_TEST, /* first instruction is stepped */
	FUNC_NOP5,
	FUNC_SKIP,  /* a session whose entry wants no return */
	FUNC_FULL,  /* entry and return */
	FUNC_ALLOC, /* our programs; void *f(size_t bytes, void *what_it_returns) */
	FUNC_FREE,  /* void f(void *) */
	FUNC_NR
};

uint64_t trial_func_addr(enum trial_func f);

enum batch {
	BATCH_BARE,
	BATCH_EMULATED,
	BATCH_STEPPED,
	BATCH_NOP5,
	BATCH_SKIP,
	BATCH_FULL,
	BATCH_KERNEL_NR,
	BATCH_BODY_SKIP = BATCH_KERNEL_NR,
	BATCH_BODY_COUNT,
	BATCH_BODY_FREE,
	BATCH_BODY_STACK,
	BATCH_NR
};

#define TRIAL_ROUNDS 25

/* One batch of each kind after the other, and again: what is compared ran at nearly the same time. */
struct trial {
	int err;
	uint32_t rounds;
	double ns[BATCH_NR][TRIAL_ROUNDS]; /* CPU time per call; of batches that were not run NAN */
};

/* Runs the batches; of the bodies if `self` is this process's slot, by whose sampling rate they are told apart. */
void trial_run(struct trial *t, struct proc *self);

/* The figures. 0; -ENODATA: no rounds, or no probe was hit. session: see struct hit_costs. Pure. */
int trial_costs(const struct trial *t, bool session, struct hit_costs *ret);

#endif
