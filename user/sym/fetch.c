/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/fetch.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "sym/elfimg.h"
#include "util/clock.h"
#include "util/mem.h"

#define LIBRARY "libdebuginfod.so.1"
#define FILES_MAX 1024
#define FILE_BYTES_MAX (1l << 30)
#define TIME_LIMIT_NS 120000000000ull
/* How long the end of the program waits for a transfer to notice that it is over. */
#define LEAVE_S 2

/* The client as libdebuginfod declares it (elfutils 0.188, debuginfod.h); declared here so that no header is needed. */
typedef struct debuginfod_client client;
struct library {
	void *handle;
	client *(*begin)(void);
	void (*end)(client *);
	int (*find)(client *, const unsigned char *id, int len, char **path);
	void (*set_progress)(client *, int (*fn)(client *, long, long));
	void (*set_user_data)(client *, void *);
};

struct wanted {
	char build_id[BUILD_ID_HEX_CAP];
	enum fetch_state state;
	char *path;
};

struct fetch {
	struct library lib;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work;
	struct wanted files[FILES_MAX];
	size_t n, next;
	atomic_bool stop;
	uint64_t deadline_ns; /* of the transfer that runs; the thread's own */
};

static int library_open(struct library *lib)
{
	const struct {
		const char *name;
		void *at;
	} symbols[] = {
		{ "debuginfod_begin", &lib->begin },
		{ "debuginfod_end", &lib->end },
		{ "debuginfod_find_debuginfo", &lib->find },
		{ "debuginfod_set_progressfn", &lib->set_progress },
		{ "debuginfod_set_user_data", &lib->set_user_data },
	};

	lib->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!lib->handle)
		return -ENOENT;
	for (size_t i = 0; i < ARRAY_SIZE(symbols); i++) {
		void *fn = dlsym(lib->handle, symbols[i].name);
		if (!fn)
			return -ENOENT;
		memcpy(symbols[i].at, &fn, sizeof(fn));
	}
	return 0;
}

static bool is_over(const struct fetch *f, long done, long total)
{
	return atomic_load(&f->stop) || mono_ns() > f->deadline_ns || done > FILE_BYTES_MAX || total > FILE_BYTES_MAX;
}

/*
 * Called by the library while it waits; other than 0 ends the transfer. It hands over its client alone, and we keep no
 * globals: what belongs to the client is asked of the library, which is loaded.
 */
static int on_progress(client *c, long done, long total)
{
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD), *fn = lib ? dlsym(lib, "debuginfod_get_user_data") : NULL;
	void *(*user_data)(client *) = NULL;

	if (!fn)
		return 1;
	memcpy(&user_data, &fn, sizeof(fn));
	const struct fetch *f = user_data(c);
	(void)dlclose(lib); /* a count */
	return is_over(f, done, total);
}

static int find_file(struct fetch *f, const char *build_id, char **ret_path)
{
	char *path = NULL;
	client *c = f->lib.begin();

	if (!c)
		return -ENOMEM;
	f->deadline_ns = mono_ns() + TIME_LIMIT_NS;
	f->lib.set_user_data(c, f);
	f->lib.set_progress(c, on_progress);
	int fd = f->lib.find(c, (const unsigned char *)build_id, 0, &path); /* length 0: it is hexadecimal text */
	f->lib.end(c);
	if (fd < 0)
		return fd;
	(void)close(fd); /* only read */
	*ret_path = path;
	return 0;
}

static void *run(void *arg)
{
	struct fetch *f = arg;
	char build_id[BUILD_ID_HEX_CAP];

	(void)pthread_mutex_lock(&f->lock); /* of the default kind: can't fail */
	while (!atomic_load(&f->stop)) {
		if (f->next == f->n) {
			(void)pthread_cond_wait(&f->work, &f->lock); /* asked again above */
			continue;
		}
		struct wanted *w = &f->files[f->next++];
		char *path = NULL;
		memcpy(build_id, w->build_id, sizeof(build_id));
		(void)pthread_mutex_unlock(&f->lock);
		int r = find_file(f, build_id, &path);
		(void)pthread_mutex_lock(&f->lock);
		w->state = r < 0 ? FETCH_NOWHERE : FETCH_HERE;
		w->path = path;
	}
	(void)pthread_mutex_unlock(&f->lock);
	return NULL;
}

static int start(struct fetch *f)
{
	sigset_t all, before;

	/* Signals belong to the program's loop. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* can't fail with these arguments */
	int r = pthread_create(&f->thread, NULL, run, f);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r ? -EAGAIN : 0;
}

static void release(struct fetch *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->files[i].path);
	(void)pthread_mutex_destroy(&f->lock); /* nobody holds it */
	(void)pthread_cond_destroy(&f->work);
	if (f->lib.handle)
		(void)dlclose(f->lib.handle); /* a count */
	free(f);
}

int fetch_new(struct fetch **ret)
{
	struct fetch *f = xcalloc(1, sizeof(*f));

	(void)pthread_mutex_init(&f->lock, NULL); /* can't fail without attributes */
	(void)pthread_cond_init(&f->work, NULL);
	int r = library_open(&f->lib);
	if (!r)
		r = start(f);
	if (r < 0) {
		release(f);
		return r;
	}
	*ret = f;
	return 0;
}

void fetch_free(struct fetch *f)
{
	struct timespec until;

	if (!f)
		return;
	(void)pthread_mutex_lock(&f->lock);
	atomic_store(&f->stop, true);
	(void)pthread_cond_signal(&f->work); /* wakes it if it waits */
	(void)pthread_mutex_unlock(&f->lock);
	(void)clock_gettime(CLOCK_REALTIME, &until); /* always there */
	until.tv_sec += LEAVE_S;
	if (pthread_timedjoin_np(f->thread, NULL, &until))
		(void)pthread_detach(f->thread); /* in the middle of a connection: the process is about to end */
	else
		release(f);
}

static struct wanted *wanted(struct fetch *f, const char *build_id)
{
	for (size_t i = 0; i < f->n; i++)
		if (!strcmp(f->files[i].build_id, build_id))
			return &f->files[i];
	if (f->n == FILES_MAX || !build_id[0] || strlen(build_id) >= BUILD_ID_HEX_CAP)
		return NULL;
	struct wanted *w = &f->files[f->n++];
	memcpy(w->build_id, build_id, strlen(build_id) + 1);
	w->state = FETCH_ASKED;
	(void)pthread_cond_signal(&f->work); /* wakes it if it waits */
	return w;
}

enum fetch_state fetch_ask(struct fetch *f, const char *build_id, const char **ret_path)
{
	(void)pthread_mutex_lock(&f->lock);
	const struct wanted *w = wanted(f, build_id);
	enum fetch_state state = w ? w->state : FETCH_NOT_ASKED;
	if (state == FETCH_HERE)
		*ret_path = w->path;
	(void)pthread_mutex_unlock(&f->lock);
	return state;
}
