/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which processes are followed, from birth to death, and what user space is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"

#define SITE_A (PROG_TEXT + 0x1000)
#define P1 (HEAP_BASE + 0x1000)
#define CGROUP 4711
#define LEVEL 2

static const struct proc_key none;

static int setup(void **state)
{
	(void)state;
	world_init(true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_null(host.ring); /* tests take all events that they cause */
	books_check();
	expect_no_loss();
	world_done();
	return 0;
}

static struct process *followed(uint32_t flags)
{
	struct process *p = process_new();

	be(p->leader);
	process_follow(p, flags);
	return p;
}

/* The next event, which is about life and wakes user space. */
static struct event take_event(enum event_kind kind, uint32_t tid)
{
	uint64_t wake;
	struct event *at = event_next(&wake), e;

	assert_non_null(at);
	e = *at;
	free(at);
	assert_int_equal(e.kind, kind);
	assert_int_equal(e.tid, tid);
	assert_int_equal(wake, BPF_RB_FORCE_WAKEUP);
	assert_in_range(e.ts_ns, 1, host.now_ns);
	return e;
}

static struct event take_life(enum event_kind kind, const struct process *by, struct proc_key id, struct proc_key other)
{
	struct event e = take_event(kind, (uint32_t)by->leader->task.pid);

	assert_true(id_equal(&e.id, &id));
	assert_true(id_equal(&e.life.other, &other));
	return e;
}

static void test_identity(void **state)
{
	(void)state;
	struct process *p = process_new();
	struct task_struct *t = &p->leader->task;

	t->start_boottime = 123 * NS_PER_TICK + NS_PER_TICK - 1; /* /proc/PID/stat rounds down */
	assert_int_equal(start_ticks_of(t), 123);
}

static void test_fork(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_MAP | PROC_FOLLOW | PROC_LATE | PROC_NAMED | PROC_NO_RETURN);

	proc_of(p)->losses[LOSS_MISSED_FREE] = 3;
	struct process *c = process_fork(p->leader, false);
	const struct proc *cp = proc_of(c);

	assert_int_equal(cp->flags, PROC_HEAP | PROC_MAP | PROC_FOLLOW | PROC_NO_RETURN);
	assert_int_equal(cp->id.pid, c->pid);
	assert_int_equal(cp->id.start_ticks, 1000 + c->pid);
	assert_int_equal(cp->id.image, id_of(p).image);
	assert_int_equal(cp->ppid, p->pid);
	assert_int_equal(cp->losses[LOSS_MISSED_FREE], 0);
	struct event e = take_life(EVENT_FORK, p, id_of(c), id_of(p));
	assert_int_equal(e.life.flags, cp->flags);
	(void)loss_take(p, LOSS_MISSED_FREE);
	struct process *grandchild = process_fork(c->leader, false);
	take_life(EVENT_FORK, c, id_of(grandchild), id_of(c));
}

static void test_fork_not_followed(void **state)
{
	(void)state;
	struct process *stranger = process_new();
	struct process *alone = followed(PROC_HEAP);

	assert_null(proc_of(process_fork(stranger->leader, false)));
	assert_null(proc_of(process_fork(alone->leader, false)));
}

static void test_follow_all(void **state)
{
	(void)state;
	config_set((struct config){ .follow_all_flags = PROC_MAP | PROC_FOLLOW });
	struct process *stranger = process_new();
	struct process *c = process_fork(stranger->leader, false);

	assert_int_equal(proc_of(c)->flags, PROC_MAP | PROC_FOLLOW);
	take_life(EVENT_FORK, stranger, id_of(c), none);
	struct process *d = process_fork(stranger->leader, false);
	take_life(EVENT_FORK, stranger, id_of(d), none);
	assert_int_not_equal(id_of(c).image, id_of(d).image);
	process_exec(stranger->leader); /* one that was born before */
	take_life(EVENT_EXEC, stranger, id_of(stranger), none);
	assert_int_equal(proc_of(stranger)->flags, PROC_MAP | PROC_FOLLOW);
}

static void test_vfork(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);
	struct proc_key parent = id_of(p);
	struct process *c = process_fork(p->leader, true);
	struct proc_key child = id_of(c);

	assert_true(id_equal(&child, &parent)); /* the account is the memory's owner's */
	struct event e = take_life(EVENT_FORK, p, parent, parent);
	assert_true(e.life.flags & PROC_BORROWS_MM);
	process_exec(c->leader);
	child = id_of(c);
	assert_int_equal(child.pid, c->pid);
	assert_int_equal(child.start_ticks, 1000 + c->pid);
	assert_int_not_equal(child.image, parent.image);
	e = take_life(EVENT_EXEC, c, child, none); /* the parent's image has not ended */
	assert_false(e.life.flags & PROC_BORROWS_MM);
	parent = id_of(p);
	assert_int_equal(parent.pid, p->pid);
}

/* A child that shares memory ends without an exec: the flag tells that the account goes on. */
static void test_vfork_exits(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);
	struct process *c = process_fork(p->leader, true);

	take_life(EVENT_FORK, p, id_of(p), id_of(p));
	thread_exit(c->leader);
	assert_true(take_event(EVENT_EXIT, c->pid).final.flags & PROC_BORROWS_MM);
	assert_null(proc_of(c));
	assert_non_null(proc_of(p));
	assert_false(proc_of(p)->flags & PROC_BORROWS_MM);
}

/* What the child does to the shared heap changes what the owner holds now, and its peak. */
static void test_vfork_live_bytes(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);
	struct process *c = process_fork(p->leader, true);

	take_life(EVENT_FORK, p, id_of(p), id_of(p));
	call(c->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	call(p->leader, &fn_free, SITE_A, ARGS(P1), 0);
	assert_int_equal(proc_of(p)->live_bytes[LAYER_HEAP], 0);
}

/* Losses too: the child's own record is not looked at as long as it has the owner's memory. */
static void test_vfork_losses(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);
	struct process *c = process_fork(p->leader, true);

	take_life(EVENT_FORK, p, id_of(p), id_of(p));
	call(c->leader, &fn_free, SITE_A, ARGS(P1), 0);
	assert_int_equal(loss_take(c, LOSS_UNMATCHED_FREE), 0);
	assert_int_equal(loss_take(p, LOSS_UNMATCHED_FREE), 1);
	proc_of(p)->flags |= PROC_NO_RETURN; /* learned while the child is there: holds for both */
	call(c->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	assert_int_equal(loss_take(p, LOSS_RETURN_UNSAFE), 1);
	EXPECT_SUMS(account_of(p), 0, ALLOCS(100, 1), UNTRACKED(100, 1));
	process_exec(c->leader);
	take_event(EVENT_EXEC, c->pid);
}

/* It is killed inside a realloc, and another thread of its parent has been given the block's place meanwhile. */
static void test_vfork_killed_in_call(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);
	struct thread *other = thread_new(p);

	call(p->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	struct process *c = process_fork(p->leader, true);
	take_life(EVENT_FORK, p, id_of(p), id_of(p));
	call(c->leader, &fn_malloc, SITE_A, ARGS(1), P1 + 64);
	call_begin(c->leader, &fn_realloc, SITE_A, ARGS(P1, 200));
	call(other, &fn_malloc, SITE_A, ARGS(50), P1);
	thread_exit(c->leader);
	take_event(EVENT_EXIT, c->pid);
	EXPECT_SUMS(account_of(p), 0, ALLOCS(151, 3), FREES(100, 1));
	assert_int_equal(proc_of(p)->live_bytes[LAYER_HEAP], 51);
}

/* Losses are the process's, through all of its images; a child of vfork begins with none. */
static void test_exec_keeps_losses(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);

	call(p->leader, &fn_free, SITE_A, ARGS(P1), 0);
	struct process *c = process_fork(p->leader, true);
	take_life(EVENT_FORK, p, id_of(p), id_of(p));
	process_exec(c->leader);
	take_event(EVENT_EXEC, c->pid);
	assert_int_equal(loss_take(c, LOSS_UNMATCHED_FREE), 0);
	process_exec(p->leader);
	take_event(EVENT_EXEC, p->pid);
	call(p->leader, &fn_free, SITE_A, ARGS(P1), 0);
	assert_int_equal(loss_take(p, LOSS_UNMATCHED_FREE), 2);
}

/* A realloc that was left by a jump, then another program: the block was the old image's, and so are its figures. */
static void test_exec_after_jump(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);
	struct jump j = jump_save(p->leader);

	call(p->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	uint32_t before = account_of(p);
	call_begin(p->leader, &fn_realloc, SITE_A, ARGS(P1, 200));
	jump_to(p->leader, j);
	process_exec(p->leader);
	take_event(EVENT_EXEC, p->pid);
	/* User space now takes the old image's blocks out of `live` and gives its sums' places to others. */
	assert_non_null(live_at(before, P1));
	call(p->leader, &fn_malloc, SITE_A, ARGS(8), P1); /* nothing of the old image's call is found now */
	EXPECT_SUMS(account_of(p), 0, ALLOCS(8, 1));
}

static void test_exec(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW | PROC_LATE | PROC_NAMED | PROC_NO_RETURN);
	struct proc_key before = id_of(p);

	process_exec(p->leader);
	struct event e = take_life(EVENT_EXEC, p, id_of(p), before);
	assert_int_equal(e.life.flags, PROC_HEAP | PROC_FOLLOW | PROC_NAMED);
	assert_int_equal(proc_of(p)->flags, e.life.flags);
	assert_int_equal(id_of(p).start_ticks, before.start_ticks);
	assert_int_equal(id_of(p).image, next_image - 1);
}

/* Account 0 says "none" everywhere: no process may get it, whatever its slot, however often that is taken. */
static void test_account_never_zero(void **state)
{
	(void)state;
	while (proc_place(world.next_pid, 0))
		world.next_pid++;
	struct process *p = followed(PROC_HEAP);

	assert_int_equal(proc_find(p->pid), 0);
	for (uint32_t i = 0; i < 1u << (ACCOUNT_BITS - PROC_SLOT_BITS); i++) {
		assert_int_not_equal(account_of(p), 0);
		proc_of(p)->swept = proc_of(p)->used; /* user space keeps up */
		process_exec(p->leader);
		take_event(EVENT_EXEC, p->pid);
	}
}

/* One program after the other, and nobody sweeps: the process is let go before a number comes again. */
static void test_account_worn(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP);
	uint32_t first = account_of(p), n = 0;

	while (proc_of(p) && n < 2 * ACCOUNT_TURNS) {
		process_exec(p->leader);
		if (proc_of(p))
			take_event(EVENT_EXEC, p->pid);
		if (proc_of(p))
			assert_int_not_equal(account_of(p), first);
		n++;
	}
	assert_null(proc_of(p));
	assert_true(n >= ACCOUNT_TURNS - 2 && n <= ACCOUNT_TURNS);
	assert_int_equal(orphan_loss_take(LOSS_PROCS_FULL), 1);
}

static void test_exec_watched(void **state)
{
	(void)state;
	struct process *stranger = process_new();

	process_exec(stranger->leader);
	config_set((struct config){ .watch_exec = 1 });
	process_exec(stranger->leader);
	assert_null(proc_of(stranger));
	struct proc_key id = { .start_ticks = 1000 + stranger->pid, .pid = stranger->pid };
	assert_int_equal(take_life(EVENT_EXEC, stranger, id, none).life.flags, 0);
}

static void test_exit(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP);
	struct thread *other = thread_new(p);

	call(other, &fn_malloc, SITE_A, ARGS(100), P1);
	thread_exit(p->leader); /* the leader first: the process lives on */
	struct proc_key id = id_of(p);
	thread_exit(other);
	struct event e = take_event(EVENT_EXIT, p->pid);
	assert_true(id_equal(&e.id, &id));
	assert_true(id_equal(&e.final.id, &id));
	assert_int_equal(e.final.live_bytes[LAYER_HEAP], 100);
	assert_null(proc_of(p));
	thread_exit(process_new()->leader); /* a stranger's end is no news */
}

/* The number comes back to life: the dead one's blocks are not the new one's. */
static void test_pid_reused(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP);

	call(p->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	uint32_t id = account_of(p);
	thread_exit(p->leader);
	take_event(EVENT_EXIT, p->pid);
	world.next_pid = p->pid;
	struct process *q = followed(PROC_HEAP);
	assert_int_equal(q->pid, p->pid);
	q->leader->task.start_boottime += 7 * NS_PER_TICK;
	proc_of(q)->id.start_ticks = start_ticks_of(&q->leader->task);
	call(q->leader, &fn_free, SITE_A, ARGS(P1), 0);
	assert_int_equal(loss_take(q, LOSS_UNMATCHED_FREE), 1);
	assert_non_null(live_at(id, P1));
}

static void test_procs_full(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);

	procs_fill(world.next_pid);
	struct process *c = process_fork(p->leader, false);
	assert_null(proc_of(c));
	assert_int_equal(orphan_loss_take(LOSS_PROCS_FULL), 1);
	process_exec(p->leader); /* replaces: needs no place */
	take_event(EVENT_EXEC, (uint32_t)p->leader->task.pid);
	assert_non_null(proc_of(p));
}

static void test_ring_full(void **state)
{
	(void)state;
	struct process *p = followed(PROC_HEAP | PROC_FOLLOW);

	host.ring_full = true;
	struct process *c = process_fork(p->leader, false);
	assert_non_null(proc_of(c)); /* followed all the same */
	thread_exit(c->leader);
	assert_null(proc_of(c));
	assert_int_equal(orphan_loss_take(LOSS_RING_FULL), 2);
}

/* --- adopted from a cgroup --- */
static struct process *member(uint64_t cgroup)
{
	struct process *p = process_new();

	p->leader->task.cgroups[LEVEL] = cgroup;
	return p;
}

static void test_adopted(void **state)
{
	(void)state;
	struct process *p = member(CGROUP), *q = member(CGROUP + 1), *own = member(CGROUP);

	config_set((struct config){ .cgroup_id = CGROUP,
				    .cgroup_level = LEVEL,
				    .adopt_flags = PROC_HEAP | PROC_FOLLOW,
				    .own_tgid = own->pid });
	struct thread *other = thread_new(p);
	memcpy(other->task.cgroups, p->leader->task.cgroups, sizeof(other->task.cgroups));
	call(other, &fn_malloc, SITE_A, ARGS(100), P1); /* whichever thread comes first */
	call(q->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	call(own->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	assert_null(proc_of(q));
	assert_null(proc_of(own));
	const struct proc *pr = proc_of(p);
	assert_non_null(pr);
	assert_int_equal(pr->flags, PROC_HEAP | PROC_FOLLOW | PROC_LATE);
	assert_int_equal(pr->id.pid, p->pid);
	assert_int_equal(pr->id.start_ticks, 1000 + p->pid);
	assert_int_equal(pr->ppid, p->pid); /* this world's first processes are their own parents */
	assert_int_equal(loss_take(p, LOSS_LATE_ATTACH), 1);
	EXPECT_SUMS(account_of(p), 0, ALLOCS(100, 1));
	struct event e = take_event(EVENT_EXEC, (uint32_t)other->task.pid);
	assert_int_equal(e.id.pid, p->pid);
	assert_int_equal(e.life.flags, pr->flags);
	/* Nothing is known of its mappings. */
	e = take_event(EVENT_LAYOUT, (uint32_t)other->task.pid);
	assert_int_equal(e.map.addr, fn_malloc.ip);
	call(p->leader, &fn_malloc, SITE_A, ARGS(100), P1 + 0x1000); /* once only */
	/* Its child is followed from birth, and not late. */
	struct process *c = process_fork(p->leader, false);
	take_life(EVENT_FORK, p, id_of(c), id_of(p));
	assert_false(proc_of(c)->flags & PROC_LATE);
}

static void test_adopted_table_full(void **state)
{
	(void)state;
	struct process *p = member(CGROUP);

	config_set((struct config){ .cgroup_id = CGROUP, .cgroup_level = LEVEL, .adopt_flags = PROC_HEAP });
	procs_fill(p->pid);
	call(p->leader, &fn_malloc, SITE_A, ARGS(100), P1);
	assert_null(proc_of(p));
	assert_true(orphan_loss_take(LOSS_PROCS_FULL) > 0);
}

#define TEST(name) \
	{ \
#name, name, setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_fork),
		TEST(test_fork_not_followed),
		TEST(test_follow_all),
		TEST(test_vfork),
		TEST(test_vfork_exits),
		TEST(test_vfork_live_bytes),
		TEST(test_exec),
		TEST(test_account_never_zero),
		TEST(test_account_worn),
		TEST(test_exec_watched),
		TEST(test_exit),
		TEST(test_pid_reused),
		TEST(test_procs_full),
		TEST(test_ring_full),
		TEST(test_adopted),
		TEST(test_adopted_table_full),
		TEST(test_vfork_losses),
		TEST(test_vfork_killed_in_call),
		TEST(test_exec_keeps_losses),
		TEST(test_exec_after_jump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
