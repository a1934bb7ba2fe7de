/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asks a namer from a thread of its own, so that nobody waits for a large file longer than he wants to. Questions are
 * answered in their order; those that nobody has begun with can be taken back. The thread is started with the first
 * question.
 */
#ifndef TIDEMARK_SYM_ASKER_H
#define TIDEMARK_SYM_ASKER_H

#include "sym/namer.h"

struct asker;

struct question {
	struct place at;
	uint32_t module;
	uint64_t addr; /* with `module` and `is_return`: for whom asks */
	bool is_return;
};

struct answer {
	struct question q;
	struct named named;
	struct answer *next;
};
void answer_free(struct answer *a);

/* The namer goes over. */
struct asker *asker_new(struct namer *n);
/* False: the thread is in the middle of something that can't be ended; then nothing that it was asked about may go. */
bool asker_free(struct asker *a);

/* False: there is no thread. */
bool asker_post(struct asker *a, const struct question *q);
/* Takes back all questions that nobody has begun with. */
void asker_withdraw(struct asker *a);
/* Answers so far, oldest first; if there are none, waits for one until then (CLOCK_MONOTONIC; 0: does not wait). */
struct answer *asker_take(struct asker *a, uint64_t until_ns);
/* Closes what was not used for some time, unless the thread is busy. */
void asker_rest(struct asker *a);
/* At once, in the caller's thread, however long it takes. */
void asker_find(struct asker *a, const struct place *at, struct named *ret);

#endif
