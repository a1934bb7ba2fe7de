/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One of many: a process of a host that is watched as a whole.
 *
 *	crowd tick PER_S		wakes, allocates a little, frees it
 *	crowd stacks N PER_S		the same from N different stacks, each with blocks that live and grow
 *	crowd pulse			maps and touches a page each millisecond; a line on stdin prints the longest turn in us since the last
 */
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define STACK_BITS 16
#define KEEP_ONE_OF 50

static void *volatile sink;
static void *kept;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void rest(long per_s)
{
	long ns = 1000000000 / per_s;
	struct timespec t = { ns / 1000000000, ns % 1000000000 };

	nanosleep(&t, NULL);
}

static void use(void)
{
	static unsigned n;
	void **p = malloc(100 + n % 400);

	sink = p;
	if (n++ % KEEP_ONE_OF) {
		free(p);
		return;
	}
	*p = kept;
	kept = p;
}

static void one(unsigned path, int depth);

__attribute__((noinline)) static void zero(unsigned path, int depth)
{
	one(path, depth);
	sink = NULL;
}

/* Each bit of the path is one more frame or none: every path is a stack of its own. */
__attribute__((noinline)) static void one(unsigned path, int depth)
{
	if (!depth)
		use();
	else if (path & 1)
		zero(path >> 1, depth - 1);
	else
		one(path >> 1, depth - 1);
	sink = NULL;
}

static void stacks(unsigned n, long per_s)
{
	for (unsigned i = 0;; i = (i + 1) % n) {
		one(i, STACK_BITS);
		if (i % 10 == 9)
			rest(per_s / 10);
	}
}

static void pulse(void)
{
	uint64_t longest = 0, before = now_ns();
	struct pollfd in = { .fd = 0, .events = POLLIN };
	char line[16];

	for (;;) {
		if (poll(&in, 1, 1) > 0) {
			if (read(0, line, sizeof(line)) <= 0)
				return;
			printf("%llu\n", (unsigned long long)longest / 1000);
			fflush(stdout);
			longest = 0;
		}
		volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		page[0] = 1;
		munmap((void *)page, 4096);
		use();
		uint64_t now = now_ns();
		longest = now - before > longest ? now - before : longest;
		before = now;
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "tick"))
		for (;;) {
			use();
			rest(atol(argv[2]));
		}
	if (argc == 4 && !strcmp(argv[1], "stacks"))
		stacks((unsigned)atol(argv[2]), atol(argv[3]));
	if (argc == 2 && !strcmp(argv[1], "pulse"))
		pulse();
	return 2;
}
