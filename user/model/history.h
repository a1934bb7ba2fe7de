/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the model remembers of the snapshots before: private to model.c and history.c. Entries live from the first
 * snapshot that has them to the first that has them no more, so memory follows what is observed.
 */
#ifndef TIDEMARK_MODEL_HISTORY_H
#define TIDEMARK_MODEL_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "collect/snapshot.h"
#include "model/series.h"

/* A cumulative figure of the snapshot before. */
struct past_rate {
	uint64_t alloc_bytes, alloc_count;
};

struct past_proc {
	struct proc_key id;
	struct past_rate layers[LAYER_NR];
	struct series rss;
	uint64_t heap_now, heap_base; /* live bytes, newest and at the baseline; 0: not observed then */
	uint64_t rss_now, rss_base;   /* UNKNOWN_U64 */
	uint64_t generation;	      /* of the last snapshot that had it */
	size_t index;		      /* in that snapshot's procs */
	UT_hash_handle hh;
};

/* A stack of one process (or of one of its threads), as the history knows it. */
struct stack_key {
	struct proc_key proc;
	uint64_t stack_id;
	uint32_t tid; /* 0: all threads together */
	uint32_t pad; /* 0: the key is hashed as bytes */
};
_Static_assert(sizeof(struct stack_key) == 32, "no padding");

struct past_stack {
	struct stack_key key;
	struct past_rate rate;
	struct series live;
	uint64_t live_now, live_base;
	double first_s; /* time of the first snapshot that had it */
	uint64_t generation;
	UT_hash_handle hh;
};

struct history {
	double window_s;
	struct past_proc *procs;
	struct past_stack *stacks;
	uint64_t generation; /* snapshots seen */
	double now_s;	     /* CLOCK_MONOTONIC of the newest */
	double interval_s;   /* from the snapshot before to the newest; NAN: there is none */
};

/* Opens the snapshot: what is asked for after this belongs to it. */
void history_begin(struct history *h, const struct snapshot *s);
/* Finds or makes the entry and marks it as seen; *ret_is_new tells which. */
struct past_proc *history_proc(struct history *h, const struct proc_key *id, bool *ret_is_new);
struct past_stack *history_stack(struct history *h, const struct stack_key *key, bool *ret_is_new);
/* NULL: not in this snapshot. */
const struct past_proc *history_find(const struct history *h, const struct proc_key *id);
/* Forgets what the snapshot did not have. */
void history_end(struct history *h);

#endif
