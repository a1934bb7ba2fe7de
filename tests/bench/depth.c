/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Target of the benchmark of stacks: on each line "same N" or "new N" on stdin it makes N pairs of malloc(64) and free under 16 functions of its own (with
 * main and what calls it: 20 frames), and answers "done". "same": by one way; "new": each by a way that was not taken before: at every level one of two functions.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEVELS 16

typedef void level_fn(unsigned long way);

/* After the call something is left to do: else it would be a jump. */
#define LEVEL(n, next) \
	static level_fn left_##n, right_##n; \
	__attribute__((noinline)) static void left_##n(unsigned long way) \
	{ \
		(way >> n & 1 ? right_##next : left_##next)(way); \
		__asm__ volatile("" ::: "memory"); \
	} \
	__attribute__((noinline)) static void right_##n(unsigned long way) \
	{ \
		(way >> n & 1 ? right_##next : left_##next)(way); \
		__asm__ volatile("nop" ::: "memory"); \
	}

__attribute__((noinline)) static void left_end(unsigned long way)
{
	void *volatile block = malloc(64);
	free(block);
	(void)way;
}

__attribute__((noinline)) static void right_end(unsigned long way)
{
	void *volatile block = malloc(64);
	free(block);
	__asm__ volatile("nop" ::: "memory");
	(void)way;
}

LEVEL(0, end)
LEVEL(1, 0)
LEVEL(2, 1)
LEVEL(3, 2)
LEVEL(4, 3)
LEVEL(5, 4)
LEVEL(6, 5)
LEVEL(7, 6)
LEVEL(8, 7)
LEVEL(9, 8)
LEVEL(10, 9)
LEVEL(11, 10)
LEVEL(12, 11)
LEVEL(13, 12)
LEVEL(14, 13)

int main(void)
{
	static char in[64], out[64];
	unsigned long way = 0, n;
	char what[8];

	/* Its own buffers: stdio would allocate them. */
	setvbuf(stdin, in, _IOFBF, sizeof(in));
	setvbuf(stdout, out, _IOLBF, sizeof(out));
	puts("ready");
	while (scanf("%7s %lu", what, &n) == 2) {
		int is_new = !strcmp(what, "new");
		while (n--) {
			if (is_new && (++way & 1ul << 15))
				right_14(way);
			else
				left_14(is_new ? way : 0);
		}
		puts("done");
	}
	return 0;
}
