/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mapping calls: what is told before the kernel acts, what after, and what of calls that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "mapping.bpf.h"
#include "world.h"
#include "books.h"

#define MAP_AT 0x7e0000000000ull
#define BRK_AT 0x20000000ull
#define SYSCALL_AT (SYSCALL_TEXT + 0x20)
#define SITE_A (PROG_TEXT + 0x1000)
#define MAIN_AT (PROG_TEXT + 0x100)
#define GARBAGE 0xdeadbeefull
#define ERROR(nr) ((uint64_t) - (nr))

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
	process_follow(f.p, PROC_MAP | PROC_FOLLOW);
	frame_enter(f.th, MAIN_AT);
	f.th->sp -= 32; /* locals */
	f.p->mm->brk = BRK_AT;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_null(host.ring);
	books_check();
	expect_no_loss();
	world_done();
	return 0;
}

/* The registers of a thread in a system call: the leaf is an instruction that ran. */
static void sys_enter(struct thread *th, uint32_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	/* The number is an int in a long's place. */
	struct trace_event_raw_sys_enter ctx = { .id = (long)(GARBAGE << 32 | nr), .args = { a, b, c, d, e, 0 } };

	th->user_regs = (struct pt_regs){ .ip = SYSCALL_AT, .bp = th->bp, .sp = th->sp };
	be(th);
	assert_int_equal(map_enter(&ctx), 0);
}

static void sys_exit(struct thread *th, uint32_t nr, uint64_t ret)
{
	struct trace_event_raw_sys_exit ctx = { .id = nr, .ret = (long)ret };

	be(th);
	assert_int_equal(map_exit(&ctx), 0);
}

static void expect_quiet(void)
{
	assert_null(host.ring);
}

static struct event take_woken(struct thread *th, enum event_kind kind, uint64_t want_wake)
{
	uint64_t wake;
	struct event *at = event_next(&wake), e;
	struct proc_key id = id_of(th->process);

	assert_non_null(at);
	e = *at;
	free(at);
	assert_int_equal(e.kind, kind);
	assert_int_equal(e.tid, th->task.pid);
	assert_true(id_equal(&e.id, &id));
	assert_in_range(e.ts_ns, 1, host.now_ns);
	assert_int_equal(wake, want_wake);
	return e;
}

static struct event take(struct thread *th, enum event_kind kind)
{
	return take_woken(th, kind, BPF_RB_NO_WAKEUP);
}

/* The first frame is an instruction that has not run: its address plus one is listed. */
static void expect_stack(struct stack_ids ids, uint16_t site)
{
	const struct stack *st = bpf_map_lookup_elem(&stacks, &ids.native);

	assert_non_null(st);
	assert_int_equal(ids.id & STACK_ID_LAYER_MASK, LAYER_MAP);
	assert_int_equal(ids.python, 0);
	assert_int_equal(st->site, site);
	assert_int_equal(st->n_ips, 2);
	assert_int_equal(st->ip[0], SYSCALL_AT + 1);
	assert_int_equal(st->ip[1], MAIN_AT);
	assert_int_equal(st->cut, CUT_NONE);
}

static void test_mmap(void **state)
{
	(void)state;
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, (uint32_t)-1);
	expect_quiet(); /* nothing is taken away before the call is done */
	sys_exit(f.th, NR_MMAP, MAP_AT);
	struct event e = take(f.th, EVENT_MMAP);
	assert_int_equal(e.map.addr, MAP_AT);
	assert_int_equal(e.map.bytes, 8192);
	assert_int_equal(e.map.prot, 3);
	assert_int_equal(e.map.mmap_flags, 0x22);
	assert_int_equal(e.map.fd, -1);
	expect_stack(e.map.ids, SITE_MMAP);
	sys_enter(f.th, NR_MMAP, MAP_AT, 4096, 1, 0x12, 5);
	sys_exit(f.th, NR_MMAP, MAP_AT);
	assert_int_equal(take(f.th, EVENT_MMAP).map.fd, 5);
}

static void test_mmap_fails(void **state)
{
	(void)state;
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_exit(f.th, NR_MMAP, ERROR(ENOMEM));
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_exit(f.th, NR_MMAP, ERROR(MAX_ERRNO));
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_exit(f.th, NR_MMAP, ERROR(1));
	expect_quiet();
	sys_exit(f.th, NR_MMAP, MAP_AT); /* an exit without its entry */
	expect_quiet();
}

/* Code that appears wakes user space, which looks for allocators in it. */
static void test_mmap_of_code(void **state)
{
	(void)state;
	sys_enter(f.th, NR_MMAP, 0, 8192, 5, 2, 3);
	sys_exit(f.th, NR_MMAP, MAP_AT);
	take_woken(f.th, EVENT_MMAP, BPF_RB_FORCE_WAKEUP);
}

static void test_ring_fills(void **state)
{
	(void)state;
	host.ring_avail = 1 << 20;
	sys_enter(f.th, NR_MUNMAP, MAP_AT, 4096, GARBAGE, GARBAGE, GARBAGE);
	sys_exit(f.th, NR_MUNMAP, 0);
	take_woken(f.th, EVENT_MUNMAP, BPF_RB_FORCE_WAKEUP);
}

static void test_munmap(void **state)
{
	(void)state;
	/* What stands behind the call's own arguments is whatever the registers held. */
	sys_enter(f.th, NR_MUNMAP, MAP_AT, 4096, GARBAGE, GARBAGE, GARBAGE);
	struct event e = take(f.th, EVENT_MUNMAP); /* before the kernel acts */
	assert_int_equal(e.map.addr, MAP_AT);
	assert_int_equal(e.map.bytes, 4096);
	assert_int_equal(e.map.old_addr, MAP_AT);
	assert_int_equal(e.map.old_bytes, 4096);
	assert_int_equal(e.map.mmap_flags, 0);
	sys_exit(f.th, NR_MUNMAP, 0);
	expect_quiet();
	sys_enter(f.th, NR_MUNMAP, MAP_AT + 1, 4096, GARBAGE, GARBAGE, GARBAGE);
	take(f.th, EVENT_MUNMAP);
	sys_exit(f.th, NR_MUNMAP, ERROR(EINVAL));
	e = take(f.th, EVENT_UNDO);
	assert_int_equal(e.map.old_addr, MAP_AT + 1);
	assert_int_equal(e.map.old_bytes, 4096);
	sys_exit(f.th, NR_MUNMAP, ERROR(EINVAL));
	expect_quiet();
}

static void test_mremap(void **state)
{
	(void)state;
	sys_enter(f.th, NR_MREMAP, MAP_AT, 4096, 16384, 1, GARBAGE);
	struct event e = take(f.th, EVENT_MREMAP);
	assert_int_equal(e.map.old_addr, MAP_AT);
	assert_int_equal(e.map.old_bytes, 4096);
	assert_int_equal(e.map.mmap_flags, 1);
	sys_exit(f.th, NR_MREMAP, MAP_AT + 0x100000);
	e = take(f.th, EVENT_MREMAP_DONE);
	assert_int_equal(e.map.addr, MAP_AT + 0x100000);
	assert_int_equal(e.map.bytes, 16384);
	assert_int_equal(e.map.old_addr, MAP_AT);
	assert_int_equal(e.map.old_bytes, 4096);
	expect_stack(e.map.ids, SITE_MREMAP);
	sys_enter(f.th, NR_MREMAP, MAP_AT, 4096, 16384, 0, GARBAGE);
	take(f.th, EVENT_MREMAP);
	sys_exit(f.th, NR_MREMAP, ERROR(ENOMEM));
	e = take(f.th, EVENT_UNDO);
	assert_int_equal(e.map.old_addr, MAP_AT);
	assert_int_equal(e.map.old_bytes, 4096);
}

static void do_brk(uint64_t asked, uint64_t result)
{
	sys_enter(f.th, NR_BRK, asked, GARBAGE, GARBAGE, GARBAGE, GARBAGE);
	f.p->mm->brk = result;
	sys_exit(f.th, NR_BRK, result);
}

static void test_brk(void **state)
{
	(void)state;
	do_brk(0, BRK_AT); /* asks only */
	do_brk(BRK_AT, BRK_AT);
	do_brk(BRK_AT + (1ull << 50), BRK_AT); /* fails: the end stays */
	expect_quiet();
	do_brk(BRK_AT + 8192, BRK_AT + 8192);
	struct event e = take(f.th, EVENT_BRK);
	assert_int_equal(e.map.addr, BRK_AT + 8192);
	assert_int_equal(e.map.old_addr, BRK_AT);
	expect_stack(e.map.ids, SITE_BRK);
	do_brk(BRK_AT + 4096, BRK_AT + 4096);
	e = take(f.th, EVENT_BRK);
	assert_int_equal(e.map.addr, BRK_AT + 4096);
	assert_int_equal(e.map.old_addr, BRK_AT + 8192);
}

/* Two threads in calls at once: each has its own record. */
static void test_threads(void **state)
{
	(void)state;
	struct thread *other = thread_new(f.p);

	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_enter(other, NR_MUNMAP, MAP_AT, 4096, 0, 0, 0);
	take(other, EVENT_MUNMAP);
	sys_exit(f.th, NR_MMAP, MAP_AT);
	assert_int_equal(take(f.th, EVENT_MMAP).map.bytes, 8192);
	sys_exit(other, NR_MUNMAP, ERROR(EINVAL));
	take(other, EVENT_UNDO);
}

static void test_not_followed(void **state)
{
	(void)state;
	struct process *stranger = process_new();

	sys_enter(stranger->leader, NR_MUNMAP, MAP_AT, 4096, 0, 0, 0);
	sys_exit(stranger->leader, NR_MUNMAP, ERROR(EINVAL));
	proc_of(f.p)->flags = PROC_HEAP;
	sys_enter(f.th, NR_MUNMAP, MAP_AT, 4096, 0, 0, 0);
	sys_exit(f.th, NR_MUNMAP, ERROR(EINVAL));
	expect_quiet();
}

/* The flag comes and goes while calls are under way: an exit whose entry was not seen says nothing. */
static void test_flag_changes(void **state)
{
	(void)state;
	struct proc *pr = proc_of(f.p);

	sys_enter(f.th, NR_MUNMAP, MAP_AT, 4096, 0, 0, 0);
	take(f.th, EVENT_MUNMAP);
	pr->flags &= ~PROC_MAP;
	sys_exit(f.th, NR_MUNMAP, 0);
	sys_enter(f.th, NR_MMAP, 0, 1ull << 50, 3, 0x22, 0);
	pr->flags |= PROC_MAP;
	sys_exit(f.th, NR_MMAP, ERROR(ENOMEM));
	expect_quiet();
}

static void test_ring_full(void **state)
{
	(void)state;
	host.ring_full = true;
	sys_enter(f.th, NR_MUNMAP, MAP_AT, 4096, 0, 0, 0);
	assert_int_equal(loss_take(f.p, LOSS_RING_FULL), 1);
	sys_exit(f.th, NR_MUNMAP, 0);
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_exit(f.th, NR_MMAP, MAP_AT);
	assert_int_equal(loss_take(f.p, LOSS_RING_FULL), 1);
}

static void test_no_thread_state(void **state)
{
	(void)state;
	host.no_task_storage = true;
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_exit(f.th, NR_MMAP, MAP_AT);
	assert_int_equal(loss_take(f.p, LOSS_THREAD_STATE), 1);
	expect_quiet();
}

static struct stack_ids mmap_stack(void)
{
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_exit(f.th, NR_MMAP, MAP_AT);
	return take(f.th, EVENT_MMAP).map.ids;
}

/* push rbp; mov rbp, rsp; syscall: the frame lies where the stack pointer points. */
static void test_frame_at_stack_pointer(void **state)
{
	(void)state;
	frame_enter(f.th, SITE_A);
	struct stack_ids ids = mmap_stack();
	const struct stack *st = bpf_map_lookup_elem(&stacks, &ids.native);

	assert_non_null(st);
	assert_int_equal(st->n_ips, 3);
	assert_int_equal(st->ip[1], SITE_A);
	assert_int_equal(st->ip[2], MAIN_AT);
}

/* A return that is not that of the call whose entry was seen: it would be told with the other's arguments. */
static void test_other_exit(void **state)
{
	(void)state;
	sys_exit(f.th, NR_MMAP, MAP_AT); /* attached in between */
	sys_enter(f.th, NR_MMAP, 0, 8192, 3, 0x22, (uint32_t)-1);
	sys_exit(f.th, NR_BRK, BRK_AT + 4096);
	expect_quiet();
	sys_exit(f.th, NR_MMAP, MAP_AT);
	assert_int_equal(take(f.th, EVENT_MMAP).map.bytes, 8192);
	sys_exit(f.th, NR_MMAP, MAP_AT);
	expect_quiet();
}

/* A child of vfork maps into its parent's memory. */
static void test_vfork(void **state)
{
	(void)state;
	struct process *c = process_fork(f.th, true);
	uint64_t wake;

	free(event_next(&wake));
	sys_enter(c->leader, NR_MMAP, 0, 8192, 3, 0x22, 0);
	sys_exit(c->leader, NR_MMAP, MAP_AT);
	struct proc_key parent = id_of(f.p);
	struct event e = take(c->leader, EVENT_MMAP);
	assert_true(id_equal(&e.id, &parent));
}

#define TEST(name) \
	{ \
#name, name, setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mmap),
		TEST(test_mmap_fails),
		TEST(test_mmap_of_code),
		TEST(test_ring_fills),
		TEST(test_munmap),
		TEST(test_mremap),
		TEST(test_brk),
		TEST(test_threads),
		TEST(test_not_followed),
		TEST(test_flag_changes),
		TEST(test_ring_full),
		TEST(test_no_thread_state),
		TEST(test_frame_at_stack_pointer),
		TEST(test_vfork),
		TEST(test_other_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
