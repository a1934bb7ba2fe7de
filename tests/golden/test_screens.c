/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Screens of a synthetic run after scripted keys, at fixed sizes, as committed. TIDEMARK_ACCEPT=1 writes what is drawn now. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "report_fixture.h"
#include "util/mem.h"
#include "view/tui_state.h"
#include "view/view.h"

enum { ASCII = 1 << 0, EMPTY = 1 << 1, THREADS = 1 << 2 };

struct scene {
	const char *name, *keys;
	int width, height;
	unsigned how;
};

/* Keys are pressed after eight intervals, each followed by a draw. */
static const struct scene scenes[] = {
	{ "procs-80x24", "", 80, 24, 0 },
	{ "procs-120x40", "", 120, 40, 0 },
	{ "procs-40x10", "", 40, 10, 0 },
	{ "procs-ascii-120x40", "", 120, 40, ASCII },
	{ "procs-empty-80x24", "", 80, 24, EMPTY },
	{ "procs-down-sort-80x24", "jjs", 80, 24, 0 },
	{ "stacks-80x24", "\n", 80, 24, 0 },
	{ "stacks-120x40", "\n", 120, 40, 0 },
	{ "stacks-40x10", "\n", 40, 10, 0 },
	{ "stacks-map-80x24", "\n\t", 80, 24, 0 },
	{ "stacks-pages-only-80x24", "jj\n", 80, 24, 0 },
	{ "frames-80x24", "\n\n", 80, 24, 0 },
	{ "frames-120x40", "\n\n", 120, 40, 0 },
	{ "frames-incomplete-80x24", "\nj\n", 80, 24, 0 },
	{ "frames-40x10", "\n\n", 40, 10, 0 },
	{ "frames-incomplete-40x10", "\nj\n", 40, 10, 0 },
	{ "frames-python-80x24", "\n\niv", 80, 24, 0 },
	{ "frames-native-80x24", "\n\nn", 80, 24, 0 },
	{ "frames-no-python-80x24", "\nj\ni", 80, 24, 0 },
	{ "groups-function-80x24", "\nu", 80, 24, 0 },
	{ "groups-function-120x40", "\nu", 120, 40, 0 },
	{ "groups-module-40x10", "\nuu", 40, 10, 0 },
	{ "groups-thread-80x24", "\nuuuu", 80, 24, THREADS },
	{ "threads-120x40", "\n", 120, 40, THREADS },
	{ "threads-80x24", "\n", 80, 24, THREADS },
	{ "threads-frames-80x24", "\nj\n", 80, 24, THREADS },
	{ "help-80x24", "?", 80, 24, 0 },
	{ "filter-paused-80x24", "p/gu", 80, 24, 0 },
};

static char *draw(const struct scene *sc)
{
	struct query q = fixture_query();
	struct tui_state st;
	struct proc_key opened;
	struct report *r = NULL;
	char *text;
	size_t len;

	q.by_thread = sc->how & THREADS;
	tui_state_init(&st, !(sc->how & ASCII));
	for (uint64_t n = 0; n < 8; n++) {
		fixture_free(r);
		r = sc->how & EMPTY ? fixture_empty(&q) : fixture_report(&q, n);
		tui_take(&st, r);
		tui_update(&st, r, sc->width, sc->height);
	}
	for (const char *k = sc->keys; *k; k++) {
		(void)tui_key(&st, &q, (wchar_t)*k, false, &opened); /* what it asks is the session's matter */
		if (!(sc->how & EMPTY)) {			     /* as the session: the query may have changed */
			fixture_free(r);
			r = fixture_report(&q, 7);
		}
		tui_update(&st, r, sc->width, sc->height);
	}
	struct screen *s = tui_render(&st, r, sc->width, sc->height);
	FILE *out = open_memstream(&text, &len);
	screen_print(s, out);
	assert_int_equal(fclose(out), 0);
	screen_free(s);
	fixture_free(r);
	tui_state_done(&st);
	return text;
}

static void compare(const char *name, const char *ending, const char *text)
{
	_cleanup_(freep) char *path = xasprintf("tests/golden/%s.%s", name, ending);
	_cleanup_(freep) char *golden = xcalloc(1, 65536);

	if (getenv("TIDEMARK_ACCEPT")) {
		FILE *f = fopen(path, "w");
		assert_non_null(f);
		assert_true(fputs(text, f) >= 0);
		assert_int_equal(fclose(f), 0);
		return;
	}
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("can't read '%s': run from the top of the tree, or accept it by TIDEMARK_ACCEPT=1", path);
	golden[fread(golden, 1, 65535, f)] = 0;
	assert_int_equal(fclose(f), 0);
	if (strcmp(golden, text))
		fail_msg("'%s' differs; now it is:\n%s", path, text);
}

static void screens(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++) {
		_cleanup_(freep) char *text = draw(&scenes[i]);

		compare(scenes[i].name, "screen", text);
	}
}

static void compare_plain(const char *name, const struct query *q)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;

	FILE *out = open_memstream(&text, &len);
	for (uint64_t n = 4; n < 6; n++) {
		struct report *r = fixture_report(q, n);

		if (n == 4)
			assert_int_equal(view_text.begin(out, r->meta), 0);
		assert_int_equal(view_text.show(out, r), 0);
		if (n == 5)
			assert_int_equal(view_text.end(out, r->meta, END_DURATION, 0), 0);
		fixture_free(r);
	}
	assert_int_equal(fclose(out), 0);
	compare(name, "text", text);
}

static void plain_text(void **state)
{
	struct query q = fixture_query();

	(void)state;
	compare_plain("run", &q);
	q.by_thread = true;
	compare_plain("threads", &q);
	q.group = GROUP_FUNCTION;
	compare_plain("groups", &q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(screens),
		cmocka_unit_test(plain_text),
	};

	if (!setlocale(LC_ALL, "C.UTF-8"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
