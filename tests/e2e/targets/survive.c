/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * survive THREADS: a leak, a cache with a fixed lifetime and churn, all of the same sizes, and a pool of free memory between them. What lives and what is
 * dead stands in a table in this program's memory, whose address it says at the start, with those of the three sites; a watcher reads it from outside.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define SITE __attribute__((noipa)) /* not one function of the three, which are the same */
#define RECORDS (1u << 20)	    /* of each thread, used round and round; 32 MiB */
#define THREADS_MAX 4
#define CACHE_NS 1500000000ull
#define CACHE_MAX 65536u
#define CHURN_POOL 400u
#define TIDE 30000u /* blocks at the start, of which every other one is freed */

struct record {
	uint64_t addr; /* 0: never used */
	uint64_t birth_ns;
	uint32_t bytes, site;
	uint64_t death_ns; /* 0: alive */
};

enum { LEAK, CACHE, CHURN };

struct thread {
	struct record *records;
	uint32_t n, random;
	uint32_t cache[CACHE_MAX], cache_first, cache_n;
	uint32_t churn[CHURN_POOL];
	uint32_t old_churn;
};

static struct thread threads[THREADS_MAX];
static const uint32_t sizes[] = { 24, 40, 100, 200, 500, 1200, 5000, 200000 };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint32_t random_below(struct thread *t, uint32_t n)
{
	t->random = t->random * 1664525 + 1013904223; /* Numerical Recipes */
	return (uint32_t)((uint64_t)t->random * n >> 32);
}

SITE void *leak_site(size_t n)
{
	return malloc(n);
}

SITE void *cache_site(size_t n)
{
	return malloc(n);
}

SITE void *churn_site(size_t n)
{
	return malloc(n);
}

static void *(*const sites[])(size_t) = { leak_site, cache_site, churn_site };

static uint32_t size_next(struct thread *t)
{
	/* Large ones are rare. */
	return random_below(t, 400) ? sizes[random_below(t, 7)] : sizes[7];
}

static uint32_t make(struct thread *t, uint32_t site)
{
	struct record *r;

	do
		r = &t->records[t->n++ & (RECORDS - 1)];
	while (r->addr && !r->death_ns); /* alive since the last time round */
	*r = (struct record){ .birth_ns = now_ns(), .bytes = size_next(t), .site = site, .death_ns = 1 };
	char *p = sites[site](r->bytes);
	p[0] = p[r->bytes - 1] = 1;
	r->addr = (uint64_t)(uintptr_t)p;
	__atomic_store_n(&r->death_ns, 0, __ATOMIC_RELEASE);
	return (uint32_t)(r - t->records) + 1;
}

static void end(struct thread *t, uint32_t index)
{
	struct record *r = &t->records[index - 1];

	__atomic_store_n(&r->death_ns, now_ns(), __ATOMIC_RELEASE);
	free((void *)(uintptr_t)r->addr);
}

static void tick(struct thread *t)
{
	if (!random_below(t, 3))
		(void)make(t, LEAK);
	for (int i = 0; i < 4; i++)
		t->cache[(t->cache_first + t->cache_n++) & (CACHE_MAX - 1)] = make(t, CACHE);
	while (t->cache_n &&
	       now_ns() - t->records[t->cache[t->cache_first & (CACHE_MAX - 1)] - 1].birth_ns > CACHE_NS) {
		end(t, t->cache[t->cache_first++ & (CACHE_MAX - 1)]);
		t->cache_n--;
	}
	for (int i = 0; i < 30; i++) {
		uint32_t *slot = &t->churn[random_below(t, CHURN_POOL)];
		if (*slot)
			end(t, *slot);
		*slot = make(t, CHURN);
	}
}

static void tide(struct thread *t)
{
	static __thread void *blocks[TIDE];

	for (uint32_t i = 0; i < TIDE; i++)
		blocks[i] = malloc(size_next(t));
	for (uint32_t i = 0; i < TIDE; i += 2)
		free(blocks[i]);
}

static void *run(void *arg)
{
	struct thread *t = arg;

	tide(t);
	for (;;) {
		tick(t);
		usleep(1000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1;
	pthread_t id;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (n < 1 || n > THREADS_MAX)
		return 2;
	struct record *records = mmap(NULL, (size_t)n * RECORDS * sizeof(*records), PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (records == MAP_FAILED)
		return 1;
	for (int i = 0; i < n; i++) {
		threads[i].records = records + (size_t)i * RECORDS;
		threads[i].random = (uint32_t)i * 77 + 1;
	}
	printf("{\"tag\": \"ready\", \"pid\": %d, \"table\": %" PRIuPTR ", \"records\": %zu, \"sites\": [%" PRIuPTR
	       ", %" PRIuPTR ", %" PRIuPTR "]}\n",
	       getpid(), (uintptr_t)records, (size_t)n * RECORDS, (uintptr_t)leak_site, (uintptr_t)cache_site,
	       (uintptr_t)churn_site);
	fflush(stdout);
	for (int i = 1; i < n; i++)
		if (pthread_create(&id, NULL, run, &threads[i]))
			return 1;
	run(&threads[0]);
	return 0;
}
