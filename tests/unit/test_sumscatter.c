/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collect/sumscatter.h"

#define WORK 1e7 /* ns, of each window */

/* A stack that counts `bytes` in the window, of blocks of 100 bytes that stand for ten each. */
static double window(struct sum_scatters *s, struct sum_counted *c, double bytes)
{
	c->windows++;
	c->counted_ns += WORK;
	c->bytes += bytes;
	c->var += bytes / 1000 * 1000 * 1000 * 0.9;
	return sum_scatters_spread(s, c);
}

static void bursts_are_less_sure(void **state)
{
	struct sum_scatters *s = sum_scatters_new();
	struct sum_counted even = { .sum = 1, .account = 7 }, bursts = { .sum = 2, .account = 7 };
	double of_even = NAN, of_bursts = NAN;

	(void)state;
	assert_true(isnan(sum_scatters_spread(s, &even)));
	assert_true(isnan(sum_scatters_spread(s, &bursts)));
	for (int i = 0; i < 20; i++) {
		of_even = window(s, &even,
				 100000 + (i / 2 % 2 ? 10000 : -10000)); /* its standard error, by its variance */
		of_bursts = window(s, &bursts, i % 4 ? 0 : 400000);
		assert_true(i < 2 ? isnan(of_even) : of_even >= 1);
	}
	assert_true(of_even < 1.3);
	assert_true(of_bursts > 10);
	sum_scatters_free(s);
}

/* What an open window has counted so far belongs to none: it counts with the rest, once. */
static void open_windows_wait(void **state)
{
	struct sum_scatters *s = sum_scatters_new();
	struct sum_counted c = { .sum = 1, .account = 7 };
	double spread = NAN;

	(void)state;
	(void)sum_scatters_spread(s, &c);
	for (int i = 0; i < 20; i++) {
		c.is_open = true;
		c.bytes += 50000;
		(void)sum_scatters_spread(s, &c);
		c.is_open = false;
		spread = window(s, &c, 50000);
	}
	assert_true(spread < 1.1);
	sum_scatters_free(s);
}

/* Another stack at the same place, or one of another process, begins anew. */
static void places_are_given_back(void **state)
{
	struct sum_scatters *s = sum_scatters_new();
	struct sum_counted c = { .sum = 1, .account = 7 };

	(void)state;
	(void)sum_scatters_spread(s, &c);
	for (int i = 0; i < 5; i++)
		(void)window(s, &c, i % 2 ? 0 : 1e6);
	assert_true(sum_scatters_spread(s, &c) > 2);
	struct sum_counted smaller = c, other = c;
	smaller.bytes = 10;
	assert_true(isnan(sum_scatters_spread(s, &smaller)));
	other.account = 8;
	assert_true(isnan(sum_scatters_spread(s, &other)));
	sum_scatters_forget(s, 8);
	sum_scatters_forget(s, 9);
	sum_scatters_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bursts_are_less_sure),
		cmocka_unit_test(open_windows_wait),
		cmocka_unit_test(places_are_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
