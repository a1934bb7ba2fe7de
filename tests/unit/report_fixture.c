/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "report_fixture.h"

#include <math.h>
#include <string.h>

#include "util/arena.h"
#include "util/mem.h"

#define KIB 1024ull
#define MIB (1024ull * 1024)
#define FIXTURE_TS 1700000000.25

static const struct report_meta meta = {
	.tool = "tidemark",
	.version = "0.1.0",
	.run_id = "00112233445566778899aabbccddeeff",
	.host = "web-1",
	.kernel = "6.1.0-18-amd64",
	.start_ts = FIXTURE_TS - 1,
	.interval_s = 1,
	.budget_pct = 2,
	.mode = "exact",
	.layer_on = { [LAYER_MAP] = true, [LAYER_HEAP] = true },
	.target_kind = "name",
	.target_text = "gunicorn",
	.map_memory_bytes = 96 * MIB,
};

static const struct snap_map maps[] = {
	{ .name = "live", .entries = 12345, .capacity = 1048576, .bytes = 88 * MIB },
	{ .name = "stacks", .entries = UNKNOWN_U64, .capacity = 65536, .bytes = 8 * MIB },
};

#define NATIVE(...) (&(const struct sym_frame){ .kind = FRAME_NATIVE, .final = true, __VA_ARGS__ })
#define PYTHON(text, path, at) \
	(&(const struct sym_frame){ .name = text, .file = path, .line = at, .kind = FRAME_PYTHON, .final = true })
#define WORKER .module = "/srv/app/worker", .build_id = "0123456789abcdef", .offset = 0x1234
#define LOAD_INLINED \
	NATIVE(WORKER, .name = "load_table(char const*, std::vector<int> const&)", .file = "src/main.cpp", .line = 12, \
	       .inlined = true)
#define HANDLE NATIVE(WORKER, .name = "handle_request", .file = "src/main.cpp", .line = 80)
#define EVAL_LOOP_FRAME NATIVE(.name = "_PyEval_EvalFrameDefault", .module = "/usr/bin/python3.11", .offset = 0x9f31c)
#define VECTORCALL NATIVE(.name = "_PyFunction_Vectorcall", .module = "/usr/bin/python3.11", .offset = 0xa0010)
#define LIBC NATIVE(.name = "libc.so.6+0x27305", .module = "/usr/lib/libc.so.6", .offset = 0x27305)
#define SERVE PYTHON("App.serve", "/srv/app/app.py", 33)
#define MODULE_CODE PYTHON("<module>", "/srv/app/app.py", 90)

/* One stack in the three ways in which it can be shown: two activations of the interpreter's loop. */
static const struct sym_frame *const frames_merged[] = { LOAD_INLINED, HANDLE, SERVE, VECTORCALL, MODULE_CODE, LIBC };
static const struct sym_frame *const frames_native[] = { LOAD_INLINED, HANDLE,		EVAL_LOOP_FRAME,
							 VECTORCALL,   EVAL_LOOP_FRAME, LIBC };
static const struct sym_frame *const frames_python[] = { SERVE, MODULE_CODE };

static const struct sym_frame *const frames_short[] = {
	&(const struct sym_frame){ .name = "r\303\251sum\303\251::\346\227\245\346\234\254",
				   .module = "/usr/lib/libx.so",
				   .offset = 0x10,
				   .kind = FRAME_NATIVE },
};

static const struct sym_frame *const frames_mmap[] = {
	NATIVE(.name = "arena_map", .file = "arena.c", .line = 7, .module = "/srv/app/worker", .offset = 0x99),
};

struct query fixture_query(void)
{
	struct query q = { .proc_sort = SORT_GROWTH, .stack_sort = SORT_LIVE, .limit = 50 };

	for (int l = 0; l < LAYER_NR; l++)
		q.layer_on[l] = true;
	return q;
}

static const struct leak_verdict no_verdict = {
	.verdict = VERDICT_UNKNOWN, .probability = NAN, .survivors_pct = NAN, .slope_r2 = NAN
};

static struct report_stack stack_leaking(const struct query *q, uint64_t n)
{
	struct report_stack s = { .stack_id = 0xabc2,
				  .layer = LAYER_HEAP,
				  .site = "malloc",
				  .growth_bytes_per_s = 64 * KIB,
				  .delta_bytes = (int64_t)(n * 64 * KIB),
				  .ages_known = true,
				  .age_p50_s = 312,
				  .age_p95_s = 7300,
				  .age_max_s = 100000,
				  .complete = true,
				  .leak = { .verdict = VERDICT_LEAK,
					    .probability = 0.97,
					    .growth_bytes_per_s = 64 * KIB,
					    .survivors_pct = 94,
					    .slope_r2 = 0.99,
					    .seen_s = 600 },
				  .has_python = true,
				  .frames = frames_merged,
				  .n_frames = ARRAY_SIZE(frames_merged),
				  .summary = "main.cpp:12 load_table",
				  .counts = { .c = { .live_bytes = 12 * MIB + n * 64 * KIB,
						     .live_count = 48000,
						     .peak_live_bytes = 13 * MIB,
						     .alloc_bytes = 40 * MIB,
						     .alloc_count = 160000,
						     .free_bytes = 28 * MIB,
						     .free_count = 112000 },
					      .alloc_bytes_per_s = 70 * KIB,
					      .allocs_per_s = 280,
					      .live_known = true } };

	if (q->native_only) {
		s.frames = frames_native;
		s.n_frames = ARRAY_SIZE(frames_native);
	} else if (q->python_only) {
		s.frames = frames_python;
		s.n_frames = ARRAY_SIZE(frames_python);
	}
	return s;
}

static struct report_stack stack_short(void)
{
	return (struct report_stack){ .stack_id = 0xdef2,
				      .layer = LAYER_HEAP,
				      .site = "calloc",
				      .growth_bytes_per_s = -512,
				      .delta_bytes = -2048,
				      .cut = CUT_NO_ROW,
				      .leak = no_verdict,
				      .frames = frames_short,
				      .n_frames = 1,
				      .summary = "r\303\251sum\303\251::\346\227\245\346\234\254",
				      .counts = { .c = { .live_bytes = 3 * KIB,
							 .live_count = 3,
							 .peak_live_bytes = 8 * KIB,
							 .alloc_bytes = 9 * KIB,
							 .alloc_count = 9,
							 .free_bytes = 6 * KIB,
							 .free_count = 6 },
						  .alloc_bytes_per_s = 0,
						  .allocs_per_s = 0,
						  .live_known = true } };
}

static struct report_stack stack_mapped(void)
{
	return (struct report_stack){ .stack_id = 0x1231,
				      .layer = LAYER_MAP,
				      .site = "mmap",
				      .growth_bytes_per_s = NAN,
				      .ages_known = true,
				      .age_p50_s = 5,
				      .age_p95_s = 5,
				      .age_max_s = 5,
				      .complete = true,
				      .leak = no_verdict,
				      .file_bytes = 4 * MIB,
				      .frames = frames_mmap,
				      .n_frames = 1,
				      .summary = "arena.c:7 arena_map",
				      .counts = { .c = { .live_bytes = 64 * MIB,
							 .live_count = 2,
							 .peak_live_bytes = 64 * MIB,
							 .alloc_bytes = 64 * MIB,
							 .alloc_count = 2 },
						  .alloc_bytes_per_s = 0,
						  .allocs_per_s = 0,
						  .live_known = true } };
}

static struct report_stack stack_unknown(void)
{
	return (struct report_stack){
		.stack_id = 0x3,
		.layer = LAYER_HEAP,
		.site = "realloc",
		.cut = CUT_UNKNOWN,
		.leak = no_verdict,
		.summary = "[unknown stack]",
		.growth_bytes_per_s = 0,
		.counts = { .c = { .live_bytes = 100, .live_count = 1, .alloc_bytes = 100, .alloc_count = 1 },
			    .alloc_bytes_per_s = 0,
			    .allocs_per_s = 0,
			    .live_known = true }
	};
}

/* As --threads has them: two threads of one process, one of them without a name, and calls of which it is not known whose they are. */
static void set_threads(struct report_stack *stacks)
{
	stacks[0].tid = 4242;
	stacks[0].thread = "gunicorn";
	stacks[1].tid = 4250;
	stacks[1].thread = "pool\033[2J-1";
	stacks[2].tid = 4251;
}

static void group_stack(struct report_group *g, const struct report_stack *s, const char *name)
{
	*g = (struct report_group){ .layer = s->layer,
				    .name = name,
				    .id = (uint64_t)(unsigned char)name[0] << 8 | s->layer,
				    .tid = s->tid,
				    .thread = s->thread,
				    .counts = s->counts,
				    .growth_bytes_per_s = s->growth_bytes_per_s,
				    .delta_bytes = s->delta_bytes,
				    .n_stacks = 1 };
	g->counts.c.peak_live_bytes = UNKNOWN_U64;
}

/* Each stack is a group of its own, the second of 12 stacks. */
static void fill_groups(struct arena *a, struct report_proc *p, enum group_by by)
{
	static const char *const names[GROUP_NR][4] = {
		[GROUP_FUNCTION] = { "load_table(char const*, std::vector<int> const&)", "libx.so+0x10", "arena_map",
				     "[unknown]" },
		[GROUP_MODULE] = { "/srv/app/worker", "/usr/lib/libx.so", "/srv/app/worker", "[unknown]" },
		[GROUP_FILE_LINE] = { "src/main.cpp:12", "[others]", "arena.c:7", "[unknown]" },
		[GROUP_THREAD] = { "4242 gunicorn", "4250 pool\033[2J-1", "4251", "[unknown]" },
	};
	struct report_group *groups = arena_alloc(a, 4, sizeof(*groups));

	for (size_t i = 0; i < 4; i++)
		group_stack(&groups[i], &p->stacks[i], names[by][i]);
	groups[1].n_stacks = 12;
	p->groups = groups;
	p->n_groups = 4;
}

static void fill_leaking(struct arena *a, struct report_proc *p, const struct query *q, uint64_t n)
{
	struct report_stack *stacks = arena_alloc(a, 4, sizeof(*stacks));

	stacks[0] = stack_leaking(q, n);
	stacks[1] = stack_short();
	stacks[2] = stack_mapped();
	stacks[3] = stack_unknown();
	if (q->by_thread)
		set_threads(stacks);
	*p = (struct report_proc){ .id = { .start_ticks = 5001, .pid = 4242 },
				   .start_ts = FIXTURE_TS - 7200,
				   .ppid = 4200,
				   .comm = "gunicorn",
				   .cmdline = "gunicorn: worker [app]",
				   .cgroup = "/system.slice/web.service",
				   .python = "3.11.2",
				   .state = PROC_RUNNING,
				   .mode = MODE_EXACT,
				   .attached_share = 1,
				   .overhead_pct = 1.3,
				   .rss_bytes = 180 * MIB + n * 64 * KIB,
				   .anon_bytes = 150 * MIB,
				   .file_bytes = 28 * MIB,
				   .shmem_bytes = 2 * MIB,
				   .swap_bytes = 0,
				   .limit_bytes = 512 * MIB,
				   .limit_eta_s = 5310,
				   .growth_bytes_per_s = 66 * KIB,
				   .delta_bytes = (int64_t)(n * 64 * KIB),
				   .layer_on = { [LAYER_MAP] = true, [LAYER_HEAP] = true },
				   .stacks = stacks,
				   .n_stacks = 4,
				   .n_stacks_total = 61 };
	p->layers[LAYER_HEAP] = (struct report_counts){ .c = { .live_bytes = 12 * MIB + 3 * KIB + 100 + n * 64 * KIB,
							       .live_count = 48004,
							       .peak_live_bytes = 14 * MIB,
							       .alloc_bytes = 41 * MIB,
							       .alloc_count = 160010,
							       .free_bytes = 28 * MIB,
							       .free_count = 112006,
							       .untracked_bytes = 2 * MIB,
							       .untracked_count = 1500 },
							.alloc_bytes_per_s = 70 * KIB,
							.allocs_per_s = 280,
							.live_known = true };
	p->layers[LAYER_MAP] = (struct report_counts){ .c = { .live_bytes = 64 * MIB,
							      .live_count = 2,
							      .peak_live_bytes = 64 * MIB,
							      .alloc_bytes = 64 * MIB,
							      .alloc_count = 2 },
						       .live_known = true };
	p->losses[LOSS_UNMATCHED_FREE] = 17;
	p->losses[LOSS_LIVE_FULL] = 1500;
	if (q->group != GROUP_NONE)
		fill_groups(a, p, q->group);
}

static void fill_steady(struct report_proc *p)
{
	*p = (struct report_proc){ .id = { .start_ticks = 77, .pid = 991 },
				   .start_ts = FIXTURE_TS - 86400,
				   .ppid = 1,
				   .comm = "redis-server",
				   .cmdline = "redis-server 127.0.0.1:6379",
				   .cgroup = "/system.slice/redis.service",
				   .state = PROC_RUNNING,
				   .mode = MODE_EXACT,
				   .attached_share = 1,
				   .overhead_pct = 0.4,
				   .rss_bytes = 22 * MIB,
				   .anon_bytes = 18 * MIB,
				   .file_bytes = 4 * MIB,
				   .shmem_bytes = 0,
				   .swap_bytes = 0,
				   .limit_bytes = UNKNOWN_U64,
				   .limit_eta_s = NAN,
				   .growth_bytes_per_s = 0,
				   .delta_bytes = 0,
				   .layer_on = { [LAYER_HEAP] = true } };
	p->layers[LAYER_HEAP] = (struct report_counts){ .c = { .live_bytes = 9 * MIB,
							       .live_count = 120000,
							       .peak_live_bytes = 9 * MIB,
							       .alloc_bytes = 10 * MIB,
							       .alloc_count = 130000,
							       .free_bytes = MIB,
							       .free_count = 10000 },
							.alloc_bytes_per_s = 5.5 * MIB,
							.allocs_per_s = 44000,
							.live_known = true };
}

static void fill_pages_only(struct report_proc *p)
{
	*p = (struct report_proc){ .id = { .start_ticks = 1, .pid = 1 },
				   .start_ts = FIXTURE_TS - 864000,
				   .comm = "systemd",
				   .cmdline = "/sbin/init",
				   .cgroup = "/init.scope",
				   .state = PROC_RUNNING,
				   .mode = MODE_PAGES,
				   .attached_share = 1,
				   .overhead_pct = NAN,
				   .rss_bytes = 12 * MIB,
				   .anon_bytes = UNKNOWN_U64,
				   .file_bytes = UNKNOWN_U64,
				   .shmem_bytes = UNKNOWN_U64,
				   .swap_bytes = UNKNOWN_U64,
				   .limit_bytes = UNKNOWN_U64,
				   .limit_eta_s = NAN,
				   .growth_bytes_per_s = NAN,
				   .layer_on = { [LAYER_MAP] = true } };
	p->layers[LAYER_MAP].live_known = true;
}

static void fill_exited(struct report_proc *p)
{
	*p = (struct report_proc){ .id = { .start_ticks = 9000, .pid = 31337 },
				   .start_ts = FIXTURE_TS - 3,
				   .ppid = 4200,
				   .comm = "\346\227\245\346\234\254\350\252\236\343\203\206",
				   .cmdline = "./\346\227\245\346\234\254",
				   .cgroup = "/",
				   .state = PROC_EXITED,
				   .mode = MODE_EXACT,
				   .attached_share = 1,
				   .overhead_pct = 0,
				   .rss_bytes = 0,
				   .anon_bytes = 0,
				   .file_bytes = 0,
				   .shmem_bytes = 0,
				   .swap_bytes = 0,
				   .limit_bytes = UNKNOWN_U64,
				   .limit_eta_s = NAN,
				   .growth_bytes_per_s = -3.0 * MIB,
				   .delta_bytes = -(int64_t)(3 * MIB),
				   .layer_on = { [LAYER_HEAP] = true } };
	p->layers[LAYER_HEAP].live_known = true;
}

static void fill_sampled(struct report_proc *p)
{
	*p = (struct report_proc){ .id = { .start_ticks = 600, .pid = 4194301 },
				   .start_ts = FIXTURE_TS - 60,
				   .ppid = 1,
				   .comm = "sort\033[2J\n",
				   .cmdline = "sort -S 90% big.txt",
				   .cgroup = "/user.slice",
				   .state = PROC_RUNNING,
				   .mode = MODE_SAMPLED,
				   .attached_share = 0.5,
				   .overhead_pct = 2,
				   .rss_bytes = 3ull * 1024 * MIB,
				   .anon_bytes = 3ull * 1024 * MIB,
				   .file_bytes = 2 * MIB,
				   .shmem_bytes = 0,
				   .swap_bytes = 100 * MIB,
				   .limit_bytes = 4ull * 1024 * MIB,
				   .limit_eta_s = 12,
				   .growth_bytes_per_s = 85.3 * MIB,
				   .delta_bytes = (int64_t)(1536 * MIB),
				   .layer_on = { [LAYER_HEAP] = true } };
	p->layers[LAYER_HEAP] = (struct report_counts){ .c = { .live_bytes = 2900 * MIB,
							       .live_count = 70000000,
							       .peak_live_bytes = 2900 * MIB,
							       .alloc_bytes = 2901 * MIB,
							       .alloc_count = 70000100,
							       .free_bytes = MIB,
							       .free_count = 100,
							       .live_bytes_se = 4e6,
							       .alloc_bytes_se = 4e6 },
							.alloc_bytes_per_s = 85.4 * MIB,
							.allocs_per_s = 2e6,
							.live_known = true };
}

static void fill_alert(struct arena *a, struct report *r)
{
	struct alert *al = arena_alloc(a, 1, sizeof(*al));

	*al = (struct alert){
		.kind = "leak",
		.severity = "critical",
		.id = r->procs[0].id,
		.comm = "gunicorn",
		.message = "gunicorn (4242) grew from 10.0M to 12.3M live bytes in 3 checks in a row; most old bytes: "
			   "main.cpp:12 load_table",
		.layer = LAYER_HEAP,
		.stack_id = 0xabc2,
		.live_bytes = 12 * MIB,
		.growth_bytes_per_s = 64 * KIB,
		.first_seen_ts = r->ts - 3,
		.state = ALERT_FIRING,
		.checks = 3,
		.bytes_before = 10 * MIB,
		.bytes_now = 12 * MIB,
		.old_live_bytes = UNKNOWN_U64
	};
	r->alerts = al;
	r->n_alerts = 1;
}

struct report *fixture_empty(const struct query *q)
{
	struct arena *a = arena_new();
	struct report *r = arena_alloc(a, 1, sizeof(*r));

	*r = (struct report){ .arena = a, .meta = &meta, .ts = FIXTURE_TS, .query = q };
	r->self = (struct snap_self){ .cpu_pct = 0.1,
				      .rss_bytes = 9 * MIB,
				      .target_overhead_pct = NAN,
				      .body_ns = NAN,
				      .attached_share = 1,
				      .maps = maps,
				      .n_maps = 2 };
	return r;
}

struct report *fixture_report(const struct query *q, uint64_t n)
{
	struct report *r = fixture_empty(q);
	struct report_proc *p = arena_alloc(r->arena, FIXTURE_PROCS, sizeof(*p));

	fill_leaking(r->arena, &p[0], q, n);
	fill_steady(&p[1]);
	fill_pages_only(&p[2]);
	fill_exited(&p[3]);
	fill_sampled(&p[4]);
	r->n = n;
	r->ts = FIXTURE_TS + (double)n;
	r->procs = p;
	r->n_procs = FIXTURE_PROCS;
	r->self.cpu_pct = 0.84;
	r->self.rss_bytes = 12 * MIB;
	r->self.hits_per_s = 50123;
	r->self.foreign_hits_per_s = 1200;
	r->self.target_overhead_pct = 1.3;
	r->self.body_ns = 412;
	r->self.probe_scope = "host";
	r->self.stack_stat = (struct stack_stat){
		.taken = 3000,
		.repeated = 2900,
		.unwound = 100,
		.defined = 7,
		.python_taken = 800,
		.python_defined = 5,
		.python_foreign = 2,
		.cut = { [CUT_NONE] = 97, [CUT_DEPTH] = 2, [CUT_NO_ROW] = 1 },
	};
	r->self.losses[LOSS_UNMATCHED_FREE] = 17;
	r->self.losses[LOSS_LIVE_FULL] = 1500;
	if (n == 5)
		fill_alert(r->arena, r);
	return r;
}

void fixture_free(struct report *r)
{
	if (r)
		arena_free(r->arena);
}
