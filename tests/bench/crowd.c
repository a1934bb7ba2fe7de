/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One of the many processes of a host: sleeps, or wakes ten times a second for a few allocations, or touches fresh pages now and then.
 *
 *   crowd sleeper|ticker|toucher
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 100000000
#define TOUCH_BYTES (64 << 10)
#define ALIVE 64

static void sleep_for_good(void)
{
	for (;;)
		pause();
}

static void tick(void (*doing)(unsigned))
{
	const struct timespec nap = { .tv_nsec = TICK_NS };

	for (unsigned n = 0;; n++) {
		doing(n);
		nanosleep(&nap, NULL);
	}
}

static void allocate(unsigned n)
{
	static void *blocks[ALIVE];

	for (int i = 0; i < 16; i++) {
		void **place = &blocks[(n * 16 + i) % ALIVE];

		free(*place);
		*place = malloc(32 + 7 * i);
	}
}

/* Once a second: above the mmap threshold of a fresh process it is given back at once. */
static void touch(unsigned n)
{
	static void *block;

	if (n % 10)
		return;
	free(block);
	block = malloc(TOUCH_BYTES + (n % 100) * 4096);
	if (block)
		memset(block, 1, TOUCH_BYTES);
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

	if (!strcmp(kind, "sleeper"))
		sleep_for_good();
	if (!strcmp(kind, "ticker"))
		tick(allocate);
	if (!strcmp(kind, "toucher"))
		tick(touch);
	return 2;
}
