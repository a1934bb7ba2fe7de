/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/closer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/mem.h"

#define STACK_BYTES (64u << 10)
#define THREADS_MAX 32 /* beyond these the caller waits, too */

struct closer {
	pthread_mutex_t lock;
	pthread_cond_t done;
	unsigned under_way;
};

struct job {
	struct closer *closer;
	int fd;
};

struct closer *closer_new(void)
{
	struct closer *c = xcalloc(1, sizeof(*c));

	(void)pthread_mutex_init(&c->lock, NULL); /* neither fails on Linux */
	(void)pthread_cond_init(&c->done, NULL);
	return c;
}

static void *close_one(void *arg)
{
	struct job *j = arg;
	struct closer *c = j->closer;

	(void)close(j->fd); /* the link's only reference: its probes go */
	free(j);
	(void)pthread_mutex_lock(&c->lock);
	c->under_way--;
	(void)pthread_cond_signal(&c->done);
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

void closer_take(struct closer *c, int fd)
{
	struct job *j = xcalloc(1, sizeof(*j));
	pthread_attr_t small;
	pthread_t thread;

	*j = (struct job){ c, fd };
	(void)pthread_mutex_lock(&c->lock);
	bool many = c->under_way++ >= THREADS_MAX;
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_attr_init(&small);
	(void)pthread_attr_setstacksize(&small, STACK_BYTES);
	(void)pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	if (many || pthread_create(&thread, &small, close_one, j))
		(void)close_one(j);
	(void)pthread_attr_destroy(&small);
}

bool closer_is_busy(struct closer *c)
{
	(void)pthread_mutex_lock(&c->lock);
	bool busy = c->under_way > 0;
	(void)pthread_mutex_unlock(&c->lock);
	return busy;
}

void closer_free(struct closer *c)
{
	if (!c)
		return;
	(void)pthread_mutex_lock(&c->lock);
	while (c->under_way)
		(void)pthread_cond_wait(&c->done, &c->lock);
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_cond_destroy(&c->done);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}
