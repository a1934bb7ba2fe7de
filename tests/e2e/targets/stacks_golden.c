// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Known stacks: each step allocates a number of bytes that no other one does, ROUNDS times from the same place; stacks_golden.expected has the
 * frames of each. One binary that needs libc only (the library that it opens is inside of it), for guests too. Built without frame pointers.
 *
 * Says ready, waits for a line, opens the library, says opened, waits for a line, does all steps, says allocated, and waits until its standard
 * input ends.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define FRAME __attribute__((noinline, noipa, used)) static

/* Keeps a call from being the last thing that a function does. */
#define GO_ON(p) __asm__ volatile("" : "+r"(p) : : "memory")

enum { ROUNDS = 3, STACK_BYTES = 64 * 1024 };

static void *volatile kept;
static size_t wanted; /* what the next callback or handler allocates; 0: nothing */
static sigjmp_buf back;
static char alt_stack[STACK_BYTES], context_stack[STACK_BYTES];
static ucontext_t main_context, other_context;
static void *(*library_call)(size_t);
static void *(*library_calls_back)(void *(*)(size_t), size_t);
static pthread_key_t key;
static void *volatile nowhere = (void *)8;

/* The library's file. */
__asm__(".section .rodata\n"
	"library_start: .incbin \"libstacks_golden.so\"\n"
	"library_end:\n"
	".previous\n");
extern const char library_start[], library_end[];

/*
 * A trap at the very first instruction of a function: the address before it belongs to another one. on_ill goes on behind it.
 */
__asm__(".text\n"
	".type trap_before, @function\n"
	"trap_before: .cfi_startproc\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size trap_before, .-trap_before\n"
	".type trap_first, @function\n"
	"trap_first: .cfi_startproc\n"
	"	ud2\n"
	"	ret\n"
	"	.cfi_endproc\n"
	"	.size trap_first, .-trap_first\n");
void trap_first(void);

static inline void take(size_t n)
{
	void *p = malloc(n);

	GO_ON(p);
	kept = p;
}

/* Callbacks are called more than once per round. */
static inline void take_wanted(void)
{
	size_t n = wanted;

	wanted = 0;
	if (n)
		take(n);
}

/* --- calls --- */

FRAME void c(size_t n)
{
	take(n);
}

FRAME void b(size_t n)
{
	c(n);
	GO_ON(n);
}

FRAME void a(size_t n)
{
	b(n);
	GO_ON(n);
}

FRAME void dup_here(void)
{
	char text[1016];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	kept = strdup(text);
	GO_ON(text[0]);
}

/* A jump, not a call: it has no frame any more when tail_end allocates. */
FRAME void *tail_end(size_t n)
{
	void *p = malloc(n);

	GO_ON(p);
	return p;
}

FRAME void *tail_middle(size_t n)
{
	return tail_end(n + 1);
}

FRAME void tail_here(size_t n)
{
	void *p = tail_middle(n - 1);

	GO_ON(p);
}

FRAME void *tail_malloc(size_t n)
{
	return malloc(n);
}

FRAME void tail_malloc_here(size_t n)
{
	void *p = tail_malloc(n);

	GO_ON(p);
}

/* Its last instruction is a call: the return address is in the function behind it. */
__attribute__((noreturn)) FRAME void never_returns(size_t n)
{
	take(n);
	siglongjmp(back, 1);
}

__attribute__((noreturn)) FRAME void ends_in_call(size_t n)
{
	never_returns(n);
}

FRAME void noreturn_here(size_t n)
{
	if (!sigsetjmp(back, 1))
		ends_in_call(n);
}

FRAME void recurse(size_t depth, size_t n)
{
	if (depth > 1)
		recurse(depth - 1, n);
	else
		take(n);
	GO_ON(n);
}

FRAME void recurse_here(size_t depth, size_t n)
{
	recurse(depth, n);
	GO_ON(n);
}

/* --- frames --- */

FRAME void with_alloca(size_t depth, size_t n)
{
	char *p = alloca(depth * 100 + 50);

	GO_ON(p);
	if (depth)
		with_alloca(depth - 1, n);
	else
		take(n);
	GO_ON(p);
}

FRAME void with_large_frame(size_t depth, size_t n)
{
	char large[20000], *p = large;

	GO_ON(p);
	if (depth)
		with_large_frame(depth - 1, n);
	else
		take(n);
	GO_ON(p);
}

FRAME void realigned(size_t depth, size_t n)
{
	_Alignas(64) char wide[256];
	char *p = alloca(depth * 10 + 10), *q = wide;

	GO_ON(p);
	GO_ON(q);
	if (depth)
		realigned(depth - 1, n);
	else
		take(n);
	GO_ON(p);
	GO_ON(q);
}

/* --- callbacks --- */

FRAME int in_compare(const void *x, const void *y)
{
	take_wanted();
	return *(const int *)x - *(const int *)y;
}

FRAME void sort_here(size_t n)
{
	int v[] = { 3, 1, 2 };

	wanted = n;
	qsort(v, 3, sizeof(v[0]), in_compare);
	GO_ON(n);
}

FRAME int each_object(struct dl_phdr_info *info, size_t bytes, void *arg)
{
	(void)info, (void)bytes, (void)arg;
	take_wanted();
	return 0;
}

FRAME void iterate_here(size_t n)
{
	wanted = n;
	dl_iterate_phdr(each_object, NULL);
	GO_ON(n);
}

FRAME void *from_library(size_t n)
{
	void *p = malloc(n);

	GO_ON(p);
	return p;
}

FRAME void call_library(size_t n)
{
	void *p = library_call(n);

	GO_ON(p);
}

FRAME void call_back_here(size_t n)
{
	void *p = library_calls_back(from_library, n);

	GO_ON(p);
}

/* --- signals --- */

FRAME void on_usr1(int sig)
{
	take_wanted();
	GO_ON(sig);
}

FRAME void on_usr2(int sig)
{
	take_wanted();
	GO_ON(sig);
}

FRAME void on_ill(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)info;
	take_wanted();
	u->uc_mcontext.gregs[REG_RIP] += 2;
	GO_ON(sig);
}

FRAME void on_segv(int sig)
{
	take_wanted();
	GO_ON(sig);
	siglongjmp(back, 1);
}

FRAME void raise_here(int sig, size_t n)
{
	wanted = n;
	raise(sig);
	GO_ON(n);
}

FRAME void trap_here(size_t n)
{
	wanted = n;
	trap_first();
	GO_ON(n);
}

/* The vdso stores to where it is told, here to where nothing is. */
FRAME void vdso_here(size_t n)
{
	if (sigsetjmp(back, 1))
		return;
	wanted = n;
	time(nowhere);
	GO_ON(n);
}

static void catch_signal(int sig, void *handler, int flags)
{
	struct sigaction act = { .sa_flags = flags };

	act.sa_sigaction = (void (*)(int, siginfo_t *, void *))handler;
	sigaction(sig, &act, NULL);
}

/* --- threads and contexts --- */

FRAME void in_thread(size_t n)
{
	take(n);
}

FRAME void *thread_body(void *arg)
{
	in_thread((size_t)arg);
	pthread_setspecific(key, arg);
	GO_ON(arg);
	return arg;
}

FRAME void key_destroyed(void *arg)
{
	take((size_t)arg + 1);
}

static void thread_here(size_t n)
{
	pthread_t t;

	if (!pthread_create(&t, NULL, thread_body, (void *)n))
		pthread_join(t, NULL);
}

FRAME void in_context(void)
{
	take_wanted();
	GO_ON(kept);
}

static void context_here(size_t n)
{
	wanted = n;
	getcontext(&other_context);
	other_context.uc_stack = (stack_t){ .ss_sp = context_stack, .ss_size = STACK_BYTES };
	other_context.uc_link = &main_context;
	makecontext(&other_context, in_context, 0);
	/* Below its start there is nothing; as elsewhere, but here also for who takes rbp for a frame pointer. */
	other_context.uc_mcontext.gregs[REG_RBP] = 0;
	swapcontext(&main_context, &other_context);
}

/* --- */

FRAME void load_library(char *path)
{
	int fd = mkstemps(path, 3);
	size_t bytes = (size_t)(library_end - library_start);
	void *library = fd >= 0 && write(fd, library_start, bytes) == (ssize_t)bytes ? dlopen(path, RTLD_LAZY) : NULL;

	if (!library)
		_exit(77);
	close(fd);
	library_call = (void *(*)(size_t))dlsym(library, "lib_call");
	library_calls_back = (void *(*)(void *(*)(size_t), size_t))dlsym(library, "lib_calls_back");
}

static inline void say(const char *line)
{
	if (write(1, line, strlen(line)) != (ssize_t)strlen(line))
		_exit(98);
}

int main(void)
{
	char path[] = "/tmp/stacks_golden-XXXXXX.so", ch = 0;
	stack_t alt = { .ss_sp = alt_stack, .ss_size = STACK_BYTES };

	sigaltstack(&alt, NULL);
	catch_signal(SIGUSR1, on_usr1, 0);
	catch_signal(SIGUSR2, on_usr2, SA_ONSTACK);
	catch_signal(SIGILL, on_ill, SA_SIGINFO);
	catch_signal(SIGSEGV, on_segv, SA_ONSTACK);
	pthread_key_create(&key, key_destroyed);
	say("{\"tag\": \"ready\"}\n");
	if (read(0, &ch, 1) != 1)
		_exit(98);
	load_library(path);
	say("{\"tag\": \"opened\"}\n");
	if (read(0, &ch, 1) != 1)
		_exit(98);
	for (int i = 0; i < ROUNDS; i++) {
		a(1001);
		sort_here(1002);
		raise_here(SIGUSR1, 1003);
		trap_here(1004);
		raise_here(SIGUSR2, 1005);
		call_library(1007);
		call_back_here(1008);
		thread_here(1009);
		with_alloca(2, 1011);
		with_large_frame(2, 1012);
		realigned(2, 1013);
		tail_here(1014);
		tail_malloc_here(1015);
		dup_here();
		noreturn_here(1017);
		recurse_here(100, 1018);
		recurse_here(200, 1019);
		context_here(1020);
		iterate_here(1021);
		vdso_here(1022);
	}
	say("{\"tag\": \"allocated\"}\n");
	while (read(0, &ch, 1) == 1)
		;
	unlink(path);
	_exit(0);
}
