/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When links narrow to the observed processes and when they widen again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collect/scope.h"

#define S 1000000000ull
#define T0 (1000 * S)
#define MANY (2.0 * SCOPE_FOREIGN_PER_S)

/* Runs the policy once per second from `from` to `to`; returns the second at which it first says `want`, 0 if never. */
static uint64_t first(struct scope_policy *p, enum probe_scope now, uint64_t from, uint64_t to, double foreign,
		      uint64_t births, enum probe_scope want)
{
	for (uint64_t s = from; s <= to; s++)
		if (scope_decide(p, now, T0 + s * S, foreign, births) == want)
			return s;
	return 0;
}

static void test_stays_wide_while_nobody_pays(void **state)
{
	struct scope_policy p = { 0 };

	(void)state;
	assert_int_equal(first(&p, SCOPE_HOST, 1, 100, SCOPE_FOREIGN_PER_S - 1, 0, SCOPE_PROCESS), 0);
	assert_int_equal(first(&p, SCOPE_HOST, 101, 200, NAN, 0, SCOPE_PROCESS), 0);
}

static void test_narrows_when_others_keep_paying(void **state)
{
	struct scope_policy p = { 0 };

	(void)state;
	assert_int_equal(first(&p, SCOPE_HOST, 1, 100, MANY, 0, SCOPE_PROCESS), 1 + SCOPE_CALM_NS / S);
}

/* Events wake the loop between two looks, when nothing is known. */
static void test_what_is_not_known_changes_nothing(void **state)
{
	struct scope_policy p = { 0 };
	uint64_t narrowed = 0;

	(void)state;
	for (uint64_t s = 1; s < 100 && !narrowed; s++) {
		if (scope_decide(&p, SCOPE_HOST, T0 + s * S, MANY, 0) == SCOPE_PROCESS)
			narrowed = s;
		(void)scope_decide(&p, SCOPE_HOST, T0 + s * S + S / 2, NAN, 0);
	}
	assert_int_equal(narrowed, 1 + SCOPE_CALM_NS / S);
}

static void test_a_short_burst_does_not(void **state)
{
	struct scope_policy p = { 0 };

	(void)state;
	for (uint64_t s = 1; s < 100; s += 5) {
		assert_int_equal(first(&p, SCOPE_HOST, s, s + 3, MANY, 0, SCOPE_PROCESS), 0);
		assert_int_equal(scope_decide(&p, SCOPE_HOST, T0 + (s + 4) * S, 0, 0), SCOPE_HOST);
	}
}

static void test_a_birth_widens_at_once_and_holds(void **state)
{
	struct scope_policy p = { 0 };

	(void)state;
	assert_int_not_equal(first(&p, SCOPE_HOST, 1, 100, MANY, 0, SCOPE_PROCESS), 0);
	assert_int_equal(scope_decide(&p, SCOPE_PROCESS, T0 + 101 * S, 0, 0), SCOPE_PROCESS);
	assert_int_equal(scope_decide(&p, SCOPE_PROCESS, T0 + 102 * S, 0, 1), SCOPE_HOST);
	assert_int_equal(first(&p, SCOPE_HOST, 103, 300, MANY, 1, SCOPE_PROCESS), 102 + SCOPE_AGAIN_NS / S);
}

static void test_births_keep_it_wide(void **state)
{
	struct scope_policy p = { 0 };

	(void)state;
	for (uint64_t s = 1; s < 300; s++) /* a child every ten seconds */
		assert_int_equal(scope_decide(&p, SCOPE_HOST, T0 + s * S, MANY, 1 + s / 10), SCOPE_HOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stays_wide_while_nobody_pays),
		cmocka_unit_test(test_narrows_when_others_keep_paying),
		cmocka_unit_test(test_what_is_not_known_changes_nothing),
		cmocka_unit_test(test_a_short_burst_does_not),
		cmocka_unit_test(test_a_birth_widens_at_once_and_holds),
		cmocka_unit_test(test_births_keep_it_wide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
