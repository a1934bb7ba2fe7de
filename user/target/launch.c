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
#include <time.h>
#include <unistd.h>

#include "target/proc.h"
#include "util/mem.h"

#define SYSCALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */
#define EXEC_CHAIN_MS 150
#define EXEC_CHAIN_MAX 16

static void child(char *const argv[], bool quiet_stdout, int hold_fd, int fail_fd)
{
	char go;
	int err;
	sigset_t none;

	if (quiet_stdout)
		(void)dup2(STDERR_FILENO, STDOUT_FILENO);
	(void)signal(SIGPIPE, SIG_DFL); /* the command starts with default signals, not with ours */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none,
			  NULL); /* the command starts with default signals, not with our blocked ones */
	if (read(hold_fd, &go, 1) != 1)
		_exit(127); /* the parent gave up */
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
	if (pid == 0) {
		(void)close(hold[1]); /* or it would never see that we are gone */
		(void)close(fail[0]);
		child(argv, quiet_stdout, hold[0], fail[1]);
	}
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

/* What a stopped child stopped for. */
enum stop { STOP_SYSCALL, STOP_EXEC, STOP_SIGNAL, STOP_OTHER };

static enum stop stop_of(int status)
{
	if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8))
		return STOP_EXEC;
	if (WSTOPSIG(status) == SYSCALL_STOP)
		return STOP_SYSCALL;
	return status >> 16 ? STOP_OTHER : STOP_SIGNAL; /* with an event number: not a signal of its own */
}

/* Stopped by job control: it has to stay so until it is continued. */
static bool is_group_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP;
}

/* Lets it run on, with the signal that it was stopped for. */
static bool resume(pid_t pid, enum __ptrace_request how, int status)
{
	if (how != PTRACE_DETACH && is_group_stop(status))
		return ptrace(PTRACE_LISTEN, pid, NULL, NULL) == 0;
	long sig = status && stop_of(status) == STOP_SIGNAL ? WSTOPSIG(status) : 0;

	return ptrace(how, pid, NULL, sig) == 0;
}

/* From a stop after exec to the program's own first system call. 0: *status is of a stop; -ESRCH: ended; 1: it did exec again. */
static int through_loader(pid_t pid, int *status, void (*on_code)(void *ctx), void *ctx)
{
	uint64_t base = loader_base(pid);

	on_code(ctx);
	while (base) {
		struct user_regs_struct regs;
		if (!resume(pid, PTRACE_SYSCALL, *status) || waitpid(pid, status, 0) != pid || !WIFSTOPPED(*status))
			return -ESRCH;
		if (stop_of(*status) == STOP_EXEC)
			return 1;
		if (stop_of(*status) != STOP_SYSCALL || ptrace(PTRACE_GETREGS, pid, NULL, &regs))
			continue;
		if (!in_loader(pid, base, regs.rip))
			break;
		/* Libraries are mapped by mmap and made usable by mprotect; the stop is before or after each. */
		if (regs.orig_rax == SYS_mmap || regs.orig_rax == SYS_mprotect)
			on_code(ctx);
	}
	return 0;
}

/*
 * Many commands are started through another (env, nice, sh -c exec): the loader of what follows is waited for too, if it comes soon.
 * 1: it did exec; 0: it did not in time; -ESRCH: ended.
 */
static int wait_for_exec(pid_t pid, int *status)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };

	for (int ms = 0; ms < EXEC_CHAIN_MS; ms++) {
		pid_t got = waitpid(pid, status, WNOHANG);
		if (got < 0 || (got == pid && !WIFSTOPPED(*status)))
			return -ESRCH;
		if (got == pid && stop_of(*status) == STOP_EXEC)
			return 1;
		if (got == pid && !resume(pid, PTRACE_CONT, *status))
			return -ESRCH;
		if (got != pid)
			(void)nanosleep(&pause, NULL); /* woken early: looks early */
	}
	return 0;
}

static void let_go(pid_t pid)
{
	int status = 0;

	/* Ended meanwhile: nothing to let go. */
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return;
	(void)resume(pid, PTRACE_DETACH, status);
}

static int follow_execs(pid_t pid, int *status, void (*on_code)(void *ctx), void *ctx)
{
	int state = 1;

	for (int i = 0; state == 1 && i < EXEC_CHAIN_MAX; i++) {
		state = through_loader(pid, status, on_code, ctx);
		if (state == 0 && !resume(pid, PTRACE_CONT, *status))
			state = -ESRCH;
		if (state == 0)
			state = wait_for_exec(pid, status);
	}
	if (state == 1) /* a long chain: it stands at the exec that was not looked at any more */
		(void)resume(pid, PTRACE_DETACH, *status);
	else if (state == 0)
		let_go(pid);
	return state < 0 ? state : 0;
}

/* Waits for the stop after exec; signals on the way are passed on. 0, or -ESRCH: it ended. */
static int first_exec(pid_t pid, int *status)
{
	while (waitpid(pid, status, 0) == pid && WIFSTOPPED(*status)) {
		if (stop_of(*status) == STOP_EXEC)
			return 0;
		if (!resume(pid, PTRACE_CONT, *status))
			break;
	}
	return -ESRCH;
}

int launch_go(struct launch *l, void (*on_code)(void *ctx), void *ctx)
{
	int status = 0, exec_errno = 0;
	long wanted = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;

	if (ptrace(PTRACE_SEIZE, l->pid, NULL, wanted) || write(l->hold_fd, "g", 1) != 1)
		return -errno;
	int err = first_exec(l->pid, &status);
	if (err && read(l->fail_fd, &exec_errno, sizeof(exec_errno)) == sizeof(exec_errno))
		err = -exec_errno;
	if (!err)
		err = follow_execs(l->pid, &status, on_code, ctx);
	launch_done(l);
	return err;
}
