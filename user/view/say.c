/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/say.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"

static const char *const loss_names[] = {
#define X(id, name, text) [LOSS_##id] = name,
	for_each_loss(X)
#undef X
};

static const char *const layer_names[] = {
#define X(id, name) [LAYER_##id] = name,
	for_each_layer(X)
#undef X
};

static const char *const mode_names[] = { [MODE_PAGES] = "pages", [MODE_EXACT] = "exact", [MODE_SAMPLED] = "sampled" };

static const char *unknown(char buf[FMT_CAP])
{
	return strcpy(buf, "-");
}

const char *say_bytes(char buf[FMT_CAP], uint64_t bytes)
{
	return bytes == UNKNOWN_U64 ? unknown(buf) : fmt_bytes(buf, (double)bytes);
}

const char *say_count(char buf[FMT_CAP], uint64_t n)
{
	return n == UNKNOWN_U64 ? unknown(buf) : fmt_count(buf, (double)n);
}

const char *say_growth(char buf[FMT_CAP], double bytes)
{
	char number[FMT_CAP];

	if (!isfinite(bytes))
		return unknown(buf);
	fmt_bytes(number, fabs(bytes));
	bool is_zero = !strcmp(number, "0");
	snprintf(buf, FMT_CAP, "%s%.22s", is_zero ? "" : bytes < 0 ? "-" : "+", number);
	return buf;
}

const char *say_pct(char buf[FMT_CAP], double pct)
{
	if (!isfinite(pct))
		return unknown(buf);
	snprintf(buf, FMT_CAP, pct < 9.995 ? "%.2f%%" : "%.0f%%", pct);
	return buf;
}

const char *say_seconds(char buf[FMT_CAP], double s)
{
	if (!isfinite(s) || s < 0)
		return unknown(buf);
	if (s < 100 * 86400.0)
		return fmt_duration(buf, s);
	snprintf(buf, FMT_CAP, "%.0fd", floor(s / 86400));
	return buf;
}

const char *say_interval(char buf[FMT_CAP], double s)
{
	snprintf(buf, FMT_CAP, "%.4gs", s);
	return buf;
}

static const char *estimate(char buf[FMT_CAP], const char *number, double se)
{
	snprintf(buf, FMT_CAP, "%s%.22s", se > 0 && strcmp(number, "-") ? "~" : "", number);
	return buf;
}

const char *say_live(char buf[FMT_CAP], const struct report_counts *c, bool layer_on)
{
	char number[FMT_CAP];

	if (!layer_on || !c->live_known)
		return unknown(buf);
	return estimate(buf, say_bytes(number, c->c.live_bytes), c->c.live_bytes_se);
}

const char *say_live_count(char buf[FMT_CAP], const struct report_counts *c, bool layer_on)
{
	char number[FMT_CAP];

	if (!layer_on || !c->live_known)
		return unknown(buf);
	return estimate(buf, say_count(number, c->c.live_count), c->c.live_bytes_se);
}

const char *say_total(char buf[FMT_CAP], const struct report_counts *c, bool layer_on)
{
	char number[FMT_CAP];

	if (!layer_on)
		return unknown(buf);
	return estimate(buf, say_bytes(number, c->c.alloc_bytes), c->c.alloc_bytes_se);
}

const char *say_alloc_rate(char buf[FMT_CAP], const struct report_counts *c, bool layer_on)
{
	char number[FMT_CAP];

	if (!layer_on || !isfinite(c->alloc_bytes_per_s))
		return unknown(buf);
	return estimate(buf, fmt_bytes(number, c->alloc_bytes_per_s), c->c.alloc_bytes_se);
}

const char *say_mode(const struct report_proc *p)
{
	if (p->state == PROC_EXITED)
		return "exited";
	return (size_t)p->mode < ARRAY_SIZE(mode_names) ? mode_names[p->mode] : "-";
}

const char *say_layer(enum layer l)
{
	return (size_t)l < LAYER_NR ? layer_names[l] : "-";
}

/* What the user can make of it: the reasons of abi.h in words. */
const char *say_cut(enum stack_cut cut)
{
	static const char *const words[CUT_NR] = {
		[CUT_NONE] = "its outer frames are missing",
		[CUT_DEPTH] = "deeper than 127 frames",
		[CUT_NO_MAPPING] = "code in a mapping that is not known",
		[CUT_NO_ROW] = "no unwind information",
		[CUT_RULE] = "unwind rule that can't be followed",
		[CUT_MEMORY] = "memory could not be read",
		[CUT_UNKNOWN] = "the stack was not taken",
	};
	_Static_assert(STACK_MAX_FRAMES == 127, "the words say so");

	return (size_t)cut < CUT_NR ? words[cut] : words[CUT_NONE];
}

const char *say_thread(char buf[THREAD_TEXT_CAP], uint32_t tid, const char *name)
{
	if (!tid)
		return strcpy(buf, "-");
	snprintf(buf, THREAD_TEXT_CAP, "%u%s%s", tid, name ? " " : "", name ? name : "");
	return buf;
}

const char *loss_name(enum loss l)
{
	return (size_t)l < LOSS_NR ? loss_names[l] : "-";
}

bool loss_is_fact(enum loss l)
{
	return l == LOSS_UNMATCHED_FREE || l == LOSS_LATE_ATTACH;
}

struct untracked untracked_sum(const struct report *r, enum layer l)
{
	struct untracked u = { 0 };

	for (size_t i = 0; i < r->n_procs; i++) {
		const struct counts *c = &r->procs[i].layers[l].c;

		/* Unknown where blocks are not what is counted (page). */
		if (c->untracked_count == UNKNOWN_U64 || c->untracked_bytes == UNKNOWN_U64)
			continue;
		u.count += c->untracked_count;
		u.bytes += c->untracked_bytes;
	}
	return u;
}

static const struct report_stack *top_of_layer(const struct report_proc *p, enum layer l)
{
	const struct report_stack *top = NULL;
	uint64_t most = 0;

	for (size_t i = 0; i < p->n_stacks; i++) {
		const struct report_stack *s = &p->stacks[i];
		uint64_t bytes = s->counts.live_known ? s->counts.c.live_bytes : s->counts.c.alloc_bytes;

		if (s->layer != l || (top && (bytes == UNKNOWN_U64 || bytes <= most)))
			continue;
		top = s;
		most = bytes == UNKNOWN_U64 ? 0 : bytes;
	}
	return top;
}

const struct report_stack *top_stack(const struct report_proc *p)
{
	static const enum layer order[] = { LAYER_HEAP, LAYER_PYTHON, LAYER_MAP, LAYER_PAGE };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		const struct report_stack *s = top_of_layer(p, order[i]);

		if (s)
			return s;
	}
	return NULL;
}
