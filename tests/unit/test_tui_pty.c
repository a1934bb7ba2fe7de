/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The screen on a real pseudo terminal: however the program ends, the terminal's modes are what they were, and the sequences that
 * leave the alternate screen were sent. The child is a small session: poll for keys and signals, draw, obey.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <utmp.h>
#include <unistd.h>
#include <cmocka.h>

#include "report_fixture.h"
#include "util/clock.h"
#include "util/mem.h"
#include "view/tui.h"

#define DEADLINE_NS 60000000000ull /* far beyond what is needed, also under load */

/* --- the child --- */

enum { CHILD_DONE = 0, CHILD_NO_SCREEN = 40, CHILD_EXITED = 41 };

/* Runs out of stack: nothing is left to run a handler on but a stack of its own. */
static int dig(volatile int depth)
{
	volatile char room[4096];

	room[0] = (char)depth;
	return depth < 1 << 30 ? dig(depth + 1) + room[0] : 0;
}

static void obey_snapshot(const char *how)
{
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "segv"))
		(void)raise(
			SIGSEGV); /* not a bad access: UBSan would end the program in its own way, without a signal */
	if (!strcmp(how, "overflow"))
		(void)dig(0);
	if (!strcmp(how, "exit"))
		exit(CHILD_EXITED);
}

static bool wait_for_input(struct tui *t, int signals)
{
	struct pollfd p[] = { { .fd = tui_fd(t), .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	struct signalfd_siginfo si;

	(void)poll(p, 2, 50); /* an interval; a signal is as good */
	if (!(p[1].revents & POLLIN) || read(signals, &si, sizeof(si)) != sizeof(si))
		return true;
	return si.ssi_signo == SIGWINCH;
}

static void run_session(const char *how)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	struct query q = fixture_query();
	struct proc_key opened;
	struct tui *t;
	sigset_t mask;
	bool go_on = true;

	/* As a program has them: cmocka's handlers would jump back into the test, in the child. */
	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		(void)signal(fatal[i], SIG_DFL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGWINCH);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (tui_open(&t))
		_exit(CHILD_NO_SCREEN);
	for (uint64_t n = 0; go_on; n++) {
		struct report *r = fixture_report(&q, n);

		tui_draw(t, r);
		fixture_free(r);
		go_on = wait_for_input(t, signals);
		enum tui_ask ask = tui_keys(t, &q, &opened);
		if (ask == TUI_SNAPSHOT)
			obey_snapshot(how);
		go_on = go_on && ask != TUI_QUIT;
	}
	tui_close(t);
	tui_close(t);
	tui_restore_on_crash(); /* nothing is open: does nothing */
	(void)close(signals);
	_exit(CHILD_DONE);
}

/* --- the parent --- */

struct session {
	int master;
	pid_t pid;
	struct termios before;
	char *output; /* all so far, terminated */
	size_t len;
};

static void session_start(struct session *s, const char *how, const char *term, int width, int height)
{
	struct winsize ws = { .ws_row = (unsigned short)height, .ws_col = (unsigned short)width };
	struct rlimit no_core = { 0, 0 };
	int slave;

	*s = (struct session){ .output = xcalloc(1, 1) };
	assert_int_equal(openpty(&s->master, &slave, NULL, NULL, &ws), 0);
	assert_int_equal(tcgetattr(slave, &s->before), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (!s->pid) {
		(void)close(s->master);
		(void)login_tty(slave);
		(void)setrlimit(RLIMIT_CORE, &no_core);
		(void)setenv("TERM", term, 1);
		run_session(how);
	}
	assert_int_equal(close(slave), 0);
}

/* Takes what has been written; false: nothing came within 20 ms. */
static bool session_read(struct session *s)
{
	struct pollfd p = { .fd = s->master, .events = POLLIN };
	char buf[4096];

	if (poll(&p, 1, 20) != 1)
		return false;
	ssize_t n = read(s->master, buf, sizeof(buf));
	if (n <= 0)
		return false; /* EIO: no one has the other side open */
	s->output = xrealloc(s->output, s->len + (size_t)n + 1, 1);
	memcpy(s->output + s->len, buf, (size_t)n);
	s->len += (size_t)n;
	s->output[s->len] = 0;
	return true;
}

static void session_expect(struct session *s, size_t from, const char *what)
{
	uint64_t end = mono_ns() + DEADLINE_NS;

	while (!strstr(s->output + (from < s->len ? from : s->len), what)) {
		if (mono_ns() > end)
			fail_msg("never shown: %s\nshown: %s", what, s->output);
		(void)session_read(s); /* the deadline counts */
	}
}

static void session_press(struct session *s, const char *keys)
{
	assert_int_equal(write(s->master, keys, strlen(keys)), strlen(keys));
}

static int session_end(struct session *s)
{
	uint64_t end = mono_ns() + DEADLINE_NS;
	int status;

	while (waitpid(s->pid, &status, WNOHANG) == 0) {
		if (mono_ns() > end) {
			(void)kill(s->pid, SIGKILL); /* its own child; the test fails anyway */
			fail_msg("the session doesn't end; shown: %s", s->output);
		}
		(void)session_read(s); /* a full pseudo terminal would block it */
	}
	while (session_read(s))
		;
	return status;
}

static void session_done(struct session *s)
{
	(void)close(s->master);
	free(s->output);
}

static bool modes_differ(const struct session *s)
{
	struct termios now;

	assert_int_equal(tcgetattr(s->master, &now), 0);
	return now.c_iflag != s->before.c_iflag || now.c_oflag != s->before.c_oflag ||
	       now.c_cflag != s->before.c_cflag || now.c_lflag != s->before.c_lflag ||
	       memcmp(now.c_cc, s->before.c_cc, sizeof(now.c_cc));
}

/* The last of what was sent: leave the alternate screen, show the cursor (terminfo of xterm). */
static void expect_restored(const struct session *s)
{
	assert_false(modes_differ(s));
	assert_non_null(strstr(s->output, "\033[?1049l"));
	const char *hidden = NULL, *shown = NULL;
	for (const char *c = s->output; (c = strstr(c, "\033[?25l")); c++)
		hidden = c;
	for (const char *c = s->output; (c = strstr(c, "\033[?25h")); c++)
		shown = c;
	assert_non_null(hidden);
	assert_true(shown > hidden);
}

static void session_begin(struct session *s, const char *how)
{
	session_start(s, how, "xterm", 100, 30);
	session_expect(s, 0, "redis-server");
	assert_true(modes_differ(s)); /* else the end would prove nothing */
	assert_non_null(strstr(s->output, "\033[?1049h"));
}

static void key_quits(void **state)
{
	struct session s;

	(void)state;
	session_begin(&s, "");
	session_press(&s, "q");
	int status = session_end(&s);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), CHILD_DONE);
	expect_restored(&s);
	session_done(&s);
}

static void signals_quit(void **state)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct session s;

		session_begin(&s, "");
		assert_int_equal(kill(s.pid, signals[i]), 0);
		int status = session_end(&s);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), CHILD_DONE);
		expect_restored(&s);
		session_done(&s);
	}
}

static void ctrl_c_reaches_the_session(void **state)
{
	struct session s;

	(void)state;
	session_begin(&s, "");
	session_press(&s, "\003");
	int status = session_end(&s);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_DONE);
	expect_restored(&s);
	session_done(&s);
}

static void crashes_restore(void **state)
{
	static const struct {
		const char *how;
		int signal;
	} hows[] = { { "abort", SIGABRT }, { "segv", SIGSEGV }, { "overflow", SIGSEGV }, { "exit", 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hows); i++) {
		struct session s;

		session_begin(&s, hows[i].how);
		session_press(&s, "w");
		int status = session_end(&s);
		/* The program still ends as it would have without us. */
		if (hows[i].signal)
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == hows[i].signal);
		else
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXITED);
		expect_restored(&s);
		session_done(&s);
	}
}

static void a_lost_terminal_ends_it(void **state)
{
	struct session s;
	int status;

	(void)state;
	session_begin(&s, "");
	assert_int_equal(close(s.master), 0);
	for (uint64_t end = mono_ns() + DEADLINE_NS; waitpid(s.pid, &status, WNOHANG) == 0; (void)poll(NULL, 0, 5))
		if (mono_ns() > end) {
			(void)kill(s.pid, SIGKILL); /* its own child; the test fails anyway */
			fail_msg("the session goes on without a terminal");
		}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), CHILD_DONE);
	s.master = -1;
	session_done(&s);
}

static void sizes_change(void **state)
{
	static const struct winsize sizes[] = { { .ws_row = 1, .ws_col = 1 },	   { .ws_row = 5, .ws_col = 20 },
						{ .ws_row = 60, .ws_col = 250 },   { .ws_row = 2, .ws_col = 3 },
						{ .ws_row = 900, .ws_col = 4000 }, { .ws_row = 24, .ws_col = 80 } };
	struct session s;

	(void)state;
	session_begin(&s, "");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t from = s.len;

		assert_int_equal(ioctl(s.master, TIOCSWINSZ, &sizes[i]), 0);
		/* Drawn again after the change: some output, at any size. */
		for (uint64_t end = mono_ns() + DEADLINE_NS; s.len == from && mono_ns() < end;)
			(void)session_read(&s); /* the deadline counts */
		assert_true(s.len > from);
	}
	size_t from = s.len;
	session_press(&s, "?");
	session_expect(&s, from, "next layer");
	session_press(&s, " q");
	assert_int_equal(session_end(&s), 0);
	expect_restored(&s);
	session_done(&s);
}

static void keys_reach_the_pages(void **state)
{
	struct session s;

	(void)state;
	session_begin(&s, "");
	session_press(&s, "\n");
	session_expect(&s, 0, "P(LEAK)");
	session_press(&s, "\r");
	session_expect(&s, 0, "FILE:LINE");
	size_t from = s.len;
	session_press(&s, "\033"); /* a lone Esc, told apart from a sequence by time */
	session_expect(&s, from, "P(LEAK)");
	from = s.len;
	session_press(&s, "\033OD"); /* the left arrow as xterm sends it */
	session_expect(&s, from, "GROWTH/s");
	from = s.len;
	session_press(&s, "/\303\251");
	session_expect(&s, from, "\303\251");
	session_press(&s, "\nq");
	assert_int_equal(session_end(&s), 0);
	expect_restored(&s);
	session_done(&s);
}

static void no_screen_is_told(void **state)
{
	struct session s;
	struct tui *t = NULL;

	(void)state;
	session_start(&s, "", "no-such-terminal", 80, 24);
	int status = session_end(&s);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), CHILD_NO_SCREEN);
	assert_false(modes_differ(&s));
	session_done(&s);
	/* The test itself has no terminal on its standard input. */
	int saved = dup(STDIN_FILENO), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(dup2(null, STDIN_FILENO) >= 0);
	assert_int_equal(tui_open(&t), -ENOTTY);
	assert_null(t);
	tui_close(t);
	assert_true(dup2(saved, STDIN_FILENO) >= 0);
	(void)close(saved);
	(void)close(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(key_quits),
		cmocka_unit_test(signals_quit),
		cmocka_unit_test(ctrl_c_reaches_the_session),
		cmocka_unit_test(crashes_restore),
		cmocka_unit_test(a_lost_terminal_ends_it),
		cmocka_unit_test(sizes_change),
		cmocka_unit_test(keys_reach_the_pages),
		cmocka_unit_test(no_screen_is_told),
	};

	if (!setlocale(LC_ALL, "C.UTF-8"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
