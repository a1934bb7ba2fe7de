/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pages of the live screen: which rows a page has and how they are drawn. One row of functions per page; header, heading,
 * cursor and bottom line are the same for all. Owns no data: everything comes from the report and the state.
 */
#include <stdio.h>
#include <string.h>

#include "util/mem.h"
#include "view/columns.h"
#include "view/glyph.h"
#include "view/say.h"
#include "view/tui_state.h"

struct page_ops {
	const struct column_set *columns; /* PAGE_STACKS: of stacks; see columns_of */
	void (*rows)(struct tui_state *st, const struct report *r);
	/* false: the row is no row of data (yet); nothing is drawn. */
	bool (*row)(const struct tui_state *st, const struct report *r, const struct tui_row *row,
		    struct table_row *ret);
	const char *(*empty)(const struct tui_state *st,
			     const struct report *r); /* what to say when there are no rows */
};

const struct report_proc *tui_opened_proc(const struct tui_state *st, const struct report *r)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (!memcmp(&r->procs[i].id, &st->proc, sizeof(st->proc)))
			return &r->procs[i];
	return NULL;
}

const struct report_stack *tui_opened_stack(const struct tui_state *st, const struct report *r)
{
	const struct report_proc *p = tui_opened_proc(st, r);

	for (size_t i = 0; p && i < p->n_stacks; i++)
		if (p->stacks[i].stack_id == st->stack_id && p->stacks[i].tid == st->tid &&
		    p->stacks[i].layer == st->layer)
			return &p->stacks[i];
	return NULL;
}

static void add_row(struct tui_state *st, struct tui_row row)
{
	st->rows = grow_to(st->rows, &st->rows_cap, st->n_rows + 1, sizeof(*st->rows));
	st->rows[st->n_rows++] = row;
}

/* --- processes --- */

static void procs_rows(struct tui_state *st, const struct report *r)
{
	for (size_t i = 0; i < r->n_procs; i++)
		add_row(st, (struct tui_row){ .index = i, .proc = r->procs[i].id });
}

static bool procs_row(const struct tui_state *st, const struct report *r, const struct tui_row *row,
		      struct table_row *ret)
{
	(void)st; /* same signature for all pages */
	if (row->index >= r->n_procs)
		return false;
	*ret = (struct table_row){ .proc = &r->procs[row->index] };
	return true;
}

static const char *procs_empty(const struct tui_state *st, const struct report *r)
{
	(void)st; /* same signature for all pages */
	return r->query->filter[0] ? "No process matches the filter." : "No process is observed.";
}

/* --- stacks of one process --- */

/* Without a choice of the user: the deepest layer that is observed. */
static void settle_layer(struct tui_state *st, const struct report_proc *p)
{
	static const enum layer order[] = { LAYER_HEAP, LAYER_PYTHON, LAYER_MAP, LAYER_PAGE };

	memcpy(st->layer_on, p->layer_on, sizeof(st->layer_on));
	for (size_t i = 0; i < ARRAY_SIZE(order) && !st->layer_chosen; i++)
		if (p->layer_on[order[i]]) {
			st->layer = order[i];
			return;
		}
}

static void group_rows(struct tui_state *st, const struct report_proc *p)
{
	for (size_t i = 0; i < p->n_groups; i++)
		if (p->groups[i].layer == st->layer)
			add_row(st,
				(struct tui_row){
					.kind = ROW_GROUP, .index = i, .proc = p->id, .stack_id = p->groups[i].id });
}

static void stacks_rows(struct tui_state *st, const struct report *r)
{
	const struct report_proc *p = tui_opened_proc(st, r);

	if (!p)
		return;
	settle_layer(st, p);
	if (r->query->group != GROUP_NONE) {
		group_rows(st, p);
		return;
	}
	for (size_t i = 0; i < p->n_stacks; i++)
		if (p->stacks[i].layer == st->layer)
			add_row(st, (struct tui_row){ .index = i,
						      .proc = p->id,
						      .stack_id = p->stacks[i].stack_id,
						      .tid = p->stacks[i].tid });
}

static bool stacks_row(const struct tui_state *st, const struct report *r, const struct tui_row *row,
		       struct table_row *ret)
{
	const struct report_proc *p = tui_opened_proc(st, r);

	if (!p || row->index >= (row->kind == ROW_GROUP ? p->n_groups : p->n_stacks))
		return false;
	*ret = (struct table_row){ .proc = p };
	if (row->kind == ROW_GROUP)
		ret->group = &p->groups[row->index];
	else
		ret->stack = &p->stacks[row->index];
	return true;
}

static const char *stacks_empty(const struct tui_state *st, const struct report *r)
{
	const struct report_proc *p = tui_opened_proc(st, r);

	if (!p)
		return "This process has ended, or the filter hides it. Esc goes back.";
	return p->layer_on[st->layer] ? "No allocation seen yet." : "This layer is not observed in this process.";
}

/* --- frames of one stack --- */

static void add_note(struct tui_state *st, const struct report_stack *s, enum row_kind kind)
{
	add_row(st, (struct tui_row){ .kind = kind, .proc = st->proc, .stack_id = s->stack_id, .tid = s->tid });
}

/* What the frames alone don't tell. */
static void frame_notes(struct tui_state *st, const struct report *r, const struct report_stack *s)
{
	if (!s->complete)
		add_note(st, s, ROW_INCOMPLETE);
	if (s->python_cut && !r->query->native_only)
		add_note(st, s, ROW_PYTHON_CUT);
	if (s->has_python && (r->query->native_only || r->query->python_only))
		add_note(st, s, ROW_HIDDEN);
	if (!s->has_python && r->query->python_only)
		add_note(st, s, ROW_NO_PYTHON);
}

static void frames_rows(struct tui_state *st, const struct report *r)
{
	const struct report_stack *s = tui_opened_stack(st, r);

	if (!s)
		return;
	for (size_t k = 0; k < s->n_frames; k++)
		add_row(st, (struct tui_row){ .index = st->outer_first ? s->n_frames - 1 - k : k,
					      .proc = st->proc,
					      .stack_id = s->stack_id,
					      .tid = s->tid });
	frame_notes(st, r, s);
}

static bool frames_row(const struct tui_state *st, const struct report *r, const struct tui_row *row,
		       struct table_row *ret)
{
	const struct report_stack *s = tui_opened_stack(st, r);

	if (!s || row->kind != ROW_DATA || row->index >= s->n_frames)
		return false;
	*ret = (struct table_row){ .stack = s, .frame = s->frames[row->index], .frame_no = row->index };
	return true;
}

static const char *frames_empty(const struct tui_state *st, const struct report *r)
{
	return tui_opened_stack(st, r) ? "No frames are known."
				       : "This stack is not among those shown any more. Esc goes back.";
}

static const struct page_ops pages[PAGE_NR] = {
	[PAGE_PROCS] = { &proc_columns, procs_rows, procs_row, procs_empty },
	[PAGE_STACKS] = { &stack_columns, stacks_rows, stacks_row, stacks_empty },
	[PAGE_FRAMES] = { &frame_columns, frames_rows, frames_row, frames_empty },
};

/* --- what is the same for all --- */

struct layout {
	int header, heading; /* lines; heading 0: no room for it */
	int body, bottom;    /* first line of the table; the bottom line, -1: none */
};

static struct layout layout_of(const struct tui_state *st, const struct report *r, int width, int height)
{
	struct layout l = { 0 };

	/* The table is what the screen is for. */
	l.header = tui_header(st, r, NULL, width, (height - 2) * 2 / 5);
	l.heading = height >= 3;
	l.body = l.header + l.heading;
	l.bottom = height >= 2 ? height - 1 : -1;
	return l;
}

static int body_end(const struct layout *l, int height)
{
	return l->bottom >= 0 ? l->bottom : height;
}

static bool same_row(const struct tui_row *a, const struct tui_row *b, enum tui_page page)
{
	if (page == PAGE_FRAMES)
		return a->kind == b->kind && a->index == b->index;
	return a->kind == b->kind && !memcmp(&a->proc, &b->proc, sizeof(a->proc)) && a->stack_id == b->stack_id &&
	       a->tid == b->tid;
}

static void place_cursor(struct tui_state *st)
{
	struct tui_list *l = &st->lists[st->page];

	for (size_t i = 0; l->has_row && i < st->n_rows; i++)
		if (same_row(&st->rows[i], &l->row, st->page)) {
			l->sel = i;
			break;
		}
	if (l->sel >= st->n_rows)
		l->sel = st->n_rows ? st->n_rows - 1 : 0;
	l->has_row = l->sel > 0;
	if (l->has_row)
		l->row = st->rows[l->sel];
	if (l->sel < l->top)
		l->top = l->sel;
	if (st->body_rows && l->sel >= l->top + st->body_rows)
		l->top = l->sel - st->body_rows + 1;
	if (st->body_rows && l->top + st->body_rows > st->n_rows)
		l->top = st->n_rows > st->body_rows ? st->n_rows - st->body_rows : 0;
}

void tui_state_init(struct tui_state *st, bool utf8)
{
	*st = (struct tui_state){ .utf8 = utf8, .layer = LAYER_HEAP, .trends = trends_new() };
}

void tui_state_done(struct tui_state *st)
{
	trends_free(st->trends);
	free(st->rows);
	*st = (struct tui_state){ 0 };
}

void tui_say(struct tui_state *st, const char *text)
{
	snprintf(st->message, sizeof(st->message), "%s", text);
	st->message_left = 3;
}

static void age_message(struct tui_state *st, uint64_t n)
{
	if (st->has_n && n > st->n && st->message_left && --st->message_left == 0)
		st->message[0] = 0;
	st->has_n = true;
	st->n = n;
}

void tui_take(struct tui_state *st, const struct report *r)
{
	age_message(st, r->n);
	trends_add(st->trends, r);
	standing_alerts_add(&st->alerts, r->alerts, r->n_alerts);
}

void tui_update(struct tui_state *st, const struct report *r, int width, int height)
{
	st->n_rows = 0;
	pages[st->page].rows(st, r);
	struct layout l = layout_of(st, r, width, height);
	int body = body_end(&l, height) - l.body;
	st->body_rows = body > 0 ? (size_t)body : 0;
	place_cursor(st);
}

static wchar_t ellipsis_of(const struct tui_state *st)
{
	return st->utf8 ? L'\x2026' : L'>';
}

static void draw_cell(struct screen *s, const struct tui_state *st, int x, int y, int width, bool right, enum role role,
		      const char *text)
{
	size_t columns = text_columns(text);

	if (!right) {
		screen_put(s, x, y, width, role, ellipsis_of(st), text);
		return;
	}
	/* A number that lost its last digits would be another number. */
	if (columns > (size_t)width) {
		for (int i = 0; i < width; i++)
			screen_put(s, x + i, y, 1, role, 0, "#");
		return;
	}
	screen_put(s, x + width - (int)columns, y, (int)columns, role, 0, text);
}

static void draw_heading(struct screen *s, const struct tui_state *st, const struct column_set *cs, const int widths[],
			 enum sort_key sorted, int y)
{
	int x = 0;

	screen_role(s, y, ROLE_TITLE);
	for (size_t i = 0; i < cs->n; i++) {
		const struct column *c = &cs->columns[i];
		bool is_sorted = c->sort == sorted && sorted != SORT_NR;

		if (!widths[i])
			continue;
		draw_cell(s, st, x, y, widths[i], c->right, is_sorted ? ROLE_SORTED : ROLE_TITLE,
			  column_title(c, st->utf8));
		x += widths[i] + 1;
	}
}

static enum role row_role(const struct table_row *row)
{
	if (row->frame || row->group)
		return ROLE_NORMAL;
	if (row->stack)
		return row->stack->leak.verdict == VERDICT_LEAK ? ROLE_ALERT : ROLE_NORMAL;
	return row->proc->state == PROC_EXITED ? ROLE_DIM : ROLE_NORMAL;
}

static void draw_row(struct screen *s, const struct tui_state *st, const struct column_set *cs, const int widths[],
		     struct table_row *row, enum role role, int y)
{
	char trend[TREND_TEXT_CAP], text[COLUMN_TEXT_CAP];
	int x = 0;

	if (row->proc)
		row->trend = trend_text(st->trends, &row->proc->id, row->stack, st->utf8, trend);
	for (size_t i = 0; i < cs->n; i++) {
		if (!widths[i])
			continue;
		cs->columns[i].text(row, text);
		draw_cell(s, st, x, y, widths[i], cs->columns[i].right, role, text);
		x += widths[i] + 1;
	}
}

static void draw_note(struct screen *s, const struct tui_state *st, const struct report *r, const struct tui_row *row,
		      int y)
{
	static const char *const texts[] = {
		[ROW_PYTHON_CUT] = "! outer Python frames are missing",
		[ROW_NO_PYTHON] = "no Python frames: native ones are shown",
	};
	const struct report_stack *stack = tui_opened_stack(st, r);
	char text[80];

	if (row->kind == ROW_INCOMPLETE)
		snprintf(text, sizeof(text), "! incomplete: %s", say_cut(stack ? stack->cut : CUT_NONE));
	else if (row->kind == ROW_HIDDEN && r->query->native_only)
		snprintf(text, sizeof(text), "Python frames are not shown (key n)");
	else if (row->kind == ROW_HIDDEN)
		snprintf(text, sizeof(text), "native frames are not shown (key i)");
	else
		snprintf(text, sizeof(text), "%s", texts[row->kind]);
	screen_put(s, 0, y, s->width, ROLE_WARN, ellipsis_of(st), text);
}

static const struct column_set *columns_of(const struct tui_state *st, const struct query *q)
{
	return st->page == PAGE_STACKS ? &group_columns[q->group] : pages[st->page].columns;
}

static enum sort_key sort_of(const struct tui_state *st, const struct query *q)
{
	return st->page == PAGE_PROCS ? q->proc_sort : st->page == PAGE_STACKS ? q->stack_sort : SORT_NR;
}

static void draw_body(struct screen *s, const struct tui_state *st, const struct report *r, const struct layout *l)
{
	const struct page_ops *ops = &pages[st->page];
	const struct tui_list *list = &st->lists[st->page];
	const struct column_set *columns = columns_of(st, r->query);
	unsigned has = (st->trend_off ? 0 : NEEDS_MEMORY) | (r->query->by_thread ? NEEDS_THREADS : 0);
	int widths[COLUMNS_MAX], end = body_end(l, s->height);

	columns_fit(columns, s->width, sort_of(st, r->query), has, widths);
	if (l->heading)
		draw_heading(s, st, columns, widths, sort_of(st, r->query), l->header);
	if (!st->n_rows && l->body < end)
		screen_put(s, 0, l->body, s->width, ROLE_DIM, ellipsis_of(st), ops->empty(st, r));
	for (size_t i = list->top; i < st->n_rows && l->body + (int)(i - list->top) < end; i++) {
		struct table_row row;
		int y = l->body + (int)(i - list->top);
		bool is_data = ops->row(st, r, &st->rows[i], &row);

		if (is_data)
			draw_row(s, st, columns, widths, &row, row_role(&row), y);
		else if (st->rows[i].kind > ROW_GROUP)
			draw_note(s, st, r, &st->rows[i], y);
		if (i == list->sel)
			screen_role(s, y, ROLE_SELECTED);
	}
}

static void draw_bottom(struct screen *s, const struct tui_state *st, const struct report *r, int y)
{
	char text[320];
	int x;

	if (st->editing) {
		x = screen_put(s, 0, y, s->width, ROLE_STRONG, 0, "filter: ");
		x = screen_put(s, x, y, s->width - x, ROLE_NORMAL, 0, r->query->filter);
		screen_put(s, x, y, 1, ROLE_SELECTED, 0, " ");
		return;
	}
	if (st->message[0]) {
		screen_put(s, 0, y, s->width, ROLE_STRONG, ellipsis_of(st), st->message);
		return;
	}
	tui_hints(st, text, sizeof(text));
	screen_put(s, 0, y, s->width, ROLE_DIM, ellipsis_of(st), text);
}

static void draw_help(struct screen *s, const struct tui_state *st)
{
	size_t n = tui_help_rows(), lines = s->height > 2 ? (size_t)s->height - 2 : 1;
	size_t columns = (n + lines - 1) / lines, fit = (size_t)s->width / 40;
	const char *keys, *text;

	columns = columns < 1 || fit < 1 ? 1 : columns < fit ? columns : fit;
	int width = s->width / (int)columns;
	screen_role(s, 0, ROLE_TITLE);
	screen_put(s, 0, 0, s->width, ROLE_TITLE, ellipsis_of(st), "Keys (any key closes this page)");
	for (size_t i = 0; i < n && i < lines * columns; i++) {
		int x = (int)(i / lines) * width, y = 1 + (int)(i % lines);

		tui_help_row(i, &keys, &text);
		screen_put(s, x, y, 6, ROLE_STRONG, 0, keys);
		screen_put(s, x + 7, y, width - 8, ROLE_NORMAL, ellipsis_of(st), text);
	}
	screen_put(s, 0, s->height - 1, s->width, ROLE_DIM, ellipsis_of(st),
		   "- unknown  ~ estimated  ! outer frames missing  # too wide  K M G: of 1024");
}

struct screen *tui_render(const struct tui_state *st, const struct report *r, int width, int height)
{
	struct screen *s = screen_new(width, height);

	if (st->help) {
		draw_help(s, st);
		return s;
	}
	struct layout l = layout_of(st, r, s->width, s->height);
	tui_header(st, r, s, s->width, l.header);
	draw_body(s, st, r, &l);
	if (l.bottom >= 0)
		draw_bottom(s, st, r, l.bottom);
	return s;
}
