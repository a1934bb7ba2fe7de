/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Known truth of CPython's allocation domains, loaded into an interpreter by ctypes: hooks before its allocators (PyMem_SetAllocator) that count what passes
 * them, to the byte, and calls of all twelve functions with known sizes. A call that one domain makes of another while it serves a call is part of that call,
 * as it is for Tidemark. Allocates nothing itself: its table of blocks is static.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DOMAINS = 3, PLACES = 1 << 20, CALLS = 3000 };

struct allocator { /* PyMemAllocatorEx */
	void *ctx;
	void *(*malloc)(void *ctx, size_t size);
	void *(*calloc)(void *ctx, size_t n, size_t size);
	void *(*realloc)(void *ctx, void *p, size_t size);
	void (*free)(void *ctx, void *p);
};

struct block {
	void *p; /* NULL: never used; GONE: free again */
	size_t bytes;
	bool known; /* it is one of call_all's */
};

struct sums {
	uint64_t alloc_bytes, alloc_count, free_bytes, free_count;
};

struct api {
	void *(*malloc)(size_t size);
	void *(*calloc)(size_t n, size_t size);
	void *(*realloc)(void *p, size_t size);
	void (*free)(void *p);
};

int hooks_install(void);
int hooks_calls(void);
int hooks_report(const char *path);

static const char gone;
#define GONE ((void *)&gone)

static struct allocator behind[DOMAINS];
static struct block blocks[PLACES];
static struct sums all, known; /* known: of blocks that call_all took */
static uint64_t lost;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the raw domain is called without the GIL */
static __thread int depth;
static __thread bool in_calls;

static struct block *find(void *p, bool to_put)
{
	for (uint64_t i = 0, at = (uintptr_t)p / 16 * 0x9e3779b97f4a7c15ull >> 44; i < 4096;
	     i++, at = (at + 1) % PLACES) {
		struct block *b = &blocks[at];
		if (b->p == p || (to_put && (!b->p || b->p == GONE)))
			return b;
		if (!b->p)
			return NULL;
	}
	return NULL;
}

static void take(void *p, size_t bytes)
{
	struct block *b;

	pthread_mutex_lock(&lock);
	b = find(p, true);
	if (b)
		*b = (struct block){ p, bytes, in_calls };
	lost += !b;
	all.alloc_bytes += bytes;
	all.alloc_count++;
	known.alloc_bytes += in_calls ? bytes : 0;
	known.alloc_count += in_calls;
	pthread_mutex_unlock(&lock);
}

/* Size of a block that is no more; before the allocator may give its address to another thread. -1: older than the hooks. */
static int64_t drop(void *p)
{
	int64_t bytes = -1;
	struct block *b;

	pthread_mutex_lock(&lock);
	b = p ? find(p, false) : NULL;
	if (b) {
		bytes = (int64_t)b->bytes;
		b->p = GONE;
		all.free_bytes += b->bytes;
		all.free_count++;
		known.free_bytes += b->known ? b->bytes : 0;
		known.free_count += b->known;
	}
	pthread_mutex_unlock(&lock);
	return bytes;
}

static void *hook_malloc(void *ctx, size_t size)
{
	struct allocator *a = ctx;

	depth++;
	void *p = a->malloc(a->ctx, size);
	if (!--depth && p)
		take(p, size);
	return p;
}

static void *hook_calloc(void *ctx, size_t n, size_t size)
{
	struct allocator *a = ctx;

	depth++;
	void *p = a->calloc(a->ctx, n, size);
	if (!--depth && p)
		take(p, n * size);
	return p;
}

static void *hook_realloc(void *ctx, void *old, size_t size)
{
	struct allocator *a = ctx;

	if (!depth)
		drop(old); /* none of the calls here fails */
	depth++;
	void *p = a->realloc(a->ctx, old, size);
	if (!--depth && p)
		take(p, size);
	return p;
}

static void hook_free(void *ctx, void *p)
{
	struct allocator *a = ctx;

	if (!depth)
		drop(p);
	depth++;
	a->free(a->ctx, p);
	depth--;
}

/* 0, or 1: not in an interpreter. */
int hooks_install(void)
{
	void (*get)(int, struct allocator *) = (void (*)(int, struct allocator *))dlsym(RTLD_DEFAULT,
											"PyMem_GetAllocator");
	void (*set)(int, struct allocator *) = (void (*)(int, struct allocator *))dlsym(RTLD_DEFAULT,
											"PyMem_SetAllocator");

	if (!get || !set)
		return 1;
	for (int i = 0; i < DOMAINS; i++) {
		struct allocator mine = { &behind[i], hook_malloc, hook_calloc, hook_realloc, hook_free };
		get(i, &behind[i]);
		set(i, &mine);
	}
	return 0;
}

static bool api_find(const char *prefix, struct api *ret)
{
	static const char *const names[] = { "Malloc", "Calloc", "Realloc", "Free" };
	void *found[4];

	for (int i = 0; i < 4; i++) {
		char name[64];
		snprintf(name, sizeof(name), "%s%s", prefix, names[i]);
		found[i] = dlsym(RTLD_DEFAULT, name);
		if (!found[i])
			return false;
	}
	memcpy(ret, found, sizeof(*ret));
	return true;
}

/* Small and large, nothing and more than a pool; grown, shrunk, given back and kept. */
static void call_all(const struct api *a)
{
	static const size_t sizes[] = { 0, 1, 16, 17, 511, 512, 513, 4096, 100001 };
	void *kept[9] = { NULL };

	in_calls = true;
	for (int i = 0; i < CALLS; i++) {
		size_t size = sizes[i % 9];
		void *p = i % 2 ? a->malloc(size) : a->calloc(i % 3 + 1, size);
		if (i % 4 == 0)
			p = a->realloc(p, sizes[i * 7 % 9] + 1);
		a->free(kept[i % 9]);
		kept[i % 9] = p;
	}
	a->free(a->realloc(NULL, 333));
	a->free(NULL);
	for (int i = 0; i < 9; i += 2)
		a->free(kept[i]);
	in_calls = false;
}

static void *call_raw(void *arg)
{
	struct api raw;

	if (api_find("PyMem_Raw", &raw))
		call_all(&raw);
	return arg;
}

/* All domains; raw also from threads that hold no GIL. 0, or 1: not in an interpreter. */
int hooks_calls(void)
{
	static const char *const prefixes[DOMAINS] = { "PyMem_Raw", "PyMem_", "PyObject_" };
	pthread_t threads[2];
	struct api a;

	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, call_raw, NULL))
			return 1;
	for (int i = 0; i < DOMAINS; i++) {
		if (!api_find(prefixes[i], &a))
			return 1;
		call_all(&a);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

static void put(FILE *f, const char *name, const struct sums *s, const char *end)
{
	fprintf(f,
		"\"%s\": {\"alloc_bytes\": %llu, \"alloc_count\": %llu, \"free_bytes\": %llu, \"free_count\": %llu}%s",
		name, (unsigned long long)s->alloc_bytes, (unsigned long long)s->alloc_count,
		(unsigned long long)s->free_bytes, (unsigned long long)s->free_count, end);
}

/* Writes what was counted and waits for the file's end: no call of Python's comes after it. */
int hooks_report(const char *path)
{
	char part[512], end[512];

	snprintf(part, sizeof(part), "%s/truth.part", path);
	snprintf(end, sizeof(end), "%s/truth", path);
	FILE *f = fopen(part, "w");
	if (!f)
		return 1;
	fprintf(f, "{\"pid\": %d, \"lost\": %llu, ", getpid(), (unsigned long long)lost);
	put(f, "all", &all, ", ");
	put(f, "known", &known, "}\n");
	if (fclose(f) || rename(part, end))
		return 1;
	snprintf(end, sizeof(end), "%s/end", path);
	while (access(end, F_OK))
		usleep(10000);
	return 0;
}
