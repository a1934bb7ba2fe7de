/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What became of the blocks that were sampled while the probes were in place, when most of the time they are not: the allocator's own bookkeeping is
 * read from outside (collect/occupied.h). "Some block lies at the address" is not "the same block": of freed addresses 45-97 % are taken again.
 * So blocks whose free was seen (known dead) are looked up too, in the same look: the share of them whose address is in use is the reuse rate r of
 * their size class, and survival is (occupied - r) / (1 - r), with its error.
 */
#ifndef TIDEMARK_COLLECT_SURVIVAL_H
#define TIDEMARK_COLLECT_SURVIVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/livetable.h"

struct survival;
struct loader;

struct survival *survival_new(const struct loader *l); /* borrowed, must outlive */

struct occupied_query;
/* The same without a kernel or a process, for tests: live's are files that hold the tables, ask answers instead of the allocator's walkers. */
struct survival_tables {
	struct live_table live;
	struct proc *procs;
	int (*ask)(void *ctx, struct occupied_query *queries, size_t n);
	void *ctx;
	uint64_t seed; /* of the moments of looks; 0: by the clock */
};
struct survival *survival_new_of(const struct survival_tables *t);
void survival_free(struct survival *s);
/* Looks that cost little are so many times further apart from now on: our own CPU time is too much. Others keep to their share of it anyway. */
void survival_stretch(struct survival *s, uint32_t times);

struct survival_target {
	uint32_t account, pid;
	uint64_t sample_bytes; /* R of rate 1 */
};
/* Looks at one process; costs CPU time in proportion to its heap: not more often than keeps its share small (it decides). 1: looked; 0: not
 * yet time; -ENOTSUP: its allocator is not known; other -errno: its memory can't be read. */
int survival_look(struct survival *s, const struct survival_target *t, uint64_t now_ns);
/* What the last look was like; false: none yet. */
struct survival_status {
	uint64_t looked_ns, cpu_ns; /* when; what it cost */
	uint64_t blocks, unknown;   /* looked up; of those without an answer */
	uint64_t found_dead;	    /* taken out of `live` */
	uint64_t controls, hidden;  /* new controls; controls whose address is in use, that are followed */
	uint64_t resyncs, skipped_bytes;
	bool unanswered
		[LAYER_NR]; /* most blocks of the layer are unknown: another allocator than those that can be asked */
};
bool survival_status(const struct survival *s, uint32_t account, struct survival_status *ret);
/* A look would be due, and would take long (by the one before): not while somebody's slice is open. */
bool survival_is_long(const struct survival *s, uint32_t account, uint64_t now_ns);
/* The account is gone. */
void survival_forget(struct survival *s, uint32_t account);

struct survival_figures {
	double live_bytes, live_bytes_se, live_count; /* weights and scales in them */
	uint64_t looked;			      /* blocks that were looked at */
};
/*
 * Of one sum, now that so much was allocated in all (less what is not tracked): what was since the last look is taken to live by as much as before
 * (collect/between.h). false: the last look has met no block of it.
 */
bool survival_find(const struct survival *s, uint32_t sum, double allocated_bytes, double allocated_count,
		   struct survival_figures *ret);

#endif
