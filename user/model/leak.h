/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leak verdicts by the consecutive-check rule: a process whose watched figure has grown by at least `threshold_pct` at each of
 * `consecutive` checks in a row, and by at least `min_bytes` over them, after `warmup_s`, is judged to leak; the stack with most old
 * live bytes is named. State is per process and owned by struct leak_watch.
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

struct leak_rule {
	double threshold_pct; /* growth per check, percent of the figure at the check before */
	uint32_t consecutive;
	uint64_t min_bytes;
	double warmup_s;
};

extern const struct leak_rule leak_rule_default; /* 2 %, 3, 1 MiB, 0 s */

enum verdict { VERDICT_UNKNOWN, VERDICT_LEAK, VERDICT_CACHE, VERDICT_GROWING, VERDICT_STEADY, VERDICT_CHURN };
const char *verdict_name(enum verdict v);

struct leak_verdict {
	enum verdict verdict;
	double probability;	/* NAN: unknown */
	double growth_bytes_per_s;
	double survivors_pct;	/* NAN: unknown */
	double slope_r2;	/* NAN: unknown */
	double seen_s;
};

enum alert_state { ALERT_FIRING, ALERT_RESOLVED };

struct alert {
	const char *kind, *severity; /* "leak", "critical" */
	struct proc_key id;
	const char *comm, *message;  /* arena of the model */
	enum layer layer;
	uint64_t stack_id;	     /* 0: no stack could be named */
	uint64_t live_bytes;
	double growth_bytes_per_s;
	double first_seen_ts;
	enum alert_state state;
	/* evidence */
	uint32_t checks;
	uint64_t bytes_before, bytes_now;
	uint64_t old_live_bytes;     /* UNKNOWN_U64 */
};

struct leak_watch *leak_watch_new(const struct leak_rule *rule);
void leak_watch_free(struct leak_watch *w);

/*
 * One check. Reads the model's processes and stacks; returns the alerts that arose or resolved with it, once per cause, in the model's
 * arena. The figure watched is live heap bytes where the heap is observed, else anonymous resident bytes.
 */
const struct alert *leak_watch_step(struct leak_watch *w, const struct model *m, struct arena *arena, size_t *ret_n);
/* Any leak alert fired so far (also resolved ones): decides exit code 3. */
bool leak_watch_found(const struct leak_watch *w);

#endif
