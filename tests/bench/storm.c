/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Target of the benchmark of the governor: threads that do nothing but allocate and free, blocks of 16 to 1,039 bytes, 256 alive per thread. How many pairs
 * each has made stands in a file of counters (64 bytes apart) and, summed up, on a line of output per second.
 *
 *   storm FILE THREADS [IDLE_S STORM_S]    with the last two: idle and storm in turn
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 64
#define SLOT_WORDS 8
#define ALIVE 256
#define BATCH 256
#define NS_PER_S 1000000000ull

static volatile uint64_t *counters;
static uint64_t idle_ns, storm_ns, born_ns;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* All threads idle and storm at the same times. */
static void wait_for_storm(void)
{
	uint64_t period = idle_ns + storm_ns, at = period ? (now_ns() - born_ns) % period : 0;

	if (at >= idle_ns)
		return;
	struct timespec ts = { .tv_sec = (idle_ns - at) / NS_PER_S, .tv_nsec = (idle_ns - at) % NS_PER_S };
	nanosleep(&ts, NULL);
}

static void *work(void *arg)
{
	volatile uint64_t *counter = arg;
	void *blocks[ALIVE] = { NULL };
	uint32_t random = (uint32_t)(uintptr_t)arg | 1;

	for (;;) {
		wait_for_storm();
		for (int i = 0; i < BATCH; i++) {
			random ^= random << 13; /* Marsaglia's xorshift32 */
			random ^= random >> 17;
			random ^= random << 5;
			void **place = &blocks[random % ALIVE];
			free(*place);
			*place = malloc(16 + (random >> 16) % 1024);
			*(volatile char *)*place = 1;
		}
		*counter += BATCH;
	}
	return NULL;
}

static void *map_counters(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED
			 : mmap(NULL, SLOTS * SLOT_WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 8;
	pthread_t thread;

	if (argc < 2 || threads < 1 || threads > SLOTS || !(counters = map_counters(argv[1]))) {
		fputs("usage: storm FILE THREADS [IDLE_S STORM_S]\n", stderr);
		return 2;
	}
	idle_ns = argc > 4 ? (uint64_t)(atof(argv[3]) * 1e9) : 0;
	storm_ns = argc > 4 ? (uint64_t)(atof(argv[4]) * 1e9) : 0;
	born_ns = now_ns();
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread, NULL, work, (void *)(counters + i * SLOT_WORDS)))
			return 1;
	for (uint64_t before = 0;;) {
		char line[32];
		uint64_t sum = 0;

		sleep(1);
		for (int i = 0; i < threads; i++)
			sum += counters[i * SLOT_WORDS];
		int bytes = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)(sum - before));
		if (write(1, line, bytes) != bytes)
			return 1;
		before = sum;
	}
}
