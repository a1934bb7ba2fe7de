/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The processes of one snapshot: what the kernel's table, /proc and the control groups say of each. Private to collect/. */
#ifndef TIDEMARK_COLLECT_PROCVIEW_H
#define TIDEMARK_COLLECT_PROCVIEW_H

#include "collect/follow.h"
#include "collect/ranges.h"
#include "collect/snapshot.h"

/* In the arena. */
const struct snap_proc *procview_list(struct follow *f, struct ranges *r, struct arena *arena, uint64_t now_ns,
				      bool map, size_t *ret_n);

#endif
