/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which page faults are looked at: each with the same probability. From a fixed seed: what passes once passes always. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "paging.h"

#include "probe/faults.h"
#include "probe/sample_tables.h"

#define DRAWS 200000

static struct sampling_tables tables;

static int setup(void **state)
{
	(void)state;
	sampling_tables_fill(&tables);
	return 0;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint32_t draw(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (uint32_t)((z ^ (z >> 31)) >> 32);
}

static void every_one_is_every_fault(void **state)
{
	struct paging p = { 0 };
	uint64_t seed = 1;

	(void)state;
	faults_set_every(&p, 1);
	assert_int_equal(p.every, 1);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(paging_turn(&tables, p.gap, draw(&seed)), 1);
	assert_int_equal(paging_turn(&tables, p.gap, 0), 1);
	assert_int_equal(paging_turn(&tables, p.gap, UINT32_MAX), 1);
}

static void distances_are_geometric(void **state)
{
	static const uint32_t rates[] = { 2, 7, 32, 1000 };

	(void)state;
	for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
		struct paging p = { 0 };
		double n = rates[r], sum = 0, below = 0;
		uint64_t seed = 7;

		faults_set_every(&p, rates[r]);
		for (int i = 0; i < DRAWS; i++) {
			uint32_t turn = paging_turn(&tables, p.gap, draw(&seed));

			assert_true(turn >= 1);
			sum += turn;
			below += turn <= rates[r];
		}
		/* five standard errors: of a mean, its spread is sqrt(n (n - 1)); of a share */
		double share = 1 - pow(1 - 1 / n, n);
		assert_true(fabs(sum / DRAWS - n) < 5 * sqrt(n * (n - 1) / DRAWS));
		assert_true(fabs(below / DRAWS - share) < 5 * sqrt(share * (1 - share) / DRAWS));
	}
}

static void rates_have_bounds(void **state)
{
	struct paging p = { 0 };

	(void)state;
	faults_set_every(&p, UINT32_MAX);
	assert_int_equal(p.every, PAGING_FAULTS_MAX);
	faults_set_every(&p, 0);
	assert_int_equal(p.every, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_one_is_every_fault),
		cmocka_unit_test(distances_are_geometric),
		cmocka_unit_test(rates_have_bounds),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
