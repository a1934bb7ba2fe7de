/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The live system as a source of snapshots. */
#ifndef TIDEMARK_COLLECT_LIVE_H
#define TIDEMARK_COLLECT_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "collect/source.h"
#include "target/select.h"

struct live_opts {
	const struct target *target; /* borrowed, must outlive the source */
	double interval_s;
	bool heap, map, python; /* layers */
	bool page;		/* page faults by stack: resident memory is told in any case */
	bool zoom;		/* processes that grow get heap probes by themselves */
	bool exact;		/* every call is counted, whatever it costs */
	uint64_t sample_bytes;	/* R of the finest sampling */
	double budget_pct;	/* of the CPU time that a process uses; 0: no limit */
	bool by_thread;		/* sums of one thread each */
	bool quiet_stdout;	/* a command's standard output goes to standard error */
};

/*
 * Loads, attaches, and starts the command if there is one. The first snapshot follows at once. Errors, with one clause in *ret_why (caller frees):
 * -EPERM not allowed; -ENOTSUP this kernel can't; -ESRCH no such process; -ENOENT no such program; -ENOEXEC nothing that could be probed; others.
 * Nothing stays attached after an error.
 */
int live_open(const struct live_opts *o, struct source **ret, char **ret_why);

/* The user opened this process: heap probes for it from now on. 0; -ESRCH: it is gone; -ENOEXEC: it has nothing that could be probed. */
int live_zoom(struct source *s, const struct proc_key *id);

/* What this kernel lacks and what is done instead, in one sentence; NULL: nothing. Static. */
const char *live_note(const struct source *s);

/* Upper bound of the memory of all kernel maps, bytes. */
uint64_t live_kernel_bytes(const struct source *s);

#endif
