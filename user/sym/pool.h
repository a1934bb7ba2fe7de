/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strings kept once each, for the life of the pool. */
#ifndef TIDEMARK_SYM_POOL_H
#define TIDEMARK_SYM_POOL_H

#include <stddef.h>

struct pool;

struct pool *pool_new(void);
void pool_free(struct pool *p);
/* The pool's copy; equal strings give equal pointers. Control characters become '?': names end up on terminals. */
const char *pool_intern(struct pool *p, const char *s);
/* Memory for other things that live as long; zeroed. */
void *pool_alloc(struct pool *p, size_t n, size_t size);

#endif
