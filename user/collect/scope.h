/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which scope the links should have: the whole host, so that children count from their first call, or one process each, so that others
 * pay nothing. Begins with the host; goes to processes when others keep paying noticeably and no child was born for a while; goes back as soon as a
 * child is born, for who forks once forks again. Pure.
 */
#ifndef TIDEMARK_COLLECT_SCOPE_H
#define TIDEMARK_COLLECT_SCOPE_H

#include <stdint.h>

#include "abi.h"

/*
 * A foreign hit costs its process about 0.75 us here (make bench: "not observed" is two hits): so many per second are about 1.5 % of one
 * processor.
 */
#define SCOPE_FOREIGN_PER_S 20000
#define SCOPE_CALM_NS 5000000000ull   /* without a birth, and of paying, before narrowing */
#define SCOPE_AGAIN_NS 30000000000ull /* after a birth */

struct scope_policy {
	uint64_t began_ns, busy_since_ns; /* busy: others pay; 0: they don't */
	uint64_t births, born_ns;	  /* as last seen */
	uint64_t again_ns;		  /* in place of SCOPE_AGAIN_NS; 0: that */
};

enum probe_scope scope_decide(struct scope_policy *p, enum probe_scope now, uint64_t now_ns, double foreign_per_s,
			      uint64_t births);

#endif
