/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loss ledger: every reason why a number could be smaller than the truth. One row feeds the
 * BPF counters, the JSON field, the status line and the metric: constant suffix, name, sentence.
 * unmatched_free and late_attach are facts about the target, not faults of ours.
 */
#ifndef TIDEMARK_LOSSES_H
#define TIDEMARK_LOSSES_H

#define for_each_loss(X) \
	X(UNMATCHED_FREE, "unmatched_free", \
	  "free of a block that was allocated before the attach or inherited by fork") \
	X(LATE_ATTACH, "late_attach", "the process, or a library that it opened, ran before it was attached") \
	X(LIVE_FULL, "live_full", "live map full: block counted in totals, its free will not be seen") \
	X(LIVE_BUSY, "live_busy", \
	  "live map busy or out of memory: block counted in totals, its free will not be seen") \
	X(SUMS_FULL, "sums_full", "table of sums full: the call is not counted") \
	X(STACKS_FULL, "stacks_full", "stack table full: bytes booked on an unknown stack") \
	X(STACK_COLLISION, "stack_collision", "two stacks of one hash: bytes booked on an unknown stack") \
	X(SCRATCH_BUSY, "scratch_busy", "no free scratch slot: bytes booked on an unknown stack") \
	X(THREAD_STATE, "thread_state", "no thread state available: the call is not counted") \
	X(MISSED_RETURN, "missed_return", "a call's return was not seen: its block is not counted") \
	X(MISSED_FREE, "missed_free", "address handed out again without a free seen: old block taken as freed") \
	X(USER_READ, "user_read", "target memory could not be read: the block is not counted") \
	X(RING_FULL, "ring_full", "event ring full: a mapping or process event is missing") \
	X(PROCS_FULL, "procs_full", "process table full: a process is not followed") \
	X(MAP_PLACE, "map_place", "where a mapping call left its mapping could not be told: it is not counted") \
	X(RETURN_UNSAFE, "return_unsafe", "a return probe would be unsafe here: the call's result is not seen, its block not tracked")

enum loss {
#define X(id, name, text) LOSS_##id,
	for_each_loss(X)
#undef X
		LOSS_NR
};

#endif
