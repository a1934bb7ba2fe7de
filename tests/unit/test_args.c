/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line: what options set, what contradicts itself. Complaints go to stderr, as for the user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "args.h"
#include "util/mem.h"

/* Instead of the program's own table, which runs sessions. */
const struct command commands[] = { { .name = "top", .help = "-" },
				    { .name = "leaks", .help = "-", .leak_options = true } };
const size_t commands_n = ARRAY_SIZE(commands);

/* Splits at blanks; what args_parse gives. The settings point into `line`. */
static int parse(char *line, struct settings *ret)
{
	char *argv[16] = { "tidemark" }, *save;
	int argc = 1;

	for (char *word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	return args_parse(argc, argv, ret);
}

static void frames_threads_and_groups(void **state)
{
	static const struct {
		const char *line;
		bool native, python, threads;
		enum group_by group;
	} rows[] = {
		{ "top", false, false, false, GROUP_NONE },
		{ "top --native", true, false, false, GROUP_NONE },
		{ "leaks --python -p 1", false, true, false, GROUP_NONE },
		{ "top --threads", false, false, true, GROUP_NONE },
		{ "leaks --group function", false, false, false, GROUP_FUNCTION },
		{ "top --group=module --native", true, false, false, GROUP_MODULE },
		{ "top --group file:line --python", false, true, false, GROUP_FILE_LINE },
		{ "top --group thread", false, false, true, GROUP_THREAD }, /* implies that they are kept apart */
		{ "top --group thread --group module", false, false, false, GROUP_MODULE }, /* the last one counts */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *line = xstrdup(rows[i].line);
		struct settings s;

		assert_int_equal(parse(line, &s), 0);
		assert_int_equal(s.native_only, rows[i].native);
		assert_int_equal(s.python_only, rows[i].python);
		assert_int_equal(s.by_thread, rows[i].threads);
		assert_int_equal(s.group, rows[i].group);
		settings_done(&s);
	}
}

static void contradictions_are_usage_errors(void **state)
{
	static const char *const rows[] = {
		"top --native --python",
		"leaks --python --native",
		"top --group",
		"top --group none",
		"top --group thread,module",
		"top --group=",
		"top --threads=1",
		"top --native=yes",
		"top --mode pages --layer heap",
		"top -a -p 1",
		"top -i 0",
		"top --warmup 3", /* of leaks only */
		"top nothing",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *line = xstrdup(rows[i]);
		struct settings s;

		assert_int_equal(parse(line, &s), EXIT_USAGE);
		settings_done(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_threads_and_groups),
		cmocka_unit_test(contradictions_are_usage_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
