/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "report_fixture.h"
#include "util/arena.h"
#include "util/mem.h"
#include "view/glyph.h"
#include "view/say.h"
#include "view/view.h"

static char *show(const struct report *r)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(view_text.show(out, r), 0);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void says_all_parts(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	_cleanup_(freep) char *text = show(r);

	(void)state;
	assert_non_null(strstr(text, "2023-11-14T22:13:25Z  5 processes  own cost: cpu 0.84%, rss 12.0M"));
	assert_non_null(strstr(text, "losses: live_full 1.5k  facts: unmatched_free 17"));
	assert_non_null(strstr(text, "1.5k blocks (2.0M) no longer tracked"));
	assert_non_null(strstr(text, "\nALERT leak critical pid 4242: gunicorn (4242) grew"));
	assert_non_null(strstr(text, "\n  4242 gunicorn, heap:\n"));
	assert_non_null(strstr(text, "main.cpp:12 load_table\n"));
	assert_null(strstr(text, "arena_map\n  ")); /* stacks of other layers are not in the list */
	fixture_free(r);
}

static void tells_of_no_losses(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_empty(&q);
	_cleanup_(freep) char *text = show(r);

	(void)state;
	assert_non_null(strstr(text, "0 processes"));
	assert_non_null(strstr(text, "losses: none\n"));
	assert_null(strstr(text, "target overhead"));
	fixture_free(r);
}

/* The layer page knows resident bytes and nothing else: no sum of unknowns is a number. */
static void unknown_counts_are_no_numbers(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 1);
	struct report_proc *p = arena_alloc(r->arena, 2, sizeof(*p));
	struct report_stack *s = arena_alloc(r->arena, 2, sizeof(*s));
	char buf[FMT_CAP];

	(void)state;
	p[0] = p[1] = r->procs[2];
	for (int i = 0; i < 2; i++) {
		struct counts *c = &p[i].layers[LAYER_PAGE].c;

		p[i].layer_on[LAYER_PAGE] = p[i].layers[LAYER_PAGE].live_known = true;
		memset(c, 0xff, offsetof(struct counts, live_bytes_se)); /* UNKNOWN_U64 all over */
		s[i] = r->procs[0].stacks[0];
		s[i].layer = LAYER_PAGE;
		s[i].counts.live_known = false;
		s[i].counts.c.alloc_bytes = i ? 4096 : UNKNOWN_U64;
	}
	p[0].stacks = s;
	p[0].n_stacks = 2;
	r->procs = p;
	r->n_procs = 2;
	_cleanup_(freep) char *text = show(r);
	assert_null(strstr(text, "no longer tracked"));
	assert_int_equal(untracked_sum(r, LAYER_PAGE).count, 0);
	assert_ptr_equal(top_stack(&p[0]), &s[1]);
	p[0].layers[LAYER_PAGE].c.live_bytes_se = 1;
	assert_string_equal(say_live(buf, &p[0].layers[LAYER_PAGE], true), "-");
	assert_string_equal(say_live(buf, &s[0].counts, true), "-");
	fixture_free(r);
}

static void an_incomplete_stack_says_why(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 1);
	_cleanup_(freep) char *text = show(r);

	(void)state;
	assert_non_null(strstr(text, "! r\303\251sum\303\251::\346\227\245\346\234\254 (no unwind information)\n"));
	assert_string_equal(say_cut(CUT_DEPTH), "deeper than 127 frames");
	for (int i = 0; i <= CUT_NR; i++)
		assert_in_range(strlen(say_cut((enum stack_cut)i)), 10, 36);
	fixture_free(r);
}

static void threads_are_told(void **state)
{
	struct query q = fixture_query();
	char buf[THREAD_TEXT_CAP];

	(void)state;
	q.by_thread = true;
	struct report *r = fixture_report(&q, 1);
	_cleanup_(freep) char *text = show(r);
	assert_non_null(strstr(text, " THREAD "));
	assert_non_null(strstr(text, " 4242 gunicorn "));
	assert_non_null(strstr(text, " 4250 pool?[2J-1 "));
	assert_string_equal(say_thread(buf, 0, "x"), "-");
	assert_string_equal(say_thread(buf, 12, NULL), "12");
	fixture_free(r);
}

static void groups_take_the_place_of_stacks(void **state)
{
	struct query q = fixture_query();

	(void)state;
	q.group = GROUP_FILE_LINE;
	struct report *r = fixture_report(&q, 1);
	_cleanup_(freep) char *text = show(r);
	assert_non_null(strstr(text, " STACKS FILE:LINE\n"));
	assert_non_null(strstr(text, " 12 [others]\n"));
	assert_null(strstr(text, "no unwind information"));
	assert_null(strstr(text, "and 1 more"));
	q.limit = 2;
	_cleanup_(freep) char *shorter = show(r);
	assert_non_null(strstr(shorter, "\n  and 1 more\n")); /* the third is of another layer */
	fixture_free(r);
}

static char *show_leaks(const struct report *r)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(view_leaks.show(out, r), 0);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void a_leak_shows_its_stack(void **state)
{
	static const struct sym_frame evil = { .name = "evil\033[2J",
					       .file = "/srv/\033]0;x.py",
					       .kind = FRAME_PYTHON };
	static const struct sym_frame innocent = { .name = "main", .module = "/srv/app" };
	static const struct sym_frame *const frames[] = { &evil, &innocent };
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct alert a = r->alerts[0];
	struct report_stack s = r->procs[0].stacks[0];
	struct report_proc p = r->procs[0];
	_cleanup_(freep) char *text = show_leaks(r);

	(void)state;
	assert_non_null(strstr(text, "blocks of malloc, allocated by\n"));
	assert_non_null(strstr(text, "\n    App.serve  /srv/app/app.py:33\n"));
	assert_null(strstr(text, "incomplete"));
	s.tid = a.tid = 77;
	s.thread = "io";
	s.complete = false;
	s.cut = CUT_DEPTH;
	s.python_cut = true;
	s.frames = frames;
	s.n_frames = 2;
	p.stacks = &s;
	p.n_stacks = 1;
	r->procs = &p;
	r->n_procs = 1;
	r->alerts = &a;
	_cleanup_(freep) char *cut = show_leaks(r);
	assert_non_null(strstr(cut,
			       "allocated by thread 77 io\n    evil?[2J  /srv/?]0;x.py\n    main  (/srv/app)\n"
			       "    (incomplete: deeper than 127 frames)\n    (outer Python frames are missing)\n"));
	assert_null(strchr(cut, '\033'));
	a.tid = 78; /* another thread's */
	_cleanup_(freep) char *none = show_leaks(r);
	assert_null(strstr(none, "evil"));
	fixture_free(r);
}

static void marks_a_resolved_alert(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	struct alert resolved = r->alerts[0];

	(void)state;
	resolved.state = ALERT_RESOLVED;
	r->alerts = &resolved;
	_cleanup_(freep) char *text = show(r);
	assert_non_null(strstr(text, "\nALERT leak critical resolved pid 4242: "));
	fixture_free(r);
}

/* A process chooses its own name: no byte of it may reach the terminal as a command. */
static void control_characters_never_pass(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	_cleanup_(freep) char *text = show(r);

	(void)state;
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "sort?[2J?"));
	fixture_free(r);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *s = text; (s = strstr(s, what)); s++)
		n++;
	return n;
}

static void limits_stacks(void **state)
{
	static const struct {
		size_t limit, shown;
	} rows[] = { { QUERY_LIMIT_DEFAULT, 10 }, { 3, 3 }, { 0, 30 }, { 25, 25 } };
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 1);
	struct report_proc *p = arena_alloc(r->arena, 1, sizeof(*p));
	struct report_stack *s = arena_alloc(r->arena, 30, sizeof(*s));

	(void)state;
	for (size_t i = 0; i < 30; i++) {
		s[i] = r->procs[0].stacks[0];
		s[i].summary = "one_of_thirty";
	}
	*p = r->procs[0];
	p->stacks = s;
	p->n_stacks = 30;
	r->procs = p;
	r->n_procs = 1;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		q.limit = rows[i].limit;
		_cleanup_(freep) char *text = show(r);
		/* and once as the process's top site */
		assert_int_equal(count(text, "one_of_thirty"), rows[i].shown + 1);
	}
	fixture_free(r);
}

static void a_full_disk_is_told(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	FILE *out = fopen("/dev/full", "w");

	(void)state;
	assert_non_null(out);
	assert_int_equal(view_text.begin(out, r->meta), -ENOSPC);
	assert_int_equal(view_text.show(out, r), -ENOSPC);
	assert_int_equal(view_text.end(out, r->meta, END_ERROR, 1), -ENOSPC);
	(void)fclose(out); /* fails as it should */
	fixture_free(r);
}

static void a_closed_pipe_is_told(void **state)
{
	struct query q = fixture_query();
	struct report *r = fixture_report(&q, 5);
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(close(fds[0]), 0);
	FILE *out = fdopen(fds[1], "w");
	assert_int_equal(view_text.show(out, r), -EPIPE);
	(void)fclose(out); /* fails as it should */
	fixture_free(r);
}

static void figures(void **state)
{
	char buf[FMT_CAP];

	(void)state;
	assert_string_equal(say_bytes(buf, UNKNOWN_U64), "-");
	assert_string_equal(say_bytes(buf, 0), "0");
	assert_string_equal(say_growth(buf, 0), "0");
	assert_string_equal(say_growth(buf, 0.2), "0");
	assert_string_equal(say_growth(buf, -1536), "-1.5K");
	assert_string_equal(say_growth(buf, 512), "+512");
	assert_string_equal(say_growth(buf, 0.0 / 0.0), "-");
	assert_string_equal(say_pct(buf, 0.0 / 0.0), "-");
	assert_string_equal(say_pct(buf, 0.84), "0.84%");
	assert_string_equal(say_pct(buf, 120), "120%");
	assert_string_equal(say_seconds(buf, 1e300 * 1e300), "-");
	assert_string_equal(say_seconds(buf, 312), "5m12s");
	assert_string_equal(say_seconds(buf, 86400.0 * 400), "400d");
}

static void utf8_is_measured_and_cleaned(void **state)
{
	static const struct {
		const char *in, *out;
		size_t columns;
	} rows[] = {
		{ "plain", "plain", 5 },
		{ "\346\227\245\346\234\254", "\346\227\245\346\234\254", 4 },
		{ "e\314\201", "e\314\201", 1 },	/* combining accent */
		{ "\377\300\200x", "???x", 4 },		/* never UTF-8; overlong NUL */
		{ "\355\240\200", "???", 3 },		/* surrogate */
		{ "\342\202", "??", 2 },		/* cut */
		{ "a\033[31m\tb\177", "a?[31m?b?", 9 }, /* controls */
		{ "\342\200\256abc", "?abc", 4 },	/* U+202E turns the text around */
		{ "\302\233x", "?x", 2 },		/* U+009B starts a command in 8-bit terminals */
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(text_columns(rows[i].in), rows[i].columns);
		assert_int_equal(text_clean(out, sizeof(out), sizeof(out), rows[i].in), rows[i].columns);
		assert_string_equal(out, rows[i].out);
	}
	/* Whole characters only, by columns and by bytes. */
	assert_int_equal(text_clean(out, sizeof(out), 3, rows[1].in), 2);
	assert_string_equal(out, "\346\227\245");
	assert_int_equal(text_clean(out, 6, 10, rows[1].in), 2);
	assert_int_equal(text_clean(out, 1, 10, rows[1].in), 0);
	assert_string_equal(out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_all_parts),
		cmocka_unit_test(tells_of_no_losses),
		cmocka_unit_test(unknown_counts_are_no_numbers),
		cmocka_unit_test(an_incomplete_stack_says_why),
		cmocka_unit_test(threads_are_told),
		cmocka_unit_test(groups_take_the_place_of_stacks),
		cmocka_unit_test(a_leak_shows_its_stack),
		cmocka_unit_test(marks_a_resolved_alert),
		cmocka_unit_test(control_characters_never_pass),
		cmocka_unit_test(limits_stacks),
		cmocka_unit_test(a_full_disk_is_told),
		cmocka_unit_test(a_closed_pipe_is_told),
		cmocka_unit_test(figures),
		cmocka_unit_test(utf8_is_measured_and_cleaned),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as the session does */
	if (!setlocale(LC_ALL, "C.UTF-8"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
