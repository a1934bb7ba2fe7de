/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/threads.h"

#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "util/clock.h"
#include "util/fs.h"
#include "util/mem.h"

#define COMM_BYTES 17	       /* TASK_COMM_LEN and a line's end */
#define AGAIN_NS 5000000000ull /* threads name themselves after they began */
#define NAMES_MAX 65536	       /* of all processes; more stay without a name */

struct thread_key {
	uint32_t account, tid;
};

struct thread {
	struct thread_key key;
	char name[COMM_BYTES];
	uint64_t read_ns;
	UT_hash_handle hh;
};

struct threads {
	struct thread *all;
};

struct threads *threads_new(void)
{
	return xcalloc(1, sizeof(struct threads));
}

static void thread_free(struct threads *t, struct thread *th)
{
	HASH_DEL(t->all, th);
	free(th);
}

void threads_free(struct threads *t)
{
	struct thread *th, *next;

	if (!t)
		return;
	HASH_ITER(hh, t->all, th, next)
		thread_free(t, th);
	free(t);
}

static void name_read(struct thread *th, uint32_t pid)
{
	char path[64], text[COMM_BYTES];

	th->read_ns = mono_ns();
	snprintf(path, sizeof(path), "/proc/%u/task/%u/comm", pid, th->key.tid);
	if (fs_read_into(path, text, sizeof(text)) <= 0)
		return; /* gone: what was read before stays */
	text[strcspn(text, "\n")] = 0;
	memcpy(th->name, text, sizeof(th->name));
}

const char *threads_name(struct threads *t, uint32_t account, uint32_t pid, uint32_t tid)
{
	struct thread_key key = { account, tid };
	struct thread *th = NULL;

	HASH_FIND(hh, t->all, &key, sizeof(key), th);
	if (!th) {
		if (HASH_COUNT(t->all) >= NAMES_MAX)
			return NULL;
		th = xcalloc(1, sizeof(*th));
		th->key = key;
		HASH_ADD(hh, t->all, key, sizeof(th->key), th);
	}
	if (!th->read_ns || mono_ns() - th->read_ns > AGAIN_NS)
		name_read(th, pid);
	return th->name[0] ? th->name : NULL;
}

void threads_forget(struct threads *t, uint32_t account)
{
	struct thread *th, *next;

	HASH_ITER(hh, t->all, th, next)
		if (th->key.account == account)
			thread_free(t, th);
}
