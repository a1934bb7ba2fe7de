/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * leaky leak|steady|cache: a service with steady traffic. "leak": each request also loses one block, in leak_in_request. "cache": a
 * table that fills up and then only replaces. "steady": nothing grows. Runs until its input ends.
 */
#include <poll.h>

#include "truth.h"

enum { CACHE = 1000, WARM = 150 }; /* filled in the first seconds also when hardly a request in four gets its turn */

static void *cache[CACHE];

SITE void *leak_in_request(size_t n)
{
	return memset(malloc(n), 1, n);
}

SITE void *buffer_of_request(size_t n)
{
	return memset(malloc(n), 2, n);
}

SITE void *entry_of_cache(size_t n)
{
	return memset(malloc(n), 3, n);
}

static bool input_ended(int wait_ms)
{
	struct pollfd p = { 0, POLLIN, 0 };
	char c;

	return poll(&p, 1, wait_ms) > 0 && read(0, &c, 1) != 1;
}

int main(int argc, char **argv)
{
	bool leak = argc > 1 && !strcmp(argv[1], "leak"), fills = argc > 1 && !strcmp(argv[1], "cache");
	uint32_t r = 4711;

	truth_start();
	for (unsigned int i = 0; i < WARM; i++)
		cache[i] = entry_of_cache(4000);
	for (uint64_t i = 0; !input_ended(2); i++) {
		void *p = buffer_of_request(1000 + truth_random(&r) % 20000);
		unsigned int slot = fills ? (unsigned int)(i % CACHE) : truth_random(&r) % WARM;

		free(cache[slot]);
		cache[slot] = entry_of_cache(4000);
		if (leak)
			leak_in_request(8000);
		free(p);
	}
	_exit(0);
}
