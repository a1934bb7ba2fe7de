/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plain view: one block of lines per interval for people who read a file or a pipe. The same columns as the screen at fixed
 * widths. Not a format for programs: that is json.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "util/mem.h"
#include "view/columns.h"
#include "view/glyph.h"
#include "view/say.h"
#include "view/view.h"

#define STACKS_PER_PROC 10

/* A failed stream remembers that, but not why: errno counts only straight after the call. */
static int flushed(FILE *out)
{
	errno = 0;
	if (!fflush(out) && !ferror(out))
		return 0;
	return errno ? -errno : -EIO;
}

static void print_cell(FILE *out, const char *text, int width, bool right, bool is_last)
{
	char clean[COLUMN_TEXT_CAP];
	/* A number is never cut, also when that breaks the column; the last column has no end. */
	size_t room = right || is_last ? sizeof(clean) : (size_t)width;
	size_t used = text_clean(clean, sizeof(clean), room, text);
	int pad = (int)used < width && !is_last ? width - (int)used : 0;

	if (right)
		fprintf(out, "%*s%s ", pad, "", clean);
	else
		fprintf(out, "%s%*s%s", clean, pad, "", is_last ? "\n" : " ");
}

static void print_row(FILE *out, const struct column_set *cs, const char *indent, unsigned has,
		      const struct table_row *row)
{
	char text[COLUMN_TEXT_CAP];
	int widths[COLUMNS_MAX];

	columns_fit(cs, 0, SORT_NR, has, widths);
	(void)fputs(indent, out); /* flushed() tells */
	for (size_t i = 0; i < cs->n; i++) {
		const struct column *c = &cs->columns[i];

		if (!widths[i])
			continue;
		if (row)
			c->text(row, text);
		else
			(void)text_clean(text, sizeof(text), sizeof(text), column_title(c, locale_is_utf8()));
		print_cell(out, text, widths[i], c->right, i + 1 == cs->n);
	}
}

static void print_losses(FILE *out, const uint64_t losses[LOSS_NR], bool facts, const char *title, const char *none)
{
	char count[FMT_CAP];
	size_t n = 0;

	for (int l = 0; l < LOSS_NR; l++)
		if (losses[l] && loss_is_fact((enum loss)l) == facts)
			fprintf(out, "%s%s %s", n++ ? ", " : title, loss_name((enum loss)l),
				say_count(count, losses[l]));
	if (!n && none)
		(void)fputs(none, out); /* flushed() tells */
}

static void print_time(FILE *out, double ts)
{
	char text[32] = "-";
	time_t t = (time_t)ts;
	struct tm tm;

	if (gmtime_r(&t, &tm))
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fprintf(out, "%s", text);
}

static void print_head(FILE *out, const struct report *r)
{
	const struct snap_self *self = &r->self;
	char a[FMT_CAP], b[FMT_CAP];

	print_time(out, r->ts);
	fprintf(out, "  %zu %s  own cost: cpu %s, rss %s", r->n_procs, r->n_procs == 1 ? "process" : "processes",
		say_pct(a, self->cpu_pct), say_bytes(b, self->rss_bytes));
	if (isfinite(self->hits_per_s))
		fprintf(out, ", %s hits/s", fmt_count(a, self->hits_per_s));
	if (self->foreign_hits_per_s > 0)
		fprintf(out, ", %s foreign hits/s", fmt_count(a, self->foreign_hits_per_s));
	if (isfinite(self->target_overhead_pct))
		fprintf(out, "  target overhead %s", say_pct(a, self->target_overhead_pct));
	if (self->attached_share < 1)
		fprintf(out, ", calls observed %s of the time", say_pct(a, 100 * self->attached_share));
	print_losses(out, self->losses, false, "  losses: ", "  losses: none");
	print_losses(out, self->losses, true, "  facts: ", NULL);
	for (int l = 0; l < LAYER_NR; l++) {
		struct untracked u = untracked_sum(r, (enum layer)l);

		if (u.count)
			fprintf(out, "  %s: %s blocks (%s) no longer tracked", say_layer((enum layer)l),
				say_count(a, u.count), say_bytes(b, u.bytes));
	}
	(void)fputc('\n', out); /* flushed() tells */
}

static void print_alerts(FILE *out, const struct report *r)
{
	for (size_t i = 0; i < r->n_alerts; i++) {
		const struct alert *a = &r->alerts[i];

		fprintf(out, "ALERT %s %s%s pid %u: ", a->kind, a->severity,
			a->state == ALERT_RESOLVED ? " resolved" : "", a->id.pid);
		text_print(out, a->message);
		(void)fputc('\n', out); /* flushed() tells */
	}
}

static void print_part_head(FILE *out, const struct report_proc *p, enum layer l)
{
	fprintf(out, "\n  %u ", p->id.pid);
	text_print(out, p->comm ? p->comm : "-");
	fprintf(out, ", %s:\n", say_layer(l));
}

static void print_stacks(FILE *out, const struct report *r, const struct report_proc *p, enum layer l, size_t limit)
{
	unsigned has = r->query->by_thread ? NEEDS_THREADS : 0;
	size_t shown = 0;

	for (size_t i = 0; i < p->n_stacks && (!limit || shown < limit); i++) {
		struct table_row row = { .proc = p, .stack = &p->stacks[i] };

		if (p->stacks[i].layer != l)
			continue;
		if (!shown++) {
			print_part_head(out, p, l);
			print_row(out, &stack_columns, "  ", has, NULL);
		}
		print_row(out, &stack_columns, "  ", has, &row);
	}
}

static void print_groups(FILE *out, const struct report *r, const struct report_proc *p, enum layer l, size_t limit)
{
	const struct column_set *columns = &group_columns[r->query->group];
	size_t n = 0;

	for (size_t i = 0; i < p->n_groups; i++) {
		struct table_row row = { .proc = p, .group = &p->groups[i] };

		if (p->groups[i].layer != l)
			continue;
		if (!n++) {
			print_part_head(out, p, l);
			print_row(out, columns, "  ", 0, NULL);
		}
		if (!limit || n <= limit)
			print_row(out, columns, "  ", 0, &row);
	}
	if (limit && n > limit)
		fprintf(out, "  and %zu more\n", n - limit);
}

static int text_begin(FILE *out, const struct report_meta *m)
{
	char a[FMT_CAP], b[FMT_CAP];

	fprintf(out, "%s %s on %s, kernel %s: mode %s, every %s, ", m->tool, m->version, m->host, m->kernel, m->mode,
		say_interval(a, m->interval_s));
	if (m->sample_bytes)
		fprintf(out, "one sample per %s", say_bytes(a, m->sample_bytes));
	else
		(void)fputs("every call counted", out); /* flushed() tells */
	fprintf(out, "; kernel maps %s at most; target %s ", say_bytes(b, m->map_memory_bytes),
		m->target_kind ? m->target_kind : "-");
	text_print(out, m->target_text ? m->target_text : "");
	(void)fputc('\n', out); /* flushed() tells */
	return flushed(out);
}

static void print_parts(FILE *out, const struct report *r, const struct report_proc *p, enum layer l, size_t limit)
{
	if (r->query->group == GROUP_NONE)
		print_stacks(out, r, p, l, limit);
	else
		print_groups(out, r, p, l, limit);
}

static int text_show(FILE *out, const struct report *r)
{
	/* The report's limit holds; but the default of 50 stacks is made for programs and a reader wants the top. */
	size_t limit = r->query->limit == QUERY_LIMIT_DEFAULT ? STACKS_PER_PROC : r->query->limit;

	(void)fputc('\n', out); /* flushed() tells */
	print_head(out, r);
	print_alerts(out, r);
	print_row(out, &proc_columns, "", 0, NULL);
	for (size_t i = 0; i < r->n_procs; i++) {
		struct table_row row = { .proc = &r->procs[i] };

		print_row(out, &proc_columns, "", 0, &row);
	}
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i].layer_on[LAYER_HEAP])
			print_parts(out, r, &r->procs[i], LAYER_HEAP, limit);
	return flushed(out);
}

static int text_end(FILE *out, const struct report_meta *m, enum end_reason reason, int exit_code)
{
	(void)m;	 /* the other views need it */
	(void)exit_code; /* the shell tells it */
	fprintf(out, "\nend: %s\n", end_reason_name(reason));
	return flushed(out);
}

const struct view view_text = { "text", text_begin, text_show, text_end };
