/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the table of sums, and gives places back. Only the parts that hold anything are touched, each mapped while it is read: all of it
 * would count as our own resident memory.
 */
#ifndef TIDEMARK_PROBE_SUMS_H
#define TIDEMARK_PROBE_SUMS_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"

/* fd: of the table (SUMS_MAX places); marks: SUM_MARKS words, one bit for each place, shared with the kernel side. */
struct sums_table {
	int fd;		 /* borrowed */
	uint64_t *marks; /* borrowed */
};

/* `sum` is a copy. false: nobody needs the sum any more, and its place is given back. */
typedef bool (*sum_fn)(void *ctx, uint32_t index, const struct sum *sum);

/* Calls `take` for all sums. 0 or -errno: a part could not be mapped. */
int sums_each(const struct sums_table *t, sum_fn take, void *ctx);

#endif
