/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of the vdso, of split and shared debug information. With `--names` it is a tool instead: lines "FILE ADDRESS" on
 * standard input, frames on standard output, for comparison with other tools (tests/e2e/test_names.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/auxv.h>

#include "sym/sym.h"
#include "util/mem.h"

static void sym_freep(struct sym **s)
{
	sym_free(*s);
}

/* --- the tool --- */

static void print_frames(struct sym *s, uint32_t module, uint64_t addr)
{
	const struct snap_frame f = { .module = module, .addr = addr };
	const struct sym_frame *frames;
	size_t n = sym_resolve(s, &f, &frames);

	for (size_t i = 0; i < n; i++)
		printf("%s\t%s\t%u\n", frames[i].name, frames[i].file ? frames[i].file : "", frames[i].line);
}

static int answer_questions(void)
{
	_cleanup_(sym_freep) struct sym *s = sym_new();
	char path[PATH_MAX], last[PATH_MAX] = "";
	struct snap_module m = { .path = path, .open_path = path, .build_id = "" };
	uint64_t addr;

	while (scanf("%4095s %" SCNx64, path, &addr) == 2) {
		if (strcmp(path, last) != 0) {
			m.id++;
			sym_add_modules(s, &m, 1);
			memcpy(last, path, sizeof(last));
		}
		printf("= %" PRIx64 "\n", addr);
		print_frames(s, m.id, addr);
	}
	return ferror(stdout) || !feof(stdin);
}

/* --- the tests --- */

static void vdso_has_names(void **state)
{
	static const struct snap_module m = { .id = 1, .path = "[vdso]", .open_path = NULL, .build_id = "" };
	_cleanup_(sym_freep) struct sym *s = sym_new();
	void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
	void *fn = vdso ? dlsym(vdso, "__vdso_clock_gettime") : NULL;
	const struct sym_frame *f;

	(void)state;
	if (!fn)
		skip();
	const struct snap_frame at = { .module = 1, .addr = (uint64_t)fn - getauxval(AT_SYSINFO_EHDR) + 3 };
	const struct snap_frame nowhere = { .module = 1, .addr = 1u << 20 };
	sym_add_modules(s, &m, 1);
	assert_int_equal(sym_resolve(s, &at, &f), 1);
	assert_string_equal(f->name, "clock_gettime");
	assert_string_equal(f->module, "[vdso]");
	assert_true(f->final);
	assert_non_null(f->build_id);
	assert_int_equal(sym_resolve(s, &nowhere, &f), 1);
	assert_string_equal(f->name, "[vdso]+0x100000");
	(void)dlclose(vdso); /* a count */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vdso_has_names),
	};

	if (argc > 1 && !strcmp(argv[1], "--names"))
		return answer_questions();
	return cmocka_run_group_tests_name("sym_names", tests, NULL, NULL);
}
