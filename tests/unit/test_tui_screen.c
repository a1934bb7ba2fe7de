/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "report_fixture.h"
#include "util/arena.h"
#include "util/mem.h"
#include "view/columns.h"
#include "view/glyph.h"
#include "view/tui_state.h"

/* Takes in intervals first..last and draws the last of them. */
static char *draw(struct tui_state *st, const struct query *q, uint64_t first, uint64_t last, int width, int height,
		  bool roles)
{
	struct screen *s = NULL;
	char *text;
	size_t len;

	for (uint64_t n = first; n <= last; n++) {
		struct report *r = fixture_report(q, n);

		tui_take(st, r);
		tui_update(st, r, width, height);
		screen_free(s);
		s = tui_render(st, r, width, height);
		fixture_free(r);
	}
	FILE *out = open_memstream(&text, &len);
	(roles ? screen_role_letters : screen_print)(s, out);
	assert_int_equal(fclose(out), 0);
	screen_free(s);
	return text;
}

static void press(struct tui_state *st, struct query *q, const char *keys)
{
	struct proc_key opened;

	for (; *keys; keys++)
		(void)tui_key(st, q, (wchar_t)*keys, false, &opened); /* only the state matters here */
}

/* Every page at every small size and some large ones: nothing outside of the screen is touched (ASan), no line is too long. */
static void any_size_is_drawn(void **state)
{
	static const char *const paths[] = { "",    "\n",   "\n\n",  "\nj\n",  "?",	"p/x",	 "jjjj\n",
					     "\nu", "\nuu", "\nuuu", "\nuuuu", "\n\ni", "\nj\ni" };
	static const int sizes[][2] = { { 1, 1 },  { 2, 1 },  { 1, 50 },    { 200, 1 },
					{ 20, 5 }, { 5, 20 }, { 300, 100 }, { 5000, 3 } };

	(void)state;
	for (size_t p = 0; p < ARRAY_SIZE(paths); p++)
		for (int i = 0; i < 60 + (int)ARRAY_SIZE(sizes); i++) {
			int width = i < 60 ? 1 + i * 2 : sizes[i - 60][0],
			    height = i < 60 ? 1 + i / 2 : sizes[i - 60][1];
			struct query q = fixture_query();
			struct tui_state st;

			q.by_thread = i % 3;
			tui_state_init(&st, i % 2);
			for (const char *k = paths[p]; *k; k++) {
				char one[2] = { *k, 0 };

				free(draw(&st, &q, 5, 5, width, height, false));
				press(&st, &q, one);
			}
			_cleanup_(freep) char *text = draw(&st, &q, 6, 6, width, height, false);
			int lines = 0;
			for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
				assert_true(text_columns(line) <= (size_t)width);
			for (const char *c = text; *c; c++)
				lines += *c == '\n';
			assert_true(lines <= height);
			tui_state_done(&st);
		}
}

static void roles_say_what_matters(void **state)
{
	struct query q = fixture_query();
	struct tui_state st;

	(void)state;
	tui_state_init(&st, true);
	_cleanup_(freep) char *text = draw(&st, &q, 4, 7, 80, 24, false), *roles = draw(&st, &q, 7, 7, 80, 24, true);
	assert_int_equal(strlen(roles), 81 * 24);
	/* The alert of interval 5 still stands in interval 7, in the role of alerts; the first row is selected; a heading is sorted. */
	assert_non_null(strstr(text, "ALERT leak: gunicorn (4242) grew"));
	assert_non_null(strstr(roles, "\nAAAAAAAAAAAAAAAA"));
	assert_non_null(strstr(roles, "\n>>>>>>>>>>>>>>>>"));
	assert_non_null(strstr(roles, "SSSSSSSS"));
	assert_non_null(strstr(roles, "\nwwwwwwwwwwwwwwwwwwwwww"));
	tui_state_done(&st);
}

static void a_resolved_alert_goes(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct alert resolved = r->alerts[0];
	struct standing_alerts s = { 0 };

	(void)state;
	standing_alerts_add(&s, r->alerts, r->n_alerts);
	standing_alerts_add(&s, r->alerts, r->n_alerts);
	assert_int_equal(s.n, 1);
	resolved.state = ALERT_RESOLVED;
	r->alerts = &resolved;
	standing_alerts_add(&s, r->alerts, r->n_alerts);
	assert_int_equal(s.n, 0);
	/* More processes than there is room for: the oldest goes. */
	for (unsigned i = 0; i < ALERTS_MAX + 5; i++) {
		resolved.state = ALERT_FIRING;
		resolved.id.pid = i;
		standing_alerts_add(&s, r->alerts, r->n_alerts);
	}
	assert_int_equal(s.n, ALERTS_MAX);
	assert_int_equal(s.all[0].proc.pid, 5);
	fixture_free(r);
}

static void losses_survive_a_small_screen(void **state)
{
	struct query q = fixture_query();
	struct tui_state st;

	(void)state;
	tui_state_init(&st, true);
	_cleanup_(freep) char *text = draw(&st, &q, 4, 7, 40, 10, false);
	assert_non_null(strstr(text, "ALERT leak"));
	assert_non_null(strstr(text, "losses: live_full 1.5k"));
	assert_non_null(strstr(text, "no longer tracked"));
	assert_null(strstr(text, "6.1.0-18-amd64"));
	tui_state_done(&st);
}

static void unknown_is_never_zero(void **state)
{
	struct query q = fixture_query();
	struct tui_state st;

	(void)state;
	tui_state_init(&st, true);
	_cleanup_(freep) char *text = draw(&st, &q, 7, 7, 120, 40, false);
	const char *line = strstr(text, "1 systemd");
	assert_non_null(line);
	assert_memory_equal(line, "1 systemd", 9);
	/* rss and the change are known; growth, live, count, rate and limit are not */
	char *cells[12];
	size_t n = 0;
	_cleanup_(freep) char *copy = xstrndup(line, strcspn(line, "\n"));
	for (char *c = strtok(copy, " "); c && n < ARRAY_SIZE(cells); c = strtok(NULL, " "))
		cells[n++] = c;
	assert_string_equal(cells[2], "pages");
	assert_string_equal(cells[3], "12.0M");
	for (size_t i = 5; i < 10; i++)
		assert_string_equal(cells[i], "-");
	tui_state_done(&st);
}

static void the_cursor_follows_its_row(void **state)
{
	struct query q = fixture_query();
	struct tui_state st;

	(void)state;
	tui_state_init(&st, true);
	free(draw(&st, &q, 1, 1, 80, 24, false));
	press(&st, &q, "jj");
	struct report *r = fixture_report(&q, 2);
	struct report_proc *turned = arena_alloc(r->arena, FIXTURE_PROCS, sizeof(*turned));
	for (size_t i = 0; i < FIXTURE_PROCS; i++)
		turned[i] = r->procs[FIXTURE_PROCS - 1 - i];
	uint32_t pid = r->procs[2].id.pid;
	turned[3] = r->procs[2]; /* the row of the cursor moved by one */
	turned[2] = r->procs[1];
	r->procs = turned;
	tui_update(&st, r, 80, 24);
	assert_int_equal(st.lists[PAGE_PROCS].sel, 3);
	assert_int_equal(st.rows[3].proc.pid, pid);
	/* Its process went: the cursor stays on the line that it was on, or the last. */
	r->n_procs = 2;
	tui_update(&st, r, 80, 24);
	assert_int_equal(st.lists[PAGE_PROCS].sel, 1);
	r->n_procs = 0;
	tui_update(&st, r, 80, 24);
	assert_int_equal(st.lists[PAGE_PROCS].sel, 0);
	fixture_free(r);
	tui_state_done(&st);
}

static void the_list_scrolls(void **state)
{
	struct query q = fixture_query();
	struct tui_state st;

	(void)state;
	tui_state_init(&st, true);
	free(draw(&st, &q, 1, 1, 80, 5, false));
	press(&st, &q, "jjjj");
	_cleanup_(freep) char *text = draw(&st, &q, 2, 2, 80, 5, false);
	assert_non_null(strstr(text, "4194301"));
	assert_null(strstr(text, "4242"));
	tui_state_done(&st);
}

static void a_process_that_went_is_told(void **state)
{
	struct query q = fixture_query();
	struct tui_state st;

	(void)state;
	tui_state_init(&st, true);
	free(draw(&st, &q, 1, 1, 80, 24, false));
	press(&st, &q, "\n");
	struct report *r = fixture_empty(&q);
	tui_update(&st, r, 80, 24);
	struct screen *s = tui_render(&st, r, 80, 24);
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	screen_print(s, out);
	assert_int_equal(fclose(out), 0);
	assert_non_null(strstr(text, "This process has ended"));
	free(text);
	screen_free(s);
	fixture_free(r);
	tui_state_done(&st);
}

static void trends_have_memory_and_an_end(void **state)
{
	struct query q = fixture_query();
	struct trends *t = trends_new();
	char buf[TREND_TEXT_CAP];
	const struct proc_key leaking = { .start_ticks = 5001, .pid = 4242 };
	const struct report_stack leak = { .stack_id = 0xabc2 };

	(void)state;
	for (uint64_t n = 0; n < 4; n++) {
		struct report *r = fixture_report(&q, n == 0 ? 0 : n * n * 40);

		r->n = n;
		trends_add(t, r);
		trends_add(t, r); /* drawn twice: counted once */
		trend_text(t, &leaking, &leak, false, buf);
		assert_int_equal(strlen(buf), n ? TREND_LEN : 0);
		fixture_free(r);
	}
	/* 12M + 0, 2.5M, 10M, 22.5M in eight steps of 2.8M each: 0, 0, 3, 7 */
	assert_string_equal(buf, "    __:#");
	trend_text(t, &leaking, &leak, true, buf);
	assert_string_equal(buf, "    \342\226\201\342\226\201\342\226\204\342\226\210");
	/* Not in the next reports (an interval of 20): forgotten, and unknown to those who ask. */
	struct report *r = fixture_empty(&q);
	r->n = 24;
	trends_add(t, r);
	assert_string_equal(trend_text(t, &leaking, &leak, true, buf), "");
	fixture_free(r);
	trends_free(t);
}

static void columns_give_way(void **state)
{
	int widths[COLUMNS_MAX];

	(void)state;
	for (int width = 1; width < 300; width++) {
		int sum = -1;
		size_t shown = 0;

		columns_fit(&proc_columns, width, SORT_ALLOC, NEEDS_MEMORY, widths);
		for (size_t i = 0; i < proc_columns.n; i++) {
			sum += widths[i] ? widths[i] + 1 : 0;
			shown += widths[i] > 0;
			if (proc_columns.columns[i].sort == SORT_ALLOC)
				assert_true(widths[i] > 0); /* what one sorts by stays */
		}
		if (width >= 24)
			assert_true(sum <= width);
		if (width >= 140)
			assert_int_equal(shown, proc_columns.n);
	}
}

static void numbers_are_never_cut(void **state)
{
	struct screen *s = screen_new(10, 1);

	(void)state;
	assert_int_equal(screen_put(s, 8, 0, 10, ROLE_NORMAL, 0, "\346\227\245\346\234\254"), 10);
	assert_int_equal(screen_cell(s, 9, 0)->ch, 0);
	assert_int_equal(screen_put(s, 9, 0, 10, ROLE_NORMAL, 0, "\346\227\245"), 9);
	assert_int_equal(screen_put(s, 0, 0, 3, ROLE_NORMAL, L'>', "abcdef"), 3);
	assert_int_equal(screen_cell(s, 2, 0)->ch, L'>');
	assert_int_equal(screen_put(s, 0, 0, 3, ROLE_NORMAL, L'>', "abc"), 3);
	assert_int_equal(screen_cell(s, 2, 0)->ch, L'c');
	assert_int_equal(screen_put(s, 0, 0, 0, ROLE_NORMAL, L'>', "abc"), 0);
	assert_null(screen_cell(s, -1, 0));
	assert_null(screen_cell(s, 0, 1));
	screen_free(s);
	screen_free(NULL);

	/* A pid of more digits than its column has (no kernel gives one): marked, not cut. */
	struct query q = fixture_query();
	struct tui_state st;
	tui_state_init(&st, true);
	struct report *r = fixture_report(&q, 1);
	struct report_proc *p = arena_alloc(r->arena, 1, sizeof(*p));
	*p = r->procs[0];
	p->id.pid = 123456789;
	r->procs = p;
	r->n_procs = 1;
	tui_update(&st, r, 80, 24);
	s = tui_render(&st, r, 80, 24);
	int hashes = 0;
	for (int y = 0; y < 24; y++)
		for (int x = 0; x < 7; x++)
			hashes += screen_cell(s, x, y)->ch == L'#';
	assert_int_equal(hashes, 7);
	screen_free(s);
	fixture_free(r);
	tui_state_done(&st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_size_is_drawn),
		cmocka_unit_test(roles_say_what_matters),
		cmocka_unit_test(a_resolved_alert_goes),
		cmocka_unit_test(losses_survive_a_small_screen),
		cmocka_unit_test(unknown_is_never_zero),
		cmocka_unit_test(the_cursor_follows_its_row),
		cmocka_unit_test(the_list_scrolls),
		cmocka_unit_test(a_process_that_went_is_told),
		cmocka_unit_test(trends_have_memory_and_an_end),
		cmocka_unit_test(columns_give_way),
		cmocka_unit_test(numbers_are_never_cut),
	};

	if (!setlocale(LC_ALL, "C.UTF-8"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
