/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Target of the benchmark of attaching: threads that make a round of allocations, and time each round themselves. Between rounds they sleep a little, so that
 * a processor is free when a round begins. On each line on stdin: the number of rounds since the line before, the median, the 99.9th
 * percentile and the longest, ns, the longest less what it waited for a processor, and the fewest rounds that any thread made (0: one is stuck).
 *
 *   latency [THREADS]
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64
#define PER_ROUND 50
#define NAP_NS 200000
#define SUB_BITS 4 /* 16 steps per power of two: 6 % */
#define STEPS (64 << SUB_BITS)

struct worker {
	uint32_t rounds[STEPS];
	uint64_t longest_ns, stalled_ns;
};

static struct worker workers[THREADS_MAX];

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static unsigned step_of(uint64_t ns)
{
	unsigned power = 63 - __builtin_clzll(ns | 1);

	if (power < SUB_BITS)
		return (unsigned)ns;
	return (power - SUB_BITS + 1) << SUB_BITS | (unsigned)(ns >> (power - SUB_BITS) & ((1 << SUB_BITS) - 1));
}

/* The least that falls into it. */
static uint64_t step_ns(unsigned step)
{
	unsigned power = step >> SUB_BITS;
	uint64_t sub = step & ((1 << SUB_BITS) - 1);

	return power ? (sub | 1 << SUB_BITS) << (power - 1) : sub;
}

static void make_round(unsigned n)
{
	void *blocks[PER_ROUND];

	for (unsigned i = 0; i < PER_ROUND; i++) {
		size_t bytes = 16 + (n * 131 + i * 97) % 2000;

		blocks[i] = i % 3 ? malloc(bytes) : calloc(2, bytes);
		if (i % 5 == 0)
			blocks[i] = realloc(blocks[i], bytes * 3);
		memset(blocks[i], 1, 16);
	}
	for (unsigned i = 0; i < PER_ROUND; i++)
		free(blocks[i]);
}

/* How long this thread has been runnable without running: the second number of schedstat (Documentation/scheduler/sched-stats.rst). */
static uint64_t waited_ns(int schedstat)
{
	char text[64] = "", *end;

	if (pread(schedstat, text, sizeof(text) - 1, 0) <= 0)
		return 0;
	strtoull(text, &end, 10);
	return strtoull(end, NULL, 10);
}

static void keep_most(uint64_t *most, uint64_t ns)
{
	if (ns > __atomic_load_n(most, __ATOMIC_RELAXED))
		__atomic_store_n(most, ns, __ATOMIC_RELAXED);
}

static void *work(void *arg)
{
	const struct timespec nap = { .tv_nsec = NAP_NS };
	int schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	struct worker *w = arg;

	for (unsigned n = 0;; n++) {
		uint64_t waited = waited_ns(schedstat), took = now_ns();

		make_round(n);
		took = now_ns() - took;
		__atomic_fetch_add(&w->rounds[step_of(took)], 1, __ATOMIC_RELAXED);
		keep_most(&w->longest_ns, took);
		waited = waited_ns(schedstat) - waited;
		keep_most(&w->stalled_ns, took > waited ? took - waited : 0);
		nanosleep(&nap, NULL);
	}
	return NULL;
}

static uint64_t quantile(const uint64_t *rounds, uint64_t rank)
{
	for (unsigned i = 0; i < STEPS; i++) {
		if (rank < rounds[i])
			return step_ns(i);
		rank -= rounds[i];
	}
	return 0;
}

static int answer(int threads)
{
	static uint64_t rounds[STEPS];
	uint64_t sum = 0, least = UINT64_MAX, longest = 0, stalled = 0;
	char line[128];

	memset(rounds, 0, sizeof(rounds));
	for (int t = 0; t < threads; t++) {
		uint64_t own = 0, ns = __atomic_exchange_n(&workers[t].longest_ns, 0, __ATOMIC_RELAXED);
		uint64_t still = __atomic_exchange_n(&workers[t].stalled_ns, 0, __ATOMIC_RELAXED);

		for (unsigned i = 0; i < STEPS; i++) {
			uint32_t n = __atomic_exchange_n(&workers[t].rounds[i], 0, __ATOMIC_RELAXED);

			rounds[i] += n;
			own += n;
		}
		longest = ns > longest ? ns : longest;
		stalled = still > stalled ? still : stalled;
		least = own < least ? own : least;
		sum += own;
	}
	int bytes = snprintf(line, sizeof(line), "%llu %llu %llu %llu %llu %llu\n", (unsigned long long)sum,
			     (unsigned long long)quantile(rounds, sum / 2),
			     (unsigned long long)quantile(rounds, sum - sum / 1000 - (sum > 0)),
			     (unsigned long long)longest, (unsigned long long)stalled, (unsigned long long)least);
	return write(1, line, bytes) == bytes ? 0 : -1;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 4;
	pthread_t thread;
	char c;

	if (threads < 1 || threads > THREADS_MAX)
		return 2;
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread, NULL, work, &workers[i]))
			return 1;
	while (read(0, &c, 1) == 1)
		if (c == '\n' && answer(threads))
			return 1;
	return 0;
}
