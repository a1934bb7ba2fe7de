/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/pyseen.h"

#include <bpf/bpf.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collect/follow.h"
#include "collect/pycoverage.h"
#include "tables.h"
#include "util/clock.h"
#include "util/mem.h"

#define LARGE_POOLS_MINOR 10 /* CPython 3.10: Objects/obmalloc.c, POOL_BITS */

struct pyseen {
	int live_fd;
	uint32_t buckets;
};

struct pyseen *pyseen_new(const struct loader *l)
{
	struct pyseen *s = xcalloc(1, sizeof(*s));

	s->live_fd = loader_map_fd(l, KMAP_LIVE);
	s->buckets = loader_map_info(l, KMAP_LIVE).capacity;
	return s;
}

void pyseen_free(struct pyseen *s)
{
	free(s);
}

static bool is_live(void *ctx, uint32_t account, uint64_t addr)
{
	const struct pyseen *s = ctx;
	uint64_t key = live_key(addr, LAYER_PYTHON, account);
	struct live_bucket b;

	for (uint32_t choice = 0; choice < 2; choice++) {
		uint32_t place = live_place(key, choice, s->buckets);
		if (bpf_map_lookup_elem(s->live_fd, &place, &b))
			continue;
		for (int i = 0; i < LIVE_WAYS; i++)
			if (b.key[i] == key)
				return true;
	}
	return false;
}

/* "3.9.18" -> 9 */
static unsigned long minor_of(const char *version)
{
	const char *dot = strchr(version, '.');

	return dot ? strtoul(dot + 1, NULL, 10) : 0;
}

void pyseen_step(struct pyseen *s, struct watched *w)
{
	if (!(w->flags & PROC_PYTHON) || !w->py_alloc || !w->py_alloc->n_funcs ||
	    w->py_alloc->kind != PY_ALLOCATOR_PYMALLOC || !w->python[0] || w->unsafe)
		return;
	if (!w->py_coverage)
		w->py_coverage = pycoverage_new(w->pid, w->account, minor_of(w->python) >= LARGE_POOLS_MINOR);
	bool attached = !w->kernel.rate && w->kernel.window_end_ns == WINDOW_ALWAYS;
	pycoverage_look(w->py_coverage, attached, mono_ns(), is_live, s);
}

double pyseen_share(const struct watched *w)
{
	double measured = w->py_coverage ? pycoverage_share(w->py_coverage) : NAN;

	if (!isnan(measured) || !w->py_alloc || !w->py_alloc->n_funcs || w->py_alloc->promoted)
		return measured;
	return 1;
}
