/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/ages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "probe/sample_tables.h"
#include "sampling.h"
#include "tables.h"
#include "util/clock.h"
#include "util/mem.h"

#define WALK_SHARE 500 /* a walk of t is followed by 500 t without one: 0.2 % of a core */
#define NS_PER_MS 1000000ull

/*
 * The table is mapped piece by piece: mapped whole, all of it would count as our own resident memory. 4,096 buckets are a
 * whole number of pages.
 */
#define WINDOW_BUCKETS 4096
#define WINDOW_BYTES (WINDOW_BUCKETS * sizeof(struct live_bucket))

struct stack_ages {
	uint32_t n, filled;
	uint32_t first;			 /* of its births */
	uint32_t p50_ms, p95_ms, max_ms; /* births */
	uint64_t old_bytes;
};

/* One live block, small: a million of them are 8 MB. */
struct birth {
	uint32_t stack, born_ms;
};

struct ages {
	struct live_table table;
	uint32_t *of_sum; /* per place in the table of sums: index in `stacks` + 1; 0: none */
	struct stack_ages *stacks;
	size_t n_stacks, cap_stacks;
	struct birth *births;
	size_t n_births, cap_births;
	uint64_t next_ns, entries;
	uint64_t sample_bytes;
	struct sampling_tables sampling;
};

struct ages *ages_new(const struct live_table *t, uint64_t sample_bytes)
{
	struct ages *a = xcalloc(1, sizeof(*a));

	a->table = *t;
	a->sample_bytes = sample_bytes;
	sampling_tables_fill(&a->sampling);
	a->of_sum = xcalloc(t->n_sums, sizeof(*a->of_sum));
	a->entries = UINT64_MAX;
	return a;
}

void ages_free(struct ages *a)
{
	if (!a)
		return;
	free(a->of_sum);
	free(a->stacks);
	free(a->births);
	free(a);
}

static uint32_t stack_of(struct ages *a, uint32_t sum)
{
	if (a->of_sum[sum])
		return a->of_sum[sum] - 1;
	a->stacks = grow_to(a->stacks, &a->cap_stacks, a->n_stacks + 1, sizeof(*a->stacks));
	a->stacks[a->n_stacks] = (struct stack_ages){ 0 };
	a->of_sum[sum] = (uint32_t)++a->n_stacks;
	return (uint32_t)a->n_stacks - 1;
}

/* The programs go on changing the table: a block is copied, then its key is read again. */
static void take_block(struct ages *a, const struct age_walk *w, struct live_bucket *bucket, int way)
{
	uint64_t key = __atomic_load_n(&bucket->key[way], __ATOMIC_ACQUIRE);
	struct live_block b = bucket->block[way];

	if (!key || key == LIVE_BUSY || __atomic_load_n(&bucket->key[way], __ATOMIC_ACQUIRE) != key)
		return;
	if (w->is_dead(live_key_account(key), w->ctx)) {
		/* Freed meanwhile: as good. */
		if (__sync_bool_compare_and_swap((uint64_t *)&bucket->key[way], key, 0) && live_is_filtered(&b))
			live_filter_remove(a->table.filter, key);
		return;
	}
	if (b.sum >= a->table.n_sums)
		return;
	uint32_t index = stack_of(a, b.sum);
	struct stack_ages *s = &a->stacks[index];
	s->n++;
	if ((int32_t)((uint32_t)(w->old_before_ns / NS_PER_MS) - b.birth_ms) > 0)
		s->old_bytes += sample_block(&a->sampling, a->sample_bytes, &b).bytes;
	a->births = grow_to(a->births, &a->cap_births, a->n_births + 1, sizeof(*a->births));
	a->births[a->n_births++] = (struct birth){ .stack = index, .born_ms = b.birth_ms };
}

static int take_window(struct ages *a, const struct age_walk *w, uint32_t first)
{
	uint32_t n = a->table.buckets - first < WINDOW_BUCKETS ? a->table.buckets - first : WINDOW_BUCKETS;
	struct live_bucket *b = mmap(NULL, n * sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED, a->table.live_fd,
				     (off_t)(first / WINDOW_BUCKETS * WINDOW_BYTES));

	if (b == MAP_FAILED)
		return -errno;
	for (uint32_t i = 0; i < n; i++)
		for (int way = 0; way < LIVE_WAYS; way++)
			if (b[i].key[way])
				take_block(a, w, &b[i], way);
	(void)munmap(b, n * sizeof(*b)); /* only fails on bad arguments */
	return 0;
}

static int older_first(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (int32_t)(x - y) < 0 ? -1 : x != y;
}

/* The birth that a share of the blocks is older than: births ascend, so the oldest come first. */
static uint32_t birth_at(const uint32_t *births, uint32_t n, double share_younger)
{
	return births[(uint32_t)((1 - share_younger) * (n - 1) + 0.5)];
}

/* Births were gathered in the order of the table; here they are dealt out to their stacks (counting sort) and sorted there. */
static void settle(struct ages *a)
{
	_cleanup_(freep) uint32_t *births = xcalloc(a->n_births, sizeof(*births));
	uint32_t first = 0;

	for (size_t i = 0; i < a->n_stacks; i++) {
		a->stacks[i].first = first;
		first += a->stacks[i].n;
	}
	for (size_t i = 0; i < a->n_births; i++) {
		struct stack_ages *s = &a->stacks[a->births[i].stack];
		births[s->first + s->filled++] = a->births[i].born_ms;
	}
	for (size_t i = 0; i < a->n_stacks; i++) {
		struct stack_ages *s = &a->stacks[i];
		qsort(births + s->first, s->n, sizeof(*births), older_first);
		s->p50_ms = birth_at(births + s->first, s->n, 0.50);
		s->p95_ms = birth_at(births + s->first, s->n, 0.95);
		s->max_ms = births[s->first];
	}
}

int ages_step(struct ages *a, const struct age_walk *w)
{
	int err = 0;

	if (w->now_ns < a->next_ns && !w->force)
		return 0;
	uint64_t began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	memset(a->of_sum, 0, a->table.n_sums * sizeof(*a->of_sum));
	a->n_stacks = a->n_births = 0;
	for (uint32_t first = 0; first < a->table.buckets && !err; first += WINDOW_BUCKETS)
		err = take_window(a, w, first);
	if (err)
		return err;
	a->entries = a->n_births;
	settle(a);
	a->next_ns = w->now_ns + WALK_SHARE * (clock_ns(CLOCK_THREAD_CPUTIME_ID) - began);
	return 1;
}

static double age_s(uint64_t now_ns, uint32_t born_ms)
{
	int32_t age_ms = (int32_t)((uint32_t)(now_ns / NS_PER_MS) - born_ms);

	/* 31 bits of milliseconds hold 24 days; what seems older was born after the walk had begun. */
	return age_ms < 0 ? 0 : (double)age_ms / 1000;
}

bool ages_find(const struct ages *a, uint32_t sum, uint64_t now_ns, struct age_figures *ret)
{
	uint32_t index = sum < a->table.n_sums ? a->of_sum[sum] : 0;

	if (!index)
		return false;
	const struct stack_ages *s = &a->stacks[index - 1];
	*ret = (struct age_figures){
		.p50_s = age_s(now_ns, s->p50_ms),
		.p95_s = age_s(now_ns, s->p95_ms),
		.max_s = age_s(now_ns, s->max_ms),
		.old_bytes = s->old_bytes,
	};
	return true;
}

uint64_t ages_entries(const struct ages *a)
{
	return a->entries;
}
