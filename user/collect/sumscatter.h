/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far what windows counted of a stack scatters around what the work in them suggests. alloc_var (include/sampling.h) supposes that blocks come one by one;
 * where they come in bursts, windows differ by more, and standard errors are to be raised by as much: for the process as a whole in
 * collect/extrapolate.h, here for a stack that is less sure than that. Each window is held against the one before it, not against the mean of all, so
 * that a stack whose calls grow is not taken for one that is hard to sample (von Neumann, Ann. Math. Stat. 12, 1941).
 */
#ifndef TIDEMARK_COLLECT_SUMSCATTER_H
#define TIDEMARK_COLLECT_SUMSCATTER_H

#include <stdbool.h>
#include <stdint.h>

struct sum_scatters;

struct sum_scatters *sum_scatters_new(void);
void sum_scatters_free(struct sum_scatters *s);
void sum_scatters_forget(struct sum_scatters *s, uint32_t account); /* it is gone */

/* All of it since the sum was made, and since the process was first probed. */
struct sum_counted {
	uint32_t sum, account;
	double bytes, var; /* allocated; its variance, as if blocks came one by one */
	unsigned windows;  /* that have closed */
	double counted_ns; /* work that these stand for */
	bool is_open;	   /* a window is: what it has counted so far is of none yet */
};
/* Takes in what came since the last call. Standard errors are to be multiplied by the result: >= 1; NAN: of so few windows nothing can be said. */
double sum_scatters_spread(struct sum_scatters *s, const struct sum_counted *now);

#endif
