/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small allocator of its own in a shared library, so that tests may leave malloc by a jump, or let a thread die inside of it,
 * without harming a real heap. Sizes stand before the block; nothing is ever given back. The exported names are those of libc: a process
 * that links or opens it has a second allocator.
 */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mockalloc.h"

enum { MOCK_BYTES = 64 << 20, LINGER = 2000 };

static char arena[MOCK_BYTES] __attribute__((aligned(64)));
static size_t used;
volatile int mock_inside;
volatile int mock_linger;
jmp_buf mock_out;

__attribute__((noinline)) static void *take(size_t n)
{
	size_t at = __atomic_fetch_add(&used, ((n + 15) & ~(size_t)15) + 16, __ATOMIC_RELAXED);

	if (n > MOCK_BYTES / 2 || at + n + 32 > MOCK_BYTES)
		return NULL;
	memcpy(arena + at, &n, sizeof(n));
	return arena + at + 16;
}

void *malloc(size_t n)
{
	if (n == MOCK_JUMP)
		longjmp(mock_out, 1);
	if (n == MOCK_DIE)
		syscall(SYS_exit, 0);
	if (mock_linger) { /* the window in which a signal handler may jump out: nothing is half done */
		mock_inside = 1;
		for (volatile int i = 0; i < LINGER; i = i + 1)
			;
		mock_inside = 0;
	}
	return take(n);
}

void free(void *p)
{
	(void)p;
}

void *calloc(size_t n, size_t size)
{
	return take(n * size); /* the arena is never used twice: still zero */
}

void *realloc(void *p, size_t n)
{
	size_t old = 0;
	void *q = take(n);

	if (p)
		memcpy(&old, (char *)p - 16, sizeof(old));
	if (q && p)
		memcpy(q, p, old < n ? old : n);
	return q;
}
