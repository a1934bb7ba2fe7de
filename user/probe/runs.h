/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the places in the kernel side's table of ranges: lists of ranges, each in one piece, equal ones once. Knows
 * no processes and no files.
 */
#ifndef TIDEMARK_PROBE_RUNS_H
#define TIDEMARK_PROBE_RUNS_H

#include <stddef.h>
#include <stdint.h>

#include "../../include/unwind.h"

struct runs;

struct runs *runs_new(struct unwind_range *table, size_t cap); /* table: borrowed, must outlive */
void runs_free(struct runs *r);

/* Contracts: unwind_put_ranges and its neighbours in probe/unwind.h. */
uint64_t runs_put(struct runs *r, const struct unwind_range *ranges, size_t n);
void runs_hold(struct runs *r, uint64_t layout);
void runs_drop(struct runs *r, uint64_t layout);
void runs_settle(struct runs *r);

/* Places that can't be given out now, those of dropped lists that wait included. */
size_t runs_used(const struct runs *r);

#endif
