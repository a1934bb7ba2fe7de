/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which frames of a stack are shown, what is its site and its line in a table. Names come from a table here: sym_resolve is replaced. A stack is written
 * as text, a letter per native frame (its row below), a digit per Python frame.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/arena.h"
#include "util/mem.h"
#include "view/frames.h"

#define LIBC "/usr/lib/x86_64-linux-gnu/libc.so.6"
#define LIBSTDCXX "/usr/lib/libstdc++.so.6.0.30"

static const struct sym_frame names[128] = {
	['m'] = { .name = "main", .file = "/src/app/main.c", .line = 12, .module = "/srv/app" },
	['l'] = { .name = "load_table", .module = "/srv/app" },
	['n'] = { .name = "operator new(unsigned long)", .module = LIBSTDCXX },
	['N'] = { .name = "operator new[](unsigned long)", .module = LIBSTDCXX },
	['p'] = { .name = "Pool::operator new(unsigned long)", .module = "/srv/app" },
	['c'] = { .name = "strdup", .file = "strdup.c", .line = 42, .module = LIBC },
	['v'] = { .name = "void std::vector<int>::_M_realloc_insert<int>(int&&)", .module = "/srv/app" },
	['L'] = { .name = "_PyEval_EvalFrameDefault", .module = "/usr/bin/python3.11" },
	['o'] = { .name = "_PyObject_Malloc", .module = "/usr/bin/python3.11" },
	['j'] = { .name = "scan_once", .module = "/usr/lib/python3.11/lib-dynload/_json.cpython-311.so" },
	['i'] = { .name = "inner", .module = "/srv/app", .inlined = true },
	['w'] = { .name = "operator new(unsigned long)", .module = "/srv/app", .inlined = true },
	['a'] = { .name = "mmap64", .module = LIBC },
	['A'] = { .name = "__GI___mmap", .module = LIBC },
	['b'] = { .name = "__brk", .module = LIBC },
	['B'] = { .name = "sbrk", .module = LIBC },
	['r'] = { .name = "mremap", .module = LIBC },
	['y'] = { .name = "mmap_pool", .module = "/srv/app" },
};

static const struct snap_pyframe python_names[] = {
	{ "App.load", "/srv/app.py", 7, true },
	{ "<module>", "/srv/app.py", 90, true },
	{ "_call_with_frames_removed", "<frozen importlib._bootstrap>", 241, true },
	{ "", NULL, 5, true },
	{ "helper", "/srv/lib/helper.py", 0, false },
};

static int named_of_libc;

/* One buffer for all, as sym may reuse its own: who keeps the pointer reads the next frame's name. 'i' and 'w' are inlined into main. */
size_t sym_resolve(struct sym *s, const struct snap_frame *f, const struct sym_frame **ret)
{
	static struct sym_frame buf[2];

	assert_null(s);
	memset(buf, 0, sizeof(buf));
	buf[0] = names[f->addr];
	named_of_libc += buf[0].module && !strcmp(buf[0].module, LIBC);
	if (buf[0].inlined)
		buf[1] = names['m'];
	*ret = buf;
	return buf[0].inlined ? 2 : 1;
}

/* A module has the number of its frame. */
const char *sym_module_path(const struct sym *s, uint32_t module)
{
	assert_null(s);
	return names[module].module;
}

struct example {
	const char *native, *python;
	enum layer layer;
	bool native_only, python_only;
};

struct shown {
	struct frame_list list;
	struct snap_frame frames[16];
	struct snap_pyframe python[16];
};

typedef void resolver(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
		      const struct query *q);

static void show(struct shown *s, const struct example *e, resolver *resolve)
{
	struct query q = { .native_only = e->native_only, .python_only = e->python_only };
	struct snap_stackdef def = { .site = e->layer == LAYER_MAP ? "mmap" : "malloc",
				     .complete = true,
				     .frames = s->frames,
				     .python = s->python };

	if (!s->list.arena)
		s->list.arena = arena_new();
	for (const char *c = e->native; *c; c++)
		s->frames[def.n_frames++] = (struct snap_frame){ .addr = (uint64_t)*c,
								 .module = (uint32_t)*c,
								 .eval = *c == 'L' ? EVAL_LOOP : EVAL_NONE };
	for (const char *c = e->python ? e->python : ""; *c; c++)
		s->python[def.n_python++] = python_names[*c - '0'];
	resolve(&s->list, NULL, &def, e->layer, &q);
}

static void shown_free(struct shown *s)
{
	arena_free(s->list.arena);
	frame_list_done(&s->list);
	free(s);
}

/* Names of all frames, separated by blanks; operators have blanks in them too. */
static void names_of(const struct frame_list *l, char *text, size_t cap)
{
	size_t at = 0;

	text[0] = 0;
	for (size_t i = 0; i < l->n; i++)
		at += (size_t)snprintf(text + at, cap - at, "%s%s", i ? " " : "", l->frames[i]->name);
}

static void assert_frames(const struct example *e, const char *wanted, const char *site)
{
	struct shown *s = xcalloc(1, sizeof(*s));
	char text[1024];

	show(s, e, frames_resolve);
	names_of(&s->list, text, sizeof(text));
	assert_string_equal(text, wanted);
	assert_string_equal(s->list.site, site);
	/* The innermost frame alone is the same one. */
	size_t n = s->list.n;
	struct sym_frame innermost = n ? *s->list.frames[0] : (struct sym_frame){ 0 };
	const char *summary = frames_summary(s->list.arena, &s->list);
	show(s, e, frames_resolve_innermost);
	assert_int_equal(s->list.n > 0, n > 0);
	if (n)
		assert_memory_equal(s->list.frames[0], &innermost, sizeof(innermost));
	/* So is what the summary takes. */
	show(s, e, frames_resolve_telling);
	assert_string_equal(frames_summary(s->list.arena, &s->list), summary);
	shown_free(s);
}

static void operators_are_sites(void **state)
{
	static const struct {
		struct example e;
		const char *site, *frames;
	} rows[] = {
		{ { "ml", .layer = LAYER_HEAP }, "malloc", "main load_table" },
		{ { "nm", .layer = LAYER_HEAP }, "operator new(unsigned long)", "main" },
		{ { "nNm", .layer = LAYER_HEAP }, "operator new[](unsigned long)", "main" },
		{ { "n", .layer = LAYER_HEAP }, "operator new(unsigned long)", "" },
		{ { "w", .layer = LAYER_HEAP }, "operator new(unsigned long)", "main" }, /* inlined into its caller */
		/* new is not what called malloc */
		{ { "lnm", .layer = LAYER_HEAP }, "malloc", "load_table operator new(unsigned long) main" },
		{ { "pm", .layer = LAYER_HEAP }, "malloc", "Pool::operator new(unsigned long) main" },
		{ { "nm", .layer = LAYER_MAP }, "mmap", "operator new(unsigned long) main" },
		{ { "", .layer = LAYER_HEAP }, "malloc", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_frames(&rows[i].e, rows[i].frames, rows[i].site);
}

static void ways_into_the_kernel_are_no_callers(void **state)
{
	static const struct {
		struct example e;
		const char *frames;
	} rows[] = {
		{ { "am", .layer = LAYER_MAP }, "main" },
		{ { "Am", .layer = LAYER_MAP }, "main" },
		{ { "bBm", .layer = LAYER_MAP }, "main" }, /* brk, called by sbrk */
		{ { "rlm", .layer = LAYER_MAP }, "load_table main" },
		{ { "lam", .layer = LAYER_MAP }, "load_table mmap64 main" },
		{ { "ym", .layer = LAYER_MAP }, "mmap_pool main" },
		{ { "a", .layer = LAYER_MAP }, "" },
		{ { "am", .layer = LAYER_HEAP }, "mmap64 main" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_frames(&rows[i].e, rows[i].frames, rows[i].e.layer == LAYER_MAP ? "mmap" : "malloc");
}

static void kinds_of_frames_can_be_chosen(void **state)
{
	static const struct {
		struct example e;
		const char *frames;
	} rows[] = {
		{ { "oLm", "0", .layer = LAYER_HEAP }, "_PyObject_Malloc App.load main" },
		{ { "oLm", "0", .layer = LAYER_HEAP, .native_only = true },
		  "_PyObject_Malloc _PyEval_EvalFrameDefault main" },
		{ { "oLm", "0", .layer = LAYER_HEAP, .python_only = true }, "App.load" },
		{ { "oLcLm", "01", .layer = LAYER_HEAP }, "_PyObject_Malloc App.load strdup <module> main" },
		{ { "oLcLm", "41", .layer = LAYER_HEAP },
		  "_PyObject_Malloc helper <module> strdup _PyEval_EvalFrameDefault main" },
		/* nothing of Python is known */
		{ { "oLm", "", .layer = LAYER_HEAP }, "_PyObject_Malloc _PyEval_EvalFrameDefault main" },
		{ { "oLm", "", .layer = LAYER_HEAP, .python_only = true },
		  "_PyObject_Malloc _PyEval_EvalFrameDefault main" },
		{ { "Lm", "3", .layer = LAYER_HEAP }, "[unknown] main" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_frames(&rows[i].e, rows[i].frames, "malloc");
}

/* The site is the same, whatever is shown. */
static void sites_are_found_behind_what_is_hidden(void **state)
{
	const struct example e = { "nNLm", "0", .layer = LAYER_HEAP, .python_only = true };

	(void)state;
	assert_frames(&e, "App.load", "operator new[](unsigned long)");
}

static void inlined_frames_are_in_place(void **state)
{
	const struct example e = { "lic", .layer = LAYER_HEAP };

	(void)state;
	assert_frames(&e, "load_table inner main strdup", "malloc");
}

static void python_frames_say_where(void **state)
{
	const struct example e = { "Lm", "043", .layer = LAYER_HEAP };
	struct shown *s = xcalloc(1, sizeof(*s));
	const struct sym_frame *const *f;

	(void)state;
	show(s, &e, frames_resolve);
	f = s->list.frames;
	assert_int_equal(f[0]->kind, FRAME_PYTHON);
	assert_string_equal(f[0]->file, "/srv/app.py");
	assert_int_equal(f[0]->line, 7);
	assert_true(f[0]->final && f[0]->settled && !f[0]->inlined && !f[0]->module && !f[0]->build_id);
	assert_int_equal(f[1]->line, 0);
	assert_null(f[2]->file);
	assert_int_equal(f[2]->line, 0); /* a line of no file says nothing */
	assert_int_equal(f[3]->kind, FRAME_NATIVE);
	assert_false(s->list.settled); /* not all of them: main's name may come to be a better one */
	shown_free(s);
}

static void summaries_name_the_programs_own_code(void **state)
{
	static const struct {
		struct example e;
		const char *summary;
	} rows[] = {
		{ { "ml", .layer = LAYER_HEAP }, "main main.c:12" },
		{ { "lm", .layer = LAYER_HEAP }, "load_table" },
		{ { "cl", .layer = LAYER_HEAP }, "load_table" },
		{ { "nvm", .layer = LAYER_HEAP }, "main main.c:12" },
		{ { "cc", .layer = LAYER_HEAP }, "strdup strdup.c:42" }, /* nothing else there */
		{ { "n", .layer = LAYER_HEAP }, "operator new(unsigned long)" },
		{ { "", .layer = LAYER_HEAP }, "malloc" },
		{ { "oLc", "0", .layer = LAYER_HEAP }, "App.load app.py:7" },
		{ { "oLc", "0", .layer = LAYER_HEAP, .native_only = true }, "_PyObject_Malloc" },
		{ { "ojLc", "0", .layer = LAYER_HEAP },
		  "App.load app.py:7" },				/* the standard library's own extensions */
		{ { "olLc", "0", .layer = LAYER_HEAP }, "load_table" }, /* somebody's extension */
		{ { "oLcLc", "21", .layer = LAYER_HEAP }, "<module> app.py:90" }, /* an import */
		{ { "oLc", "2", .layer = LAYER_HEAP }, "_call_with_frames_removed <frozen importlib._bootstrap>:241" },
		{ { "oLm", "2", .layer = LAYER_HEAP }, "main main.c:12" }, /* an interpreter within a program */
		{ { "oLc", "4", .layer = LAYER_HEAP }, "helper helper.py" },
		{ { "oLc", "3", .layer = LAYER_HEAP }, "[unknown]" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct shown *s = xcalloc(1, sizeof(*s));

		show(s, &rows[i].e, frames_resolve);
		assert_string_equal(frames_summary(s->list.arena, &s->list), rows[i].summary);
		show(s, &rows[i].e, frames_resolve_telling);
		assert_string_equal(frames_summary(s->list.arena, &s->list), rows[i].summary);
		shown_free(s);
	}
}

/* Nor are the C library's frames named for a summary that another frame gives. */
static void summaries_name_no_more_than_they_need(void **state)
{
	static const struct {
		struct example e;
		int of_libc;
	} rows[] = {
		{ { "ccm", NULL, .layer = LAYER_HEAP }, 0 }, { { "cvm", NULL, .layer = LAYER_HEAP }, 0 },
		{ { "aAy", NULL, .layer = LAYER_MAP }, 0 },  { { "oLc", "02", .layer = LAYER_HEAP }, 0 },
		{ { "oLc", "2", .layer = LAYER_HEAP }, 0 },  { { "ccc", NULL, .layer = LAYER_HEAP }, 1 },
		{ { "cwm", NULL, .layer = LAYER_HEAP }, 1 }, /* an operator that may be the site, or not */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct shown *s = xcalloc(1, sizeof(*s));

		show(s, &rows[i].e, frames_resolve);
		const char *whole = frames_summary(s->list.arena, &s->list);
		named_of_libc = 0;
		show(s, &rows[i].e, frames_resolve_telling);
		assert_string_equal(frames_summary(s->list.arena, &s->list), whole);
		assert_int_equal(named_of_libc, rows[i].of_libc);
		shown_free(s);
	}
}

/* Nothing at all is known but that it was allocated. */
static void a_stack_may_have_no_site(void **state)
{
	const struct snap_frame wrapper = { .addr = 'a' };
	struct snap_stackdef def = { .cut = CUT_UNKNOWN };
	struct query q = { 0 };
	struct arena *arena = arena_new();
	struct frame_list l = { .arena = arena };

	(void)state;
	frames_resolve(&l, NULL, &def, LAYER_HEAP, &q);
	assert_null(l.site);
	assert_int_equal(l.n, 0);
	assert_string_equal(frames_summary(arena, &l), "unknown stack");
	def.frames = &wrapper;
	def.n_frames = 1;
	frames_resolve(&l, NULL, &def, LAYER_MAP, &q);
	assert_string_equal(l.site, "mmap64"); /* then the wrapper tells more than nothing */
	frame_list_done(&l);
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operators_are_sites),
		cmocka_unit_test(ways_into_the_kernel_are_no_callers),
		cmocka_unit_test(kinds_of_frames_can_be_chosen),
		cmocka_unit_test(sites_are_found_behind_what_is_hidden),
		cmocka_unit_test(inlined_frames_are_in_place),
		cmocka_unit_test(python_frames_say_where),
		cmocka_unit_test(summaries_name_the_programs_own_code),
		cmocka_unit_test(summaries_name_no_more_than_they_need),
		cmocka_unit_test(a_stack_may_have_no_site),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
