/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * steady: short of CPU time, with a steady number of allocations per unit of its work: short-lived blocks, a table that is made anew and a leak. Does what
 * the lines of its input say:
 *   tell   its truth; then it stands still until the next line ("go")
 *   exit, exec, fork   as soon as a breakpoint lies in its own malloc, so in the middle of a window: ends, begins anew ("again" is
 *          said), has two children that do the same work
 *   int PID, after PID   as soon as a breakpoint lies there, or as soon as it is gone again, SIGINT to that process
 *   reap   children tell their truth and end; says how many ended well
 */
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "truth.h"

enum { TABLE = 64, CHILDREN = 2, SPIN = 8000, LEAK_EVERY = 100, PROBE_BYTES = 16, PROBE_SECONDS = 60 };

static void *table[TABLE];
static uint32_t random_state = 4711;
static volatile uint32_t sink;
static volatile unsigned char *code;
static unsigned char code_bare[PROBE_BYTES];
static int children_go[2];

SITE void *buffer_of_request(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *row_of_table(size_t n)
{
	return truth_alloc("calloc", __func__, calloc(1, n), n);
}

SITE void *leak_in_request(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

static void give_back(void *p)
{
	truth_free(p);
	free(p);
}

/* About 5 us of arithmetic around one or two pairs. */
static void request(unsigned int i)
{
	uint32_t x = random_state;

	for (int k = 0; k < SPIN; k++)
		x = x * 1664525 + 1013904223; /* Numerical Recipes */
	sink = x;
	void *p = buffer_of_request(100 + truth_random(&random_state) % 1500);
	if (i % 4 == 0) {
		void **row = &table[truth_random(&random_state) % TABLE];
		give_back(*row);
		*row = row_of_table(1000 + truth_random(&random_state) % 4000);
	}
	if (i % LEAK_EVERY == 0)
		leak_in_request(6000);
	give_back(p);
}

static bool probed(void)
{
	for (int i = 0; i < PROBE_BYTES; i++)
		if (code[i] != code_bare[i])
			return true;
	return false;
}

static bool input_waits(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static void work_until_input(int fd)
{
	for (unsigned int i = 0; i % 64 || !input_waits(fd); i++)
		request(i);
}

static void work_until_probed(bool wanted)
{
	time_t end = time(NULL) + PROBE_SECONDS;

	for (unsigned int i = 0; probed() != wanted; i++) {
		request(i);
		if (i % 4096 == 0 && time(NULL) > end)
			truth_die("steady: no probe came, or it did not go\n");
	}
}

static void interrupt(const char *pid)
{
	if (kill(atoi(pid), SIGINT))
		truth_die("steady: nobody to interrupt\n");
}

static void interrupt_after(const char *pid)
{
	work_until_probed(false);
	interrupt(pid);
}

static void child(void)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else ends it */
	close(children_go[1]);
	truth_forked();
	memset(table, 0, sizeof(table)); /* what it inherited is not its own */
	work_until_input(children_go[0]);
	truth_print("child");
	_exit(0);
}

static void have_children(const char *rest __attribute__((unused)))
{
	if (pipe(children_go))
		truth_die("steady: no pipe\n");
	for (int i = 0; i < CHILDREN; i++)
		if (!fork())
			child();
	truth_say("{\"tag\": \"forked\"}");
}

static void reap(const char *rest __attribute__((unused)))
{
	int status, well = 0;
	char text[64];

	close(children_go[1]);
	while (wait(&status) > 0)
		well += status == 0;
	snprintf(text, sizeof(text), "{\"tag\": \"reaped\", \"well\": %d}", well);
	truth_say(text);
}

static void leave(const char *rest __attribute__((unused)))
{
	_exit(0);
}

static void begin_anew(const char *rest __attribute__((unused)))
{
	execl("/proc/self/exe", "steady", "again", NULL);
	truth_die("steady: no exec\n");
}

static void tell(const char *rest __attribute__((unused)))
{
	truth_print("steady");
	truth_wait_line();
}

static const struct order {
	const char *word;
	bool in_window;
	void (*run)(const char *rest);
} orders[] = {
	{ "tell", false, tell },
	{ "reap", false, reap },
	{ "exit", true, leave },
	{ "exec", true, begin_anew },
	{ "fork", true, have_children },
	{ "int", true, interrupt },
	{ "after", true, interrupt_after },
};

static void obey(const char *line)
{
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
		if (!strncmp(line, orders[i].word, strlen(orders[i].word))) {
			if (orders[i].in_window)
				work_until_probed(true);
			orders[i].run(line + strlen(orders[i].word));
			return;
		}
	truth_die("steady: unknown order\n");
}

int main(int argc, char **argv __attribute__((unused)))
{
	void *(*function)(size_t) = malloc;
	char line[32];

	memcpy(&code, &function, sizeof(code));
	for (int i = 0; i < PROBE_BYTES; i++)
		code_bare[i] = code[i];
	if (argc > 1)
		truth_say("{\"tag\": \"again\"}");
	else
		truth_start();
	for (;;) {
		work_until_input(0);
		ssize_t n = read(0, line, sizeof(line) - 1);
		if (n <= 0)
			_exit(0);
		line[n] = 0;
		obey(line);
	}
}
