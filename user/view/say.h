/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures of a report as short text for people: what is unknown is "-", what is estimated has a '~' in front. Used by the screen and
 * the plain tables; nothing here is meant to be parsed. The result is the buffer.
 */
#ifndef TIDEMARK_VIEW_SAY_H
#define TIDEMARK_VIEW_SAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/fmt.h"
#include "view/report.h"

const char *say_bytes(char buf[FMT_CAP], uint64_t bytes); /* UNKNOWN_U64: "-" */
const char *say_count(char buf[FMT_CAP], uint64_t n);	  /* UNKNOWN_U64: "-" */
const char *say_growth(char buf[FMT_CAP], double bytes);  /* with its sign; NAN: "-" */
const char *say_pct(char buf[FMT_CAP], double pct);	  /* NAN: "-" */
const char *say_seconds(char buf[FMT_CAP], double s);	  /* NAN: "-"; at most 6 columns below 100000 days */
const char *say_interval(char buf[FMT_CAP], double s);	  /* "1s", "0.5s", "2.5s" */
const char *say_live(char buf[FMT_CAP], const struct report_counts *c, bool layer_on);
const char *say_live_count(char buf[FMT_CAP], const struct report_counts *c, bool layer_on);
const char *say_total(char buf[FMT_CAP], const struct report_counts *c, bool layer_on);
const char *say_alloc_rate(char buf[FMT_CAP], const struct report_counts *c, bool layer_on); /* bytes per second */
const char *say_mode(const struct report_proc *p); /* "exact", "sampled", "pages", "exited" */
const char *say_layer(enum layer l);
const char *say_cut(enum stack_cut cut); /* "deeper than 127 frames"; CUT_NONE: no reason is known */
#define THREAD_TEXT_CAP 64
const char *say_thread(char buf[THREAD_TEXT_CAP], uint32_t tid, const char *name); /* "4243 worker"; 0: "-" */

const char *loss_name(enum loss l);
/* A fact about the target (what happened before the attach), not a fault of ours. */
bool loss_is_fact(enum loss l);

/* Blocks that are in no live figure any more, over all processes of the report. */
struct untracked {
	uint64_t count, bytes;
};
struct untracked untracked_sum(const struct report *r, enum layer l);

/* The stack with most live bytes in the deepest layer that is observed and has stacks; NULL: none. */
const struct report_stack *top_stack(const struct report_proc *p);

#endif
