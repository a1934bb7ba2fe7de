/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Definitions of stacks, read from the kernel at first sight: native frames placed in files, Python frames named, both while the process
 * is there. Hands each pair out once; forgets, here and in the kernel, what belongs to images that no process runs any more.
 */
#ifndef TIDEMARK_COLLECT_STACKDEFS_H
#define TIDEMARK_COLLECT_STACKDEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/images.h"
#include "collect/place.h"
#include "collect/snapshot.h"
#include "probe/loader.h"

struct arena;
struct stackdefs;

/* All borrowed, must outlive. -errno: the ring of Python's events can't be mapped. */
int stackdefs_new(struct loader *l, struct places *p, struct images *im, struct stackdefs **ret);
void stackdefs_free(struct stackdefs *d);

/* Reads the names of code objects and chains that are new, while they are there. stackdefs_fd can be polled for them. */
void stackdefs_drain(struct stackdefs *d);
int stackdefs_fd(const struct stackdefs *d);

/* True and *ret (in the arena; strings live as long as d) if the stack was not handed out yet. seen_in: a process that shows it. */
bool stackdefs_take(struct stackdefs *d, struct arena *arena, const struct stack_ids *ids,
		    const struct proc_key *seen_in, struct snap_stackdef *ret);

/*
 * The id under which a stack is shown. Code that is compiled anew and again has other addresses each time: chains that read the same are one, and it is
 * the first one's.
 */
uint64_t stackdefs_id(struct stackdefs *d, const struct stack_ids *ids, uint32_t tid, const struct proc_key *seen_in);

void stackdefs_forget(struct stackdefs *d, uint32_t image);
uint64_t stackdefs_known(const struct stackdefs *d); /* pairs */
uint64_t stackdefs_known_chains(const struct stackdefs *d);

#endif
