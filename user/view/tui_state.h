/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the live screen is showing, without a terminal: the page, the cursor, what was typed. Private to tui*.c and its tests.
 *
 *   report       -> tui_take
 *   report, size -> tui_update (moves the cursor to where its row went) -> tui_render -> struct screen
 *   key, query   -> tui_key    (changes state or query, tells what the session has to do)
 */
#ifndef TIDEMARK_VIEW_TUI_STATE_H
#define TIDEMARK_VIEW_TUI_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/query.h"
#include "view/screen.h"
#include "view/tui.h"
#include "view/tui_alerts.h"
#include "view/tui_trend.h"

enum tui_page { PAGE_PROCS, PAGE_STACKS, PAGE_FRAMES, PAGE_NR };

/* ROW_GROUP: stacks put together. The last ones are notes below the frames of a stack. */
enum row_kind { ROW_DATA, ROW_GROUP, ROW_INCOMPLETE, ROW_PYTHON_CUT, ROW_HIDDEN, ROW_NO_PYTHON };

/* One row of the page as it was drawn last: what Enter opens is what the user saw, whatever the next report brings. */
struct tui_row {
	enum row_kind kind;
	size_t index; /* in report.procs, report_proc.stacks, report_proc.groups or report_stack.frames */
	struct proc_key proc;
	uint64_t stack_id; /* ROW_GROUP: the group's id */
	uint32_t tid;
};

struct tui_list {
	size_t sel, top;
	bool has_row; /* the cursor follows `row`; on the first line it stays there instead */
	struct tui_row row;
};

struct tui_state {
	bool utf8;
	enum tui_page page;
	struct tui_list lists[PAGE_NR];
	struct proc_key proc; /* opened */
	uint64_t stack_id;    /* opened */
	uint32_t tid;	      /* whose calls of that stack; 0: of all threads */
	enum layer layer;     /* shown of the opened process */
	bool layer_chosen;    /* by key: else the first that is observed */
	bool layer_on[LAYER_NR];
	bool help, paused, editing, trend_off, outer_first;
	char filter_before[sizeof(((struct query *)0)->filter)];
	char message[256];
	unsigned message_left; /* intervals for which it stays */
	bool has_n;
	uint64_t n; /* report.n of the last update */
	struct tui_row *rows;
	size_t n_rows, rows_cap;
	size_t body_rows; /* lines of the table on the screen */
	struct trends *trends;
	struct standing_alerts alerts;
};

void tui_state_init(struct tui_state *st, bool utf8);
void tui_state_done(struct tui_state *st);

/* Takes in what has to be remembered of a report, drawn or not: trends, alerts. The same interval again changes nothing. */
void tui_take(struct tui_state *st, const struct report *r);
/* Before a draw: the rows of the page, the cursor. */
void tui_update(struct tui_state *st, const struct report *r, int width, int height);
/* Pure. The caller frees with screen_free. The state was updated with the same report and size. */
struct screen *tui_render(const struct tui_state *st, const struct report *r, int width, int height);

/* One key: a character (Unicode) or a KEY_ code of curses. */
enum tui_ask tui_key(struct tui_state *st, struct query *q, wchar_t ch, bool is_function_key,
		     struct proc_key *ret_proc);
void tui_say(struct tui_state *st, const char *text); /* at the bottom for some intervals or until the next key */
/* Lines for the help page: the table of keys. */
size_t tui_help_rows(void);
void tui_help_row(size_t i, const char **ret_keys, const char **ret_text);
/* The short list of keys at the bottom of a page. */
void tui_hints(const struct tui_state *st, char *buf, size_t cap);

/* tui_header.c: draws at most max_lines lines (screen NULL: only counts); returns their number. */
int tui_header(const struct tui_state *st, const struct report *r, struct screen *s, int width, int max_lines);

/* What is opened, in this report; NULL: not in it. */
const struct report_proc *tui_opened_proc(const struct tui_state *st, const struct report *r);
const struct report_stack *tui_opened_stack(const struct tui_state *st, const struct report *r);

#endif
