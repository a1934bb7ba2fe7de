/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State at file scope, against the rule: a signal handler gets no argument, and a process has one controlling terminal. It is
 * written only while disarmed.
 */
#include "view/tui_guard.h"

#include <curses.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

#include "util/mem.h"
#include "view/tui.h"

static const int fatal_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };

static struct {
	volatile sig_atomic_t armed;
	bool at_exit; /* registered: cannot be undone */
	int fd;
	struct termios modes;
	char sequences[256];
	size_t sequences_len;
	struct sigaction old[ARRAY_SIZE(fatal_signals)];
	stack_t old_stack;
	_Alignas(16) char stack[32768]; /* a stack overflow leaves no other to run on */
} guard;

int tui_guard_save(int fd)
{
	guard.armed = 0;
	guard.fd = fd;
	guard.sequences_len = 0;
	return tcgetattr(fd, &guard.modes) ? -errno : 0;
}

/* Terminal descriptions hold waits for old hardware, "$<5>", which only tputs() understands. */
static void add_sequence(const char *s)
{
	/* tigetstr(): NULL: absent; -1: no string capability */
	if (!s || s == (const char *)-1)
		return;
	while (*s && guard.sequences_len < sizeof(guard.sequences)) {
		const char *end = !strncmp(s, "$<", 2) ? strchr(s, '>') : NULL;

		if (end)
			s = end + 1;
		else
			guard.sequences[guard.sequences_len++] = *s++;
	}
}

void tui_restore_on_crash(void)
{
	sigset_t ttou, before;

	if (!guard.armed)
		return;
	guard.armed = 0;
	/* A process in the background is stopped when it changes the modes of its terminal, unless it blocks this signal. */
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	(void)sigprocmask(SIG_BLOCK, &ttou, &before);
	ssize_t n = write(guard.fd, guard.sequences, guard.sequences_len);
	(void)n; /* nothing is left to try if the terminal is gone */
	(void)tcsetattr(guard.fd, TCSANOW, &guard.modes);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Hands on to whoever handled the signal before us (a sanitizer, or the default action with its core dump). */
static void on_fatal(int sig)
{
	int saved = errno;

	tui_restore_on_crash();
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		if (fatal_signals[i] == sig)
			(void)sigaction(sig, &guard.old[i], NULL);
	errno = saved;
	(void)raise(sig);
}

void tui_guard_arm(void)
{
	static const char *const names[] = { "sgr0", "op", "rmkx", "cnorm", "rmcup" };
	struct sigaction sa = { .sa_handler = on_fatal, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_sp = guard.stack, .ss_size = sizeof(guard.stack) };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		add_sequence(tigetstr(names[i]));
	add_sequence("\r");
	(void)sigaltstack(&stack, &guard.old_stack);
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		(void)sigaction(fatal_signals[i], &sa, &guard.old[i]);
	if (!guard.at_exit)
		guard.at_exit = !atexit(tui_restore_on_crash);
	guard.armed = 1;
}

void tui_guard_disarm(void)
{
	if (!guard.armed)
		return;
	guard.armed = 0;
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		(void)sigaction(fatal_signals[i], &guard.old[i], NULL);
	(void)sigaltstack(&guard.old_stack, NULL);
}
