/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steps: allocates and frees without pause, in small steps of a millisecond, until a line comes; then tells its truth. The word "fork" as
 * line makes a child that allocates 500 blocks at once, tells its own truth and waits for the end; "worker" one that allocates and frees without
 * pause until SIGUSR1, and tells its truth then. The parent goes on until the next line.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include "truth.h"

SITE void *site_step(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static bool line_waits(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, 1) > 0;
}

static void step_some(size_t i)
{
	for (int k = 0; k < 50; k++) {
		void *p = site_step(20 + i % 50);
		if (k % 10)
			site_free(p);
	}
}

static void step_until_line(void)
{
	for (size_t i = 0; !line_waits(); i++)
		step_some(i);
}

static volatile sig_atomic_t told;

static void on_told(int number)
{
	told = number;
}

static void worker(void)
{
	(void)signal(SIGUSR1, on_told);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else ends it */
	truth_forked();
	for (size_t i = 0; !told; i++) {
		step_some(i);
		(void)poll(NULL, 0, 1);
	}
	truth_print("worker");
	for (;;)
		pause();
}

static void child(void)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else ends it */
	truth_forked();
	for (int i = 0; i < 500; i++)
		site_step(64);
	truth_print("child");
	pause();
	_exit(0);
}

int main(void)
{
	char line[16];

	truth_start();
	for (;;) {
		step_until_line();
		ssize_t n = read(0, line, sizeof(line) - 1);
		if (n <= 0)
			_exit(0);
		line[n] = 0;
		if (!strncmp(line, "worker", 6)) {
			pid_t pid = fork();
			if (!pid)
				worker();
			dprintf(1, "{\"tag\": \"born\", \"pid\": %d}\n", (int)pid); /* takes no memory */
			continue;
		}
		if (!strncmp(line, "fork", 4)) {
			if (!fork())
				child();
			continue;
		}
		break;
	}
	truth_print("steps");
	truth_wait_line();
	_exit(0);
}
