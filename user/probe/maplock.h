/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can this kernel show mapping calls at the lock of the address space (bpf/maplock.bpf.h)? Found by its own description of itself (BTF) and by trial links; only that
 * raw tracepoints can be preempted is known by its version. No libbpf types. Private to probe/.
 */
#ifndef TIDEMARK_PROBE_MAPLOCK_H
#define TIDEMARK_PROBE_MAPLOCK_H

#include <stdint.h>

/* The tracepoints, in the order in which they are attached: an entry whose exit is not seen would stay announced. */
enum maplock_point { MAPLOCK_RELEASED, MAPLOCK_AREA, MAPLOCK_TAKEN, MAPLOCK_NR };

const char *maplock_point_name(enum maplock_point p);

/* Number of the tracepoints' argument that tells writers, for lock_write_arg; 0: not on this kernel. version: as in struct features. */
uint32_t maplock_write_arg(uint32_t version);

#endif
