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
	PROC_HEAP = 1 << 0,	  /* heap calls of this process are counted */
	PROC_MAP = 1 << 1,	  /* mapping calls are counted */
	PROC_FOLLOW = 1 << 2,	  /* children are followed from their birth */
	PROC_BORROWS_MM = 1 << 3, /* vfork or CLONE_VM child: accounted to the owner of the memory until it execs */
	PROC_LATE = 1 << 4,	  /* ran before it was attached */
	PROC_NAMED = 1 << 5,	  /* the user asked for this one (not found by being a child) */
	PROC_NO_RETURN = 1 << 6,  /* return probes would harm it: allocations are counted, not tracked */
	PROC_TIGHT = 1 << 7,	  /* allocations of any size may fail in it (RLIMIT_AS, strict overcommit) */
	PROC_PYTHON = 1 << 8,	  /* calls of its Python's allocators are counted */
	PROC_PAGE = 1 << 9,	  /* page faults are counted */
};

/*
 * `procs`: an array that both sides map, searched by tgid over PROC_PROBES slots (include/tables.h).
 *
 * An account stands for one (pid, start time, image): its slot in the low bits and, above them, how often the slot was taken. So it is
 * small enough for the keys of the other tables, and a number is not used again until ACCOUNT_TURNS images later in the same slot.
 */
#define PROC_SLOTS 8192
#define PROC_SLOT_BITS 13
#define ACCOUNT_BITS 19
#define ACCOUNT_TURNS 63
#define PROC_PROBES 8
#define PROC_CLAIMED 0xffffffffu /* tgid of a slot that is being filled */

#define WINDOW_ALWAYS 0xffffffffffffffffull

/* Between the turns that user space sets. A program that moves one on as user space sets it to 0 leaves less. */
#define CODE_TURNS_APART (1ull << 32)

struct proc {
	__u32 tgid; /* 0: free; written last */
	__u32 used; /* times the slot was taken; 0: never, so searches end here */
	__u32 account;
	__u32 flags; /* enum proc_flag */
	struct proc_key id;
	__u32 ppid;
	__u32 swept;	     /* turns of the slot up to here are out of all tables; written by user space */
	__u64 layout;	     /* its ranges (include/unwind.h), written by user space; 0: not known yet */
	__u32 python;	     /* index in `pythons`, written by user space; 0: no Python that could be walked */
	__u32 layout_asked;  /* user space was told of code in no range, and has not looked yet */
	__u32 rate;	     /* of sampling (include/sampling.h), written by user space; 0: every call is counted */
	__u32 spent;	     /* user space was told that hits_limit was passed */
	__u64 hits, returns; /* of our programs on its heap calls: entries and frees; returns. In steps of HITS_STEP */
	__u64 sampled;	     /* entries that were counted, of those */
	__u64 body_ns;	     /* run time of the programs on its calls, estimated from one run of BODY_SAMPLE */
	__u64 window_end_ns; /* CLOCK_MONOTONIC: allocations are counted until then; WINDOW_ALWAYS. Written by user space */
	__u32 scale;	     /* of what is counted in this window (sampling.h), written by user space */
	__u32 unsampled;     /* calls were counted that were not sampled: blocks may be live that no filter tells of */
	__u64 booked_bytes,
		booked_var; /* allocations counted, heap and python, weights and scales in them: what one window found */
	__u64 code_turn; /* moves on when a code object of its Python is freed; below CODE_TURNS_APART: nothing tells of that. Set by user space */
	__u64 hits_limit;	/* written by user space: past it the kernel side tells (EVENT_SPENT); 0: no limit */
	__u64 given_back_bytes; /* of addresses, by madvise(MADV_DONTNEED, MADV_FREE) */
	__s64 live_bytes[LAYER_NR]; /* running sum of tracked blocks, for the peak */
	__s64 peak_live_bytes[LAYER_NR];
	__u64 losses[LOSS_NR];
};

/*
 * `live`: buckets of live blocks. A block lies in one of the two buckets that its key hashes to, in the less full one: up to
 * three quarters of all places can be taken before any is refused. Key 0: free; LIVE_BUSY: being filled.
 */
#define LIVE_WAYS 8
#define LIVE_BUSY 1ull

#define BLOCK_BYTES_MAX ((1ull << 40) - 1)

struct live_block {
	__u64 bytes : 40; /* as requested; BLOCK_BYTES_MAX: that or more */
	__u64 rate : 8;	  /* at which it was sampled; its weight stays the same until it is freed */
	__u64 scale : 8;  /* of the window in which it was counted (sampling.h), kept for the same reason */
	__u64 up : 8;	  /* it was booked as one more block than its weight's whole part */
	__u32 sum;	  /* index in `sums` of the stack that allocated it */
	__u32 birth_ms;	  /* CLOCK_MONOTONIC, low 32 bits */
};

struct live_bucket {
	__u64 key[LIVE_WAYS]; /* live_key() */
	struct live_block block[LIVE_WAYS];
};

/* Blocks with this sum are of none: user space put them there, and the programs book nothing when they go. */
#define LIVE_GHOST_SUM 0xffffffffu

/*
 * `live_filter`: where calls are sampled, most frees are of blocks that are not in `live`, and to see that there takes two far away cache lines. So the
 * sampled ones are counted in cells, small enough to stay in the cache, by their keys. A cell that has had LIVE_CELL_MOST blocks at once stays so. Counted
 * before the block can be found and until it can't: a cell of 0 is the truth, any other only a reason to look.
 */
#define LIVE_CELLS 262144 /* a power of two */
#define LIVE_CELL_BITS 4
#define LIVE_CELL_MOST 15ull
#define LIVE_CELLS_PER_WORD (64 / LIVE_CELL_BITS)
#define LIVE_FILTER_WORDS (LIVE_CELLS / LIVE_CELLS_PER_WORD)

/*
 * A stack is a pair: the native one and the Python one that goes with it, each stored once (`stacks`, `python_chains`) under a hash of what
 * it consists of. The pair's own id is a hash of both, and of the thread where threads are told apart (tables.h: stack_id_of); its low 4 bits are
 * the layer. An id with all upper bits zero is the stack "unknown" of its layer.
 */
#define STACK_ID_LAYER_MASK 15ull

struct stack_ids {
	__u64 id;
	__u64 native; /* 0: unknown */
	__u64 python; /* 0: none; PYTHON_LOST: there are Python frames, but they could not be had */
};

#define PYTHON_LOST 1ull /* ids have zeros in their lowest four bits */

/*
 * `sums`: per (account, stack), cumulative. tracked live = alloc - free - untracked; untracked blocks' frees can't be told. Searched
 * over SUM_PROBES places by sum_key(); two entries of one stack (two processors were first at once) add up.
 */
#define SUM_PROBES 16
#define SUMS_MAX 131072 /* places; a power of two */
/* Which places are taken, one bit each: the table is large, and mostly empty. Set once the place is taken, cleared before it is given back. */
#define SUM_MARK_BITS 64
#define SUM_MARKS (SUMS_MAX / SUM_MARK_BITS)

struct sum {
	__u64 key; /* sum_key(); 0: free */
	struct stack_ids ids;
	__u32 account; /* 0 while being filled */
	__u32 tid;     /* whose calls; 0: of all threads */
	__u64 alloc_bytes, alloc_count;
	__u64 free_bytes, free_count;
	__u64 untracked_bytes, untracked_count;
	__u64 peak_live_bytes;
	__u64 alloc_var,
		gone_var; /* sampling variance of what was allocated, and of what is not live any more: SAMPLE_VAR_UNIT² */
	__u64 cow_bytes; /* layer page, whose alloc_var is in pages²: copied on write */
};

/* How the unwinding of a stack ended. */
enum stack_cut {
	CUT_NONE,	/* at the thread's start: complete */
	CUT_DEPTH,	/* deeper than STACK_MAX_FRAMES */
	CUT_NO_MAPPING, /* code in no range that is known (yet): user space is told */
	CUT_NO_ROW,	/* code without unwind rows, and its frame pointer leads nowhere */
	CUT_RULE,	/* a rule that can't be followed: another register, an expression */
	CUT_MEMORY,	/* stack memory that can't be read or makes no sense */
	CUT_UNKNOWN,	/* no working memory: nothing is known of the stack */
	CUT_NR
};

/*
 * Value of `stacks`, key: id of the native stack, a hash over program image, site and addresses. ip[0] is the caller of the allocation function
 * (mapping calls: the code that entered the kernel). Each is the address behind the instruction that was under way there: a return address, or, where a
 * signal or a system call interrupted, the address of the next instruction's first byte plus one.
 */
struct stack {
	struct proc_key first_seen_in;
	__u16 site;
	__u8 cut; /* enum stack_cut */
	__u8 n_ips;
	__u32 pad;
	__u64 ip[STACK_MAX_FRAMES];
};

/* Sites below SITE_FIRST_PROBE are system calls; the rest come from the attach cookie. */
enum site { SITE_NONE, SITE_MMAP, SITE_MREMAP, SITE_BRK, SITE_FAULT, SITE_FIRST_PROBE = 16 };

enum event_kind {
	EVENT_FORK,	   /* id: the child, other: the parent */
	EVENT_EXEC,	   /* id: the new image, other: the old one */
	EVENT_EXIT,	   /* the last thread is gone; final holds the last figures */
	EVENT_MMAP,	   /* addr, bytes: done */
	EVENT_MUNMAP,	   /* about to happen: before the kernel acts, so that reuse of the range is ordered after it */
	EVENT_MREMAP,	   /* old_addr, old_bytes: about to move or resize */
	EVENT_MREMAP_DONE, /* addr, bytes: new place */
	EVENT_UNDO,	   /* the munmap or mremap announced last by this thread failed */
	EVENT_BRK,	   /* addr: new end, old_addr: end before */
	EVENT_LAYOUT,	   /* addr: code in no range that is known; told once until user space looked */
	EVENT_PYTHON,	   /* ids.python: a chain whose names have to be read soon */
	EVENT_SPENT,	   /* the process's calls passed hits_limit */
	EVENT_CODE, /* struct python_code_copy (include/python.h): a code object as it was when it first ran into us */
	EVENT_NR
};

struct event {
	__u32 kind; /* enum event_kind */
	__u32 tid;
	__u32 account, other_account; /* of id, of life.other */
	struct proc_key id;
	__u64 ts_ns; /* CLOCK_MONOTONIC */
	union {
		struct {
			struct stack_ids ids;
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

/* Value of `cpu_stats`, one per CPU. body: run time of the programs, measured on one hit of BODY_SAMPLE. */
#define HITS_STEP 64 /* a power of two: a thread tells its process of so many hits at once */

/*
 * One run of BODY_SAMPLE is measured. Entries, returns and frees come in a fixed order, so not each 64th: multiples of an irrational number (the golden ratio)
 * are as often in a given 64th of the circle in every such order. A division would be a twentieth of a short run.
 */
#define BODY_SAMPLE 64

static inline int body_is_measured(__u64 run)
{
	return (__u32)run * 0x9e3779b1u < (1u << 26);
}

/* How stacks were taken. repeated: a stack that the thread showed lately, verified without unwinding. */
struct stack_stat {
	__u64 taken, repeated, unwound, defined;
	__u64 python_taken, python_repeated, python_defined,
		python_foreign; /* foreign: the thread has no Python state of its own */
	__u64 cut[8];		/* enum stack_cut, of those unwound */
};

struct cpu_stat {
	__u64 runs, foreign_hits; /* runs: of our programs on heap calls, foreign ones among them */
	__u64 body_ns, body_samples;
	struct stack_stat stacks;
	__u64 tick, tick_ms; /* jiffies, and the clock then */
};

/*
 * Which links count: those for every process that maps the file, or those for one process each. Both are in place while user
 * space changes over, so a call is taken by exactly one of them.
 */
enum probe_scope { SCOPE_HOST, SCOPE_PROCESS };

/* In one word, so that it changes at once: the scope in force, whether links of the one before may still be in place, how often it changed. */
#define SCOPE_BIT 1u
#define SCOPE_BOTH 2u
#define SCOPE_TURN 4u

static inline __u32 scope_switched(__u32 word)
{
	return ((word & ~SCOPE_BOTH) + SCOPE_TURN) ^ (SCOPE_BIT | SCOPE_BOTH);
}

#define SCRATCH_PER_CPU 4 /* slots of working memory */

/* Set between open and load; constant for the programs. */
struct config {
	__u32 own_tgid;		/* never observed */
	__u32 follow_all_flags; /* != 0: every process, also new ones, gets these enum proc_flag */
	__u64 cgroup_id;	/* != 0: processes below this v2 cgroup are adopted when first seen */
	__u32 cgroup_level;
	__u32 adopt_flags;	      /* enum proc_flag of those */
	__u32 scratch_slots;	      /* a power of two >= 4 per CPU */
	__u32 live_buckets, sum_mask; /* sums: number less 1, a power of two */
	__u32 tick_us;		      /* length of a jiffy */
	__u32 pad2;
	__u32 by_thread;   /* != 0: sums of one thread each */
	__u32 record_hits; /* one of so many, for the tests' oracle (include/hit.h); 0: none */
	__u32 rate;	   /* include/sampling.h: of processes that are born or adopted */
	__u32 windowed;	   /* != 0: nothing of these is counted before user space opens a window */
	__u32 pad;
	__u64 sample_bytes; /* R of rate 1 */
	__u32 no_stacks;  /* != 0: all calls are booked on the layer's unknown stack (for measuring what stacks cost) */
	__u32 watch_exec; /* tell user space of every exec and birth, also of processes that are not followed */
};

_Static_assert(sizeof(struct proc_key) == 16, "proc_key");
_Static_assert(sizeof(struct live_block) == 16, "live_block");
_Static_assert(sizeof(struct live_bucket) == 24 * LIVE_WAYS, "live_bucket");
_Static_assert(sizeof(struct sum) == 120, "sum");
_Static_assert(sizeof(struct stack) == 24 + 8 * STACK_MAX_FRAMES, "stack");
_Static_assert(sizeof(struct event) == 40 + sizeof(struct proc), "event");
_Static_assert(sizeof(struct proc) == 152 + 16 * LAYER_NR + 8 * LOSS_NR, "proc");
_Static_assert(1 << PROC_SLOT_BITS == PROC_SLOTS, "slots");

#endif
