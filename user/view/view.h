/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Views: one row of functions each, in one table. A view prints reports to a stream that the session owns.
 * Every function returns 0 or a negative errno (-EPIPE: the reader is gone, an ordinary end; -ENOSPC: disk full).
 */
#ifndef TIDEMARK_VIEW_VIEW_H
#define TIDEMARK_VIEW_VIEW_H

#include <stdio.h>

#include "view/report.h"

enum end_reason { END_DURATION, END_INTERRUPTED, END_TARGETS_GONE, END_ERROR };
const char *end_reason_name(enum end_reason r);

struct view {
	const char *format; /* "json", "text": value of -f */
	int (*begin)(FILE *out, const struct report_meta *meta);
	int (*show)(FILE *out, const struct report *r); /* one interval; flushed */
	int (*end)(FILE *out, const struct report_meta *meta, enum end_reason reason, int exit_code);
};

extern const struct view view_json, view_text;
extern const struct view view_leaks; /* what `tidemark leaks` prints for people; not a value of -f */
extern const struct view *const views[];
extern const size_t views_n;
const struct view *view_find(const char *format); /* NULL */

#endif
