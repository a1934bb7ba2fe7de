/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the order of native and Python frames in one stack. Names nothing, drops nothing but what the contract says: loops that Python
 * frames stand for, and the steps that such a loop called.
 *
 * A step (3.14's tail-call interpreter has a function per instruction) stands leaf-side of its loop, with no other loop between them. So both
 * see the same Python frames left, and whether the loop will be replaced is known when its step is met.
 *
 * The Python stack may hold fewer entry frames than there are loops (its outer part could not be read: the outer loops stay native) or more
 * (the native stack was cut: the rest belongs to what is missing). With a complete native stack nothing is missing, so the outermost loop
 * takes whatever is left: an entry flag was wrong then, not a frame.
 */
#include "view/merge.h"

#define NO_LOOP UINT32_MAX

struct merger {
	const struct snap_stackdef *def;
	struct merged_frame *to;
	size_t n;
	uint32_t python; /* the next one, innermost first */
};

static void put(struct merger *m, bool python, uint32_t index)
{
	m->to[m->n++] = (struct merged_frame){ .python = python, .index = index };
}

static bool python_left(const struct merger *m)
{
	return m->python < m->def->n_python;
}

static void put_rest(struct merger *m)
{
	while (python_left(m))
		put(m, true, m->python++);
}

/* What one activation of the loop ran. */
static void put_activation(struct merger *m)
{
	bool is_entry = false;

	while (python_left(m) && !is_entry) {
		is_entry = m->def->python[m->python].is_entry;
		put(m, true, m->python++);
	}
}

/* The loop behind which nothing of Python can be missing. */
static uint32_t outermost_loop(const struct snap_stackdef *def)
{
	for (uint32_t i = def->complete ? def->n_frames : 0; i > 0; i--)
		if (def->frames[i - 1].eval == EVAL_LOOP)
			return i - 1;
	return NO_LOOP;
}

static void merge_both(struct merger *m)
{
	uint32_t outermost = outermost_loop(m->def);

	for (uint32_t i = 0; i < m->def->n_frames; i++) {
		uint8_t part = m->def->frames[i].eval;

		if (part == EVAL_NONE || !python_left(m))
			put(m, false, i);
		else if (i == outermost)
			put_rest(m);
		else if (part == EVAL_LOOP)
			put_activation(m);
	}
	put_rest(m);
}

size_t merge_frames(const struct snap_stackdef *def, enum merge_mode mode, struct merged_frame *ret)
{
	struct merger m = { .def = def, .to = ret };

	if (mode == MERGE_BOTH) {
		merge_both(&m);
		return m.n;
	}
	for (uint32_t i = 0; mode == MERGE_NATIVE && i < def->n_frames; i++)
		put(&m, false, i);
	if (mode == MERGE_PYTHON)
		put_rest(&m);
	return m.n;
}
