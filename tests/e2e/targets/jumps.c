/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls of malloc that never return: left by longjmp, by siglongjmp out of a signal handler at random moments, by the death of
 * the thread. They count nothing, and whatever comes later from the same thread counts as ever.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

#include "mockalloc.h"
#include "truth.h"

enum { SIGNAL_JUMPS = 200, THREADS = 16 };

static sigjmp_buf out;
static volatile sig_atomic_t jumps;
static pthread_barrier_t go;

SITE void *site_a(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_b(void *p, size_t n)
{
	struct truth_block b = truth_take(p);

	return truth_realloc("realloc", __func__, b, p, realloc(p, n), n);
}

SITE void *site_deep(size_t n, int depth)
{
	void *p;

	if (depth)
		p = site_deep(n, depth - 1);
	else
		p = truth_alloc("malloc", __func__, malloc(n), n);
	__asm__ volatile("" ::: "memory"); /* no tail call */
	return p;
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static void do_longjmp(void)
{
	for (volatile int i = 0; i < 300; i = i + 1) {
		if (!setjmp(mock_out))
			site_a(MOCK_JUMP);
		site_free(site_a(20 + (size_t)i));
		if (!setjmp(mock_out))
			site_deep(MOCK_JUMP, 40); /* from far below in the stack ... */
		site_b(site_a(10), 30);		  /* ... to above where the next call is made */
		if (i % 3 == 0)
			site_deep(50, 20);
	}
}

static void on_alarm(int sig)
{
	(void)sig;
	if (!mock_inside)
		return; /* between calls, or at a point where we could not tell whether the call counts */
	mock_inside = 0;
	jumps++;
	siglongjmp(out, 1);
}

static void do_signals(void)
{
	struct itimerval every = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	volatile size_t i = 0;
	sigset_t alarm_only;

	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	signal(SIGALRM, on_alarm);
	pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
	mock_linger = 1;
	(void)sigsetjmp(out, 1);
	setitimer(ITIMER_REAL, &every, NULL);
	while (jumps < SIGNAL_JUMPS) {
		i = i + 1;
		site_free(site_a(100 + i % 100));
	}
	setitimer(ITIMER_REAL, &never, NULL);
	mock_linger = 0;
	for (i = 0; i < 100; i = i + 1)
		site_b(site_a(200), 300 + i);
}

static void *dying_main(void *arg)
{
	pthread_barrier_wait(&go);
	site_free(site_a(1000));
	site_a(2000);
	if ((uintptr_t)arg % 2)
		site_deep(MOCK_DIE, 3);
	site_a(MOCK_DIE);
	return NULL;
}

int main(void)
{
	pthread_attr_t
		small; /* libc keeps 40 MB of stacks of ended threads; beyond that it frees what belongs to them */
	pthread_t t[THREADS];
	sigset_t alarm_only;

	/* Only the main thread may be interrupted: the jump leads to its stack. */
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
	pthread_barrier_init(&go, NULL, THREADS + 1);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 << 10);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], &small, dying_main, (void *)i))
			return 1;
	truth_start();
	do_longjmp();
	do_signals();
	pthread_barrier_wait(&go);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	do_longjmp();
	truth_print("jumps");
	truth_wait_line();
	_exit(0);
}
