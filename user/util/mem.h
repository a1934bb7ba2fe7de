/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Allocation of sizes that we choose (running out aborts) and scope-bound release.
 * Sizes that come from a target or a file are bounded by the caller before they get here.
 */
#ifndef TIDEMARK_UTIL_MEM_H
#define TIDEMARK_UTIL_MEM_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *xcalloc(size_t n, size_t size);
void *xrealloc(void *old, size_t n, size_t size); /* n * size is checked for overflow */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define _cleanup_(f) __attribute__((cleanup(f)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(const int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* read side or already synced: nothing to tell */
}

static inline void fclosep(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

/* Room for `want` elements in a growing array (doubling). */
void *grow_to(void *array, size_t *cap, size_t want, size_t elem_size);

#endif
