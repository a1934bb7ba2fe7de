/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hit with all that is needed to unwind it once more by other means: registers and stack memory as they were, and the stack
 * that was taken. Recorded, one of some, for the tests' oracle only: TIDEMARK_HITS=FOLDER makes tidemark write
 *
 *	FOLDER/hits		struct hit_record, one behind the other
 *	FOLDER/stacks		struct hit_stack: every native stack's definition
 *	FOLDER/maps.PID		/proc/PID/maps of each process that is followed, as read last
 */
#ifndef TIDEMARK_HIT_H
#define TIDEMARK_HIT_H

#include "abi.h"

#define HIT_STACK_BYTES 16384
#define HIT_REGS 17 /* by DWARF number: rax rdx rcx rbx rsi rdi rbp rsp r8..r15, rip */

struct hit_record {
	__u32 pid, tid;
	__u64 native_id;      /* of the stack that was taken; its frames are in `stacks` */
	__u64 regs[HIT_REGS]; /* at the probed instruction: rip is its address */
	__u32 repeated;	      /* 1: verified against a remembered stack, 0: unwound */
	__u32 stack_bytes;    /* of stack[], from rsp up; less than HIT_STACK_BYTES near the stack's end */
	__u8 stack[HIT_STACK_BYTES];
};

struct hit_stack {
	__u64 native_id;
	struct stack stack;
};

_Static_assert(sizeof(struct hit_record) == 24 + 8 * HIT_REGS + HIT_STACK_BYTES, "hit_record");

#endif
