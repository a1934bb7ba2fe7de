/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch is some fifty calls of one function, from a loop in assembly so that nothing but the call differs. Its CPU time is read before and
 * after: what other processes take does not show in it. What disturbs one batch (an interrupt, a cold cache) is outvoted by the median over the rounds. What
 * one thing costs beyond another is the median of the differences within a round, because a processor's speed changes in the course of milliseconds.
 *
 * Stacks of calls to FUNC_ALLOC are made to measure: the loop sets rbp to 0 (its own frame is the last one) or to a chain of frames.
 */
#include "probe/calibrate_trial.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "sampling.h"
#include "util/clock.h"
#include "util/mem.h"

#define ROUNDS_MIN 5
#define RUN_NS_MAX 50000000ull
#define WARM_CALLS 2		 /* the first one of a batch unwinds its stack; those after it repeat it */
#define BLOCKS_FROM (1ull << 40) /* addresses of blocks that are none */
#define BLOCK_STEP 64
#define HIT_MIN_NS 10 /* no kernel takes a breakpoint in less */

__asm__(".pushsection .text\n"
	".hidden trial_bare, trial_push, trial_test, trial_nop5, trial_skip, trial_full, trial_alloc, trial_free\n"
	".globl trial_bare, trial_push, trial_test, trial_nop5, trial_skip, trial_full, trial_alloc, trial_free\n"
	".balign 64\n"
	"trial_bare:\n push %rbx\n pop %rbx\n ret\n"
	".balign 64\n"
	"trial_push:\n push %rbx\n pop %rbx\n ret\n"
	".balign 64\n"
	"trial_test:\n test %rdi, %rdi\n push %rbx\n pop %rbx\n ret\n"
	".balign 64\n"
	"trial_nop5:\n .byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n push %rbx\n pop %rbx\n ret\n"
	".balign 64\n"
	"trial_skip:\n push %rbx\n pop %rbx\n ret\n"
	".balign 64\n"
	"trial_full:\n push %rbx\n pop %rbx\n ret\n"
	".balign 64\n"
	"trial_alloc:\n push %rbx\n pop %rbx\n mov %rsi, %rax\n ret\n"
	".balign 64\n"
	"trial_free:\n push %rbx\n pop %rbx\n ret\n"
	".balign 64\n"
	".popsection");

extern const char trial_bare[], trial_push[], trial_test[], trial_nop5[], trial_skip[], trial_full[], trial_alloc[],
	trial_free[];

static const char *const funcs[FUNC_NR] = {
	[FUNC_BARE] = trial_bare, [FUNC_PUSH] = trial_push, [FUNC_TEST] = trial_test,	[FUNC_NOP5] = trial_nop5,
	[FUNC_SKIP] = trial_skip, [FUNC_FULL] = trial_full, [FUNC_ALLOC] = trial_alloc, [FUNC_FREE] = trial_free,
};

uint64_t trial_func_addr(enum trial_func f)
{
	return (uint64_t)(uintptr_t)funcs[f];
}

/* Offsets are known to trial_loop. */
struct loop {
	const char *func;
	uint64_t arg, arg2;	      /* of the first call */
	uint64_t arg_step, arg2_step; /* from call to call */
	uint64_t calls;
	uint64_t rbp; /* during the calls */
};

void trial_loop(const struct loop *l);

__asm__(".pushsection .text\n"
	".hidden trial_loop\n"
	".globl trial_loop\n"
	".balign 64\n"
	"trial_loop:\n"
	" push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n sub $8, %rsp\n"
	" mov %rdi, %r15\n"
	" mov 0(%r15), %rbx\n mov 8(%r15), %r12\n mov 16(%r15), %r13\n mov 40(%r15), %r14\n mov 48(%r15), %rbp\n"
	"1: mov %r12, %rdi\n mov %r13, %rsi\n call *%rbx\n"
	" add 24(%r15), %r12\n add 32(%r15), %r13\n dec %r14\n jnz 1b\n"
	" add $8, %rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n"
	".popsection");

_Static_assert(offsetof(struct loop, arg_step) == 24 && offsetof(struct loop, calls) == 40 &&
		       offsetof(struct loop, rbp) == 48,
	       "trial_loop");

/* As a function with a frame pointer leaves it. */
struct frame {
	uint64_t rbp, caller;
};

struct frames {
	struct frame frame[CALIBRATE_FRAMES - 1]; /* and the loop's own */
};

static uint64_t frames_build(struct frames *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->frame); i++)
		f->frame[i] = (struct frame){
			.rbp = i + 1 < ARRAY_SIZE(f->frame) ? (uint64_t)(uintptr_t)&f->frame[i + 1] : 0,
			.caller = (uint64_t)(uintptr_t)trial_loop + 1,
		};
	return (uint64_t)(uintptr_t)&f->frame[0];
}

static const struct batch_spec {
	enum trial_func func;
	uint32_t calls;
} specs[BATCH_NR] = {
	[BATCH_BARE] = { FUNC_BARE, 64 },	[BATCH_EMULATED] = { FUNC_PUSH, 64 },
	[BATCH_STEPPED] = { FUNC_TEST, 12 },	[BATCH_NOP5] = { FUNC_NOP5, 64 },
	[BATCH_SKIP] = { FUNC_SKIP, 64 },	[BATCH_FULL] = { FUNC_FULL, 64 },
	[BATCH_BODY_SKIP] = { FUNC_ALLOC, 64 }, [BATCH_BODY_COUNT] = { FUNC_ALLOC, 48 },
	[BATCH_BODY_FREE] = { FUNC_FREE, 48 },	[BATCH_BODY_STACK] = { FUNC_ALLOC, 48 },
};

/* The batch `b` from that loop on. Nanoseconds per call, without the first few. */
static double batch_time(enum batch b, struct loop l)
{
	uint64_t began;

	l.func = funcs[specs[b].func];
	l.calls = WARM_CALLS;
	trial_loop(&l);
	l.arg += l.arg_step * l.calls;
	l.arg2 += l.arg2_step * l.calls;
	l.calls = specs[b].calls;
	began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	trial_loop(&l);
	return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - began) / (double)l.calls;
}

static void set_rate(struct proc *self, uint32_t rate)
{
	__atomic_store_n(&self->rate, rate, __ATOMIC_RELEASE);
}

/* What is allocated is freed, so that each round finds the tables as the one before. */
static void bodies_round(struct trial *t, struct proc *self, uint64_t deep)
{
	struct loop alloc = { .arg = 1, .arg2 = BLOCKS_FROM, .arg2_step = BLOCK_STEP };
	struct loop to_free = { .arg = BLOCKS_FROM, .arg_step = BLOCK_STEP };
	uint32_t i = t->rounds;

	set_rate(self, RATE_MAX); /* a point in 16 GiB: single bytes are as good as never sampled */
	t->ns[BATCH_BODY_SKIP][i] = batch_time(BATCH_BODY_SKIP, alloc);
	set_rate(self, 0);
	t->ns[BATCH_BODY_COUNT][i] = batch_time(BATCH_BODY_COUNT, alloc);
	t->ns[BATCH_BODY_FREE][i] = batch_time(BATCH_BODY_FREE, to_free);
	alloc.rbp = deep;
	t->ns[BATCH_BODY_STACK][i] = batch_time(BATCH_BODY_STACK, alloc);
	(void)batch_time(BATCH_BODY_FREE, to_free);
}

static void trial_round(struct trial *t, struct proc *self, uint64_t deep)
{
	for (int b = 0; b < BATCH_KERNEL_NR; b++)
		t->ns[b][t->rounds] = batch_time((enum batch)b, (struct loop){ .arg = 1 });
	if (self)
		bodies_round(t, self, deep);
}

void trial_run(struct trial *t, struct proc *self)
{
	uint64_t began = mono_ns();
	struct frames frames;
	uint64_t deep = frames_build(&frames);

	for (int b = 0; b < BATCH_NR; b++)
		for (int i = 0; i < TRIAL_ROUNDS; i++)
			t->ns[b][i] = NAN;
	t->rounds = 0;
	trial_round(t, self, deep); /* for what happens at first hits only */
	while (t->rounds < TRIAL_ROUNDS && (t->rounds < ROUNDS_MIN || mono_ns() - began < RUN_NS_MAX)) {
		trial_round(t, self, deep);
		t->rounds++;
	}
}

/* --- statistics --- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Median over the rounds of what a batch took beyond another one; NAN: one of them was not run. */
static double beyond(const struct trial *t, enum batch b, enum batch base)
{
	double d[TRIAL_ROUNDS];

	for (uint32_t i = 0; i < t->rounds; i++) {
		d[i] = t->ns[b][i] - t->ns[base][i];
		if (isnan(d[i]))
			return NAN;
	}
	qsort(d, t->rounds, sizeof(d[0]), by_value);
	return t->rounds % 2 ? d[t->rounds / 2] : (d[t->rounds / 2 - 1] + d[t->rounds / 2]) / 2;
}

/* What is too small to be told from noise, or beyond belief, is at the bound. */
static double bounded(double ns)
{
	if (isnan(ns))
		return ns;
	return ns < COST_MIN_NS ? COST_MIN_NS : ns > COST_MAX_NS ? COST_MAX_NS : ns;
}

int trial_costs(const struct trial *t, bool session, struct hit_costs *ret)
{
	if (!t->rounds || t->rounds > TRIAL_ROUNDS)
		return -ENODATA;
	enum batch entry = session ? BATCH_SKIP : BATCH_EMULATED;
	/* Without sessions a return comes also for what was not sampled. */
	enum batch skipped = session ? BATCH_SKIP : BATCH_FULL;
	double emulated = beyond(t, BATCH_EMULATED, BATCH_BARE);
	if (!(emulated >= HIT_MIN_NS))
		return -ENODATA;
	*ret = (struct hit_costs){
		.emulated_ns = bounded(emulated),
		.stepped_ns = bounded(beyond(t, BATCH_STEPPED, BATCH_BARE)),
		.nop5_ns = bounded(beyond(t, BATCH_NOP5, BATCH_BARE)),
		.skip_ns = session ? bounded(beyond(t, BATCH_SKIP, BATCH_BARE)) : 0,
		.return_ns = bounded(beyond(t, BATCH_FULL, entry)),
		.body_skip_ns = bounded(beyond(t, BATCH_BODY_SKIP, skipped)),
		.body_count_ns = bounded(beyond(t, BATCH_BODY_COUNT, BATCH_FULL)),
		.body_free_ns = bounded(beyond(t, BATCH_BODY_FREE, BATCH_EMULATED)),
		.body_stack_ns = bounded(beyond(t, BATCH_BODY_STACK, BATCH_BODY_COUNT)),
		.body_python_ns = NAN,
	};
	return 0;
}
