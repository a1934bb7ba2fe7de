/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * grows MIB_PER_S: keeps all that it allocates, in grow_in_request, at that pace; 0: stands still, but for a buffer that it takes and gives back. "fork" as
 * line of its input: a child that does the latter. Ends with its input, and the child with it.
 */
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "truth.h"

enum { BLOCK = 32 << 10, STEPS_PER_S = 100, MOST = 768 << 20 };

static uint64_t kept;

SITE void *grow_in_request(size_t n)
{
	return memset(malloc(n), 1, n); /* one that fails ends it, and the test */
}

SITE void *buffer_of_request(size_t n)
{
	return memset(malloc(n), 2, n);
}

/* One step of time; what should be there by then is told by the clock, so that a busy machine does not change the pace. */
static void step(uint64_t bytes_wanted)
{
	while (kept < bytes_wanted && kept < MOST) {
		grow_in_request(BLOCK);
		kept += BLOCK;
	}
	free(buffer_of_request(5000));
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool input_waits(int wait_ms)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, wait_ms) > 0;
}

static void child(void)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else ends it */
	truth_forked();
	truth_print("child");
	for (;;) {
		step(0);
		usleep(1000000 / STEPS_PER_S);
	}
}

int main(int argc, char **argv)
{
	double bytes_per_s = (argc > 1 ? atof(argv[1]) : 0) * (1 << 20), began;
	char line[16];

	truth_start();
	began = seconds();
	for (;;) {
		step((uint64_t)((seconds() - began) * bytes_per_s));
		if (!input_waits(1000 / STEPS_PER_S))
			continue;
		if (read(0, line, sizeof(line)) <= 0)
			_exit(0);
		if (!fork())
			child();
	}
}
