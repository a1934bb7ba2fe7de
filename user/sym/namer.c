/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/namer.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "sym/perfmap.h"
#include "sym/sym.h"
#include "sym/symfile.h"
#include "util/clock.h"
#include "util/mem.h"

/* Debug information held open at once, while names are asked for. glibc's alone takes 10 MB, as Debian packs it. */
#define LINES_BYTES_MAX (32u << 20)
/* What one handle may grow by, with the units that were looked into, before it is closed and begun anew. */
#define LINES_GROWTH_MAX (4u << 20)
#define LINES_OPEN_MAX 4
#define LINES_IDLE_NS 4000000000ull
/* A screen brings a new frame now and then: of the time since it was opened, a file that was closed meanwhile has taken one part in so many. */
#define LINES_OPEN_SHARE 400
#define LINES_WAIT_MAX_NS 30000000000ull

struct namer {
	struct fetch *fetch;		      /* borrowed; NULL: none */
	struct symfile *open[LINES_OPEN_MAX]; /* those with a handle on debug information; NULL: free */
	atomic_bool stop;
	char name[SYM_NAME_CAP];
};

void named_done(struct named *n)
{
	line_result_done(&n->lines);
}

struct namer *namer_new(struct fetch *fetch)
{
	struct namer *n = xcalloc(1, sizeof(*n));

	n->fetch = fetch;
	return n;
}

static void close_lines(struct namer *n, size_t i)
{
	symfile_close_lines(n->open[i]);
	n->open[i] = NULL;
}

void namer_free(struct namer *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < LINES_OPEN_MAX; i++)
		if (n->open[i])
			close_lines(n, i);
	free(n);
}

void namer_stop(struct namer *n)
{
	atomic_store(&n->stop, true);
}

void namer_rest(struct namer *n)
{
	uint64_t now = mono_ns();
	bool closed = false;

	for (size_t i = 0; i < LINES_OPEN_MAX; i++) {
		if (!n->open[i] || now - n->open[i]->lines_used_ns < LINES_IDLE_NS)
			continue;
		struct symfile *f = n->open[i];
		uint64_t wait = LINES_OPEN_SHARE * f->lines_cost_ns;
		f->lines_again_ns = f->lines_opened_ns + (wait < LINES_WAIT_MAX_NS ? wait : LINES_WAIT_MAX_NS);
		close_lines(n, i);
		closed = true;
	}
	/* libdw's many small blocks hold the heap open; whether any page went is no matter */
	if (closed)
		(void)malloc_trim(0);
}

/* The handle that was not used for the longest time, of another file than `but`; LINES_OPEN_MAX: none. */
static size_t oldest_lines(const struct namer *n, const struct symfile *but)
{
	size_t oldest = LINES_OPEN_MAX;

	for (size_t i = 0; i < LINES_OPEN_MAX; i++) {
		const struct symfile *f = n->open[i];
		if (f && f != but && (oldest == LINES_OPEN_MAX || f->lines_used_ns < n->open[oldest]->lines_used_ns))
			oldest = i;
	}
	return oldest;
}

static void trim_lines(struct namer *n, const struct symfile *but, uint64_t bytes_max)
{
	for (;;) {
		uint64_t bytes = 0;
		for (size_t i = 0; i < LINES_OPEN_MAX; i++)
			bytes += n->open[i] ? lines_bytes(n->open[i]->lines) : 0;
		size_t oldest = oldest_lines(n, but);
		if (bytes <= bytes_max || oldest == LINES_OPEN_MAX)
			return;
		close_lines(n, oldest);
	}
}

static int open_lines(struct namer *n, struct symfile *f)
{
	size_t i = 0;

	trim_lines(n, NULL, f->lines_bytes < LINES_BYTES_MAX ? LINES_BYTES_MAX - f->lines_bytes : 0);
	while (i < LINES_OPEN_MAX && n->open[i])
		i++;
	if (i == LINES_OPEN_MAX) {
		i = oldest_lines(n, NULL);
		close_lines(n, i);
	}
	uint64_t began_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	int r = symfile_open_lines(f, &n->stop);
	f->lines_cost_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - began_ns;
	f->lines_opened_ns = mono_ns();
	if (!r)
		n->open[i] = f;
	return r;
}

/* false: they are to be asked for again later. */
static bool find_lines(struct namer *n, const struct place *at, struct line_result *ret)
{
	struct symfile *f = at->file;
	uint64_t now = mono_ns();

	if (f->lines_in != LINES_NONE && !f->lines && at->may_wait && now < f->lines_again_ns)
		return false;
	if (f->lines_in == LINES_NONE || (!f->lines && open_lines(n, f) < 0))
		return true;
	f->lines_used_ns = now;
	int r = lines_find(f->lines, at->addr, ret);
	trim_lines(n, f, LINES_BYTES_MAX);
	/* What libdw read of a unit stays until the handle goes; a new one starts small. */
	if (lines_bytes(f->lines) > f->lines_bytes + LINES_GROWTH_MAX || r == -ESTALE)
		for (size_t i = 0; i < LINES_OPEN_MAX; i++)
			if (n->open[i] == f)
				close_lines(n, i);
	return true;
}

/* Takes the name over. */
static char *pretty(char *raw)
{
	char *plain = raw ? sym_demangle(raw) : NULL;

	if (!plain)
		return raw;
	free(raw);
	return plain;
}

/* "main.cold", "work.constprop.0": a part or a copy of the function that the debug information names. */
static bool is_part_of(const char *symbol, const char *function)
{
	size_t len = strlen(function);

	return !strncmp(symbol, function, len) && symbol[len] == '.';
}

/*
 * The symbol's name goes before the one in the debug information: it is the one that people call ("malloc", there
 * "__libc_malloc"). But parts and copies that the compiler made of a function go by the function's name.
 */
static void name_function(struct namer *n, const struct place *at, struct line_frame *f)
{
	if (symfile_name(at->file, at->addr, n->name) < 0 || (f->name && is_part_of(n->name, f->name)))
		return;
	free(f->name);
	f->name = xstrdup(n->name);
}

static void find_in_file(struct namer *n, const struct place *at, struct named *ret)
{
	struct line_result *l = &ret->lines;

	symfile_load(at->file, n->fetch);
	memcpy(ret->build_id, at->file->id, sizeof(ret->build_id));
	ret->may_improve = !find_lines(n, at, l) || at->file->awaits_debug;
	if (!l->n)
		l->frames[l->n++] = (struct line_frame){ .name = NULL };
	name_function(n, at, &l->frames[l->n - 1]);
	for (size_t i = 0; i < l->n; i++)
		l->frames[i].name = pretty(l->frames[i].name);
}

static void find_in_map(struct namer *n, const struct place *at, struct named *ret)
{
	_Static_assert(sizeof(n->name) >= PERFMAP_NAME_CAP, "names of perf maps");
	int r = perfmap_find(at->map, at->addr, n->name);

	ret->may_improve = r < 0;
	if (!r)
		ret->lines = (struct line_result){ .n = 1, .frames[0].name = pretty(xstrdup(n->name)) };
}

void namer_find(struct namer *n, const struct place *at, struct named *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (atomic_load(&n->stop))
		return;
	if (at->file)
		find_in_file(n, at, ret);
	else if (at->map)
		find_in_map(n, at, ret);
}
