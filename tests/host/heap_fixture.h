/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One followed process with one thread, and calls of its allocator: for the tests of the heap's state machine. */
#ifndef TIDEMARK_HOST_HEAP_FIXTURE_H
#define TIDEMARK_HOST_HEAP_FIXTURE_H

#define MAIN_AT (PROG_TEXT + 0x100)
#define SITE_A (PROG_TEXT + 0x1000)
#define SITE_B (PROG_TEXT + 0x2000)
#define SITE_C (PROG_TEXT + 0x3000)
#define P1 (HEAP_BASE + 0x1000)
#define P2 (HEAP_BASE + 0x2000)
#define P3 (HEAP_BASE + 0x3000)
#define FAILED 0ull

struct fixture {
	struct process *p;
	struct thread *th;
	uint32_t id; /* account */
};

static struct fixture f;

static inline int setup(bool sessions)
{
	world_init(sessions);
	f.p = process_new();
	f.th = f.p->leader;
	be(f.th);
	process_follow(f.p, PROC_HEAP | PROC_FOLLOW);
	f.id = account_of(f.p);
	frame_enter(f.th, MAIN_AT);
	return 0;
}

static inline int setup_sessions(void **state)
{
	(void)state;
	return setup(true);
}

static inline int setup_pairs(void **state)
{
	(void)state;
	return setup(false);
}

static inline int teardown(void **state)
{
	(void)state;
	books_check();
	expect_no_loss();
	world_done();
	return 0;
}

static inline void do_malloc(uint64_t caller, uint64_t bytes, uint64_t result)
{
	call(f.th, &fn_malloc, caller, ARGS(bytes), result);
}

static inline void do_realloc(uint64_t caller, uint64_t old, uint64_t bytes, uint64_t result)
{
	call(f.th, &fn_realloc, caller, ARGS(old, bytes), result);
}

static inline void do_free(uint64_t addr)
{
	call(f.th, &fn_free, SITE_C, ARGS(addr), 0);
}

static inline void expect_live(uint64_t addr, uint64_t bytes)
{
	const struct live_block *b = live_at(f.id, addr);

	assert_non_null(b);
	assert_int_equal(b->bytes, bytes);
}

#define BOTH(name) \
	{ #name " (session)", name, setup_sessions, teardown, NULL }, \
	{ \
#name " (pair)", name, setup_pairs, teardown, NULL \
	}

#endif
