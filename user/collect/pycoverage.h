/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which share of what a CPython process allocates from pymalloc is seen. Where a compiler inlined the allocator into its callers, their calls pass no probe; but
 * each leaves a block in a pool. So pools are looked at twice: what came into use in between was allocated meanwhile, and either stands among the live blocks
 * that the probes know, or was not seen. Needs probes that are in place all the time between the looks.
 */
#ifndef TIDEMARK_COLLECT_PYCOVERAGE_H
#define TIDEMARK_COLLECT_PYCOVERAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"
#include "target/proc.h"

struct pycoverage;

/* Does a live block of the Python layer begin here, as far as probes know? */
typedef bool (*pycoverage_find)(void *ctx, uint32_t account, uint64_t addr);

struct pycoverage *pycoverage_new(uint32_t pid, uint32_t account, bool large_pools);
void pycoverage_free(struct pycoverage *c);

/*
 * A look; costs a millisecond, so not more often than once per second (it decides). attached: every call is counted now, none is sampled.
 */
void pycoverage_look(struct pycoverage *c, bool attached, uint64_t now_ns, pycoverage_find find, void *ctx);

/* 0..1, in bytes of blocks, of the last looks; NAN: too little was allocated to say. */
double pycoverage_share(const struct pycoverage *c);

static inline void pycoverage_freep(struct pycoverage **c)
{
	pycoverage_free(*c);
}

#endif
