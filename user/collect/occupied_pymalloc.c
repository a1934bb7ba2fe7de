/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pymalloc (CPython 3.6-3.14, Objects/obmalloc.c, Include/internal/pycore_obmalloc.h): a pool of 4 or 16 KiB holds blocks of one size. Its header
 * counts the blocks in use, and everything in it follows from one rule that also proves that it is a pool: blocks below nextoffset that
 * are not in the free list are in use, and there are `count` of them. So no symbol and no arena is needed, and a torn read shows.
 */
#include "collect/occupied.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "layers.h"
#include "util/mem.h"

#define POOL_MAX 16384u /* from 3.10 on; before, 4096 */
#define ALIGNMENT 16u
#define SMALL_BYTES 512u /* larger requests go to malloc */
#define CLASSES 32u
#define BLOCKS_MAX (POOL_MAX / ALIGNMENT)
/* What PYTHONMALLOC=debug puts before a block: size, kind and fill. */
#define DEBUG_SHIFT 16u
#define DEBUG_BYTES 32u /* and all it adds: as much again, and a serial number */

struct pool_header {
	uint32_t count, count_high;
	uint64_t freeblock, nextpool, prevpool;
	uint32_t arenaindex, szidx, nextoffset, maxnextoffset;
};
_Static_assert(sizeof(struct pool_header) == 48, "pool_header");

struct pool {
	uint64_t addr;
	uint32_t bytes; /* 0: none */
	uint32_t block; /* size of one */
	uint32_t count, next;
	bool is_free[BLOCKS_MAX]; /* by index, below next */
	unsigned char image[POOL_MAX];
};

/* Index of the block that begins at an address of the pool; BLOCKS_MAX: none does. */
static uint32_t block_at(const struct pool *p, uint64_t addr)
{
	uint64_t offset = addr - p->addr;

	if (offset < sizeof(struct pool_header) || offset >= p->bytes)
		return BLOCKS_MAX;
	offset -= sizeof(struct pool_header);
	return offset % p->block ? BLOCKS_MAX : (uint32_t)(offset / p->block);
}

static bool is_header(struct pool *p, uint32_t bytes)
{
	struct pool_header h;

	memcpy(&h, p->image, sizeof(h));
	if (h.szidx >= CLASSES || h.count_high || h.freeblock % ALIGNMENT)
		return false;
	p->bytes = bytes;
	p->block = (h.szidx + 1) * ALIGNMENT;
	p->count = h.count;
	uint32_t capacity = (bytes - (uint32_t)sizeof(h)) / p->block;
	if (h.maxnextoffset != bytes - p->block || h.count > capacity || h.nextoffset < sizeof(h) ||
	    (h.nextoffset - sizeof(h)) % p->block)
		return false;
	p->next = (h.nextoffset - (uint32_t)sizeof(h)) / p->block;
	return p->next <= capacity;
}

/* The free list lies in the pool itself. */
static bool follow_free(struct pool *p)
{
	uint64_t at = ((const struct pool_header *)(const void *)p->image)->freeblock;
	uint32_t length = 0;

	memset(p->is_free, 0, sizeof(p->is_free));
	for (; at; length++) {
		uint32_t i = block_at(p, at);
		if (i >= p->next || p->is_free[i])
			return false;
		p->is_free[i] = true;
		memcpy(&at, p->image + (at - p->addr), sizeof(at));
	}
	return p->next - length == p->count;
}

static bool pool_read(struct page_cache *c, uint64_t addr, uint32_t bytes, struct pool *p)
{
	p->addr = addr & ~(uint64_t)(bytes - 1);
	if (page_cache_read(c, p->addr, p->image, sizeof(struct pool_header)) || !is_header(p, bytes) ||
	    page_cache_read(c, p->addr, p->image, bytes) || !is_header(p, bytes) || !follow_free(p)) {
		p->bytes = 0;
		return false;
	}
	return true;
}

bool pymalloc_pool(struct page_cache *c, uint64_t addr, uint32_t pool_bytes, struct pool_view *ret)
{
	_cleanup_(freep) struct pool *p = xcalloc(1, sizeof(*p));

	if (addr % pool_bytes || !pool_read(c, addr, pool_bytes, p))
		return false;
	*ret = (struct pool_view){ .first = addr + sizeof(struct pool_header),
				   .block_bytes = p->block,
				   .n = p->count ? p->next : 0 };
	for (uint32_t i = 0; i < ret->n; i++)
		ret->used[i / 64] |= (p->is_free[i] ? 0ull : 1ull) << i % 64;
	return true;
}

static enum occupancy block_state(const struct pool *p, uint64_t addr)
{
	uint32_t i = block_at(p, addr);

	if (i == BLOCKS_MAX)
		i = block_at(p, addr - DEBUG_SHIFT);
	if (i == BLOCKS_MAX)
		return OCCUPANCY_NO_BLOCK;
	/* A pool without blocks in use may be taken for another size at any moment: its header is stale, but nothing in it lives. */
	return !p->count || i >= p->next || p->is_free[i] ? OCCUPANCY_FREE : OCCUPANCY_IN_USE;
}

/* Of a size that this request got, with what PYTHONMALLOC=debug adds; realloc lets shrink by a quarter in place. */
static bool block_fits(uint32_t block, uint64_t bytes)
{
	return block >= bytes && block <= bytes + bytes / 3 + DEBUG_BYTES + ALIGNMENT;
}

static bool is_small(const struct occupied_query *q)
{
	return q->layer == LAYER_PYTHON && q->bytes <= SMALL_BYTES;
}

static int pymalloc_look(struct occupied_look *l)
{
	static const uint32_t sizes[] = { POOL_MAX, 4096 };
	_cleanup_(page_cache_freep) struct page_cache *c = page_cache_new(l->memory);
	_cleanup_(freep) struct pool *p = xcalloc(1, sizeof(*p));
	bool found = false;

	for (size_t i = 0; i < l->n; i++) {
		struct occupied_query *q = &l->queries[i];
		if (!is_small(q) || q->is != OCCUPANCY_UNKNOWN)
			continue;
		bool in = p->bytes && q->addr - p->addr < p->bytes;
		for (size_t k = 0; k < ARRAY_SIZE(sizes) && !in; k++) {
			in = pool_read(c, q->addr, sizes[k], p);
			l->figures.pools += in;
		}
		if (!in)
			continue;
		found = true;
		q->is = (uint8_t)block_state(p, q->addr);
		if (q->is == OCCUPANCY_IN_USE && !block_fits(p->block, q->bytes))
			q->is = OCCUPANCY_NO_BLOCK; /* the pool changed hands */
	}
	return found ? 0 : -ENOTSUP;
}

const struct heap_walker heap_walker_pymalloc = { .name = "pymalloc", .look = pymalloc_look };
