/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/stackdefs.h"

#include <bpf/bpf.h>
#include <string.h>
#include <uthash.h>

#include "collect/pynames.h"
#include "probe/attach.h"
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
	bool is_cut;
	struct snap_pyframe *frames;
	UT_hash_handle hh;
};

struct stackdefs {
	struct loader *loader;
	struct places *places;
	struct images *images;
	struct pynames *names;
	struct known *known;
	struct chain *chains;
};

struct stackdefs *stackdefs_new(struct loader *l, struct places *p, struct images *im)
{
	struct stackdefs *d = xcalloc(1, sizeof(*d));

	d->loader = l;
	d->places = p;
	d->images = im;
	d->names = pynames_new();
	return d;
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

	if (!d)
		return;
	HASH_ITER(hh, d->known, k, k_next)
		known_free(d, k);
	HASH_ITER(hh, d->chains, c, c_next)
		chain_free(d, c);
	pynames_free(d->names);
	free(d);
}

static void read_names(struct stackdefs *d, const struct proc_key *id, const struct python_chain *from, struct chain *c)
{
	const struct py_process *py = images_python(d->images, id->image);
	struct py_line lines[PYTHON_FRAMES_MAX];

	if (!py)
		return; /* the image ended meanwhile */
	pynames_resolve(d->names, id->pid, id->image, &py->names, py->info.code_id, from, lines);
	c->n = from->n;
	c->is_cut = from->flags & (PYTHON_CHAIN_CUT | PYTHON_CHAIN_BROKEN);
	c->frames = xcalloc(c->n, sizeof(*c->frames));
	for (uint32_t i = 0; i < c->n; i++)
		c->frames[i] = (struct snap_pyframe){
			.name = lines[i].name,
			.file = lines[i].file,
			.line = lines[i].line,
			.is_entry = lines[i].is_entry,
		};
}

/* NULL: the kernel does not have it (any more). */
static struct chain *chain_of(struct stackdefs *d, const struct proc_key *id, uint64_t python)
{
	struct python_chain from;
	struct chain *c = NULL;

	HASH_FIND(hh, d->chains, &python, sizeof(python), c);
	if (c)
		return c;
	if (bpf_map_lookup_elem(loader_map_fd(d->loader, KMAP_PYTHON_CHAINS), &python, &from) ||
	    from.n > PYTHON_FRAMES_MAX)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->id = python;
	c->image = from.first_seen_in.image;
	HASH_ADD(hh, d->chains, id, sizeof(c->id), c);
	read_names(d, id, &from, c);
	return c;
}

void stackdefs_python(struct stackdefs *d, const struct proc_key *id, uint64_t python)
{
	(void)chain_of(d, id, python);
}

void stackdefs_code(struct stackdefs *d, const struct python_code_copy *c, size_t bytes)
{
	const struct py_process *py = images_python(d->images, c->id.image);

	if (py)
		pynames_learn(d->names, c->id.image, &py->names, py->info.code_id, c, bytes);
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
	if (ids->native && !bpf_map_lookup_elem(loader_map_fd(d->loader, KMAP_STACKS), &ids->native, &st)) {
		k->image = st.first_seen_in.image;
		define_native(d, arena, &st, seen_in, ret);
	}
	const struct chain *c = ids->python ? chain_of(d, seen_in, ids->python) : NULL;
	if (c) {
		struct snap_pyframe *frames = arena_alloc(arena, c->n, sizeof(*frames));
		if (c->n)
			memcpy(frames, c->frames, c->n * sizeof(*frames));
		ret->python = frames;
		ret->n_python = c->n;
		ret->python_cut = c->is_cut;
	}
	return true;
}

/* What is gone from the kernel's tables already is as good. */
void stackdefs_forget(struct stackdefs *d, uint32_t image)
{
	struct known *k, *k_next;
	struct chain *c, *c_next;

	HASH_ITER(hh, d->known, k, k_next) {
		if (!k->image || k->image != image)
			continue;
		(void)bpf_map_delete_elem(loader_map_fd(d->loader, KMAP_STACKS), &k->native);
		known_free(d, k);
	}
	HASH_ITER(hh, d->chains, c, c_next) {
		if (c->image != image)
			continue;
		(void)bpf_map_delete_elem(loader_map_fd(d->loader, KMAP_PYTHON_CHAINS), &c->id);
		chain_free(d, c);
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
