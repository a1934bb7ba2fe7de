// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Programs for sampling: many calls of few sites, sizes from 8 bytes to 64 MiB, whose sums are known. Each site has a table of places; a
 * call puts a new block into a random one and frees what was there, so that both the total and what is live are worth estimating.
 *
 *   sampled FILE RUNS SEED [PAUSE_US]   runs RUNS processes of itself, each appends its truth to FILE; one after the other or, with pauses, all at once
 *   sampled one SEED PAUSE_US FILE      one of these: the truth goes to stdout. PAUSE_US: after each of ROUNDS equal parts of the work
 */
#include <cmath>
#include <csignal>
#include <fcntl.h>
#include <malloc.h>
#include <new>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ctime>

#include "truth.h"

enum { PLACES = 32768, THREADS = 2, HANDED = 4096, ROUNDS = 500, PER_THREAD = 16 };
enum { LINGER_S = 60, LOOK_US = 20000 };

static const int done_pipe = 9;

static void *places[PLACES];
static void *handed[HANDED];
static unsigned int pause_us;

SITE void *site_small(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_mixed(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_calloc(size_t n, size_t size)
{
	return truth_alloc("calloc", __func__, calloc(n, size), n * size);
}

SITE void *site_aligned(size_t n)
{
	void *p = nullptr;

	return posix_memalign(&p, 64, n) ? nullptr : truth_alloc("posix_memalign", __func__, p, n);
}

SITE void *site_new(size_t n)
{
	return truth_alloc("operator new(unsigned long)", __func__, ::operator new(n), n);
}

SITE void *site_chain(void *p, size_t n)
{
	struct truth_block b = truth_take(p);

	return truth_realloc("realloc", __func__, b, p, realloc(p, n), n);
}

/* Two blocks side by side grow by turns: most of the time neither can stay where it is. */
SITE void *site_moved(void *p, size_t n)
{
	struct truth_block b = truth_take(p);

	return truth_realloc("realloc", __func__, b, p, realloc(p, n), n);
}

SITE void *site_thread(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

static void site_free(void *p, int is_new)
{
	truth_free(p);
	if (is_new)
		::operator delete(p);
	else
		free(p);
}

/* A tenth of the time it works: what observing may cost is measured by that. */
static void pace(void)
{
	struct timespec now, began;

	if (!pause_us)
		return;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
	do
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	while ((now.tv_sec - began.tv_sec) * 1000000 + (now.tv_nsec - began.tv_nsec) / 1000 < pause_us / 10);
	usleep(pause_us - pause_us / 10);
}

static size_t log_size(uint32_t *r, double low, double high)
{
	return (size_t)exp2(low + (high - low) * truth_random(r) / 4294967296.);
}

/* Each returns a block of its site; those that take an old one get it, and own it then. */
static void *make_small(void *, uint32_t *r)
{
	return site_small(8 + truth_random(r) % 249);
}

static void *make_mixed(void *, uint32_t *r)
{
	return site_mixed(log_size(r, 3, 26));
}

static void *make_calloc(void *, uint32_t *r)
{
	return site_calloc(1 + truth_random(r) % 64, 16);
}

static void *make_aligned(void *, uint32_t *r)
{
	return site_aligned(log_size(r, 6, 12));
}

static void *make_new(void *, uint32_t *r)
{
	return site_new(16 + truth_random(r) % 500);
}

/* Grows by half, now and then shrinks to a tenth; the size is where the program keeps it, in the block. */
static void *make_chain(void *old, uint32_t *r)
{
	uint32_t was = old ? *(uint32_t *)old : 24, n = truth_random(r) % 8 ? was + was / 2 : was / 10;

	if (n < 16)
		n = 16;
	if (n > 32768)
		n = 200;
	old = site_chain(old, n);
	*(uint32_t *)old = n;
	return old;
}

static void *make_moved(void *old, uint32_t *r)
{
	uint32_t n = old ? *(uint32_t *)old * 2 : 64 + truth_random(r) % 64;

	if (n > 8192)
		n = 64 + truth_random(r) % 64;
	old = site_moved(old, n);
	*(uint32_t *)old = n;
	return old;
}

static const struct site_plan {
	void *(*make)(void *old, uint32_t *r);
	int per_round, places;
	int takes_old, is_new;
} plans[] = {
	{ make_small, 100, 16000, 0, 0 }, { make_mixed, 3, 500, 0, 0 }, { make_calloc, 16, 3000, 0, 0 },
	{ make_aligned, 16, 3000, 0, 0 }, { make_new, 32, 6000, 0, 1 }, { make_chain, 32, 1000, 1, 0 },
	{ make_moved, 24, 1000, 1, 0 },
};

static void run_part(const struct site_plan *p, void **from, uint32_t *r)
{
	for (int i = 0; i < p->per_round; i++) {
		void **at = &from[truth_random(r) % (uint32_t)p->places];
		void *old = *at;

		*at = p->make(old, r);
		if (old && !p->takes_old)
			site_free(old, p->is_new);
	}
}

static void run_plans(uint32_t seed)
{
	uint32_t r = seed * 2654435761u | 1;

	for (int i = 0; i < ROUNDS; i++) {
		void **from = places;

		for (const struct site_plan &p : plans) {
			run_part(&p, from, &r);
			from += p.places;
		}
		pace();
	}
}

/* Each takes what either has left there: half of all frees are of the other's blocks. */
static void *thread_main(void *arg)
{
	uint32_t r = (uint32_t)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS * PER_THREAD; i++) {
		void **at = &handed[truth_random(&r) % HANDED];
		void *mine = site_thread(32 + truth_random(&r) % 600);

		mine = __atomic_exchange_n(at, mine, __ATOMIC_ACQ_REL);
		if (mine)
			site_free(mine, 0);
		if (i % PER_THREAD == 0)
			pace();
	}
	return nullptr;
}

static void run_threads(uint32_t seed)
{
	pthread_t t[THREADS];

	for (uint32_t i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], nullptr, thread_main, (void *)(uintptr_t)(seed * 2 + i + 1)))
			truth_die("pthread_create\n");
	run_plans(seed);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(t[i], nullptr);
}

/* Names are read from a process while it lives: it is there until somebody who saw them makes a file of its number. */
static int run_one(uint32_t seed, unsigned int us, const char *file)
{
	char seen[512];

	pause_us = us;
	run_threads(seed);
	truth_print("sampled");
	close(done_pipe);
	snprintf(seen, sizeof(seen), "%s.%d", file, (int)getpid());
	for (time_t end = time(nullptr) + LINGER_S; access(seen, F_OK) && time(nullptr) < end;)
		usleep(LOOK_US);
	return 0;
}

/* Without pauses, returns when its calls are done; it lives on for a while, beside the next ones. */
static void start_one(char **args, uint32_t seed, char *us, int fd)
{
	char text[16], c;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		truth_die("pipe\n");
	pid_t pid = fork();
	if (pid == 0) {
		char one[] = "one", *argv[] = { args[0], one, text, us, args[1], nullptr };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(text, sizeof(text), "%u", seed);
		if (dup2(fd, 1) == 1 && dup2(ends[1], done_pipe) == done_pipe)
			execv("/proc/self/exe", argv);
		_exit(97);
	}
	close(ends[1]);
	if (pid < 0 || (!atoi(us) && read(ends[0], &c, 1)))
		truth_die("a run failed\n");
	close(ends[0]);
}

static void reap(int options)
{
	int status;

	while (waitpid(-1, &status, options) > 0)
		if (status)
			truth_die("a run failed\n");
}

int main(int argc, char **argv)
{
	char none[] = "0", *us = argc > 4 ? argv[4] : none;

	if (argc == 5 && !strcmp(argv[1], "one"))
		return run_one((uint32_t)strtoul(argv[2], nullptr, 10), (unsigned int)atoi(argv[3]), argv[4]);
	if (argc < 4)
		truth_die("usage: sampled FILE RUNS SEED [PAUSE_US]\n");
	int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		truth_die("no such file\n");
	for (uint32_t i = 0, n = (uint32_t)atoi(argv[2]); i < n; i++) {
		start_one(argv, (uint32_t)strtoul(argv[3], nullptr, 10) + i, us, fd);
		reap(WNOHANG);
	}
	reap(0);
	return 0;
}
