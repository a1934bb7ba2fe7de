/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Target of the benchmark: RATE allocations a second from 1,024 stacks, with a bounded number of blocks alive. The stacks are the paths
 * through ten levels of two functions each. Once a second it prints how many allocations it has made and in how many nanoseconds, so that
 * the reader need not believe that the pace was held. Ends when told so by a signal.
 *
 *   paced [ALLOCATIONS_PER_SECOND [BLOCKS_ALIVE [STACKS]]]    with the last: so many of the paths, 1,024 at most
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define STACKS 1024 /* two to the number of levels below */
#define BATCHES_PER_S 1000
#define NS_PER_S 1000000000ll

typedef void *tree_fn(unsigned path, size_t bytes);

/* The empty asm keeps the two of a level from being folded into one. */
#define NODE(name, next0, next1) \
	__attribute__((noinline)) static void *name(unsigned path, size_t bytes) \
	{ \
		void *block = (path & 1 ? next1 : next0)(path >> 1, bytes); \
		__asm__ volatile("" ::"i"(name)); \
		return block; \
	}
#define LEVEL(n, next) NODE(left_##n, left_##next, right_##next) NODE(right_##n, left_##next, right_##next)

#define LEAF(name) \
	__attribute__((noinline)) static void *name(unsigned path, size_t bytes) \
	{ \
		void *block = malloc(bytes + path); \
		__asm__ volatile("" ::"i"(name)); \
		return block; \
	}

LEAF(left_0)
LEAF(right_0)
LEVEL(1, 0)
LEVEL(2, 1)
LEVEL(3, 2)
LEVEL(4, 3)
LEVEL(5, 4)
LEVEL(6, 5)
LEVEL(7, 6)
LEVEL(8, 7)
LEVEL(9, 8)

static void allocate(void **ring, unsigned long alive, unsigned long stacks, unsigned long long n)
{
	void **place = &ring[n % alive];
	unsigned path = (unsigned)(n % stacks);
	/* The first choice is made here, between two calls: ten choices in all. */
	tree_fn *top = path & 1 ? left_9 : right_9;

	free(*place);
	*place = top(path >> 1, 16 + n * 64 % 1024);
}

static long long since_ns(const struct timespec *from)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (ts.tv_sec - from->tv_sec) * NS_PER_S + ts.tv_nsec - from->tv_nsec;
}

/* The moment of a batch is counted from the start: a late one does not slow the pace down. */
static void wait_for_batch(const struct timespec *from, unsigned long long batch)
{
	long long at = from->tv_nsec + (long long)batch * (NS_PER_S / BATCHES_PER_S);
	struct timespec ts = { .tv_sec = from->tv_sec + at / NS_PER_S, .tv_nsec = at % NS_PER_S };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

int main(int argc, char **argv)
{
	unsigned long rate = argc > 1 ? strtoul(argv[1], NULL, 10) : 50000;
	unsigned long alive = argc > 2 ? strtoul(argv[2], NULL, 10) : 50000;
	unsigned long stacks = argc > 3 ? strtoul(argv[3], NULL, 10) : STACKS;
	unsigned long long batch = 0, n = 0;
	struct timespec from;
	void **ring = calloc(alive ? alive : 1, sizeof(*ring));

	if (!ring || !alive || rate < BATCHES_PER_S || !stacks || stacks > STACKS)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (;;) {
		char line[64];

		for (unsigned long i = 0; i < rate / BATCHES_PER_S; i++)
			allocate(ring, alive, stacks, n++);
		wait_for_batch(&from, ++batch);
		if (batch % BATCHES_PER_S)
			continue;
		int bytes = snprintf(line, sizeof(line), "%llu %lld\n", n, since_ns(&from));
		if (write(1, line, bytes) != bytes)
			return 1;
	}
}
