/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses where a pool may lie are drawn at random from the mappings that hold pools, whether one lies there (yet) or not: so every block that comes into use
 * has the same chance to be met, those of new pools as well. An address stays for a few looks, then others are drawn.
 *
 * The process runs meanwhile. A block that is in use when its pool is read, and gone when it is asked for among the live ones, would count as not seen;
 * so pools are read once more behind that, and only what is still in use counts.
 */
#include "collect/pycoverage.h"

#include <math.h>
#include <string.h>

#include "collect/occupied.h"
#include "util/mem.h"

#define LOOK_NS 1000000000ull
#define PLACES 48    /* addresses that are looked at */
#define STAY_LOOKS 8 /* of one address */
#define DRAWS 512    /* headers that are read to find a mapping's first pool */
#define AREAS 64     /* mappings with pools */
#define BLOCKS_PER_LOOK 4096
#define DECAY 0.7 /* of what was counted, per look that counted something */
#define ENOUGH_BLOCKS 50

struct place {
	uint64_t addr;
	bool known; /* view is of the look before; a place without a pool is one without blocks in use */
	struct pool_view view;
};

struct pycoverage {
	uint32_t pid, account;
	uint32_t pool_bytes;
	uint64_t looked_ns, random;
	unsigned int looks;
	bool was_attached;
	struct place places[PLACES];
	double seen_bytes, all_bytes, all_blocks;
};

struct pycoverage *pycoverage_new(uint32_t pid, uint32_t account, bool large_pools)
{
	struct pycoverage *c = xcalloc(1, sizeof(*c));

	c->pid = pid;
	c->account = account;
	c->pool_bytes = large_pools ? 16384 : 4096;
	c->random = ((uint64_t)account << 32 | pid) * 0x9e3779b97f4a7c15ull + 1;
	return c;
}

void pycoverage_free(struct pycoverage *c)
{
	free(c);
}

/* xorshift64* (Vigna 2016). */
static uint64_t draw(struct pycoverage *c, uint64_t below)
{
	c->random ^= c->random >> 12;
	c->random ^= c->random << 25;
	c->random ^= c->random >> 27;
	return (c->random * 0x2545f4914f6cdd1dull >> 16) % below;
}

/* --- where pools lie --- */

struct area {
	uint64_t start, n; /* first address of a pool; pools */
};

static bool may_hold_pools(const struct mapping *m)
{
	return !m->exec && !m->inode && (!m->path[0] || !strncmp(m->path, "[anon:", 6));
}

static uint64_t pools_of(const struct pycoverage *c, const struct mapping *m, uint64_t *ret_start)
{
	*ret_start = (m->start + c->pool_bytes - 1) & ~(uint64_t)(c->pool_bytes - 1);
	return m->end > *ret_start ? (m->end - *ret_start) / c->pool_bytes : 0;
}

/* Mappings in which a pool was met within a few draws: arenas, and what the kernel joined with them. */
static size_t find_areas(struct pycoverage *c, struct page_cache *cache, const struct mappings *maps,
			 struct area areas[AREAS])
{
	size_t n = 0, draws = DRAWS;

	for (size_t i = 0; i < maps->n && n < AREAS && draws; i++) {
		struct area a = { 0 };
		struct pool_view view;
		bool found = false;
		if (may_hold_pools(&maps->items[i]))
			a.n = pools_of(c, &maps->items[i], &a.start);
		for (size_t k = 0; a.n && k < 16 && draws && !found; k++, draws--)
			found = pymalloc_pool(cache, a.start + draw(c, a.n) * c->pool_bytes, c->pool_bytes, &view);
		if (found)
			areas[n++] = a;
	}
	return n;
}

static void draw_places(struct pycoverage *c, struct page_cache *cache, const struct mappings *maps)
{
	struct area areas[AREAS];
	size_t n = find_areas(c, cache, maps, areas);
	uint64_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += areas[i].n;
	for (size_t i = 0; all && i < PLACES; i++) {
		uint64_t at = draw(c, all);
		size_t k = 0;
		while (at >= areas[k].n)
			at -= areas[k++].n;
		c->places[i].addr = areas[k].start + at * c->pool_bytes;
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

/* Of another size class than before: all of its blocks are new. */
static bool was_used(const struct place *p, const struct pool_view *now, uint32_t i)
{
	return p->view.block_bytes == now->block_bytes && is_used(&p->view, i);
}

static size_t list_new(const struct place *p, const struct pool_view *now, size_t place, struct candidate *list,
		       size_t n)
{
	for (uint32_t i = 0; i < now->n && n < BLOCKS_PER_LOOK; i++)
		if (is_used(now, i) && !was_used(p, now, i))
			list[n++] = (struct candidate){ .place = place, .block = i, .bytes = now->block_bytes };
	return n;
}

/* Where there is no pool there are no blocks; one that is torn is left out this time. */
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
		if (again[k->place].block_bytes != k->bytes || !is_used(&again[k->place], k->block))
			continue;
		seen += k->seen ? k->bytes : 0;
		all += k->bytes;
		blocks++;
	}
	if (!blocks)
		return;
	c->seen_bytes = c->seen_bytes * DECAY + seen;
	c->all_bytes = c->all_bytes * DECAY + all;
	c->all_blocks = c->all_blocks * DECAY + blocks;
}

static void compare(struct pycoverage *c, const struct process_memory *m, const struct pool_view *now,
		    pycoverage_find find, void *ctx)
{
	_cleanup_(freep) struct candidate *list = xcalloc(BLOCKS_PER_LOOK, sizeof(*list));
	_cleanup_(freep) struct pool_view *again = xcalloc(PLACES, sizeof(*again));
	size_t n = 0;

	for (size_t i = 0; i < PLACES; i++)
		if (c->places[i].known)
			n = list_new(&c->places[i], &now[i], i, list, n);
	if (!n)
		return;
	for (size_t i = 0; i < n; i++)
		list[i].seen = find(ctx, c->account,
				    now[list[i].place].first + (uint64_t)list[i].block * list[i].bytes);
	read_places(c, m, again);
	count(c, list, n, again);
}

static void draw_anew(struct pycoverage *c, const struct process_memory *m)
{
	_cleanup_(page_cache_freep) struct page_cache *cache = page_cache_new(&m->memory);
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	memset(c->places, 0, sizeof(c->places));
	if (mappings_read(c->pid, &maps) == 0)
		draw_places(c, cache, &maps);
}

void pycoverage_look(struct pycoverage *c, bool attached, uint64_t now_ns, pycoverage_find find, void *ctx)
{
	_cleanup_(process_memory_done) struct process_memory m = { 0 };
	_cleanup_(freep) struct pool_view *now = NULL;

	if (c->looked_ns && now_ns - c->looked_ns < LOOK_NS)
		return;
	c->looked_ns = now_ns;
	now = xcalloc(PLACES, sizeof(*now));
	process_memory_open(c->pid, &m);
	if (c->looks++ % STAY_LOOKS == 0)
		draw_anew(c, &m);
	read_places(c, &m, now);
	if (attached && c->was_attached)
		compare(c, &m, now, find, ctx);
	c->was_attached = attached;
	for (size_t i = 0; i < PLACES; i++) {
		struct place *p = &c->places[i];
		/* A pool that was there before and is none now is torn, or its arena went back: what is new in it can't be told. */
		p->known = p->addr && (now[i].block_bytes || !p->view.block_bytes);
		p->view = now[i];
	}
}

double pycoverage_share(const struct pycoverage *c)
{
	if (c->all_blocks < ENOUGH_BLOCKS)
		return NAN;
	return fmin(c->seen_bytes / c->all_bytes, 1);
}
