/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes one snapshot out of what the kernel's tables, the ranges and /proc say at one instant. Private to collect/.
 */
#ifndef TIDEMARK_COLLECT_ASSEMBLE_H
#define TIDEMARK_COLLECT_ASSEMBLE_H

#include <stdbool.h>
#include <stdint.h>

#include "collect/ages.h"
#include "collect/follow.h"
#include "collect/ranges.h"
#include "collect/snapshot.h"
#include "collect/windows.h"
#include "probe/sums.h"

/* All borrowed but what follows the blank line, which is the state between two snapshots. */
struct assembly {
	struct loader *loader;
	struct follow *follow;
	struct accounts *accounts;
	struct ranges *ranges;
	struct places *places;
	struct ages *ages;
	struct sums_table sums;
	struct stackdefs *defs;
	struct threads *threads;
	const struct attacher *attacher;
	struct windows *windows;
	const struct survival *survival;
	struct sum_scatters *scatters;
	bool map, by_thread;
	uint64_t sample_bytes; /* R of sampling rate 1 */
	uint32_t faults_every; /* page faults that one stands for */

	uint64_t n;
	uint64_t attached_ns, last_ns, last_cpu_ns;
	struct cpu_stat last;
	bool dead_sums;	 /* sums of accounts that ended wait for a walk of `live` */
	bool any_blocks; /* there are sums whose blocks are in `live` */
};

/* 0 or -errno. The caller frees *ret with snapshot_free. */
int assemble(struct assembly *a, struct snapshot **ret);

#endif
