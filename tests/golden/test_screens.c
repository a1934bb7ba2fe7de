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

struct scene {
	const char *name, *keys;
	int width, height;
	bool ascii, empty;
};

/* Keys are pressed after eight intervals, each followed by a draw. */
static const struct scene scenes[] = {
	{ "procs-80x24", "", 80, 24, false, false },
	{ "procs-120x40", "", 120, 40, false, false },
	{ "procs-40x10", "", 40, 10, false, false },
	{ "procs-ascii-120x40", "", 120, 40, true, false },
	{ "procs-empty-80x24", "", 80, 24, false, true },
	{ "procs-down-sort-80x24", "jjs", 80, 24, false, false },
	{ "stacks-80x24", "\n", 80, 24, false, false },
	{ "stacks-120x40", "\n", 120, 40, false, false },
	{ "stacks-40x10", "\n", 40, 10, false, false },
	{ "stacks-map-80x24", "\n\t", 80, 24, false, false },
	{ "stacks-pages-only-80x24", "jj\n", 80, 24, false, false },
	{ "frames-80x24", "\n\n", 80, 24, false, false },
	{ "frames-120x40", "\n\n", 120, 40, false, false },
	{ "frames-incomplete-80x24", "\nj\n", 80, 24, false, false },
	{ "frames-python-80x24", "\n\niv", 80, 24, false, false },
	{ "help-80x24", "?", 80, 24, false, false },
	{ "filter-paused-80x24", "p/gu", 80, 24, false, false },
};

static char *draw(const struct scene *sc)
{
	struct query q = fixture_query();
	struct tui_state st;
	struct proc_key opened;
	struct report *r = NULL;
	char *text;
	size_t len;

	tui_state_init(&st, !sc->ascii);
	for (uint64_t n = 0; n < 8; n++) {
		fixture_free(r);
		r = sc->empty ? fixture_empty(&q) : fixture_report(&q, n);
		tui_take(&st, r);
		tui_update(&st, r, sc->width, sc->height);
	}
	for (const char *k = sc->keys; *k; k++) {
		(void)tui_key(&st, &q, (wchar_t)*k, false, &opened); /* what it asks is the session's matter */
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

static void plain_text(void **state)
{
	_cleanup_(freep) char *text = NULL;
	struct query q = fixture_query();
	size_t len;

	(void)state;
	FILE *out = open_memstream(&text, &len);
	for (uint64_t n = 4; n < 6; n++) {
		struct report *r = fixture_report(&q, n);

		if (n == 4)
			assert_int_equal(view_text.begin(out, r->meta), 0);
		assert_int_equal(view_text.show(out, r), 0);
		if (n == 5)
			assert_int_equal(view_text.end(out, r->meta, END_DURATION, 0), 0);
		fixture_free(r);
	}
	assert_int_equal(fclose(out), 0);
	compare("run", "text", text);
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
