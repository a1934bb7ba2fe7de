/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names many frames in the order of their addresses, so that each unit of a file's debug information is read once: in the order of stacks it would be
 * read, and dropped for another, again and again.
 */
#ifndef TIDEMARK_SYM_AHEAD_H
#define TIDEMARK_SYM_AHEAD_H

#include <stddef.h>

#include "collect/snapshot.h"

struct sym;

void sym_name_ahead(struct sym *s, const struct snap_stackdef *defs, size_t n);

#endif
