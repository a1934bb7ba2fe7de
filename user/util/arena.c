/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "util/mem.h"

#define CHUNK_BYTES 65536

struct chunk {
	struct chunk *next;
	size_t used, size;
	_Alignas(16) unsigned char data[];
};

struct arena {
	struct chunk *head;
};

struct arena *arena_new(void)
{
	return xcalloc(1, sizeof(struct arena));
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	for (struct chunk *c = a->head, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	free(a);
}

static struct chunk *chunk_push(struct arena *a, size_t bytes)
{
	size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
	struct chunk *c = xcalloc(1, sizeof(*c) + size);

	c->size = size;
	/* A big block keeps the half-used chunk in front, so that its rest is not lost. */
	if (bytes > CHUNK_BYTES && a->head) {
		c->next = a->head->next;
		a->head->next = c;
	} else {
		c->next = a->head;
		a->head = c;
	}
	return c;
}

void *arena_alloc(struct arena *a, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
		abort();
	bytes = (bytes + 15) & ~(size_t)15;
	struct chunk *c = a->head;
	if (!c || c->size - c->used < bytes)
		c = chunk_push(a, bytes);
	void *p = c->data + c->used;
	c->used += bytes;
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	if (!s)
		return NULL;
	size_t n = strlen(s) + 1;
	return memcpy(arena_alloc(a, n, 1), s, n);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	char *s = arena_alloc(a, (size_t)(n < 0 ? 0 : n) + 1, 1);
	if (n >= 0)
		(void)vsnprintf(s, (size_t)n + 1, fmt, again); /* same arguments, measured above */
	va_end(again);
	return s;
}
