/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes hits with their registers and stack memory into a folder, for the tests' oracle (include/hit.h). Private to collect/. */
#ifndef TIDEMARK_COLLECT_HITS_H
#define TIDEMARK_COLLECT_HITS_H

#include <stdint.h>

#include "probe/loader.h"

struct hits;

/* 0 or -errno (the folder can't be written). */
int hits_open(const char *folder, struct loader *l, struct hits **ret);
/* Writes the definitions of all stacks and closes. */
void hits_close(struct hits *h);
void hits_drain(struct hits *h);
/* Keeps the mappings of a process as they are now. One that is gone already had its parent's. */
void hits_maps(struct hits *h, uint32_t pid, uint32_t ppid);

#endif
