/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON lines. The fields and their order of one line each; which rows there are and in what order is the report's decision.
 * Fields may be added here, never renamed or removed: scripts and dashboards read them.
 */
#include "view/view.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/clock.h"
#include "util/mem.h"
#include "view/jsonw.h"

#define FORMAT_VERSION 1

/* Decimal places. A process's start is known to a hundredth of a second; rates beyond a tenth are noise. */
enum { DECIMALS_TS = 6, DECIMALS_START = 2, DECIMALS_AGE = 3, DECIMALS_RATE = 1, DECIMALS_SHARE = 3 };

static const char *const layer_names[] = {
#define X(id, name) [LAYER_##id] = name,
	for_each_layer(X)
#undef X
};

static const char *const loss_names[] = {
#define X(id, name, text) [LOSS_##id] = name,
	for_each_loss(X)
#undef X
};

static const char *const cut_names[] = {
#define X(id, name) [CUT_##id] = name,
	for_each_cut(X)
#undef X
};
_Static_assert(ARRAY_SIZE(cut_names) == CUT_NR, "a reason without a name");

static const char *const mode_names[] = { [MODE_PAGES] = "pages", [MODE_EXACT] = "exact", [MODE_SAMPLED] = "sampled" };
static const char *const proc_state_names[] = { [PROC_RUNNING] = "running", [PROC_EXITED] = "exited" };
static const char *const alert_state_names[] = { [ALERT_FIRING] = "firing", [ALERT_RESOLVED] = "resolved" };

/* --- parts of lines --- */

static void begin_line(struct jsonw *w, const char *type, double ts)
{
	jsonw_object(w, NULL);
	jsonw_string(w, "type", type);
	jsonw_u64(w, "v", FORMAT_VERSION);
	jsonw_fixed(w, "ts", ts, DECIMALS_TS);
}

static void end_line(struct jsonw *w)
{
	jsonw_object_end(w);
	jsonw_line_end(w);
}

static void put_u64(struct jsonw *w, const char *key, uint64_t v, bool known)
{
	if (known && v != UNKNOWN_U64)
		jsonw_u64(w, key, v);
	else
		jsonw_null(w, key);
}

static void put_stack_id(struct jsonw *w, uint64_t id)
{
	char hex[17];

	snprintf(hex, sizeof(hex), "%016" PRIx64, id);
	jsonw_string(w, "stack_id", hex);
}

static void put_counts(struct jsonw *w, const struct report_counts *r)
{
	const struct counts *c = &r->c;
	bool live = r->live_known;

	put_u64(w, "live_bytes", c->live_bytes, live);
	jsonw_number(w, "live_bytes_se", live ? c->live_bytes_se : NAN, DECIMALS_RATE);
	put_u64(w, "live_count", c->live_count, live);
	put_u64(w, "peak_live_bytes", c->peak_live_bytes, live);
	put_u64(w, "alloc_bytes_total", c->alloc_bytes, true);
	jsonw_number(w, "alloc_bytes_total_se", c->alloc_bytes_se, DECIMALS_RATE);
	put_u64(w, "alloc_count_total", c->alloc_count, true);
	put_u64(w, "free_bytes_total", c->free_bytes, true);
	put_u64(w, "free_count_total", c->free_count, true);
	jsonw_number(w, "alloc_bytes_per_s", r->alloc_bytes_per_s, DECIMALS_RATE);
	jsonw_number(w, "allocs_per_s", r->allocs_per_s, DECIMALS_RATE);
	put_u64(w, "untracked_bytes", c->untracked_bytes, true);
	put_u64(w, "untracked_count", c->untracked_count, true);
}

/* Of pages: what a fork left to both, and one of them took a copy of to write on. */
static void put_copied(struct jsonw *w, const struct counts *c)
{
	put_u64(w, "cow_bytes", c->cow_bytes, true);
	jsonw_number(w, "cow_bytes_se", c->cow_bytes_se, DECIMALS_RATE);
}

static void put_losses(struct jsonw *w, const uint64_t losses[LOSS_NR])
{
	jsonw_object(w, "losses");
	for (int i = 0; i < LOSS_NR; i++)
		if (losses[i])
			jsonw_u64(w, loss_names[i], losses[i]);
	jsonw_object_end(w);
}

static void put_layer_names(struct jsonw *w, const bool on[LAYER_NR])
{
	jsonw_array(w, "layers");
	for (int l = 0; l < LAYER_NR; l++)
		if (on[l])
			jsonw_string(w, NULL, layer_names[l]);
	jsonw_array_end(w);
}

/* --- meta --- */

static void put_target(struct jsonw *w, const struct report_meta *meta)
{
	jsonw_object(w, "target");
	jsonw_string(w, "kind", meta->target_kind);
	jsonw_string(w, "text", meta->target_text);
	if (meta->target_kind && meta->target_text && !strcmp(meta->target_kind, "pid")) {
		const char *s = meta->target_text + strcspn(meta->target_text, "0123456789");
		char *end;

		jsonw_array(w, "pids");
		for (; *s; s = end + strcspn(end, "0123456789"))
			jsonw_u64(w, NULL, strtoull(s, &end, 10));
		jsonw_array_end(w);
	}
	jsonw_object_end(w);
}

static int json_begin(FILE *out, const struct report_meta *meta)
{
	struct jsonw w;

	jsonw_init(&w, out);
	begin_line(&w, "meta", meta->start_ts);
	jsonw_string(&w, "tool", meta->tool);
	jsonw_string(&w, "version", meta->version);
	jsonw_string(&w, "run_id", meta->run_id);
	jsonw_string(&w, "host", meta->host);
	jsonw_string(&w, "kernel", meta->kernel);
	jsonw_fixed(&w, "start_ts", meta->start_ts, DECIMALS_TS);
	jsonw_number(&w, "interval_s", meta->interval_s, DECIMALS_TS);
	jsonw_string(&w, "mode", meta->mode);
	jsonw_number(&w, "budget_pct", meta->budget_pct, DECIMALS_SHARE);
	jsonw_u64(&w, "sample_bytes", meta->sample_bytes);
	put_layer_names(&w, meta->layer_on);
	put_target(&w, meta);
	put_u64(&w, "map_memory_bytes", meta->map_memory_bytes, true);
	end_line(&w);
	return jsonw_done(&w);
}

/* --- proc --- */

static void put_resident(struct jsonw *w, const struct report_proc *p)
{
	put_u64(w, "rss_bytes", p->rss_bytes, true);
	put_u64(w, "anon_bytes", p->anon_bytes, true);
	put_u64(w, "file_bytes", p->file_bytes, true);
	put_u64(w, "shmem_bytes", p->shmem_bytes, true);
	put_u64(w, "swap_bytes", p->swap_bytes, true);
	put_u64(w, "limit_bytes", p->limit_bytes, true);
	jsonw_number(w, "limit_eta_s", p->limit_eta_s, DECIMALS_RATE);
	jsonw_number(w, "growth_bytes_per_s", p->growth_bytes_per_s, DECIMALS_RATE);
}

static void put_proc(struct jsonw *w, const struct report *r, const struct report_proc *p)
{
	begin_line(w, "proc", r->ts);
	jsonw_u64(w, "pid", p->id.pid);
	jsonw_fixed(w, "start_ts", p->start_ts, DECIMALS_START);
	jsonw_u64(w, "ppid", p->ppid);
	jsonw_string(w, "comm", p->comm);
	jsonw_string(w, "cmdline", p->cmdline);
	jsonw_string(w, "cgroup", p->cgroup);
	jsonw_string(w, "python", p->python);
	jsonw_string(w, "python_unsupported", p->python_refused);
	jsonw_string(w, "python_allocator", p->py_allocator);
	jsonw_number(w, "python_coverage", p->py_allocator ? p->py_coverage : NAN, DECIMALS_SHARE);
	jsonw_string(w, "state", proc_state_names[p->state]);
	jsonw_string(w, "mode", mode_names[p->mode]);
	jsonw_number(w, "attached_share", p->attached_share, DECIMALS_SHARE);
	jsonw_number(w, "overhead_pct", p->overhead_pct, DECIMALS_SHARE);
	jsonw_string(w, "lever", p->lever);
	put_resident(w, p);
	jsonw_object(w, "layers");
	for (int l = 0; l < LAYER_NR; l++)
		if (p->layer_on[l]) {
			jsonw_object(w, layer_names[l]);
			put_counts(w, &p->layers[l]);
			if (l == LAYER_PAGE) {
				put_copied(w, &p->layers[l].c);
				put_u64(w, "given_back_bytes", p->given_back_bytes, p->faults_counted);
			}
			jsonw_object_end(w);
		}
	jsonw_object_end(w);
	put_losses(w, p->losses);
	end_line(w);
}

/* --- stack and group --- */

/* What every line about a part of a process begins with. */
static void begin_part(struct jsonw *w, const char *type, const struct report *r, const struct report_proc *p,
		       enum layer layer)
{
	begin_line(w, type, r->ts);
	jsonw_u64(w, "pid", p->id.pid);
	jsonw_fixed(w, "start_ts", p->start_ts, DECIMALS_START);
	jsonw_string(w, "layer", layer_names[layer]);
}

static void put_thread(struct jsonw *w, uint32_t tid, const char *name)
{
	put_u64(w, "tid", tid, tid != 0);
	jsonw_string(w, "thread", tid ? name : NULL);
}

static void put_leak(struct jsonw *w, const struct leak_verdict *v)
{
	if (v->verdict == VERDICT_UNKNOWN) {
		jsonw_null(w, "leak");
		return;
	}
	jsonw_object(w, "leak");
	jsonw_string(w, "verdict", verdict_name(v->verdict));
	jsonw_number(w, "probability", v->probability, DECIMALS_SHARE);
	jsonw_number(w, "growth_bytes_per_s", v->growth_bytes_per_s, DECIMALS_RATE);
	jsonw_number(w, "survivors_pct", v->survivors_pct, DECIMALS_RATE);
	jsonw_number(w, "slope_r2", v->slope_r2, DECIMALS_SHARE);
	jsonw_number(w, "seen_s", v->seen_s, DECIMALS_RATE);
	jsonw_object_end(w);
}

static void put_frame(struct jsonw *w, const struct sym_frame *f)
{
	if (jsonw_again(w, f))
		return;
	size_t from = jsonw_here(w);
	jsonw_object(w, NULL);
	jsonw_string(w, "name", f->name);
	jsonw_string(w, "file", f->file);
	put_u64(w, "line", f->line, f->line != 0);
	jsonw_string(w, "module", f->module);
	jsonw_string(w, "build_id", f->build_id && *f->build_id ? f->build_id : NULL);
	put_u64(w, "offset", f->offset, f->kind != FRAME_PYTHON);
	jsonw_string(w, "kind", frame_kind_name(f->kind));
	jsonw_bool(w, "inlined", f->inlined);
	jsonw_object_end(w);
	jsonw_remember(w, f, from);
}

/* Of mappings: how much of what is live maps files. */
static void put_map_detail(struct jsonw *w, const struct report_stack *s)
{
	uint64_t live = s->counts.c.live_bytes, file = s->file_bytes;
	bool known = s->counts.live_known && live != UNKNOWN_U64 && file <= live;

	jsonw_object(w, "detail");
	put_u64(w, "file_bytes", file, known);
	put_u64(w, "anon_bytes", live - file, known);
	jsonw_object_end(w);
}

static void put_stack(struct jsonw *w, const struct report *r, const struct report_proc *p,
		      const struct report_stack *s)
{
	begin_part(w, "stack", r, p, s->layer);
	put_stack_id(w, s->stack_id);
	if (r->query->by_thread)
		put_thread(w, s->tid, s->thread);
	jsonw_string(w, "site", s->site);
	put_counts(w, &s->counts);
	if (s->layer == LAYER_PAGE)
		put_copied(w, &s->counts.c);
	if (s->layer == LAYER_MAP)
		put_map_detail(w, s);
	jsonw_number(w, "age_p50_s", s->ages_known ? s->age_p50_s : NAN, DECIMALS_AGE);
	jsonw_number(w, "age_p95_s", s->ages_known ? s->age_p95_s : NAN, DECIMALS_AGE);
	jsonw_number(w, "age_max_s", s->ages_known ? s->age_max_s : NAN, DECIMALS_AGE);
	/* Whole in all its parts: frames of Python that are missing are missing from the stack. */
	enum stack_cut cut = s->cut == CUT_NONE ? s->python_cut : s->cut;
	jsonw_bool(w, "complete", cut == CUT_NONE);
	jsonw_string(w, "cut", cut == CUT_NONE ? NULL : cut_names[cut]);
	if (s->has_python || s->python_cut)
		jsonw_bool(w, "python_complete", !s->python_cut);
	else
		jsonw_null(w, "python_complete");
	put_leak(w, &s->leak);
	jsonw_array(w, "frames");
	for (size_t i = 0; i < s->n_frames; i++)
		put_frame(w, s->frames[i]);
	jsonw_array_end(w);
	end_line(w);
}

static void put_group(struct jsonw *w, const struct report *r, const struct report_proc *p,
		      const struct report_group *g)
{
	begin_part(w, "group", r, p, g->layer);
	jsonw_string(w, "by", group_by_name(r->query->group));
	jsonw_string(w, "name", g->name);
	if (r->query->group == GROUP_THREAD)
		put_thread(w, g->tid, g->thread);
	jsonw_u64(w, "stacks", g->n_stacks);
	put_counts(w, &g->counts);
	if (g->layer == LAYER_PAGE)
		put_copied(w, &g->counts.c);
	end_line(w);
}

/* --- alert and tick --- */

static void put_alert(struct jsonw *w, const struct report *r, const struct alert *a)
{
	begin_line(w, "alert", r->ts);
	jsonw_string(w, "kind", a->kind);
	jsonw_string(w, "severity", a->severity);
	jsonw_u64(w, "pid", a->id.pid);
	jsonw_fixed(w, "start_ts", report_start_ts(r->meta, &a->id), DECIMALS_START);
	jsonw_string(w, "comm", a->comm);
	jsonw_string(w, "message", a->message);
	jsonw_string(w, "layer", layer_names[a->layer]);
	if (a->stack_id)
		put_stack_id(w, a->stack_id);
	else
		jsonw_null(w, "stack_id");
	if (r->query->by_thread)
		put_u64(w, "tid", a->tid, a->stack_id && a->tid);
	put_u64(w, "live_bytes", a->live_bytes, true);
	jsonw_number(w, "growth_bytes_per_s", a->growth_bytes_per_s, DECIMALS_RATE);
	jsonw_object(w, "evidence");
	jsonw_u64(w, "checks", a->checks);
	put_u64(w, "bytes_before", a->bytes_before, true);
	put_u64(w, "bytes_now", a->bytes_now, true);
	put_u64(w, "old_live_bytes", a->old_live_bytes, true);
	jsonw_object_end(w);
	jsonw_fixed(w, "first_seen_ts", a->first_seen_ts, DECIMALS_TS);
	jsonw_string(w, "state", alert_state_names[a->state]);
	end_line(w);
}

static void put_maps(struct jsonw *w, const struct snap_self *self)
{
	jsonw_array(w, "maps");
	for (size_t i = 0; i < self->n_maps; i++) {
		jsonw_object(w, NULL);
		jsonw_string(w, "name", self->maps[i].name);
		put_u64(w, "entries", self->maps[i].entries, true);
		put_u64(w, "capacity", self->maps[i].capacity, true);
		put_u64(w, "bytes", self->maps[i].bytes, true);
		jsonw_object_end(w);
	}
	jsonw_array_end(w);
}

/* How stacks were taken since the tick before: a repeated one was proved equal to one that was known. */
static void put_stack_stat(struct jsonw *w, const struct stack_stat *s)
{
	jsonw_object(w, "stacks");
	jsonw_u64(w, "taken", s->taken);
	jsonw_u64(w, "repeated", s->repeated);
	jsonw_u64(w, "unwound", s->unwound);
	jsonw_u64(w, "defined", s->defined);
	jsonw_number(w, "repeated_pct", s->taken ? 100.0 * (double)s->repeated / (double)s->taken : NAN, DECIMALS_RATE);
	jsonw_u64(w, "python_taken", s->python_taken);
	jsonw_u64(w, "python_repeated", s->python_repeated);
	jsonw_u64(w, "python_defined", s->python_defined);
	jsonw_u64(w, "python_foreign", s->python_foreign);
	jsonw_object(w, "cut");
	for (size_t i = CUT_NONE + 1; i < CUT_NR; i++)
		if (s->cut[i])
			jsonw_u64(w, cut_names[i], s->cut[i]);
	jsonw_object_end(w);
	jsonw_object_end(w);
}

static void put_tick(struct jsonw *w, const struct report *r)
{
	const struct snap_self *self = &r->self;

	begin_line(w, "tick", r->ts);
	jsonw_u64(w, "n", r->n);
	jsonw_u64(w, "procs", r->n_procs);
	jsonw_object(w, "self");
	jsonw_number(w, "cpu_pct", self->cpu_pct, DECIMALS_SHARE);
	put_u64(w, "rss_bytes", self->rss_bytes, true);
	jsonw_number(w, "hits_per_s", self->hits_per_s, DECIMALS_RATE);
	jsonw_number(w, "foreign_hits_per_s", self->foreign_hits_per_s, DECIMALS_RATE);
	jsonw_string(w, "probe_scope", self->probe_scope);
	jsonw_number(w, "target_overhead_pct", self->target_overhead_pct, DECIMALS_SHARE);
	jsonw_number(w, "budget_pct", r->meta->budget_pct, DECIMALS_SHARE);
	jsonw_number(w, "body_ns", self->body_ns, DECIMALS_RATE);
	jsonw_number(w, "attached_share", self->attached_share, DECIMALS_SHARE);
	put_stack_stat(w, &self->stack_stat);
	put_maps(w, self);
	put_losses(w, self->losses);
	jsonw_object_end(w);
	end_line(w);
}

static int json_show(FILE *out, const struct report *r)
{
	struct jsonw w;

	jsonw_init(&w, out);
	for (size_t i = 0; i < r->n_procs; i++)
		put_proc(&w, r, &r->procs[i]);
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; k < r->procs[i].n_stacks; k++)
			put_stack(&w, r, &r->procs[i], &r->procs[i].stacks[k]);
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; k < r->procs[i].n_groups; k++)
			put_group(&w, r, &r->procs[i], &r->procs[i].groups[k]);
	for (size_t i = 0; i < r->n_alerts; i++)
		put_alert(&w, r, &r->alerts[i]);
	put_tick(&w, r);
	return jsonw_done(&w);
}

static int json_end(FILE *out, const struct report_meta *meta, enum end_reason reason, int exit_code)
{
	struct jsonw w;

	(void)meta; /* the line is about the run's end, and says all of it */
	jsonw_init(&w, out);
	begin_line(&w, "end", unix_seconds());
	jsonw_string(&w, "reason", end_reason_name(reason));
	jsonw_u64(&w, "exit_code", (uint64_t)exit_code);
	end_line(&w);
	return jsonw_done(&w);
}

const struct view view_json = {
	.format = "json",
	.begin = json_begin,
	.show = json_show,
	.end = json_end,
};
