/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/ages.h"

#include <bpf/bpf.h>
#include <stdlib.h>
#include <uthash.h>

#include "collect/kmaps.h"
#include "util/arena.h"
#include "util/clock.h"
#include "util/mem.h"

#define WALK_SHARE 250 /* a walk of t is followed by 250 t without one: 0.4 % of a core */
#define DEAD_MAX 65536 /* blocks removed per walk; the rest at the next */
#define NS_PER_MS 1000000ull

struct stack_ages {
	struct sum_key key;
	uint32_t index;
	uint32_t n, filled;
	uint32_t first; /* of its births */
	uint64_t old_bytes;
	uint64_t p50_ms, p95_ms, max_ms; /* births */
	UT_hash_handle hh;
};

/* One live block, small: half a million of them are 4 MB. */
struct birth {
	uint32_t stack, born_ms;
};

struct ages {
	struct arena *arena; /* of the last walk */
	struct stack_ages *stacks;
	uint32_t n_stacks;
	struct birth *births;
	size_t n_births, cap_births;
	struct live_key *dead;
	size_t n_dead, cap_dead;
	struct kmap_reader reader;
	uint64_t next_ns, entries;
	const struct age_walk *walk; /* during a step */
};

struct ages *ages_new(void)
{
	struct ages *a = xcalloc(1, sizeof(*a));

	a->entries = UINT64_MAX;
	return a;
}

static void forget(struct ages *a)
{
	HASH_CLEAR(hh, a->stacks);
	arena_free(a->arena);
	a->arena = NULL;
	a->n_stacks = 0;
	a->n_births = a->n_dead = 0;
}

void ages_free(struct ages *a)
{
	if (!a)
		return;
	forget(a);
	kmap_reader_done(&a->reader);
	free(a->births);
	free(a->dead);
	free(a);
}

static struct stack_ages *stack_of(struct ages *a, const struct proc_key *proc, uint64_t stack_id)
{
	struct sum_key key = { .proc = *proc, .stack_id = stack_id };
	struct stack_ages *s = NULL;

	HASH_FIND(hh, a->stacks, &key, sizeof(key), s);
	if (s)
		return s;
	s = arena_alloc(a->arena, 1, sizeof(*s));
	s->key = key;
	s->index = a->n_stacks++;
	HASH_ADD(hh, a->stacks, key, sizeof(s->key), s);
	return s;
}

static void take_block(const void *key, const void *value, void *ctx)
{
	struct ages *a = ctx;
	const struct live_key *k = key;
	const struct live_block *b = value;

	if (a->walk->is_dead(&k->proc, a->walk->ctx)) {
		if (a->n_dead < DEAD_MAX) {
			a->dead = grow_to(a->dead, &a->cap_dead, a->n_dead + 1, sizeof(*a->dead));
			a->dead[a->n_dead++] = *k;
		}
		return;
	}
	struct stack_ages *s = stack_of(a, &k->proc, b->stack_id);
	s->n++;
	if (b->birth_ns < a->walk->old_before_ns)
		s->old_bytes += b->bytes;
	a->births = grow_to(a->births, &a->cap_births, a->n_births + 1, sizeof(*a->births));
	a->births[a->n_births++] = (struct birth){ .stack = s->index, .born_ms = (uint32_t)(b->birth_ns / NS_PER_MS) };
}

static int earlier(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The birth that a share of the blocks is older than: births ascend, so the oldest come first. */
static uint64_t birth_at(const uint32_t *births, uint32_t n, double share_younger)
{
	double at = (1 - share_younger) * (n - 1);

	return births[(uint32_t)(at + 0.5)];
}

/* Births are gathered in the order of the map; here they are dealt out to their stacks (counting sort) and sorted there. */
static void settle(struct ages *a)
{
	_cleanup_(freep) struct stack_ages **by_index = xcalloc(a->n_stacks, sizeof(*by_index));
	_cleanup_(freep) uint32_t *births = xcalloc(a->n_births, sizeof(*births));
	uint32_t first = 0;

	for (struct stack_ages *s = a->stacks; s; s = s->hh.next) {
		by_index[s->index] = s;
		s->first = first;
		first += s->n;
	}
	for (size_t i = 0; i < a->n_births; i++) {
		struct stack_ages *s = by_index[a->births[i].stack];
		births[s->first + s->filled++] = a->births[i].born_ms;
	}
	for (struct stack_ages *s = a->stacks; s; s = s->hh.next) {
		qsort(births + s->first, s->n, sizeof(*births), earlier);
		s->p50_ms = birth_at(births + s->first, s->n, 0.50);
		s->p95_ms = birth_at(births + s->first, s->n, 0.95);
		s->max_ms = births[s->first];
	}
}

int ages_step(struct ages *a, const struct age_walk *w)
{
	if (w->now_ns < a->next_ns && !w->force)
		return 0;
	uint64_t began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	forget(a);
	a->arena = arena_new();
	a->walk = w;
	int n = kmap_each(&a->reader, w->live_fd, sizeof(struct live_key), sizeof(struct live_block), take_block, a);
	a->walk = NULL;
	if (n < 0)
		return n;
	a->entries = (uint64_t)n;
	if (a->n_births)
		settle(a);
	for (size_t i = 0; i < a->n_dead; i++)
		(void)bpf_map_delete_elem(w->live_fd, &a->dead[i]); /* gone already: as good */
	a->next_ns = w->now_ns + WALK_SHARE * (clock_ns(CLOCK_THREAD_CPUTIME_ID) - began);
	return 1;
}

static double age_s(uint64_t now_ns, uint64_t born_ms)
{
	uint32_t age_ms = (uint32_t)(now_ns / NS_PER_MS) - (uint32_t)born_ms;

	/* 32 bits of milliseconds hold 49 days, across the wrap too; what seems older was born after the walk had begun. */
	return age_ms > UINT32_MAX - 60000 ? 0 : (double)age_ms / 1000;
}

bool ages_find(const struct ages *a, const struct sum_key *key, uint64_t now_ns, struct age_figures *ret)
{
	struct stack_ages *s = NULL;

	HASH_FIND(hh, a->stacks, key, sizeof(*key), s);
	if (!s || !s->n)
		return false;
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
