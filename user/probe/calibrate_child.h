/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A child process that does one thing and says when it has done it. Knows nothing of what that is. */
#ifndef TIDEMARK_PROBE_CALIBRATE_CHILD_H
#define TIDEMARK_PROBE_CALIBRATE_CHILD_H

#include <sys/types.h>

/*
 * Runs work(ctx) in a fork of this process and returns when it is done: 0; -ECHILD: it died before; -ETIMEDOUT: it did not come to its end, and was
 * killed; or what fork says. What it found out it has to leave in shared memory; it must not allocate (other threads may have held the locks), no signal is
 * delivered to it, and it dies with us. *ret_pid: its number, ours until child_reap; -1: there is none.
 */
int child_do(void (*work)(void *ctx), void *ctx, int timeout_ms, pid_t *ret_pid);

/* Takes its exit code when it comes; waits for nothing. */
void child_reap(pid_t pid);

#endif
