/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spawns N: starts N children, a new one every three milliseconds; each runs this program again, allocates 100 blocks of 1,000 bytes and keeps
 * them for a second. So births, execs and ends meet every moment of an observer's look.
 */
#include <sys/wait.h>

#include "truth.h"

SITE void *site_kept(size_t n)
{
	return malloc(n);
}

static int child_main(void)
{
	for (int i = 0; i < 100; i++)
		if (!site_kept(1000))
			return 1;
	usleep(1000000);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc > 2)
		return child_main();
	truth_start();
	for (int i = 0; i < atoi(argv[1]); i++) {
		if (!fork()) {
			execl("/proc/self/exe", "kept", "0", "child", (char *)NULL);
			_exit(1);
		}
		usleep(3000);
	}
	while (wait(NULL) > 0)
		;
	truth_print("spawns");
	truth_wait_line();
	_exit(0);
}
