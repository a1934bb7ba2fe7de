/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where snapshots come from: the live system or a recording. One row of functions each.
 */
#ifndef TIDEMARK_COLLECT_SOURCE_H
#define TIDEMARK_COLLECT_SOURCE_H

struct snapshot;

struct source {
	/* Waits for the next snapshot. 1: *ret is set, the caller frees it; 0: the end (nothing left to observe); negative errno. */
	int (*next)(struct source *s, struct snapshot **ret);
	void (*close)(struct source *s); /* releases everything, also half-built; NULL pointer never passed */
};

#endif
