/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel object: opened, sized, configured, verified, and its tracepoints attached. The only file of probe/ that sees the
 * skeleton. Everything it holds goes with its descriptors: nothing is pinned.
 */
#ifndef TIDEMARK_PROBE_LOADER_H
#define TIDEMARK_PROBE_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "probe/features.h"
#include "probe/sums.h"
#include "probe/unwind.h"
#include "python.h"

struct loader;

/* X(id, name in the object): maps that user space reads. */
#define for_each_kernel_map(X) \
	X(PROCS, procs) X(LIVE, live) X(SUMS, sums) X(STACKS, stacks) X(MORE_STACKS, more_stacks) X(PYTHON_CHAINS, python_chains) \
			X(MORE_CHAINS, more_chains) X(PYTHONS, pythons) X(CODES, codes) X(ROW_BLOCKS, row_blocks) X(PAGES, pages) \
					X(RULES, rules) X(RANGES, ranges) X(SCRATCHES, scratches) X(CPU_STATS, cpu_stats) \
							X(ORPHAN_LOSSES, orphan_losses) X(EVENTS, events) X(PYTHON_EVENTS, python_events) X(HITS, hits)

enum kernel_map {
#define X(id, name) KMAP_##id,
	for_each_kernel_map(X)
#undef X
		KMAP_NR
};

/* X(id, name): programs that attach.c links to functions. */
#define for_each_call_prog(X) \
	X(ALLOC_SESSION, on_alloc_session) X(ALLOC_ENTER, on_alloc_enter) X(ALLOC_EXIT, on_alloc_exit) X(FREE_ENTER, on_free_enter) X(WRAP_ENTER, on_wrap_enter) X(CODE_FREED, on_code_freed)

enum call_prog {
#define X(id, name) CALL_##id,
	for_each_call_prog(X)
#undef X
		CALL_NR
};

struct loader_opts {
	struct config cfg; /* scratch_slots is filled in here */
	struct features features;
	uint32_t live_max; /* places for blocks, in whole buckets; 0: default */
};

/* 0; -EPERM not allowed; -ENOTSUP kernel too old or without BTF; else what the verifier said. *ret_why (caller frees) is one clause. */
int loader_open(const struct loader_opts *o, struct loader **ret, char **ret_why);
void loader_free(struct loader *l);

/*
 * Births, execs, exits; with_maps: mapping calls too, at the lock of the address space where calls are sampled and the kernel can show them there, else as system
 * calls. 0 or -errno.
 */
int loader_attach_tracepoints(struct loader *l, int with_maps);

/* Page faults, one in `every` of which is looked at. 0; -ENOTSUP: not on this kernel; -errno. */
int loader_attach_pages(struct loader *l, uint32_t every);

/* madvise is a system call, and nothing else tells of it: seen only where mapping calls are observed as such. */
bool loader_sees_madvise(const struct loader *l);

int loader_map_fd(const struct loader *l, enum kernel_map m);
int loader_prog_fd(const struct loader *l, enum call_prog p); /* -1: this kernel can't have it */
const struct features *loader_features(const struct loader *l);

/* Which links count: before the first is made. Later the other scope's may be made too, the switch makes them count, and the first ones go. */
void loader_set_scope(struct loader *l, enum probe_scope scope);
void loader_switch_scope(struct loader *l);
void loader_settle_scope(struct loader *l);

/* Takes the next image number from the counter that the programs share. */
uint32_t loader_new_image(struct loader *l);

/* The tables that both sides map, whole: `procs` has PROC_SLOTS elements. They live as long as the loader. */
struct proc *loader_procs(const struct loader *l);
struct python_info *loader_pythons(const struct loader *l); /* PYTHON_INFOS */

__u64 *loader_live_filter(const struct loader *l); /* LIVE_FILTER_WORDS of them */
struct sums_table loader_sums(const struct loader *l);

/* The unwind tables; blocks of rows are made on demand and stay. Lives as long as the loader. */
struct unwind_area loader_unwind_area(struct loader *l);

struct kernel_map_info {
	const char *name;
	uint32_t capacity;
	uint64_t bytes; /* of kernel memory: as allocated at the start, or, of what grows on demand, so far */
};
struct kernel_map_info loader_map_info(const struct loader *l, enum kernel_map m);

#endif
