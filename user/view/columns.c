/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/columns.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"
#include "view/say.h"

#define DELTA_BASE "\316\224BASE"

static void set(char *buf, const char *text)
{
	snprintf(buf, COLUMN_TEXT_CAP, "%s", text);
}

static const struct report_counts *heap_of(const struct report_proc *p)
{
	return &p->layers[LAYER_HEAP];
}

/* --- processes --- */

static void proc_pid(const struct table_row *row, char *buf)
{
	snprintf(buf, COLUMN_TEXT_CAP, "%u", row->proc->id.pid);
}

static void proc_comm(const struct table_row *row, char *buf)
{
	set(buf, row->proc->comm ? row->proc->comm : "-");
}

static void proc_mode_text(const struct table_row *row, char *buf)
{
	set(buf, say_mode(row->proc));
}

static void proc_rss(const struct table_row *row, char *buf)
{
	say_bytes(buf, row->proc->rss_bytes);
}

static void proc_delta(const struct table_row *row, char *buf)
{
	say_growth(buf, (double)row->proc->delta_bytes);
}

static void proc_growth(const struct table_row *row, char *buf)
{
	say_growth(buf, row->proc->growth_bytes_per_s);
}

static void proc_live(const struct table_row *row, char *buf)
{
	say_live(buf, heap_of(row->proc), row->proc->layer_on[LAYER_HEAP]);
}

static void proc_count(const struct table_row *row, char *buf)
{
	say_live_count(buf, heap_of(row->proc), row->proc->layer_on[LAYER_HEAP]);
}

static void proc_rate(const struct table_row *row, char *buf)
{
	say_alloc_rate(buf, heap_of(row->proc), row->proc->layer_on[LAYER_HEAP]);
}

static void proc_total(const struct table_row *row, char *buf)
{
	say_total(buf, heap_of(row->proc), row->proc->layer_on[LAYER_HEAP]);
}

static void proc_limit(const struct table_row *row, char *buf)
{
	char limit[FMT_CAP], eta[FMT_CAP];
	const struct report_proc *p = row->proc;

	say_bytes(limit, p->limit_bytes);
	if (p->limit_bytes == UNKNOWN_U64 || !isfinite(p->limit_eta_s))
		set(buf, limit);
	else
		snprintf(buf, COLUMN_TEXT_CAP, "%s/%s", limit, say_seconds(eta, p->limit_eta_s));
}

static void trend(const struct table_row *row, char *buf)
{
	set(buf, row->trend ? row->trend : "");
}

static const char *incomplete_mark(const struct report_stack *s)
{
	return s->complete ? "" : "! ";
}

static void proc_top(const struct table_row *row, char *buf)
{
	const struct report_stack *s = top_stack(row->proc);

	if (!s)
		set(buf, "-");
	else
		snprintf(buf, COLUMN_TEXT_CAP, "%s%s%s%s", s->layer == LAYER_HEAP ? "" : say_layer(s->layer),
			 s->layer == LAYER_HEAP ? "" : ": ", incomplete_mark(s), s->summary ? s->summary : "-");
}

static const struct column procs[] = {
	{ "PID", 7, 7, true, 0, SORT_NR, 0, proc_pid },
	{ "COMM", 8, 15, false, 0, SORT_NR, 0, proc_comm },
	{ "MODE", 7, 7, false, 8, SORT_NR, 0, proc_mode_text },
	{ "RSS", 6, 6, true, 1, SORT_RSS, 0, proc_rss },
	{ DELTA_BASE, 7, 7, true, 5, SORT_NR, 0, proc_delta },
	{ "GROWTH/s", 8, 8, true, 2, SORT_GROWTH, 0, proc_growth },
	{ "LIVE", 6, 6, true, 3, SORT_LIVE, 0, proc_live },
	{ "COUNT", 6, 6, true, 7, SORT_COUNT, 0, proc_count },
	{ "ALLOC/s", 7, 7, true, 6, SORT_RATE, 0, proc_rate },
	{ "TOTAL", 6, 6, true, 11, SORT_ALLOC, 0, proc_total },
	{ "LIMIT/ETA", 12, 12, true, 9, SORT_NR, 0, proc_limit },
	{ "RSS TREND", 9, 9, false, 10, SORT_NR, NEEDS_MEMORY, trend },
	{ "TOP SITE", 20, 0, false, 4, SORT_NR, 0, proc_top },
};

/* --- stacks --- */

static void stack_live(const struct table_row *row, char *buf)
{
	say_live(buf, &row->stack->counts, true);
}

static void stack_delta(const struct table_row *row, char *buf)
{
	say_growth(buf, row->stack->counts.live_known ? (double)row->stack->delta_bytes : NAN);
}

static void stack_growth(const struct table_row *row, char *buf)
{
	say_growth(buf, row->stack->counts.live_known ? row->stack->growth_bytes_per_s : NAN);
}

static void stack_rate(const struct table_row *row, char *buf)
{
	say_alloc_rate(buf, &row->stack->counts, true);
}

static void stack_count(const struct table_row *row, char *buf)
{
	say_live_count(buf, &row->stack->counts, true);
}

static void stack_total(const struct table_row *row, char *buf)
{
	say_total(buf, &row->stack->counts, true);
}

static void stack_age(const struct table_row *row, char *buf)
{
	say_seconds(buf, row->stack->ages_known ? row->stack->age_p50_s : NAN);
}

static void stack_leak(const struct table_row *row, char *buf)
{
	const struct leak_verdict *v = &row->stack->leak;

	if (v->verdict == VERDICT_UNKNOWN)
		set(buf, "-");
	else if (isfinite(v->probability))
		snprintf(buf, COLUMN_TEXT_CAP, "%.2f %s", v->probability, verdict_name(v->verdict));
	else
		set(buf, verdict_name(v->verdict));
}

static void stack_site(const struct table_row *row, char *buf)
{
	set(buf, row->stack->site ? row->stack->site : "-");
}

static void stack_thread(const struct table_row *row, char *buf)
{
	say_thread(buf, row->stack->tid, row->stack->thread);
}

static void stack_function(const struct table_row *row, char *buf)
{
	const struct report_stack *s = row->stack;
	const char *name = s->summary ? s->summary : "-";

	if (s->complete)
		set(buf, name);
	else
		snprintf(buf, COLUMN_TEXT_CAP, "%s%s (%s)", incomplete_mark(s), name, say_cut(s->cut));
}

static const struct column stacks[] = {
	{ "LIVE", 6, 6, true, 0, SORT_LIVE, 0, stack_live },
	{ DELTA_BASE, 7, 7, true, 4, SORT_NR, 0, stack_delta },
	{ "+/s", 7, 7, true, 2, SORT_GROWTH, 0, stack_growth },
	{ "ALLOC/s", 7, 7, true, 5, SORT_RATE, 0, stack_rate },
	{ "COUNT", 6, 6, true, 6, SORT_COUNT, 0, stack_count },
	{ "TOTAL", 6, 6, true, 10, SORT_ALLOC, 0, stack_total },
	{ "AGE50", 6, 6, true, 8, SORT_AGE, 0, stack_age },
	{ "P(LEAK)", 12, 12, false, 3, SORT_NR, 0, stack_leak },
	{ "TREND", 8, 8, false, 7, SORT_NR, NEEDS_MEMORY, trend },
	{ "BY", 8, 14, false, 9, SORT_NR, 0, stack_site },
	{ "THREAD", 16, 23, false, 3, SORT_NR, NEEDS_THREADS, stack_thread },
	{ "FUNCTION", 20, 0, false, 1, SORT_NR, 0, stack_function },
};

/* --- stacks put together --- */

static void group_live(const struct table_row *row, char *buf)
{
	say_live(buf, &row->group->counts, true);
}

static void group_delta(const struct table_row *row, char *buf)
{
	say_growth(buf, row->group->counts.live_known ? (double)row->group->delta_bytes : NAN);
}

static void group_growth(const struct table_row *row, char *buf)
{
	say_growth(buf, row->group->counts.live_known ? row->group->growth_bytes_per_s : NAN);
}

static void group_rate(const struct table_row *row, char *buf)
{
	say_alloc_rate(buf, &row->group->counts, true);
}

static void group_count(const struct table_row *row, char *buf)
{
	say_live_count(buf, &row->group->counts, true);
}

static void group_total(const struct table_row *row, char *buf)
{
	say_total(buf, &row->group->counts, true);
}

static void group_stacks(const struct table_row *row, char *buf)
{
	say_count(buf, row->group->n_stacks);
}

static void group_name(const struct table_row *row, char *buf)
{
	set(buf, row->group->name);
}

/* The same for every grouping but for the last heading. */
#define GROUP_TABLE(title) \
	{ \
		{ "LIVE", 6, 6, true, 0, SORT_LIVE, 0, group_live }, \
			{ DELTA_BASE, 7, 7, true, 4, SORT_NR, 0, group_delta }, \
			{ "+/s", 7, 7, true, 2, SORT_GROWTH, 0, group_growth }, \
			{ "ALLOC/s", 7, 7, true, 5, SORT_RATE, 0, group_rate }, \
			{ "COUNT", 6, 6, true, 6, SORT_COUNT, 0, group_count }, \
			{ "TOTAL", 6, 6, true, 7, SORT_ALLOC, 0, group_total }, \
			{ "STACKS", 6, 6, true, 3, SORT_NR, 0, group_stacks }, \
			{ title, 20, 0, false, 1, SORT_NR, 0, group_name }, \
	}

static const struct column by_function[] = GROUP_TABLE("FUNCTION");
static const struct column by_module[] = GROUP_TABLE("MODULE");
static const struct column by_line[] = GROUP_TABLE("FILE:LINE");
static const struct column by_thread[] = GROUP_TABLE("THREAD");

/* --- frames of one stack --- */

static void frame_no(const struct table_row *row, char *buf)
{
	snprintf(buf, COLUMN_TEXT_CAP, "#%zu", row->frame_no);
}

/* A Python function is known by its place more than by its name ("<module>", "__init__"); that column may be left out or cut. */
static void frame_name(const struct table_row *row, char *buf)
{
	const struct sym_frame *f = row->frame;
	const char *slash = f->file ? strrchr(f->file, '/') : NULL;

	if (f->kind != FRAME_PYTHON || !f->file)
		set(buf, f->name);
	else if (!f->line)
		snprintf(buf, COLUMN_TEXT_CAP, "%s %s", f->name, slash ? slash + 1 : f->file);
	else
		snprintf(buf, COLUMN_TEXT_CAP, "%s %s:%u", f->name, slash ? slash + 1 : f->file, f->line);
}

static void frame_place(const struct table_row *row, char *buf)
{
	const struct sym_frame *f = row->frame;

	if (!f->file)
		set(buf, f->final ? "-" : "(looking it up)");
	else if (!f->line)
		set(buf, f->file);
	else
		snprintf(buf, COLUMN_TEXT_CAP, "%s:%u", f->file, f->line);
}

static void frame_kind(const struct table_row *row, char *buf)
{
	set(buf, row->frame->inlined ? "inlined" : frame_kind_name(row->frame->kind));
}

static void frame_module(const struct table_row *row, char *buf)
{
	const char *path = row->frame->module, *slash = path ? strrchr(path, '/') : NULL;

	set(buf, slash ? slash + 1 : path ? path : "-");
}

static const struct column frames[] = {
	{ "FRAME", 5, 5, true, 1, SORT_NR, 0, frame_no },
	{ "KIND", 7, 7, false, 4, SORT_NR, 0, frame_kind },
	{ "FILE:LINE", 18, 30, false, 2, SORT_NR, 0, frame_place },
	{ "MODULE", 12, 18, false, 3, SORT_NR, 0, frame_module },
	{ "FUNCTION", 20, 0, false, 0, SORT_NR, 0, frame_name },
};

const struct column_set proc_columns = { procs, ARRAY_SIZE(procs) };
const struct column_set stack_columns = { stacks, ARRAY_SIZE(stacks) };
const struct column_set frame_columns = { frames, ARRAY_SIZE(frames) };
const struct column_set group_columns[GROUP_NR] = {
	[GROUP_NONE] = { stacks, ARRAY_SIZE(stacks) },
	[GROUP_FUNCTION] = { by_function, ARRAY_SIZE(by_function) },
	[GROUP_MODULE] = { by_module, ARRAY_SIZE(by_module) },
	[GROUP_FILE_LINE] = { by_line, ARRAY_SIZE(by_line) },
	[GROUP_THREAD] = { by_thread, ARRAY_SIZE(by_thread) },
};

_Static_assert(ARRAY_SIZE(procs) <= COLUMNS_MAX && ARRAY_SIZE(stacks) <= COLUMNS_MAX, "widths[] is that long");

const char *column_title(const struct column *c, bool utf8)
{
	return utf8 || strcmp(c->title, DELTA_BASE) ? c->title : "+BASE";
}

bool columns_have(const struct column_set *cs, enum sort_key k)
{
	for (size_t i = 0; i < cs->n; i++)
		if (cs->columns[i].sort == k)
			return true;
	return false;
}

static int width_of(const struct column_set *cs, const int widths[])
{
	int sum = 0;

	for (size_t i = 0; i < cs->n; i++)
		sum += widths[i] ? widths[i] + 1 : 0;
	return sum - 1;
}

/* The column to leave out next; -1: only those remain that always stay. */
static int least_wanted(const struct column_set *cs, const int widths[], enum sort_key sorted)
{
	int worst = -1;

	for (size_t i = 0; i < cs->n; i++) {
		const struct column *c = &cs->columns[i];

		if (!widths[i] || !c->rank || (c->sort == sorted && sorted != SORT_NR))
			continue;
		if (worst < 0 || c->rank > cs->columns[worst].rank)
			worst = (int)i;
	}
	return worst;
}

static void widen(const struct column_set *cs, int left, int widths[])
{
	for (size_t i = 0; i < cs->n; i++) {
		int max = cs->columns[i].max, more = max ? max - widths[i] : left;

		if (!widths[i])
			continue;
		more = more < left ? more : left;
		widths[i] += more;
		left -= more;
	}
}

void columns_fit(const struct column_set *cs, int width, enum sort_key sorted, unsigned has, int widths[COLUMNS_MAX])
{
	for (size_t i = 0; i < cs->n; i++)
		widths[i] = cs->columns[i].needs & ~has ? 0 : cs->columns[i].min;
	if (!width) {
		widen(cs, COLUMN_TEXT_CAP, widths);
		return;
	}
	while (width_of(cs, widths) > width) {
		int i = least_wanted(cs, widths, sorted);

		if (i < 0)
			return;
		widths[i] = 0;
	}
	widen(cs, width - width_of(cs, widths), widths);
}
