/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Queries answered by a walk of glibc's heap. */
#include <errno.h>
#include <string.h>

#include "collect/glibc_heap.h"
#include "layers.h"
#include "util/mem.h"

/*
 * Mapped chunks begin at 128 KiB unless the program says otherwise (DEFAULT_MMAP_THRESHOLD_MIN, malloc/malloc.c). A block that is larger than a
 * page and lies 16 bytes behind the start of one, outside of all segments, can be nothing else.
 */
#define MAPPED_MIN 4096u
#define MAPPED_OFFSET 16u

#define USUAL_CHUNK 128.0 /* bytes */

struct answers {
	struct occupied_look *look;
	struct glibc_heap *heap;
	size_t i; /* the first query that lies at or behind the walk's place */
};

/* PYTHONMALLOC=debug: size and kind before a block and as much behind it, twice where pymalloc hands a request on to malloc. */
#define DEBUG_BYTES 16u

static bool begins_at(const struct occupied_query *q, uint64_t user)
{
	uint64_t before = q->addr - user;

	return !before || (q->layer == LAYER_PYTHON && (before == DEBUG_BYTES || before == 2 * DEBUG_BYTES));
}

static enum occupancy state_in(const struct occupied_query *q, uint64_t addr, uint64_t size, bool used)
{
	uint64_t user = addr + 16;

	if (!begins_at(q, user))
		return OCCUPANCY_NO_BLOCK;
	if (!used)
		return OCCUPANCY_FREE;
	return glibc_chunk_fits(size, user, q->bytes + 2 * (q->addr - user)) ? OCCUPANCY_IN_USE : OCCUPANCY_NO_BLOCK;
}

static void on_chunk(void *ctx, uint64_t addr, uint64_t size, bool used, bool sure)
{
	struct answers *a = ctx;
	struct occupied_look *l = a->look;

	/* What the walk passed over stays unknown. */
	while (a->i < l->n && l->queries[a->i].addr < addr + 16)
		a->i++;
	for (; a->i < l->n && l->queries[a->i].addr < addr + 16 + size; a->i++) {
		struct occupied_query *q = &l->queries[a->i];
		if (q->is != OCCUPANCY_UNKNOWN)
			continue;
		enum occupancy is = state_in(q, addr, size, used);
		if (is == OCCUPANCY_IN_USE || sure || !glibc_header_fits(a->heap, q->addr, q->bytes))
			q->is = (uint8_t)is;
	}
}

static void on_top(void *ctx, uint64_t from, uint64_t to)
{
	struct answers *a = ctx;
	struct occupied_look *l = a->look;

	while (a->i < l->n && l->queries[a->i].addr < from + 16)
		a->i++;
	for (; a->i < l->n && l->queries[a->i].addr < to; a->i++)
		if (l->queries[a->i].is == OCCUPANCY_UNKNOWN)
			l->queries[a->i].is = OCCUPANCY_FREE;
}

static void on_cached(void *ctx, uint64_t user)
{
	struct answers *a = ctx;

	for (size_t i = occupied_from(a->look, user); i < a->look->n && a->look->queries[i].addr == user; i++)
		if (a->look->queries[i].is == OCCUPANCY_IN_USE)
			a->look->queries[i].is = OCCUPANCY_FREE;
}

/* A heap above the limit: as much of each segment as is its share, from a place chosen anew in each look. */
static void walk_segment(struct glibc_heap *h, struct answers *a, const struct glibc_segment *s, double share)
{
	const struct glibc_visitor v = { .chunk = on_chunk, .top = on_top, .ctx = a };
	uint64_t bytes = s->end - s->start, walked = (uint64_t)((double)bytes * share), from = s->start;

	if (share < 1) {
		uint64_t room = bytes - walked;
		a->look->seed = a->look->seed * 6364136223846793005ull + 1442695040888963407ull; /* Knuth's MMIX */
		from += room ? (a->look->seed >> 16) % room & ~15ull : 0;
		a->look->figures.skipped_bytes += room;
	}
	a->i = occupied_from(a->look, from);
	glibc_walk(h, s, from, from + walked, &v);
}

static bool in_segments(const struct glibc_segment *s, size_t n, uint64_t addr)
{
	for (size_t i = 0; i < n; i++)
		if (addr >= s[i].start && addr < s[i].end)
			return true;
	return false;
}

/* Outside of all segments: a chunk with a mapping of its own, or none of glibc's. */
static void answer_mapped(struct glibc_heap *h, struct occupied_query *q)
{
	uint64_t usable = 0;

	if (!mappings_find(h->maps, q->addr)) {
		q->is = OCCUPANCY_NO_BLOCK;
		return;
	}
	if (q->bytes < MAPPED_MIN)
		return;
	int is = glibc_mapped_chunk(h, q->addr, &usable);
	if (is > 0)
		q->is = glibc_mapping_fits(usable, q->addr, q->bytes) ? OCCUPANCY_IN_USE : OCCUPANCY_NO_BLOCK;
	else if (!is && q->addr % 4096 == MAPPED_OFFSET)
		q->is = OCCUPANCY_NO_BLOCK;
}

/* What share of so many bytes may be walked: as the chunks of the look before were, or as small as they mostly are. */
static double share_of(const struct occupied_look *l, double bytes)
{
	double chunk = l->memo->chunk_bytes > 0 ? l->memo->chunk_bytes : USUAL_CHUNK, limit = (double)l->limit_bytes;

	if ((double)l->limit_chunks * chunk < limit)
		limit = (double)l->limit_chunks * chunk;
	return bytes > limit ? limit / bytes : 1;
}

static int glibc_look(struct occupied_look *l)
{
	_cleanup_(glibc_done) struct glibc_heap h = { 0 };
	_cleanup_(freep) struct glibc_segment *segments = NULL;
	struct answers a = { .look = l, .heap = &h };
	size_t n = 0;
	double bytes = 0;
	int err = glibc_open(l->memory, l->maps, l->memo, &l->figures, &h);

	if (!err)
		err = glibc_segments(&h, l->memo, &segments, &n);
	if (err)
		return err;
	for (size_t i = 0; i < n; i++)
		bytes += (double)(segments[i].end - segments[i].start);
	double share = share_of(l, bytes);
	for (size_t i = 0; i < n; i++)
		walk_segment(&h, &a, &segments[i], share);
	if (l->figures.chunks)
		l->memo->chunk_bytes = bytes * share / (double)l->figures.chunks;
	glibc_cached(&h, on_cached, &a);
	for (size_t i = 0; i < l->n; i++)
		if (l->queries[i].is == OCCUPANCY_UNKNOWN && !in_segments(segments, n, l->queries[i].addr))
			answer_mapped(&h, &l->queries[i]);
	return 0;
}

const struct heap_walker heap_walker_glibc = { .name = "glibc", .look = glibc_look };
