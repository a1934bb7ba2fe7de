/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs keep per thread and per scratch slot. Private to the kernel side. */
#ifndef TIDEMARK_BPF_STATE_H
#define TIDEMARK_BPF_STATE_H

#include "abi.h"
#include "shapes.h"

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
	__u8 has_old; /* `old` was taken out of `live` until the result is known */
	__u64 old_key;
	struct live_block old;
};

/* A wrapper (operator new) was entered; the next allocation made from inside it is booked on this stack. */
struct wrap {
	__u64 slot;					  /* of the outermost wrapper; 0: none */
	__u64 inner_slot, inner_caller, code, code_bytes; /* of the innermost one, which makes the call */
	__u64 bytes;					  /* as asked of the outermost */
	__u32 sum;					  /* of the outermost's stack */
	__u32 pad;
};

/* A mapping call between its entry and its exit. */
struct map_call {
	__u32 nr; /* system call number + 1; 0: none */
	__u32 pad;
	__u64 stack_id;
	__u64 args[5];
	__u64 brk_before;
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

#define TRACKED_LAYERS 2 /* heap, python: layers whose calls nest */
#define RECENT_STACKS 8

/* A stack that this thread showed lately: its definition is stored and its sum's place is known. */
struct recent {
	__u64 stack_id; /* 0: none */
	__u32 sum, account;
};

struct thread_state {
	__u32 account;	  /* of the process, as found last; 0: not yet */
	__u32 image;	  /* image for which trampoline holds */
	__u64 trampoline; /* where the kernel's return trampoline lies in this process; 0: not looked up yet */
	struct inflight call[TRACKED_LAYERS];
	struct wrap wrap;
	struct map_call map;
	struct recent recent[RECENT_STACKS];
};

/* One slot of working memory. Uprobe programs can be preempted (6.0 and newer), so a slot is claimed, not assumed. */
struct scratch {
	__u32 busy;
	__u32 pad;
	struct stack stack;
};

#endif
