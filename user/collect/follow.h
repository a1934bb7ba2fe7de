/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The processes that are followed, from the first sight to the last figures: entered into the kernel's table, their files
 * attached, their names read, their births, execs and exits taken from the event ring.
 */
#ifndef TIDEMARK_COLLECT_FOLLOW_H
#define TIDEMARK_COLLECT_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "abi.h"
#include "collect/accounts.h"
#include "collect/images.h"
#include "collect/place.h"
#include "collect/ranges.h"
#include "collect/snapshot.h"
#include "collect/stackdefs.h"
#include "collect/windows.h"
#include "probe/attach.h"
#include "probe/loader.h"
#include "probe/pyalloc.h"
#include "target/proc.h"
#include "target/python.h"
#include "target/select.h"

struct cgroup_group;
struct cgroup_limits;
struct sum_scatters;
struct survival;
struct threads;

struct watched {
	uint32_t account; /* key */
	uint32_t pid;
	struct proc_key id;
	uint32_t flags, ppid;
	char comm[64];
	char *cmdline;
	struct cgroup_group *cgroup;	 /* NULL: not known */
	char python[PYTHON_VERSION_MAX]; /* version of CPython; "": none, or not known (yet) */
	uint8_t python_looks;		 /* intervals in which it is still to be looked for */
	enum proc_state state;
	struct proc kernel;		/* figures as last read */
	struct py_alloc *py_alloc;	/* through which it allocates; NULL: no CPython, or not known (yet) */
	struct pycoverage *py_coverage; /* NULL: not measured */
	uint8_t py_alloc_looks;		/* intervals in which that is still to be found */
	bool survivors; /* what lives of its blocks is told by collect/survival.h, for frees are not seen all the time */
	bool unanswered[LAYER_NR];    /* by which these can't be told */
	bool was_away;		      /* it was zoomed before: blocks of then went unseen */
	struct window_figures window; /* how its calls were observed since the last look; lever NULL: they are not */
	bool files_changed;	      /* new executable mappings: look for allocation functions */
	bool names_changed;
	bool seen;		       /* in the kernel's table at the last look */
	int functions;		       /* probed for it */
	int attach_error;	       /* of the last look at its files; 0 or -errno */
	bool scanned;		       /* its files were looked at before */
	uint64_t late_files;	       /* files with functions that ran before their probes were in place */
	bool foreign;		       /* 32-bit */
	bool maps_kept;		       /* for the tests' oracle, if it is at work */
	const char *unsafe;	       /* why no return probes; NULL: safe */
	uint64_t named_ns, grouped_ns; /* names, control group were read last */
	uint64_t rename_ns;	       /* so long until they are read again */
	uint64_t looked_ns;	       /* its mappings were read last */
	uint64_t scan_ns; /* when its files began to be looked at last: events before that tell nothing new */
	struct {
		bool known;
		int fd;			 /* to read pages; 0: none */
		struct proc_pages pages; /* as they were then */
		uint64_t read_ns;
		struct proc_rss rss;
	} rss; /* as last read: what an exited process is reported with */
	UT_hash_handle hh, by_id;
};

struct follow {
	struct loader *loader; /* borrowed, as all below: must outlive */
	struct attacher *attacher;
	struct places *places;
	struct ranges *ranges;
	struct images *images;
	struct stackdefs *defs;
	struct accounts *accounts;
	struct threads *threads;
	struct cgroup_limits *limits;
	size_t pages_fds; /* kept by processes */
	bool changed; /* a process came, went, or has other files or flags: what depends on that is to be brought up to date */
	struct survival *survival;
	struct sum_scatters *scatters;
	struct pyseen *pyseen;
	const struct target *target;
	uint32_t flags;		   /* enum proc_flag of every process that the target names */
	uint32_t rate;		   /* at which its calls are sampled at first; 0: all are counted */
	bool windowed;		   /* nothing is counted before a window is opened (collect/windows.h) */
	bool held;		   /* the command is stopped while its files are looked at: nothing of them ran yet */
	struct watched *all, *ids; /* the same, by account and by id */
	uint64_t refused;	   /* processes that found no place in the kernel's table */
	uint64_t births;	   /* children of followed processes */
};

void follow_done(struct follow *f);

/*
 * Enters every process that the target names now, and their children. Number of new ones or -errno. Also called later: a control group's
 * members come and go without an event.
 */
int follow_seed(struct follow *f);
/* Enters one. -ESRCH: gone. late: it ran before. */
int follow_enter(struct follow *f, uint32_t pid, bool late);

/* Takes EVENT_FORK, EVENT_EXEC, EVENT_EXIT; and EVENT_MMAP for its executable mappings. */
void follow_event(struct follow *f, const struct event *e);

/* Tells the kernel side where the code of all processes lies: before their first call, so that no stack of theirs begins without. */
void follow_prepare(struct follow *f);

/* Attaches what changed files need. Returns 0 or the first -errno of attaching. */
int follow_scan(struct follow *f);
int follow_scan_one(struct follow *f, struct watched *w);
/* Once per interval: reads the kernel's figures, repairs what lost events left wrong. */
void follow_refresh(struct follow *f);
/* Names (comm, cmdline, cgroup), read again when they changed. */
void follow_names(struct follow *f, struct watched *w);
/* Forgets processes that have been reported as exited. */
void follow_reap(struct follow *f);

struct watched *follow_find(struct follow *f, const struct proc_key *id); /* NULL */
size_t follow_running(const struct follow *f);

/* The files of all of them are to be looked into again. */
void follow_stale(struct follow *f);

/*
 * Heap probes for a process that so far is observed by pages and mappings only, placed by the next scan; or none any more. What was
 * counted stays.
 */
void follow_zoom(struct follow *f, struct watched *w, bool in);

/* The process of an account, NULL if there is none (any more). */
struct watched *follow_find_account(struct follow *f, uint32_t account);

#endif
