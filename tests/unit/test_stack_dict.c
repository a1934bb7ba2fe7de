/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The dictionary of stacks: what it copies, what it keeps of names. These come from here, not from files: sym_resolve is replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/arena.h"
#include "util/mem.h"
#include "view/stack_dict.h"

static unsigned resolved;

size_t sym_resolve(struct sym *s, const struct snap_frame *f, const struct sym_frame **ret)
{
	static const struct sym_frame settled = {
		.name = "settled", .module = "/srv/app", .final = true, .settled = true
	};

	assert_null(s);
	assert_non_null(f);
	resolved++;
	*ret = &settled;
	return 1;
}

/* No module is known. */
const char *sym_module_path(const struct sym *s, uint32_t module)
{
	assert_null(s);
	(void)module;
	return NULL;
}

static void dictionary_copies_and_keeps_the_first(void **state)
{
	struct stack_dict *d = stack_dict_new();
	struct snap_frame frames[2] = { { .module = 1, .addr = 10 }, { .module = 2, .addr = 20 } };
	char site[] = "malloc";
	char name[] = "f";
	struct snap_pyframe python[2] = { { name, "a.py", 3, true }, { .name = name } };
	struct snap_stackdef def = { .stack_id = 7,
				     .site = site,
				     .complete = true,
				     .n_frames = 2,
				     .frames = frames,
				     .n_python = 2,
				     .python = python };

	(void)state;
	stack_dict_add(d, &def, 1);
	site[0] = name[0] = 'X';
	frames[0].addr = 99;
	python[0].is_entry = false;
	def.n_frames = 1;
	stack_dict_add(d, &def, 1);
	const struct snap_stackdef *found = stack_dict_find(d, 7);
	assert_non_null(found);
	assert_string_equal(found->site, "malloc");
	assert_int_equal(found->n_frames, 2);
	assert_int_equal(found->frames[0].addr, 10);
	assert_int_equal(found->n_python, 2);
	assert_string_equal(found->python[0].name, "f");
	assert_string_equal(found->python[0].file, "a.py");
	assert_true(found->python[0].is_entry);
	assert_null(found->python[1].file);
	assert_int_equal(found->python[1].line, 0);
	assert_null(stack_dict_find(d, 8));
	for (uint64_t id = 100; id < 5000; id++) {
		def.stack_id = id << 32;
		def.n_frames = def.n_python = 0;
		def.site = NULL;
		stack_dict_add(d, &def, 1);
	}
	assert_ptr_equal(stack_dict_find(d, 7), found); /* entries stay where they are */
	assert_int_equal(stack_dict_find(d, 4999ull << 32)->stack_id, 4999ull << 32);
	stack_dict_free(d);
	stack_dict_free(NULL);
}

static void each_way_to_show_a_stack_is_kept(void **state)
{
	static const struct snap_frame native[] = { { .addr = 1, .eval = EVAL_LOOP }, { .addr = 1 } };
	static const struct snap_pyframe python[] = { { "App.load", "/srv/app.py", 7, true } };
	struct snap_stackdef def = {
		.site = "malloc", .complete = true, .n_frames = 2, .frames = native, .n_python = 1, .python = python
	};
	struct stack_dict *d = stack_dict_new();
	const struct query both = { 0 }, only_native = { .native_only = true }, only_python = { .python_only = true };
	const struct query *const queries[] = { &both, &only_native, &only_python };
	const struct named_stack *shown[2][3];

	(void)state;
	for (def.stack_id = 0x12; def.stack_id <= 0x22; def.stack_id += 0x10)
		stack_dict_add(d, &def, 1);
	for (size_t i = 0; i < 6; i++) {
		struct frame_list l = { .arena = arena_new() };
		const struct query *q = queries[i % 3];
		const struct named_stack *n = stack_dict_name(d, i < 3 ? 0x12 : 0x22, LAYER_HEAP, q, NULL, &l);

		resolved = 0;
		assert_ptr_equal(stack_dict_name(d, i < 3 ? 0x12 : 0x22, LAYER_HEAP, q, NULL, &l), n);
		assert_int_equal(resolved, 0);
		shown[i / 3][i % 3] = n;
		/* The summary alone is kept apart: it is known before the rest is named. */
		const struct named_stack *alone = stack_dict_sum_up(d, i < 3 ? 0x12 : 0x22, LAYER_HEAP, q, NULL, &l);
		resolved = 0;
		assert_ptr_equal(stack_dict_sum_up(d, i < 3 ? 0x12 : 0x22, LAYER_HEAP, q, NULL, &l), alone);
		assert_int_equal(resolved, 0);
		assert_ptr_not_equal(alone, n);
		assert_string_equal(alone->summary, n->summary);
		assert_null(stack_dict_sum_up(d, 0x99, LAYER_HEAP, q, NULL, &l));
		/* Another layer's rules hide other frames. */
		assert_ptr_not_equal(stack_dict_name(d, 0x12, LAYER_MAP, q, NULL, &l), n);
		assert_null(stack_dict_name(d, 0x99, LAYER_HEAP, q, NULL, &l));
		arena_free(l.arena);
		frame_list_done(&l);
	}
	assert_int_equal(shown[0][0]->n_frames, 2);
	assert_string_equal(shown[0][0]->frames[0]->name, "App.load");
	assert_string_equal(shown[0][1]->frames[0]->name, "settled");
	assert_int_equal(shown[0][2]->n_frames, 1);
	assert_string_equal(shown[0][2]->summary, "App.load app.py:7");
	assert_ptr_equal(shown[0][0]->frames[0], shown[1][2]->frames[0]); /* of another stack */
	stack_dict_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dictionary_copies_and_keeps_the_first),
		cmocka_unit_test(each_way_to_show_a_stack_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
