/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/pool.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "util/arena.h"
#include "util/mem.h"

struct pool {
	struct arena *arena;
	const char **slots; /* open addressing, a power of two */
	size_t n_slots, used;
};

struct pool *pool_new(void)
{
	struct pool *p = xcalloc(1, sizeof(*p));

	p->arena = arena_new();
	p->n_slots = 256;
	p->slots = xcalloc(p->n_slots, sizeof(*p->slots));
	return p;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	arena_free(p->arena);
	free(p->slots);
	free(p);
}

void *pool_alloc(struct pool *p, size_t n, size_t size)
{
	return arena_alloc(p->arena, n, size);
}

static unsigned char clean(unsigned char c)
{
	return c < 0x20 || c == 0x7f ? '?' : c;
}

/* FNV-1a, 64 bit, of the cleaned string. */
static uint64_t hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *s; s++)
		h = (h ^ clean((unsigned char)*s)) * 0x100000001b3ull;
	return h ^ h >> 32;
}

static bool is_same(const char *kept, const char *s)
{
	for (; *kept && *s; kept++, s++)
		if ((unsigned char)*kept != clean((unsigned char)*s))
			return false;
	return *kept == *s;
}

static const char **slot_of(const struct pool *p, const char *s)
{
	size_t i = hash(s) & (p->n_slots - 1);

	while (p->slots[i] && !is_same(p->slots[i], s))
		i = (i + 1) & (p->n_slots - 1);
	return &p->slots[i];
}

static void grow(struct pool *p)
{
	struct pool next = { .n_slots = p->n_slots * 2 };

	next.slots = xcalloc(next.n_slots, sizeof(*next.slots));
	for (size_t i = 0; i < p->n_slots; i++)
		if (p->slots[i])
			*slot_of(&next, p->slots[i]) = p->slots[i];
	free(p->slots);
	p->slots = next.slots;
	p->n_slots = next.n_slots;
}

const char *pool_intern(struct pool *p, const char *s)
{
	const char **slot = slot_of(p, s);

	if (*slot)
		return *slot;
	char *copy = arena_strdup(p->arena, s);
	for (char *c = copy; *c; c++)
		*c = (char)clean((unsigned char)*c);
	*slot = copy;
	if (++p->used * 4 > p->n_slots * 3)
		grow(p);
	return copy;
}
