/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Eight threads that allocate and free, also each other's blocks; half of them end with live blocks of theirs. All threads exist
 * before the start line, so that what libc allocates for a thread is not part of it.
 */
#include <pthread.h>

#include "truth.h"

enum { THREADS = 8, ROUNDS = 20000, SHARED = 256, OWN = 64 };

static pthread_barrier_t go, done;
static void *shared[SHARED];
static int quit_pipe[2];

SITE void *site_a(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_b(size_t n)
{
	return truth_alloc("calloc", __func__, calloc(n, 3), n * 3);
}

SITE void *site_c(void *p, size_t n)
{
	struct truth_block b = truth_take(p);

	return truth_realloc("realloc", __func__, b, p, realloc(p, n), n);
}

SITE void *site_d(size_t n)
{
	return truth_alloc("aligned_alloc", __func__, aligned_alloc(64, n), n);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static void *thread_alloc(uint32_t *r)
{
	size_t n = truth_random(r) % 3000 + 1;

	switch (truth_random(r) % 4) {
	case 0:
		return site_b(n);
	case 1:
		return site_c(site_a(n / 2), n);
	case 2:
		return site_d(n);
	default:
		return site_a(n);
	}
}

static void wait_for_end(void)
{
	char c;

	(void)!read(quit_pipe[0], &c, 1);
}

static void *thread_main(void *arg)
{
	uint32_t r = 12345u + 777u * (uint32_t)(uintptr_t)arg;
	void *own[OWN] = { NULL }, *p;
	unsigned int i;

	pthread_barrier_wait(&go);
	for (int k = 0; k < ROUNDS; k++) {
		i = truth_random(&r) % OWN;
		if (truth_random(&r) & 1) {
			site_free(own[i]);
			own[i] = thread_alloc(&r);
		} else { /* swap with the others: what comes back was allocated by any thread */
			p = __atomic_exchange_n(&shared[truth_random(&r) % SHARED], own[i], __ATOMIC_ACQ_REL);
			site_free(p);
			own[i] = NULL;
		}
	}
	if ((uintptr_t)arg & 1)
		for (i = 0; i < OWN; i++)
			site_free(own[i]);
	pthread_barrier_wait(&done);
	if ((uintptr_t)arg < THREADS / 2)
		wait_for_end(); /* half of them live on */
	return NULL;
}

int main(void)
{
	pthread_t t[THREADS];

	pthread_barrier_init(&go, NULL, THREADS + 1);
	pthread_barrier_init(&done, NULL, THREADS + 1);
	if (pipe(quit_pipe))
		return 1;
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, thread_main, (void *)i))
			return 1;
	truth_start();
	pthread_barrier_wait(&go);
	pthread_barrier_wait(&done);
	for (int i = THREADS / 2; i < THREADS; i++)
		pthread_join(t[i], NULL);
	truth_print("threads");
	truth_wait_line();
	_exit(0);
}
