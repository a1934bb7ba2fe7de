/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys: one table of codes, name, help and action. A key changes the state of the screen or the query, or asks something of
 * the session; it never touches data. No terminal here.
 */
#include <curses.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"
#include "view/columns.h"
#include "view/glyph.h"
#include "view/tui_state.h"

struct key_call {
	struct tui_state *st;
	struct query *q;
	struct proc_key *ret_proc;
	int arg;
};

struct key {
	wchar_t chars[5]; /* characters */
	int codes[3];	  /* curses codes; 0: end */
	const char *name; /* as the help page shows it */
	const char *hint; /* for the bottom line; NULL: not there */
	const char *help;
	enum tui_ask (*act)(const struct key_call *c);
	int arg;
};

static enum tui_ask act_ask(const struct key_call *c)
{
	return (enum tui_ask)c->arg;
}

/* --- cursor --- */

/* `by` of act_move in units of the page's height. */
enum { MOVE_PAGE = 1000 };

static enum tui_ask act_move(const struct key_call *c)
{
	struct tui_list *l = &c->st->lists[c->st->page];
	size_t step = (size_t)(c->arg < 0 ? -c->arg : c->arg);

	if (step == MOVE_PAGE)
		step = c->st->body_rows > 1 ? c->st->body_rows - 1 : 1;
	l->sel = c->arg > 0 ? l->sel + step : l->sel > step ? l->sel - step : 0;
	if (l->sel >= c->st->n_rows)
		l->sel = c->st->n_rows ? c->st->n_rows - 1 : 0;
	l->has_row = l->sel > 0;
	if (l->has_row)
		l->row = c->st->rows[l->sel];
	return TUI_REDRAW;
}

static enum tui_ask act_home(const struct key_call *c)
{
	c->st->lists[c->st->page] = (struct tui_list){ 0 };
	return TUI_REDRAW;
}

static enum tui_ask act_end(const struct key_call *c)
{
	struct tui_list *l = &c->st->lists[c->st->page];

	l->sel = c->st->n_rows ? c->st->n_rows - 1 : 0;
	l->has_row = l->sel > 0;
	if (l->has_row)
		l->row = c->st->rows[l->sel];
	return TUI_REDRAW;
}

/* --- pages --- */

static void go(struct tui_state *st, enum tui_page page)
{
	/* The rows of the old page say nothing about the new one; the next draw brings them. */
	st->n_rows = 0;
	st->page = page;
}

static enum tui_ask open_proc(const struct key_call *c, const struct tui_row *row)
{
	struct tui_state *st = c->st;

	st->proc = row->proc;
	st->layer_chosen = false;
	st->lists[PAGE_STACKS] = (struct tui_list){ 0 };
	*c->ret_proc = row->proc;
	go(st, PAGE_STACKS);
	return TUI_OPEN_PROC;
}

static enum tui_ask open_stack(const struct key_call *c, const struct tui_row *row)
{
	if (row->kind == ROW_GROUP) {
		tui_say(c->st, "these are many stacks: key u shows them one by one");
		return TUI_REDRAW;
	}
	c->st->stack_id = row->stack_id;
	c->st->tid = row->tid;
	c->st->lists[PAGE_FRAMES] = (struct tui_list){ 0 };
	go(c->st, PAGE_FRAMES);
	return TUI_REDRAW;
}

static enum tui_ask act_open(const struct key_call *c)
{
	static enum tui_ask (*const open[PAGE_NR])(const struct key_call *, const struct tui_row *) = {
		[PAGE_PROCS] = open_proc,
		[PAGE_STACKS] = open_stack,
	};
	const struct tui_list *l = &c->st->lists[c->st->page];

	if (!open[c->st->page] || l->sel >= c->st->n_rows)
		return TUI_NOTHING;
	struct tui_row row = c->st->rows[l->sel];
	return open[c->st->page](c, &row);
}

static enum tui_ask act_back(const struct key_call *c)
{
	if (c->st->page == PAGE_PROCS)
		return TUI_NOTHING;
	go(c->st, (enum tui_page)(c->st->page - 1));
	return TUI_REDRAW;
}

static enum tui_ask act_layer(const struct key_call *c)
{
	struct tui_state *st = c->st;

	if (st->page != PAGE_STACKS)
		return TUI_NOTHING;
	for (int i = 1; i < LAYER_NR; i++) {
		enum layer next = (enum layer)((st->layer + i) % LAYER_NR);

		if (st->layer_on[next]) {
			st->layer = next;
			st->layer_chosen = true;
			st->lists[PAGE_STACKS] = (struct tui_list){ 0 };
			st->n_rows = 0;
			return TUI_REDRAW;
		}
	}
	tui_say(st, "no other layer is observed in this process");
	return TUI_REDRAW;
}

/* --- order --- */

static enum sort_key *sort_of(const struct key_call *c, const struct column_set **ret_columns)
{
	bool procs = c->st->page == PAGE_PROCS;

	*ret_columns = procs ? &proc_columns : &group_columns[c->q->group];
	return procs ? &c->q->proc_sort : &c->q->stack_sort;
}

static enum tui_ask act_sort_cycle(const struct key_call *c)
{
	const struct column_set *columns;
	enum sort_key *sort = sort_of(c, &columns);
	int k = *sort;

	if (c->st->page == PAGE_FRAMES)
		return TUI_NOTHING;
	do
		k = (k + c->arg + SORT_NR) % SORT_NR;
	while (!columns_have(columns, (enum sort_key)k) && k != (int)*sort);
	*sort = (enum sort_key)k;
	return TUI_REDRAW;
}

static enum tui_ask act_sort(const struct key_call *c)
{
	const struct column_set *columns;
	enum sort_key *sort = sort_of(c, &columns);

	if (c->st->page == PAGE_FRAMES)
		return TUI_NOTHING;
	if (columns_have(columns, (enum sort_key)c->arg))
		*sort = (enum sort_key)c->arg;
	else
		tui_say(c->st, "this table has no such column");
	return TUI_REDRAW;
}

/* --- switches --- */

static enum tui_ask act_pause(const struct key_call *c)
{
	c->st->paused = !c->st->paused;
	return TUI_REDRAW;
}

static enum tui_ask act_help(const struct key_call *c)
{
	c->st->help = true;
	return TUI_REDRAW;
}

static enum tui_ask act_trend(const struct key_call *c)
{
	c->st->trend_off = !c->st->trend_off;
	return TUI_REDRAW;
}

static enum tui_ask act_invert(const struct key_call *c)
{
	c->st->outer_first = !c->st->outer_first;
	return act_home(c);
}

/* arg 0: hide native frames; 1: hide Python frames. Both at once would leave nothing. */
static enum tui_ask act_only(const struct key_call *c)
{
	bool *on = c->arg ? &c->q->native_only : &c->q->python_only;
	bool *other = c->arg ? &c->q->python_only : &c->q->native_only;

	*on = !*on;
	*other = false;
	return TUI_REDRAW;
}

/* To the next grouping, and after the last back to stacks. Threads only where they are kept apart. */
static enum tui_ask act_group(const struct key_call *c)
{
	int g = c->q->group;

	if (c->st->page != PAGE_STACKS)
		return TUI_NOTHING;
	do
		g = (g + 1) % GROUP_NR;
	while (g == GROUP_THREAD && !c->q->by_thread);
	c->q->group = (enum group_by)g;
	c->st->lists[PAGE_STACKS] = (struct tui_list){ 0 };
	c->st->n_rows = 0;
	return TUI_REDRAW;
}

/* --- filter --- */

static enum tui_ask act_filter(const struct key_call *c)
{
	memcpy(c->st->filter_before, c->q->filter, sizeof(c->q->filter));
	c->st->editing = true;
	return TUI_REDRAW;
}

static enum tui_ask act_clear(const struct key_call *c)
{
	c->q->filter[0] = 0;
	return TUI_REDRAW;
}

static void filter_rub(char *filter)
{
	size_t n = strlen(filter);

	while (n && ((unsigned char)filter[n - 1] & 0xc0) == 0x80)
		n--;
	filter[n ? n - 1 : 0] = 0;
}

static void filter_add(char *filter, size_t cap, wchar_t ch)
{
	char utf8[4];
	size_t used = strlen(filter), n = ch < ' ' || ch == 0x7f ? 0 : glyph_encode(ch, utf8);

	if (!n || used + n >= cap)
		return;
	memcpy(filter + used, utf8, n);
	filter[used + n] = 0;
}

enum { CTRL_U = 'U' & 31, ESCAPE = 27, DEL = 127 };

static enum tui_ask edit_key(struct tui_state *st, struct query *q, wchar_t ch, bool is_code)
{
	bool is_enter = is_code ? ch == KEY_ENTER : ch == '\n' || ch == '\r';

	if (!is_code && ch == ESCAPE)
		memcpy(q->filter, st->filter_before, sizeof(q->filter));
	if (is_enter || (!is_code && ch == ESCAPE))
		st->editing = false;
	else if (is_code ? ch == KEY_BACKSPACE : ch == DEL || ch == '\b')
		filter_rub(q->filter);
	else if (!is_code && ch == CTRL_U)
		q->filter[0] = 0;
	else if (!is_code)
		filter_add(q->filter, sizeof(q->filter), ch);
	return TUI_REDRAW;
}

/* --- the table --- */

static const struct key keys[] = {
	{ L"\n\r", { KEY_ENTER, KEY_RIGHT }, "Enter", "Enter open", "open the process, then the stack", act_open, 0 },
	{ L"\x1b\b\x7f", { KEY_BACKSPACE, KEY_LEFT }, "Esc", "Esc back", "back (also Backspace, Left)", act_back, 0 },
	{ L"j", { KEY_DOWN }, "j", NULL, "down (also the arrow)", act_move, 1 },
	{ L"k", { KEY_UP }, "k", NULL, "up (also the arrow)", act_move, -1 },
	{ L"", { KEY_NPAGE }, "PgDn", NULL, "one page down", act_move, MOVE_PAGE },
	{ L"", { KEY_PPAGE }, "PgUp", NULL, "one page up", act_move, -MOVE_PAGE },
	{ L"", { KEY_HOME }, "Home", NULL, "first line", act_home, 0 },
	{ L"", { KEY_END }, "End", NULL, "last line", act_end, 0 },
	{ L"\t", { 0 }, "Tab", NULL, "next layer (heap, map, page)", act_layer, 0 },
	{ L"s", { 0 }, "s", "s sort", "sort by the next column", act_sort_cycle, 1 },
	{ L"S", { 0 }, "S", NULL, "sort by the column before", act_sort_cycle, -1 },
	{ L"g", { 0 }, "g", "g growth", "sort by growth per second", act_sort, SORT_GROWTH },
	{ L"b", { 0 }, "b", NULL, "sort by live bytes", act_sort, SORT_LIVE },
	{ L"a", { 0 }, "a", NULL, "sort by bytes allocated per s", act_sort, SORT_RATE },
	{ L"t", { 0 }, "t", NULL, "sort by bytes allocated in all", act_sort, SORT_ALLOC },
	{ L"o", { 0 }, "o", NULL, "sort stacks by age", act_sort, SORT_AGE },
	{ L"/", { 0 }, "/", "/ filter", "filter: name, command, function", act_filter, 0 },
	{ L"c", { 0 }, "c", NULL, "clear the filter", act_clear, 0 },
	{ L"i", { 0 }, "i", NULL, "Python frames only", act_only, 0 },
	{ L"n", { 0 }, "n", NULL, "native frames only", act_only, 1 },
	{ L"u", { 0 }, "u", NULL, "stacks by function, module...", act_group, 0 },
	{ L"v", { 0 }, "v", NULL, "turn the stack upside down", act_invert, 0 },
	{ L"x", { 0 }, "x", NULL, "trend column on or off", act_trend, 0 },
	{ L"r", { 0 }, "r", "r baseline", "changes count from now", act_ask, TUI_RESET_BASELINE },
	{ L"p ", { 0 }, "p", "p pause", "pause the screen (also Space)", act_pause, 0 },
	{ L"w", { 0 }, "w", NULL, "write what is shown to a file", act_ask, TUI_SNAPSHOT },
	{ L"?h", { 0 }, "?", "? help", "this page", act_help, 0 },
	{ L"qQ", { 0 }, "q", "q quit", "quit", act_ask, TUI_QUIT },
};

size_t tui_help_rows(void)
{
	return ARRAY_SIZE(keys);
}

void tui_help_row(size_t i, const char **ret_keys, const char **ret_text)
{
	*ret_keys = keys[i].name;
	*ret_text = keys[i].help;
}

static bool applies(const struct key *k, enum tui_page page)
{
	bool moves_rows = k->act == act_open || k->act == act_sort || k->act == act_sort_cycle;

	return page == PAGE_PROCS ? k->act != act_back : page != PAGE_FRAMES || !moves_rows;
}

void tui_hints(const struct tui_state *st, char *buf, size_t cap)
{
	size_t at = 0;

	buf[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!keys[i].hint || !applies(&keys[i], st->page) || at + strlen(keys[i].hint) + 3 > cap)
			continue;
		at += (size_t)snprintf(buf + at, cap - at, "%s%s", at ? "  " : "", keys[i].hint);
	}
}

static bool is_key(const struct key *k, wchar_t ch, bool is_code)
{
	if (!is_code)
		return ch && wcschr(k->chars, ch);
	for (size_t i = 0; i < ARRAY_SIZE(k->codes); i++)
		if (k->codes[i] && k->codes[i] == (int)ch)
			return true;
	return false;
}

enum tui_ask tui_key(struct tui_state *st, struct query *q, wchar_t ch, bool is_code, struct proc_key *ret_proc)
{
	if (is_code && ch == KEY_RESIZE)
		return TUI_REDRAW;
	st->message[0] = 0;
	if (st->help) {
		st->help = false;
		return TUI_REDRAW;
	}
	if (st->editing)
		return edit_key(st, q, ch, is_code);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (is_key(&keys[i], ch, is_code)) {
			struct key_call c = { st, q, ret_proc, keys[i].arg };

			return keys[i].act(&c);
		}
	return TUI_NOTHING;
}
