/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mapped ranges of processes, kept from the events of the mapping system calls: ranges are split and joined as the
 * kernel does it, and their bytes are booked on the stack that mapped them. Pure bookkeeping: no system calls, fed
 * in the order of the event ring.
 *
 * Rules: a new mapping over an old one (MAP_FIXED) frees what it covers. mremap that succeeds frees the old range
 * and allocates the new one on its own stack. brk is one mapping per process that grows and shrinks at its end. A
 * part that was mapped before the attach is not ours: unmapping it books nothing (it is counted in
 * unmatched_bytes). Unmapping is announced before the kernel does it; a failure comes as EVENT_UNDO of the same
 * thread and puts back exactly what was taken.
 */
#ifndef TIDEMARK_COLLECT_RANGES_H
#define TIDEMARK_COLLECT_RANGES_H

#include <stddef.h>
#include <stdint.h>

#include "abi.h"

struct ranges;

struct ranges *ranges_new(void);
void ranges_free(struct ranges *r);

/*
 * Takes EVENT_MMAP .. EVENT_BRK; EVENT_EXEC ends `other`, EVENT_EXIT ends `id`: the figures stay as they were
 * until ranges_forget. EVENT_FORK: nothing, a child starts empty. A vfork child that works in its parent's memory
 * ends nothing. EVENT_MREMAP has MREMAP_* in mmap_flags.
 */
void ranges_step(struct ranges *r, const struct event *e);

struct range_sum {
	struct proc_key proc;
	struct stack_ids ids;
	uint32_t tid;  /* that mapped first with this stack */
	uint32_t zero; /* no bytes between the fields: sums can be compared */
	/* Counts: an allocation per mapping call, a free when its last byte goes. Untracked: beyond 262,144 ranges. */
	struct sum sum;
	uint64_t file_live_bytes;		   /* part of live that maps files (fd >= 0 without MAP_ANONYMOUS) */
	uint64_t oldest_birth_ns, newest_birth_ns; /* of what is live; 0: nothing */
};

/* Calls back for every (process, stack) that ever mapped; order undefined. */
void ranges_each(const struct ranges *r, void (*fn)(const struct range_sum *s, void *ctx), void *ctx);
/* Ages: calls back for every live range of one process. */
void ranges_each_live(const struct ranges *r, const struct proc_key *p,
		      void (*fn)(uint64_t start, uint64_t bytes, uint64_t stack_id, uint64_t birth_ns, void *ctx),
		      void *ctx);

struct range_proc {
	uint64_t live_bytes, peak_live_bytes;
	uint64_t unmatched_bytes; /* unmapped, but mapped before the attach, or a hole in the range given */
};
/* 0 or -ENOENT: no mapping call seen. */
int ranges_proc(const struct ranges *r, const struct proc_key *p, struct range_proc *ret);
/* Its last figures were read. Who does not call this for a process that has ended keeps its ranges for ever. */
void ranges_forget(struct ranges *r, const struct proc_key *p);

#endif
