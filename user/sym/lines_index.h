/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which compilation unit holds an address: made from the units' own ranges (clang writes no .debug_aranges). Private
 * to lines.c.
 */
#ifndef TIDEMARK_SYM_LINES_INDEX_H
#define TIDEMARK_SYM_LINES_INDEX_H

#include <elfutils/libdw.h>

#include "sym/lines.h"

/* Goes on building, at most `units` units further. 0 (complete) or -EAGAIN. */
int lines_index_step(struct lines_index *x, Dwarf *dw, size_t units);
bool lines_index_is_complete(const struct lines_index *x);
/* Offset of the unit's DIE. 0 or -ENOENT. */
int lines_index_find(const struct lines_index *x, uint64_t addr, Dwarf_Off *ret);

/* Sorted ranges, also used for the functions of one unit. */
struct span {
	uint64_t start;
	uint32_t bytes;
	uint32_t item;
};
struct spans {
	struct span *items;
	size_t n, cap;
	bool is_sorted;
};
/* False: full. */
bool spans_add(struct spans *s, uint64_t start, uint64_t end, uint32_t item);
/* Adds every range of a DIE. */
void spans_add_die(struct spans *s, Dwarf_Die *die, uint32_t item);
void spans_sort(struct spans *s);
const struct span *spans_find(const struct spans *s, uint64_t addr);

#endif
