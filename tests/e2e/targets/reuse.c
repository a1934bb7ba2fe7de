/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two children, one after the other, with the same pid: the second gets it by clone3. Exit 77: this kernel can't choose pids. */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "truth.h"

SITE void *site_first(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_second(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

static void child_main(const char *tag, void *(*site)(size_t), size_t n)
{
	truth_forked();
	for (size_t i = 1; i <= n; i++)
		site(i);
	truth_print(tag);
	truth_wait_line();
	_exit(0);
}

static pid_t fork_as(pid_t pid)
{
	struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

int main(void)
{
	pid_t pid, again;

	truth_start();
	pid = fork();
	if (!pid)
		child_main("first", site_first, 20);
	if (waitpid(pid, NULL, 0) != pid)
		truth_die("no first child\n");
	again = fork_as(pid);
	if (!again)
		child_main("second", site_second, 7);
	if (again < 0)
		_exit(77);
	if (again != pid || waitpid(pid, NULL, 0) != pid)
		truth_die("no second child\n");
	_exit(0);
}
