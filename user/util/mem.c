/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

static void *checked(void *p)
{
	if (!p) {
		fputs("tidemark: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *xcalloc(size_t n, size_t size)
{
	return checked(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *old, size_t n, size_t size)
{
	return checked(reallocarray(old, n ? n : 1, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return checked(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
	return checked(strndup(s, n));
}

char *xasprintf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return checked(s);
}

void *grow_to(void *array, size_t *cap, size_t want, size_t elem_size)
{
	if (want <= *cap)
		return array;
	size_t next = *cap ? *cap * 2 : 16;
	while (next < want)
		next *= 2;
	*cap = next;
	return xrealloc(array, next, elem_size);
}
