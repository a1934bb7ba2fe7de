/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the user wants to see: plain data, changed by a key or an argument. The only thing that flows back from the view. */
#ifndef TIDEMARK_MODEL_QUERY_H
#define TIDEMARK_MODEL_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

/* X(id, name, text): sort keys of processes and stacks, in the order in which the key 's' cycles. */
#define for_each_sort(X) \
	X(GROWTH, "growth", "growth per second") \
	X(RSS, "rss", "resident bytes") \
	X(LIVE, "live_bytes", "live bytes") \
	X(COUNT, "live_count", "live blocks") \
	X(RATE, "alloc_bytes_per_s", "allocated bytes per second") \
	X(ALLOC, "alloc_bytes_total", "allocated bytes in total") \
	X(AGE, "age_p50_s", "median age of live blocks")

enum sort_key {
#define X(id, name, text) SORT_##id,
	for_each_sort(X)
#undef X
		SORT_NR
};

/* X(id, name): by what stacks are put together into groups, in the order in which a key cycles. NONE: stacks are shown. */
#define for_each_group(X) \
	X(NONE, "none") \
	X(FUNCTION, "function") \
	X(MODULE, "module") \
	X(FILE_LINE, "file:line") \
	X(THREAD, "thread")

enum group_by {
#define X(id, name) GROUP_##id,
	for_each_group(X)
#undef X
		GROUP_NR
};

#define QUERY_LIMIT_DEFAULT 50 /* a view for people may show fewer than this default */

struct query {
	enum sort_key proc_sort;
	enum sort_key stack_sort;
	size_t limit; /* stacks per process and layer; 0: all */
	bool only_opened; /* of processes other than `opened` the first stack per layer: more would be named, and not looked at */
	struct proc_key opened;
	bool layer_on[LAYER_NR];
	char filter[128];	       /* substring of comm, cmdline or a frame's name; "" = all */
	bool native_only, python_only; /* view of stacks; both false: merged */
	bool by_thread;		       /* the source keeps the threads of a process apart */
	enum group_by group;
	bool has_baseline; /* deltas count from the snapshot `baseline_n` */
	uint64_t baseline_n;
};

const char *sort_key_name(enum sort_key k);
int sort_key_parse(const char *name, enum sort_key *ret); /* -EINVAL */
const char *group_by_name(enum group_by g);
int group_by_parse(const char *name, enum group_by *ret); /* -EINVAL; "none" is no value to give */

#endif
