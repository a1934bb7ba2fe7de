/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `tidemark leaks` prints for people: each verdict as it falls, with the stack that it names; at the end the sum. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "util/fmt.h"
#include "util/mem.h"
#include "view/glyph.h"
#include "view/say.h"
#include "view/view.h"

#define FRAMES_SHOWN 12

static const struct report_stack *stack_of(const struct report *r, const struct alert *a)
{
	for (size_t p = 0; p < r->n_procs; p++)
		for (size_t i = 0; i < r->procs[p].n_stacks; i++)
			if (r->procs[p].id.pid == a->id.pid && r->procs[p].stacks[i].stack_id == a->stack_id &&
			    r->procs[p].stacks[i].tid == a->tid)
				return &r->procs[p].stacks[i];
	return NULL;
}

static void print_frame(FILE *out, const struct sym_frame *f)
{
	const char *where = f->file ? f->file : f->module;

	fputs("    ", out);
	text_print(out, f->name);
	if (where) {
		fputs(f->file ? "  " : "  (", out);
		text_print(out, where);
		if (f->file && f->line)
			fprintf(out, ":%u", f->line);
		fputs(f->file ? "" : ")", out);
	}
	fputc('\n', out);
}

static void print_stack(FILE *out, const struct report_stack *s)
{
	char live[FMT_CAP], thread[THREAD_TEXT_CAP];

	fprintf(out, "  %s live in %llu blocks of %s, allocated by", fmt_bytes(live, (double)s->counts.c.live_bytes),
		(unsigned long long)s->counts.c.live_count, s->site ? s->site : "unknown");
	if (s->tid) {
		fputs(" thread ", out);
		text_print(out, say_thread(thread, s->tid, s->thread));
	}
	fputc('\n', out);
	for (size_t i = 0; i < s->n_frames && i < FRAMES_SHOWN; i++)
		print_frame(out, s->frames[i]);
	if (s->n_frames > FRAMES_SHOWN)
		fprintf(out, "    and %zu more\n", s->n_frames - FRAMES_SHOWN);
	if (!s->complete)
		fprintf(out, "    (incomplete: %s)\n", say_cut(s->cut));
	if (s->python_cut)
		fprintf(out, "    (outer Python frames are missing)\n");
}

static int flushed(FILE *out)
{
	return fflush(out) || ferror(out) ? -(errno ? errno : EIO) : 0;
}

static int leaks_begin(FILE *out, const struct report_meta *meta)
{
	fprintf(out, "watching %s %s on %s\n", meta->target_kind, meta->target_text, meta->host);
	return flushed(out);
}

static int leaks_show(FILE *out, const struct report *r)
{
	for (size_t i = 0; i < r->n_alerts; i++) {
		const struct alert *a = &r->alerts[i];
		const struct report_stack *s = stack_of(r, a);
		char when[32];
		time_t t = (time_t)r->ts;
		strftime(when, sizeof(when), "%H:%M:%S", localtime(&t));
		fprintf(out, "%s %s %s: %s\n", when, a->state == ALERT_FIRING ? "LEAK" : "over", a->comm, a->message);
		if (s && a->state == ALERT_FIRING)
			print_stack(out, s);
	}
	return flushed(out);
}

static int leaks_end(FILE *out, const struct report_meta *meta, enum end_reason reason, int exit_code)
{
	(void)meta;
	fprintf(out, "%s (%s)\n", exit_code == 3 ? "leak found" : "no leak found", end_reason_name(reason));
	return flushed(out);
}

const struct view view_leaks = { .format = "leaks", .begin = leaks_begin, .show = leaks_show, .end = leaks_end };
