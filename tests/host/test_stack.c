/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which stacks are the same, and what happens when they can't be stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"
#include "unwind_fixture.h"

#define LEAF (PROG_TEXT + 0x100)
#define FRAME_AT(n) (PROG_TEXT + 0x1000 + (uint64_t)(n)*16)
#define P1 (HEAP_BASE + 0x1000)
#define P2 (HEAP_BASE + 0x2000)

/* The world's own program, called through its allocator. */
static int setup_world(void **state)
{
	(void)state;
	world_init(true);
	f.p = process_new();
	f.th = f.p->leader;
	be(f.th);
	process_follow(f.p, PROC_HEAP | PROC_FOLLOW);
	f.pr = proc_of(f.p);
	return 0;
}

static void frames(int n)
{
	for (int i = 0; i < n; i++)
		frame_enter(f.th, FRAME_AT(i));
}

/* The stack of a block that is allocated now. */
static const struct stack *capture(uint64_t addr)
{
	call(f.th, &fn_malloc, LEAF, ARGS(8), addr);
	return stack_at(account_of(f.p), addr);
}

static uint64_t id_at(uint64_t addr)
{
	return stack_id_at(account_of(f.p), addr);
}

static void test_complete(void **state)
{
	(void)state;
	frames(10);
	const struct stack *st = capture(P1);
	struct proc_key id = id_of(f.p);

	assert_int_equal(st->n_ips, 11);
	assert_int_equal(st->ip[0], LEAF);
	for (int i = 0; i < 10; i++)
		assert_int_equal(st->ip[1 + i], FRAME_AT(9 - i));
	assert_int_equal(st->cut, CUT_NONE);
	assert_int_equal(st->site, fn_malloc.cookie.site);
	assert_true(id_equal(&st->first_seen_in, &id));
	assert_int_equal(stack_ids_at(account_of(f.p), P1).python, 0);
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
	for (int i = 0; i < 5; i++)
		frame_enter(other, FRAME_AT(i));
	other->sp -= 64;
	call(other, &fn_malloc, LEAF, ARGS(8), P1 + 64);
	assert_int_equal(id_at(P1 + 64), id_at(P1));
	assert_int_equal(stat_all().defined, 1);
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
	poke(f.th, f.th->bp, 1); /* how it ends */
	capture(P2 + 256);
	id[5] = id_at(P2 + 256);
	be(q->leader);
	process_follow(q, PROC_HEAP); /* image */
	frame_enter(q->leader, FRAME_AT(0));
	frame_enter(q->leader, FRAME_AT(1));
	call(q->leader, &fn_malloc, LEAF, ARGS(8), P1);
	id[6] = stack_id_at(account_of(q), P1);
	be(f.th);
	struct stack_ids ids = stack_ids_at(account_of(f.p), P1);
	id[7] = stack_id_of(ids.native, 0, 0, LAYER_MAP); /* layer */
	for (int i = 0; i < NR; i++)
		for (int k = 0; k < i; k++)
			assert_int_not_equal(id[i], id[k]);
	assert_int_equal(host_map_of(&stacks)->n, NR - 1);
}

/* Sums of one thread each, of one stack. */
static void test_by_thread(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	config_set((struct config){ .by_thread = 1 });
	frames(2);
	capture(P1);
	frame_enter(other, FRAME_AT(0));
	frame_enter(other, FRAME_AT(1));
	call(other, &fn_malloc, LEAF, ARGS(8), P2);
	assert_int_not_equal(id_at(P1), id_at(P2));
	assert_int_equal(stack_ids_at(account_of(f.p), P1).native, stack_ids_at(account_of(f.p), P2).native);
	assert_int_equal(sum_at(live_at(account_of(f.p), P2)->sum)->tid, other->task.pid);
}

/* A forked child has the parent's image: its stacks are the parent's. */
static void test_child_shares_stacks(void **state)
{
	(void)state;
	frames(3);
	capture(P1);
	struct process *child = process_fork(f.th, false);

	call(child->leader, &fn_malloc, LEAF, ARGS(8), P2);
	assert_int_equal(stack_id_at(account_of(child), P2), id_at(P1));
	assert_int_equal(host_map_of(&stacks)->n, 1);
	assert_int_equal(proc_of(child)->layout, world.layout);
	process_exec(child->leader);
	assert_int_equal(proc_of(f.p)->layout, world.layout);
}

/* exec: nothing is known of the new program. A child of vfork leaves its parent's alone. */
static void test_layout_of_image(void **state)
{
	(void)state;
	proc_exec(&f.th->task);
	assert_int_equal(proc_of(f.p)->layout, 0);
	proc_of(f.p)->layout_asked = 1;
	proc_exec(&f.th->task);
	assert_int_equal(proc_of(f.p)->layout_asked, 0);
	f.p->signal.live.counter = 1;
}

static void test_stacks_full(void **state)
{
	(void)state;
	host_map_of(&stacks)->max = 1;
	host_map_of(&more_stacks)->max = 0;
	frames(1);
	capture(P1);
	call(f.th, &fn_malloc, LEAF + 1, ARGS(8), P2);
	assert_int_equal(id_at(P2), LAYER_HEAP); /* "unknown" of its layer */
	assert_int_equal(loss_take(f.p, LOSS_STACKS_FULL), 1);
	EXPECT_SUMS(account_of(f.p), 0, ALLOCS(16, 2));
	capture(P1 + 64); /* a stack that is there is found as ever */
	assert_int_equal(id_at(P1 + 64), id_at(P1));
	/* It was not remembered: as soon as there is room it is stored. */
	host_map_of(&stacks)->max = 2;
	host_map_of(&more_stacks)->max = 0;
	call(f.th, &fn_malloc, LEAF + 1, ARGS(8), P2 + 64);
	assert_true(id_at(P2 + 64) > STACK_ID_LAYER_MASK);
}

/* Another CPU is first with the same stack, and it is gone again before it can be compared. */
static void test_first_elsewhere(void **state)
{
	(void)state;
	frames(1);
	host_map_of(&stacks)->fail_with = -EEXIST;
	host_map_of(&stacks)->fail_cnt = 1;
	call(f.th, &fn_malloc, LEAF, ARGS(8), P1);
	assert_int_equal(id_at(P1), LAYER_HEAP);
	assert_int_equal(loss_take(f.p, LOSS_STACKS_FULL), 1);
	capture(P2);
}

/* Two stacks of one hash: the second one is not shown as the first. */
static void expect_collision(void (*differ)(struct stack *st))
{
	uint64_t id;
	struct stack was, *st;

	WORDS(f.base, IN(F_LEAF), IN(F_SP), JIT, JIT, IN(F_END));
	id = hit(0);
	st = bpf_map_lookup_elem(&stacks, &id);
	was = *st;
	forget_stacks();
	differ(st);
	assert_int_equal(hit(0), 0);
	assert_int_equal(loss_take(f.p, LOSS_STACK_COLLISION), 1);
	assert_int_equal(hit(0), 0); /* not remembered */
	assert_int_equal(loss_take(f.p, LOSS_STACK_COLLISION), 1);
	*st = was;
	assert_int_equal(hit(0), id);
}

static void differ_in_caller(struct stack *st)
{
	st->ip[0]++;
}

static void differ_in_root(struct stack *st)
{
	st->ip[st->n_ips - 1]++;
}

static void differ_in_depth(struct stack *st)
{
	st->n_ips--;
}

static void differ_in_site(struct stack *st)
{
	st->site++;
}

static void differ_in_end(struct stack *st)
{
	st->cut = CUT_RULE;
}

static void test_collision(void **state)
{
	(void)state;
	expect_collision(differ_in_caller);
	expect_collision(differ_in_root);
	expect_collision(differ_in_depth);
	expect_collision(differ_in_site);
	expect_collision(differ_in_end);
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
	capture(P2 + 64); /* a remembered stack needs none */
	assert_int_equal(id_at(P2 + 64), id_at(P2));
	uint32_t last = SCRATCH_PER_CPU - 1;
	((struct scratch *)bpf_map_lookup_elem(&scratches, &last))->busy = 0;
	call(f.th, &fn_malloc, LEAF + 1, ARGS(8), P1 + 64);
	assert_true(id_at(P1 + 64) > STACK_ID_LAYER_MASK);
	for (uint32_t i = 0; i < last; i++)
		((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy = 0;
}

/* A slot that served a deep stack leaves nothing of it in the next one. */
static void test_scratch_reused(void **state)
{
	(void)state;
	struct jump j = jump_save(f.th);

	frames(50);
	poke(f.th, f.th->bp, 1); /* broken, so that its end differs as well */
	assert_int_equal(capture(P1)->cut, CUT_MEMORY);
	jump_to(f.th, j);
	const struct stack *st = capture(P2);
	assert_int_equal(st->n_ips, 1);
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

#define WORLD_TEST(name) \
	{ \
#name, name, setup_world, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_complete),     WORLD_TEST(test_same_stack),	     WORLD_TEST(test_different_stacks),
		WORLD_TEST(test_by_thread),    WORLD_TEST(test_child_shares_stacks), WORLD_TEST(test_layout_of_image),
		WORLD_TEST(test_stacks_full),  WORLD_TEST(test_first_elsewhere),     TEST(test_collision),
		WORLD_TEST(test_scratch_busy), WORLD_TEST(test_scratch_reused),	     WORLD_TEST(test_caller_unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
