// SPDX-License-Identifier: GPL-2.0-or-later
/* The library that stacks_golden carries inside of itself and opens: allocates when it is opened, when it is called, and calls back. */
#include <stdlib.h>

#define FRAME __attribute__((noinline, noipa, used))

void *lib_call(size_t n);
void *lib_calls_back(void *(*back)(size_t), size_t n);

static void *kept;

FRAME static void *lib_alloc(size_t n)
{
	void *p = malloc(n);

	__asm__ volatile("" : "+r"(p));
	return p;
}

__attribute__((constructor)) static void lib_start(void)
{
	kept = lib_alloc(1006);
}

FRAME void *lib_call(size_t n)
{
	void *p = lib_alloc(n);

	__asm__ volatile("" : "+r"(p));
	return p;
}

FRAME void *lib_calls_back(void *(*back)(size_t), size_t n)
{
	void *p = back(n);

	__asm__ volatile("" : "+r"(p));
	return p;
}
