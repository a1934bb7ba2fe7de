/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads that end in a storm of allocations. "cancel": all are cancelled (at cancellation points, never inside malloc), the truth
 * stays exact. "exit": the process ends with exit_group while they run, so nobody can know the last figures, but nothing may be left behind.
 */
#include <pthread.h>

#include "truth.h"

enum { THREADS = 8 };

static pthread_barrier_t go;

SITE void *site_a(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static void *storm_main(void *arg)
{
	uint32_t r = 99u + (uint32_t)(uintptr_t)arg;
	void *own[32] = { NULL };
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old); /* also while waiting at the barrier */
	pthread_barrier_wait(&go);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
	for (;;) {
		void **p = &own[truth_random(&r) % 32];

		site_free(*p);
		*p = site_a(truth_random(&r) % 2000);
		pthread_testcancel();
	}
	return NULL;
}

static void *nothing_main(void *arg)
{
	for (;;)
		sleep(1);
	return arg;
}

int main(int argc, char **argv)
{
	bool cancel = argc > 1 && !strcmp(argv[1], "cancel");
	pthread_t t[THREADS], first;
	pthread_attr_t
		small; /* libc keeps 40 MB of stacks of ended threads; beyond that it frees what belongs to them */

	/* The first cancellation opens libgcc_s, which allocates: before the start line. */
	if (pthread_create(&first, NULL, nothing_main, NULL))
		return 1;
	pthread_cancel(first);
	pthread_join(first, NULL);
	pthread_barrier_init(&go, NULL, THREADS + 1);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 << 10);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], &small, storm_main, (void *)i))
			return 1;
	truth_start();
	pthread_barrier_wait(&go);
	usleep(300000);
	if (!cancel)
		_exit(0);
	for (int i = 0; i < THREADS; i++)
		pthread_cancel(t[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	truth_print("storms");
	truth_wait_line();
	_exit(0);
}
