/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Places: which file an address of a process lies in, and where in it. Done at first sight, while the process is there; from then on a
 * frame is (module, address as linked) and needs the process no more. Owns the modules' dictionary, whose ids are dense and stable.
 */
#ifndef TIDEMARK_COLLECT_PLACE_H
#define TIDEMARK_COLLECT_PLACE_H

#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"

struct mappings;
struct places;

struct places *places_new(void);
void places_free(struct places *p);

/* Forgets what is cached of the mappings of an image (they changed) or of a process that is gone. */
void places_stale(struct places *p, const struct proc_key *id);
void places_forget(struct places *p, const struct proc_key *id);

/*
 * Never fails: an address in no mapping gives module 0 and the address itself; one in anonymous memory the address itself and the
 * process's own module of generated code, whose path is that of its perf map (there or not).
 */
struct snap_frame places_frame(struct places *p, const struct proc_key *id, uint64_t addr, bool is_return);

/* Modules added since the last call, in the arena. */
const struct snap_module *places_take_new(struct places *p, struct arena *arena, size_t *ret_n);

#endif
