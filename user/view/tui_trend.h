/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The short memory of the screen: the last few values of a process's resident bytes and of a stack's live bytes, as sparklines.
 * Bounded: what no report shows any more is forgotten, and beyond TRENDS_MAX nothing new is kept.
 */
#ifndef TIDEMARK_VIEW_TUI_TREND_H
#define TIDEMARK_VIEW_TUI_TREND_H

#include <stdbool.h>
#include <stdint.h>

#include "collect/snapshot.h"

struct report;
struct report_stack;
struct trends;

#define TREND_LEN 8
#define TREND_TEXT_CAP (TREND_LEN * 4 + 1)
#define TRENDS_MAX 16384

struct trends *trends_new(void);
void trends_free(struct trends *t);
/* Takes the values of a report, once per interval (report.n); the same interval again adds nothing. */
void trends_add(struct trends *t, const struct report *r);
/* stack NULL: the process's resident bytes. Oldest first; "" before the second value. */
const char *trend_text(const struct trends *t, const struct proc_key *proc, const struct report_stack *stack, bool utf8,
		       char buf[TREND_TEXT_CAP]);

#endif
