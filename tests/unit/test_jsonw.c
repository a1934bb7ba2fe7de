/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The JSON writer against tables, and against json-c as the judge of what is valid. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <json-c/json.h>

#include "util/mem.h"
#include "view/jsonw.h"

struct sink {
	FILE *out;
	char *text;
	size_t len;
	struct jsonw w;
};

static void sink_open(struct sink *s)
{
	s->text = NULL;
	s->out = open_memstream(&s->text, &s->len);
	assert_non_null(s->out);
	jsonw_init(&s->w, s->out);
}

/* What was written; the caller frees. */
static char *sink_close(struct sink *s)
{
	assert_int_equal(jsonw_done(&s->w), 0);
	assert_int_equal(fclose(s->out), 0);
	return s->text;
}

static struct json_object *parse(const char *text)
{
	struct json_tokener *t = json_tokener_new();

	/* json-c 0.18, when strict, refuses every byte above 0x7f (its issue 892). */
	json_tokener_set_flags(t,
			       JSON_TOKENER_VALIDATE_UTF8 | (json_c_version_num() == 0x1200 ? 0 : JSON_TOKENER_STRICT));
	struct json_object *o = json_tokener_parse_ex(t, text, (int)strlen(text));
	if (!o)
		fail_msg("not JSON (%s): %s", json_tokener_error_desc(json_tokener_get_error(t)), text);
	json_tokener_free(t);
	return o;
}

static void structure(void **state)
{
	struct sink s;

	(void)state;
	sink_open(&s);
	for (int i = 0; i < 2; i++) {
		jsonw_object(&s.w, NULL);
		jsonw_array(&s.w, "empty");
		jsonw_array_end(&s.w);
		jsonw_array(&s.w, "list");
		jsonw_u64(&s.w, NULL, 1);
		jsonw_object(&s.w, NULL);
		jsonw_object_end(&s.w);
		jsonw_null(&s.w, NULL);
		jsonw_array_end(&s.w);
		jsonw_bool(&s.w, "yes", true);
		jsonw_bool(&s.w, "no", false);
		jsonw_string(&s.w, "none", NULL);
		jsonw_object_end(&s.w);
		jsonw_line_end(&s.w);
	}
	_cleanup_(freep) char *text = sink_close(&s);
	const char *line = "{\"empty\":[],\"list\":[1,{},null],\"yes\":true,\"no\":false,\"none\":null}\n";
	assert_int_equal(strlen(text), 2 * strlen(line));
	assert_memory_equal(text, line, strlen(line));
	assert_string_equal(text + strlen(line), line);
}

static void numbers(void **state)
{
	static const struct {
		double v;
		int decimals;
		const char *trimmed, *fixed;
	} rows[] = {
		{ 0, 1, "0", "0.0" },
		{ -0.0, 1, "0", "0.0" },
		{ 12, 1, "12", "12.0" },
		{ 12.34, 1, "12.3", "12.3" },
		{ 0.96, 1, "1", "1.0" },
		{ -0.04, 1, "0", "0.0" },
		{ -2.5, 1, "-2.5", "-2.5" },
		{ 0.0625, 3, "0.063", "0.063" },
		{ 1.05, 3, "1.05", "1.050" },
		{ 7.9, 0, "8", "8" },
		{ 1700000000.25, 6, "1700000000.25", "1700000000.250000" },
		{ 1700000000.000001, 6, "1700000000.000001", "1700000000.000001" },
		{ 9e18, 6, "9000000000000000000", "9000000000000000000" },
		{ -1e30, 1, "-1000000000000000019884624838656", "-1000000000000000019884624838656" },
		{ NAN, 1, "null", "null" },
		{ INFINITY, 1, "null", "null" },
		{ -INFINITY, 6, "null", "null" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (int fixed = 0; fixed < 2; fixed++) {
			struct sink s;

			sink_open(&s);
			(fixed ? jsonw_fixed : jsonw_number)(&s.w, NULL, rows[i].v, rows[i].decimals);
			_cleanup_(freep) char *text = sink_close(&s);
			assert_string_equal(text, fixed ? rows[i].fixed : rows[i].trimmed);
		}
}

static void integers_are_exact(void **state)
{
	static const uint64_t rows[] = {
		0, 9, 10, 4294967296, 9007199254740993, INT64_MAX, UINT64_MAX - 1, UINT64_MAX
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sink s;

		sink_open(&s);
		jsonw_object(&s.w, NULL);
		jsonw_u64(&s.w, "v", rows[i]);
		jsonw_object_end(&s.w);
		_cleanup_(freep) char *text = sink_close(&s);
		struct json_object *o = parse(text);
		assert_true(json_object_get_uint64(json_object_object_get(o, "v")) == rows[i]);
		json_object_put(o);
	}
}

static void strings(void **state)
{
#define BAD "\xef\xbf\xbd"
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "twelve bytes and then some more", "twelve bytes and then some more" },
		{ "say \"hi\" c:\\x", "say \\\"hi\\\" c:\\\\x" },
		{ "/slash stays", "/slash stays" },
		{ "\b\f\n\r\t", "\\b\\f\\n\\r\\t" },
		{ "\001\033[2J\037\177", "\\u0001\\u001b[2J\\u001f\\u007f" },
		{ "eight chars\n and a tail", "eight chars\\n and a tail" },
		{ "12345678\"", "12345678\\\"" },
		{ "r\xc3\xa9sum\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x8c\x8a",
		  "r\xc3\xa9sum\xc3\xa9 \xe6\x97\xa5 \xf0\x9f\x8c\x8a" },
		{ "\xc2\x9b\x32J\xc2\xa0", "\\u009b2J\xc2\xa0" }, /* CSI of 8 bits */
		{ "a\xffz", "a" BAD "z" },			  /* never a byte of UTF-8 */
		{ "\x80", BAD },				  /* continues nothing */
		{ "\xc0\xaf", BAD BAD },			  /* overlong '/' */
		{ "\xe0\x80\xaf", BAD BAD BAD },		  /* overlong */
		{ "\xed\xa0\x80", BAD BAD BAD },		  /* surrogate */
		{ "\xf4\x90\x80\x80", BAD BAD BAD BAD },	  /* beyond U+10FFFF */
		{ "cut\xe6\x97", "cut" BAD BAD },		  /* the string ends inside a character */
		{ "\xf0\x9f\x8c", BAD BAD BAD },
		{ "\xc3\"", BAD "\\\"" }, /* the quote is not swallowed */
		{ "\xe6\x97"
		  "A",
		  BAD BAD "A" },
		{ "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sink s;

		sink_open(&s);
		jsonw_string(&s.w, NULL, rows[i].in);
		_cleanup_(freep) char *text = sink_close(&s), *want = xasprintf("\"%s\"", rows[i].out);
		assert_string_equal(text, want);
	}
#undef BAD
}

/* Every length and every place of what needs care: the writer looks at eight bytes at once, with an overlapping last piece. */
static void strings_come_back(void **state)
{
	static const char *const odd[] = { "\"",       "\\",	       "\n", "\177", "\001", "\x1f",
					   "\xc3\xa9", "\xe6\x97\xa5", "!",  "]",    "~",    " " };
	char in[80];

	(void)state;
	for (size_t len = 0; len < 40; len++)
		for (size_t at = 0; at <= len; at++)
			for (size_t k = 0; k < ARRAY_SIZE(odd); k++) {
				struct sink s;

				memset(in, 'x', len);
				strcpy(in + at, odd[k]);
				memset(in + strlen(in), 'y', len - at);
				in[len + strlen(odd[k])] = 0;
				sink_open(&s);
				jsonw_object(&s.w, NULL);
				jsonw_string(&s.w, "s", in);
				jsonw_object_end(&s.w);
				_cleanup_(freep) char *text = sink_close(&s);
				struct json_object *o = parse(text);
				assert_string_equal(json_object_get_string(json_object_object_get(o, "s")), in);
				json_object_put(o);
			}
}

static void long_strings_and_lines(void **state)
{
	_cleanup_(freep) char *in = xcalloc(300001, 1);
	struct sink s;

	(void)state;
	memset(in, '"', 300000);
	sink_open(&s);
	for (int i = 0; i < 3; i++) {
		jsonw_string(&s.w, NULL, in);
		jsonw_line_end(&s.w);
	}
	_cleanup_(freep) char *text = sink_close(&s);
	assert_int_equal(s.len, 3 * (2 + 600000 + 1));
	assert_int_equal(text[s.len - 1], '\n');
}

static void put_again(struct jsonw *w, const void *what, const char *text)
{
	if (jsonw_again(w, what))
		return;
	size_t from = jsonw_here(w);
	jsonw_object(w, NULL);
	jsonw_string(w, "text", text);
	jsonw_object_end(w);
	jsonw_remember(w, what, from);
}

static void what_comes_again_is_the_same(void **state)
{
	static const char things[3][2] = { "a", "b", "\n" };
	struct sink s;

	(void)state;
	sink_open(&s);
	for (int line = 0; line < 2; line++) {
		jsonw_array(&s.w, NULL);
		for (int i = 0; i < 7; i++)
			put_again(&s.w, things[i % 3], things[i % 3]);
		jsonw_array_end(&s.w);
		jsonw_line_end(&s.w);
	}
	_cleanup_(freep) char *text = sink_close(&s);
	const char *half = "[{\"text\":\"a\"},{\"text\":\"b\"},{\"text\":\"\\n\"},{\"text\":\"a\"},{\"text\":\"b\"},"
			   "{\"text\":\"\\n\"},{\"text\":\"a\"}]\n";
	_cleanup_(freep) char *wanted = xasprintf("%s%s", half, half);
	assert_string_equal(text, wanted);
}

/* More things than there are places, and more text than the buffer holds before it is written: both make it forget, neither may show. */
static void what_is_forgotten_is_written_anew(void **state)
{
	_cleanup_(freep) char(*names)[16] = xcalloc(4000, sizeof(*names));
	size_t at = 0, known = 0;
	struct sink s;

	(void)state;
	for (int i = 0; i < 4000; i++)
		snprintf(names[i], sizeof(names[i]), "n%d", i);
	sink_open(&s);
	for (int i = 0; i < 100000; i++) {
		const char *name = names[i % 7 ? i % 5 : i % 4000];
		known += jsonw_again(&s.w, name);
		s.w.comma = false;
		jsonw_line_end(&s.w);
		put_again(&s.w, name, name);
		jsonw_line_end(&s.w);
	}
	_cleanup_(freep) char *text = sink_close(&s);
	assert_true(known > 50000);
	for (int i = 0; i < 100000; i++) {
		const char *name = names[i % 7 ? i % 5 : i % 4000];
		char wanted[40];
		size_t n = (size_t)snprintf(wanted, sizeof(wanted), "{\"text\":\"%s\"}\n", name);
		if (text[at] == '{' && !strncmp(text + at, wanted, n) && !strncmp(text + at + n, wanted, n))
			at += n; /* it was known */
		else
			assert_int_equal(text[at++], '\n');
		assert_memory_equal(text + at, wanted, n);
		at += n;
	}
	assert_int_equal(at, s.len);
}

static void full_disk_is_told(void **state)
{
	struct jsonw w;
	FILE *full = fopen("/dev/full", "w");

	(void)state;
	assert_non_null(full);
	jsonw_init(&w, full);
	jsonw_u64(&w, NULL, 1);
	assert_int_equal(jsonw_done(&w), -ENOSPC);
	(void)fclose(full);
}

static void gone_reader_is_told(void **state)
{
	struct jsonw w;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	(void)signal(SIGPIPE, SIG_IGN);
	close(fds[0]);
	FILE *out = fdopen(fds[1], "w");
	jsonw_init(&w, out);
	for (int i = 0; i < 100000; i++) { /* more than any buffer holds */
		jsonw_string(&w, NULL, "twenty bytes of text");
		jsonw_line_end(&w);
	}
	assert_int_equal(jsonw_done(&w), -EPIPE);
	(void)fclose(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(structure),
		cmocka_unit_test(numbers),
		cmocka_unit_test(what_comes_again_is_the_same),
		cmocka_unit_test(what_is_forgotten_is_written_anew),
		cmocka_unit_test(integers_are_exact),
		cmocka_unit_test(strings),
		cmocka_unit_test(strings_come_back),
		cmocka_unit_test(long_strings_and_lines),
		cmocka_unit_test(full_disk_is_told),
		cmocka_unit_test(gone_reader_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
