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

struct known_stack;

/* All borrowed but what follows the blank line, which is the state between two snapshots. */
struct assembly {
	struct loader *loader;
	struct follow *follow;
	struct accounts *accounts;
	struct ranges *ranges;
	struct places *places;
	struct ages *ages;
	const struct attacher *attacher;
	bool map;

	struct known_stack *known; /* stacks whose definition was handed out */
	uint64_t images_ended;	   /* as of the last sweep */
	uint64_t n;
	uint64_t attached_ns, last_ns, last_cpu_ns, last_hits, last_foreign, last_body_ns, last_body_samples;
};

void assembly_done(struct assembly *a);
/* 0 or -errno. The caller frees *ret with snapshot_free. */
int assemble(struct assembly *a, struct snapshot **ret);

#endif
