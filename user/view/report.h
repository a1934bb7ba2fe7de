/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report: model + names + query. Sorted, limited, named rows. The only type that a view sees. Immutable, one arena.
 * NAN (double) and UNKNOWN_U64 mean unknown and print as null or "-".
 */
#ifndef TIDEMARK_VIEW_REPORT_H
#define TIDEMARK_VIEW_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "model/model.h"
#include "model/query.h"
#include "sym/sym.h"

struct arena;
struct stack_dict;

struct report_counts {
	struct counts c;
	double alloc_bytes_per_s, allocs_per_s;
	bool live_known; /* false: live figures print as null */
};

struct report_stack {
	uint64_t stack_id;
	uint32_t tid;	    /* whose calls these are; 0: of all threads */
	const char *thread; /* NULL: not known */
	enum layer layer;
	const char *site; /* allocation function, "malloc"; NULL: unknown */
	struct report_counts counts;
	double growth_bytes_per_s;
	int64_t delta_bytes;
	bool ages_known;
	double age_p50_s, age_p95_s, age_max_s;
	bool complete;		   /* reaches the thread's start */
	enum stack_cut cut;	   /* why it does not; CUT_NONE: complete, or not known */
	bool has_python;	   /* Python frames are known, shown or not */
	enum stack_cut python_cut; /* why their outer part is missing; CUT_NONE: it is not */
	struct leak_verdict leak;
	uint64_t file_bytes; /* layer map */
	/* Leaf first; merged or of one kind, as the query says. Most are shared by many stacks. */
	const struct sym_frame *const *frames;
	size_t n_frames;
	/* First frame that is the target's own code, "load_table main.c:12", "App.load app.py:7"; never NULL. */
	const char *summary;
};

/* Stacks of one process and layer that are put together; the rows of a layer add up to it. */
struct report_group {
	enum layer layer;
	const char *name;	     /* "[unknown]", "[others]": over the limit */
	uint64_t id;		     /* of the name, for finding the row again */
	uint32_t tid;		     /* GROUP_THREAD only */
	const char *thread;	     /* GROUP_THREAD only; NULL: not known */
	struct report_counts counts; /* without a peak */
	double growth_bytes_per_s;
	int64_t delta_bytes;
	size_t n_stacks;
};

struct report_proc {
	struct proc_key id;
	double start_ts; /* Unix seconds; NAN: unknown */
	uint32_t ppid;
	const char *comm, *cmdline, *cgroup, *python;
	const char *python_refused; /* why its Python frames are not shown; NULL: they are, or it has none */
	const char *py_allocator;   /* "pymalloc"; NULL: layer python is not observed */
	double py_coverage;	    /* 0..1: share of that layer's bytes that was seen; NAN: not measured */
	enum proc_state state;
	enum proc_mode mode;
	double attached_share, overhead_pct;
	const char *lever; /* what holds its cost, "12 % of the time"; NULL: its calls are not observed */
	uint64_t rss_bytes, anon_bytes, file_bytes, shmem_bytes, swap_bytes, limit_bytes;
	double limit_eta_s, growth_bytes_per_s;
	int64_t delta_bytes;
	bool layer_on[LAYER_NR];
	struct report_counts layers[LAYER_NR];
	bool faults_counted;
	uint64_t given_back_bytes; /* known if faults are counted */
	uint64_t losses[LOSS_NR];
	const struct report_stack *stacks; /* sorted, limited per layer */
	size_t n_stacks;
	size_t n_stacks_total;		   /* before the limit */
	const struct report_group *groups; /* none: the query groups by nothing; sorted, limited per layer */
	size_t n_groups;
};

struct report_meta {
	const char *tool, *version; /* "tidemark", "0.1.0" */
	char run_id[33];
	const char *host, *kernel;
	double boot_ts; /* Unix seconds at which the observed machine booted; 0: unknown */
	double start_ts, interval_s, budget_pct;
	const char *mode;      /* "exact", "pages", "auto" */
	uint64_t sample_bytes; /* 0: every call */
	bool layer_on[LAYER_NR];
	/* "pid" "1,2" | "name" "redis" | "cgroup" "/web" | "all" "" | "command" "sort x" */
	const char *target_kind, *target_text;
	uint64_t map_memory_bytes; /* kernel maps, bound */
};

struct report {
	struct arena *arena;
	const struct report_meta *meta; /* borrowed, must outlive the report */
	uint64_t n;
	double ts;
	const struct report_proc *procs; /* sorted */
	size_t n_procs;
	const struct alert *alerts;
	size_t n_alerts;
	struct snap_self self;
	const struct query *query; /* borrowed: what this report answers */
};

/* Unix seconds of a process's start; NAN: unknown. Equal for every line that names the process. */
double report_start_ts(const struct report_meta *meta, const struct proc_key *id);

/*
 * Copies what it takes from model and snapshot, so that it may outlive them; named frames stay sym's and the dictionary's, which it must not outlive.
 * A stack that an alert of this interval names is in the report whatever the limit. Alerts of processes that the filter hides are not.
 */
int report_build(const struct model *m, const struct report_meta *meta, const struct query *q, struct sym *sym,
		 struct stack_dict *stacks, struct report **ret);
void report_free(struct report *r);

#endif
