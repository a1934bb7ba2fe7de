/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Target of the benchmark: on each line on stdin, a number N, it makes N pairs of malloc(64) and free and answers with what they took: nanoseconds of
 * the clock and of its own processor time. It judges nothing, and makes no other allocation: its input and output need none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES 64 /* what the bar is set for */

static unsigned long long now_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* volatile: the compiler may not see that the block is never used. */
static void run_pairs(unsigned long n)
{
	while (n--) {
		void *volatile block = malloc(BLOCK_BYTES);
		free(block);
	}
}

/* 0: stdin has ended. */
static unsigned long read_number(void)
{
	char line[32];
	size_t used = 0;

	while (used < sizeof(line) - 1 && read(0, line + used, 1) == 1) {
		if (line[used] == '\n')
			break;
		used++;
	}
	line[used] = 0;
	return strtoul(line, NULL, 10);
}

static int answer(unsigned long long wall, unsigned long long cpu)
{
	char line[64];
	int bytes = snprintf(line, sizeof(line), "%llu %llu\n", wall, cpu);

	return write(1, line, bytes) == bytes ? 0 : -1;
}

int main(void)
{
	unsigned long n;

	if (answer(0, 0))
		return 1;
	while ((n = read_number())) {
		unsigned long long cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID), wall = now_ns(CLOCK_MONOTONIC);

		run_pairs(n);
		wall = now_ns(CLOCK_MONOTONIC) - wall;
		cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		if (answer(wall, cpu))
			return 1;
	}
	return 0;
}
