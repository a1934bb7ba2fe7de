/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * At each look addresses where a pool may lie are drawn at random from the mappings that hold pools, whether one lies there (yet) or not, and looked at again
 * at the next: so every block that comes into use has the same chance to be met, those of new pools as well. What was not mapped at the look before
 * holds new blocks only; addresses of that are drawn as well. Each address stands for as many pools as there are per draw.
 *
 * The process runs meanwhile. A block that is in use when its pool is read, and gone when it is asked for among the live ones, would count as not seen;
 * so pools are read once more behind that, and only what is still in use counts.
 */
#include "collect/pycoverage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collect/occupied.h"
#include "util/mem.h"

#define LOOK_NS 1000000000ull
#define LATER_NS 5000000000ull /* behind SOON_LOOKS looks */
#define SOON_LOOKS 10
#define OLD_PLACES 40	/* drawn at the look before */
#define FRESH_PLACES 16 /* in what was mapped since */
#define PLACES (OLD_PLACES + FRESH_PLACES)
#define DRAWS 512 /* headers that are read to find the mappings with pools, in all */
#define DRAWS_PER_AREA 16
#define BLOCKS_PER_LOOK 4096
#define DECAY 0.7 /* of what was counted, per look that counts something */
#define ENOUGH_BLOCKS 50
#define SMALL_POOL 4096	 /* Objects/obmalloc.c: POOL_SIZE until 3.9 */
#define LARGE_POOL 16384 /* Include/internal/pycore_obmalloc.h: POOL_BITS 14 */

struct place {
	uint64_t addr;	       /* 0: none */
	double weight;	       /* pools that it stands for */
	struct pool_view view; /* of the look before; a place without a pool is one without blocks in use */
};

/* Where pools may lie: from the first address of one to the last one's end. */
struct area {
	uint64_t start, end;
};

struct areas {
	struct area *list; /* ascending */
	size_t n, cap;
};

struct pycoverage {
	uint32_t pid, account;
	uint32_t pool_bytes;
	uint64_t looked_ns, random;
	unsigned int looks;
	bool was_attached;
	struct areas mapped; /* at the look before */
	struct place places[PLACES];
	double seen_bytes, all_bytes, all_blocks;
};

struct pycoverage *pycoverage_new(uint32_t pid, uint32_t account, bool large_pools)
{
	struct pycoverage *c = xcalloc(1, sizeof(*c));

	c->pid = pid;
	c->account = account;
	c->pool_bytes = large_pools ? LARGE_POOL : SMALL_POOL;
	c->random = ((uint64_t)account << 32 | pid) * 0x9e3779b97f4a7c15ull + 1;
	return c;
}

static void areas_done(struct areas *a)
{
	free(a->list);
	*a = (struct areas){ 0 };
}

void pycoverage_free(struct pycoverage *c)
{
	if (c)
		areas_done(&c->mapped);
	free(c);
}

/* --- where pools lie --- */

static bool may_hold_pools(const struct mapping *m)
{
	return !m->exec && !m->inode && (!m->path[0] || !strncmp(m->path, "[anon:", 6));
}

static void areas_add(struct areas *a, uint64_t start, uint64_t end, uint32_t pool_bytes)
{
	start = (start + pool_bytes - 1) & ~(uint64_t)(pool_bytes - 1);
	end &= ~(uint64_t)(pool_bytes - 1);
	if (start >= end)
		return;
	a->list = grow_to(a->list, &a->cap, a->n + 1, sizeof(*a->list));
	a->list[a->n++] = (struct area){ start, end };
}

static void areas_mapped(const struct pycoverage *c, struct areas *ret)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	if (mappings_read(c->pid, &maps))
		return;
	for (size_t i = 0; i < maps.n; i++)
		if (may_hold_pools(&maps.items[i]))
			areas_add(ret, maps.items[i].start, maps.items[i].end, c->pool_bytes);
}

/* What is in `now` and was not in `before`. */
static void areas_fresh(const struct areas *now, const struct areas *before, uint32_t pool_bytes, struct areas *ret)
{
	size_t k = 0;

	for (size_t i = 0; i < now->n; i++) {
		uint64_t at = now->list[i].start, end = now->list[i].end;
		while (k < before->n && before->list[k].end <= at)
			k++;
		for (size_t j = k; j < before->n && before->list[j].start < end; j++) {
			if (before->list[j].start > at)
				areas_add(ret, at, before->list[j].start, pool_bytes);
			at = before->list[j].end > at ? before->list[j].end : at;
		}
		if (at < end)
			areas_add(ret, at, end, pool_bytes);
	}
}

/* xorshift64* (Vigna 2016). */
static uint64_t draw(struct pycoverage *c, uint64_t below)
{
	c->random ^= c->random >> 12;
	c->random ^= c->random << 25;
	c->random ^= c->random >> 27;
	return (c->random * 0x2545f4914f6cdd1dull >> 16) % below;
}

static uint64_t draw_pool(struct pycoverage *c, const struct area *a)
{
	return a->start + draw(c, (a->end - a->start) / c->pool_bytes) * c->pool_bytes;
}

/* The areas in which a pool is met within a few draws: arenas, and what the kernel joined with them. */
static void areas_with_pools(struct pycoverage *c, struct page_cache *cache, const struct areas *in, struct areas *ret)
{
	size_t draws = DRAWS;

	for (size_t i = 0; i < in->n && draws; i++) {
		struct pool_view view;
		bool found = false;
		for (size_t k = 0; k < DRAWS_PER_AREA && draws && !found; k++, draws--)
			found = pymalloc_pool(cache, draw_pool(c, &in->list[i]), c->pool_bytes, &view);
		if (found)
			areas_add(ret, in->list[i].start, in->list[i].end, c->pool_bytes);
	}
}

static void draw_places(struct pycoverage *c, const struct areas *from, struct place *places, size_t n)
{
	uint64_t all = 0;

	for (size_t i = 0; i < from->n; i++)
		all += (from->list[i].end - from->list[i].start) / c->pool_bytes;
	memset(places, 0, n * sizeof(*places));
	for (size_t i = 0; all && i < n; i++) {
		uint64_t at = draw(c, all) * c->pool_bytes;
		size_t k = 0;
		for (; at >= from->list[k].end - from->list[k].start; k++)
			at -= from->list[k].end - from->list[k].start;
		places[i].addr = from->list[k].start + at;
		places[i].weight = (double)all / (double)n;
	}
}

/* --- a look --- */

struct candidate {
	size_t place;
	uint32_t block, bytes;
	bool seen;
};

static bool is_used(const struct pool_view *v, uint32_t i)
{
	return i < v->n && v->used[i / 64] >> i % 64 & 1;
}

/* A pool that was there before and is none now is torn, or its arena went back: what is new in it can't be told. */
static bool is_told(const struct place *p, const struct pool_view *now)
{
	return p->addr && (now->block_bytes || !p->view.block_bytes);
}

/* Of another size class than before: all of its blocks are new. */
static size_t list_new(const struct place *p, const struct pool_view *now, size_t place, struct candidate *list,
		       size_t n)
{
	bool same = p->view.block_bytes == now->block_bytes;

	for (uint32_t i = 0; i < now->n && n < BLOCKS_PER_LOOK; i++)
		if (is_used(now, i) && !(same && is_used(&p->view, i)))
			list[n++] = (struct candidate){ .place = place, .block = i, .bytes = now->block_bytes };
	return n;
}

/* Where there is no pool there are no blocks. */
static void read_places(const struct pycoverage *c, const struct process_memory *m, struct pool_view views[PLACES])
{
	_cleanup_(page_cache_freep) struct page_cache *cache = page_cache_new(&m->memory);

	for (size_t i = 0; i < PLACES; i++)
		if (!c->places[i].addr || !pymalloc_pool(cache, c->places[i].addr, c->pool_bytes, &views[i]))
			views[i] = (struct pool_view){ 0 };
}

static void count(struct pycoverage *c, const struct candidate *list, size_t n, const struct pool_view again[PLACES])
{
	double seen = 0, all = 0, blocks = 0;

	for (size_t i = 0; i < n; i++) {
		const struct candidate *k = &list[i];
		double bytes = k->bytes * c->places[k->place].weight;
		if (again[k->place].block_bytes != k->bytes || !is_used(&again[k->place], k->block))
			continue;
		all += bytes;
		seen += k->seen ? bytes : 0;
		blocks++;
	}
	if (!blocks)
		return;
	c->seen_bytes = c->seen_bytes * DECAY + seen;
	c->all_bytes = c->all_bytes * DECAY + all;
	c->all_blocks = c->all_blocks * DECAY + blocks;
}

static void compare(struct pycoverage *c, const struct process_memory *m, const struct areas *mapped,
		    pycoverage_find find, void *ctx)
{
	_cleanup_(freep) struct candidate *list = xcalloc(BLOCKS_PER_LOOK, sizeof(*list));
	_cleanup_(freep) struct pool_view *now = xcalloc(PLACES, sizeof(*now));
	_cleanup_(areas_done) struct areas fresh = { 0 };
	size_t n = 0;

	areas_fresh(mapped, &c->mapped, c->pool_bytes, &fresh);
	draw_places(c, &fresh, c->places + OLD_PLACES, FRESH_PLACES);
	read_places(c, m, now);
	for (size_t i = 0; i < PLACES; i++)
		if (is_told(&c->places[i], &now[i]))
			n = list_new(&c->places[i], &now[i], i, list, n);
	for (size_t i = 0; i < n; i++)
		list[i].seen = find(ctx, c->account,
				    now[list[i].place].first + (uint64_t)list[i].block * list[i].bytes);
	read_places(c, m, now);
	count(c, list, n, now);
}

/* The places for the next look, with what is in them now. */
static void draw_anew(struct pycoverage *c, const struct process_memory *m, const struct areas *mapped)
{
	_cleanup_(page_cache_freep) struct page_cache *cache = page_cache_new(&m->memory);
	_cleanup_(freep) struct pool_view *views = xcalloc(PLACES, sizeof(*views));
	_cleanup_(areas_done) struct areas with_pools = { 0 };

	memset(c->places, 0, sizeof(c->places));
	areas_with_pools(c, cache, mapped, &with_pools);
	draw_places(c, &with_pools, c->places, OLD_PLACES);
	read_places(c, m, views);
	for (size_t i = 0; i < OLD_PLACES; i++)
		c->places[i].view = views[i];
}

void pycoverage_look(struct pycoverage *c, bool attached, uint64_t now_ns, pycoverage_find find, void *ctx)
{
	_cleanup_(process_memory_done) struct process_memory m = { 0 };
	struct areas mapped = { 0 };

	if (c->looked_ns && now_ns - c->looked_ns < (c->looks < SOON_LOOKS ? LOOK_NS : LATER_NS))
		return;
	c->looked_ns = now_ns;
	c->looks++;
	process_memory_open(c->pid, &m);
	areas_mapped(c, &mapped);
	if (attached && c->was_attached)
		compare(c, &m, &mapped, find, ctx);
	if (attached)
		draw_anew(c, &m, &mapped);
	c->was_attached = attached;
	areas_done(&c->mapped);
	c->mapped = mapped;
}

double pycoverage_share(const struct pycoverage *c)
{
	if (c->all_blocks < ENOUGH_BLOCKS)
		return NAN;
	return fmin(c->seen_bytes / c->all_bytes, 1);
}
