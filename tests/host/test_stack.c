/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks: how far a walk goes, what ends it, and which stacks are the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"

#define FRAME_AT(n) (PROG_TEXT + 0x1000 + (uint64_t)(n)*16)
#define LEAF (PROG_TEXT + 0x100)
#define P1 (HEAP_BASE + 0x1000)
#define P2 (HEAP_BASE + 0x2000)

struct fixture {
	struct process *p;
	struct thread *th;
};

static struct fixture f;

static int setup(void **state)
{
	(void)state;
	world_init(true);
	f.p = process_new();
	f.th = f.p->leader;
	be(f.th);
	process_follow(f.p, PROC_HEAP | PROC_FOLLOW);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	books_check();
	expect_no_loss();
	world_done();
	return 0;
}

static void know_text(void)
{
	struct proc *p = proc_of(f.p);

	p->exe_start = PROG_TEXT;
	p->exe_end = PROG_END;
	p->lib_start = LIBC_TEXT;
	p->lib_end = LIBC_END;
}

static void frames(int n)
{
	for (int i = 0; i < n; i++)
		frame_enter(f.th, FRAME_AT(i));
}

/* The stack of a block that is allocated now. */
static const struct stack *capture(uint64_t addr)
{
	uint64_t slot = f.th->sp - 8;
	struct stack_start from = { .slot = slot, .fp = f.th->bp, .below = slot, .site = fn_malloc.cookie.site };

	call(f.th, &fn_malloc, LEAF, ARGS(8), addr);
	/* Looked up by a hash that is made in another way than the definition. */
	poke(f.th, slot, LEAF);
	assert_int_equal(stack_hash(proc_of(f.p), &from, LAYER_HEAP), stack_id_at(account_of(f.p), addr));
	return stack_at(account_of(f.p), addr);
}

/* ip[1] is the innermost frame's return address. */
static void expect_frames(const struct stack *st, int first, int n)
{
	assert_int_equal(st->n_ips, n + 1);
	assert_int_equal(st->ip[0], LEAF);
	for (int i = 0; i < n; i++)
		assert_int_equal(st->ip[1 + i], FRAME_AT(first - i));
}

static void test_complete(void **state)
{
	(void)state;
	frames(10);
	const struct stack *st = capture(P1);

	expect_frames(st, 9, 10);
	assert_int_equal(st->cut, CUT_NONE);
	assert_int_equal(st->site, fn_malloc.cookie.site);
	struct proc_key id = id_of(f.p);
	assert_true(id_equal(&st->first_seen_in, &id));
}

/* A thread's first function allocates: no frame, nothing missing. */
static void test_no_frame(void **state)
{
	(void)state;
	const struct stack *st = capture(P1);

	expect_frames(st, 0, 0);
	assert_int_equal(st->cut, CUT_NONE);
}

/* The word stands in place of the frame pointer that the fifth frame of ten saved. */
static void expect_broken(uint64_t word)
{
	uint64_t at = f.th->bp;

	for (int i = 0; i < 4; i++)
		at = peek(f.th, at);
	uint64_t was = peek(f.th, at);
	poke(f.th, at, word);
	const struct stack *st = capture(P1);
	/* The frame that holds the word is good; what it leads to is not followed. */
	expect_frames(st, 9, 5);
	assert_int_equal(st->cut, CUT_NO_ROW);
	poke(f.th, at, was);
	call(f.th, &fn_free, LEAF, ARGS(P1), 0);
}

static void test_broken_chain(void **state)
{
	(void)state;
	frames(10);
	uint64_t self = f.th->bp;

	for (int i = 0; i < 4; i++)
		self = peek(f.th, self);
	uint64_t above = peek(f.th, self);
	expect_broken(1);
	expect_broken(UINT64_MAX);
	expect_broken(above + 4); /* not aligned */
	expect_broken(above - 1);
	expect_broken(self);	 /* leads to itself */
	expect_broken(f.th->bp); /* down: round in a circle */
	expect_broken(f.th->sp - 8);
	expect_broken(self + FRAME_SPAN_MAX + 8); /* too large */
	expect_broken(stack_top(f.th) + 4096);	  /* not mapped */
	expect_broken(stack_top(f.th) - 8);	  /* mapped half */
	expect_broken(PROG_TEXT);
}

static void test_largest_frame(void **state)
{
	(void)state;
	frames(2);
	uint64_t far = f.th->sp - 8 + FRAME_SPAN_MAX; /* as seen from the slot of the call */

	host_map_region(f.p->mm, far, 16);
	poke(f.th, far + 8, FRAME_AT(7));
	f.th->bp = far;
	const struct stack *st = capture(P1);
	expect_frames(st, 7, 1);
	assert_int_equal(st->cut, CUT_NONE);
	f.th->bp = far + 8;
	host_map_region(f.p->mm, far + 16, 16);
	expect_frames(capture(P2), 0, 0);
}

static void expect_first_frame_refused(uint64_t word)
{
	uint64_t was = peek(f.th, f.th->bp + 8);

	poke(f.th, f.th->bp + 8, word);
	const struct stack *st = capture(P1);
	expect_frames(st, 0, 0);
	assert_int_equal(st->cut, CUT_NO_ROW);
	poke(f.th, f.th->bp + 8, was);
	call(f.th, &fn_free, LEAF, ARGS(P1), 0);
}

static void test_data_for_code(void **state)
{
	(void)state;
	frames(3);
	expect_first_frame_refused(0);
	expect_first_frame_refused(USER_ADDR_MIN - 1);
	expect_first_frame_refused(USER_ADDR_MAX);
	expect_first_frame_refused(~0ull << 47);
	/* As long as the text is not known, any other user address may be code. */
	poke(f.th, f.th->bp + 8, HEAP_BASE);
	assert_int_equal(capture(P1)->ip[1], HEAP_BASE);
	call(f.th, &fn_free, LEAF, ARGS(P1), 0);
	know_text();
	expect_first_frame_refused(HEAP_BASE);
	expect_first_frame_refused(PROG_TEXT - 1);
	expect_first_frame_refused(PROG_END);
	expect_first_frame_refused(LIBC_TEXT - 1);
	expect_first_frame_refused(LIBC_END);
	expect_first_frame_refused(f.th->sp);
	poke(f.th, f.th->bp + 8, LIBC_END - 1);
	assert_int_equal(capture(P2)->ip[1], LIBC_END - 1);
}

/* The text of the image before an exec says nothing of the next one; a forked child has its parent's. */
static void test_text_of_image(void **state)
{
	(void)state;
	know_text();
	struct process *child = process_fork(f.th, false);
	assert_int_equal(proc_of(child)->exe_end, PROG_END);
	assert_int_equal(proc_of(child)->lib_start, LIBC_TEXT);
	process_exec(child->leader);
	assert_int_equal(proc_of(child)->lib_end, 0);
	assert_int_equal(proc_of(f.p)->lib_end, LIBC_END);
}

static void test_depth(void **state)
{
	(void)state;
	frames(STACK_MAX_FRAMES - 1); /* with the caller that is the most */
	const struct stack *st = capture(P1);

	expect_frames(st, STACK_MAX_FRAMES - 2, STACK_MAX_FRAMES - 1);
	assert_int_equal(st->cut, CUT_NONE);
	frame_enter(f.th, FRAME_AT(STACK_MAX_FRAMES - 1));
	st = capture(P2);
	expect_frames(st, STACK_MAX_FRAMES - 1, STACK_MAX_FRAMES - 1);
	assert_int_equal(st->cut, CUT_DEPTH);
	assert_int_equal(loss_take(f.p, LOSS_STACK_TRUNCATED), 1);
}

/* Frames around the end of what is read of the stack at once, and a stack that ends before that. */
static void test_copied_frames(void **state)
{
	(void)state;
	f.th->sp -= 4 * COPY_WORDS * 8;
	frame_enter(f.th, FRAME_AT(0));
	uint64_t outer = f.th->bp;
	for (uint64_t words = 2; words < 2 * COPY_WORDS; words++) {
		struct jump j = { outer - words * 8, outer };
		for (uint64_t between = 1; between < words - 1; between++) {
			jump_to(f.th, j);
			uint64_t fp = f.th->sp - 8 + between * 8;
			poke(f.th, fp, outer);
			poke(f.th, fp + 8, FRAME_AT(1));
			f.th->bp = fp;
			if (fp + 8 < outer) {
				expect_frames(capture(P1), 1, 2);
				call(f.th, &fn_free, LEAF, ARGS(P1), 0);
			}
		}
	}
	assert_int_equal(host_map_of(&stacks)->n, 1); /* the same, wherever the frames lie */
	for (uint64_t left = 1; left < 2 * COPY_WORDS; left++) {
		f.th->sp = stack_top(f.th) - (left + 2) * 8;
		f.th->bp = 0;
		frame_enter(f.th, FRAME_AT(1));
		expect_frames(capture(P1), 1, 1);
		call(f.th, &fn_free, LEAF, ARGS(P1), 0);
	}
}

static uint64_t id_at(uint64_t addr)
{
	return stack_id_at(account_of(f.p), addr);
}

static void test_same_stack(void **state)
{
	(void)state;
	frames(5);
	capture(P1);
	capture(P2);
	assert_int_equal(id_at(P1), id_at(P2));
	assert_int_equal(host_map_of(&stacks)->n, 1);
	assert_int_equal(id_at(P1) & STACK_ID_LAYER_MASK, LAYER_HEAP);
	assert_true(id_at(P1) > STACK_ID_LAYER_MASK);
	/* Same frames at another depth of the stack, in another thread: the same. */
	struct thread *other = thread_new(f.p);
	push(other, 0);
	for (int i = 0; i < 5; i++)
		frame_enter(other, FRAME_AT(i));
	call(other, &fn_malloc, LEAF, ARGS(8), P1 + 64);
	assert_int_equal(id_at(P1 + 64), id_at(P1));
}

static void test_different_stacks(void **state)
{
	(void)state;
	enum { NR = 8 };
	uint64_t id[NR];
	struct process *q = process_new();

	frames(3);
	capture(P1);
	id[0] = id_at(P1);
	call(f.th, &fn_calloc, LEAF, ARGS(1, 8), P2); /* site */
	id[1] = id_at(P2);
	call(f.th, &fn_malloc, LEAF + 1, ARGS(8), P2 + 64); /* caller */
	id[2] = id_at(P2 + 64);
	poke(f.th, f.th->bp + 8, FRAME_AT(9)); /* frame */
	capture(P2 + 128);
	id[3] = id_at(P2 + 128);
	poke(f.th, f.th->bp + 8, FRAME_AT(2));
	frame_leave(f.th); /* depth */
	capture(P2 + 192);
	id[4] = id_at(P2 + 192);
	be(q->leader);
	process_follow(q, PROC_HEAP); /* image */
	frame_enter(q->leader, FRAME_AT(0));
	frame_enter(q->leader, FRAME_AT(1));
	call(q->leader, &fn_malloc, LEAF, ARGS(8), P1);
	id[5] = stack_id_at(account_of(q), P1);
	struct stack_start from = { .leaf = LEAF, .site = SITE_BRK };
	be(f.th);
	id[6] = stack_capture(proc_of(f.p), &from, LAYER_MAP); /* layer */
	id[7] = stack_capture(proc_of(f.p), &from, LAYER_HEAP);
	for (int i = 0; i < NR; i++)
		for (int k = 0; k < i; k++)
			assert_int_not_equal(id[i], id[k]);
	assert_int_equal(host_map_of(&stacks)->n, NR);
}

/* A forked child has the parent's image: its stacks are the parent's. */
static void test_child_shares_stacks(void **state)
{
	(void)state;
	frames(3);
	capture(P1);
	struct process *child = process_fork(f.th, false);

	child->leader->bp = f.th->bp;
	child->leader->sp = f.th->sp;
	call(child->leader, &fn_malloc, LEAF, ARGS(8), P2);
	assert_int_equal(stack_id_at(account_of(child), P2), id_at(P1));
	assert_int_equal(host_map_of(&stacks)->n, 1);
}

static void test_stacks_full(void **state)
{
	(void)state;
	host_map_of(&stacks)->max = 1;
	frames(1);
	capture(P1);
	call(f.th, &fn_malloc, LEAF + 1, ARGS(8), P2);
	assert_int_equal(id_at(P2), LAYER_HEAP); /* "unknown" of its layer */
	assert_int_equal(loss_take(f.p, LOSS_STACKS_FULL), 1);
	EXPECT_SUMS(account_of(f.p), 0, ALLOCS(16, 2));
	capture(P1 + 64); /* a stack that is there is found as ever */
	assert_int_equal(id_at(P1 + 64), id_at(P1));
}

static void test_scratch_busy(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < SCRATCH_PER_CPU; i++)
		((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy = 1;
	frames(1);
	call(f.th, &fn_malloc, LEAF, ARGS(8), P1);
	assert_int_equal(id_at(P1), LAYER_HEAP);
	assert_int_equal(loss_take(f.p, LOSS_SCRATCH_BUSY), 1);
	host_cpu = 1; /* other CPUs have their own */
	call(f.th, &fn_malloc, LEAF, ARGS(8), P2);
	assert_true(id_at(P2) > STACK_ID_LAYER_MASK);
	host_cpu = 0;
	uint32_t last = SCRATCH_PER_CPU - 1;
	((struct scratch *)bpf_map_lookup_elem(&scratches, &last))->busy = 0;
	capture(P1 + 64);
	assert_int_equal(id_at(P1 + 64), id_at(P2));
	for (uint32_t i = 0; i < last; i++)
		((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy = 0;
}

/* A slot that served a deep stack leaves nothing of it in the next one. */
static void test_scratch_reused(void **state)
{
	(void)state;
	frames(50);
	poke(f.th, f.th->bp, 1); /* broken, so that flags differ as well */
	capture(P1);
	f.th->bp = 0;
	const struct stack *st = capture(P2);
	expect_frames(st, 0, 0);
	assert_int_equal(st->cut, CUT_NONE);
}

static void test_caller_unreadable(void **state)
{
	(void)state;
	struct pt_regs regs = { .di = 8, .sp = 0x1000, .ip = fn_malloc.ip };

	be(f.th);
	assert_int_equal(alloc_enter(&regs, &fn_malloc.cookie), WANT_RETURN);
	assert_int_equal(loss_take(f.p, LOSS_USER_READ), 1);
}

#define TEST(name) \
	{ \
#name, name, setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_complete),
		TEST(test_no_frame),
		TEST(test_broken_chain),
		TEST(test_largest_frame),
		TEST(test_data_for_code),
		TEST(test_text_of_image),
		TEST(test_depth),
		TEST(test_copied_frames),
		TEST(test_same_stack),
		TEST(test_different_stacks),
		TEST(test_child_shares_stacks),
		TEST(test_stacks_full),
		TEST(test_scratch_busy),
		TEST(test_scratch_reused),
		TEST(test_caller_unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
