/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is some block in use at these addresses of a process? Answered from outside, by the bookkeeping of the allocator that the process uses. "Some
 * block": whether it is the one that was there before is not to be seen (collect/survival.h).
 *
 * The process runs meanwhile, so what is read may be torn. A wrong "free" would take a live block away: whatever is in doubt is
 * UNKNOWN. Memory comes through a reader, so that walkers work on images and on bytes of a fuzzer as on a process.
 */
#ifndef TIDEMARK_COLLECT_OCCUPIED_H
#define TIDEMARK_COLLECT_OCCUPIED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "target/proc.h"

enum occupancy {
	OCCUPANCY_UNKNOWN,
	OCCUPANCY_IN_USE,
	OCCUPANCY_FREE,	   /* a free block, or free memory of the allocator */
	OCCUPANCY_NO_BLOCK /* no block begins here (any more) */
};

struct occupied_query {
	uint64_t addr, bytes; /* as the program has the address; as it was requested */
	uint8_t layer;	      /* enum layer */
	uint8_t is;	      /* enum occupancy, the answer */
	uint32_t index;	      /* the caller's own */
};

/*
 * Bytes read from addr on, may be fewer than n; -EFAULT: not mapped; -ENODATA: swapped out, or not to be touched. Pages that the process never
 * touched read as zeros without being touched; so may what is not mapped.
 */
struct memory {
	int (*read)(void *ctx, uint64_t addr, void *to, size_t n);
	void *ctx;
};

/* What is kept of a process from look to look. All zero: nothing yet. */
struct heap_memo {
	uint64_t glibc_arena, glibc_start; /* main_arena, its first chunk */
	uint32_t glibc_bins;		   /* of the bins within it; 0: not found yet */
	double chunk_bytes;		   /* mean size of what was walked last; 0: nothing yet */
};

struct occupied_figures {
	uint64_t chunks, pools;
	uint64_t resyncs;	/* how often a walk had to find its way again: torn reads */
	uint64_t skipped_bytes; /* that were passed over so, or because the heap is large */
	uint32_t answered;	/* queries that are not UNKNOWN */
};

/* A look at one process: filled by the caller, handed to the walkers. */
struct occupied_look {
	const struct memory *memory;
	const struct mappings *maps;
	struct heap_memo *memo;
	struct occupied_query *queries; /* ascending by address */
	size_t n;
	uint64_t limit_bytes, limit_chunks; /* of heap to walk; a larger one is walked in part */
	uint64_t seed;			    /* which part */
	struct occupied_figures figures;
};

/*
 * Answers the queries (and sorts them). 0; -ENOTSUP: no allocator that is known; other -errno. Limits of 0: the defaults, 2 GiB and 2 million
 * chunks (half a second).
 */
int occupied_look(struct occupied_look *l);

/* One allocator. Answers queries that are UNKNOWN. 0; -ENOTSUP: it is not at work in this process. */
struct heap_walker {
	const char *name;
	int (*look)(struct occupied_look *l);
};
extern const struct heap_walker heap_walker_glibc, heap_walker_pymalloc;

/* The first query at or above an address; n if there is none. */
size_t occupied_from(const struct occupied_look *l, uint64_t addr);
/* Sets the answer of the queries of one address. */
void occupied_answer(struct occupied_look *l, uint64_t addr, enum occupancy is);

struct page_cache;

/* A pool of pymalloc: which of its blocks are in use. */
#define POOL_BLOCKS_MAX 1024
struct pool_view {
	uint64_t first;			     /* address of the first block */
	uint32_t block_bytes, n;	     /* n: blocks that were ever used; those behind are free */
	uint64_t used[POOL_BLOCKS_MAX / 64]; /* bits */
};
/* pool_bytes: 4096 until 3.9, then 16384. false: no pool begins at this address, or it is torn. */
bool pymalloc_pool(struct page_cache *c, uint64_t addr, uint32_t pool_bytes, struct pool_view *ret);

/* A process's memory. */
struct process_memory {
	struct memory memory;
	uint32_t pid;
	int pagemap; /* -1: residency is not known, everything is read */
};
void process_memory_open(uint32_t pid, struct process_memory *ret);
void process_memory_done(struct process_memory *p);

/* Small reads at many places: pages are kept, so the same page is read once. */
struct page_cache *page_cache_new(const struct memory *m); /* borrowed, must outlive */
void page_cache_free(struct page_cache *c);
/* 0 or -errno; all n bytes or none. */
int page_cache_read(struct page_cache *c, uint64_t addr, void *to, size_t n);

static inline void page_cache_freep(struct page_cache **c)
{
	page_cache_free(*c);
}

#endif
