/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hit while user space changes over from one scope's links to the other's: the newer links' program runs, then the older ones', and
 * exactly one of them counts, at whatever point the word changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "scope.bpf.h"
#include "world.h"
#include "books.h"
#include "heap_fixture.h"

enum step { NOTHING, SWITCH, SETTLE };

static void take_step(enum step s)
{
	if (s == SWITCH)
		scope = scope_switched(scope);
	else if (s == SETTLE)
		scope &= ~SCOPE_BOTH;
}

/* How many of the programs of one hit count it; what is done to the word before, between and after. */
static int hit(enum probe_scope newer, enum step before, enum step between, enum step after)
{
	int n;

	be(f.th);
	take_step(before);
	n = is_in_scope(newer);
	if (n) /* as an allocation does */
		(void)thread_need(proc_of(f.p), thread_get(0));
	take_step(between);
	n += is_in_scope(!newer);
	take_step(after);
	return n;
}

static void first_call(void)
{
	do_malloc(SITE_A, 10, P1);
	do_free(P1);
}

/* There and back, as often as the word's counter is worth to be looked at. */
static void test_at_each_point(void **state)
{
	const enum step at[][3] = { { SWITCH, NOTHING, NOTHING },
				    { NOTHING, SWITCH, NOTHING },
				    { NOTHING, NOTHING, SWITCH } };

	(void)state;
	first_call();
	for (int turn = 0; turn < 8; turn++) {
		enum probe_scope newer = turn & 1 ? SCOPE_HOST : SCOPE_PROCESS;
		assert_int_equal(hit(newer, NOTHING, NOTHING, NOTHING),
				 1); /* both are attached, the word is as it was */
		assert_int_equal(hit(newer, at[turn % 3][0], at[turn % 3][1], at[turn % 3][2]), 1);
		assert_int_equal(hit(newer, NOTHING, NOTHING, NOTHING), 1);
		assert_int_equal(hit(newer, SETTLE, NOTHING, NOTHING), 1);
		assert_int_equal(scope, (uint32_t)newer | (uint32_t)(turn + 1) * SCOPE_TURN);
	}
}

/* A thread that was not hit while the word changed, once or twice. */
static void test_thread_that_slept(void **state)
{
	(void)state;
	first_call();
	for (int turn = 0; turn < 3; turn++) {
		scope = scope_switched(scope) & ~SCOPE_BOTH;
		enum probe_scope newer = scope & SCOPE_BIT ? SCOPE_HOST : SCOPE_PROCESS;
		assert_int_equal(hit(newer, NOTHING, NOTHING, NOTHING), 1);
		scope = scope_switched(scope) & ~SCOPE_BOTH;
		assert_int_equal(hit(newer, NOTHING, NOTHING, NOTHING), 1);
		assert_int_equal(hit(!newer, NOTHING, SWITCH, NOTHING), 1);
		take_step(SETTLE);
	}
}

/* Its state is made by the call that counts. */
static void test_new_thread(void **state)
{
	(void)state;
	f.th = thread_new(f.p);
	assert_int_equal(hit(SCOPE_PROCESS, SWITCH, NOTHING, NOTHING), 1);
	assert_int_equal(hit(SCOPE_PROCESS, NOTHING, NOTHING, NOTHING), 1);
	f.th = f.p->leader;
}

/* The word changes within the old links' program: the hit is that one's, and the next the new one's. */
static void test_links_that_are_alone(void **state)
{
	(void)state;
	assert_true(is_in_scope(SCOPE_HOST));
	assert_false(is_in_scope(SCOPE_PROCESS));
	scope = scope_switched(scope) & ~SCOPE_BOTH;
	assert_false(is_in_scope(SCOPE_HOST));
	assert_true(is_in_scope(SCOPE_PROCESS));
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup_sessions, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_at_each_point),
		TEST(test_thread_that_slept),
		TEST(test_new_thread),
		TEST(test_links_that_are_alone),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	host_done();
	return failed;
}
