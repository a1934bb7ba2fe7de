/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The maps and the read-only configuration. Sizes marked "user" are set by user space before loading. Nothing is
 * pinned; no table forgets by itself: an evicted live block would make totals drift silently.
 */
#ifndef TIDEMARK_BPF_MAPS_H
#define TIDEMARK_BPF_MAPS_H

#include "sampling.h"
#include "state.bpf.h"
#include "tables.h"

const volatile struct config cfg = {};

const volatile struct sampling_tables sampling = {};

/* Image numbers, shared with user space, which numbers the processes it finds at start. In .bss, which it maps. */
__u32 next_image;

/* Places of `sums` that are taken (include/abi.h). */
__u64 sum_marks[SUM_MARKS];

/* Which sampled blocks `live` may hold (include/abi.h). */
__u64 live_filter[LIVE_FILTER_WORDS];

/* Which links count (include/abi.h: SCOPE_*); set by user space. */
__u32 scope;

/* Held while a process of a control group is entered at its first call: two of its threads may come at once. */
__u32 adopting;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROC_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct proc);
} procs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072); /* user; cfg.live_buckets */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct live_bucket);
} live SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SUMS_MAX); /* cfg.sum_mask + 1 */
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct sum);
} sums SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384); /* user */
	__type(key, __u64);
	__type(value, struct stack);
} stacks SEC(".maps");

/* What does not fit there: programs that import a lot have ten thousands of stacks. Takes memory as it fills, and is slower to fill. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user */
	__type(key, __u64);
	__type(value, struct stack);
} more_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192); /* user */
	__type(key, __u64);
	__type(value, struct python_chain);
} python_chains SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user */
	__type(key, __u64);
	__type(value, struct python_chain);
} more_chains SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PYTHON_INFOS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct python_info);
} pythons SEC(".maps");

/* A cache, so it may forget. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PYTHON_CODES);
	__type(key, __u64);
	__type(value, __u32);
} codes SEC(".maps");

/* Unwind rows: blocks are made by user space as files need them. */
struct row_block_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct row_block)); /* __type: in an inner map clang would only declare it */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, ROW_BLOCKS);
	__type(key, __u32);
	__array(values, struct row_block_map);
} row_blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNWIND_PAGES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct unwind_page);
} pages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNWIND_RULES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct unwind_rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNWIND_RANGES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct unwind_range);
} ranges SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread_state);
} threads SEC(".maps");

/* Stacks and chains that were there lately, of all threads: a service goes through hundreds in a request. Caches; what does not fit is found again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, REMEMBERED);
	__type(key, __u32);
	__type(value, struct remembered);
} seen_stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, REMEMBERED_CHAINS);
	__type(key, __u32);
	__type(value, struct remembered_chain);
} seen_chains SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << KNOWN_CODES_BITS);
	__type(key, __u32);
	__type(value, struct known_code);
} known_codes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8); /* user: cfg.scratch_slots */
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_stat);
} cpu_stats SEC(".maps");

/* Page faults until the next one that is looked at. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} fault_turns SEC(".maps");

/* Losses that belong to no process that is (still) followed. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_NR);
	__type(key, __u32);
	__type(value, __u64);
} orphan_losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2097152);
} events SEC(".maps");

/* Names of Python frames to be read: apart, so that a program that compiles in a loop pushes nothing else out. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4194304);
} python_events SEC(".maps");

/* For the tests' oracle (cfg.record_hits); a page otherwise. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* user */
} hits SEC(".maps");

#endif
