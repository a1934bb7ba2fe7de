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
	__u64 slot; /* 0: none */
	__u64 bytes;
	__u64 ptr; /* realloc: the old block; out-parameter shapes: where the result is written */
	__u64 stack_id;
	__u64 code_start, code_end; /* the allocator's code: calls from there are inside this one */
	__u16 site;
	__u8 shape;
	__u8 has_old; /* `old` was taken out of `live` until the result is known */
	__u32 pad;
	struct live_key old_key;
	struct live_block old;
};

/* A wrapper (operator new) was entered; the next allocation made from inside it is booked on this stack. */
struct wrap {
	__u64 slot; /* of the outermost wrapper; 0: none */
	__u64 inner_slot, code, code_bytes; /* of the innermost one, which makes the call */
	__u64 stack_id;
	__u64 bytes; /* as asked of the outermost */
};

/* A mapping call between its entry and its exit. */
struct map_call {
	__u32 nr; /* system call number + 1; 0: none */
	__u32 pad;
	__u64 stack_id;
	__u64 args[5];
	__u64 brk_before;
};

#define TRACKED_LAYERS 2 /* heap, python: layers whose calls nest */

struct thread_state {
	struct inflight call[TRACKED_LAYERS];
	struct wrap wrap;
	struct map_call map;
	__u64 trampoline; /* where the kernel's return trampoline lies in this process; 0: not looked up yet */
	__u32 image;	  /* image for which trampoline holds */
	__u32 pad;
};

/* One slot of working memory. Uprobe programs can be preempted (6.0 and newer), so a slot is claimed, not assumed. */
struct scratch {
	__u32 busy;
	__u32 pad;
	struct stack stack;
};

#define SCRATCH_PER_CPU 4

#endif
