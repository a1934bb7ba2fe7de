/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The columns of tables for people: one row of data per column feeds its heading, its width, what it is dropped for when the
 * screen is narrow, and the sort key it stands for. Used by the screen and by the plain tables.
 */
#ifndef TIDEMARK_VIEW_COLUMNS_H
#define TIDEMARK_VIEW_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>

#include "view/report.h"

/* What a column may look at; what does not belong to the table is NULL. */
struct table_row {
	const struct report_proc *proc;
	const struct report_stack *stack;
	const struct report_group *group;
	const struct sym_frame *frame;
	size_t frame_no;
	const char *trend; /* as text; NULL: not kept here */
};

#define COLUMN_TEXT_CAP 1024

/* What a column can do nothing without. */
enum column_need {
	NEEDS_MEMORY = 1 << 0,	/* of earlier draws */
	NEEDS_THREADS = 1 << 1, /* kept apart */
};

struct column {
	const char *title;
	int min, max;	    /* columns; max 0: takes what is left over */
	bool right;	    /* a number: never cut, '#' where it does not fit */
	int rank;	    /* the highest are left out first; 0: never */
	enum sort_key sort; /* SORT_NR: not sorted by */
	unsigned needs;	    /* enum column_need: left out where it isn't there */
	void (*text)(const struct table_row *row, char buf[COLUMN_TEXT_CAP]);
};

struct column_set {
	const struct column *columns;
	size_t n;
};

#define COLUMNS_MAX 16

extern const struct column_set proc_columns, stack_columns, frame_columns;
extern const struct column_set group_columns[GROUP_NR]; /* GROUP_NONE: those of stacks */

/* Sets widths[i], 0: left out. `sorted` is kept as long as anything is. width 0: all columns at their widest. `has`: enum column_need. */
void columns_fit(const struct column_set *set, int width, enum sort_key sorted, unsigned has, int widths[COLUMNS_MAX]);
/* The heading, without letters that only UTF-8 has. */
const char *column_title(const struct column *c, bool utf8);
/* Some column of the set stands for this sort key. */
bool columns_have(const struct column_set *set, enum sort_key k);

#endif
