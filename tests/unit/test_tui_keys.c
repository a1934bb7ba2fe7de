/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <curses.h>
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

struct fixture {
	struct tui_state st;
	struct query q;
	struct proc_key opened;
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->q = fixture_query();
	tui_state_init(&f->st, true);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	tui_state_done(&f->st);
	free(f);
	return 0;
}

static void update(struct fixture *f)
{
	struct report *r = fixture_report(&f->q, 1);

	tui_take(&f->st, r);
	tui_update(&f->st, r, 80, 24);
	fixture_free(r);
}

/* A character, drawn before as on the screen. */
static enum tui_ask press(struct fixture *f, wchar_t ch)
{
	update(f);
	return tui_key(&f->st, &f->q, ch, false, &f->opened);
}

static enum tui_ask press_code(struct fixture *f, int code)
{
	update(f);
	return tui_key(&f->st, &f->q, code, true, &f->opened);
}

static void type(struct fixture *f, const wchar_t *keys)
{
	for (; *keys; keys++)
		assert_int_equal(press(f, *keys), TUI_REDRAW);
}

static void asks_of_the_session(void **state)
{
	static const struct {
		wchar_t key;
		enum tui_ask ask;
	} rows[] = { { L'q', TUI_QUIT }, { L'r', TUI_RESET_BASELINE }, { L'w', TUI_SNAPSHOT }, { L'z', TUI_NOTHING } };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(press(f, rows[i].key), rows[i].ask);
	/* The query is as before. */
	struct query q = fixture_query();
	assert_memory_equal(&q, &f->q, sizeof(q));
}

static void pages_open_and_close(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(press(f, L'j'), TUI_REDRAW);
	assert_int_equal(press_code(f, KEY_UP), TUI_REDRAW);
	assert_int_equal(press(f, L'\n'), TUI_OPEN_PROC);
	assert_int_equal(f->opened.pid, 4242);
	assert_int_equal(f->opened.start_ticks, 5001);
	assert_int_equal(f->st.page, PAGE_STACKS);
	assert_int_equal(press(f, L'j'), TUI_REDRAW);
	assert_int_equal(press_code(f, KEY_ENTER), TUI_REDRAW);
	assert_int_equal(f->st.page, PAGE_FRAMES);
	assert_int_equal(f->st.stack_id, 0xdef2);
	assert_int_equal(press(f, L'\n'), TUI_NOTHING);
	assert_int_equal(press_code(f, KEY_BACKSPACE), TUI_REDRAW);
	assert_int_equal(f->st.page, PAGE_STACKS);
	assert_int_equal(f->st.lists[PAGE_STACKS].sel, 1); /* where it was */
	assert_int_equal(press(f, 27), TUI_REDRAW);
	assert_int_equal(f->st.page, PAGE_PROCS);
	assert_int_equal(press_code(f, KEY_LEFT), TUI_NOTHING);
	assert_int_equal(f->st.page, PAGE_PROCS);
}

/* Between the draw and Enter nothing may slip in: what was drawn is opened. Without a draw nothing is. */
static void enter_before_a_draw_opens_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(tui_key(&f->st, &f->q, L'\n', false, &f->opened), TUI_NOTHING);
	assert_int_equal(press(f, L'\n'), TUI_OPEN_PROC);
	assert_int_equal(tui_key(&f->st, &f->q, L'\n', false, &f->opened), TUI_NOTHING);
	assert_int_equal(f->st.page, PAGE_STACKS);
}

static void the_cursor_stays_in_the_list(void **state)
{
	struct fixture *f = *state;
	size_t *sel = &f->st.lists[PAGE_PROCS].sel;

	press_code(f, KEY_END);
	assert_int_equal(*sel, FIXTURE_PROCS - 1);
	press(f, L'j');
	press_code(f, KEY_NPAGE);
	assert_int_equal(*sel, FIXTURE_PROCS - 1);
	press(f, L'k');
	assert_int_equal(*sel, FIXTURE_PROCS - 2);
	press_code(f, KEY_PPAGE);
	assert_int_equal(*sel, 0);
	press(f, L'k');
	assert_int_equal(*sel, 0);
	press_code(f, KEY_DOWN);
	press_code(f, KEY_HOME);
	assert_int_equal(*sel, 0);
}

static void sort_keys(void **state)
{
	struct fixture *f = *state;
	unsigned seen = 0;

	/* A full cycle meets each column's key once, never one that no column has, and ends where it began. */
	for (int i = 0; i < 6; i++) {
		assert_false(seen & 1u << f->q.proc_sort);
		seen |= 1u << f->q.proc_sort;
		press(f, L's');
	}
	assert_int_equal(f->q.proc_sort, SORT_GROWTH);
	assert_int_equal(seen, (1u << SORT_NR) - 1 - (1u << SORT_AGE));
	press(f, L'S');
	assert_int_equal(f->q.proc_sort, SORT_ALLOC);
	press(f, L'b');
	assert_int_equal(f->q.proc_sort, SORT_LIVE);
	press(f, L'a');
	assert_int_equal(f->q.proc_sort, SORT_RATE);
	press(f, L't');
	assert_int_equal(f->q.proc_sort, SORT_ALLOC);
	press(f, L'o');
	assert_int_equal(f->q.proc_sort, SORT_ALLOC);
	assert_string_equal(f->st.message, "this table has no such column");
	press(f, L'g');
	assert_int_equal(f->q.proc_sort, SORT_GROWTH);
	assert_string_equal(f->st.message, "");
	assert_int_equal(f->q.stack_sort, SORT_LIVE);
	press(f, L'\n');
	press(f, L'o');
	assert_int_equal(f->q.stack_sort, SORT_AGE);
	assert_int_equal(f->q.proc_sort, SORT_GROWTH);
	press(f, L'\n');
	assert_int_equal(press(f, L's'), TUI_NOTHING); /* one stack has no order */
}

static void filter_is_edited(void **state)
{
	struct fixture *f = *state;

	type(f, L"/g\x00e9q"); /* 'q' is a letter here */
	assert_true(f->st.editing);
	assert_string_equal(f->q.filter, "g\303\251q");
	assert_int_equal(press(f, 127), TUI_REDRAW);
	assert_int_equal(press_code(f, KEY_BACKSPACE), TUI_REDRAW);
	assert_string_equal(f->q.filter, "g");
	press_code(f, KEY_DOWN); /* no text */
	press(f, 1);
	assert_string_equal(f->q.filter, "g");
	type(f, L"\n");
	assert_false(f->st.editing);
	assert_string_equal(f->q.filter, "g");
	/* Esc brings the old one back. */
	type(f, L"/\x15xyz\x1b");
	assert_false(f->st.editing);
	assert_string_equal(f->q.filter, "g");
	press(f, L'c');
	assert_string_equal(f->q.filter, "");
	/* Rubbing out nothing, and never more than there is room for. */
	type(f, L"/\x7f");
	for (int i = 0; i < 200; i++)
		press(f, 0x65e5);
	assert_int_equal(strlen(f->q.filter), 126); /* 42 characters of 3 bytes; a 43rd does not fit into 127 */
}

static void switches(void **state)
{
	struct fixture *f = *state;

	press(f, L' ');
	assert_true(f->st.paused);
	press(f, L'p');
	assert_false(f->st.paused);
	press(f, L'i');
	assert_true(f->q.python_only);
	press(f, L'n');
	assert_true(f->q.native_only);
	assert_false(f->q.python_only);
	press(f, L'n');
	assert_false(f->q.native_only);
	press(f, L'x');
	assert_true(f->st.trend_off);
}

static void groups_go_round(void **state)
{
	static const enum group_by order[] = { GROUP_FUNCTION, GROUP_MODULE, GROUP_FILE_LINE, GROUP_NONE };
	struct fixture *f = *state;

	assert_int_equal(press(f, L'u'), TUI_NOTHING); /* stacks are grouped where they are shown */
	press(f, L'\n');
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		press(f, L'j');
		assert_int_equal(press(f, L'u'), TUI_REDRAW);
		assert_int_equal(f->q.group, order[i]);
		assert_int_equal(f->st.lists[PAGE_STACKS].sel, 0);
		update(f);
		assert_int_equal(f->st.n_rows, 3);
		assert_int_equal(f->st.rows[0].kind, order[i] == GROUP_NONE ? ROW_DATA : ROW_GROUP);
	}
	f->q.by_thread = true;
	for (int i = 0; i < 4; i++)
		press(f, L'u');
	assert_int_equal(f->q.group, GROUP_THREAD);
	/* A group is no stack, and has no age to sort by. */
	press(f, L'\n');
	assert_int_equal(f->st.page, PAGE_STACKS);
	assert_non_null(strstr(f->st.message, "key u"));
	press(f, L'o');
	assert_int_equal(f->q.stack_sort, SORT_LIVE);
	press(f, L'u');
	assert_int_equal(f->q.group, GROUP_NONE);
}

static void a_threads_stack_is_opened(void **state)
{
	struct fixture *f = *state;

	f->q.by_thread = true;
	press(f, L'\n');
	press(f, L'j');
	press(f, L'\n');
	assert_int_equal(f->st.page, PAGE_FRAMES);
	assert_int_equal(f->st.tid, 4250);
	update(f);
	assert_int_equal(f->st.n_rows, 2); /* its frame, and why it is cut */
	f->st.tid = 4251;		   /* the same stack, in a thread that has none of it */
	update(f);
	assert_int_equal(f->st.n_rows, 0);
}

static void help_takes_one_key(void **state)
{
	struct fixture *f = *state;

	press(f, L'?');
	assert_true(f->st.help);
	assert_int_equal(press(f, L'q'), TUI_REDRAW);
	assert_false(f->st.help);
	/* A new size is no key. */
	press(f, L'?');
	assert_int_equal(press_code(f, KEY_RESIZE), TUI_REDRAW);
	assert_true(f->st.help);
}

static void help_tells_every_key(void **state)
{
	const char *keys, *text;
	char hints[200];
	struct fixture *f = *state;

	assert_true(tui_help_rows() > 20);
	for (size_t i = 0; i < tui_help_rows(); i++) {
		tui_help_row(i, &keys, &text);
		assert_in_range(strlen(keys), 1, 6);
		assert_in_range(strlen(text), 3, 32); /* two columns in 80 */
	}
	tui_hints(&f->st, hints, sizeof(hints));
	assert_true(strlen(hints) < 80);
	assert_non_null(strstr(hints, "? help"));
	tui_hints(&f->st, hints, 10); /* as much as fits */
	assert_true(strlen(hints) < 10);
}

static void layers_go_round(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(press(f, L'\t'), TUI_NOTHING);
	press(f, L'\n');
	update(f);
	assert_int_equal(f->st.layer, LAYER_HEAP);
	press(f, L'\t');
	update(f);
	assert_int_equal(f->st.layer, LAYER_MAP);
	assert_int_equal(f->st.n_rows, 1);
	press(f, L'\t');
	update(f);
	assert_int_equal(f->st.layer, LAYER_HEAP);
	assert_int_equal(f->st.n_rows, 3);
	/* The next process begins with its own deepest layer: one that is seen by pages only has no heap. */
	press(f, L'\t');
	press(f, 27);
	press(f, L'j');
	press(f, L'j');
	assert_int_equal(press(f, L'\n'), TUI_OPEN_PROC);
	assert_int_equal(f->opened.pid, 1);
	update(f);
	assert_int_equal(f->st.layer, LAYER_MAP);
}

static void a_message_passes(void **state)
{
	struct fixture *f = *state;

	tui_say(&f->st, "written");
	for (uint64_t n = 10; n < 14; n++) {
		struct report *r = fixture_report(&f->q, n);

		tui_take(&f->st, r);
		tui_take(&f->st, r); /* a redraw is no interval */
		assert_string_equal(f->st.message, n < 13 ? "written" : "");
		fixture_free(r);
	}
	tui_say(&f->st, "again");
	(void)tui_key(&f->st, &f->q, L'z', false, &f->opened); /* any key */
	assert_string_equal(f->st.message, "");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(asks_of_the_session),
		T(pages_open_and_close),
		T(enter_before_a_draw_opens_nothing),
		T(the_cursor_stays_in_the_list),
		T(sort_keys),
		T(filter_is_edited),
		T(switches),
		T(groups_go_round),
		T(a_threads_stack_is_opened),
		T(help_takes_one_key),
		T(help_tells_every_key),
		T(layers_go_round),
		T(a_message_passes),
	};
#undef T

	if (!setlocale(LC_ALL, "C.UTF-8"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
