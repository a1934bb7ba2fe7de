/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The share of pymalloc's blocks that is seen. Truth: interpreters of this machine that allocate between two looks, of whose new blocks the test itself
 * "sees" all, none, or half.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collect/pycoverage.h"
#include "interpreters_fixture.h"

/* A number of objects of 200 and of 400 bytes (in blocks of 208 to 256, and 416 to 464), for each line that it is told. */
static const char script[] = "import sys\n"
			     "print(sys.version_info[1])\n"
			     "kept = []\n"
			     "for line in sys.stdin:\n"
			     "    for i in range(int(line)):\n"
			     "        kept.append(bytes(180))\n"
			     "        kept.append(bytes(380))\n"
			     "    print('done')\n";

#define SECOND 1000000000ull

static bool see_all(void *ctx, uint32_t account, uint64_t addr)
{
	(void)ctx;
	(void)account;
	return addr != 0;
}

static bool see_none(void *ctx, uint32_t account, uint64_t addr)
{
	(void)ctx;
	(void)account;
	return addr == 0;
}

/* Half of the blocks, by their addresses. */
static bool see_some(void *ctx, uint32_t account, uint64_t addr)
{
	(void)ctx;
	(void)account;
	return (addr / 16 * 0x9e3779b97f4a7c15ull) >> 63;
}

static void allocate(struct interpreter *p, const char *n)
{
	interpreter_tell(p, n);
	assert_string_equal(interpreter_line(p), "done");
}

/* Two sorts of growth: within arenas that are there, and in new ones. */
static double measure(const char *path, const char *n, pycoverage_find find)
{
	struct interpreter p;

	interpreter_start(path, script, &p);
	allocate(&p, "300");
	struct pycoverage *c = pycoverage_new((uint32_t)p.pid, 1, p.minor >= 10);
	for (int i = 0; i < 6; i++) {
		pycoverage_look(c, true, (uint64_t)(i + 1) * 2 * SECOND, find, NULL);
		allocate(&p, n);
	}
	double share = pycoverage_share(c);
	pycoverage_free(c);
	interpreter_stop(&p);
	return share;
}

static void each_interpreter(const char *n, pycoverage_find find, double low, double high)
{
	static struct interpreters is;

	interpreters_find(&is);
	if (!is.n)
		skip();
	for (size_t i = 0; i < is.n; i++) {
		double share = measure(is.path[i], n, find);
		if (!(share >= low && share <= high))
			fail_msg("%s: %g, expected %g to %g", is.path[i], share, low, high);
	}
}

static void test_all(void **state)
{
	(void)state;
	each_interpreter("4000", see_all, 1, 1);
	each_interpreter("400", see_all, 1, 1);
}

static void test_none(void **state)
{
	(void)state;
	each_interpreter("4000", see_none, 0, 0);
}

static void test_some(void **state)
{
	(void)state;
	each_interpreter("4000", see_some, 0.4, 0.6);
}

/* Too little to say; looks that come too soon count for nothing; nor does what came while probes were not in place. */
static void test_nothing_to_say(void **state)
{
	static struct interpreters is;
	struct interpreter p;

	(void)state;
	interpreters_find(&is);
	if (!is.n)
		skip();
	interpreter_start(is.path[0], script, &p);
	struct pycoverage *c = pycoverage_new((uint32_t)p.pid, 1, p.minor >= 10);
	assert_true(isnan(pycoverage_share(c)));
	for (int i = 0; i < 4; i++)
		pycoverage_look(c, true, (uint64_t)(i + 1) * 2 * SECOND, see_all, NULL);
	assert_true(isnan(pycoverage_share(c))); /* it stands still */
	for (int i = 0; i < 4; i++) {
		allocate(&p, "4000");
		pycoverage_look(c, i % 2, (uint64_t)(i + 11) * 2 * SECOND, see_all, NULL);
	}
	assert_true(isnan(pycoverage_share(c)));
	pycoverage_look(c, true, 100 * SECOND, see_all, NULL);
	allocate(&p, "4000");
	pycoverage_look(c, true, 100 * SECOND + 1, see_all, NULL);
	assert_true(isnan(pycoverage_share(c)));
	interpreter_stop(&p);
	pycoverage_look(c, true, 200 * SECOND, see_all, NULL); /* gone */
	pycoverage_look(c, true, 300 * SECOND, see_all, NULL);
	assert_true(isnan(pycoverage_share(c)));
	pycoverage_free(c);
	pycoverage_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_some),
		cmocka_unit_test(test_nothing_to_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
