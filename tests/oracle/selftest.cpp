// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records hits of its own process in the form of include/hit.h, with the stacks that libgcc's unwinder finds: what the oracle is tried
 * on, without Tidemark. selftest FOLDER. Everything that makes stacks hard is on the way: deep recursion, alloca, large and realigned frames,
 * callbacks through libc, signals at any instruction and on a stack of their own, exceptions, destructors while one flies, other threads, contexts.
 */
#include <alloca.h>
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <link.h>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/time.h>
#include <thread>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>
#include <vector>
#include <algorithm>
#include <ctime>

#define _Static_assert static_assert
#include "hit.h"

#define FRAME __attribute__((noinline, noipa, used))

enum { ALT_BYTES = 65536, CONTEXT_BYTES = 65536, ALARMS = 400 };

static int hits_fd, stacks_fd;
static thread_local hit_record record;
static thread_local uintptr_t stack_end; /* of the stack that the thread runs on */
static thread_local bool is_quiet; /* no hits: one is being recorded, or only those in signal handlers are wanted */
static std::atomic_flag writing = ATOMIC_FLAG_INIT;
static std::atomic<int> alarms;
static char alt_stack[ALT_BYTES], context_stack[CONTEXT_BYTES];
static volatile size_t sink;

/*
 * A probed function: stores all registers as they are at its first instruction, and goes on as record_finish, so that the memory from rsp up is
 * as it was.
 */
asm(R"(
	.text
	.globl	snap
	.type	snap, @function
snap:
	.cfi_startproc
	mov	%rax, 16(%rdi)
	mov	%rdx, 24(%rdi)
	mov	%rcx, 32(%rdi)
	mov	%rbx, 40(%rdi)
	mov	%rsi, 48(%rdi)
	mov	%rdi, 56(%rdi)
	mov	%rbp, 64(%rdi)
	mov	%rsp, 72(%rdi)
	mov	%r8, 80(%rdi)
	mov	%r9, 88(%rdi)
	mov	%r10, 96(%rdi)
	mov	%r11, 104(%rdi)
	mov	%r12, 112(%rdi)
	mov	%r13, 120(%rdi)
	mov	%r14, 128(%rdi)
	mov	%r15, 136(%rdi)
	lea	snap(%rip), %rax
	mov	%rax, 144(%rdi)
	jmp	record_finish
	.cfi_endproc
	.size	snap, .-snap
)");
static_assert(offsetof(hit_record, regs) == 16, "regs");
extern "C" void snap(hit_record *to);

struct collected {
	stack *s;
	int skip; /* record_finish itself */
};

static _Unwind_Reason_Code collect(_Unwind_Context *context, void *arg)
{
	auto *c = static_cast<collected *>(arg);
	int is_before = 0;
	uintptr_t ip = _Unwind_GetIPInfo(context, &is_before);

	if (c->skip-- > 0 || !ip)
		return _URC_NO_REASON;
	if (c->s->n_ips == STACK_MAX_FRAMES) {
		c->s->cut = CUT_DEPTH;
		return _URC_NORMAL_STOP;
	}
	c->s->ip[c->s->n_ips++] = ip + (is_before != 0);
	return _URC_NO_REASON;
}

static void put(int fd, const void *p, size_t n)
{
	if (write(fd, p, n) != (ssize_t)n)
		_exit(99);
}

extern "C" FRAME void record_finish(hit_record *r)
{
	uintptr_t rsp = r->regs[7];
	hit_stack h = {};
	collected c = { &h.stack, 1 };

	r->stack_bytes = std::min<uintptr_t>(HIT_STACK_BYTES, stack_end - rsp);
	memcpy(r->stack, (const void *)rsp, r->stack_bytes);
	h.stack.site = SITE_FIRST_PROBE;
	_Unwind_Backtrace(collect, &c);
	/* It ends in the same way at a thread's start and where there are no rows. */
	if (h.stack.cut == CUT_NONE && !_Unwind_FindEnclosingFunction((void *)h.stack.ip[h.stack.n_ips - 1]))
		h.stack.cut = CUT_NO_ROW;
	h.native_id = 0xcbf29ce484222325;
	for (int i = 0; i < h.stack.n_ips; i++)
		h.native_id = (h.native_id ^ h.stack.ip[i]) * 0x100000001b3;
	r->native_id = h.native_id;
	r->pid = (uint32_t)getpid();
	while (writing.test_and_set())
		;
	put(stacks_fd, &h, sizeof(h));
	put(hits_fd, r, sizeof(*r));
	writing.clear();
}

/* A hit here, unless this is a signal that came in the middle of one. */
static inline void hit()
{
	if (is_quiet)
		return;
	is_quiet = true;
	snap(&record);
	is_quiet = false;
}

static void know_stack()
{
	pthread_attr_t attr;
	void *start;
	size_t bytes;

	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &start, &bytes);
	pthread_attr_destroy(&attr);
	stack_end = (uintptr_t)start + bytes;
}

/* --- shapes of frames --- */

FRAME size_t recurse(size_t n)
{
	size_t below = 1;

	if (n)
		below = recurse(n - 1);
	else
		hit();
	asm volatile("" : "+r"(below)); /* or it would become a loop */
	return below + n;
}

FRAME size_t with_alloca(size_t n, size_t depth)
{
	char *p = static_cast<char *>(alloca(n));

	memset(p, 1, n);
	if (depth)
		return with_alloca(n + 100, depth - 1) + (size_t)p[n / 2];
	hit();
	return (size_t)p[n - 1];
}

FRAME size_t with_large_frame(size_t n)
{
	volatile char big[5000];

	big[n] = 1;
	hit();
	return n ? with_large_frame(n - 1) + (size_t)big[n] : 0;
}

FRAME size_t realigned(size_t n, ...)
{
	alignas(64) volatile char wide[256];
	char *p = static_cast<char *>(alloca(n + 1));

	wide[n % 256] = (char)n;
	p[n] = 1;
	hit();
	return n ? realigned(n - 1, 1, 2, 3, 4, 5, 6, 7, 8, 9) + (size_t)wide[n % 256] : (size_t)p[0];
}

/* --- callbacks through libraries --- */

static int compare(const void *a, const void *b)
{
	hit();
	return *(const int *)a - *(const int *)b;
}

static int each_object(dl_phdr_info *, size_t, void *)
{
	hit();
	return 0;
}

FRAME void callbacks()
{
	int v[12] = { 5, 3, 9, 1, 8, 2, 7, 4, 6, 0, 11, 10 };

	qsort(v, 12, sizeof(int), compare);
	bsearch(v, v, 12, sizeof(int), compare);
	dl_iterate_phdr(each_object, nullptr);
	std::sort(std::begin(v), std::end(v), [](int a, int b) {
		hit();
		return a > b;
	});
}

struct shape {
	virtual ~shape() = default;
	virtual size_t area(size_t n) const = 0;
};

struct square : shape {
	size_t area(size_t n) const override
	{
		hit();
		return n * n;
	}
};

FRAME size_t indirect(const shape &s, const std::function<size_t(size_t)> &f)
{
	std::map<std::string, std::function<size_t(size_t)> > all = { { "area", [&](size_t n) { return s.area(n) + f(n); } } };

	return all["area"](7) + 1;
}

/* --- exceptions --- */

struct guard {
	~guard()
	{
		hit();
	}
};

[[noreturn]] FRAME void fail(size_t n)
{
	hit();
	throw std::runtime_error(std::to_string(n));
}

/* Ends in a call that does not return: its return address is behind the function. */
FRAME void guarded(size_t n)
{
	guard g;

	if (n > 5)
		return;
	if (n)
		guarded(n - 1);
	fail(n);
}

FRAME void exceptions()
{
	try {
		guarded(5);
	} catch (const std::exception &e) {
		hit();
		try {
			throw;
		} catch (...) {
			recurse(strlen(e.what()));
		}
	}
}

/* --- signals --- */

static void on_signal(int sig)
{
	bool was_quiet = is_quiet;

	is_quiet = false;
	hit();
	is_quiet = was_quiet;
	alarms += sig == SIGALRM;
}

static void on_alt_stack(int)
{
	uintptr_t was = stack_end;

	stack_end = (uintptr_t)alt_stack + ALT_BYTES;
	recurse(3);
	stack_end = was;
}

/* Interrupted wherever it is: in prologues and epilogues, the procedure linkage table, the vdso, libc. */
FRAME void interrupted()
{
	itimerval often = { { 0, 500 }, { 0, 500 } }, never = {};
	timespec t;
	char text[64];

	is_quiet = true;
	setitimer(ITIMER_REAL, &often, nullptr);
	while (alarms < ALARMS) {
		clock_gettime(CLOCK_MONOTONIC, &t);
		sink = sink + recurse(20) + (size_t)snprintf(text, sizeof(text), "%ld %zu", t.tv_nsec, sink) + with_alloca(40, 2);
		sink = sink + std::string(text).size();
	}
	setitimer(ITIMER_REAL, &never, nullptr);
	is_quiet = false;
}

FRAME void signals()
{
	stack_t alt = { alt_stack, 0, ALT_BYTES };

	sigaltstack(&alt, nullptr);
	for (int sig : { SIGALRM, SIGUSR1, SIGUSR2 }) {
		struct sigaction act = {};

		act.sa_handler = sig == SIGUSR2 ? on_alt_stack : on_signal;
		act.sa_flags = SA_RESTART | (sig == SIGUSR2 ? SA_ONSTACK : 0);
		sigaction(sig, &act, nullptr);
	}
	raise(SIGUSR1);
	raise(SIGUSR2);
}

/* --- other stacks --- */

static ucontext_t main_context, other_context;

static void in_context()
{
	uintptr_t was = stack_end;

	stack_end = (uintptr_t)context_stack + CONTEXT_BYTES;
	recurse(5);
	callbacks();
	stack_end = was;
}

FRAME void contexts()
{
	getcontext(&other_context);
	other_context.uc_stack = { context_stack, 0, CONTEXT_BYTES };
	other_context.uc_link = &main_context;
	makecontext(&other_context, in_context, 0);
	/* libc has no rows for the byte before __start_context; nobody shall find a frame pointer there. */
	other_context.uc_mcontext.gregs[REG_RBP] = 0;
	swapcontext(&main_context, &other_context);
}

FRAME void everything()
{
	square s;

	know_stack();
	for (size_t depth : { 0, 1, 2, 10, 60, 117, 118, 119, 120, 121, 122, 123, 124, 125, 200 })
		sink = sink + recurse(depth);
	sink = sink + with_alloca(10, 9) + with_large_frame(6) + realigned(9, 1, 2, 3, 4, 5, 6, 7, 8);
	sink = sink + indirect(s, [](size_t n) { return recurse(n); });
	callbacks();
	exceptions();
}

int main(int argc, char **argv)
{
	std::string folder = argc == 2 ? argv[1] : "", line = "/maps." + std::to_string(getpid());

	hits_fd = open((folder + "/hits").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	stacks_fd = open((folder + "/stacks").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (hits_fd < 0 || stacks_fd < 0) {
		fprintf(stderr, "usage: selftest FOLDER\n");
		return 2;
	}
	everything();
	contexts();
	signals();
	interrupted();
	std::thread(everything).join();
	return system(("cat /proc/$PPID/maps >" + folder + line).c_str()) ? 1 : 0;
}
