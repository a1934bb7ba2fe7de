/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Allocates, then executes itself: the old image's blocks are gone, the new image is counted from its first call on, under the same pid. */
#include "truth.h"

SITE void *site_before(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_after(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static void image(const char *tag, void *(*site)(size_t), size_t n)
{
	void *last = NULL;

	for (size_t i = 1; i <= n; i++)
		last = site(i * 10);
	site_free(last);
	truth_print(tag);
}

int main(int argc, char **argv)
{
	if (argc == 1) {
		truth_start();
		image("before", site_before, 40);
		truth_wait_line(); /* the figures of the first image are read in between */
		execl("/proc/self/exe", argv[0], "second", (char *)NULL);
		return 1;
	}
	image("after", site_after, 25);
	truth_wait_line();
	_exit(0);
}
