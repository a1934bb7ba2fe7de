/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What crosses the kernel boundary: keys and values of the maps, events of the ring, the
 * read-only configuration. Included by BPF programs (after vmlinux.h) and by user space (after
 * linux/types.h); pulls in no libc. Sizes are asserted because both compilers must agree.
 */
#ifndef TIDEMARK_ABI_H
#define TIDEMARK_ABI_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#include "layers.h"
#include "losses.h"

#define STACK_MAX_FRAMES 127

/*
 * A process, one run of one program image. start_ticks is the start of the thread group leader
 * since boot in USER_HZ (100 Hz) ticks, as field 22 of /proc/PID/stat has it; image counts the
 * program images seen (fork keeps the number, exec takes a new one).
 */
struct proc_key {
	__u64 start_ticks;
	__u32 pid;
	__u32 image;
};

enum proc_flag {
	PROC_HEAP = 1 << 0,   /* heap calls of this process are counted */
	PROC_MAP = 1 << 1,    /* mapping calls are counted */
	PROC_FOLLOW = 1 << 2, /* children are followed from their birth */
	PROC_BORROWS_MM = 1 << 3, /* vfork or CLONE_VM child: accounted to the owner of the memory until it execs */
	PROC_LATE = 1 << 4,   /* ran before it was attached */
	PROC_NAMED = 1 << 5,  /* the user asked for this one (not found by being a child) */
	PROC_NO_RETURN = 1 << 6, /* return probes would harm it: allocations are counted, not tracked */
	PROC_TIGHT = 1 << 7,	 /* allocations of any size may fail in it (RLIMIT_AS, strict overcommit) */
};

/* Value of `procs`, key: tgid. `id` is the account that the calls are booked on. */
struct proc {
	struct proc_key id;
	__u32 flags; /* enum proc_flag */
	__u32 ppid;
	__s64 live_bytes[LAYER_NR];      /* running sum of tracked blocks, for the peak */
	__s64 peak_live_bytes[LAYER_NR];
	__u64 hits;
	__u64 losses[LOSS_NR];
};

/* Key of `live`: the layer stands in the top byte of the address (user addresses have 56 bits at most). */
#define LIVE_LAYER_SHIFT 56

struct live_key {
	struct proc_key proc;
	__u64 addr_layer;
};

struct live_block {
	__u64 bytes; /* as requested */
	__u64 stack_id;
	__u64 birth_ns; /* CLOCK_MONOTONIC */
};

/*
 * Stack ids are 64-bit hashes over program image, site and return addresses; the low 4 bits are
 * the layer. An id with all upper bits zero is the stack "unknown" of its layer.
 */
#define STACK_ID_LAYER_MASK 15ull

struct sum_key {
	struct proc_key proc;
	__u64 stack_id;
};

/* Cumulative. tracked live = alloc - free - untracked; untracked blocks' frees can't be told. */
struct sum {
	__u64 alloc_bytes, alloc_count;
	__u64 free_bytes, free_count;
	__u64 untracked_bytes, untracked_count;
	__u64 peak_live_bytes;
};

enum stack_flag {
	STACK_COMPLETE = 1 << 0,  /* reached the thread's start */
	STACK_TRUNCATED = 1 << 1, /* deeper than STACK_MAX_FRAMES */
	STACK_LEAF_IP = 1 << 2,   /* ip[0] is an instruction that ran, not a return address */
};

/* Value of `stacks`, key: stack id. ip[0] is the caller of the allocation function. */
struct stack {
	struct proc_key first_seen_in;
	__u16 site;
	__u8 flags; /* enum stack_flag */
	__u8 n_ips;
	__u32 pad;
	__u64 ip[STACK_MAX_FRAMES];
};

/* Sites below SITE_FIRST_PROBE are system calls; the rest come from the attach cookie. */
enum site { SITE_NONE, SITE_MMAP, SITE_MREMAP, SITE_BRK, SITE_FIRST_PROBE = 16 };

enum event_kind {
	EVENT_FORK, /* id: the child, other: the parent */
	EVENT_EXEC, /* id: the new image, other: the old one */
	EVENT_EXIT, /* the last thread is gone; final holds the last figures */
	EVENT_MMAP, /* addr, bytes: done */
	EVENT_MUNMAP, /* about to happen: before the kernel acts, so that reuse of the range is ordered after it */
	EVENT_MREMAP, /* old_addr, old_bytes: about to move or resize */
	EVENT_MREMAP_DONE, /* addr, bytes: new place */
	EVENT_UNDO, /* the munmap or mremap announced last by this thread failed */
	EVENT_BRK, /* addr: new end, old_addr: end before */
	EVENT_NR
};

struct event {
	__u32 kind; /* enum event_kind */
	__u32 tid;
	struct proc_key id;
	__u64 ts_ns; /* CLOCK_MONOTONIC */
	union {
		struct {
			__u64 stack_id;
			__u64 addr, bytes;
			__u64 old_addr, old_bytes;
			__u32 mmap_flags; /* MAP_* */
			__s32 fd;	  /* -1: anonymous */
			__u32 prot;	  /* PROT_* */
			__u32 pad;
		} map;
		struct {
			struct proc_key other;
			__u32 flags;
			__u32 pad;
			char comm[16];
		} life;
		struct proc final;
	};
};

#define TEXT_WRAPPERS 12

/*
 * Where the code of one program image lies, for telling return addresses from data: the executable's own text and the libraries'.
 * Value of `texts`, key: image number. All zero: not known yet.
 */
struct text_ranges {
	__u64 exe_start, exe_end, lib_start, lib_end;
	/* Where mapping calls enter the kernel: instruction behind `syscall`, words from rsp up to the return address. ip 0: none. */
	struct {
		__u64 ip, slot_words;
	} wrapper[TEXT_WRAPPERS];
};

/* Value of `cpu_stats`, one per CPU. body: run time of the programs, measured on one hit of BODY_SAMPLE. */
#define BODY_SAMPLE 64

struct cpu_stat {
	__u64 hits, foreign_hits;
	__u64 body_ns, body_samples;
};

/* Argument of the program set_proc_flags: changes flags of a followed process without touching its counters. */
struct flags_change {
	__u32 tgid, set, clear;
};

/* Set between open and load; constant for the programs. */
struct config {
	__u32 own_tgid; /* never observed */
	__u32 follow_all_flags; /* != 0: every process, also new ones, gets these enum proc_flag */
	__u64 cgroup_id; /* != 0: processes below this v2 cgroup are adopted when first seen */
	__u32 cgroup_level;
	__u32 adopt_flags; /* enum proc_flag of those */
	__u32 scratch_slots; /* a power of two >= 4 per CPU */
	__u32 watch_exec; /* tell user space of every exec and birth, also of processes that are not followed */
};

_Static_assert(sizeof(struct proc_key) == 16, "proc_key");
_Static_assert(sizeof(struct live_key) == 24, "live_key");
_Static_assert(sizeof(struct live_block) == 24, "live_block");
_Static_assert(sizeof(struct sum_key) == 24, "sum_key");
_Static_assert(sizeof(struct sum) == 56, "sum");
_Static_assert(sizeof(struct stack) == 24 + 8 * STACK_MAX_FRAMES, "stack");
_Static_assert(sizeof(struct event) == 32 + sizeof(struct proc), "event");
_Static_assert(sizeof(struct proc) == 24 + 16 * LAYER_NR + 8 + 8 * LOSS_NR, "proc");

#endif
