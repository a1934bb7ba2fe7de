/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a process enters the kernel for mapping calls, as run-time addresses for the kernel side. Found once per file
 * (libc, the dynamic loader, a static executable), kept by device and inode.
 */
#ifndef TIDEMARK_COLLECT_ENTRIES_H
#define TIDEMARK_COLLECT_ENTRIES_H

#include <stdint.h>

#include "abi.h"

struct entries;
struct mappings;

struct entries *entries_new(void);
void entries_free(struct entries *e);

/* Fills ret->wrapper for a process with these mappings; what does not fit or can't be read is left out. */
void entries_fill(struct entries *e, uint32_t pid, const struct mappings *maps, struct map_entries *ret);

#endif
