/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * busy FILE [THREADS]: malloc and free without pause until its input ends; the number of pairs done so far stands in the first
 * eight bytes of FILE, so that its speed can be read from outside at any moment.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "truth.h"

static uint64_t *counter;

SITE void *site_a(size_t n)
{
	return malloc(n);
}

SITE void site_free(void *p)
{
	free(p);
	__asm__ volatile("" ::: "memory");
}

static void *busy_main(void *arg)
{
	for (size_t i = 0;; i++) {
		site_free(site_a(16 + i % 100));
		if (i % 64 == 0)
			__atomic_fetch_add(counter, 64, __ATOMIC_RELAXED);
	}
	return arg;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[2]) : 1, fd = argc > 1 ? open(argv[1], O_RDWR) : -1;
	pthread_t t;

	if (fd < 0)
		return 1;
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (counter == MAP_FAILED)
		return 1;
	for (int i = 0; i < threads; i++)
		if (pthread_create(&t, NULL, busy_main, NULL))
			return 1;
	truth_say("{\"tag\": \"ready\"}");
	truth_wait_line();
	_exit(0);
}
