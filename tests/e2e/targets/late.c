/* SPDX-License-Identifier: GPL-2.0-or-later */
/* late LIBRARY: opens a library with its own malloc long after the start, and allocates from it when told so. */
#include <dlfcn.h>

#include "truth.h"

static void *(*late_malloc)(size_t);
static void (*late_free)(void *);

SITE void *site_late(size_t n)
{
	return truth_alloc("malloc", __func__, late_malloc(n), n);
}

SITE void site_late_free(void *p)
{
	truth_free(p);
	late_free(p);
}

SITE void *site_early(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

int main(int argc, char **argv)
{
	void *h;

	if (argc < 2)
		return 1;
	truth_start();
	for (size_t i = 0; i < 10; i++)
		site_early(100 + i);
	h = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (!h)
		truth_die("dlopen failed\n");
	*(void **)&late_malloc = dlsym(h, "malloc");
	*(void **)&late_free = dlsym(h, "free");
	if (!late_malloc || late_malloc == malloc)
		truth_die("the library has no malloc of its own\n");
	truth_say("{\"tag\": \"opened\"}");
	truth_wait_line();
	for (size_t i = 1; i <= 100; i++)
		site_late(i);
	site_late_free(site_late(5000));
	site_early(1);
	truth_print("late");
	truth_wait_line();
	_exit(0);
}
