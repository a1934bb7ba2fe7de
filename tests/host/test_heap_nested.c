/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls inside one that was left out of the sample must not count in its place, and calls after it must: nothing tells when it returned,
 * and its return address can stand on the stack for long. With sessions only what sampled calls showed is believed; with pairs of probes every
 * call's return is seen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"
#include "heap_fixture.h"
#include "sampled_fixture.h"

#define STRDUP (LIBC_TEXT + 0x40000) /* libc's code that is not the allocator */

static const struct args one_100 = { { 1, 100 } };

/* Whatever comes would be sampled: nothing may have come. */
static void expect_nothing(void)
{
	assert_int_equal(live_count(), 0);
	assert_int_equal(state_of(f.th)->left, 1);
	sample_none();
}

/* A call that is left out, and has returned. */
static void left_out_calloc(uint64_t caller)
{
	sample_none();
	call(f.th, &fn_calloc, caller, one_100, P1);
}

/* The next call is sampled, so it has to be counted. */
static void expect_counted(const struct fn *fn, uint64_t caller)
{
	sample_next();
	call(f.th, fn, caller, fn == &fn_malloc ? ARGS(50) : ARGS(1, 50), P2);
	expect_live(P2, 50);
	do_free(P2);
	assert_int_equal(live_count(), 0);
}

/* --- inside --- */
/* musl */
static void test_calloc_calls_malloc(void **state)
{
	(void)state;
	show_nesting(&fn_calloc, &fn_malloc, one_100);
	for (int i = 0; i < 3; i++) {
		call_begin(f.th, &fn_calloc, SITE_B, one_100);
		sample_next();
		call_begin(f.th, &fn_malloc, INSIDE(fn_calloc), ARGS(100));
		expect_awaited(0);
		call_end(f.th, P1);
		call_end(f.th, P1);
		expect_nothing();
	}
	expect_all_gone();
}

static void test_calloc_jumps_to_malloc(void **state)
{
	(void)state;
	sample_none();
	call_begin(f.th, &fn_calloc, SITE_A, one_100);
	sample_next();
	fn_reach(f.th, &fn_malloc, ARGS(100));
	call_end(f.th, P1);
	assert_int_equal(f.th->ip, SITE_A);
	expect_nothing();
	expect_counted(&fn_malloc, SITE_A + 16);
}

/* glibc's reallocarray; the old block unknown, then sampled. */
static void test_reallocarray_jumps_to_realloc(void **state)
{
	(void)state;
	for (int known = 0; known < 2; known++) {
		if (known)
			sampled_malloc(SITE_B, 100, P1);
		sample_none();
		call_begin(f.th, &fn_reallocarray, SITE_A, ARGS(P1, 10, 20));
		expect_awaited(known);
		sample_next();
		fn_reach(f.th, &fn_realloc, ARGS(P1, 200));
		expect_awaited(known);
		call_end(f.th, P1);
		assert_int_equal(f.th->ip, SITE_A);
		expect_nothing();
	}
	expect_all_gone();
}

/* realloc made of malloc, copy and free. */
static void test_realloc_of_calls(void **state)
{
	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	for (int i = 0; i < 3; i++) { /* first for the old block's sake: that shows what is inside */
		call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 200));
		expect_awaited(!i);
		sample_next();
		call(f.th, &fn_malloc, INSIDE(fn_realloc), ARGS(200), P2);
		call(f.th, &fn_free, INSIDE(fn_realloc), ARGS(P1), 0);
		call_end(f.th, P2);
		expect_nothing();
	}
	expect_all_gone();
}

static void test_three_deep(void **state)
{
	uint64_t out = f.th->sp - 512;

	(void)state;
	for (int i = 0; i < 2; i++) {
		next_point(f.th, i ? FAR_AWAY : 1);
		call_begin(f.th, &fn_posix_memalign, SITE_A, ARGS(out, 64, 10));
		next_point(f.th, i ? 1 : FAR_AWAY);
		call_begin(f.th, &fn_memalign, INSIDE(fn_posix_memalign), ARGS(64, 20));
		call(f.th, &fn_malloc, INSIDE(fn_memalign), ARGS(30), P1);
		call_end(f.th, P1);
		poke(f.th, out, P1);
		call_end(f.th, 0);
		assert_int_equal(live_count(), !i);
		do_free(P1);
	}
	expect_nothing();
	expect_all_gone();
}

/* What was not shown yet counts by itself, with pairs of probes too only if it is not inside. */
static void test_not_shown_yet(void **state)
{
	(void)state;
	sample_none();
	call_begin(f.th, &fn_calloc, SITE_A, one_100);
	sample_next();
	call(f.th, &fn_malloc, INSIDE(fn_calloc), ARGS(100), P1);
	call_end(f.th, P1);
	assert_int_equal(live_count(), world.sessions);
	do_free(P1);
	expect_all_gone();
}

/* Shown in one process, it holds in all: code lies at other addresses, but not in other places of its pages. */
static void test_shown_elsewhere(void **state)
{
	(void)state;
	struct process *other = process_new();
	struct thread *th = other->leader;

	show_nesting(&fn_calloc, &fn_malloc, one_100);
	be(th);
	process_follow(other, PROC_HEAP);
	proc_of(other)->rate = 1;
	frame_enter(th, MAIN_AT);
	next_point(th, FAR_AWAY);
	call_begin(th, &fn_calloc, SITE_A, one_100);
	next_point(th, 1);
	call(th, &fn_malloc, INSIDE(fn_calloc) + 0x1000, ARGS(100), P1);
	call_end(th, P1);
	assert_int_equal(live_count(), 0);
	/* From elsewhere in the code it is another call. */
	next_point(th, FAR_AWAY);
	call_begin(th, &fn_calloc, SITE_A, one_100);
	next_point(th, 1);
	call(th, &fn_malloc, INSIDE(fn_calloc) + 0x1004, ARGS(100), P1);
	call_end(th, P1);
	assert_int_equal(live_count(), world.sessions);
}

/* --- after --- */
static void test_next_at_same_slot(void **state)
{
	(void)state;
	show_nesting(&fn_calloc, &fn_malloc, one_100);
	left_out_calloc(SITE_A);
	expect_counted(&fn_malloc, SITE_B);
	left_out_calloc(SITE_A);
	expect_counted(&fn_calloc, SITE_B);
	left_out_calloc(SITE_A);
	expect_counted(&fn_calloc, SITE_A); /* a loop */
}

static void test_next_above(void **state)
{
	(void)state;
	frame_enter(f.th, SITE_B);
	left_out_calloc(SITE_A);
	frame_leave(f.th);
	expect_counted(&fn_malloc, SITE_A);
	frame_enter(f.th, SITE_B);
	left_out_calloc(SITE_A);
	frame_leave(f.th);
	expect_counted(&fn_malloc, INSIDE(fn_calloc));
}

static void test_next_below(void **state)
{
	(void)state;
	show_nesting(&fn_calloc, &fn_malloc, one_100);
	left_out_calloc(SITE_A);
	frame_enter(f.th, SITE_B); /* over the slot */
	expect_counted(&fn_malloc, SITE_A);
	left_out_calloc(SITE_A);
	frame_enter(f.th, SITE_B);
	expect_counted(&fn_malloc, INSIDE(fn_calloc)); /* libc's code, but that of a call which is over */
	frame_leave(f.th);
	frame_leave(f.th);
}

/* strdup, called where calloc was: its return address has taken calloc's place. */
static void test_next_from_libc(void **state)
{
	(void)state;
	show_nesting(&fn_calloc, &fn_malloc, one_100);
	left_out_calloc(SITE_A);
	push(f.th, SITE_B);
	expect_counted(&fn_malloc, STRDUP);
	(void)pop(f.th);
}

/* The return address lies untouched in an array that nobody wrote, for as long as the function runs that has it. */
static void hole_enter(uint64_t bytes)
{
	uint64_t slot = f.th->sp - 8;

	left_out_calloc(SITE_A);
	f.th->sp -= bytes;
	frame_enter(f.th, SITE_B);
	if (world.sessions)
		assert_int_equal(peek(f.th, slot), SITE_A);
}

static void hole_leave(uint64_t bytes)
{
	frame_leave(f.th);
	f.th->sp += bytes;
}

static void test_slot_in_hole(void **state)
{
	(void)state;
	show_nesting(&fn_calloc, &fn_malloc, one_100);
	for (uint64_t bytes = 8; bytes <= 4096; bytes *= 2) {
		hole_enter(bytes);
		expect_counted(&fn_malloc, SITE_A);
		hole_leave(bytes);
		hole_enter(bytes);
		push(f.th, SITE_B);
		expect_counted(&fn_malloc, STRDUP);
		expect_counted(&fn_calloc, STRDUP + 64);
		(void)pop(f.th);
		hole_leave(bytes);
	}
}

/* An allocator within the program: any of the program's code could be the allocator's. */
static void test_slot_in_hole_of_program(void **state)
{
	struct fn own_calloc = fn_calloc, own_malloc = fn_malloc;

	(void)state;
	own_calloc.ip = PROG_TEXT + 0x10000;
	own_malloc.ip = PROG_TEXT + 0x10100;
	for (uint64_t bytes = 8; bytes <= 4096; bytes *= 2) {
		sample_none();
		call(f.th, &own_calloc, SITE_A, one_100, P1);
		f.th->sp -= bytes;
		frame_enter(f.th, SITE_B);
		sample_next();
		call(f.th, &own_malloc, SITE_C, ARGS(50), P2);
		expect_live(P2, 50);
		call(f.th, &fn_free, SITE_A, ARGS(P2), 0);
		frame_leave(f.th);
		f.th->sp += bytes;
	}
	expect_all_gone();
}

/* A free is never taken for one from inside: what a call that was left out frees is not live. */
static void test_free_after(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		sampled_malloc(SITE_B, 100, P2);
		left_out_calloc(SITE_A);
		if (i == 1)
			f.th->sp -= 256;
		call(f.th, &fn_free, i ? STRDUP : SITE_A, ARGS(P2),
		     0); /* at first through the same pointer to functions */
		if (i == 1)
			f.th->sp += 256;
		expect_all_gone();
	}
	expect_counted(&fn_malloc, SITE_B);
}

/* --- calls that are left without a return --- */
static void test_longjmp_from_left_out(void **state)
{
	struct jump j = jump_save(f.th);

	(void)state;
	sample_none();
	call_begin(f.th, &fn_calloc, SITE_A, one_100);
	jump_to(f.th, j);
	expect_counted(&fn_malloc, SITE_B);
	call_begin(f.th, &fn_calloc, SITE_A, one_100);
	call_begin(f.th, &fn_malloc, INSIDE(fn_calloc), ARGS(100));
	jump_to(f.th, j);
	expect_counted(&fn_calloc, SITE_B);
}

static void test_longjmp_from_followed(void **state)
{
	struct jump j = jump_save(f.th);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	struct sample_weight w = weight_at(P1);
	for (int sampled = 0; sampled < 2; sampled++) {
		next_point(f.th, sampled ? 1 : FAR_AWAY);
		call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 300));
		assert_null(live_at(f.id, P1));
		jump_to(f.th, j);
		sample_none();
		do_malloc(SITE_C, 20, P2);
		assert_int_equal(weight_at(P1).bytes, w.bytes); /* back as it was */
		assert_int_equal(live_count(), 1);
		assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
	}
	EXPECT_SUMS(f.id, 0, ALLOCS(w.bytes, w.count));
	do_free(P1);
	expect_all_gone();
}

static void test_longjmp_from_followed_then_free(void **state)
{
	struct jump j = jump_save(f.th);

	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	call_begin(f.th, &fn_realloc, SITE_B, ARGS(P1, 300));
	jump_to(f.th, j);
	do_free(P1);
	assert_int_equal(loss_take(f.p, LOSS_MISSED_RETURN), 1);
	expect_all_gone();
}

/* --- calls whose results are not looked at --- */
static void test_unseen(void **state)
{
	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	proc_of(f.p)->flags |= PROC_NO_RETURN;
	sampled_malloc(SITE_A, 100, P2);
	assert_null(live_at(f.id, P2));
	struct sum s = sums_at(f.id, 0);
	assert_true(s.untracked_bytes >= R && s.untracked_count >= R / 100);
	assert_int_equal(s.alloc_var - s.gone_var, weight_at(P1).var);
	sample_next();
	do_realloc(SITE_B, P1, 300, P3); /* taken to succeed */
	expect_all_gone();
	assert_true(sums_at(f.id, SITE_B).untracked_bytes >= R);
	assert_int_equal(loss_take(f.p, LOSS_RETURN_UNSAFE), 2);
}

static void test_unseen_left_out(void **state)
{
	(void)state;
	sampled_malloc(SITE_A, 100, P1);
	struct sample_weight w = weight_at(P1);
	proc_of(f.p)->flags |= PROC_NO_RETURN;
	do_malloc(SITE_A, 100, P2);
	do_realloc(SITE_B, P2, 300, P3);
	EXPECT_SUMS(f.id, 0, ALLOCS(w.bytes, w.count));
	(void)loss_take(f.p, LOSS_RETURN_UNSAFE);
	do_realloc(SITE_B, P1, 300, P1); /* the old block goes, the new one does not come */
	EXPECT_SUMS(f.id, 0, ALLOCS(w.bytes, w.count), FREES(w.bytes, w.count));
	expect_all_gone();
	assert_int_equal(loss_take(f.p, LOSS_RETURN_UNSAFE), 1);
}

/* One call, whichever of the two would be sampled. */
static void test_unseen_jump(void **state)
{
	(void)state;
	for (uint64_t which = 0; which < 4; which++) {
		sampled_malloc(SITE_A, 100, P1);
		struct sum before = sums_at(f.id, 0);
		proc_of(f.p)->flags |= PROC_NO_RETURN;
		next_point(f.th, which & 1 ? 1 : FAR_AWAY);
		call_begin(f.th, &fn_reallocarray, SITE_B, ARGS(P1, 10, 20));
		next_point(f.th, which & 2 ? 1 : FAR_AWAY);
		fn_reach(f.th, &fn_realloc, ARGS(P1, 200));
		call_end(f.th, P1);
		struct sum after = sums_at(f.id, 0);
		assert_int_equal(after.alloc_bytes > before.alloc_bytes, which & 1);
		assert_int_equal(loss_take(f.p, LOSS_RETURN_UNSAFE), 1);
		expect_all_gone();
		proc_of(f.p)->flags &= ~(uint32_t)PROC_NO_RETURN;
		call(f.th, &fn_malloc, SITE_C, ARGS(1), P2); /* the next one begins anew */
	}
}

/* A library's calls to itself are one call with what called them. */
static void test_unseen_nested(void **state)
{
	struct fn lib_calloc = fn_calloc, lib_malloc = fn_malloc;

	(void)state;
	lib_calloc.cookie.library = lib_malloc.cookie.library = 1;
	proc_of(f.p)->flags |= PROC_NO_RETURN;
	for (int sampled = 0; sampled < 2; sampled++) {
		next_point(f.th, sampled ? 1 : FAR_AWAY);
		call_begin(f.th, &lib_calloc, SITE_A, one_100);
		sample_next();
		call(f.th, &lib_malloc, INSIDE(lib_calloc), ARGS(100), P1);
		call_end(f.th, P1);
		assert_int_equal(sums_at(f.id, 0).alloc_count > 0, sampled);
		expect_all_gone();
	}
	(void)loss_take(f.p, LOSS_RETURN_UNSAFE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SAMPLED(test_calloc_calls_malloc),
		SAMPLED(test_calloc_jumps_to_malloc),
		SAMPLED(test_reallocarray_jumps_to_realloc),
		SAMPLED(test_realloc_of_calls),
		SAMPLED(test_three_deep),
		SAMPLED(test_not_shown_yet),
		SAMPLED(test_shown_elsewhere),
		SAMPLED(test_next_at_same_slot),
		SAMPLED(test_next_above),
		SAMPLED(test_next_below),
		SAMPLED(test_next_from_libc),
		SAMPLED(test_slot_in_hole),
		SAMPLED(test_slot_in_hole_of_program),
		SAMPLED(test_free_after),
		SAMPLED(test_longjmp_from_left_out),
		SAMPLED(test_longjmp_from_followed),
		SAMPLED(test_longjmp_from_followed_then_free),
		SAMPLED(test_unseen),
		SAMPLED(test_unseen_left_out),
		/* where returns harm, there are no return probes */
		{ "test_unseen_jump", test_unseen_jump, setup_sampled_sessions, teardown, NULL },
		SAMPLED(test_unseen_nested),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
