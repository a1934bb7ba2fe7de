/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frames of a stack as the query wants to see them: native and Python merged or one kind alone, named, without the frames that are the
 * allocation's own affair. Decides what a caller is; knows no counts.
 */
#ifndef TIDEMARK_VIEW_FRAMES_H
#define TIDEMARK_VIEW_FRAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "collect/snapshot.h"
#include "model/query.h"
#include "sym/sym.h"
#include "view/merge.h"

struct arena;

/* Scratch that is used again for each stack; nothing but the arena set to begin with. */
struct frame_list {
	struct arena *arena; /* borrowed: holds the frames that sym does not keep */
	const struct sym_frame *
		*frames; /* leaf first; sym's or in the arena; strings belong to sym and to the definition */
	size_t n, cap;
	bool settled; /* the same stack will always be named so */
	struct merged_frame *merged;
	size_t merged_cap;
	const char *site; /* the allocation function as the program called it; NULL: unknown */
};

void frame_list_done(struct frame_list *l);

/* Which of its frames the query shows. */
enum merge_mode frames_mode(const struct query *q, const struct snap_stackdef *def);

/*
 * Names all frames of the stack. A stack without Python frames shows its native ones also where only Python's are wanted: an empty list would hide
 * where the memory comes from.
 */
void frames_resolve(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
		    const struct query *q);

/* The beginning of the same list, with the innermost frame at least; n 0: there is none. Much cheaper; the site may be that of the definition. */
void frames_resolve_innermost(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
			      const struct query *q);

/*
 * Of the same list what its summary needs. Frames of the runtime are known by their file: they are not named unless there is nothing else, and their debug
 * information is large.
 */
void frames_resolve_telling(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
			    const struct query *q);

/* One line for the list: the first frame that is the program's own code, "load_table main.c:12", else the first one; never NULL. */
const char *frames_summary(struct arena *arena, const struct frame_list *l);

#endif
