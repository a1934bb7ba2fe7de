/* SPDX-License-Identifier: GPL-2.0-or-later */
/* many N: N live blocks from one site, then a tenth of them freed, then as many again from a second site. */
#include "truth.h"

enum { MAX = 100000 };

static void *blocks[MAX];

SITE void *site_first(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_second(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

int main(int argc, char **argv)
{
	size_t n = argc > 1 ? (size_t)atol(argv[1]) : 1000;

	if (n > MAX)
		return 1;
	truth_start();
	for (size_t i = 0; i < n; i++)
		blocks[i] = site_first(16 + i % 50);
	for (size_t i = 0; i < n; i += 10)
		site_free(blocks[i]);
	for (size_t i = 0; i < n; i++)
		site_second(32);
	truth_print("many");
	truth_wait_line();
	_exit(0);
}
