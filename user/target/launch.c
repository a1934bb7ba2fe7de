/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "target/launch.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target/proc.h"
#include "util/mem.h"

#define SYSCALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

static void child(char *const argv[], bool quiet_stdout, int hold_fd, int fail_fd)
{
	char go;
	int err;
	sigset_t none;

	if (quiet_stdout)
		(void)dup2(STDERR_FILENO, STDOUT_FILENO);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL); /* the command starts with default signals, not with our blocked ones */
	if (read(hold_fd, &go, 1) != 1)
		_exit(127); /* the parent gave up */
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
		(void)execvp(argv[0], argv);
	err = errno;
	(void)!write(fail_fd, &err, sizeof(err));
	_exit(127);
}

int launch_hold(char *const argv[], bool quiet_stdout, struct launch *ret)
{
	int hold[2], fail[2];

	if (pipe2(hold, O_CLOEXEC))
		return -errno;
	if (pipe2(fail, O_CLOEXEC)) {
		int err = -errno;
		(void)close(hold[0]);
		(void)close(hold[1]);
		return err;
	}
	pid_t pid = fork();
	if (pid == 0)
		child(argv, quiet_stdout, hold[0], fail[1]);
	int err = pid < 0 ? -errno : 0;
	(void)close(hold[0]);
	(void)close(fail[1]);
	if (err) {
		(void)close(hold[1]);
		(void)close(fail[0]);
		return err;
	}
	*ret = (struct launch){ .pid = pid, .hold_fd = hold[1], .fail_fd = fail[0] };
	return 0;
}

void launch_done(struct launch *l)
{
	if (l->hold_fd > 0)
		(void)close(l->hold_fd); /* a held child reads the end and exits */
	if (l->fail_fd > 0)
		(void)close(l->fail_fd);
	l->hold_fd = l->fail_fd = 0;
}

/* Address range of the dynamic loader, which the kernel mapped with the executable: AT_BASE of the auxiliary vector. 0: static. */
static uint64_t loader_base(pid_t pid)
{
	char path[64];
	Elf64_auxv_t aux[64];

	snprintf(path, sizeof(path), "/proc/%d/auxv", (int)pid);
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, aux, sizeof(aux));
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(aux[0]); i++)
		if (aux[i].a_type == AT_BASE)
			return aux[i].a_un.a_val;
	return 0;
}

/* Is this address in the same file as the loader's base? */
static bool in_loader(pid_t pid, uint64_t base, uint64_t ip)
{
	struct mappings maps;

	if (!base || mappings_read((uint32_t)pid, &maps))
		return false;
	const struct mapping *a = mappings_find(&maps, base), *b = mappings_find(&maps, ip);
	bool same = a && b && a->inode == b->inode && a->inode;
	mappings_done(&maps);
	return same;
}

/* One step to the next stop. 1: at a system call; 0: another stop; -ESRCH: ended. */
static int step(pid_t pid, int *signal_to_pass)
{
	int status;

	if (ptrace(PTRACE_SYSCALL, pid, NULL, (long)*signal_to_pass) || waitpid(pid, &status, 0) != pid)
		return -ESRCH;
	if (!WIFSTOPPED(status))
		return -ESRCH;
	*signal_to_pass = WSTOPSIG(status) == SYSCALL_STOP ? 0 : WSTOPSIG(status);
	return WSTOPSIG(status) == SYSCALL_STOP;
}

static int through_loader(pid_t pid, void (*on_code)(void *ctx), void *ctx)
{
	uint64_t base = loader_base(pid);
	int pass = 0;

	on_code(ctx);
	while (base) {
		struct user_regs_struct regs;
		int at_call = step(pid, &pass);
		if (at_call < 0)
			return at_call;
		if (!at_call || ptrace(PTRACE_GETREGS, pid, NULL, &regs))
			continue;
		if (!in_loader(pid, base, regs.rip))
			break;
		/* Libraries are mapped by mmap and made usable by mprotect; the stop is before or after each. */
		if (regs.orig_rax == SYS_mmap || regs.orig_rax == SYS_mprotect)
			on_code(ctx);
	}
	return 0;
}

int launch_go(struct launch *l, void (*on_code)(void *ctx), void *ctx)
{
	int status, err = 0, exec_errno = 0;

	if (write(l->hold_fd, "g", 1) != 1)
		return -errno;
	if (waitpid(l->pid, &status, 0) != l->pid)
		return -errno;
	if (!WIFSTOPPED(status)) {
		ssize_t n = read(l->fail_fd, &exec_errno, sizeof(exec_errno));
		launch_done(l);
		return n == sizeof(exec_errno) ? -exec_errno : -ESRCH;
	}
	if (ptrace(PTRACE_SETOPTIONS, l->pid, NULL, (long)PTRACE_O_TRACESYSGOOD) == 0)
		err = through_loader(l->pid, on_code, ctx);
	(void)ptrace(PTRACE_DETACH, l->pid, NULL, NULL); /* ended: nothing to detach */
	launch_done(l);
	return err;
}
