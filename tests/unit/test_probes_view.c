/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `tidemark probes`: the JSON lines parse and hold the fields of formats.md; the table says what is missing and what
 * is unsafe.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/mem.h"
#include "view/probes.h"

static struct plan plan_of(const char *symbol, const char *insn, enum insn_kind kind)
{
	struct plan p = { .func = family_find(symbol),
			  .planned = true,
			  .kind = kind,
			  .probe_offset = 0x98930,
			  .insn_delta = 9,
			  .why = "first instruction, emulated" };

	assert_non_null(p.func);
	p.shape = p.func->shape;
	(void)snprintf(p.symbol, sizeof(p.symbol), "%s", symbol);
	(void)snprintf(p.insn, sizeof(p.insn), "%s", insn);
	return p;
}

typedef int (*printer)(FILE *out, const struct probe_row *rows, size_t n);

static char *printed(printer print, const struct probe_row *rows, size_t n)
{
	char *buf = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&buf, &len);

	assert_non_null(out);
	assert_int_equal(print(out, rows, n), 0);
	assert_int_equal(fclose(out), 0);
	return buf;
}

static json_object *member(json_object *o, const char *key)
{
	json_object *v = NULL;

	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no field '%s'", key);
	return v;
}

static void is_string(json_object *o, const char *key, const char *want)
{
	assert_string_equal(json_object_get_string(member(o, key)), want);
}

static void json_line_has_all_fields(void **state)
{
	struct plan p = plan_of("free", "push rbp", INSN_EMULATED);
	struct probe_row r = { 4711, "/lib/libc.so.6", "a1b2", &p, "none", 554.26, NAN, 90, NULL };
	_cleanup_(freep) char *text = printed(probes_print_json, &r, 1);
	json_object *o = json_tokener_parse(text);

	(void)state;
	assert_non_null(o);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	is_string(o, "type", "probe");
	assert_int_equal(json_object_get_int(member(o, "v")), 1);
	assert_true(json_object_get_double(member(o, "ts")) > 1.5e9);
	assert_int_equal(json_object_get_int(member(o, "pid")), 4711);
	is_string(o, "layer", "heap");
	is_string(o, "family", "malloc");
	is_string(o, "module", "/lib/libc.so.6");
	is_string(o, "build_id", "a1b2");
	is_string(o, "symbol", "free");
	assert_int_equal(json_object_get_int64(member(o, "offset")), 0x98930);
	is_string(o, "insn", "push rbp");
	is_string(o, "kind", "emulated");
	assert_true(fabs(json_object_get_double(member(o, "entry_ns")) - 554.3) < 0.01);
	is_string(o, "return_how", "none");
	assert_null(member(o, "return_ns"));
	is_string(o, "shape", "ptr->void");
	assert_true(json_object_get_boolean(member(o, "planned")));
	is_string(o, "why", "first instruction, emulated");
	assert_int_equal(json_object_array_length(member(o, "hazards")), 0);
	json_object_put(o);
}

static void json_tells_hazards_and_the_unknown(void **state)
{
	struct plan p = plan_of("_Znwm", "endbr64", INSN_STEPPED);
	struct probe_row r = { 1, "/opt/a\xff\"b", NULL, &p, "none", NAN, NAN, NAN, "Go code" };
	_cleanup_(freep) char *text = NULL;
	json_object *o, *h;

	(void)state;
	strcpy(p.hazards[0], "single-stepped");
	strcpy(p.hazards[1], "throws");
	p.planned = false;
	text = printed(probes_print_json, &r, 1);
	o = json_tokener_parse(text);
	assert_non_null(o);
	is_string(o, "module", "/opt/a\xef\xbf\xbd\"b");
	assert_null(member(o, "build_id"));
	assert_null(member(o, "entry_ns"));
	assert_false(json_object_get_boolean(member(o, "planned")));
	h = member(o, "hazards");
	assert_int_equal(json_object_array_length(h), 3);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(h, 2)), "Go code");
	json_object_put(o);
}

static size_t lines_of(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

static void table_has_one_heading_per_file(void **state)
{
	struct plan m = plan_of("malloc", "push r12", INSN_EMULATED), f = plan_of("free", "push rbp", INSN_EMULATED);
	struct plan d = plan_of("_ZdlPv", "jmp 0x9a860", INSN_EMULATED);
	struct probe_row rows[] = {
		{ 7, "/lib/libc.so.6", "a1b2", &m, "session", 554, 870, 400, NULL },
		{ 7, "/lib/libc.so.6", "a1b2", &f, "none", 19400, NAN, 90, NULL },
		{ 7, "/lib/libstdc++.so.6\x1b[2J", NULL, &d, "none", 554, NAN, NAN, "Go code" },
	};
	_cleanup_(freep) char *text = NULL;

	(void)state;
	d.planned = false;
	strcpy(d.why, "reaches free, which is probed");
	strcpy(f.hazards[0], "single-stepped");
	text = printed(probes_print_text, rows, ARRAY_SIZE(rows));
	/* headings, 2 files, 3 rows, a hazard, a gate */
	assert_int_equal(lines_of(text), 8);
	assert_non_null(strstr(text, "session 870 ns"));
	assert_non_null(strstr(text, "19.4 us"));
	assert_non_null(strstr(text, "    ! single-stepped\n"));
	assert_non_null(strstr(text, "not probed: reaches free, which is probed\n"));
	assert_non_null(strstr(text, "! no return probes: Go code\n"));
	assert_non_null(strstr(text, "build id unknown"));
	assert_null(strchr(text, '\x1b'));
}

static void not_calibrated_is_a_dash(void **state)
{
	struct plan m = plan_of("malloc", "push r12", INSN_EMULATED);
	struct probe_row r = { 7, "/lib/libc.so.6", "a1b2", &m, "uretprobe", NAN, NAN, NAN, NULL };
	_cleanup_(freep) char *text = printed(probes_print_text, &r, 1);

	(void)state;
	assert_non_null(strstr(text, "uretprobe -"));
	assert_null(strstr(text, "nan"));
}

static void nothing_found_is_said(void **state)
{
	_cleanup_(freep) char *text = printed(probes_print_text, NULL, 0), *json = printed(probes_print_json, NULL, 0);

	(void)state;
	assert_string_equal(text, "no allocation functions found\n");
	assert_string_equal(json, "");
}

static void full_disk_is_told(void **state)
{
	struct plan m = plan_of("malloc", "push r12", INSN_EMULATED);
	struct probe_row r = { 7, "/lib/libc.so.6", "a1b2", &m, "session", 554, 870, 400, NULL };
	static const printer printers[] = { probes_print_text, probes_print_json };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(printers); i++) {
		_cleanup_(fclosep) FILE *full = fopen("/dev/full", "w");

		if (!full)
			skip();
		assert_int_equal(printers[i](full, &r, 1), -ENOSPC);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_line_has_all_fields),	  cmocka_unit_test(json_tells_hazards_and_the_unknown),
		cmocka_unit_test(table_has_one_heading_per_file), cmocka_unit_test(not_calibrated_is_a_dash),
		cmocka_unit_test(nothing_found_is_said),	  cmocka_unit_test(full_disk_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
