/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How often our own dear work is done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "probe/self_limit.h"

static void test_up_at_once_down_after_a_calm(void **state)
{
	struct self_limit l;

	(void)state;
	self_limit_init(&l, 0);
	assert_float_equal(l.limit_pct, SELF_LIMIT_PCT, 0);
	self_limit_init(&l, 2);
	assert_int_equal(self_limit_step(&l, NAN), 1);
	assert_int_equal(self_limit_step(&l, 1.9), 1);
	assert_int_equal(self_limit_step(&l, 2.1), 2);
	assert_int_equal(self_limit_step(&l, 5), 4);
	assert_int_equal(self_limit_step(&l, 5), 8);
	assert_int_equal(self_limit_step(&l, 100), 8);
	for (int i = 0; i < 100; i++)
		assert_int_equal(self_limit_step(&l, 1.2), 8); /* within the limit, but twice that is not */
	for (int i = 0; i < 9; i++)
		assert_int_equal(self_limit_step(&l, 0.5), 8);
	assert_int_equal(self_limit_step(&l, 0.5), 4);
	assert_int_equal(self_limit_step(&l, 1.5), 4); /* counts anew */
	for (int i = 0; i < 9; i++)
		assert_int_equal(self_limit_step(&l, 0.5), 4);
	assert_int_equal(self_limit_step(&l, 0.5), 2);
	for (int i = 0; i < 30; i++)
		self_limit_step(&l, 0);
	assert_int_equal(l.stretch, 1);
}

/* Work of 6 % at full pace, in a closed loop: one stretch is found and kept. */
static void test_one_stretch_is_found_and_kept(void **state)
{
	struct self_limit l;
	uint32_t changes = 0;

	(void)state;
	self_limit_init(&l, 2);
	for (int i = 0; i < 1000; i++) {
		uint32_t before = l.stretch;

		self_limit_step(&l, 6.0 / before);
		changes += l.stretch != before;
	}
	assert_int_equal(l.stretch, 4);
	assert_int_equal(changes, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_up_at_once_down_after_a_calm),
		cmocka_unit_test(test_one_stretch_is_found_and_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
