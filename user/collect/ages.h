/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ages of live blocks per sum, from a walk over the whole live table. A walk costs time in proportion to the table, so it is made only as
 * often as keeps its share of a core small; between walks the ages of the last one grow with the clock. Removes the blocks of dead accounts.
 */
#ifndef TIDEMARK_COLLECT_AGES_H
#define TIDEMARK_COLLECT_AGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/livetable.h"

struct ages;

/* sample_bytes: R of sampling rate 1. */
struct ages *ages_new(const struct live_table *t, uint64_t sample_bytes);
void ages_free(struct ages *a);

struct age_walk {
	uint64_t now_ns;	/* CLOCK_MONOTONIC */
	uint64_t old_before_ns; /* blocks born before are "old" */
	bool (*is_dead)(uint32_t account, void *ctx);
	void *ctx;
	bool force; /* dead accounts wait: walk even if it isn't time */
};
/* 1: walked; 0: not yet time; -errno. */
int ages_step(struct ages *a, const struct age_walk *w);

struct age_figures {
	double p50_s, p95_s, max_s;
	uint64_t
		old_bytes; /* of all blocks; the ages are those of the sampled ones, which large blocks are more often */
};
/* false: the last walk saw no block of this sum. */
bool ages_find(const struct ages *a, uint32_t sum, uint64_t now_ns, struct age_figures *ret);
uint64_t ages_entries(const struct ages *a); /* live blocks at the last walk; UINT64_MAX: never walked */

#endif
