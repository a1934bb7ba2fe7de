/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leak verdicts by the consecutive-check rule: a process whose watched figure has grown by at least
 * `threshold_pct` at each of `consecutive` checks in a row, and by at least `min_bytes` over them, after
 * `warmup_s`, is judged to leak; among the stacks that carry the growth the one with most old live bytes is named.
 * State is per process and owned by struct leak_watch.
 *
 * What the rule means depends on the time between checks, which is the caller's interval. Growth that stays below
 * the threshold per check is not found however long it lasts: at one check per second and 2 %, a process of 1 GiB
 * has to grow by more than 20 MiB/s. Slow leaks in large processes want a lower threshold or a longer interval. A
 * program that fills its tables for longer than `consecutive` checks looks the same as one that leaks: `warmup_s`
 * is for that.
 */
#ifndef TIDEMARK_MODEL_LEAK_H
#define TIDEMARK_MODEL_LEAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"

struct arena;
struct leak_watch;
struct model;
struct slope;

struct leak_rule {
	double threshold_pct; /* growth per check, percent of the figure at the check before; from 0 bytes: no growth */
	uint32_t consecutive; /* 0 counts as 1 */
	uint64_t min_bytes;
	double warmup_s; /* since the watch first saw the process */
};

extern const struct leak_rule leak_rule_default; /* 2 %, 3, 1 MiB, 0 s */

enum verdict { VERDICT_UNKNOWN, VERDICT_LEAK, VERDICT_CACHE, VERDICT_GROWING, VERDICT_STEADY, VERDICT_CHURN };
const char *verdict_name(enum verdict v);

struct leak_verdict {
	enum verdict verdict;
	double probability; /* NAN: unknown */
	double growth_bytes_per_s;
	double survivors_pct; /* NAN: unknown */
	double slope_r2;      /* NAN: unknown */
	double seen_s;
};

/*
 * Of one stack, from the slope of its live bytes: GROWING or STEADY where a line through at least 10 s says so,
 * else UNKNOWN. Nothing is said here about leaks, caches or survivors (NAN).
 */
struct leak_verdict leak_judge(const struct slope *live, double seen_s);

enum alert_state { ALERT_FIRING, ALERT_RESOLVED };

struct alert {
	const char *kind, *severity; /* "leak", "critical" */
	struct proc_key id;
	const char *comm, *message; /* arena of the model */
	enum layer layer;
	uint64_t stack_id;	   /* 0: no stack could be named */
	uint32_t tid;		   /* whose calls of that stack these are; 0: of all threads */
	uint64_t live_bytes;	   /* of that stack; without one: bytes_now */
	double growth_bytes_per_s; /* of the watched figure, over the run of growth */
	double first_seen_ts;	   /* when it fired */
	enum alert_state state;
	/* evidence */
	uint32_t checks;		  /* in a row: grown, or (resolved) not grown */
	uint64_t bytes_before, bytes_now; /* the watched figure before the run of growth and now */
	uint64_t old_live_bytes;	  /* of that stack; UNKNOWN_U64 */
};

struct leak_watch *leak_watch_new(const struct leak_rule *rule);
void leak_watch_free(struct leak_watch *w);

/*
 * One check. Reads the model's processes and stacks; returns the alerts that arose or resolved with it, once per
 * cause, in the model's arena. The figure watched is live heap bytes where the heap is observed and its blocks are
 * seen, else anonymous resident bytes. An alert is resolved when the figure has made no new high at `consecutive`
 * checks in a row; a process that exits takes its alert with it.
 */
const struct alert *leak_watch_step(struct leak_watch *w, const struct model *m, struct arena *arena, size_t *ret_n);
/* Any leak alert fired so far (also resolved ones): decides exit code 3. */
bool leak_watch_found(const struct leak_watch *w);

#endif
