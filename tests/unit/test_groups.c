/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stacks put together: the rows of a layer add up to it, whatever the grouping and the limit. Names come from a table here: sym_resolve
 * is replaced.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "util/arena.h"
#include "util/mem.h"
#include "view/groups.h"
#include "view/stack_dict.h"

enum { AT_MAIN, AT_LOAD, AT_SAVE, AT_NEW, AT_LOOP, AT_BARE, AT_NR };

static const struct sym_frame names[AT_NR] = {
	[AT_MAIN] = { .name = "main", .file = "/src/main.c", .line = 12, .module = "/srv/app" },
	[AT_LOAD] = { .name = "load", .file = "/src/io.c", .line = 3, .module = "/srv/app" },
	[AT_SAVE] = { .name = "save", .file = "/src/io.c", .module = "/srv/libio.so" },
	[AT_NEW] = { .name = "operator new(unsigned long)", .module = "/usr/lib/libstdc++.so.6" },
	[AT_LOOP] = { .name = "_PyEval_EvalFrameDefault", .module = "/usr/bin/python3.11" },
	[AT_BARE] = { .name = "0x7f0000001234" },
};

size_t sym_resolve(struct sym *s, const struct snap_frame *f, const struct sym_frame **ret)
{
	static struct sym_frame buf;

	assert_null(s);
	buf = names[f->addr];
	*ret = &buf;
	return 1;
}

/* No module is known. */
const char *sym_module_path(const struct sym *s, uint32_t module)
{
	assert_null(s);
	(void)module;
	return NULL;
}

#define MAX_STACKS 512

struct world {
	struct arena *arena;
	struct stack_dict *dict;
	struct snap_stack snaps[MAX_STACKS];
	struct model_stack stacks[MAX_STACKS];
	const struct model_stack *list[MAX_STACKS];
	size_t n;
	struct query q;
};

static int setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->arena = arena_new();
	w->dict = stack_dict_new();
	w->q.stack_sort = SORT_LIVE;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	stack_dict_free(w->dict);
	arena_free(w->arena);
	free(w);
	return 0;
}

/* Defines a stack by its rows, leaf first; -1 ends them. `python`: how many Python frames (1 at most). */
static void define(struct world *w, uint64_t id, int python, ...)
{
	static const struct snap_pyframe f = { "App.load", "/srv/app.py", 7, true };
	struct snap_frame frames[8];
	struct snap_stackdef def = { .stack_id = id,
				     .site = "malloc",
				     .complete = true,
				     .frames = frames,
				     .n_python = (uint32_t)python,
				     .python = &f };
	va_list ap;

	va_start(ap, python);
	for (int at; (at = va_arg(ap, int)) >= 0;)
		frames[def.n_frames++] = (struct snap_frame){ .addr = (uint64_t)at,
							      .eval = at == AT_LOOP ? EVAL_LOOP : EVAL_NONE };
	va_end(ap);
	stack_dict_add(w->dict, &def, 1);
}

static struct snap_stack *add(struct world *w, uint64_t id, enum layer layer, uint64_t live)
{
	struct snap_stack *s = &w->snaps[w->n];

	*s = (struct snap_stack){ .stack_id = id,
				  .layer = layer,
				  .counts = { .live_bytes = live,
					      .live_count = 1,
					      .peak_live_bytes = 2 * live,
					      .alloc_bytes = 3 * live,
					      .alloc_count = 3,
					      .free_bytes = 2 * live,
					      .free_count = 2,
					      .untracked_bytes = 5,
					      .untracked_count = 1 } };
	w->stacks[w->n] = (struct model_stack){ .snap = s,
						.alloc_bytes_per_s = (double)live,
						.allocs_per_s = 1,
						.growth_bytes_per_s = NAN,
						.delta_bytes = 10 };
	w->list[w->n] = &w->stacks[w->n];
	w->n++;
	return s;
}

static size_t build_with(struct world *w, enum group_by by, double edge, const struct report_group **ret)
{
	struct group_source src = { .stacks = w->list,
				    .n_stacks = w->n,
				    .q = &w->q,
				    .dict = w->dict,
				    .arena = w->arena,
				    .live_known = { [LAYER_HEAP] = true, [LAYER_MAP] = true },
				    .edge = edge };

	w->q.group = by;
	return groups_build(&src, ret);
}

static size_t build(struct world *w, enum group_by by, const struct report_group **ret)
{
	return build_with(w, by, 0, ret);
}

static void assert_row(const struct report_group *g, const char *name, uint64_t live, size_t n)
{
	assert_string_equal(g->name, name);
	assert_int_equal(g->counts.c.live_bytes, live);
	assert_int_equal(g->n_stacks, n);
}

/* Five stacks: two of load (one behind operator new), one of save, one without a place, one that is not defined. */
static void fill(struct world *w)
{
	define(w, 0x12, 0, AT_LOAD, AT_MAIN, -1);
	define(w, 0x22, 0, AT_NEW, AT_LOAD, AT_MAIN, -1);
	define(w, 0x32, 0, AT_SAVE, AT_MAIN, -1);
	define(w, 0x42, 0, AT_BARE, -1);
	add(w, 0x12, LAYER_HEAP, 100);
	add(w, 0x22, LAYER_HEAP, 50);
	add(w, 0x32, LAYER_HEAP, 70);
	add(w, 0x42, LAYER_HEAP, 8);
	add(w, 0x52, LAYER_HEAP, 4);
}

static void by_the_innermost_frame(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	fill(w);
	assert_int_equal(build(w, GROUP_FUNCTION, &g), 4);
	assert_row(&g[0], "load", 150, 2);
	assert_row(&g[1], "save", 70, 1);
	assert_row(&g[2], "0x7f0000001234", 8, 1);
	assert_row(&g[3], "[unknown]", 4, 1);
	assert_int_equal(build(w, GROUP_MODULE, &g), 3);
	assert_row(&g[0], "/srv/app", 150, 2);
	assert_row(&g[1], "/srv/libio.so", 70, 1);
	assert_row(&g[2], "[unknown]", 12, 2);
	assert_int_equal(build(w, GROUP_FILE_LINE, &g), 3);
	assert_row(&g[0], "/src/io.c:3", 150, 2);
	assert_row(&g[1], "/src/io.c", 70, 1);
	assert_row(&g[2], "[unknown]", 12, 2);
}

static void python_frames_count_as_they_are_shown(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	define(w, 0x12, 1, AT_LOAD, AT_LOOP, AT_MAIN, -1);
	define(w, 0x22, 1, AT_LOOP, AT_MAIN, -1); /* the loop itself allocated */
	add(w, 0x12, LAYER_HEAP, 100);
	add(w, 0x22, LAYER_HEAP, 50);
	assert_int_equal(build(w, GROUP_FUNCTION, &g), 2);
	assert_row(&g[0], "load", 100, 1);
	assert_row(&g[1], "App.load", 50, 1);
	assert_int_equal(build(w, GROUP_MODULE, &g), 2);
	assert_row(&g[1], "/srv/app.py", 50, 1); /* Python's modules are files */
	w->q.python_only = true;
	assert_int_equal(build(w, GROUP_FILE_LINE, &g), 1);
	assert_row(&g[0], "/srv/app.py:7", 150, 2);
	w->q.python_only = false;
	w->q.native_only = true;
	assert_int_equal(build(w, GROUP_FUNCTION, &g), 2);
	assert_row(&g[1], "_PyEval_EvalFrameDefault", 50, 1);
}

static void by_thread(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	define(w, 0x12, 0, AT_LOAD, -1);
	for (uint32_t i = 0; i < 6; i++) {
		struct snap_stack *s = add(w, 0x12, LAYER_HEAP, 100 << i);

		s->tid = i / 2 * 11;
		s->thread = s->tid == 11 ? "worker" : NULL;
	}
	assert_int_equal(build(w, GROUP_THREAD, &g), 3);
	assert_row(&g[0], "22", 4800, 2);
	assert_row(&g[1], "11 worker", 1200, 2);
	assert_int_equal(g[1].tid, 11);
	assert_string_equal(g[1].thread, "worker");
	assert_row(&g[2], "[unknown]", 300, 2);
	assert_int_equal(g[2].tid, 0);
}

static void layers_stay_apart(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	define(w, 0x12, 0, AT_LOAD, -1);
	define(w, 0x11, 0, AT_LOAD, -1);
	define(w, 0x10, 0, AT_LOAD, -1);
	add(w, 0x12, LAYER_HEAP, 100);
	add(w, 0x11, LAYER_MAP, 1000);
	add(w, 0x10, LAYER_PAGE, 0)->counts.live_bytes = UNKNOWN_U64;
	assert_int_equal(build(w, GROUP_FUNCTION, &g), 3);
	assert_int_equal(g[0].layer, LAYER_PAGE);
	assert_int_equal(g[0].counts.c.live_bytes, UNKNOWN_U64);
	assert_false(g[0].counts.live_known);
	assert_int_equal(g[1].layer, LAYER_MAP);
	assert_true(g[1].counts.live_known);
	assert_int_equal(g[1].counts.c.live_bytes, 1000);
	assert_int_equal(g[2].layer, LAYER_HEAP);
	assert_int_equal(g[2].counts.c.live_bytes, 100);
	assert_int_equal(g[0].id, g[2].id); /* the same name */
}

/* Ten times the same: what is their own averages out, what they share does not, and in the row of others neither. */
static void shared_errors_stay(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	fill(w);
	for (size_t i = 0; i < w->n; i++)
		w->snaps[i].counts.live_bytes_se = w->snaps[i].counts.live_bytes == UNKNOWN_U64
							   ? NAN
							   : hypot(4, 0.5 * (double)w->snaps[i].counts.live_bytes);
	size_t n = build_with(w, GROUP_FUNCTION, 0.5, &g);
	assert_true(n > 1);
	for (size_t i = 0; i < n; i++) {
		double own = g[i].layer == LAYER_HEAP ? 4 * sqrt(g[i].n_stacks) : g[i].counts.c.live_bytes_se;
		double shared = g[i].layer == LAYER_HEAP ? 0.5 * (double)g[i].counts.c.live_bytes : 0;
		assert_true(fabs(g[i].counts.c.live_bytes_se - hypot(own, shared)) < 1e-6);
	}
	w->q.limit = 1;
	n = build_with(w, GROUP_FUNCTION, 0.5, &g);
	for (size_t i = 0; i < n; i++)
		if (g[i].layer == LAYER_HEAP && !strcmp(g[i].name, "[others]"))
			assert_true(fabs(g[i].counts.c.live_bytes_se -
					 hypot(4 * sqrt(g[i].n_stacks), 0.5 * (double)g[i].counts.c.live_bytes)) <
				    1e-6);
}

static void figures_are_sums(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	fill(w);
	w->snaps[0].counts.live_bytes_se = 3;
	w->snaps[1].counts.live_bytes_se = 4;
	w->stacks[0].growth_bytes_per_s = 5;
	w->stacks[2].growth_bytes_per_s = 6;
	assert_int_equal(build(w, GROUP_FUNCTION, &g), 4);
	assert_true(g[0].counts.c.live_bytes_se == 5); /* independent estimates */
	assert_int_equal(g[0].counts.c.live_count, 2);
	assert_int_equal(g[0].counts.c.alloc_bytes, 450);
	assert_int_equal(g[0].counts.c.free_count, 4);
	assert_int_equal(g[0].counts.c.untracked_bytes, 10);
	assert_int_equal(g[0].counts.c.peak_live_bytes, UNKNOWN_U64);
	assert_true(g[0].counts.alloc_bytes_per_s == 150);
	assert_int_equal(g[0].delta_bytes, 20);
	assert_true(g[0].growth_bytes_per_s == 5); /* the other one is too young to have a slope */
	assert_true(g[1].growth_bytes_per_s == 6);
	assert_true(isnan(g[2].growth_bytes_per_s));
	w->q.stack_sort = SORT_GROWTH;
	build(w, GROUP_FUNCTION, &g);
	assert_string_equal(g[0].name, "save");
	assert_string_equal(g[1].name, "load");
	w->q.stack_sort = SORT_AGE; /* groups have none: by what they allocated */
	build(w, GROUP_FUNCTION, &g);
	assert_string_equal(g[0].name, "load");
}

/* Whatever the limit, the rows add up. */
static void what_is_over_the_limit_is_in_one_row(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	fill(w);
	for (size_t limit = 0; limit < 7; limit++) {
		uint64_t live = 0, allocated = 0;
		size_t stacks = 0;

		w->q.limit = limit;
		size_t n = build(w, GROUP_FUNCTION, &g);
		assert_int_equal(n, limit && limit < 4 ? limit + 1 : 4);
		for (size_t i = 0; i < n; i++) {
			live += g[i].counts.c.live_bytes;
			allocated += g[i].counts.c.alloc_bytes;
			stacks += g[i].n_stacks;
		}
		assert_int_equal(live, 232);
		assert_int_equal(allocated, 696);
		assert_int_equal(stacks, 5);
		assert_int_equal(!strcmp(g[n - 1].name, "[others]"), limit && limit < 4);
	}
}

static void many_stacks_are_all_counted(void **state)
{
	struct world *w = *state;
	const struct report_group *g;
	uint64_t live[LAYER_NR] = { 0 }, wanted[LAYER_NR] = { 0 };

	for (uint64_t i = 0; i < MAX_STACKS; i++) {
		uint64_t id = (i + 1) << 4;
		enum layer layer = i % 3 ? LAYER_HEAP : LAYER_MAP;

		if (i % 7) /* some are not defined */
			define(w, id, (int)(i % 2), (int)(i % AT_NR), (int)(i / 2 % AT_NR), -1);
		add(w, id, layer, i * i);
		wanted[layer] += i * i;
	}
	w->q.limit = 3;
	for (int by = GROUP_NONE + 1; by < GROUP_NR; by++) {
		size_t n = build(w, (enum group_by)by, &g);

		memset(live, 0, sizeof(live));
		for (size_t i = 0; i < n; i++)
			live[g[i].layer] += g[i].counts.c.live_bytes;
		assert_memory_equal(live, wanted, sizeof(live));
	}
}

static void nothing_makes_no_groups(void **state)
{
	struct world *w = *state;
	const struct report_group *g;

	assert_int_equal(build(w, GROUP_MODULE, &g), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(by_the_innermost_frame),
		T(python_frames_count_as_they_are_shown),
		T(by_thread),
		T(layers_stay_apart),
		T(shared_errors_stay),
		T(figures_are_sums),
		T(what_is_over_the_limit_is_in_one_row),
		T(many_stacks_are_all_counted),
		T(nothing_makes_no_groups),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
