/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every shape of the malloc family, with its failures, from one thread. Argument "no-pvalloc": the allocator in use has none, and
 * libc's own would hand out blocks that the other one can't free.
 */
#include <errno.h>
#include <malloc.h>
#include <stddef.h>

#include "truth.h"

#define HUGE_BYTES (SIZE_MAX / 2 - 4096)

SITE void *site_malloc(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_calloc(size_t n, size_t size)
{
	return truth_alloc("calloc", __func__, calloc(n, size), n * size);
}

SITE void *site_realloc(void *p, size_t n)
{
	struct truth_block b = truth_take(p);

	return truth_realloc("realloc", __func__, b, p, realloc(p, n), n);
}

SITE void *site_reallocarray(void *p, size_t n, size_t size)
{
	struct truth_block b = truth_take(p);

	void *q = reallocarray(p, n, size);
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		bytes = SIZE_MAX;
	return truth_realloc("reallocarray", __func__, b, p, q, bytes);
}

SITE void *site_posix_memalign(size_t align, size_t n)
{
	void *p = (void *)8; /* must not be taken for a block when the call fails */
	int err = posix_memalign(&p, align, n);

	return err ? NULL : truth_alloc("posix_memalign", __func__, p, n);
}

SITE void *site_memalign(size_t align, size_t n)
{
	return truth_alloc("memalign", __func__, memalign(align, n), n);
}

SITE void *site_aligned_alloc(size_t align, size_t n)
{
	return truth_alloc("aligned_alloc", __func__, aligned_alloc(align, n), n);
}

SITE void *site_valloc(size_t n)
{
	return truth_alloc("valloc", __func__, valloc(n), n);
}

SITE void *site_pvalloc(size_t n)
{
	return truth_alloc("pvalloc", __func__, pvalloc(n), n);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static void expect_null(const void *p, const char *what)
{
	if (p)
		truth_die(what);
}

static void do_plain(void)
{
	void *keep[64];

	for (size_t i = 0; i < 64; i++)
		keep[i] = site_malloc(i * 37);
	for (size_t i = 0; i < 64; i += 2)
		site_free(keep[i]);
	site_malloc(0);
	site_free(site_malloc(0));
	site_malloc(1 << 20); /* mmapped by the allocator */
	site_free(site_malloc(3 << 20));
	site_free(NULL);
	expect_null(site_malloc(truth_opaque(HUGE_BYTES)), "huge malloc succeeded\n");

	site_calloc(10, 100);
	site_free(site_calloc(7, 13));
	site_calloc(0, 16);
	site_calloc(1 << 10, 1 << 11);
	expect_null(site_calloc(truth_opaque(SIZE_MAX / 2), 4), "overflowing calloc succeeded\n");
	expect_null(site_calloc(truth_opaque(HUGE_BYTES), 1), "huge calloc succeeded\n");
}

static void do_realloc(void)
{
	void *p, *wall;

	site_realloc(NULL, 100);
	site_realloc(NULL, 0);
	p = site_malloc(40);
	p = site_realloc(p, 41);   /* in place: same chunk */
	p = site_realloc(p, 10);   /* shrinks */
	p = site_realloc(p, 9000); /* moves or grows into the top */
	wall = site_malloc(64);
	p = site_realloc(p, 60000);   /* moves: the wall is behind it */
	p = site_realloc(p, 1 << 20); /* to an mmapped block */
	p = site_realloc(p, 5 << 20); /* mremap inside the allocator */
	p = site_realloc(p, 200);     /* back to the heap */
	expect_null(site_realloc(p, truth_opaque(HUGE_BYTES)), "huge realloc succeeded\n");
	site_free(wall);
	p = site_realloc(p, 201); /* the old block survived the failure */
	for (size_t n = 202; n < 400; n++)
		p = site_realloc(p, n);
	site_realloc(site_malloc(50), 0);
	site_realloc(site_calloc(5, 10), 0);
	for (size_t i = 0; i < 20; i++)
		site_realloc(site_malloc(30 + i), 3000 + i);
	expect_null(site_realloc(NULL, truth_opaque(HUGE_BYTES)), "huge realloc of NULL succeeded\n");
}

static void do_reallocarray(void)
{
	void *p = site_reallocarray(NULL, 10, 12);

	p = site_reallocarray(p, 100, 12);
	expect_null(site_reallocarray(p, truth_opaque(SIZE_MAX / 2), 3), "overflowing reallocarray succeeded\n");
	p = site_reallocarray(p, 5, 12);
	expect_null(site_reallocarray(p, truth_opaque(HUGE_BYTES / 8), 8), "huge reallocarray succeeded\n");
	site_reallocarray(site_malloc(77), 0, 8);
	site_free(site_reallocarray(NULL, 3, 3));
}

static void do_aligned(bool with_pvalloc)
{
	static const size_t aligns[] = { 8, 16, 64, 256, 4096, 65536 };

	for (size_t i = 0; i < sizeof(aligns) / sizeof(aligns[0]); i++) {
		site_posix_memalign(aligns[i], 100 + i);
		site_free(site_posix_memalign(aligns[i], 1000 + i));
		site_memalign(aligns[i], 200 + i);
		site_free(site_memalign(aligns[i], 2000 + i));
		site_aligned_alloc(aligns[i], aligns[i] * 3);
		site_free(site_aligned_alloc(aligns[i], aligns[i]));
	}
	expect_null(site_posix_memalign(truth_opaque(3), 100), "posix_memalign took 3 as alignment\n");
	expect_null(site_posix_memalign(truth_opaque(24), 100), "posix_memalign took 24 as alignment\n");
	expect_null(site_posix_memalign(64, truth_opaque(HUGE_BYTES)), "huge posix_memalign succeeded\n");
	expect_null(site_memalign(64, truth_opaque(HUGE_BYTES)), "huge memalign succeeded\n");
	expect_null(site_aligned_alloc(64, truth_opaque(HUGE_BYTES)), "huge aligned_alloc succeeded\n");
	site_realloc(site_memalign(4096, 500), 70000);
	site_valloc(123);
	site_free(site_valloc(5000));
	expect_null(site_valloc(truth_opaque(HUGE_BYTES)), "huge valloc succeeded\n");
	if (!with_pvalloc)
		return;
	site_pvalloc(124);
	site_free(site_pvalloc(5001));
	expect_null(site_pvalloc(truth_opaque(HUGE_BYTES)), "huge pvalloc succeeded\n");
}

/* A random walk over all shapes, so that addresses are reused again and again by other sites. */
static void do_churn(bool with_pvalloc)
{
	static void *slot[512];
	uint32_t r = 2463534242u;

	for (int i = 0; i < 20000; i++) {
		void **s = &slot[truth_random(&r) % 512];
		size_t n = truth_random(&r) % 1500;

		switch (truth_random(&r) % (with_pvalloc ? 9 : 8)) {
		case 0:
			site_free(*s), *s = site_malloc(n);
			break;
		case 1:
			site_free(*s), *s = site_calloc(n % 50, 16);
			break;
		case 2:
			*s = site_realloc(*s, n + 1);
			break;
		case 3:
			*s = site_reallocarray(*s, n % 40 + 1, 24);
			break;
		case 4:
			site_free(*s), *s = site_posix_memalign(64, n);
			break;
		case 5:
			site_free(*s), *s = site_aligned_alloc(32, n);
			break;
		case 6:
			site_free(*s), *s = NULL;
			break;
		case 7:
			site_free(*s), *s = site_memalign(128, n);
			break;
		case 8:
			site_free(*s), *s = n % 16 ? site_malloc(n) : site_pvalloc(n);
			break;
		}
	}
}

int main(int argc, char **argv)
{
	bool with_pvalloc = !(argc > 1 && !strcmp(argv[1], "no-pvalloc"));

	truth_start();
	do_plain();
	do_realloc();
	do_reallocarray();
	do_aligned(with_pvalloc);
	do_churn(with_pvalloc);
	truth_print("shapes");
	truth_wait_line();
	_exit(0);
}
