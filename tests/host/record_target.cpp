// SPDX-License-Identifier: GPL-2.0-or-later
/* What record.c stops in native code: an allocation of a known size, in a destructor while an exception passes, or in a signal handler. */
#include <csignal>
#include <cstdlib>
#include <cstring>

#define SIZE 1000003

static void *volatile kept;

static void stop_and_allocate()
{
	raise(SIGSTOP);
	kept = malloc(SIZE);
}

struct Guard {
	~Guard() { stop_and_allocate(); }
};

__attribute__((noinline)) static void thrower(int depth)
{
	if (!depth)
		throw depth;
	thrower(depth - 1);
	__asm__ volatile("");
}

__attribute__((noinline)) static void passes()
{
	Guard g;
	thrower(3);
}

static void handler(int)
{
	stop_and_allocate();
}

static void exception()
{
	try {
		passes();
	} catch (int) {
	}
}

static void signals(int flags)
{
	struct sigaction sa;
	stack_t ss;

	memset(&sa, 0, sizeof(sa));
	memset(&ss, 0, sizeof(ss));
	ss.ss_size = 65536;
	ss.ss_sp = malloc(ss.ss_size);
	sigaltstack(&ss, nullptr);
	sa.sa_handler = handler;
	sa.sa_flags = flags;
	sigaction(SIGSEGV, &sa, nullptr);
	raise(SIGSEGV);
}

static int compare(const void *, const void *)
{
	stop_and_allocate();
	exit(0);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int two[2] = { 2, 1 };

	if (!strcmp(what, "exception"))
		exception();
	else if (!strcmp(what, "signal"))
		signals(0);
	else if (!strcmp(what, "altstack"))
		signals(SA_ONSTACK);
	else
		qsort(two, 2, sizeof(int), compare);
	return 0;
}
