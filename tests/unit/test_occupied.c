/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The walkers over images made by hand: arenas of three layouts of glibc, pools, and memory that makes no sense. Real programs: tests/e2e/test_survival.py. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collect/glibc_heap.h"
#include "collect/occupied.h"
#include "layers.h"
#include "util/mem.h"

#define DATA 0x7f0000000000ull /* of libc */
#define DATA_BYTES 16384u
#define HEAP 0x555500000000ull
#define HEAP_BYTES (1u << 20)
#define MAPPED 0x7e0000000000ull
#define MAPPED_BYTES (256u << 10)
#define POOLS 0x7d0000000000ull
#define POOLS_BYTES (64u << 10)

struct region {
	uint64_t at;
	size_t bytes;
	unsigned char *image;
};

enum { R_DATA, R_HEAP, R_MAPPED, R_POOLS, REGIONS };

struct world {
	struct region regions[REGIONS];
	struct mapping maps[REGIONS];
	struct mappings mappings;
	struct memory memory;
	struct heap_memo memo;
	unsigned reads;
	uint64_t at; /* where the next chunk comes */
	uint64_t prev_inuse;
};

static int image_read(void *ctx, uint64_t addr, void *to, size_t n)
{
	struct world *w = ctx;

	w->reads++;
	for (int i = 0; i < REGIONS; i++) {
		struct region *r = &w->regions[i];
		if (addr < r->at || addr >= r->at + r->bytes)
			continue;
		size_t left = r->at + r->bytes - addr, part = n < left ? n : left;
		memcpy(to, r->image + (addr - r->at), part);
		return (int)part;
	}
	return -EFAULT;
}

static void poke(struct world *w, uint64_t addr, uint64_t v)
{
	for (int i = 0; i < REGIONS; i++)
		if (addr >= w->regions[i].at && addr + 8 <= w->regions[i].at + w->regions[i].bytes)
			memcpy(w->regions[i].image + (addr - w->regions[i].at), &v, 8);
}

static struct world *world_new(void)
{
	static const struct {
		uint64_t at;
		size_t bytes;
		const char *path;
		uint64_t inode;
	} made[REGIONS] = { { POOLS, POOLS_BYTES, "", 0 },
			    { MAPPED, MAPPED_BYTES, "", 0 },
			    { DATA, DATA_BYTES, "/usr/lib/libc.so.6", 7 },
			    { HEAP, HEAP_BYTES, "[heap]", 0 } };
	static const int order[REGIONS] = { R_POOLS, R_MAPPED, R_DATA, R_HEAP };
	static const int ascending[REGIONS] = { 3, 0, 1, 2 };
	struct world *w = xcalloc(1, sizeof(*w));

	for (int i = 0; i < REGIONS; i++)
		w->regions[order[i]] = (struct region){ made[i].at, made[i].bytes, xcalloc(1, made[i].bytes) };
	for (int i = 0; i < REGIONS; i++)
		w->maps[i] = (struct mapping){ .start = made[ascending[i]].at,
					       .end = made[ascending[i]].at + made[ascending[i]].bytes,
					       .inode = made[ascending[i]].inode,
					       .read = true,
					       .write = true,
					       .path = (char *)made[ascending[i]].path };
	w->mappings = (struct mappings){ w->maps, REGIONS };
	w->memory = (struct memory){ image_read, w };
	w->at = HEAP;
	w->prev_inuse = 1;
	return w;
}

static void world_free(struct world *w)
{
	for (int i = 0; i < REGIONS; i++)
		free(w->regions[i].image);
	free(w);
}

/* The next chunk; its user address. */
static uint64_t chunk(struct world *w, uint64_t size, bool used)
{
	uint64_t p = w->at;

	poke(w, p + 8, size | w->prev_inuse);
	w->prev_inuse = used;
	w->at += size;
	if (!used)
		poke(w, w->at, size); /* prev_size of the next */
	return p + 16;
}

#define ARENA (DATA + 0xc80)

/* bins: their offset in the arena. The rest of the heap is its top. */
static void arena(struct world *w, uint32_t bins)
{
	uint64_t top_bytes = HEAP + HEAP_BYTES - w->at;

	for (unsigned i = 0; i < 127; i++) {
		uint64_t self = ARENA + bins + 16 * i - 16;
		poke(w, self + 16, self);
		poke(w, self + 24, self);
	}
	poke(w, w->at + 8, top_bytes | w->prev_inuse);
	poke(w, ARENA + bins - 16, w->at);
	poke(w, ARENA + bins + 2048, ARENA); /* next */
	poke(w, ARENA + bins + 2072, HEAP_BYTES);
	poke(w, ARENA + bins + 2080, HEAP_BYTES);
}

static enum occupancy ask_as(struct world *w, uint64_t addr, uint64_t bytes, enum layer layer)
{
	struct occupied_query q = { .addr = addr, .bytes = bytes, .layer = (uint8_t)layer };
	struct occupied_look l = {
		.memory = &w->memory, .maps = &w->mappings, .memo = &w->memo, .queries = &q, .n = 1
	};

	(void)occupied_look(&l); /* unknown then */
	return q.is;
}

static enum occupancy ask(struct world *w, uint64_t addr, uint64_t bytes)
{
	return ask_as(w, addr, bytes, LAYER_HEAP);
}

static void chunks_of_each_version(void **state)
{
	static const uint32_t bins[] = { 104, 112, 24 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bins); i++) {
		struct world *w = world_new();
		uint64_t one = chunk(w, 64, true), gone = chunk(w, 128, false), big = chunk(w, 4096, true);
		for (int k = 0; k < 100; k++)
			chunk(w, 48, true);
		arena(w, bins[i]);
		assert_int_equal(ask(w, one, 40), OCCUPANCY_IN_USE);
		assert_int_equal(w->memo.glibc_bins, bins[i]);
		assert_int_equal(w->memo.glibc_arena, ARENA);
		assert_int_equal(ask(w, gone, 100), OCCUPANCY_FREE);
		assert_int_equal(ask(w, gone + 32, 20), OCCUPANCY_NO_BLOCK); /* merged into what is free */
		assert_int_equal(ask(w, big, 4080), OCCUPANCY_IN_USE);
		assert_int_equal(ask(w, big + 64, 40), OCCUPANCY_NO_BLOCK);
		assert_int_equal(ask(w, one, 57), OCCUPANCY_NO_BLOCK); /* 56 are there: it is another one */
		assert_int_equal(ask(w, one, 56), OCCUPANCY_IN_USE);
		assert_int_equal(ask(w, one, 8), OCCUPANCY_IN_USE);    /* what was left made no chunk */
		assert_int_equal(ask(w, big, 4040), OCCUPANCY_IN_USE); /* memalign leaves more */
		assert_int_equal(ask(w, big, 3900),
				 OCCUPANCY_NO_BLOCK); /* too large for that: another one, or grown in place */
		assert_int_equal(ask(w, HEAP + HEAP_BYTES - 4096, 40), OCCUPANCY_FREE); /* top */
		assert_int_equal(ask(w, 0x100000, 40), OCCUPANCY_NO_BLOCK);		/* not mapped */
		world_free(w);
	}
}

/* The process goes on after its mappings were read: the heap grows past the end they told, and a chunk is between two stores into its bin. */
static void grown_since_the_mappings(void **state)
{
	struct world *w = world_new();
	uint64_t one = chunk(w, 64, true), gone = chunk(w, 128, false), last;

	(void)state;
	for (int k = 0; k < 400; k++)
		last = chunk(w, 48, true);
	arena(w, 112);
	poke(w, ARENA + 112 + 16 * 5, gone - 16);
	poke(w, ARENA + 112 + 2080, HEAP_BYTES - 4096); /* max_system_mem follows later */
	w->maps[0].end = HEAP + 8192;
	assert_int_equal(ask(w, one, 40), OCCUPANCY_IN_USE);
	assert_int_equal(ask(w, gone, 100), OCCUPANCY_FREE);
	assert_true(last > w->maps[0].end);
	assert_int_equal(ask(w, last, 40), OCCUPANCY_IN_USE);
	assert_int_equal(ask(w, HEAP + HEAP_BYTES - 4096, 40), OCCUPANCY_FREE);
	world_free(w);
}

static uint64_t mangle(uint64_t at, uint64_t v, bool mangled)
{
	return mangled ? v ^ at >> 12 : v;
}

static void caches_are_free(void **state)
{
	static const struct {
		uint32_t bins, tcache, heads;
		bool mangled;
	} rows[] = { { 112, 0x250, 64, false },
		     { 112, 0x290, 128, false },
		     { 112, 0x290, 128, true },
		     { 24, 0x300, 152, true } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct world *w = world_new();
		uint64_t cache = chunk(w, rows[i].tcache, true), c[6];
		for (int k = 0; k < 6; k++)
			c[k] = chunk(w, 48, true);
		chunk(w, 64, true);
		arena(w, rows[i].bins);
		/* c[2] -> c[0], of 48 bytes: bin 1 */
		poke(w, cache + rows[i].heads + 8, c[2]);
		poke(w, c[2], mangle(c[2], c[0], rows[i].mangled));
		poke(w, c[0], mangle(c[0], 0, rows[i].mangled));
		/* The other words of such blocks: of 2.30 and 2.31 they tell that they are in the cache. */
		poke(w, c[2] + 8, cache);
		poke(w, c[0] + 8, cache);
		/* A fastbin: its links point to chunks. */
		if (rows[i].bins == 112) {
			poke(w, ARENA + 16 + 8, c[4] - 16);
			poke(w, c[4], mangle(c[4], 0, rows[i].mangled));
		}
		assert_int_equal(ask(w, c[0], 30), OCCUPANCY_FREE);
		assert_int_equal(ask(w, c[1], 30), OCCUPANCY_IN_USE);
		assert_int_equal(ask(w, c[2], 30), OCCUPANCY_FREE);
		assert_int_equal(ask(w, c[3], 30), OCCUPANCY_IN_USE);
		assert_int_equal(ask(w, c[4], 30), rows[i].bins == 112 ? OCCUPANCY_FREE : OCCUPANCY_IN_USE);
		assert_int_equal(ask(w, c[5], 30), OCCUPANCY_IN_USE);
		world_free(w);
	}
}

/* A thread takes a block from its cache while we follow the list: what the program links in it is no list of free blocks. */
static void lists_of_the_program_are_none(void **state)
{
	struct world *w = world_new();
	uint64_t cache = chunk(w, 0x290, true), c[4];

	(void)state;
	for (int k = 0; k < 4; k++)
		c[k] = chunk(w, 48, true);
	chunk(w, 64, true);
	arena(w, 112);
	poke(w, cache + 128 + 8, c[2]);
	poke(w, c[2], c[0]);
	poke(w, c[0], c[1]);
	poke(w, c[1], 0);
	for (int k = 0; k < 4; k++)
		assert_int_equal(ask(w, c[k], 30), OCCUPANCY_IN_USE);
	world_free(w);
}

/* Requests that are rounded up on their way to malloc, by their alignment or by what Python's debug hooks add. */
static void rounded_requests(void **state)
{
	struct world *w = world_new();
	uint64_t first, aligned, debug, mapped = MAPPED + 4096 + 16;

	(void)state;
	while ((w->at + 16) % 128)
		chunk(w, 48, true);
	aligned = chunk(w, 272, true);
	while ((w->at + 16) % 128 != 16)
		chunk(w, 48, true);
	first = chunk(w, 272, true);
	debug = chunk(w, 640, true);
	chunk(w, 64, true);
	arena(w, 112);
	assert_int_equal(ask(w, aligned, 160), OCCUPANCY_IN_USE); /* operator new(160, align_val_t(128)) */
	assert_int_equal(ask(w, first, 160), OCCUPANCY_NO_BLOCK); /* nothing can have rounded it so far here */
	assert_int_equal(ask_as(w, debug + 16, 590, LAYER_PYTHON), OCCUPANCY_IN_USE);
	assert_int_equal(ask_as(w, debug + 32, 560, LAYER_PYTHON), OCCUPANCY_IN_USE);
	assert_int_equal(ask_as(w, debug + 48, 560, LAYER_PYTHON), OCCUPANCY_NO_BLOCK);
	assert_int_equal(ask(w, debug + 16, 590), OCCUPANCY_NO_BLOCK);
	poke(w, MAPPED + 4096 + 8, 135168 | 2);
	assert_int_equal(ask(w, mapped, 40000), OCCUPANCY_NO_BLOCK); /* grown in place */
	/* posix_memalign(64 KiB) leaves what is behind the block in its mapping. */
	poke(w, MAPPED + 65536 - 16, 65536 - 16 - 4096);
	poke(w, MAPPED + 65536 - 8, (131072 + 16) | 2);
	assert_int_equal(ask(w, MAPPED + 65536, 40000), OCCUPANCY_IN_USE);
	world_free(w);
}

/* A torn place: what lies behind is found again, what lies in it is not known, and what is in doubt is not called dead. */
static void torn(void **state)
{
	struct world *w = world_new();
	uint64_t before = chunk(w, 64, true), broken = chunk(w, 256, true), behind;

	(void)state;
	behind = chunk(w, 96, true);
	for (int k = 0; k < 100; k++)
		chunk(w, 48, true);
	arena(w, 112);
	poke(w, broken - 8, 0x123456789);
	assert_int_equal(ask(w, before, 40), OCCUPANCY_UNKNOWN); /* its end can't be seen */
	assert_int_equal(ask(w, broken, 200), OCCUPANCY_UNKNOWN);
	assert_int_equal(ask(w, broken + 64, 20), OCCUPANCY_UNKNOWN);
	assert_int_equal(ask(w, behind, 80), OCCUPANCY_IN_USE);
	/* An old header within a block in use looks like a block. Behind a torn place it can't be told from one. */
	uint64_t old = behind + 48 * 3 + 96;
	struct occupied_query q = { .addr = old, .bytes = 30, .layer = LAYER_HEAP };
	struct occupied_look l = {
		.memory = &w->memory, .maps = &w->mappings, .memo = &w->memo, .queries = &q, .n = 1
	};
	assert_int_equal(occupied_look(&l), 0);
	assert_int_equal(l.figures.resyncs, 1);
	assert_true(l.figures.skipped_bytes >= 256 && l.figures.skipped_bytes < 1024);
	world_free(w);
}

static void mapped(void **state)
{
	struct world *w = world_new();

	(void)state;
	chunk(w, 64, true);
	arena(w, 112);
	poke(w, MAPPED + 4096 + 8, 135168 | 2);
	assert_int_equal(ask(w, MAPPED + 4096 + 16, 135000), OCCUPANCY_IN_USE);
	assert_int_equal(ask(w, MAPPED + 4096 + 16, 135168), OCCUPANCY_NO_BLOCK); /* too large */
	assert_int_equal(ask(w, MAPPED + 8192 + 16, 135000), OCCUPANCY_NO_BLOCK);
	assert_int_equal(ask(w, MAPPED + 8192 + 64, 135000), OCCUPANCY_UNKNOWN); /* maybe another allocator's */
	assert_int_equal(ask(w, MAPPED + 8192 + 16, 100), OCCUPANCY_UNKNOWN);
	world_free(w);
}

/* Larger than may be walked: a part is, another one each time, and what was not is unknown. */
static void in_part(void **state)
{
	struct world *w = world_new();
	uint64_t blocks[2000];
	unsigned known = 0, used = 0;

	(void)state;
	for (int k = 0; k < 2000; k++)
		blocks[k] = chunk(w, 256, true);
	arena(w, 112);
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct occupied_query q[2000];
		for (int k = 0; k < 2000; k++)
			q[k] = (struct occupied_query){ .addr = blocks[k], .bytes = 240, .layer = LAYER_HEAP };
		struct occupied_look l = { .memory = &w->memory,
					   .maps = &w->mappings,
					   .memo = &w->memo,
					   .queries = q,
					   .n = 2000,
					   .seed = seed * 0x9e3779b97f4a7c15ull,
					   .limit_bytes = HEAP_BYTES / 4 };
		assert_int_equal(occupied_look(&l), 0);
		assert_true(l.figures.skipped_bytes >= HEAP_BYTES / 2);
		known += l.figures.answered;
		for (int k = 0; k < 2000; k++)
			used += q[k].is == OCCUPANCY_IN_USE;
	}
	assert_true(known > 4000 && known < 20000);
	assert_int_equal(used, known);
	world_free(w);
}

static void none_of_ours(void **state)
{
	struct world *w = world_new();
	struct occupied_query q = { .addr = HEAP + 64, .bytes = 30, .layer = LAYER_HEAP };
	struct occupied_look l = {
		.memory = &w->memory, .maps = &w->mappings, .memo = &w->memo, .queries = &q, .n = 1
	};

	(void)state;
	assert_int_equal(occupied_look(&l), -ENOTSUP);
	assert_int_equal(q.is, OCCUPANCY_UNKNOWN);
	world_free(w);
}

/* --- pools --- */

static void pool(struct world *w, uint64_t at, uint32_t bytes, uint32_t block, uint32_t ever_used,
		 const uint32_t *is_free, uint32_t n_free)
{
	uint64_t first = at + 48, next = 0;

	for (uint32_t i = 0; i < n_free; i++) {
		poke(w, first + is_free[i] * block, next);
		next = first + is_free[i] * block;
	}
	poke(w, at, ever_used - n_free);
	poke(w, at + 8, next);
	poke(w, at + 32, (uint64_t)(block / 16 - 1) << 32);
	poke(w, at + 40, (48 + ever_used * block) | (uint64_t)(bytes - block) << 32);
}

static void pools(void **state)
{
	static const uint32_t is_free[] = { 3, 7 };
	static const uint32_t sizes[] = { 16384, 4096 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct world *w = world_new();
		uint64_t at = POOLS + 16384, first = at + 48;
		pool(w, at, sizes[i], 64, 20, is_free, 2);
		assert_int_equal(ask_as(w, first, 60, LAYER_PYTHON), OCCUPANCY_IN_USE);
		assert_int_equal(ask_as(w, first + 3 * 64, 60, LAYER_PYTHON), OCCUPANCY_FREE);
		assert_int_equal(ask_as(w, first + 4 * 64, 60, LAYER_PYTHON), OCCUPANCY_IN_USE);
		assert_int_equal(ask_as(w, first + 7 * 64, 60, LAYER_PYTHON), OCCUPANCY_FREE);
		assert_int_equal(ask_as(w, first + 19 * 64, 60, LAYER_PYTHON), OCCUPANCY_IN_USE);
		assert_int_equal(ask_as(w, first + 20 * 64, 60, LAYER_PYTHON), OCCUPANCY_FREE); /* never used */
		assert_int_equal(ask_as(w, first + 32, 60, LAYER_PYTHON), OCCUPANCY_NO_BLOCK);
		assert_int_equal(ask_as(w, first + 16, 40, LAYER_PYTHON), OCCUPANCY_IN_USE); /* behind a debug header */
		assert_int_equal(ask_as(w, first, 70, LAYER_PYTHON),
				 OCCUPANCY_NO_BLOCK); /* the pool has changed its size */
		assert_int_equal(ask_as(w, first, 48, LAYER_PYTHON), OCCUPANCY_IN_USE); /* shrunk in place */
		assert_int_equal(ask_as(w, first, 8, LAYER_PYTHON), OCCUPANCY_NO_BLOCK);
		poke(w, at, 17); /* torn: one block less than its list says */
		assert_int_equal(ask_as(w, first, 60, LAYER_PYTHON), OCCUPANCY_UNKNOWN);
		world_free(w);
	}
}

/* Whatever memory holds: an answer, in bounded time. */
static void hostile(void **state)
{
	uint64_t random = 88172645463325252ull;

	(void)state;
	for (int round = 0; round < 150; round++) {
		struct world *w = world_new();
		uint64_t cache = chunk(w, 0x290, true), last = 0;
		for (int k = 0; k < 200; k++)
			last = chunk(w, 32 + 16 * (uint64_t)(k % 9), k % 5 != 4);
		chunk(w, 64, true);
		arena(w, round % 2 ? 112 : 24);
		poke(w, cache + 128, last);
		for (int k = 0; k < 40; k++) {
			random ^= random << 13; /* xorshift64, Marsaglia, JSS 8 (2003) */
			random ^= random >> 7;
			random ^= random << 17;
			struct region *r = &w->regions[random % REGIONS];
			uint64_t span = r->at == HEAP ? 20000 : r->bytes, value = random >> 20;
			value = k % 3 == 0 ? HEAP + value % HEAP_BYTES : k % 3 == 1 ? value % 8192 : value;
			poke(w, r->at + (random >> 8) % (span - 8) / 8 * 8, value);
		}
		struct occupied_query q[64];
		for (unsigned k = 0; k < 64; k++)
			q[k] = (struct occupied_query){ .addr = w->regions[k % REGIONS].at +
								16 * (random >> (k % 40)) % 16000,
							.bytes = k % 2 ? 40 : 200000,
							.layer = k % 4 < 2 ? LAYER_HEAP : LAYER_PYTHON };
		struct occupied_look l = {
			.memory = &w->memory, .maps = &w->mappings, .memo = &w->memo, .queries = q, .n = 64
		};
		for (int twice = 0; twice < 2; twice++) {
			int err = occupied_look(&l);
			assert_true(err == 0 || err == -ENOTSUP);
			assert_true(w->reads < 500000);
		}
		world_free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_of_each_version),
		cmocka_unit_test(grown_since_the_mappings),
		cmocka_unit_test(caches_are_free),
		cmocka_unit_test(lists_of_the_program_are_none),
		cmocka_unit_test(rounded_requests),
		cmocka_unit_test(torn),
		cmocka_unit_test(mapped),
		cmocka_unit_test(in_part),
		cmocka_unit_test(none_of_ours),
		cmocka_unit_test(pools),
		cmocka_unit_test(hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
