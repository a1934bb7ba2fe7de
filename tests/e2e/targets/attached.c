/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is attached to and let go again, many times: threads that allocate, free and realloc round after round, each round timed by itself. What
 * they keep is filled with a pattern and read again before it goes. Between rounds they sleep a little, so that a processor is free
 * for the next one. On each line on stdin, as JSON: rounds of all threads since the line before, fewest of one thread, the longest round.
 */
#include <pthread.h>
#include <time.h>

#include "truth.h"

enum { THREADS = 4, PER_ROUND = 40, NAP_NS = 300000 };

struct worker {
	uint64_t rounds, longest_ns;
};

static struct worker workers[THREADS];

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static unsigned char *block_make(uint32_t r)
{
	size_t n = 32 + r % 3000;
	unsigned char *p = r % 3 ? malloc(n / 2) : calloc(2, n / 4);

	if (r % 5 == 0)
		p = realloc(p, n);
	if (!p)
		truth_die("no memory\n");
	memset(p, (int)(r & 255), 16);
	return p;
}

static void round_make(uint32_t *r)
{
	unsigned char *blocks[PER_ROUND], marks[PER_ROUND];

	for (int i = 0; i < PER_ROUND; i++) {
		uint32_t v = truth_random(r);

		marks[i] = v & 255;
		blocks[i] = block_make(v);
	}
	for (int i = 0; i < PER_ROUND; i++) {
		if (blocks[i][0] != marks[i] || blocks[i][15] != marks[i])
			truth_die("a block has changed\n");
		free(blocks[i]);
	}
}

static void *work(void *arg)
{
	const struct timespec nap = { 0, NAP_NS };
	struct worker *w = arg;
	uint32_t r = (uint32_t)(w - workers) + 17;

	for (;;) {
		uint64_t took = now_ns();

		round_make(&r);
		took = now_ns() - took;
		__atomic_fetch_add(&w->rounds, 1, __ATOMIC_RELAXED);
		if (took > __atomic_load_n(&w->longest_ns, __ATOMIC_RELAXED))
			__atomic_store_n(&w->longest_ns, took, __ATOMIC_RELAXED);
		nanosleep(&nap, NULL);
	}
	return NULL;
}

static void look(int n)
{
	uint64_t sum = 0, least = UINT64_MAX, longest = 0;
	char line[160];

	for (int i = 0; i < THREADS; i++) {
		uint64_t rounds = __atomic_exchange_n(&workers[i].rounds, 0, __ATOMIC_RELAXED),
			 ns = __atomic_exchange_n(&workers[i].longest_ns, 0, __ATOMIC_RELAXED);

		sum += rounds;
		least = rounds < least ? rounds : least;
		longest = ns > longest ? ns : longest;
	}
	snprintf(line, sizeof(line), "{\"tag\": \"look%d\", \"rounds\": %llu, \"least\": %llu, \"longest_ms\": %.3f}",
		 n, (unsigned long long)sum, (unsigned long long)least, (double)longest / 1e6);
	truth_say(line);
}

int main(void)
{
	pthread_t t;

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&t, NULL, work, &workers[i]))
			truth_die("pthread_create\n");
	truth_say("{\"tag\": \"ready\"}");
	for (int n = 1; truth_wait_line(); n++)
		look(n);
	return 0;
}
