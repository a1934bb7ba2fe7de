/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stack definitions seen so far, by stack id. Append-only: an id means the same frames for the whole run, so the first
 * definition stays. Owns copies; resolves no names. Stacks of one program share most of their Python names: each text is kept once.
 */
#include "view/report.h"

#include <string.h>
#include <uthash.h>

#include "util/arena.h"
#include "util/mem.h"

struct entry {
	struct snap_stackdef def; /* key: def.stack_id */
	UT_hash_handle hh;
};

struct text {
	const char *s; /* key */
	UT_hash_handle hh;
};

struct stack_dict {
	struct entry *by_id;
	struct text *texts;
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
