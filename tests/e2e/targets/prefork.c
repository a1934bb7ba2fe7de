/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A prefork master: three workers whose first action after fork is an allocation, which must be counted like all others. */
#include "truth.h"

enum { WORKERS = 3, BLOCKS = 1000 };

static int hold[2];

SITE void *site_master(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_worker(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static void worker_main(size_t index, void *inherited)
{
	static void *blocks[BLOCKS];
	char tag[16], c;

	truth_forked();
	for (size_t i = 0; i < BLOCKS; i++)
		blocks[i] = site_worker(100 * index + i);
	for (size_t i = 0; i < BLOCKS; i += index + 2)
		site_free(blocks[i]);
	site_free(inherited);
	snprintf(tag, sizeof(tag), "worker%zu", index);
	truth_print(tag);
	close(hold[1]);
	(void)!read(hold[0], &c, 1);
	_exit(0);
}

int main(void)
{
	void *blocks[WORKERS];

	if (pipe(hold))
		return 1;
	truth_start();
	for (size_t i = 0; i < WORKERS; i++)
		blocks[i] = site_master(3000 + i);
	for (size_t i = 0; i < WORKERS; i++)
		if (!fork())
			worker_main(i, blocks[i]);
	site_free(blocks[0]); /* also freed in a worker: here it counts, there it doesn't */
	truth_print("master");
	truth_wait_line();
	_exit(0);
}
