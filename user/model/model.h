/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model: snapshots aggregated by process, layer and stack; growth and rates against the snapshots before. Ids,
 * no names. Immutable once built, one arena. struct history is the memory between two models.
 */
#ifndef TIDEMARK_MODEL_MODEL_H
#define TIDEMARK_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "model/leak.h"

struct arena;
struct history;

struct model_stack {
	const struct snap_stack *snap;		/* in the snapshot, which must outlive the model */
	double alloc_bytes_per_s, allocs_per_s; /* over the last interval */
	double growth_bytes_per_s;		/* of live bytes, over the window */
	int64_t delta_bytes;			/* live bytes against the baseline */
	struct leak_verdict leak;		/* verdict UNKNOWN: print null */
};

struct model_layer {
	bool on;
	struct counts counts;
	double alloc_bytes_per_s, allocs_per_s;
};

struct model_proc {
	const struct snap_proc *snap;
	struct model_layer layers[LAYER_NR];
	double growth_bytes_per_s;	  /* resident bytes over the window; NAN: unknown yet */
	double limit_eta_s;		  /* NAN: no limit or not growing */
	int64_t delta_bytes;		  /* live heap (else resident) against the baseline */
	const struct model_stack *stacks; /* unsorted */
	size_t n_stacks;
};

struct model {
	struct arena *arena;
	const struct snapshot *snap; /* borrowed, must outlive the model */
	const struct model_proc *procs;
	size_t n_procs;
	const struct alert *alerts;
	size_t n_alerts;
};

struct history *history_new(double window_s);
void history_free(struct history *h);
void history_set_baseline(struct history *h); /* deltas count from the newest snapshot seen */

/* Takes the snapshot into the history and builds its model. `watch` may be NULL. The caller frees with model_free. */
int model_build(const struct snapshot *s, struct history *h, struct leak_watch *watch, struct model **ret);
void model_free(struct model *m);

#endif
