/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/arena.h"
#include "util/mem.h"

struct synth *synth_new(void)
{
	return xcalloc(1, sizeof(struct synth));
}

void synth_free(struct synth *w)
{
	free(w);
}

struct snap_proc *synth_proc(struct synth *w, uint32_t pid)
{
	if (w->n_procs == SYNTH_PROCS)
		abort();
	struct snap_proc *p = &w->procs[w->n_procs++];

	*p = (struct snap_proc){
		.id = { .start_ticks = 1000 + pid, .pid = pid, .image = 1 },
		.ppid = 1,
		.comm = "worker",
		.cmdline = "worker --serve",
		.cgroup = "/",
		.mode = MODE_EXACT,
		.attached_share = 1,
		.overhead_pct = NAN,
		.rss_bytes = 10 << 20,
		.anon_bytes = 10 << 20,
		.limit_bytes = UNKNOWN_U64,
		.limit_used_bytes = UNKNOWN_U64,
		.layer_on = { [LAYER_PAGE] = true, [LAYER_HEAP] = true },
	};
	return p;
}

struct snap_stack *synth_stack(struct synth *w, uint32_t pid, enum layer layer, uint64_t stack_id)
{
	if (w->n_stacks == SYNTH_STACKS)
		abort();
	struct snap_stack *s = &w->stacks[w->n_stacks++];

	for (size_t i = 0; i < w->n_procs; i++)
		if (w->procs[i].id.pid == pid)
			s->id = w->procs[i].id;
	s->stack_id = stack_id;
	s->layer = layer;
	s->old_live_bytes = UNKNOWN_U64;
	return s;
}

void synth_alloc(struct snap_stack *s, uint64_t bytes)
{
	struct counts *c = &s->counts;

	c->alloc_bytes += bytes;
	c->alloc_count++;
	c->live_bytes += bytes;
	c->live_count++;
	if (c->live_bytes > c->peak_live_bytes)
		c->peak_live_bytes = c->live_bytes;
}

void synth_release(struct snap_stack *s, uint64_t bytes)
{
	struct counts *c = &s->counts;

	c->free_bytes += bytes;
	c->free_count++;
	c->live_bytes -= bytes;
	c->live_count--;
}

struct snapshot *synth_snapshot(struct synth *w, double at_s)
{
	struct arena *arena = arena_new();
	struct snapshot *s = arena_alloc(arena, 1, sizeof(*s));
	struct snap_proc *procs = arena_alloc(arena, w->n_procs, sizeof(*procs));
	struct snap_stack *stacks = arena_alloc(arena, w->n_stacks, sizeof(*stacks));

	memcpy(procs, w->procs, w->n_procs * sizeof(*procs));
	memcpy(stacks, w->stacks, w->n_stacks * sizeof(*stacks));
	*s = (struct snapshot){
		.arena = arena,
		.n = w->n++,
		.ts = 1700000000 + at_s,
		.mono_ns = (uint64_t)((500 + at_s) * 1e9),
		.procs = procs,
		.n_procs = w->n_procs,
		.stacks = stacks,
		.n_stacks = w->n_stacks,
	};
	return s;
}

void synth_snapshot_free(struct snapshot *s)
{
	arena_free(s->arena);
}
