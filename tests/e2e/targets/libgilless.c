/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * C code beside a Python interpreter, loaded by ctypes: threads that Python knows nothing about, allocation without the GIL, and a
 * thread of C's own that calls back into Python and goes on allocating in C. Knows nothing of Python itself. Blocks are freed at once, or the
 * process would grow without end; what counts is who was charged for them.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_THREADS = 16 };

struct worker {
	pthread_t id;
	size_t size;
	long times; /* < 0: until gilless_stop */
	int pause_us;
	void (*callback)(void);
};

void gilless_alone(size_t size, long times, int pause_us);
void gilless_burst(size_t size, long times, int pause_us);
int gilless_start(size_t size, int pause_us);
int gilless_start_calling(size_t size, long times, int pause_us, void (*callback)(void));
void gilless_stop(void);

static struct worker workers[MAX_THREADS];
static int n_workers;
static bool stopped;

static void take(size_t size)
{
	void *volatile p = malloc(size);

	free(p);
}

/* The loop of a thread that no interpreter knows. */
void gilless_alone(size_t size, long times, int pause_us)
{
	for (long i = 0; (times < 0 || i < times) && !__atomic_load_n(&stopped, __ATOMIC_RELAXED); i++) {
		take(size);
		if (pause_us)
			usleep((useconds_t)pause_us);
	}
}

/* Called by a Python thread through ctypes.CDLL, which lets go of the GIL meanwhile. */
void gilless_burst(size_t size, long times, int pause_us)
{
	for (long i = 0; i < times; i++) {
		take(size);
		if (pause_us)
			usleep((useconds_t)pause_us);
	}
}

static void *alone(void *arg)
{
	struct worker *w = arg;

	gilless_alone(w->size, -1, w->pause_us);
	return NULL;
}

/* Before, between and after its calls of Python this thread has no Python frames. */
static void *calling(void *arg)
{
	struct worker *w = arg;

	for (long i = 0; i < w->times; i++) {
		gilless_burst(w->size, 3, 0);
		w->callback();
		gilless_burst(w->size, 3, 0);
		usleep((useconds_t)w->pause_us);
	}
	return NULL;
}

static int start(struct worker w, void *(*run)(void *))
{
	if (n_workers == MAX_THREADS)
		return -1;
	workers[n_workers] = w;
	if (pthread_create(&workers[n_workers].id, NULL, run, &workers[n_workers]))
		return -1;
	n_workers++;
	return 0;
}

int gilless_start(size_t size, int pause_us)
{
	return start((struct worker){ .size = size, .pause_us = pause_us, .times = -1 }, alone);
}

int gilless_start_calling(size_t size, long times, int pause_us, void (*callback)(void))
{
	return start((struct worker){ .size = size, .pause_us = pause_us, .times = times, .callback = callback },
		     calling);
}

/* Waits for all of them; through ctypes.CDLL, so without the GIL. */
void gilless_stop(void)
{
	__atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
	for (int i = 0; i < n_workers; i++)
		pthread_join(workers[i].id, NULL);
	n_workers = 0;
}
