/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Target of the kernel matrix: says ready; once told on stdin it makes 1,000 malloc calls of 100 bytes, frees 400 of them, says so, and stays
 * until stdin ends. No library call between the two: what is counted beyond that is a fault of the counter.
 */
#include <stdlib.h>
#include <unistd.h>

#define CALLS 1000
#define FREED 400
#define BYTES 100

static void *volatile kept[CALLS];

__attribute__((noinline)) static void take(int n)
{
	kept[n] = malloc(BYTES);
}

__attribute__((noinline)) static void give(int n)
{
	free(kept[n]);
}

int main(void)
{
	char c;

	if (write(1, "ready\n", 6) != 6 || read(0, &c, 1) != 1)
		return 1;
	for (int n = 0; n < CALLS; n++)
		take(n);
	for (int n = 0; n < FREED; n++)
		give(n);
	if (write(1, "allocated\n", 10) != 10)
		return 1;
	while (read(0, &c, 1) == 1)
		continue;
	return 0;
}
