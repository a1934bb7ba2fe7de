/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The gate: every boundary of every rule from both sides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "probe/gate.h"
#include "util/mem.h"

#define V(major, minor, patch) ((uint32_t)(major) << 16 | (minor) << 8 | (patch))

static const struct {
	struct gate_input in;
	const char *word; /* of the reason; NULL: allowed */
} cases[] = {
	{ { V(6, 12, 0), 0, false, false }, NULL },
	{ { V(6, 10, 14), 2, false, false }, NULL },
	{ { V(6, 11, 0), 2, false, false }, "seccomp" },
	{ { V(6, 11, 0), 1, false, false }, NULL }, /* strict mode, not a filter */
	{ { V(6, 12, 13), 2, false, false }, "seccomp" },
	{ { V(6, 12, 14), 2, false, false }, NULL },
	{ { V(6, 12, 107), 2, false, false }, NULL },
	{ { V(6, 13, 0), 2, false, false }, "seccomp" },
	{ { V(6, 13, 2), 2, false, false }, "seccomp" },
	{ { V(6, 13, 3), 2, false, false }, NULL },
	{ { V(6, 14, 0), 2, false, false }, NULL },
	{ { V(6, 18, 44), 2, false, false }, NULL },
	{ { V(5, 15, 0), 0, false, true }, "Go" },
	{ { V(6, 18, 0), 0, false, true }, "Go" },
	{ { V(7, 2, 13), 2, true, true }, "Go" },
	{ { V(6, 6, 0), 0, true, false }, "shadow stack" },
	{ { V(6, 10, 255), 0, true, false }, "shadow stack" },
	{ { V(6, 11, 0), 0, true, false }, NULL },
	{ { V(6, 12, 0), 2, true, false }, "seccomp" },
};

static void each_rule(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *why = NULL;
		bool allowed = gate_allows_return(&cases[i].in, &why);

		print_message("%#x seccomp %d shstk %d go %d\n", cases[i].in.kernel_version, cases[i].in.seccomp_mode,
			      cases[i].in.shadow_stack, cases[i].in.go);
		assert_int_equal(allowed, !cases[i].word);
		if (allowed)
			assert_null(why); /* left alone */
		else
			assert_non_null(strstr(why, cases[i].word));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_rule) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
