/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/calibrate_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/clock.h"

static void child(void (*work)(void *ctx), void *ctx, pid_t parent, int done)
{
	sigset_t all;

	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL); /* handlers are the parent's; fails only on bad arguments */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(1);
	work(ctx);
	_exit(write(done, "", 1) != 1);
}

/* Until the child has written its byte. */
static int await(int fd, int timeout_ms)
{
	uint64_t until = mono_ns() + (uint64_t)timeout_ms * 1000000, now;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	while ((now = mono_ns()) < until) {
		int n = poll(&p, 1, (int)((until - now) / 1000000 + 1));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			return read(fd, &byte, 1) == 1 ? 0 : -ECHILD;
	}
	return -ETIMEDOUT;
}

int child_do(void (*work)(void *ctx), void *ctx, int timeout_ms, pid_t *ret_pid)
{
	pid_t parent = getpid();
	int done[2];

	*ret_pid = -1;
	if (pipe2(done, O_CLOEXEC))
		return -errno;
	pid_t pid = fork();
	if (pid == 0)
		child(work, ctx, parent, done[1]);
	int err = pid < 0 ? -errno : 0;
	(void)close(done[1]); /* the child's is the one that counts */
	if (!err)
		err = await(done[0], timeout_ms);
	(void)close(done[0]); /* was read */
	if (pid > 0 && err)
		(void)kill(pid, SIGKILL); /* it is not reaped yet: the number is its */
	*ret_pid = pid;
	return err;
}

static void *wait_for(void *pid)
{
	(void)waitpid((pid_t)(intptr_t)pid, NULL, 0); /* how it went was told before */
	return NULL;
}

/* A thread, which takes no signals. */
void child_reap(pid_t pid)
{
	pthread_t thread;
	sigset_t all, before;

	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* fails only on bad arguments */
	if (pthread_create(&thread, NULL, wait_for, (void *)(intptr_t)pid))
		(void)wait_for((void *)(intptr_t)pid);
	else
		(void)pthread_detach(thread);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}
