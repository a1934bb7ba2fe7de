/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts the command that the user gave (`-- CMD ARGS...`) so that it is observed from its first instruction: it is held before exec until
 * its process is followed, then stopped (ptrace, allowed on one's own child) at each system call of the dynamic loader, so that
 * every library's probes are in place before any of its code runs. From the program's own first system call on it runs free.
 */
#ifndef TIDEMARK_TARGET_LAUNCH_H
#define TIDEMARK_TARGET_LAUNCH_H

#include <stdbool.h>
#include <sys/types.h>

struct launch {
	pid_t pid;
	int hold_fd; /* writing a byte lets it exec */
	int fail_fd; /* errno of a failed exec comes out here */
};

/* Forks. quiet_stdout: the command's standard output goes to our standard error, because ours carries data. */
int launch_hold(char *const argv[], bool quiet_stdout, struct launch *ret);

/*
 * Lets it exec and runs it through the loader; calls `on_code` whenever new code may be mapped. 0, or -errno of exec
 * (-ENOENT: no such program) or -ESRCH: it ended meanwhile.
 */
int launch_go(struct launch *l, void (*on_code)(void *ctx), void *ctx);

/* Ends a command that was never let go; closes the descriptors. Safe on a zeroed struct. */
void launch_done(struct launch *l);

#endif
