/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs keep per thread and per scratch slot. Private to the kernel side. */
#ifndef TIDEMARK_BPF_STATE_H
#define TIDEMARK_BPF_STATE_H

#include "abi.h"
#include "python.h"
#include "shapes.h"
#include "unwind.h"

/*
 * The outermost allocation call of one layer that has not returned yet. Calls inside it belong to it, so one record per
 * layer is enough, whatever the depth. `slot` is the address of the return address: it identifies the call, orders it
 * against others on the stack, and holds the kernel's trampoline as long as the call's return is awaited.
 */
struct inflight {
	__u64 slot;	   /* 0: none */
	__u64 unseen_slot; /* of the last call whose result could not be seen */
	__u64 caller;	   /* the return address that stood there: where the return will come out */
	__u64 bytes;
	__u64 ptr;		    /* realloc: the old block; out-parameter shapes: where the result is written */
	__u64 code_start, code_end; /* the allocator's code: calls from there are inside this one */
	__u32 sum;		    /* on which it will be booked */
	__u16 site;
	__u8 shape;
	__u8 has_old;	 /* `old` was taken out of `live` until the result is known */
	__u8 rate;	 /* at which it was sampled */
	__u8 is_counted; /* its new block is booked; else it is followed for the old one's sake */
	__u8 is_skipped; /* not sampled: no return is awaited, the record only tells calls from inside */
	__u8 pad[5];
	__u64 old_key;
	struct live_block old;
};

/* A wrapper (operator new) was entered; the next allocation made from inside it is booked on this stack. */
struct wrap {
	__u64 slot;					  /* of the outermost wrapper; 0: none */
	__u64 inner_slot, inner_caller, code, code_bytes; /* of the innermost one, which makes the call */
	__u64 bytes;					  /* as asked of the outermost */
	__u32 sum;					  /* of the outermost's stack */
	__u8 rate, is_counted;				  /* as sampled there */
	__u8 pad[2];
};

/* A mapping call between its entry and its exit. */
struct map_call {
	__u32 nr; /* system call number + 1; 0: none */
	__u32 pad;
	struct stack_ids ids;
	__u64 args[5];
	__u64 brk_before;
	/* Seen at the lock only (maplock.bpf.h): */
	__u64 pages;		       /* of the process, before the call */
	__u64 area, area_bytes;	       /* free, chosen by the kernel; 0: none */
	__u64 vma_before;	       /* what lay at the first argument; 0: nothing, or not looked at */
	__u64 vma, vma_start, vma_end; /* looked up last */
};

/*
 * A loop that the compiler unrolls gives each round code of its own, and the verifier follows every way through all of them; left as a
 * loop, it sees after each round that the ways have met.
 */
#ifdef __clang__
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define NO_UNROLL
#endif

/* How a process's page tables look around one address. */
#define VIEW_PAGES 64

struct page_view {
	__u64 table;   /* that holds the page's entry; 0: none */
	__u64 pfn;     /* the page's number in physical memory; 0: none that counts */
	__u64 present; /* a bit for each of VIEW_PAGES pages: resident */
	__u64 hugetlb; /* pages of hugetlbfs that the process has */
	__u32 first;   /* the first of these pages' index in its table */
	__u32 huge;
};

/* A page fault between its two ends. */
struct fault {
	__u64 addr;  /* 0: none */
	__u32 every; /* faults that this one stands for */
	__u32 may_copy;
	struct page_view before, after;
};

#define TRACKED_LAYERS 2 /* heap, python: layers whose calls nest */

/*
 * A piece of the target's memory, read at once: 4 KiB cost about as much as two words read one by one. It lies in the thread's own
 * state, because programs can be preempted, and because the kernel checks a copy into large shared memory at length (hardened usercopy).
 */
#define WINDOW_BYTES 4096u
#define WINDOW_WORDS (WINDOW_BYTES / 8)
#define WINDOW_STEP 256u
#define WINDOW_PATIENCE 8 /* stacks that reach less far before less is copied */

/* Where an unwinding begins. */
struct stack_start {
	__u64 pc, sp, bp;
	__u64 slot; /* where the first return address stands, as the planner found; 0: pc itself is the first address */
	__u64 caller; /* what stands there */
	__u16 site;
};

/* A stack on its way outwards. */
struct unwind {
	__u64 pc, sp, bp;
	__u64 bp_slot;	   /* where bp was loaded from; 0: it is the register of the hit */
	__u64 start_sp;	   /* of the hit: slots are remembered relative to it */
	__u64 layout;	   /* as the unwinding began: user space may change the process's meanwhile */
	__u64 hash, check; /* of what is remembered */
	__u64 listed;	   /* hash of the frames so far */
	__u64 range_start, range_bytes, bias; /* the mapping of the frame before: most often of the next, too */
	__u32 page, n;
	__u64 instance;	  /* struct return_instance: the next one to look at; 0: not begun */
	__u16 n_slots;	  /* remembered so far */
	__u8 exact;	  /* pc is an instruction that has not run; else it is a return address */
	__u8 cut;	  /* enum stack_cut */
	__u8 forgettable; /* what it depends on can't be remembered as slots */
	__u8 bp_noted;	  /* the memory or register that bp came from is remembered */
	__u8 bp_lost;
	__u8 bp_at_hit; /* a rule used bp as it was at the hit */
	__u32 remember; /* index in `remembered` that is being filled */
};

/*
 * A stack that was there lately: where its return addresses stand, as words above the stack pointer of the hit, and
 * where the frame pointers stand that its rules used (REMEMBER_CHECK). What stood there is kept as hashes.
 *
 * Equal words at these places prove the same stack: the probed instruction and its stack pointer give the first frame's CFA by the rule of the
 * instruction; a return address at its place gives the next rule, and so the next CFA; and so on.
 */
#define REMEMBERED 4096 /* of all threads together */
#define REMEMBERED_SLOTS 192
#define REMEMBER_CHECK 0x8000u /* the word, less the stack pointer of the hit, goes into `check` */
#define REMEMBER_REACH 0x7fffu /* words */

struct remembered {
	__u64 layout; /* rules may differ under another; 0: empty */
	__u64 ip;
	__u64 native_id;
	__u64 seal; /* of what stood there and native_id: two threads that fill one entry at once make one that fits nothing */
	__u64 bp; /* as it was at the hit, less the stack pointer; if bp_at_hit */
	__u32 image;
	__u16 site, n;
	__u8 bp_at_hit;
	__u8 pad[7];
	__u16 slot[REMEMBERED_SLOTS];
};

/* Python frames on their way outwards. A frame is held back until it is known whether it is an entry. */
struct python_walk {
	__u64 frame; /* the next one's address */
	__u64 hash;
	__u64 pending; /* python_frame_pack; 0: none */
	__u32 pending_id;
	__u32 python;	/* index in `pythons` */
	__u16 n, flags; /* enum python_chain_flag */
	__u32 newest;	/* highest co_version among its code objects (3.12+) */
	__u64 state;	/* PyThreadState */
	__u64 first;	/* innermost frame */
	__u64 check;	/* hash of the words that name its frames */
	__u32 steps;	/* frames and shims so far */
	__u64 counter;	/* func_state.next_version of the interpreter, or code_turn of the process; 0: none */
	__u64 interp;	/* whose counter it is; 0: the process's */
	__u32 too_many; /* frames to be remembered */
	__u32 remember; /* index in `chain` that is being filled */
	/* Of one code object; here for the same reason as thread_state.start. */
	__u64 code_words[PYTHON_CODE_ID_BYTES / 8], table_words[4];
};

/*
 * Frames that were there lately: where they lie and a hash of what stood there. Equal words are the same frames running the same
 * code, if no code object was made since (3.13 and newer count them) or freed (a probe tells).
 */
#define REMEMBERED_CHAINS 2048
#define REMEMBERED_STEPS 128

struct remembered_chain {
	__u64 state, first; /* first 0: empty */
	__u64 id, seal;
	__u64 counter;
	__u32 account, python;
	__u32 n, image;
	__u64 at[REMEMBERED_STEPS];
};

/*
 * A code object identified lately, which takes two reads of the process's memory. What an interpreter's thread found at an address holds as long as its counter
 * stands: no code object was made since, or freed. Two CPUs that fill one place at once make one that fits nothing: `seal` is of the key too, by another hash.
 */
#define KNOWN_CODES_BITS 12

struct known_code {
	__u64 key; /* address, counter, interpreter, process; 0: empty */
	__u32 seal;
	__u32 id;
	__u32 version; /* co_version; looked at only where there is one */
	__u32 is_told; /* to user space */
};

/* A sum that this thread booked on lately: its stack's definition is stored. */
#define RECENT_SUMS 64

struct recent_sum {
	__u64 stack_id; /* 0: none */
	__u32 sum, account;
};

struct thread_state {
	__u32 account;	     /* of the process, as found last; 0: not yet */
	__u32 image;	     /* image for which trampoline and python_key hold */
	__u64 trampoline;    /* where the kernel's return trampoline lies in this process; 0: not looked up yet */
	__u64 stack_end;     /* what is read of the stack ends here; 0: not known */
	__u32 python_key;    /* of the thread-specific data, plus one; 0: not known */
	__u32 was_repeated;  /* the stack that was taken last */
	__u64 left;	     /* bytes up to the next sampling point */
	__u32 left_rate;     /* the rate it was drawn for; 0: none was */
	__u32 hits, returns; /* all told; the process is told in steps */
	__u32 scope;	     /* of its last hit while links of two scopes were in place */
	struct inflight call[TRACKED_LAYERS];
	struct wrap wrap;
	struct map_call map;
	struct fault fault;
	struct recent_sum recent[RECENT_SUMS];
	/* Of a heap call. Not on the programs' own stack: there are 512 bytes of that for a whole chain of calls, on 6.1 in steps of 32 per call. */
	struct stack_ids ids;
	struct stack_start start;
	struct unwind unwind;
	struct python_walk walk;
	__u32 window_reach, window_shorter; /* how far stacks reach, as learnt; 0: not yet */
	__u32 window_want;		    /* of the next read; 0: all */
	__u32 pad3;
	__u64 window_base; /* what `window` holds: */
	__u64 window_bytes;
	__u64 window[WINDOW_WORDS];
};

/*
 * The kernel allocates it in powers of two, with some 150 bytes of its own around it (kernel/bpf/bpf_local_storage.c: struct bpf_local_storage_elem, two
 * cache lines).
 */
_Static_assert(sizeof(struct thread_state) <= 8192 - 192, "thread_state");

/* One slot of working memory. Uprobe programs can be preempted (6.0 and newer), so a slot is claimed, not assumed. */
struct scratch {
	__u32 busy;
	__u32 pad;
	union {
		struct stack stack;
		struct python_chain chain;
	};
};

#endif
