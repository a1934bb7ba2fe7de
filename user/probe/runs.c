/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the places in the table of ranges. Decides nothing about what the ranges mean.
 *
 * A run is written once and never changes while a program may read it: its place is given back only when it was
 * dropped two settles ago. A run that waits for that is still whole, so an equal list takes it up again.
 */
#include "probe/runs.h"

#include <stdbool.h>
#include <string.h>
#include <uthash.h>
#include <xxhash.h>

#include "util/mem.h"

#define SETTLES_TO_FREE 2

struct run {
	uint64_t layout;
	uint64_t contents; /* hash of its ranges */
	size_t refs;	   /* 0: waits */
	int settles;	   /* since it was dropped */
	UT_hash_handle by_layout, by_contents;
};

struct hole {
	uint32_t first, n;
};

struct runs {
	struct unwind_range *table;
	struct run *by_layout, *by_contents;
	struct hole *holes; /* ascending, no two touch */
	size_t n_holes, holes_cap;
	size_t used;
	size_t n_waiting;
};

struct runs *runs_new(struct unwind_range *table, size_t cap)
{
	struct runs *r = xcalloc(1, sizeof(*r));

	r->table = table;
	r->holes = grow_to(NULL, &r->holes_cap, 1, sizeof(*r->holes));
	r->holes[r->n_holes++] = (struct hole){ .first = 0, .n = (uint32_t)cap };
	return r;
}

static void forget(struct runs *r, struct run *run)
{
	HASH_DELETE(by_layout, r->by_layout, run);
	HASH_DELETE(by_contents, r->by_contents, run);
	free(run);
}

void runs_free(struct runs *r)
{
	struct run *run, *next;

	if (!r)
		return;
	HASH_ITER(by_layout, r->by_layout, run, next)
		forget(r, run);
	free(r->holes);
	free(r);
}

/* The first hole that is large enough; the run takes its lower end. */
static bool take_place(struct runs *r, uint32_t n, uint32_t *ret_first)
{
	for (size_t i = 0; i < r->n_holes; i++) {
		struct hole *h = &r->holes[i];
		if (h->n < n)
			continue;
		*ret_first = h->first;
		h->first += n;
		h->n -= n;
		if (!h->n)
			memmove(h, h + 1, (--r->n_holes - i) * sizeof(*h));
		r->used += n;
		return true;
	}
	return false;
}

static void give_place(struct runs *r, uint32_t first, uint32_t n)
{
	size_t low = 0, high = r->n_holes;

	/* The first hole behind the place. */
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (r->holes[mid].first < first)
			low = mid + 1;
		else
			high = mid;
	}
	r->used -= n;
	struct hole *before = low ? &r->holes[low - 1] : NULL, *behind = low < r->n_holes ? &r->holes[low] : NULL;
	bool joins_before = before && before->first + before->n == first;
	bool joins_behind = behind && first + n == behind->first;
	if (joins_before) {
		before->n += n;
		if (joins_behind) {
			before->n += behind->n;
			memmove(behind, behind + 1, (--r->n_holes - low) * sizeof(*behind));
		}
	} else if (joins_behind) {
		behind->first = first;
		behind->n += n;
	} else {
		r->holes = grow_to(r->holes, &r->holes_cap, r->n_holes + 1, sizeof(*r->holes));
		memmove(&r->holes[low + 1], &r->holes[low], (r->n_holes++ - low) * sizeof(*r->holes));
		r->holes[low] = (struct hole){ .first = first, .n = n };
	}
}

static struct run *find(const struct runs *r, uint64_t layout)
{
	struct run *run;

	HASH_FIND(by_layout, r->by_layout, &layout, sizeof(layout), run);
	return run;
}

static void hold(struct runs *r, struct run *run)
{
	if (!run->refs++)
		r->n_waiting--;
}

uint64_t runs_put(struct runs *r, const struct unwind_range *ranges, size_t n)
{
	struct run *run;
	size_t bytes = n * sizeof(*ranges);
	uint32_t first;

	if (!n || n > PROCESS_RANGES_MAX)
		return 0;
	uint64_t contents = XXH3_64bits(ranges, bytes);
	HASH_FIND(by_contents, r->by_contents, &contents, sizeof(contents), run);
	bool is_equal = run && layout_n(run->layout) == n &&
			!memcmp(&r->table[layout_first(run->layout)], ranges, bytes);
	if (is_equal) {
		hold(r, run);
		return run->layout;
	}
	if (!take_place(r, (uint32_t)n, &first))
		return 0;
	memcpy(&r->table[first], ranges, bytes);
	run = xcalloc(1, sizeof(*run));
	*run = (struct run){ .layout = layout_pack(first, (uint32_t)n), .contents = contents, .refs = 1 };
	HASH_ADD(by_layout, r->by_layout, layout, sizeof(run->layout), run);
	HASH_ADD(by_contents, r->by_contents, contents, sizeof(run->contents), run);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the ranges before the word that leads to them */
	return run->layout;
}

void runs_hold(struct runs *r, uint64_t layout)
{
	struct run *run = find(r, layout);

	if (run)
		hold(r, run);
}

void runs_drop(struct runs *r, uint64_t layout)
{
	struct run *run = find(r, layout);

	if (!run || !run->refs || --run->refs)
		return;
	run->settles = 0;
	r->n_waiting++;
}

void runs_settle(struct runs *r)
{
	struct run *run, *next;

	if (!r->n_waiting)
		return;
	HASH_ITER(by_layout, r->by_layout, run, next) {
		if (run->refs || ++run->settles < SETTLES_TO_FREE)
			continue;
		give_place(r, layout_first(run->layout), layout_n(run->layout));
		forget(r, run);
		r->n_waiting--;
	}
}

size_t runs_used(const struct runs *r)
{
	return r->used;
}
