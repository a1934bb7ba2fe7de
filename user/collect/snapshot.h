/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot: what was observed at one instant. Numbers, ids, the dictionary entries that are new, losses. Immutable once handed
 * out; everything in it lives in its arena. A live system and a recording yield the same type.
 */
#ifndef TIDEMARK_COLLECT_SNAPSHOT_H
#define TIDEMARK_COLLECT_SNAPSHOT_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

struct arena;

#define UNKNOWN_U64 UINT64_MAX /* prints as null */

/* Cumulative since the attach (or the process's birth), but for live and peak. Bytes as requested. */
struct counts {
	uint64_t live_bytes, live_count, peak_live_bytes;
	uint64_t alloc_bytes, alloc_count;
	uint64_t free_bytes, free_count;
	uint64_t untracked_bytes, untracked_count; /* allocated, in no live figure: the live map was full */
	double live_bytes_se, alloc_bytes_se;	   /* standard errors; 0: exact */
	uint64_t cow_bytes;			   /* layer page: copied on write, in no other figure */
	double cow_bytes_se;
};

enum proc_state { PROC_RUNNING, PROC_EXITED };
enum proc_mode { MODE_PAGES, MODE_EXACT, MODE_SAMPLED };

struct snap_proc {
	struct proc_key id;
	uint32_t ppid;
	const char *comm, *cmdline, *cgroup;
	const char *python; /* "3.11.2" or NULL */
	const char *
		python_refused; /* why its Python frames are not shown, "free-threaded build"; NULL: they are, or it has none */
	const char *
		py_allocator; /* where its Python objects come from, "pymalloc"; NULL: no CPython, or the layer is not asked for */
	double py_coverage; /* share of the bytes allocated there lately that calls were seen for; NAN: not measured */
	enum proc_state state; /* EXITED: the last time that this process appears */
	enum proc_mode mode;
	double attached_share;
	double edge; /* error of heap and python totals that all stacks share, as a part of them; in their errors already */
	double overhead_pct; /* NAN: unknown */
	const char *lever;   /* what holds it, "12 % of the time"; NULL: no calls are observed */
	uint64_t rss_bytes, anon_bytes, file_bytes, shmem_bytes, swap_bytes; /* UNKNOWN_U64 */
	uint64_t limit_bytes, limit_used_bytes;				     /* UNKNOWN_U64: no limit */
	bool layer_on[LAYER_NR]; /* which layers are observed for this process */
	uint64_t peak_live_bytes[LAYER_NR];
	uint64_t losses[LOSS_NR];
	bool faults_counted;	   /* page faults: what the stacks of layer page say is all of them */
	uint64_t given_back_bytes; /* of addresses, by madvise; UNKNOWN_U64 */
	bool live_unknown;	   /* return probes would harm it: allocations are counted, what lives is not known */
	bool unanswered
		[LAYER_NR]; /* its allocator says nothing of the blocks that were sampled: what lives is not known */
};

struct snap_stack {
	struct proc_key id;
	uint64_t stack_id;
	uint32_t tid;	    /* --threads: whose calls these are; 0: of all threads */
	const char *thread; /* its name; NULL: not known */
	enum layer layer;
	struct counts counts;
	bool ages_known;
	float age_p50_s, age_p95_s, age_max_s; /* of what is live; NAN: of this one nothing is known */
	uint64_t old_live_bytes;	       /* live bytes older than half the time since the attach; UNKNOWN_U64 */
	uint64_t file_bytes;		       /* layer map: part of live_bytes that maps files */
};

/* Dictionary: a file mapped by some process. Ids are dense, from 1, stable for the run; 0: not in any file. */
struct snap_module {
	uint32_t id;
	const char *path;      /* as the target names it; "[vdso]", "/tmp/perf-PID.map"... */
	const char *open_path; /* where user space can open it now; may be gone later */
	uint64_t dev, inode;
	uint64_t version;     /* of the file's content (fs_version); 0: not known */
	const char *build_id; /* hex, "" if none */
};

/* Is a native frame part of CPython's eval loop? */
enum eval_part {
	EVAL_NONE,
	EVAL_LOOP, /* one activation of the loop: it ran the Python frames up to and with an entry frame */
	EVAL_STEP, /* called by the loop to run an instruction (3.14's tail-call interpreter) */
};

/* One return address, placed in a file at first sight, while the process was there. */
struct snap_frame {
	uint32_t module; /* 0: `addr` is the run-time address */
	bool is_return; /* addr is what follows a call (or, after a signal, what ran, plus one): names belong to addr - 1 */
	uint8_t eval;  /* enum eval_part */
	uint64_t addr; /* as linked in the module (what addr2line takes) */
};

/* One Python frame. Strings live as long as the source. */
struct snap_pyframe {
	const char *name, *file; /* qualified where the version has it; NULL file: unknown */
	uint32_t line;		 /* 0: unknown */
	bool is_entry;		 /* the first one of its eval loop */
};

/* Why a stack does not reach its thread's start. */
#define for_each_cut(X) \
	X(NONE, "none") \
	X(DEPTH, "depth") \
	X(NO_MAPPING, "no_mapping") \
	X(NO_ROW, "no_row") \
	X(RULE, "rule") \
	X(MEMORY, "memory") \
	X(UNKNOWN, "unknown")

struct snap_stackdef {
	uint64_t stack_id;
	const char *site;  /* "malloc" */
	bool complete;	   /* the native stack reaches the thread's start */
	uint8_t cut;	   /* enum stack_cut: why it does not */
	uint32_t n_frames; /* frames[0] is the caller of the allocation function */
	const struct snap_frame *frames;
	uint32_t n_python; /* innermost first */
	const struct snap_pyframe *python;
	uint8_t python_cut; /* outer Python frames are missing: too deep, or they could not be read */
};

struct snap_map {
	const char *name;
	uint64_t entries, capacity; /* entries UNKNOWN_U64: not counted */
	uint64_t bytes;		    /* kernel memory, upper bound */
};

struct snap_self {
	double cpu_pct; /* of one core, since the last snapshot */
	uint64_t rss_bytes;
	double hits_per_s;	   /* entries and returns of heap calls of observed processes */
	double foreign_hits_per_s; /* hits of processes that are not observed */
	const char *probe_scope; /* "host": children count from their first call, others pay; "process": others don't */
	double target_overhead_pct; /* NAN: unknown */
	double body_ns;		    /* mean run time of a program per hit; NAN: unknown */
	double attached_share;
	uint64_t losses[LOSS_NR];     /* totals over all processes */
	struct stack_stat stack_stat; /* how stacks were taken, since the last snapshot */
	const struct snap_map *maps;
	size_t n_maps;
};

struct snapshot {
	struct arena *arena;
	uint64_t n; /* 0, 1, 2... */
	double ts;  /* Unix seconds */
	uint64_t mono_ns;
	double seconds; /* since the previous snapshot; 0 in the first */
	const struct snap_proc *procs;
	size_t n_procs;
	const struct snap_stack *stacks; /* every stack with any count, of every process in procs */
	size_t n_stacks;
	const struct snap_module *new_modules;
	size_t n_new_modules;
	const struct snap_stackdef *new_stacks;
	size_t n_new_stacks;
	struct snap_self self;
};

void snapshot_free(struct snapshot *s);

#endif
