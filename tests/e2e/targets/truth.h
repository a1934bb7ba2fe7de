/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The truth that a test program keeps about its own allocations: plain arithmetic in static memory. It never allocates, so it
 * adds nothing to what is measured, and it knows nothing of how Tidemark counts: only what the program asked for and got.
 *
 * The rules are those of the published formats: bytes as requested, a free is booked on the site that allocated, a realloc that
 * succeeds is a free and an allocation, a failed call is nothing, blocks inherited by fork are not the child's.
 */
#ifndef TIDEMARK_TESTS_TRUTH_H
#define TIDEMARK_TESTS_TRUTH_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A function that stays a frame of its own. */
#if defined(__GNUC__) && !defined(__clang__)
#define SITE_ATTRIBUTES __attribute__((noinline, noipa, used))
#else
#define SITE_ATTRIBUTES __attribute__((noinline, used))
#endif
#ifdef __cplusplus
#define SITE extern "C" SITE_ATTRIBUTES
#else
#define SITE SITE_ATTRIBUTES
#endif

enum { TRUTH_SLOTS = 1 << 18, TRUTH_SITES = 48, TRUTH_TEXT = 1 << 16 };

struct truth_site {
	const char *site;   /* the allocation function: "malloc" */
	const char *caller; /* the function of the program that calls it */
	uint64_t alloc_bytes, alloc_count, free_bytes, free_count;
};

struct truth_block {
	uintptr_t addr; /* 0: none */
	uint64_t bytes;
	uint32_t site;
	uint32_t owner; /* generation: a block of an older one was inherited by fork */
};

struct truth {
	char lock;
	uint32_t owner;
	uint32_t n_sites;
	uint64_t unmatched; /* frees of inherited blocks */
	struct truth_site sites[TRUTH_SITES];
	struct truth_block blocks[TRUTH_SLOTS]; /* open addressing, linear, deletion shifts back */
	char text[TRUTH_TEXT];
};

static struct truth truth;

static inline void truth_die(const char *why)
{
	(void)!write(2, why, strlen(why));
	_exit(99);
}

static inline void truth_enter(void)
{
	while (__atomic_test_and_set(&truth.lock, __ATOMIC_ACQUIRE))
		sched_yield();
}

static inline void truth_leave(void)
{
	__atomic_clear(&truth.lock, __ATOMIC_RELEASE);
}

static inline uint32_t truth_slot(uintptr_t addr)
{
	return (uint32_t)((addr >> 4) * 0x9e3779b97f4a7c15ull >> 40) & (TRUTH_SLOTS - 1);
}

static inline uint32_t truth_find_site(const char *site, const char *caller)
{
	uint32_t i;

	for (i = 0; i < truth.n_sites; i++)
		if (!strcmp(truth.sites[i].site, site) && !strcmp(truth.sites[i].caller, caller))
			return i;
	if (i == TRUTH_SITES)
		truth_die("truth: too many sites\n");
	truth.sites[i].site = site;
	truth.sites[i].caller = caller;
	truth.n_sites++;
	return i;
}

static inline void truth_insert(struct truth_block b)
{
	uint32_t i = truth_slot(b.addr), n = 0;

	while (truth.blocks[i].addr) {
		if (truth.blocks[i].addr == b.addr)
			truth_die("truth: address handed out twice\n");
		if (++n == TRUTH_SLOTS)
			truth_die("truth: too many blocks\n");
		i = (i + 1) & (TRUTH_SLOTS - 1);
	}
	truth.blocks[i] = b;
}

static inline struct truth_block truth_remove(uintptr_t addr)
{
	uint32_t i = truth_slot(addr), j, k;
	struct truth_block b, none = { 0, 0, 0, 0 };

	while (truth.blocks[i].addr != addr) {
		if (!truth.blocks[i].addr)
			return none;
		i = (i + 1) & (TRUTH_SLOTS - 1);
	}
	b = truth.blocks[i];
	for (j = (i + 1) & (TRUTH_SLOTS - 1); truth.blocks[j].addr; j = (j + 1) & (TRUTH_SLOTS - 1)) {
		k = truth_slot(truth.blocks[j].addr);
		if (((j - k) & (TRUTH_SLOTS - 1)) >= ((j - i) & (TRUTH_SLOTS - 1))) {
			truth.blocks[i] = truth.blocks[j];
			i = j;
		}
	}
	truth.blocks[i] = none;
	return b;
}

static inline void truth_book_alloc(const char *site, const char *caller, void *p, uint64_t bytes)
{
	uint32_t s = truth_find_site(site, caller);
	struct truth_block b = { (uintptr_t)p, bytes, s, truth.owner };

	truth.sites[s].alloc_bytes += bytes;
	truth.sites[s].alloc_count++;
	truth_insert(b);
}

static inline void truth_book_free(struct truth_block b)
{
	if (b.owner != truth.owner) {
		truth.unmatched++;
		return;
	}
	truth.sites[b.site].free_bytes += b.bytes;
	truth.sites[b.site].free_count++;
}

/* After a call that may have allocated; NULL is a failure and counts nothing. */
static inline void *truth_alloc(const char *site, const char *caller, void *p, uint64_t bytes)
{
	if (!p)
		return NULL;
	truth_enter();
	truth_book_alloc(site, caller, p, bytes);
	truth_leave();
	return p;
}

/* Before the call: another thread may get the same address as soon as the block is free. */
static inline struct truth_block truth_take(void *p)
{
	struct truth_block b = { 0, 0, 0, 0 };

	if (!p)
		return b;
	truth_enter();
	b = truth_remove((uintptr_t)p);
	truth_leave();
	if (!b.addr)
		truth_die("truth: free of an unknown block\n");
	return b;
}

static inline void truth_free(void *p)
{
	struct truth_block b = truth_take(p);

	if (!p)
		return;
	truth_enter();
	truth_book_free(b);
	truth_leave();
}

/* After realloc(p, bytes) = q, with `old` taken before it. */
static inline void *truth_realloc(const char *site, const char *caller, struct truth_block old, void *p, void *q,
				  uint64_t bytes)
{
	truth_enter();
	if (q) {
		if (p)
			truth_book_free(old);
		truth_book_alloc(site, caller, q, bytes);
	} else if (p && !bytes) {
		truth_book_free(old);
	} else if (p) {
		truth_insert(old);
	}
	truth_leave();
	return q;
}

/* In a forked child: everything so far is the parent's. */
static inline void truth_forked(void)
{
	truth.owner++;
	truth.n_sites = 0;
	truth.unmatched = 0;
	memset(truth.sites, 0, sizeof(truth.sites));
}

static inline void truth_write(const char *text, size_t n)
{
	while (n) {
		ssize_t r = write(1, text, n);

		if (r <= 0)
			truth_die("truth: cannot write\n");
		text += r;
		n -= (size_t)r;
	}
}

static inline size_t truth_put_counts(char *to, size_t room, const struct truth_site *s)
{
	return (size_t)snprintf(
		to, room,
		"\"live_bytes\": %llu, \"live_count\": %llu, \"alloc_bytes\": %llu, \"alloc_count\": %llu, "
		"\"free_bytes\": %llu, \"free_count\": %llu",
		(unsigned long long)(s->alloc_bytes - s->free_bytes),
		(unsigned long long)(s->alloc_count - s->free_count), (unsigned long long)s->alloc_bytes,
		(unsigned long long)s->alloc_count, (unsigned long long)s->free_bytes,
		(unsigned long long)s->free_count);
}

/* One JSON line on stdout. snprintf of integers and short strings allocates nothing in any libc used here. */
static inline void truth_print(const char *tag)
{
	struct truth_site sum = { "", "", 0, 0, 0, 0 };
	char *t = truth.text;
	size_t n = 0;
	uint32_t i;

	truth_enter();
	for (i = 0; i < truth.n_sites; i++) {
		sum.alloc_bytes += truth.sites[i].alloc_bytes;
		sum.alloc_count += truth.sites[i].alloc_count;
		sum.free_bytes += truth.sites[i].free_bytes;
		sum.free_count += truth.sites[i].free_count;
	}
	n += (size_t)snprintf(t + n, TRUTH_TEXT - n,
			      "{\"tag\": \"%s\", \"pid\": %d, \"ppid\": %d, \"unmatched_free\": %llu, ", tag,
			      (int)getpid(), (int)getppid(), (unsigned long long)truth.unmatched);
	n += truth_put_counts(t + n, TRUTH_TEXT - n, &sum);
	n += (size_t)snprintf(t + n, TRUTH_TEXT - n, ", \"sites\": [");
	for (i = 0; i < truth.n_sites; i++) {
		n += (size_t)snprintf(t + n, TRUTH_TEXT - n, "%s{\"site\": \"%s\", \"caller\": \"%s\", ", i ? ", " : "",
				      truth.sites[i].site, truth.sites[i].caller);
		n += truth_put_counts(t + n, TRUTH_TEXT - n, &truth.sites[i]);
		n += (size_t)snprintf(t + n, TRUTH_TEXT - n, "}");
	}
	n += (size_t)snprintf(t + n, TRUTH_TEXT - n, "]}\n");
	truth_write(t, n);
	truth_leave();
}

static inline void truth_say(const char *line)
{
	truth_write(line, strlen(line));
	truth_write("\n", 1);
}

/* Blocks until the harness has written one more line (or is gone). false: end of file. */
static inline bool truth_wait_line(void)
{
	char c;

	for (;;) {
		if (read(0, &c, 1) != 1)
			return false;
		if (c == '\n')
			return true;
	}
}

/* Ready, start line. A target whose harness has died ends at once. */
static inline void truth_start(void)
{
	truth_say("{\"tag\": \"ready\"}");
	if (!truth_wait_line())
		_exit(98);
}

/* A number that the compiler can't see through. */
static inline size_t truth_opaque(size_t n)
{
	volatile size_t v = n;

	return v;
}

static inline uint32_t truth_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

#endif
