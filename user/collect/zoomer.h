/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Carries out what the zoom policy decides (collect/zoom.h): probes for processes that grow, or that the user opened. */
#ifndef TIDEMARK_COLLECT_ZOOMER_H
#define TIDEMARK_COLLECT_ZOOMER_H

#include <stdbool.h>
#include <stdint.h>

struct follow;
struct proc_key;
struct zoomer;

/* by_itself: processes that grow are zoomed; else only those that are opened. budget_pct: 0: no limit. */
struct zoomer *zoomer_new(struct follow *f, bool by_itself, double budget_pct); /* borrowed, must outlive */
void zoomer_free(struct zoomer *z);

/* Once per interval, when resident memory has been read. overhead_pct: of all that is observed; NAN: not known. */
void zoomer_step(struct zoomer *z, uint64_t now_ns, double overhead_pct);
/* The user opened it: it stays. 0; -ESRCH: it is gone. */
int zoomer_open(struct zoomer *z, const struct proc_key *id);

#endif
