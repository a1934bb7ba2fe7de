/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merging of native and Python frames. Stacks are written as text, leaf first: a native frame is a small letter, a loop of the interpreter 'L', a step
 * of it 'S'; a Python frame is a digit, an entry frame has '!' behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/mem.h"
#include "view/merge.h"

#define FRAMES_MAX 127

struct pair {
	struct snap_frame frames[FRAMES_MAX];
	struct snap_pyframe python[FRAMES_MAX];
	struct snap_stackdef def;
	struct merged_frame merged[2 * FRAMES_MAX];
	size_t n;
};

static void write_stack(struct pair *s, const char *native, const char *python, uint8_t cut)
{
	memset(s, 0, sizeof(*s));
	s->def = (struct snap_stackdef){
		.complete = cut == CUT_NONE, .cut = cut, .frames = s->frames, .python = s->python
	};
	for (; *native; native++)
		s->frames[s->def.n_frames++] = (struct snap_frame){
			.addr = (uint64_t)*native,
			.eval = *native == 'L'	 ? EVAL_LOOP
				: *native == 'S' ? EVAL_STEP
						 : EVAL_NONE,
		};
	for (; *python; python++)
		if (*python != '!')
			s->python[s->def.n_python++] = (struct snap_pyframe){ .line = (uint32_t)*python,
									      .is_entry = python[1] == '!' };
}

/* What was merged, as text without the entry marks. */
static void read_merged(const struct pair *s, char *text)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct merged_frame *f = &s->merged[i];

		*text++ = f->python ? (char)s->python[f->index].line : (char)s->frames[f->index].addr;
	}
	*text = 0;
}

struct row {
	const char *native, *python;
	uint8_t cut;
	const char *merged;
};

static void assert_rows(const struct row *rows, size_t n, enum merge_mode mode)
{
	struct pair *s = xcalloc(1, sizeof(*s));
	char text[2 * FRAMES_MAX + 1];

	for (size_t i = 0; i < n; i++) {
		write_stack(s, rows[i].native, rows[i].python, rows[i].cut);
		s->n = merge_frames(&s->def, mode, s->merged);
		read_merged(s, text);
		assert_string_equal(text, rows[i].merged);
	}
	free(s);
}

/* 3.8 to 3.10: one activation per Python frame. */
static void a_loop_for_each_frame(void **state)
{
	static const struct row rows[] = {
		{ "aLm", "1!", CUT_NONE, "a1m" },
		{ "aLbLcLm", "1!2!3!", CUT_NONE, "a1b2c3m" },
		{ "aLLLm", "1!2!3!", CUT_NONE, "a123m" }, /* calls inlined into the loop leave nothing between */
		{ "L", "1!", CUT_NONE, "1" },
		{ "Lm", "1!", CUT_NONE, "1m" },
	};

	(void)state;
	assert_rows(rows, ARRAY_SIZE(rows), MERGE_BOTH);
}

/* 3.11 and later: Python calls Python inside one activation. */
static void many_frames_in_a_loop(void **state)
{
	static const struct row rows[] = {
		{ "aLm", "123!", CUT_NONE, "a123m" },
		{ "aLbcLm", "12!345!", CUT_NONE, "a12bc345m" },
		{ "aLbLcLm", "1!234!5!", CUT_NONE, "a1b234c5m" },
	};

	(void)state;
	assert_rows(rows, ARRAY_SIZE(rows), MERGE_BOTH);
}

/* sorted(key=f), ctypes: C stands between two activations and stays there. */
static void c_callbacks_stay_between(void **state)
{
	static const struct row rows[] = {
		{ "malloc"
		  "L"
		  "sort"
		  "L"
		  "main",
		  "1!2!", CUT_NONE,
		  "malloc"
		  "1"
		  "sort"
		  "2"
		  "main" },
		{ "aLffiLm", "12!3!", CUT_NONE, "a12ffi3m" },
		{ "aLbLcLdLe", "1!2!34!5!", CUT_NONE, "a1b2c34d5e" },
	};

	(void)state;
	assert_rows(rows, ARRAY_SIZE(rows), MERGE_BOTH);
}

static void steps_go_with_their_loop(void **state)
{
	static const struct row rows[] = {
		{ "aSLm", "1!", CUT_NONE, "a1m" },
		{ "aSSLm", "12!", CUT_NONE, "a12m" },
		{ "aSLbSLm", "1!2!", CUT_NONE, "a1b2m" },
		{ "SLm", "1!", CUT_NONE, "1m" },	 /* the leaf itself is a step */
		{ "aSbLm", "1!", CUT_NONE, "ab1m" },	 /* a helper between them is no part of the loop */
		{ "aSLbSLm", "1!", CUT_NONE, "a1bSLm" }, /* a loop that stays native keeps its step */
		{ "aS", "1!2!", CUT_DEPTH, "a12" },	 /* cut between the step and its loop */
	};

	(void)state;
	assert_rows(rows, ARRAY_SIZE(rows), MERGE_BOTH);
}

static void loops_without_frames_stay_native(void **state)
{
	static const struct row rows[] = {
		{ "aLm", "", CUT_NONE, "aLm" },
		{ "aSLbLm", "", CUT_NONE, "aSLbLm" },
		{ "aLbLcLm", "1!", CUT_NONE, "a1bLcLm" },
		{ "aLbLm", "123", CUT_NONE, "a123bLm" }, /* the chain was cut inside of the first activation */
		{ "aLbLm", "1!23", CUT_NONE, "a1b23m" },
		{ "aL", "", CUT_RULE, "aL" },
	};

	(void)state;
	assert_rows(rows, ARRAY_SIZE(rows), MERGE_BOTH);
}

static void what_lies_beyond_the_cut_stands_outside(void **state)
{
	static const struct row rows[] = {
		{ "aLb", "1!2!3!", CUT_DEPTH, "a1b23" },   { "aLbL", "12!3!45!6!", CUT_DEPTH, "a12b3456" },
		{ "ab", "1!2!", CUT_NO_ROW, "ab12" }, /* cut before the first loop */
		{ "aLb", "1!2!", CUT_NO_MAPPING, "a1b2" }, { "aLb", "1!2!", CUT_RULE, "a1b2" },
		{ "aLb", "1!2!", CUT_MEMORY, "a1b2" },	   { "", "1!2!", CUT_UNKNOWN, "12" },
		{ "aLb", "1!", CUT_DEPTH, "a1b" },	   { "", "", CUT_UNKNOWN, "" },
	};

	(void)state;
	assert_rows(rows, ARRAY_SIZE(rows), MERGE_BOTH);
}

static void what_is_left_belongs_to_the_outermost_loop(void **state)
{
	static const struct row rows[] = {
		{ "aLm", "1!2!3!", CUT_NONE, "a123m" },
		{ "aLbLm", "1!2!3!4", CUT_NONE, "a1b234m" },
		{ "aSLm", "1!2!", CUT_NONE, "a12m" },
		{ "am", "1!2!", CUT_NONE, "am12" }, /* no loop at all was recognised */
		{ "aSm", "1!", CUT_NONE, "am1" },
		{ "", "1!", CUT_NONE, "1" },
	};

	(void)state;
	assert_rows(rows, ARRAY_SIZE(rows), MERGE_BOTH);
}

static void one_kind_alone(void **state)
{
	static const struct row native[] = {
		{ "aSLbLm", "1!2!", CUT_NONE, "aSLbLm" },
		{ "", "1!", CUT_UNKNOWN, "" },
	};
	static const struct row python[] = {
		{ "aSLbLm", "12!3!", CUT_NONE, "123" },
		{ "aLm", "", CUT_NONE, "" },
		{ "ab", "1!2", CUT_DEPTH, "12" },
	};

	(void)state;
	assert_rows(native, ARRAY_SIZE(native), MERGE_NATIVE);
	assert_rows(python, ARRAY_SIZE(python), MERGE_PYTHON);
}

/* --- properties --- */

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static void make_random(struct pair *s, uint32_t *seed)
{
	uint32_t n_native = next_random(seed) % (FRAMES_MAX + 1), n_python = next_random(seed) % (FRAMES_MAX + 1);
	uint32_t loops = next_random(seed) % 5, entries = 1 + next_random(seed) % 5;

	memset(s, 0, sizeof(*s));
	s->def = (struct snap_stackdef){
		.n_frames = n_native, .frames = s->frames, .n_python = n_python, .python = s->python
	};
	s->def.cut = next_random(seed) % 2 ? CUT_NONE : (uint8_t)(next_random(seed) % CUT_NR);
	s->def.complete = s->def.cut == CUT_NONE;
	for (uint32_t i = 0; i < n_native; i++) {
		uint32_t dice = next_random(seed) % 10;

		s->frames[i].eval = dice < loops ? EVAL_LOOP : dice == 9 ? EVAL_STEP : EVAL_NONE;
	}
	for (uint32_t i = 0; i < n_python; i++)
		s->python[i].is_entry = next_random(seed) % entries == 0;
}

/* Every Python frame once and in order; every native frame at most once and in order, missing only if it is a part of a loop. */
static void assert_nothing_lost(const struct pair *s)
{
	uint32_t native = 0, python = 0, loops_gone = 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct merged_frame *f = &s->merged[i];

		if (f->python) {
			assert_int_equal(f->index, python++);
			continue;
		}
		assert_true(f->index < s->def.n_frames);
		assert_true(f->index >= native);
		for (; native < f->index; native++) {
			assert_true(s->frames[native].eval != EVAL_NONE);
			loops_gone += s->frames[native].eval == EVAL_LOOP;
		}
		native++;
	}
	for (; native < s->def.n_frames; native++) {
		assert_true(s->frames[native].eval != EVAL_NONE);
		loops_gone += s->frames[native].eval == EVAL_LOOP;
	}
	assert_int_equal(python, s->def.n_python);
	/* A loop goes only when Python frames stand for it. */
	assert_true(loops_gone <= python);
	/* And none stays native as long as there is a Python frame that it could have run. */
	for (size_t i = 0, left = s->def.n_python; i < s->n; i++) {
		const struct merged_frame *f = &s->merged[i];

		left -= f->python;
		assert_true(f->python || !left || s->frames[f->index].eval == EVAL_NONE);
	}
}

/* Between two native frames that stay, a complete stack has as many groups of Python frames as it had loops there: no frame crosses C code. */
static void assert_no_frame_crosses(const struct pair *s)
{
	uint32_t entries = 0, loops = 0;
	size_t python_left = s->def.n_python;

	for (size_t i = 0; i < s->n; i++) {
		const struct merged_frame *f = &s->merged[i];

		if (f->python) {
			entries += s->python[f->index].is_entry;
			python_left--;
			continue;
		}
		loops = 0;
		for (uint32_t k = 0; k < f->index; k++)
			loops += s->frames[k].eval == EVAL_LOOP;
		/* Leaf-side of C code stand exactly the activations that it called; the outermost one may hold more. */
		if (python_left)
			assert_int_equal(entries, loops);
	}
}

static void random_stacks(void **state)
{
	struct pair *s = xcalloc(1, sizeof(*s));
	uint32_t seed = 42;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		make_random(s, &seed);
		memset(s->merged, 0xff, sizeof(s->merged));
		s->n = merge_frames(&s->def, MERGE_BOTH, s->merged);
		assert_true(s->n <= s->def.n_frames + s->def.n_python);
		assert_nothing_lost(s);
		assert_no_frame_crosses(s);
		assert_int_equal(merge_frames(&s->def, MERGE_NATIVE, s->merged), s->def.n_frames);
		assert_int_equal(merge_frames(&s->def, MERGE_PYTHON, s->merged), s->def.n_python);
	}
	free(s);
}

/* As many frames as there is room for, and not one more. */
static void all_the_room_is_used(void **state)
{
	uint32_t n = 2 * FRAMES_MAX;
	struct merged_frame *exact = xcalloc(n, sizeof(*exact));
	struct pair *s = xcalloc(1, sizeof(*s));

	(void)state;
	s->def = (struct snap_stackdef){ .n_frames = FRAMES_MAX,
					 .frames = s->frames,
					 .n_python = FRAMES_MAX,
					 .python = s->python,
					 .cut = CUT_DEPTH };
	assert_int_equal(merge_frames(&s->def, MERGE_BOTH, exact), n);
	assert_false(exact[FRAMES_MAX - 1].python);
	assert_true(exact[FRAMES_MAX].python);
	free(exact);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_loop_for_each_frame),
		cmocka_unit_test(many_frames_in_a_loop),
		cmocka_unit_test(c_callbacks_stay_between),
		cmocka_unit_test(steps_go_with_their_loop),
		cmocka_unit_test(loops_without_frames_stay_native),
		cmocka_unit_test(what_lies_beyond_the_cut_stands_outside),
		cmocka_unit_test(what_is_left_belongs_to_the_outermost_loop),
		cmocka_unit_test(one_kind_alone),
		cmocka_unit_test(random_stacks),
		cmocka_unit_test(all_the_room_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
