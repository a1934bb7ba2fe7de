/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live screen (ncursesw). A pure function of (report, screen state) draws; a key changes state or the query and never
 * touches data. The terminal is restored by tui_close, which is safe to call at any time, also twice and from an atexit handler;
 * while a screen is open, crashes (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) and exit() restore it too. There is one screen per process.
 */
#ifndef TIDEMARK_VIEW_TUI_H
#define TIDEMARK_VIEW_TUI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "model/query.h"

struct alert;
struct report;
struct tui;

/* What a key asked of the session. */
enum tui_ask {
	TUI_NOTHING,
	TUI_QUIT,
	TUI_REDRAW,	    /* build the report again and draw it: the query or the cursor changed */
	TUI_OPEN_PROC,	    /* *ret_proc was opened: it wants heap probes */
	TUI_RESET_BASELINE, /* deltas count from now */
	TUI_SNAPSHOT,	    /* write the current report to a file */
};

/* -ENOTTY: stdin or stdout is no terminal; -ENOTSUP: TERM names no usable one; -EBUSY: already open. main() has set the locale. */
int tui_open(struct tui **ret);
void tui_close(struct tui *t);

void tui_draw(struct tui *t, const struct report *r); /* keeps no pointer to r after it returns */
/* Descriptor to poll for keys (stdin). */
int tui_fd(const struct tui *t);
/*
 * Handles keys that are waiting, up to the first that asks more than a redraw; changes *q. Call it until TUI_NOTHING: curses may hold keys
 * that poll() no longer tells of. Also to be called after SIGWINCH. TUI_QUIT also when the terminal is gone.
 */
enum tui_ask tui_keys(struct tui *t, struct query *q, struct proc_key *ret_proc);
/* One line at the bottom of the next draws, until a key or for some intervals: "written to tidemark-....json". */
void tui_message(struct tui *t, const char *text);
/* The session keeps drawing the report that it had when this became true. */
bool tui_paused(const struct tui *t);
/* Alerts of an interval that is not drawn (paused): they are told once and would be lost. */
void tui_take_alerts(struct tui *t, const struct alert *alerts, size_t n);

/* Puts the terminal back as it was; nothing if no screen is open. Async-signal-safe: for handlers of fatal signals. */
void tui_restore_on_crash(void);

#endif
