/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns copies of definitions. Stacks of one program share most of their Python names and frames: each is kept once. What is named takes 8 bytes per frame
 * and mode, a third of what the definition takes, so it needs no bound of its own.
 */
#include "view/stack_dict.h"

#include <string.h>
#include <uthash.h>

#include "util/arena.h"
#include "util/mem.h"

struct entry {
	struct snap_stackdef def;		     /* key: def.stack_id */
	const struct named_stack *named[MERGE_NR];   /* NULL: not yet */
	const struct named_stack *telling[MERGE_NR]; /* the same for its summary alone */
	UT_hash_handle hh;
};

struct text {
	const char *s; /* key */
	UT_hash_handle hh;
};

/* Frames of Python are known by what is shown of them. */
struct pyframe_key {
	const char *name, *file; /* kept texts: equal ones are at one address */
	uint64_t line;
};

struct pyframe {
	struct pyframe_key key;
	struct sym_frame named;
	UT_hash_handle hh;
};

struct stack_dict {
	struct entry *by_id;
	struct text *texts;
	struct pyframe *pyframes;
	struct arena *arena; /* entries, frames and texts */
};

struct stack_dict *stack_dict_new(void)
{
	struct stack_dict *d = xcalloc(1, sizeof(*d));

	d->arena = arena_new();
	return d;
}

void stack_dict_free(struct stack_dict *d)
{
	if (!d)
		return;
	HASH_CLEAR(hh, d->by_id);
	HASH_CLEAR(hh, d->texts);
	HASH_CLEAR(hh, d->pyframes);
	arena_free(d->arena);
	free(d);
}

static struct entry *find(const struct stack_dict *d, uint64_t stack_id)
{
	struct entry *e;

	HASH_FIND(hh, d->by_id, &stack_id, sizeof(stack_id), e);
	return e;
}

static const char *keep_text(struct stack_dict *d, const char *s)
{
	struct text *t;

	if (!s)
		return NULL;
	HASH_FIND_STR(d->texts, s, t);
	if (!t) {
		t = arena_alloc(d->arena, 1, sizeof(*t));
		t->s = arena_strdup(d->arena, s);
		HASH_ADD_KEYPTR(hh, d->texts, t->s, strlen(t->s), t);
	}
	return t->s;
}

static const struct snap_pyframe *keep_python(struct stack_dict *d, const struct snap_stackdef *def)
{
	struct snap_pyframe *frames = arena_alloc(d->arena, def->n_python, sizeof(*frames));

	for (uint32_t i = 0; i < def->n_python; i++) {
		frames[i] = def->python[i];
		frames[i].name = keep_text(d, def->python[i].name);
		frames[i].file = keep_text(d, def->python[i].file);
	}
	return frames;
}

void stack_dict_add(struct stack_dict *d, const struct snap_stackdef *defs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct snap_stackdef *def = &defs[i];

		if (find(d, def->stack_id))
			continue;
		struct entry *e = arena_alloc(d->arena, 1, sizeof(*e));
		struct snap_frame *frames = arena_alloc(d->arena, def->n_frames, sizeof(*frames));
		if (def->n_frames)
			memcpy(frames, def->frames, def->n_frames * sizeof(*frames));
		e->def = *def;
		e->def.site = keep_text(d, def->site);
		e->def.frames = frames;
		e->def.python = keep_python(d, def);
		HASH_ADD(hh, d->by_id, def.stack_id, sizeof(e->def.stack_id), e);
	}
}

const struct snap_stackdef *stack_dict_find(const struct stack_dict *d, uint64_t stack_id)
{
	const struct entry *e = find(d, stack_id);

	return e ? &e->def : NULL;
}

/* --- names --- */

static const struct sym_frame *keep_pyframe(struct stack_dict *d, const struct sym_frame *f)
{
	struct pyframe_key key = { f->name, f->file, f->line };
	struct pyframe *kept;

	HASH_FIND(hh, d->pyframes, &key, sizeof(key), kept);
	if (!kept) {
		kept = arena_alloc(d->arena, 1, sizeof(*kept));
		kept->key = key;
		kept->named = *f;
		HASH_ADD(hh, d->pyframes, key, sizeof(kept->key), kept);
	}
	return &kept->named;
}

static struct named_stack *make_named(struct arena *arena, const struct snap_stackdef *def, enum layer layer,
				      const struct frame_list *l)
{
	const struct sym_frame **frames = arena_alloc(arena, l->n, sizeof(*frames));
	struct named_stack *made = arena_alloc(arena, 1, sizeof(*made));

	if (l->n)
		memcpy(frames, l->frames, l->n * sizeof(*frames));
	*made = (struct named_stack){ .def = def,
				      .layer = layer,
				      .frames = frames,
				      .n_frames = l->n,
				      .site = l->site,
				      .summary = frames_summary(arena, l) };
	return made;
}

/* Frames of Python lie in an arena that will be gone; those of sym stay. */
static void keep_pyframes(struct stack_dict *d, struct frame_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->frames[i]->kind == FRAME_PYTHON)
			l->frames[i] = keep_pyframe(d, l->frames[i]);
}

static const struct named_stack *name(struct stack_dict *d, struct entry *e, enum layer layer, const struct query *q,
				      struct sym *sym, struct frame_list *scratch, bool whole)
{
	const struct named_stack **kept = &(whole ? e->named : e->telling)[frames_mode(q, &e->def)];

	if (*kept && (*kept)->layer == layer)
		return *kept;
	(whole ? frames_resolve : frames_resolve_telling)(scratch, sym, &e->def, layer, q);
	if (*kept || !scratch->settled)
		return make_named(scratch->arena, &e->def, layer, scratch);
	keep_pyframes(d, scratch);
	return *kept = make_named(d->arena, &e->def, layer, scratch);
}

const struct named_stack *stack_dict_name(struct stack_dict *d, uint64_t stack_id, enum layer layer,
					  const struct query *q, struct sym *sym, struct frame_list *scratch)
{
	struct entry *e = find(d, stack_id);

	return e ? name(d, e, layer, q, sym, scratch, true) : NULL;
}

const struct named_stack *stack_dict_sum_up(struct stack_dict *d, uint64_t stack_id, enum layer layer,
					    const struct query *q, struct sym *sym, struct frame_list *scratch)
{
	struct entry *e = find(d, stack_id);

	return e ? name(d, e, layer, q, sym, scratch, false) : NULL;
}
