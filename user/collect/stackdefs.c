/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/stackdefs.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <uthash.h>

#include "collect/pynames.h"
#include "collect/ring.h"
#include "probe/attach.h"
#include "tables.h"
#include "util/arena.h"
#include "util/mem.h"

struct known {
	uint64_t id, native;
	uint32_t image; /* 0: the unknown stack */
	UT_hash_handle hh;
};

/* A chain whose names were read. */
struct chain {
	uint64_t id;
	uint32_t image;
	uint32_t n;
	uint8_t cut; /* enum stack_cut */
	struct snap_pyframe *frames;
	uint64_t shown_as; /* id of the first chain that reads the same */
	UT_hash_handle hh;
};

/* What a chain reads like. */
struct reading {
	uint64_t hash;
	uint64_t chain;
	uint32_t image;
	UT_hash_handle hh;
};

struct stackdefs {
	struct loader *loader;
	struct places *places;
	struct images *images;
	struct pynames *names;
	struct ring_reader *ring;
	bool draining;
	struct known *known;
	struct chain *chains;
	struct reading *readings;
};

static void on_ring(void *ctx, const void *data, size_t bytes);

int stackdefs_new(struct loader *l, struct places *p, struct images *im, struct stackdefs **ret)
{
	struct stackdefs *d = xcalloc(1, sizeof(*d));

	d->loader = l;
	d->places = p;
	d->images = im;
	d->names = pynames_new();
	int err = ring_reader_open(loader_map_fd(l, KMAP_PYTHON_EVENTS),
				   loader_map_info(l, KMAP_PYTHON_EVENTS).capacity, on_ring, d, &d->ring);
	if (err)
		stackdefs_free(d);
	else
		*ret = d;
	return err;
}

static void chain_free(struct stackdefs *d, struct chain *c)
{
	HASH_DEL(d->chains, c);
	free(c->frames);
	free(c);
}

static void known_free(struct stackdefs *d, struct known *k)
{
	HASH_DEL(d->known, k);
	free(k);
}

void stackdefs_free(struct stackdefs *d)
{
	struct known *k, *k_next;
	struct chain *c, *c_next;
	struct reading *r, *r_next;

	if (!d)
		return;
	HASH_ITER(hh, d->known, k, k_next)
		known_free(d, k);
	HASH_ITER(hh, d->chains, c, c_next)
		chain_free(d, c);
	HASH_ITER(hh, d->readings, r, r_next) {
		HASH_DEL(d->readings, r);
		free(r);
	}
	pynames_free(d->names);
	ring_reader_close(d->ring);
	free(d);
}

/*
 * From 3.12 on a call of a class runs a frame of the interpreter's own below __init__ (Python/specialize.c: _Py_InitCleanup, whose name and file are
 * both "__init__"). No traceback shows it.
 */
static bool is_helper(const struct py_line *l)
{
	return l->file && !strcmp(l->file, "__init__") && !strcmp(l->name, "__init__");
}

/* The kernel side fills the first and goes on in the second. */
static const enum kernel_map stack_maps[] = { KMAP_STACKS, KMAP_MORE_STACKS };
static const enum kernel_map chain_maps[] = { KMAP_PYTHON_CHAINS, KMAP_MORE_CHAINS };

static bool find_in(const struct stackdefs *d, const enum kernel_map maps[2], uint64_t id, void *ret)
{
	return bpf_map_lookup_elem(loader_map_fd(d->loader, maps[0]), &id, ret) == 0 ||
	       bpf_map_lookup_elem(loader_map_fd(d->loader, maps[1]), &id, ret) == 0;
}

/* What is not there is as good as deleted. */
static void drop_from(const struct stackdefs *d, const enum kernel_map maps[2], uint64_t id)
{
	(void)bpf_map_delete_elem(loader_map_fd(d->loader, maps[0]), &id);
	(void)bpf_map_delete_elem(loader_map_fd(d->loader, maps[1]), &id);
}

static void read_names(struct stackdefs *d, const struct proc_key *id, const struct python_chain *from, struct chain *c)
{
	const struct py_process *py = images_python(d->images, id->image);
	struct py_line lines[PYTHON_FRAMES_MAX];

	if (!py)
		return; /* the image ended meanwhile */
	pynames_resolve(d->names, id->pid, id->image, &py->names, py->info.code_id, from, lines);
	c->cut = from->flags & PYTHON_CHAIN_BROKEN ? CUT_MEMORY : from->flags & PYTHON_CHAIN_CUT ? CUT_DEPTH : CUT_NONE;
	c->frames = xcalloc(from->n, sizeof(*c->frames));
	for (uint32_t i = 0; i < from->n; i++) {
		if (is_helper(&lines[i])) {
			if (c->n && lines[i].is_entry)
				c->frames[c->n - 1].is_entry = true;
			continue;
		}
		c->frames[c->n++] = (struct snap_pyframe){
			.name = lines[i].name,
			.file = lines[i].file,
			.line = lines[i].line,
			.is_entry = lines[i].is_entry,
		};
	}
}

/* Names and files are kept once each, so their addresses stand for them. */
static uint64_t reading_hash(const struct chain *c)
{
	uint64_t h = table_mix(0x72656164ull, (uint64_t)c->image << 8 | c->cut);

	for (uint32_t i = 0; i < c->n; i++) {
		h = table_mix(table_mix(h, (uintptr_t)c->frames[i].name), (uintptr_t)c->frames[i].file);
		h = table_mix(h, (uint64_t)c->frames[i].line << 1 | c->frames[i].is_entry);
	}
	return h;
}

static void find_reading(struct stackdefs *d, struct chain *c)
{
	uint64_t hash = reading_hash(c);
	struct reading *r = NULL;

	HASH_FIND(hh, d->readings, &hash, sizeof(hash), r);
	if (!r) {
		r = xcalloc(1, sizeof(*r));
		*r = (struct reading){ .hash = hash, .chain = c->id, .image = c->image };
		HASH_ADD(hh, d->readings, hash, sizeof(r->hash), r);
	}
	c->shown_as = r->chain;
}

/* NULL: the kernel does not have it (any more). */
static struct chain *chain_of(struct stackdefs *d, const struct proc_key *id, uint64_t python)
{
	struct python_chain from;
	struct chain *c = NULL;

	HASH_FIND(hh, d->chains, &python, sizeof(python), c);
	if (c)
		return c;
	stackdefs_drain(d); /* copies of its code objects may be there that the process does not have any more */
	HASH_FIND(hh, d->chains, &python, sizeof(python), c);
	if (c)
		return c;
	if (!find_in(d, chain_maps, python, &from) || from.n > PYTHON_FRAMES_MAX)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->id = python;
	c->image = from.first_seen_in.image;
	HASH_ADD(hh, d->chains, id, sizeof(c->id), c);
	read_names(d, id, &from, c);
	find_reading(d, c);
	return c;
}

static void learn(struct stackdefs *d, const struct python_code_copy *c, size_t bytes)
{
	const struct py_process *py = images_python(d->images, c->id.image);

	if (py)
		pynames_learn(d->names, c->id.image, &py->names, py->info.code_id, c, bytes);
}

static void on_ring(void *ctx, const void *data, size_t bytes)
{
	struct stackdefs *d = ctx;
	const struct event *e = data;

	if (e->kind == EVENT_CODE && bytes >= sizeof(struct python_code_copy))
		learn(d, data, bytes);
	else if (e->kind == EVENT_PYTHON && bytes >= sizeof(*e))
		(void)chain_of(d, &e->id, e->map.ids.python);
}

void stackdefs_drain(struct stackdefs *d)
{
	if (d->draining)
		return; /* a chain in the ring asks for itself */
	d->draining = true;
	ring_reader_consume(d->ring); /* what it could not hold is read from the process */
	d->draining = false;
}

int stackdefs_fd(const struct stackdefs *d)
{
	return ring_reader_fd(d->ring);
}

static uint8_t eval_part(const struct py_process *py, uint64_t addr)
{
	for (size_t i = 0; py && i < py->n_eval; i++)
		if (addr - 1 >= py->eval[i].start && addr - 1 < py->eval[i].end)
			return py->eval[i].is_entry ? EVAL_LOOP : EVAL_STEP;
	return EVAL_NONE;
}

static void define_native(struct stackdefs *d, struct arena *arena, const struct stack *st,
			  const struct proc_key *owner, struct snap_stackdef *ret)
{
	const struct py_process *py = images_python(d->images, owner->image);
	uint32_t n = st->n_ips <= STACK_MAX_FRAMES ? st->n_ips : STACK_MAX_FRAMES;
	struct snap_frame *frames = arena_alloc(arena, n, sizeof(*frames));

	for (uint32_t i = 0; i < n; i++) {
		frames[i] = places_frame(d->places, owner, st->ip[i], true);
		frames[i].eval = eval_part(py, st->ip[i]);
	}
	ret->site = site_name(st->site);
	ret->complete = st->cut == CUT_NONE;
	ret->cut = st->cut;
	ret->n_frames = n;
	ret->frames = frames;
}

bool stackdefs_take(struct stackdefs *d, struct arena *arena, const struct stack_ids *ids,
		    const struct proc_key *seen_in, struct snap_stackdef *ret)
{
	struct known *k = NULL;
	struct stack st;

	HASH_FIND(hh, d->known, &ids->id, sizeof(ids->id), k);
	if (k)
		return false;
	k = xcalloc(1, sizeof(*k));
	k->id = ids->id;
	k->native = ids->native;
	HASH_ADD(hh, d->known, id, sizeof(k->id), k);
	*ret = (struct snap_stackdef){ .stack_id = ids->id, .site = site_name(SITE_NONE), .cut = CUT_UNKNOWN };
	if (ids->native && find_in(d, stack_maps, ids->native, &st)) {
		k->image = st.first_seen_in.image;
		define_native(d, arena, &st, seen_in, ret);
	}
	const struct chain *c = ids->python ? chain_of(d, seen_in, ids->python) : NULL;
	if (ids->python && !c)
		ret->python_cut = CUT_UNKNOWN;
	if (c) {
		struct snap_pyframe *frames = arena_alloc(arena, c->n, sizeof(*frames));
		if (c->n)
			memcpy(frames, c->frames, c->n * sizeof(*frames));
		ret->python = frames;
		ret->n_python = c->n;
		ret->python_cut = c->cut;
	}
	return true;
}

uint64_t stackdefs_id(struct stackdefs *d, const struct stack_ids *ids, uint32_t tid, const struct proc_key *seen_in)
{
	const struct chain *c = ids->native && ids->python ? chain_of(d, seen_in, ids->python) : NULL;

	if (!c || c->shown_as == c->id)
		return ids->id;
	return stack_id_of(ids->native, c->shown_as, tid, ids->id & STACK_ID_LAYER_MASK);
}

/* What is gone from the kernel's tables already is as good. */
void stackdefs_forget(struct stackdefs *d, uint32_t image)
{
	struct known *k, *k_next;
	struct chain *c, *c_next;
	struct reading *r, *r_next;

	HASH_ITER(hh, d->known, k, k_next) {
		if (!k->image || k->image != image)
			continue;
		drop_from(d, stack_maps, k->native);
		known_free(d, k);
	}
	HASH_ITER(hh, d->chains, c, c_next) {
		if (c->image != image)
			continue;
		drop_from(d, chain_maps, c->id);
		chain_free(d, c);
	}
	HASH_ITER(hh, d->readings, r, r_next) {
		if (r->image != image)
			continue;
		HASH_DEL(d->readings, r);
		free(r);
	}
	pynames_forget(d->names, image);
}

uint64_t stackdefs_known(const struct stackdefs *d)
{
	return HASH_COUNT(d->known);
}

uint64_t stackdefs_known_chains(const struct stackdefs *d)
{
	return HASH_COUNT(d->chains);
}
