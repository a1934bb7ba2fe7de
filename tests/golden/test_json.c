/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON lines of a synthetic run, byte by byte as committed. TIDEMARK_ACCEPT=1 writes what is printed now. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "report_fixture.h"
#include "util/fs.h"
#include "util/mem.h"
#include "view/view.h"

#define MAX_BYTES (1u << 20)

static void accept_golden(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void assert_golden(const char *path, const char *text, size_t len)
{
	_cleanup_(freep) char *want = NULL;
	size_t want_len;

	if (getenv("TIDEMARK_ACCEPT"))
		accept_golden(path, text, len);
	if (fs_read_all(path, MAX_BYTES, &want, &want_len))
		fail_msg("can't read '%s': run from the top of the tree, or accept it by TIDEMARK_ACCEPT=1", path);
	assert_string_equal(text, want);
	assert_int_equal(len, want_len);
}

/* The end line has the time of day in it; the unit test looks at that one. */
static void assert_run(const char *path, const struct query *q)
{
	_cleanup_(freep) char *text = NULL;
	struct report *quiet = fixture_empty(q), *busy = fixture_report(q, 5);
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(view_json.begin(out, quiet->meta), 0);
	assert_int_equal(view_json.show(out, quiet), 0);
	assert_int_equal(view_json.show(out, busy), 0);
	assert_int_equal(fclose(out), 0);
	assert_golden(path, text, len);
	fixture_free(quiet);
	fixture_free(busy);
}

static void run_of_two_intervals(void **state)
{
	struct query q = fixture_query();

	(void)state;
	assert_run("tests/golden/run.json", &q);
}

static void run_with_threads_and_groups(void **state)
{
	struct query q = fixture_query();

	(void)state;
	q.by_thread = true;
	q.group = GROUP_THREAD;
	assert_run("tests/golden/threads.json", &q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(run_of_two_intervals),
		cmocka_unit_test(run_with_threads_and_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
