/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The last resort for the terminal: how it was before the screen opened, and what to send to get there without curses. Armed while
 * a screen is open. tui_restore_on_crash (tui.h) uses it.
 */
#ifndef TIDEMARK_VIEW_TUI_GUARD_H
#define TIDEMARK_VIEW_TUI_GUARD_H

/* Before curses changes anything: saves the modes of the terminal. 0 or -errno. */
int tui_guard_save(int fd);
/* After curses has read the terminal's description: sequences, handlers of fatal signals, exit(). */
void tui_guard_arm(void);
void tui_guard_disarm(void); /* puts the old handlers back */

#endif
