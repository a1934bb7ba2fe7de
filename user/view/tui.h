/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live screen (ncursesw). A pure function of (report, screen state) draws; a key changes state or the query and never
 * touches data. The terminal is restored by tui_close, which is safe to call at any time, also twice and from an atexit handler.
 */
#ifndef TIDEMARK_VIEW_TUI_H
#define TIDEMARK_VIEW_TUI_H

#include <stdbool.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "model/query.h"

struct report;
struct tui;

/* What a key asked of the session. */
enum tui_ask {
	TUI_NOTHING,
	TUI_QUIT,
	TUI_REDRAW,	    /* rebuild the report: the query changed */
	TUI_OPEN_PROC,	    /* *ret_proc was opened: it wants heap probes */
	TUI_RESET_BASELINE, /* deltas count from now */
	TUI_SNAPSHOT,	    /* write the current report to a file */
};

int tui_open(struct tui **ret); /* -ENOTTY: stdin or stdout is no terminal */
void tui_close(struct tui *t);

void tui_draw(struct tui *t, const struct report *r); /* keeps no pointer to r after it returns */
/* Descriptor to poll for keys (stdin). */
int tui_fd(const struct tui *t);
/* Handles all keys that are waiting; changes *q. */
enum tui_ask tui_keys(struct tui *t, struct query *q, struct proc_key *ret_proc);
/* One line at the bottom until the next draw: "written to tidemark-....json". */
void tui_message(struct tui *t, const char *text);
bool tui_paused(const struct tui *t);

#endif
