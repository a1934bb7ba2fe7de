/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can this kernel show mapping calls at the lock of the address space (bpf/maplock.bpf.h)? Found by its own description of itself (BTF) and by trial links, not by its
 * version. No libbpf types. Private to probe/.
 */
#ifndef TIDEMARK_PROBE_MAPLOCK_H
#define TIDEMARK_PROBE_MAPLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* The tracepoints, in the order in which they are attached: an entry whose exit is not seen would stay announced. */
enum maplock_point { MAPLOCK_RELEASED, MAPLOCK_AREA, MAPLOCK_TAKEN, MAPLOCK_NR };

/* "subsystem/name" */
const char *maplock_point_path(enum maplock_point p);
const char *maplock_point_name(enum maplock_point p);

struct maplock {
	uint32_t write_arg; /* number of the tracepoints' argument that tells writers; 0: not on this kernel */
	bool preempted;	    /* raw tracepoints can be: perf's are taken */
};

/* version: as in struct features. */
struct maplock maplock_find(uint32_t version);

#endif
