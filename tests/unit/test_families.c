/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The families table: every name once, sites as the demangler writes them, shapes as the C library really behaves,
 * order of aliases.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <libiberty/demangle.h>
#include <stdlib.h>
#include <string.h>

#include "target/families.h"

static const struct family_func *row(const char *symbol)
{
	const struct family_func *f = family_find(symbol);

	if (!f)
		fail_msg("no row for %s", symbol);
	return f;
}

static void test_every_row_is_found_once(void **state)
{
	(void)state;
	assert_true(family_funcs_n > 60);
	for (size_t i = 0; i < family_funcs_n; i++) {
		const struct family_func *f = &family_funcs[i];
		assert_ptr_equal(family_find(f->symbol), f);
		assert_true(family_wants(f->symbol, NULL));
		assert_true(f->shape < SHAPE_NR && f->shape != SHAPE_WRAP);
		assert_int_equal(f->layer, LAYER_HEAP);
		assert_true(strlen(f->symbol) < 64); /* struct plan keeps 63 characters */
	}
}

static void test_others_are_not_wanted(void **state)
{
	static const char *const others[] = { "",     "m",	"mallo", "malloc_", "Malloc", "strdup",
					      "_Znw", "_Znwmm", "mmap",	 "tc_",	    "sbrk" };

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_null(family_find(others[i]));
		assert_false(family_wants(others[i], NULL));
	}
}

static void test_operator_sites_are_demangled_names(void **state)
{
	size_t n_new = 0, n_delete = 0;

	(void)state;
	for (size_t i = 0; i < family_funcs_n; i++) {
		const struct family_func *f = &family_funcs[i];
		if (strcmp(f->family, "c++"))
			continue;
		char *name = cplus_demangle_v3(f->symbol, DMGL_PARAMS | DMGL_ANSI);
		assert_non_null(name);
		assert_string_equal(f->site, name);
		free(name);
		bool is_new = !strncmp(f->symbol, "_Zn", 3);
		assert_int_equal(f->shape, is_new ? SHAPE_SIZE_TO_PTR : SHAPE_PTR_TO_VOID);
		n_new += is_new;
		n_delete += !is_new;
	}
	assert_int_equal(n_new, 8);
	assert_int_equal(n_delete, 12);
}

/* Shapes from the manual pages, in the prefixed families too. */
static void test_shapes(void **state)
{
	static const struct {
		const char *name;
		enum shape shape;
	} known[] = {
		{ "malloc", SHAPE_SIZE_TO_PTR },
		{ "calloc", SHAPE_N_SIZE_TO_PTR },
		{ "realloc", SHAPE_PTR_SIZE_TO_PTR },
		{ "reallocarray", SHAPE_PTR_N_SIZE_TO_PTR },
		{ "posix_memalign", SHAPE_OUT_ALIGN_SIZE_TO_INT },
		{ "aligned_alloc", SHAPE_ALIGN_SIZE_TO_PTR },
		{ "memalign", SHAPE_ALIGN_SIZE_TO_PTR },
		{ "valloc", SHAPE_SIZE_TO_PTR },
		{ "pvalloc", SHAPE_SIZE_TO_PTR },
		{ "free", SHAPE_PTR_TO_VOID },
		{ "cfree", SHAPE_PTR_TO_VOID },
		{ "free_sized", SHAPE_PTR_SIZE_TO_VOID },
		{ "free_aligned_sized", SHAPE_PTR_SIZE_TO_VOID },
	};
	static const char *const prefixes[] = { "je_", "tc_", "mi_" };
	size_t n_prefixed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const struct family_func *f = row(known[i].name);
		assert_int_equal(f->shape, known[i].shape);
		assert_string_equal(f->site, known[i].name);
		assert_string_equal(f->family, "malloc");
		for (size_t p = 0; p < 3; p++) {
			char name[64];
			snprintf(name, sizeof(name), "%s%s", prefixes[p], known[i].name);
			f = family_find(name);
			if (!f)
				continue;
			n_prefixed++;
			assert_int_equal(f->shape, known[i].shape);
			assert_ptr_equal(f > row(known[i].name) ? f : NULL, f);
		}
	}
	assert_true(n_prefixed >= 24);
}

static void test_order_of_aliases(void **state)
{
	/* Pairs that share an address somewhere: the left one names the site. */
	static const char *const pairs[][2] = {
		{ "aligned_alloc", "memalign" }, /* glibc 2.36 */
		{ "free", "cfree" },
		{ "malloc", "tc_malloc" }, /* gperftools */
		{ "_Znwm", "tc_new" },
		{ "_Znwm", "_Znam" },
		{ "memalign", "tc_memalign" },
		{ "malloc", "je_malloc" },
		{ "malloc", "mi_malloc" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		assert_true(row(pairs[i][0]) < row(pairs[i][1]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row_is_found_once),
		cmocka_unit_test(test_others_are_not_wanted),
		cmocka_unit_test(test_operator_sites_are_demangled_names),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_order_of_aliases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
