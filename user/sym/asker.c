/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/asker.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "util/clock.h"
#include "util/mem.h"

#define STACK_BYTES (16u << 20) /* demanglers recurse; only what is used is ever backed by memory */
#define REST_S 2
#define LEAVE_S 2	/* longest that the end of the program waits */
#define QUEUE_MAX 65536 /* no screen shows that many */
#define NICENESS 5	/* the observed programs go first */
/* Questions about the file of the last one go first, some: to open another one again and again costs more than all else. */
#define LOOK_AHEAD 1024
#define SAME_FILE_MAX 256

struct asker {
	struct namer *namer;
	pthread_mutex_t naming; /* whoever uses the namer holds it */
	pthread_t thread;
	bool has_thread, no_thread;
	pthread_mutex_t lock; /* of what follows; never held for long */
	pthread_cond_t asked, answered;
	struct question *queue;
	size_t head, tail, cap; /* [head, tail) is open */
	struct answer *first, **last;
	const struct symfile *file; /* of the last question */
	unsigned int same_file;	    /* questions about it in a row */
	bool stop;
};

void answer_free(struct answer *a)
{
	named_done(&a->named);
	free(a);
}

struct asker *asker_new(struct namer *n)
{
	struct asker *a = xcalloc(1, sizeof(*a));
	pthread_condattr_t mono;

	a->namer = n;
	a->last = &a->first;
	/* None of these can fail on Linux: nothing is allocated. */
	(void)pthread_mutex_init(&a->naming, NULL);
	(void)pthread_mutex_init(&a->lock, NULL);
	(void)pthread_condattr_init(&mono);
	(void)pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&a->asked, &mono);
	(void)pthread_cond_init(&a->answered, &mono);
	(void)pthread_condattr_destroy(&mono);
	return a;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
}

bool asker_free(struct asker *a)
{
	struct timespec until;
	struct answer *next;

	if (!a)
		return true;
	(void)pthread_mutex_lock(&a->lock); /* of the default kind: can't fail, here and below */
	a->stop = true;
	(void)pthread_cond_signal(&a->asked);
	(void)pthread_mutex_unlock(&a->lock);
	namer_stop(a->namer);
	(void)clock_gettime(CLOCK_REALTIME, &until); /* always there */
	until.tv_sec += LEAVE_S;
	if (a->has_thread && pthread_timedjoin_np(a->thread, NULL, &until)) {
		(void)pthread_detach(a->thread); /* the process is about to end */
		return false;
	}
	for (struct answer *x = a->first; x; x = next) {
		next = x->next;
		answer_free(x);
	}
	namer_free(a->namer);
	(void)pthread_mutex_destroy(&a->naming); /* nobody is left to hold them */
	(void)pthread_mutex_destroy(&a->lock);
	(void)pthread_cond_destroy(&a->asked);
	(void)pthread_cond_destroy(&a->answered);
	free(a->queue);
	free(a);
	return true;
}

void asker_find(struct asker *a, const struct place *at, struct named *ret)
{
	(void)pthread_mutex_lock(&a->naming);
	namer_find(a->namer, at, ret);
	(void)pthread_mutex_unlock(&a->naming);
}

void asker_rest(struct asker *a)
{
	if (pthread_mutex_trylock(&a->naming))
		return;
	namer_rest(a->namer);
	(void)pthread_mutex_unlock(&a->naming);
}

/* With the lock held. */
static struct question next_question(struct asker *a)
{
	struct question *first = &a->queue[a->head], *end = a->queue + a->tail, *q = first;

	if (a->same_file < SAME_FILE_MAX)
		while (q < end && q - first < LOOK_AHEAD && q->at.file != a->file)
			q++;
	if (q == end || q - first == LOOK_AHEAD)
		q = first;
	const struct question found = *q;
	memmove(first + 1, first, (size_t)(q - first) * sizeof(*q));
	a->head++;
	a->same_file = found.at.file == a->file ? a->same_file + 1 : 0;
	a->file = found.at.file;
	return found;
}

/* With the lock held. */
static void answer_one(struct asker *a)
{
	struct answer *x = xcalloc(1, sizeof(*x));

	x->q = next_question(a);
	(void)pthread_mutex_unlock(&a->lock);
	asker_find(a, &x->q.at, &x->named);
	(void)pthread_mutex_lock(&a->lock);
	*a->last = x;
	a->last = &x->next;
	(void)pthread_cond_signal(&a->answered);
}

static void *run(void *arg)
{
	struct asker *a = arg;

	(void)setpriority(PRIO_PROCESS, 0, NICENESS); /* of this thread alone; without it all works too */
	(void)pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		struct timespec until = timespec_of(mono_ns() + REST_S * 1000000000ull);
		if (a->head < a->tail) {
			answer_one(a);
		} else if (pthread_cond_timedwait(&a->asked, &a->lock, &until) && a->head == a->tail) {
			(void)pthread_mutex_unlock(&a->lock);
			asker_rest(a);
			(void)pthread_mutex_lock(&a->lock);
		}
	}
	(void)pthread_mutex_unlock(&a->lock);
	return NULL;
}

static bool start(struct asker *a)
{
	sigset_t all, before;
	pthread_attr_t attr;

	if (a->has_thread || a->no_thread)
		return a->has_thread;
	/* Signals belong to the program's loop. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* can't fail with these arguments */
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	a->has_thread = pthread_create(&a->thread, &attr, run, a) == 0;
	a->no_thread = !a->has_thread;
	(void)pthread_attr_destroy(&attr);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return a->has_thread;
}

bool asker_post(struct asker *a, const struct question *q)
{
	if (!start(a))
		return false;
	(void)pthread_mutex_lock(&a->lock);
	if (a->head == a->tail) {
		a->head = a->tail = 0;
		(void)pthread_cond_signal(&a->asked); /* it waits for nothing but the first one */
	}
	if (a->tail < QUEUE_MAX) {
		a->queue = grow_to(a->queue, &a->cap, a->tail + 1, sizeof(*a->queue));
		a->queue[a->tail++] = *q;
	}
	(void)pthread_mutex_unlock(&a->lock);
	return true;
}

void asker_withdraw(struct asker *a)
{
	(void)pthread_mutex_lock(&a->lock);
	a->head = a->tail = 0;
	(void)pthread_mutex_unlock(&a->lock);
}

struct answer *asker_take(struct asker *a, uint64_t until_ns)
{
	struct timespec until = timespec_of(until_ns);

	(void)pthread_mutex_lock(&a->lock);
	while (!a->first && until_ns && pthread_cond_timedwait(&a->answered, &a->lock, &until) == 0)
		;
	struct answer *x = a->first;
	a->first = NULL;
	a->last = &a->first;
	(void)pthread_mutex_unlock(&a->lock);
	return x;
}
