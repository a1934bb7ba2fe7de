/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where snapshots come from: the live system or a recording. One row of functions each.
 */
#ifndef TIDEMARK_COLLECT_SOURCE_H
#define TIDEMARK_COLLECT_SOURCE_H

#include <stddef.h>

struct snapshot;

enum source_event {
	SOURCE_END,	 /* nothing left to observe */
	SOURCE_SNAPSHOT, /* *ret is set, the caller frees it */
	SOURCE_WOKEN,	 /* a descriptor that the caller wants to hear of is ready, or a signal was handled */
};

struct source {
	/* Waits for the next snapshot, or for one of the descriptors `wake`. enum source_event or -errno. */
	int (*next)(struct source *s, const int *wake, size_t n_wake, struct snapshot **ret);
	void (*hurry)(struct source *s); /* the next snapshot is due now: the last look before the end */
	void (*close)(struct source *s); /* releases everything, also half-built */
};

#endif
