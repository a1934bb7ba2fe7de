/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Synthetic snapshots: a small world of processes and stacks that a test changes between one snapshot and the next. No system
 * calls, no clock. Pointers to its processes and stacks stay valid until synth_free.
 */
#ifndef TIDEMARK_TESTS_SNAPSHOT_FIXTURE_H
#define TIDEMARK_TESTS_SNAPSHOT_FIXTURE_H

#include "collect/snapshot.h"

enum { SYNTH_PROCS = 64, SYNTH_STACKS = 8192 };

struct synth {
	struct snap_proc procs[SYNTH_PROCS];
	size_t n_procs;
	struct snap_stack stacks[SYNTH_STACKS];
	size_t n_stacks;
	uint64_t n; /* snapshots taken */
};

struct synth *synth_new(void);
void synth_free(struct synth *w);

/* Running, "worker", heap and page layers observed, 10 MiB resident, all of it anonymous, no limit. */
struct snap_proc *synth_proc(struct synth *w, uint32_t pid);
/* Of a process made before; nothing allocated yet. */
struct snap_stack *synth_stack(struct synth *w, uint32_t pid, enum layer layer, uint64_t stack_id);

/* Totals move as a real account's do: live = alloc - free. */
void synth_alloc(struct snap_stack *s, uint64_t bytes);
void synth_release(struct snap_stack *s, uint64_t bytes);

/* The world at this second after its start. */
struct snapshot *synth_snapshot(struct synth *w, double at_s);
void synth_snapshot_free(struct snapshot *s);

#endif
