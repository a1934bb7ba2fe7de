/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stacks of one process put together by what their innermost frame says (function, module, file:line) or by thread. The rows of a layer add up to
 * the layer: what has no name is in a row "[unknown]", what is over the limit in a row "[others]".
 */
#ifndef TIDEMARK_VIEW_GROUPS_H
#define TIDEMARK_VIEW_GROUPS_H

#include <stddef.h>

#include "view/report.h"

/* What groups are made from; borrowed for the call. */
struct group_source {
	const struct model_stack *const *stacks; /* all that the query shows, whatever its limit */
	size_t n_stacks;
	const struct query *q; /* q->group != GROUP_NONE */
	const struct stack_dict *dict;
	struct sym *sym;
	struct arena *arena; /* for the rows and their names */
	bool live_known[LAYER_NR];
	double edge; /* error that all its stacks share (snapshot.h) */
};

/* Sorted by layer, then by the query's key. Returns their number. */
size_t groups_build(const struct group_source *src, const struct report_group **ret);

#endif
