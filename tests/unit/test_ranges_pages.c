/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ranges: random calls of several threads against a naive picture of single pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "collect/ranges.h"

#define PG 4096ull
#define BASE 0x10000000ull

static const struct proc_key self = { .start_ticks = 77, .pid = 100, .image = 1 };

enum { PAGES = 96, STACKS = 4, THREADS = 4, CALLS_MAX = 200000 };

struct naive {
	uint32_t page[PAGES];	       /* 0: not ours; else number of the call that mapped it */
	uint32_t parts[CALLS_MAX + 1]; /* pages of that call that are mapped */
	uint8_t stack[CALLS_MAX + 1];
	uint32_t n_calls;
	uint64_t alloc_bytes[STACKS], free_bytes[STACKS], alloc_count[STACKS], free_count[STACKS], peak[STACKS];
	uint64_t live, peak_all, unmatched;
	uint32_t undo_page[THREADS][PAGES];
	uint64_t undo_unmatched[THREADS];
	bool can_undo[THREADS];
};

static uint64_t naive_live(const struct naive *n, int s)
{
	return n->alloc_bytes[s] - n->free_bytes[s];
}

static void naive_peak(struct naive *n)
{
	for (int s = 0; s < STACKS; s++)
		if (naive_live(n, s) > n->peak[s])
			n->peak[s] = naive_live(n, s);
	if (n->live > n->peak_all)
		n->peak_all = n->live;
}

static void naive_take(struct naive *n, unsigned int i)
{
	uint32_t call = n->page[i];

	n->page[i] = 0;
	n->live -= PG;
	n->free_bytes[n->stack[call]] += PG;
	if (--n->parts[call] == 0)
		n->free_count[n->stack[call]]++;
}

static void naive_map(struct naive *n, unsigned int at, unsigned int len, uint8_t stack)
{
	uint32_t call = ++n->n_calls;

	for (unsigned int i = at; i < at + len; i++) {
		if (n->page[i])
			naive_take(n, i);
		n->page[i] = call;
	}
	n->parts[call] = len;
	n->stack[call] = stack;
	n->alloc_bytes[stack] += len * PG;
	n->alloc_count[stack]++;
	n->live += len * PG;
	naive_peak(n);
}

static void naive_announce(struct naive *n, unsigned int thread, unsigned int at, unsigned int len)
{
	memset(n->undo_page[thread], 0, sizeof(n->undo_page[thread]));
	n->undo_unmatched[thread] = 0;
	n->can_undo[thread] = true;
	for (unsigned int i = at; i < at + len; i++) {
		n->undo_page[thread][i] = n->page[i];
		if (n->page[i])
			naive_take(n, i);
		else
			n->undo_unmatched[thread] += PG;
	}
	n->unmatched += n->undo_unmatched[thread];
}

static void naive_undo(struct naive *n, unsigned int thread)
{
	if (!n->can_undo[thread])
		return;
	n->can_undo[thread] = false;
	n->unmatched -= n->undo_unmatched[thread];
	for (unsigned int i = 0; i < PAGES; i++) {
		uint32_t call = n->undo_page[thread][i];

		if (!call || n->page[i])
			continue;
		n->page[i] = call;
		n->live += PG;
		n->free_bytes[n->stack[call]] -= PG;
		if (n->parts[call]++ == 0)
			n->free_count[n->stack[call]]--;
	}
	naive_peak(n); /* others may have mapped more meanwhile */
}

static void check_page(uint64_t start, uint64_t bytes, uint64_t stack_id, uint64_t birth_ns, void *ctx)
{
	struct naive *n = ctx;

	for (uint64_t a = start; a < start + bytes; a += PG) {
		uint32_t call = n->page[(a - BASE) / PG];

		assert_int_not_equal(call, 0);
		assert_int_equal(call, birth_ns); /* the birth is the number of the call */
		assert_int_equal(n->stack[call], stack_id);
	}
}

static void check_sums(const struct range_sum *s, void *ctx)
{
	const struct naive *n = ctx;
	const struct sum *c = &s->sum;

	assert_int_equal(c->alloc_bytes, n->alloc_bytes[s->ids.id]);
	assert_int_equal(c->free_bytes, n->free_bytes[s->ids.id]);
	assert_int_equal(c->alloc_count, n->alloc_count[s->ids.id]);
	assert_int_equal(c->free_count, n->free_count[s->ids.id]);
	assert_int_equal(c->peak_live_bytes, n->peak[s->ids.id]);
}

static void add_bytes(uint64_t start, uint64_t bytes, uint64_t stack_id, uint64_t birth_ns, void *ctx)
{
	(void)start;
	(void)stack_id;
	(void)birth_ns;
	*(uint64_t *)ctx += bytes;
}

static void check_all(const struct ranges *r, struct naive *n)
{
	uint64_t live = 0;
	struct range_proc p;

	if (ranges_proc(r, &self, &p))
		return;
	ranges_each(r, check_sums, n);
	ranges_each_live(r, &self, check_page, n);
	ranges_each_live(r, &self, add_bytes, &live);
	assert_int_equal(live, n->live);
	assert_int_equal(p.live_bytes, n->live);
	assert_int_equal(p.peak_live_bytes, n->peak_all);
	assert_int_equal(p.unmatched_bytes, n->unmatched);
}

/* One random call of a thread, done to both. The stack ids are 0..3, the birth is the number of the call. */
static void random_call(struct ranges *r, struct naive *n, unsigned int *seed)
{
	unsigned int thread = (unsigned int)rand_r(seed) % THREADS, at = (unsigned int)rand_r(seed) % PAGES;
	unsigned int len = 1 + (unsigned int)rand_r(seed) % 12, kind = (unsigned int)rand_r(seed) % 10;
	uint8_t stack = (uint8_t)((unsigned int)rand_r(seed) % STACKS);
	struct event e = { .kind = EVENT_MMAP, .tid = thread, .id = self, .ts_ns = n->n_calls + 1, .map.fd = -1 };

	if (at + len > PAGES)
		len = PAGES - at;
	e.map.addr = e.map.old_addr = BASE + at * PG;
	e.map.bytes = e.map.old_bytes = len * PG - (unsigned int)rand_r(seed) % PG;
	e.map.ids.id = stack;
	if (kind < 4) {
		n->can_undo[thread] = false;
		naive_map(n, at, len, stack);
	} else if (kind < 7) {
		e.kind = kind == 6 ? EVENT_MREMAP : EVENT_MUNMAP;
		naive_announce(n, thread, at, len);
	} else if (kind < 9) {
		e.kind = EVENT_UNDO;
		naive_undo(n, thread);
	} else {
		e.kind = EVENT_MREMAP_DONE;
		n->can_undo[thread] = false;
		naive_map(n, at, len, stack);
	}
	ranges_step(r, &e);
}

static void random_calls_agree_with_pages(void **state)
{
	struct naive *n = calloc(1, sizeof(*n));
	unsigned int seed = 4242;

	(void)state;
	assert_non_null(n);
	for (int round = 0; round < 20; round++) {
		struct ranges *r = ranges_new();

		memset(n, 0, sizeof(*n));
		for (int i = 0; i < 2000; i++) {
			random_call(r, n, &seed);
			if (i % 3 == 0)
				check_all(r, n);
		}
		check_all(r, n);
		ranges_free(r);
	}
	free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_calls_agree_with_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
