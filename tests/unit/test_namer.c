/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When debug information is opened, and what is said as long as it is not. The file is this test itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <link.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "sym/namer.h"
#include "sym/pool.h"
#include "sym/symfile.h"
#include "util/clock.h"

__attribute__((noinline)) static int a_function_of_its_own(int x)
{
	__asm__ volatile("" : "+r"(x)); /* not to be done at compile time */
	return x + 1;
}

static int first_bias(struct dl_phdr_info *info, size_t size, void *ctx)
{
	(void)size;
	*(uint64_t *)ctx = info->dlpi_addr;
	return 1;
}

static void look(struct namer *n, const struct place *at, bool with_line, bool may_improve)
{
	struct named found;

	namer_find(n, at, &found);
	assert_int_equal(found.lines.n, 1);
	assert_string_equal(found.lines.frames[0].name, "a_function_of_its_own");
	assert_int_equal(found.lines.frames[0].line > 0, with_line);
	assert_int_equal(found.may_improve, may_improve);
	named_done(&found);
}

static void lines_are_opened_now_and_then(void **state)
{
	struct pool *strings = pool_new();
	struct fd_share fds;
	struct namer *n = namer_new(NULL);
	struct stat st;
	uint64_t bias = 0;

	(void)state;
	assert_int_equal(a_function_of_its_own(1), 2);
	fd_share_init(&fds);
	assert_int_equal(stat("/proc/self/exe", &st), 0);
	(void)dl_iterate_phdr(first_bias, &bias); /* the program comes first */
	struct symfile *f = symfile_new(strings, &fds,
					&(struct snap_module){
						.id = 1,
						.path = "/srv/this",
						.open_path = "/proc/self/exe",
						.dev = st.st_dev,
						.inode = st.st_ino,
						.build_id = "",
					});
	struct place at = { .file = f, .addr = (uintptr_t)a_function_of_its_own - bias, .may_wait = true };

	look(n, &at, true, false); /* the first time at once */
	assert_non_null(f->lines);
	namer_rest(n);
	assert_non_null(f->lines); /* it was used just now */
	assert_true(f->lines_cost_ns > 0);
	f->lines_used_ns = 0;
	namer_rest(n);
	assert_null(f->lines);
	assert_true(f->lines_again_ns > f->lines_opened_ns + 100 * f->lines_cost_ns ||
		    f->lines_again_ns > f->lines_opened_ns + 20000000000ull);
	f->lines_again_ns = UINT64_MAX;
	look(n, &at, false, true); /* its name stands in the symbol table */
	assert_null(f->lines);
	at.may_wait = false;
	look(n, &at, true, false);
	f->lines_used_ns = 0;
	namer_rest(n);
	f->lines_again_ns = mono_ns();
	at.may_wait = true;
	look(n, &at, true, false);
	namer_free(n);
	symfile_free(f);
	pool_free(strings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_opened_now_and_then),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
