/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The terminal: opens and closes it, paints a struct screen, reads keys. What is shown is decided in tui_pages.c and tui_header.c,
 * what a key does in tui_keys.c.
 */
#include "view/tui.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/mem.h"
#include "view/glyph.h"
#include "view/tui_guard.h"
#include "view/tui_state.h"

struct tui {
	bool is_open, has_colours;
	SCREEN *terminal;
	struct tui_state state;
};

/* At file scope, against the rule: curses has one screen per process, and tui_close() has to be safe after tui_close(). */
static struct tui the_tui;

/* Pair numbers are the role's; 0 is the terminal's default. */
static const struct look {
	attr_t colour_attrs, plain_attrs; /* with and without colours */
	short foreground, background;	  /* -1: the terminal's */
} looks[ROLE_NR] = {
	[ROLE_NORMAL] = { A_NORMAL, A_NORMAL, -1, -1 },
	[ROLE_TITLE] = { A_REVERSE, A_REVERSE, -1, -1 },
	[ROLE_SORTED] = { A_BOLD, A_REVERSE | A_UNDERLINE, COLOR_BLACK, COLOR_CYAN },
	[ROLE_SELECTED] = { A_NORMAL, A_STANDOUT, COLOR_BLACK, COLOR_GREEN },
	[ROLE_STRONG] = { A_BOLD, A_BOLD, -1, -1 },
	[ROLE_DIM] = { A_DIM, A_DIM, -1, -1 },
	[ROLE_WARN] = { A_NORMAL, A_BOLD, COLOR_YELLOW, -1 },
	[ROLE_ALERT] = { A_BOLD, A_BOLD | A_UNDERLINE, COLOR_RED, -1 },
};

/* curses returns ERR where a terminal lacks something (a cursor that can't be hidden, say): the screen works without. */
static void setup_terminal(struct tui *t)
{
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)scrollok(stdscr, FALSE);
	(void)set_escdelay(25); /* ms: a lone Esc is a key here */
	(void)curs_set(0);
	t->has_colours = has_colors() && start_color() == OK && use_default_colors() == OK;
	for (int i = 1; t->has_colours && i < ROLE_NR; i++)
		(void)init_pair((short)i, looks[i].foreground, looks[i].background);
}

int tui_open(struct tui **ret)
{
	struct tui *t = &the_tui;

	if (t->is_open)
		return -EBUSY;
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return -ENOTTY;
	int err = tui_guard_save(STDIN_FILENO);
	if (err)
		return err;
	t->terminal = newterm(NULL, stdout, stdin);
	if (!t->terminal)
		return -ENOTSUP;
	tui_guard_arm();
	setup_terminal(t);
	tui_state_init(&t->state, locale_is_utf8());
	t->is_open = true;
	*ret = t;
	return 0;
}

void tui_close(struct tui *t)
{
	if (!t || !t->is_open)
		return;
	t->is_open = false;
	(void)endwin(); /* a terminal that is gone can't be restored */
	delscreen(t->terminal);
	t->terminal = NULL;
	tui_guard_disarm();
	tui_state_done(&t->state);
}

/* Not left to SIGWINCH alone: the session may have blocked it, and a size that changed while stopped comes without. */
static bool follow_size(void)
{
	struct winsize ws;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) || !ws.ws_row || !ws.ws_col)
		return false;
	int height = ws.ws_row < SCREEN_HEIGHT_MAX ? ws.ws_row : SCREEN_HEIGHT_MAX;
	int width = ws.ws_col < SCREEN_WIDTH_MAX ? ws.ws_col : SCREEN_WIDTH_MAX;
	return is_term_resized(height, width) && resizeterm(height, width) == OK;
}

static void paint(const struct tui *t, const struct screen *s)
{
	const struct cell *c = s->cells;

	(void)erase();
	for (int y = 0; y < s->height; y++) {
		for (int x = 0; x < s->width; x++, c++) {
			wchar_t text[] = { c->ch, c->mark, 0 };
			const struct look *look = &looks[c->role];
			cchar_t cell;

			if (!c->ch || (c->ch == L' ' && c->role == ROLE_NORMAL))
				continue;
			if (setcchar(&cell, text, t->has_colours ? look->colour_attrs : look->plain_attrs,
				     t->has_colours ? (short)c->role : 0, NULL) == OK)
				(void)mvadd_wch(
					y, x,
					&cell); /* ERR in the last cell: the cursor can't go on, the cell is set */
		}
	}
	(void)refresh();
}

/* A terminal that is stopped (Ctrl-S) or slow takes nothing: a draw is left out, not waited for. */
static bool is_writable(void)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

void tui_draw(struct tui *t, const struct report *r)
{
	if (!t->is_open)
		return;
	tui_take(&t->state, r);
	if (!is_writable())
		return;
	(void)follow_size(); /* this is a redraw */
	int width = getmaxx(stdscr), height = getmaxy(stdscr);
	width = width < SCREEN_WIDTH_MAX ? width : SCREEN_WIDTH_MAX;
	height = height < SCREEN_HEIGHT_MAX ? height : SCREEN_HEIGHT_MAX;
	tui_update(&t->state, r, width, height);
	struct screen *s = tui_render(&t->state, r, width, height);
	paint(t, s);
	screen_free(s);
}

int tui_fd(const struct tui *t)
{
	(void)t; /* one terminal: see tui_open */
	return STDIN_FILENO;
}

static bool is_hung_up(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

enum tui_ask tui_keys(struct tui *t, struct query *q, struct proc_key *ret_proc)
{
	enum tui_ask ask = TUI_NOTHING;
	wint_t ch;
	int got;

	if (!t->is_open)
		return TUI_QUIT;
	if (follow_size())
		ask = TUI_REDRAW;
	while ((got = get_wch(&ch)) != ERR) {
		enum tui_page page = t->state.page;
		enum tui_ask one = tui_key(&t->state, q, (wchar_t)ch, got == KEY_CODE_YES, ret_proc);

		ask = one != TUI_NOTHING ? one : ask;
		/* What was typed ahead acts on rows that the next draw brings. */
		if (one > TUI_REDRAW || one == TUI_QUIT || t->state.page != page)
			return ask;
	}
	return ask == TUI_NOTHING && is_hung_up() ? TUI_QUIT : ask;
}

void tui_message(struct tui *t, const char *text)
{
	tui_say(&t->state, text);
}

void tui_take_alerts(struct tui *t, const struct alert *alerts, size_t n)
{
	standing_alerts_add(&t->state.alerts, alerts, n);
}

bool tui_paused(const struct tui *t)
{
	return t->state.paused;
}
