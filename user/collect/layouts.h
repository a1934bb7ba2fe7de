/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which unwind rows belong to which addresses of a process: from its executable mappings and their files to the word that the kernel
 * side finds them by (include/unwind.h).
 */
#ifndef TIDEMARK_COLLECT_LAYOUTS_H
#define TIDEMARK_COLLECT_LAYOUTS_H

#include <stdint.h>

struct layouts;
struct mappings;
struct unwind_tables;

struct layouts *layouts_new(struct unwind_tables *u); /* borrowed, must outlive */
void layouts_free(struct layouts *l);

/*
 * The layout of a process with these mappings, a reference included (unwind_drop_ranges gives it back). Files are opened at first sight only, as the
 * target sees them. Executable mappings of no file (JIT) and of files without rows are ranges too, with RANGE_NO_ROWS. More than PROCESS_RANGES_MAX: the
 * largest ones. 0: none.
 */
uint64_t layouts_take(struct layouts *l, uint32_t pid, const struct mappings *maps);

#endif
