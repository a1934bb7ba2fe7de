/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The report against models made by hand. Names come from a table here, not from files: sym_resolve is replaced. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/arena.h"
#include "util/mem.h"
#include "view/report.h"
#include "view/stack_dict.h"

/* --- names: a frame's address is its row --- */

enum { AT_MAIN, AT_LOAD, AT_PYTHON_C, AT_SETTLED };

static const struct sym_frame names[] = {
	[AT_MAIN] = { .name = "main", .file = "/src/app/main.c", .line = 12, .module = "/srv/app" },
	[AT_LOAD] = { .name = "load_table", .module = "/srv/app" },
	[AT_PYTHON_C] = { .name = "_PyEval_EvalFrameDefault", .module = "/usr/bin/python3.11" },
	[AT_SETTLED] = { .name = "settled", .module = "/srv/app", .final = true, .settled = true },
};

static unsigned resolved;

size_t sym_resolve(struct sym *s, const struct snap_frame *f, const struct sym_frame **ret)
{
	/* One buffer for all, as sym may reuse its own: who keeps the pointer reads the next frame's name. What is final stays. */
	static struct sym_frame buf;

	assert_null(s);
	resolved++;
	buf = names[f->addr];
	*ret = buf.final ? &names[f->addr] : &buf;
	return 1;
}

/* No module is known. */
const char *sym_module_path(const struct sym *s, uint32_t module)
{
	assert_null(s);
	(void)module;
	return NULL;
}

/* --- a world made by hand; everything in it dies with world_done, but for the dictionary and the query --- */

struct world {
	struct arena *arena;
	struct snapshot snap;
	struct model model;
	struct model_proc *procs;
	struct alert *alerts;
	struct stack_dict *dict;
	struct query query;
	struct report_meta meta;
};

#define MAX_PROCS 4
#define MAX_STACKS 8

static void world_init(struct world *w)
{
	*w = (struct world){ .arena = arena_new(), .dict = stack_dict_new() };
	w->procs = arena_alloc(w->arena, MAX_PROCS, sizeof(*w->procs));
	w->alerts = arena_alloc(w->arena, 2, sizeof(*w->alerts));
	w->snap = (struct snapshot){ .n = 3, .ts = 1000.5 };
	w->model = (struct model){ .snap = &w->snap, .procs = w->procs, .alerts = w->alerts };
	w->query = (struct query){ .proc_sort = SORT_RSS, .stack_sort = SORT_LIVE };
	for (int l = 0; l < LAYER_NR; l++)
		w->query.layer_on[l] = true;
	w->meta = (struct report_meta){ .boot_ts = 5000, .start_ts = 900 };
}

static void world_forget_model(struct world *w)
{
	arena_free(w->arena);
	w->arena = NULL;
}

static void world_done(struct world *w)
{
	world_forget_model(w);
	stack_dict_free(w->dict);
}

static struct model_proc *add_proc(struct world *w, uint32_t pid, const char *comm)
{
	struct snap_proc *s = arena_alloc(w->arena, 1, sizeof(*s));
	struct model_proc *p = &w->procs[w->model.n_procs++];

	assert_true(w->model.n_procs <= MAX_PROCS);
	*s = (struct snap_proc){ .id = { .start_ticks = 12345, .pid = pid },
				 .comm = arena_strdup(w->arena, comm),
				 .cmdline = arena_printf(w->arena, "/usr/bin/%s --flag", comm),
				 .rss_bytes = 100 };
	*p = (struct model_proc){ .snap = s,
				  .growth_bytes_per_s = NAN,
				  .limit_eta_s = NAN,
				  .stacks = arena_alloc(w->arena, MAX_STACKS, sizeof(*p->stacks)) };
	p->layers[LAYER_PAGE].on = p->layers[LAYER_MAP].on = p->layers[LAYER_HEAP].on = true;
	return p;
}

static struct snap_proc *snap_of(struct model_proc *p)
{
	return (struct snap_proc *)p->snap;
}

static struct snap_stack *add_stack(struct world *w, struct model_proc *p, enum layer layer, uint64_t id, uint64_t live)
{
	struct snap_stack *s = arena_alloc(w->arena, 1, sizeof(*s));

	assert_true(p->n_stacks < MAX_STACKS);
	*s = (struct snap_stack){
		.id = p->snap->id, .stack_id = id, .layer = layer, .counts = { .live_bytes = live, .alloc_bytes = live }
	};
	((struct model_stack *)p->stacks)[p->n_stacks++] = (struct model_stack){ .snap = s, .growth_bytes_per_s = NAN };
	return s;
}

/* Defines a stack by its rows, leaf first; -1 ends them. */
static void define(struct world *w, uint64_t id, const char *site, ...)
{
	struct snap_frame frames[16];
	struct snap_stackdef def = { .stack_id = id, .site = site, .complete = true, .frames = frames };
	va_list ap;

	va_start(ap, site);
	for (int at; (at = va_arg(ap, int)) >= 0;)
		frames[def.n_frames++] = (struct snap_frame){ .addr = (uint64_t)at };
	va_end(ap);
	stack_dict_add(w->dict, &def, 1);
}

static void add_alert(struct world *w, const struct model_proc *p, uint64_t stack_id, const char *message)
{
	w->alerts[w->model.n_alerts++] = (struct alert){ .kind = "leak",
							 .severity = "critical",
							 .id = p->snap->id,
							 .comm = p->snap->comm,
							 .stack_id = stack_id,
							 .message = arena_strdup(w->arena, message) };
}

static struct report *build(struct world *w)
{
	struct report *r = NULL;

	assert_int_equal(report_build(&w->model, &w->meta, &w->query, NULL, w->dict, &r), 0);
	assert_non_null(r);
	return r;
}

static void assert_pids(struct world *w, enum sort_key key, const uint32_t *pids)
{
	w->query.proc_sort = key;
	struct report *r = build(w);

	assert_int_equal(r->n_procs, w->model.n_procs);
	for (size_t i = 0; i < r->n_procs; i++)
		assert_int_equal(r->procs[i].id.pid, pids[i]);
	report_free(r);
}

/* --- order and limits --- */

static void procs_are_sorted(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	for (uint32_t pid = 4; pid >= 1; pid--)
		add_proc(&w, pid, "p");
	w.procs[0].growth_bytes_per_s = -5; /* pid 4 */
	w.procs[2].growth_bytes_per_s = 5;  /* pid 2 */
	assert_pids(&w, SORT_GROWTH, (uint32_t[]){ 2, 4, 1, 3 });
	snap_of(&w.procs[1])->rss_bytes = 300;	       /* pid 3 */
	snap_of(&w.procs[3])->rss_bytes = UNKNOWN_U64; /* pid 1: the largest number there is, and unknown */
	assert_pids(&w, SORT_RSS, (uint32_t[]){ 3, 2, 4, 1 });
	world_done(&w);
}

static void like_is_compared_with_like(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *mapped = add_proc(&w, 1, "mapped"), *heap = add_proc(&w, 2, "heap");
	mapped->layers[LAYER_HEAP].on = false;
	mapped->layers[LAYER_MAP].counts.live_bytes = 1000;
	heap->layers[LAYER_HEAP].counts.live_bytes = 5;
	assert_pids(&w, SORT_LIVE, (uint32_t[]){ 2, 1 });
	w.query.layer_on[LAYER_HEAP] = false;
	assert_pids(&w, SORT_LIVE, (uint32_t[]){ 1, 2 });
	world_done(&w);
}

static void assert_stacks(struct world *w, enum sort_key key, const uint64_t ids[4])
{
	w->query.stack_sort = key;
	struct report *r = build(w);

	assert_int_equal(r->procs[0].n_stacks, 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(r->procs[0].stacks[i].stack_id, ids[i]);
	report_free(r);
}

static void stacks_are_sorted_in_their_layer(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	struct snap_stack *old = add_stack(&w, p, LAYER_HEAP, 0x12, 10);
	add_stack(&w, p, LAYER_HEAP, 0x22, 20);
	add_stack(&w, p, LAYER_MAP, 0x11, 1);
	add_stack(&w, p, LAYER_HEAP, 0x32, 20)->counts.alloc_bytes = 21; /* of equals the one that allocated more */
	old->ages_known = true;
	old->age_p50_s = 1;
	assert_stacks(&w, SORT_LIVE, (uint64_t[]){ 0x11, 0x32, 0x22, 0x12 });
	assert_stacks(&w, SORT_AGE, (uint64_t[]){ 0x11, 0x12, 0x32, 0x22 }); /* unknown ages last */
	world_done(&w);
}

static void limit_is_per_process_and_layer(void **state)
{
	static const struct {
		size_t limit, shown;
	} rows[] = { { 1, 2 }, { 2, 4 }, { 3, 5 }, { 0, 5 }, { 50, 5 } };
	struct world w;

	(void)state;
	world_init(&w);
	for (uint32_t pid = 1; pid <= 2; pid++) {
		struct model_proc *p = add_proc(&w, pid, "p");
		for (uint64_t i = 1; i <= 3; i++)
			add_stack(&w, p, LAYER_HEAP, i << 4 | LAYER_HEAP, i);
		for (uint64_t i = 1; i <= 2; i++)
			add_stack(&w, p, LAYER_MAP, i << 4 | LAYER_MAP, i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		w.query.limit = rows[i].limit;
		struct report *r = build(&w);
		for (size_t k = 0; k < 2; k++) {
			assert_int_equal(r->procs[k].n_stacks, rows[i].shown);
			assert_int_equal(r->procs[k].n_stacks_total, 5);
			assert_int_equal(r->procs[k].stacks[0].stack_id, 2 << 4 | LAYER_MAP); /* the largest stays */
		}
		report_free(r);
	}
	world_done(&w);
}

static void only_the_opened_process_has_all_its_stacks(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	for (uint32_t pid = 1; pid <= 2; pid++) {
		struct model_proc *p = add_proc(&w, pid, "p");
		for (uint64_t i = 1; i <= 3; i++)
			add_stack(&w, p, LAYER_HEAP, i << 4 | LAYER_HEAP, i);
		for (uint64_t i = 1; i <= 2; i++)
			add_stack(&w, p, LAYER_MAP, i << 4 | LAYER_MAP, i);
	}
	define(&w, 2 << 4 | LAYER_MAP, "mmap", AT_SETTLED, AT_SETTLED, -1);
	w.query.only_opened = true;
	for (uint32_t pid = 0; pid <= 2; pid++) { /* 0: none is opened */
		w.query.opened = pid ? w.procs[pid - 1].snap->id : (struct proc_key){ 0 };
		struct report *r = build(&w);
		for (size_t k = 0; k < 2; k++) {
			bool is_opened = r->procs[k].id.pid == pid;
			assert_int_equal(r->procs[k].n_stacks, is_opened ? 5 : 2);
			assert_int_equal(r->procs[k].n_stacks_total, 5);
			assert_int_equal(r->procs[k].stacks[0].stack_id, 2 << 4 | LAYER_MAP);
			/* Of the others a row has one line. */
			assert_string_equal(r->procs[k].stacks[0].summary, "settled");
			assert_int_equal(r->procs[k].stacks[0].n_frames, is_opened ? 2 : 0);
		}
		report_free(r);
	}
	world_done(&w);
}

static void layers_not_asked_for_are_left_out(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	add_stack(&w, p, LAYER_HEAP, 0x12, 1);
	add_stack(&w, p, LAYER_MAP, 0x11, 1);
	w.query.layer_on[LAYER_MAP] = false;
	struct report *r = build(&w);
	assert_int_equal(r->procs[0].n_stacks, 1);
	assert_int_equal(r->procs[0].n_stacks_total, 1);
	assert_int_equal(r->procs[0].stacks[0].layer, LAYER_HEAP);
	assert_false(r->procs[0].layer_on[LAYER_MAP]);
	assert_true(r->procs[0].layer_on[LAYER_HEAP]);
	assert_false(r->procs[0].layer_on[LAYER_PYTHON]); /* asked for, not observed */
	report_free(r);
	world_done(&w);
}

static void filter_keeps_what_matches(void **state)
{
	static const struct {
		const char *filter;
		size_t n;
		uint32_t pid;
	} rows[] = {
		{ "", 2, 1 },	      { "redis", 1, 1 },   { "/bin/nginx --fl", 1, 2 },
		{ "load_tab", 1, 2 }, { "no such", 0, 0 }, { "--flag", 2, 1 },
	};
	struct world w;

	(void)state;
	world_init(&w);
	add_proc(&w, 1, "redis");
	add_stack(&w, add_proc(&w, 2, "nginx"), LAYER_HEAP, 0x12, 1);
	define(&w, 0x12, "malloc", AT_MAIN, AT_LOAD, -1);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(w.query.filter, sizeof(w.query.filter), "%s", rows[i].filter);
		struct report *r = build(&w);
		assert_int_equal(r->n_procs, rows[i].n);
		if (r->n_procs)
			assert_int_equal(r->procs[0].id.pid, rows[i].pid);
		report_free(r);
	}
	world_done(&w);
}

/* --- frames, sites, summaries --- */

/* What frames are shown is view/frames' affair; here: that the row has them, and what is known of the stack. */
static void rows_have_frames(void **state)
{
	static const struct snap_frame native[] = { { .addr = AT_PYTHON_C, .eval = EVAL_LOOP }, { .addr = AT_MAIN } };
	static const struct snap_pyframe python[] = { { "App.load", "/srv/app.py", 7, true } };
	const struct snap_stackdef defs[] = {
		{ .stack_id = 0x12,
		  .site = "malloc",
		  .complete = true,
		  .n_frames = 2,
		  .frames = native,
		  .n_python = 1,
		  .python = python,
		  .python_cut = true },
		{ .stack_id = 0x22, .site = "malloc", .cut = CUT_RULE, .n_frames = 2, .frames = native },
		{ .stack_id = 0x32, .site = "malloc", .cut = 200 }, /* of a recording made by a newer version */
	};
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	for (size_t i = 0; i < ARRAY_SIZE(defs); i++)
		add_stack(&w, p, LAYER_HEAP, defs[i].stack_id, 3 - i);
	stack_dict_add(w.dict, defs, ARRAY_SIZE(defs));
	struct report *r = build(&w);
	const struct report_stack *s = r->procs[0].stacks;
	assert_int_equal(s[0].n_frames, 2);
	assert_string_equal(s[0].frames[0]->name, "App.load");
	assert_string_equal(s[0].summary, "App.load app.py:7");
	assert_true(s[0].complete && s[0].has_python && s[0].python_cut);
	assert_int_equal(s[0].cut, CUT_NONE);
	assert_string_equal(s[1].frames[0]->name, "_PyEval_EvalFrameDefault");
	assert_true(!s[1].complete && !s[1].has_python);
	assert_int_equal(s[1].cut, CUT_RULE);
	assert_int_equal(s[2].cut, CUT_UNKNOWN);
	assert_string_equal(s[2].summary, "malloc");
	report_free(r);
	world_done(&w);
}

/* One stack, two threads: two rows, each found by its alert. */
static void threads_are_rows_of_their_own(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	struct snap_stack *a = add_stack(&w, p, LAYER_HEAP, 0x12, 5), *b = add_stack(&w, p, LAYER_HEAP, 0x12, 5);
	a->tid = 11;
	b->tid = 10;
	b->thread = arena_strdup(w.arena, "worker");
	define(&w, 0x12, "malloc", AT_MAIN, -1);
	add_alert(&w, p, 0x12, "p grew");
	w.alerts[0].tid = 11;
	w.query.by_thread = true;
	w.query.limit = 1;
	struct report *r = build(&w);
	world_forget_model(&w);
	assert_int_equal(r->procs[0].n_stacks, 2); /* the limit lets one in, the alert the other */
	assert_int_equal(r->procs[0].stacks[0].tid, 10);
	assert_string_equal(r->procs[0].stacks[0].thread, "worker");
	assert_int_equal(r->procs[0].stacks[1].tid, 11);
	assert_null(r->procs[0].stacks[1].thread);
	assert_int_equal(r->alerts[0].stack_id, 0x12);
	report_free(r);
	world_done(&w);
}

static void groups_are_made_when_asked_for(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	for (uint64_t i = 1; i <= 3; i++)
		add_stack(&w, p, LAYER_HEAP, i << 4 | LAYER_HEAP, i);
	add_stack(&w, p, LAYER_MAP, 0x11, 100);
	define(&w, 0x12, "malloc", AT_MAIN, -1);
	define(&w, 0x22, "malloc", AT_MAIN, AT_LOAD, -1);
	w.query.layer_on[LAYER_MAP] = false;
	w.query.limit = 2;
	struct report *r = build(&w);
	assert_int_equal(r->procs[0].n_groups, 0);
	report_free(r);
	w.query.group = GROUP_FUNCTION;
	r = build(&w);
	assert_int_equal(r->procs[0].n_groups, 2);
	assert_int_equal(r->procs[0].n_stacks, 2); /* are there as before, and limited; groups count all */
	assert_string_equal(r->procs[0].groups[0].name, "[unknown]");
	assert_string_equal(r->procs[0].groups[1].name, "main");
	assert_int_equal(r->procs[0].groups[1].counts.c.live_bytes, 3);
	assert_int_equal(r->procs[0].groups[1].n_stacks, 2);
	report_free(r);
	world_done(&w);
}

static void unknown_stack_is_shown_without_frames(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	add_stack(&w, add_proc(&w, 1, "p"), LAYER_HEAP, 0x2, 77);
	struct report *r = build(&w);
	const struct report_stack *s = &r->procs[0].stacks[0];
	assert_int_equal(s->counts.c.live_bytes, 77);
	assert_int_equal(s->n_frames, 0);
	assert_false(s->complete);
	assert_null(s->site);
	assert_non_null(s->summary);
	report_free(r);
	world_done(&w);
}

/* --- what is not known --- */

static void pages_of_a_stack_are_not_known_to_live(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	add_stack(&w, p, LAYER_PAGE, 0x20, 1);
	add_stack(&w, p, LAYER_PAGE, 0x10, 4096)->counts.live_bytes = UNKNOWN_U64;
	p->layers[LAYER_PAGE].counts = (struct counts){ .live_bytes = 100, .live_count = UNKNOWN_U64 };
	struct report *r = build(&w);
	assert_true(r->procs[0].layers[LAYER_PAGE].live_known);
	assert_int_equal(r->procs[0].layers[LAYER_PAGE].c.live_bytes, 100);
	assert_int_equal(r->procs[0].layers[LAYER_PAGE].c.live_count, UNKNOWN_U64);
	for (size_t i = 0; i < 2; i++)
		assert_false(r->procs[0].stacks[i].counts.live_known);
	assert_int_equal(r->procs[0].stacks[0].stack_id, 0x10); /* ordered by what is known: what it allocated */
	report_free(r);
	world_done(&w);
}

static void live_is_unknown_where_returns_are_not_seen(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	add_stack(&w, p, LAYER_HEAP, 0x12, 0);
	snap_of(p)->live_unknown = true;
	struct report *r = build(&w);
	assert_false(r->procs[0].layers[LAYER_HEAP].live_known);
	assert_false(r->procs[0].stacks[0].counts.live_known);
	assert_true(r->procs[0].layers[LAYER_MAP].live_known); /* counted at system calls */
	report_free(r);
	world_done(&w);
}

static void start_is_boot_and_ticks(void **state)
{
	struct report_meta meta = { .boot_ts = 5000 };
	const struct proc_key id = { .start_ticks = 12345 };

	(void)state;
	assert_true(fabs(report_start_ts(&meta, &id) - 5123.45) < 1e-9);
	meta.boot_ts = 0;
	assert_true(isnan(report_start_ts(&meta, &id)));
}

/* --- alerts --- */

static void an_alerts_stack_is_shown_over_the_limit(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	for (uint64_t i = 1; i <= 4; i++)
		add_stack(&w, p, LAYER_HEAP, i << 4 | LAYER_HEAP, i);
	define(&w, 0x12, "malloc", AT_MAIN, -1);
	add_alert(&w, p, 0x12, "p grew in 3 checks");
	add_alert(&w, p, 0x992, "p grew"); /* a stack that is no longer there */
	w.query.limit = 2;
	struct report *r = build(&w);
	assert_int_equal(r->procs[0].n_stacks, 3);
	assert_int_equal(r->procs[0].stacks[2].stack_id, 0x12);
	assert_int_equal(r->n_alerts, 2);
	assert_string_equal(r->alerts[0].message, "p grew in 3 checks, allocated by main main.c:12");
	assert_int_equal(r->alerts[0].stack_id, 0x12);
	assert_string_equal(r->alerts[1].message, "p grew");
	assert_int_equal(r->alerts[1].stack_id, 0);
	report_free(r);

	w.alerts[0].state = ALERT_RESOLVED;
	r = build(&w);
	assert_string_equal(r->alerts[0].message, "p grew in 3 checks");
	assert_int_equal(r->alerts[0].stack_id, 0x12);
	report_free(r);
	world_done(&w);
}

static void alerts_follow_the_filter(void **state)
{
	const struct snap_proc gone = { .id = { .start_ticks = 1, .pid = 77 }, .comm = "gone" };
	const struct model_proc not_in_model = { .snap = &gone };
	struct world w;

	(void)state;
	world_init(&w);
	add_alert(&w, add_proc(&w, 1, "hidden"), 0, "hidden grew");
	add_alert(&w, &not_in_model, 0, "resolved: it is gone");
	snprintf(w.query.filter, sizeof(w.query.filter), "nothing");
	struct report *r = build(&w);
	assert_int_equal(r->n_procs, 0);
	assert_int_equal(r->n_alerts, 1);
	assert_string_equal(r->alerts[0].comm, "gone");
	report_free(r);
	world_done(&w);
}

/* --- ownership --- */

static void report_outlives_model_and_snapshot(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct snap_map *maps = arena_alloc(w.arena, 1, sizeof(*maps));
	maps->name = arena_strdup(w.arena, "live");
	w.snap.self = (struct snap_self){ .maps = maps, .n_maps = 1 };
	struct model_proc *p = add_proc(&w, 1, "redis");
	snap_of(p)->cgroup = arena_strdup(w.arena, "/web");
	add_stack(&w, p, LAYER_HEAP, 0x12, 1);
	define(&w, 0x12, "malloc", AT_MAIN, -1);
	add_alert(&w, p, 0, "grew");
	struct report *r = build(&w);
	world_forget_model(&w);
	assert_string_equal(r->procs[0].comm, "redis");
	assert_string_equal(r->procs[0].cmdline, "/usr/bin/redis --flag");
	assert_string_equal(r->procs[0].cgroup, "/web");
	assert_null(r->procs[0].python);
	assert_string_equal(r->procs[0].stacks[0].site, "malloc");
	assert_string_equal(r->alerts[0].comm, "redis");
	assert_string_equal(r->alerts[0].message, "grew");
	assert_string_equal(r->self.maps[0].name, "live");
	assert_int_equal(r->n, 3);
	assert_true(r->ts == 1000.5);
	report_free(r);
	report_free(NULL);
	world_done(&w);
}

static void names_are_asked_for_until_they_are_settled(void **state)
{
	struct world w;

	(void)state;
	world_init(&w);
	struct model_proc *p = add_proc(&w, 1, "p");
	define(&w, 0x12, "malloc", AT_SETTLED, AT_SETTLED, -1);
	define(&w, 0x22, "malloc", AT_SETTLED, AT_MAIN, -1);
	add_stack(&w, p, LAYER_HEAP, 0x12, 2);
	add_stack(&w, p, LAYER_HEAP, 0x22, 1);
	resolved = 0;
	struct report *first = build(&w);
	assert_int_equal(resolved, 4);
	struct report *second = build(&w);
	assert_int_equal(resolved, 6); /* those of 0x22 */
	const struct report_stack *a = first->procs[0].stacks, *b = second->procs[0].stacks;
	assert_ptr_equal(a[0].frames, b[0].frames);
	assert_ptr_equal(a[0].summary, b[0].summary);
	assert_ptr_not_equal(a[1].frames, b[1].frames);
	report_free(first);
	assert_string_equal(b[0].frames[1]->name, "settled");
	assert_ptr_equal(b[0].frames[0], b[0].frames[1]); /* one frame, however often it stands there */
	assert_string_equal(b[1].frames[0]->name, "settled");
	assert_string_equal(b[1].frames[1]->name, "main");
	report_free(second);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_asked_for_until_they_are_settled),
		cmocka_unit_test(procs_are_sorted),
		cmocka_unit_test(like_is_compared_with_like),
		cmocka_unit_test(stacks_are_sorted_in_their_layer),
		cmocka_unit_test(limit_is_per_process_and_layer),
		cmocka_unit_test(only_the_opened_process_has_all_its_stacks),
		cmocka_unit_test(layers_not_asked_for_are_left_out),
		cmocka_unit_test(filter_keeps_what_matches),
		cmocka_unit_test(rows_have_frames),
		cmocka_unit_test(threads_are_rows_of_their_own),
		cmocka_unit_test(groups_are_made_when_asked_for),
		cmocka_unit_test(unknown_stack_is_shown_without_frames),
		cmocka_unit_test(pages_of_a_stack_are_not_known_to_live),
		cmocka_unit_test(live_is_unknown_where_returns_are_not_seen),
		cmocka_unit_test(start_is_boot_and_ticks),
		cmocka_unit_test(an_alerts_stack_is_shown_over_the_limit),
		cmocka_unit_test(alerts_follow_the_filter),
		cmocka_unit_test(report_outlives_model_and_snapshot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
