/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does a function hand its work to another allocation function that is probed itself? Then a second probe would book
 * the same block twice, and a return probe on operator new would stand in the way of the exception that it throws.
 */
#ifndef TIDEMARK_PROBE_REACH_H
#define TIDEMARK_PROBE_REACH_H

#include "probe/decode.h"
#include "target/families.h"

/*
 * True when every path through the function that returns passes a call or jump to such a function: one of the
 * families table that allocates if this one allocates, one that frees if it frees (for a free, paths on which the
 * pointer is NULL don't count). ret_name (may be NULL): its name, NULL when reached through a slot whose name is not
 * known. Internal calls are followed `depth` <= 3.
 */
bool reach_probed(struct decoder *d, uint64_t vaddr, const struct family_func *row, const char **ret_name);

#endif
