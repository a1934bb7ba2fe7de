/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stack definitions seen so far, by stack id, and their frames once these are named for good. Append-only: an id means the same frames for
 * the whole run. Owned by the session; what it returns lives as long as it.
 */
#ifndef TIDEMARK_VIEW_STACK_DICT_H
#define TIDEMARK_VIEW_STACK_DICT_H

#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "model/query.h"
#include "view/frames.h"

struct stack_dict;

struct stack_dict *stack_dict_new(void);
void stack_dict_free(struct stack_dict *d);
/* Copies. Of an id that is known already the first definition stays. */
void stack_dict_add(struct stack_dict *d, const struct snap_stackdef *defs, size_t n);
const struct snap_stackdef *stack_dict_find(const struct stack_dict *d, uint64_t stack_id); /* NULL */

/* A stack as queries of one mode show it. */
struct named_stack {
	const struct snap_stackdef *def;
	enum layer layer;
	const struct sym_frame *const *frames; /* leaf first */
	size_t n_frames;
	const char *site;    /* NULL: unknown */
	const char *summary; /* never NULL */
};

/*
 * Names a stack. Once all its names are settled the dictionary keeps them, and asks `sym` (the same one for its whole life) no more; until then they
 * lie in the arena of `scratch`. NULL: its definition is not known.
 */
const struct named_stack *stack_dict_name(struct stack_dict *d, uint64_t stack_id, enum layer layer,
					  const struct query *q, struct sym *sym, struct frame_list *scratch);
/* The same for its summary alone, which needs few of its names: frames and site are not those of the stack. */
const struct named_stack *stack_dict_sum_up(struct stack_dict *d, uint64_t stack_id, enum layer layer,
					    const struct query *q, struct sym *sym, struct frame_list *scratch);

#endif
