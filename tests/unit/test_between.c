/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collect/between.h"

#define SE 100.0

static double live_at(const struct between *b, double allocated)
{
	return between_at(b, allocated).live;
}

static double se_at(const struct between *b, double allocated)
{
	return sqrt(between_at(b, allocated).var);
}

static void leak_goes_on(void **state)
{
	struct between b = { 0 };

	(void)state;
	for (int i = 1; i <= 3; i++) {
		between_look(&b, 1e6 * i, SE * SE, 1e6 * i);
		assert_float_equal(live_at(&b, 1e6 * i), 1e6 * i, 1e-3);
		assert_float_equal(live_at(&b, 1e6 * i + 5e5), 1e6 * i + 5e5, 1e-3);
	}
	/* It is told as well as at the look, and the share that stays as well as two looks tell it. */
	assert_float_equal(se_at(&b, 3e6), SE, 1e-6);
	assert_float_equal(se_at(&b, 3.5e6), SE * sqrt(1.5), 1e-3);
}

static void full_cache_stays(void **state)
{
	struct between b = { 0 };

	(void)state;
	between_look(&b, 1e6, SE * SE, 1e6);
	assert_float_equal(live_at(&b, 2e6), 2e6, 1e-3); /* so far all of it was there */
	between_look(&b, 1e6, SE * SE, 3e6);
	assert_float_equal(live_at(&b, 5e6), 1e6, 1e-3);
	assert_true(se_at(&b, 5e6) > 1.9e6); /* what stayed was all once, then nothing */
	between_look(&b, 1e6, SE * SE, 5e6);
	assert_float_equal(live_at(&b, 6e6), 1e6, 1e-3);
	assert_true(se_at(&b, 6e6) < 2 * SE);
}

/* The first look says what lives of all that ever was: of what comes next any share may. */
static void first_look_is_not_sure(void **state)
{
	struct between b = { 0 };

	(void)state;
	between_look(&b, 5e5, 0, 1e6);
	assert_float_equal(live_at(&b, 1.5e6), 6.25e5, 1e-3);
	assert_float_equal(se_at(&b, 1.5e6), 5e5 * 0.5, 1e-3);
}

/* What fills up: 1, 1/2, 1/4 of what is allocated come to stay. */
static void filling_goes_on(void **state)
{
	struct between b = { 0 };

	(void)state;
	between_look(&b, 1e6, SE * SE, 1e6);
	between_look(&b, 1.5e6, SE * SE, 2e6);
	assert_float_equal(live_at(&b, 3e6), 1.75e6, 1e-3);
	between_look(&b, 1.75e6, SE * SE, 3e6);
	assert_float_equal(live_at(&b, 4e6), 1.875e6, 1e-3);
	assert_float_equal(se_at(&b, 4e6), SE * sqrt(3), 1e-3); /* as expected */
	between_look(&b, 2.75e6, SE * SE, 4e6);			/* then all of it stays: no slower than that */
	assert_float_equal(live_at(&b, 5e6), 3.75e6, 1e-3);
}

/* Half of what is allocated stays, as far as can be seen: no fall is read into what scatters. And what may be chance is no growth. */
static void chance_is_no_trend(void **state)
{
	struct between b = { 0 };
	const double se = 5e4;

	(void)state;
	between_look(&b, 1e6, se * se, 2e6);
	between_look(&b, 1.5e6, se * se, 3e6);
	between_look(&b, 1.96e6, se * se, 4e6);
	assert_float_equal(live_at(&b, 5e6), 1.96e6 + 0.46e6, 1);
	between_look(&b, 2.06e6, se * se, 5e6);
	assert_float_equal(live_at(&b, 6e6), 2.06e6, 1);
	assert_true(se_at(&b, 6e6) > 3e5);
	/* Hardly anything was allocated: it tells nothing, and what is expected is in doubt. */
	between_look(&b, 2.2e6, se * se, 5.01e6);
	assert_float_equal(live_at(&b, 5.02e6), 2.2e6, 1);
	assert_float_equal(se_at(&b, 6.01e6), hypot(se, 1e6), 1);
}

static void figures_out_of_bounds(void **state)
{
	struct between b = { 0 };

	(void)state;
	assert_float_equal(live_at(&b, 0), 0, 0);
	between_look(&b, -50, SE * SE, 0); /* by chance, and nothing to divide by */
	assert_float_equal(live_at(&b, 0), -50, 0);
	assert_true(isfinite(se_at(&b, 1e9)));
	between_look(&b, 1e9, SE * SE, 1000); /* more than was allocated */
	assert_float_equal(live_at(&b, 2000), 1e9 + 1000, 1e-3);
	between_look(&b, 0, SE * SE, 2000); /* less by more than that */
	assert_float_equal(live_at(&b, 3000), 0, 0);
	assert_float_equal(live_at(&b, 1000), 0, 0); /* counters of another sum */
	assert_true(se_at(&b, 3000) <= hypot(SE, 1000) + 1e-6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leak_goes_on),		  cmocka_unit_test(full_cache_stays),
		cmocka_unit_test(first_look_is_not_sure), cmocka_unit_test(filling_goes_on),
		cmocka_unit_test(chance_is_no_trend),	  cmocka_unit_test(figures_out_of_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
