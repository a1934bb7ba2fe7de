/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arena: many small allocations, freed whole. Every snapshot, model and report owns one. Memory is zeroed and
 * aligned to 16 bytes; running out aborts. arena_free accepts NULL.
 */
#ifndef TIDEMARK_UTIL_ARENA_H
#define TIDEMARK_UTIL_ARENA_H

#include <stddef.h>

struct arena;

struct arena *arena_new(void);
void arena_free(struct arena *a);
void *arena_alloc(struct arena *a, size_t n, size_t size); /* n * size checked */
char *arena_strdup(struct arena *a, const char *s);	   /* NULL stays NULL */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline void arena_freep(struct arena **a)
{
	arena_free(*a);
}

#endif
