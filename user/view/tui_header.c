/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines above the table. Facts are collected as items with a rank, grouped; each group starts a line. When they need more
 * lines than the screen can spare, items of the highest rank go first. Losses and alerts have rank 0 and never go.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/mem.h"
#include "view/glyph.h"
#include "view/say.h"
#include "view/tui_state.h"

#define ITEMS_MAX 64

struct item {
	int group, rank;
	enum role role;
	char text[320];
};

struct header {
	struct item items[ITEMS_MAX];
	size_t n;
	int group;
};

static void __attribute__((format(printf, 4, 5))) add(struct header *h, int rank, enum role role, const char *fmt, ...)
{
	va_list ap;

	if (h->n == ITEMS_MAX)
		return;
	struct item *it = &h->items[h->n++];
	it->group = h->group;
	it->rank = rank;
	it->role = role;
	va_start(ap, fmt);
	vsnprintf(it->text, sizeof(it->text), fmt, ap);
	va_end(ap);
}

static void add_identity(struct header *h, const struct tui_state *st, const struct report *r)
{
	const struct report_meta *m = r->meta;
	char buf[FMT_CAP];

	h->group++;
	if (st->paused)
		add(h, 0, ROLE_WARN, "PAUSED");
	add(h, 5, ROLE_STRONG, "%s %s", m->tool, m->version);
	add(h, 6, ROLE_NORMAL, "%s", m->host);
	add(h, 10, ROLE_DIM, "%s", m->kernel);
	add(h, 2, ROLE_NORMAL, "mode %s", m->mode);
	add(h, 7, ROLE_NORMAL, "every %s", say_interval(buf, m->interval_s));
	if (m->target_kind && m->target_text)
		add(h, 8, ROLE_NORMAL, "%s%s%.60s", m->target_kind, *m->target_text ? " " : "", m->target_text);
	add(h, 3, ROLE_NORMAL, "%zu %s", r->n_procs, r->n_procs == 1 ? "process" : "processes");
	if (r->query->filter[0])
		add(h, 1, ROLE_WARN, "filter \"%s\"", r->query->filter);
	if (r->query->group != GROUP_NONE && st->page == PAGE_STACKS)
		add(h, 1, ROLE_WARN, "grouped by %s", group_by_name(r->query->group));
	if (r->query->native_only || r->query->python_only)
		add(h, 4, ROLE_WARN, "%s frames only", r->query->native_only ? "native" : "Python");
}

static void add_cost(struct header *h, const struct report *r)
{
	char a[FMT_CAP];
	const struct snap_self *self = &r->self;

	add(h, 3, ROLE_NORMAL, "own cost: cpu %s", say_pct(a, self->cpu_pct));
	add(h, 5, ROLE_NORMAL, "rss %s", say_bytes(a, self->rss_bytes));
	add(h, 8, ROLE_NORMAL, "kernel maps %s", say_bytes(a, r->meta->map_memory_bytes));
	if (isfinite(self->hits_per_s))
		add(h, 6, ROLE_NORMAL, "%s hits/s", fmt_count(a, self->hits_per_s));
	if (self->foreign_hits_per_s > 0)
		add(h, 7, ROLE_WARN, "%s foreign hits/s", fmt_count(a, self->foreign_hits_per_s));
	if (!isfinite(self->target_overhead_pct))
		return;
	bool over = r->meta->budget_pct > 0 && self->target_overhead_pct > r->meta->budget_pct;
	add(h, 4, over ? ROLE_WARN : ROLE_NORMAL, "target overhead %s", say_pct(a, self->target_overhead_pct));
	if (self->attached_share < 1)
		add(h, 5, ROLE_NORMAL, "calls observed %s of the time", say_pct(a, 100 * self->attached_share));
	if (r->meta->budget_pct > 0)
		add(h, 8, ROLE_NORMAL, "budget %s", say_pct(a, r->meta->budget_pct));
}

static size_t add_losses_kind(struct header *h, const uint64_t losses[LOSS_NR], bool facts, const char *title)
{
	char count[FMT_CAP];
	size_t n = 0;

	for (int l = 0; l < LOSS_NR; l++) {
		if (!losses[l] || loss_is_fact((enum loss)l) != facts)
			continue;
		add(h, facts ? 7 : 0, facts ? ROLE_DIM : ROLE_WARN, "%s%s %s", n ? "" : title, loss_name((enum loss)l),
		    say_count(count, losses[l]));
		n++;
	}
	return n;
}

static void add_losses(struct header *h, const uint64_t losses[LOSS_NR])
{
	if (!add_losses_kind(h, losses, false, "losses: "))
		add(h, 0, ROLE_NORMAL, "losses: none");
}

static void add_facts(struct header *h, const uint64_t losses[LOSS_NR])
{
	add_losses_kind(h, losses, true, "facts: ");
}

static void add_untracked_text(struct header *h, enum layer l, uint64_t count, uint64_t bytes)
{
	char a[FMT_CAP], b[FMT_CAP];

	if (count && count != UNKNOWN_U64)
		add(h, 0, ROLE_WARN, "%s%s%s blocks (%s) no longer tracked", l == LAYER_HEAP ? "" : say_layer(l),
		    l == LAYER_HEAP ? "" : ": ", say_count(a, count), say_bytes(b, bytes));
}

static void add_untracked(struct header *h, const struct report *r)
{
	for (int l = 0; l < LAYER_NR; l++) {
		struct untracked u = untracked_sum(r, (enum layer)l);

		add_untracked_text(h, (enum layer)l, u.count, u.bytes);
	}
}

static void add_alerts(struct header *h, const struct standing_alerts *alerts)
{
	h->group++;
	if (!alerts->n)
		return;
	const struct standing_alert *a = &alerts->all[alerts->n - 1];
	if (alerts->n > 1)
		add(h, 0, ROLE_ALERT, "ALERT %s (and %zu more): %s", a->kind, alerts->n - 1, a->message);
	else
		add(h, 0, ROLE_ALERT, "ALERT %s: %s", a->kind, a->message);
}

static void add_proc(struct header *h, const struct report_proc *p)
{
	char a[FMT_CAP], b[FMT_CAP];

	h->group++;
	add(h, 1, ROLE_STRONG, "%u %s", p->id.pid, p->comm ? p->comm : "-");
	add(h, 3, ROLE_NORMAL, "%s", say_mode(p));
	if (p->python)
		add(h, 4, ROLE_NORMAL, "Python %s", p->python);
	if (p->limit_bytes != UNKNOWN_U64)
		add(h, 3, ROLE_NORMAL, "limit %s%s%s", say_bytes(a, p->limit_bytes),
		    isfinite(p->limit_eta_s) ? " in " : "",
		    isfinite(p->limit_eta_s) ? say_seconds(b, p->limit_eta_s) : "");
	if (isfinite(p->overhead_pct))
		add(h, 5, ROLE_NORMAL, "overhead %s", say_pct(a, p->overhead_pct));
	if (p->lever)
		add(h, 4, ROLE_NORMAL, "probed %s", p->lever);
	if (p->cmdline)
		add(h, 9, ROLE_DIM, "%.200s", p->cmdline);
	h->group++;
	add(h, 3, ROLE_NORMAL, "rss %s (%s/s)", say_bytes(a, p->rss_bytes), say_growth(b, p->growth_bytes_per_s));
	add(h, 5, ROLE_NORMAL, "anon %s", say_bytes(a, p->anon_bytes));
	add(h, 6, ROLE_NORMAL, "file %s", say_bytes(a, p->file_bytes));
	add(h, 7, ROLE_NORMAL, "shmem %s", say_bytes(a, p->shmem_bytes));
	add(h, 7, ROLE_NORMAL, "swap %s", say_bytes(a, p->swap_bytes));
}

static void add_layer(struct header *h, const struct tui_state *st, const struct report_proc *p)
{
	const struct report_counts *c = &p->layers[st->layer];
	char a[FMT_CAP], b[FMT_CAP];
	bool on = p->layer_on[st->layer];

	h->group++;
	add(h, 1, ROLE_STRONG, "layer %s", say_layer(st->layer));
	if (!on) {
		add(h, 1, ROLE_WARN, "not observed");
		return;
	}
	if (!p->layer_on[LAYER_HEAP])
		add(h, 1, ROLE_WARN, "heap not observed");
	add(h, 1, ROLE_NORMAL, "live %s in %s", say_live(a, c, on), say_live_count(b, c, on));
	if (c->live_known)
		add(h, 5, ROLE_NORMAL, "peak %s", say_bytes(a, c->c.peak_live_bytes));
	add(h, 6, ROLE_NORMAL, "allocated %s", say_total(a, c, on));
	add(h, 6, ROLE_NORMAL, "%s/s", say_alloc_rate(a, c, on));
	for (int l = 0; l < LAYER_NR; l++)
		if (p->layer_on[l] && l != (int)st->layer)
			add(h, 7, ROLE_DIM, "Tab: %s", say_layer((enum layer)l));
	add_untracked_text(h, st->layer, c->c.untracked_count, c->c.untracked_bytes);
}

static void add_verdict(struct header *h, const struct leak_verdict *v)
{
	enum role role = v->verdict == VERDICT_LEAK ? ROLE_ALERT : ROLE_NORMAL;
	char a[FMT_CAP];

	if (v->verdict == VERDICT_UNKNOWN)
		return;
	add(h, 2, role, "verdict %s", verdict_name(v->verdict));
	if (isfinite(v->probability))
		add(h, 2, role, "probability %.2f", v->probability);
	if (isfinite(v->survivors_pct))
		add(h, 6, ROLE_NORMAL, "survivors %.0f%%", v->survivors_pct);
	if (isfinite(v->slope_r2))
		add(h, 7, ROLE_NORMAL, "R2 %.2f", v->slope_r2);
	add(h, 7, ROLE_NORMAL, "watched for %s", say_seconds(a, v->seen_s));
}

static void add_stack(struct header *h, const struct report_stack *s)
{
	char a[FMT_CAP], b[FMT_CAP], c[FMT_CAP], thread[THREAD_TEXT_CAP];

	h->group++;
	add(h, 1, ROLE_STRONG, "stack %lx", (unsigned long)s->stack_id);
	if (s->tid)
		add(h, 2, ROLE_NORMAL, "thread %s", say_thread(thread, s->tid, s->thread));
	add(h, 4, ROLE_NORMAL, "by %s", s->site ? s->site : "-");
	add(h, 2, ROLE_NORMAL, "live %s in %s", say_live(a, &s->counts, true), say_live_count(b, &s->counts, true));
	if (s->counts.live_known)
		add(h, 3, ROLE_NORMAL, "from base %s  %s/s", say_growth(a, (double)s->delta_bytes),
		    say_growth(b, s->growth_bytes_per_s));
	if (s->file_bytes)
		add(h, 6, ROLE_NORMAL, "of files %s", say_bytes(a, s->file_bytes));
	h->group++;
	add(h, 4, ROLE_NORMAL, "allocated %s in %s", say_total(a, &s->counts, true),
	    say_count(b, s->counts.c.alloc_count));
	add(h, 5, ROLE_NORMAL, "freed %s in %s", say_bytes(a, s->counts.c.free_bytes),
	    say_count(b, s->counts.c.free_count));
	add(h, 5, ROLE_NORMAL, "%s/s", say_alloc_rate(a, &s->counts, true));
	if (s->ages_known)
		add(h, 4, ROLE_NORMAL, "age of live blocks: median %s, 95%% %s, oldest %s",
		    say_seconds(a, s->age_p50_s), say_seconds(b, s->age_p95_s), say_seconds(c, s->age_max_s));
	add_verdict(h, &s->leak);
	add_untracked_text(h, LAYER_HEAP, s->counts.c.untracked_count, s->counts.c.untracked_bytes);
}

static void collect(struct header *h, const struct tui_state *st, const struct report *r)
{
	const struct report_proc *p = st->page == PAGE_PROCS ? NULL : tui_opened_proc(st, r);
	const struct report_stack *s = st->page == PAGE_FRAMES ? tui_opened_stack(st, r) : NULL;

	add_identity(h, st, r);
	add_cost(h, r);
	add_alerts(h, &st->alerts);
	h->group++;
	add_losses(h, p ? p->losses : r->self.losses);
	if (!p)
		add_untracked(h, r);
	add_facts(h, p ? p->losses : r->self.losses);
	if (p)
		add_proc(h, p);
	if (p && !s)
		add_layer(h, st, p);
	if (s)
		add_stack(h, s);
}

/* Places items one after another; draws them if there is a screen. Returns the number of lines. */
static int place(const struct header *h, struct screen *s, int width, int max_lines, wchar_t ellipsis)
{
	int x = 0, y = -1, group = -1;

	for (size_t i = 0; i < h->n; i++) {
		const struct item *it = &h->items[i];
		int columns = (int)text_columns(it->text);

		if (it->group != group || x + 2 + columns > width) {
			group = it->group;
			y++;
			x = 0;
		} else {
			x += 2;
		}
		if (s && y < max_lines)
			screen_put(s, x, y, width - x, it->role, ellipsis, it->text);
		x += columns;
	}
	return y + 1;
}

static bool drop_one(struct header *h)
{
	size_t worst = 0;

	for (size_t i = 1; i < h->n; i++)
		if (h->items[i].rank >= h->items[worst].rank)
			worst = i;
	if (!h->n || !h->items[worst].rank)
		return false;
	memmove(&h->items[worst], &h->items[worst + 1], (h->n - worst - 1) * sizeof(h->items[0]));
	h->n--;
	return true;
}

int tui_header(const struct tui_state *st, const struct report *r, struct screen *s, int width, int max_lines)
{
	_cleanup_(freep) struct header *h = xcalloc(1, sizeof(*h));
	int lines;

	if (max_lines <= 0)
		return 0;
	collect(h, st, r);
	while ((lines = place(h, NULL, width, 0, 0)) > max_lines)
		if (!drop_one(h))
			break;
	if (lines > max_lines)
		lines = max_lines;
	if (s)
		place(h, s, width, max_lines, st->utf8 ? L'\x2026' : L'>');
	return lines;
}
