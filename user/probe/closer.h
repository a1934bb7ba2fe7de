/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Closes links beside the main loop. Closing the last descriptor of a link waits for the kernel's readers (kernel/events/uprobes.c:
 * register_for_each_vma, percpu_down_write), takes the breakpoints out and then waits 30 to 50 ms until no CPU can be in its programs any more
 * (uprobe_unregister_sync); one thread per link waits, so that neither the loop does nor the next link's breakpoints stay in until then.
 */
#ifndef TIDEMARK_PROBE_CLOSER_H
#define TIDEMARK_PROBE_CLOSER_H

#include <stdbool.h>

struct closer;

struct closer *closer_new(void);
/* Takes over the descriptor. Without a thread to be had it is closed here and now. */
void closer_take(struct closer *c, int fd);
/* Is any still being closed? */
bool closer_is_busy(struct closer *c);
/* Waits until all are closed. */
void closer_free(struct closer *c);

#endif
