/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading of code objects on a memory that is made up: as many of 3.12 as are asked for, one per page. Bounds, nonsense, death at each read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "collect/pycode.h"
#include "collect/pynames.h"
#include "util/mem.h"

#define GONE "<gone>"
#define CODE_ID 56

static const struct py_names names312 = {
	.code_firstlineno = 68,
	.code_filename = 112,
	.code_name = 120,
	.code_qualname = 128,
	.code_linetable = 136,
	.str_length = 16,
	.str_state = 32,
	.str_ascii_data = 40,
	.str_compact_data = 56,
	.bytes_size = 16,
	.bytes_data = 32,
	.minor = 12,
};

#define FAKE_BASE 0x500000000000ull
#define FAKE_PAGE 4096
#define FAKE_STR 1024
#define FAKE_FILE 2048
#define FAKE_TABLE 3072
#define FAKE_OBJECTS 200000
#define STATE_ASCII 0x64 /* kind 1, compact, ascii */

struct fake {
	struct py_memory memory;
	size_t reads;
	size_t alive_from;  /* objects before it are gone */
	size_t die_at_read; /* so many calls of read from now on, all are; 0: never */
	uint64_t name_length, table_bytes;
	uint32_t state;
	size_t built; /* object that `page` shows, + 1 */
	unsigned char page[FAKE_PAGE];
};

static void put64(struct fake *f, size_t at, uint64_t v)
{
	memcpy(f->page + at, &v, sizeof(v));
}

static void put32(struct fake *f, size_t at, uint32_t v)
{
	memcpy(f->page + at, &v, sizeof(v));
}

static void fake_build(struct fake *f, size_t i)
{
	uint64_t at = FAKE_BASE + i * FAKE_PAGE;

	f->built = i + 1;
	memset(f->page, 'n', sizeof(f->page));
	put64(f, 0, i >= f->alive_from);
	put32(f, 68, (uint32_t)i + 1);
	put64(f, 112, at + FAKE_FILE);
	put64(f, 120, at + FAKE_STR);
	put64(f, 128, at + FAKE_STR);
	put64(f, 136, at + FAKE_TABLE);
	put64(f, FAKE_STR + 16, f->name_length);
	put32(f, FAKE_STR + 32, f->state);
	char name[17];
	(void)snprintf(name, sizeof(name), "%016zu", i);
	memcpy(f->page + FAKE_STR + 40, name, 16);
	put64(f, FAKE_FILE + 16, 1);
	put32(f, FAKE_FILE + 32, STATE_ASCII);
	put64(f, FAKE_TABLE + 16, f->table_bytes);
	put32(f, FAKE_TABLE + 32, 0x0081); /* a short entry: two units of the first line */
}

static size_t fake_read(void *ctx, uint32_t pid, const struct py_piece *p, size_t n)
{
	struct fake *f = ctx;

	(void)pid;
	f->reads++;
	if (f->die_at_read && !--f->die_at_read) {
		f->alive_from = FAKE_OBJECTS;
		f->built = 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (!p[i].bytes)
			continue;
		size_t object = (p[i].at - FAKE_BASE) / FAKE_PAGE, at = p[i].at % FAKE_PAGE;

		if (p[i].at < FAKE_BASE || object >= FAKE_OBJECTS || p[i].bytes > FAKE_PAGE - at)
			return i;
		if (f->built != object + 1)
			fake_build(f, object);
		memcpy(p[i].to, f->page + at, p[i].bytes);
	}
	return n;
}

static void fake_init(struct fake *f)
{
	*f = (struct fake){
		.memory = { .read = fake_read, .ctx = f },
		.name_length = 16,
		.table_bytes = 2,
		.state = STATE_ASCII,
	};
}

static uint32_t fake_id(struct fake *f, size_t i)
{
	__u64 w[PYTHON_CODE_ID_BYTES / sizeof(__u64)], table[4];

	fake_build(f, i);
	memcpy(w, f->page + CODE_ID, sizeof(w));
	memcpy(table, f->page + FAKE_TABLE + PYTHON_TABLE_HEAD, sizeof(table));
	return python_code_id(w, table);
}

static void push(struct python_chain *c, uint64_t addr, uint32_t id)
{
	c->frame[c->n] = python_frame_pack(addr, 2) | PYTHON_FRAME_ENTRY;
	c->code_id[c->n++] = id;
}

/* Frames of objects [from, from + count) in unit 1. */
static void fake_resolve(struct fake *f, struct pynames *n, uint32_t image, size_t from, size_t count,
			 struct py_line *ret)
{
	struct python_chain c = { 0 };

	for (size_t i = from; i < from + count; i++)
		push(&c, FAKE_BASE + i * FAKE_PAGE, fake_id(f, i));
	pynames_resolve(n, 1, image, &names312, CODE_ID, &c, ret);
}

static void fake_check(struct fake *f, struct pynames *n, uint32_t image, size_t i, const char *name, uint32_t line)
{
	struct py_line got;

	fake_resolve(f, n, image, i, 1, &got);
	if (strcmp(got.name, name) != 0 || got.line != line)
		fail_msg("object %zu: %s:%u; got %s:%u", i, name, line, got.name, got.line);
	if (strcmp(name, GONE) != 0)
		assert_string_equal(got.file, "n");
	else
		assert_null(got.file);
}

static void test_images(void **state)
{
	struct fake f;
	struct pynames *n;

	(void)state;
	fake_init(&f);
	n = pynames_new_on(&f.memory);
	fake_check(&f, n, 1, 7, "0000000000000007", 8);
	fake_check(&f, n, 2, 7, "0000000000000007", 8);
	f.alive_from = FAKE_OBJECTS;
	fake_check(&f, n, 1, 7, "0000000000000007", 8);
	fake_check(&f, n, 3, 7, GONE, 0);
	pynames_forget(n, 1);
	pynames_forget(n, 9);
	fake_check(&f, n, 1, 7, GONE, 0);
	fake_check(&f, n, 2, 7, "0000000000000007", 8);
	pynames_free(n);
}

/* Dies before the first, second, third read of it; what is gone is asked for again. */
static void test_dies_while_read(void **state)
{
	struct fake f;
	struct pynames *n;

	(void)state;
	fake_init(&f);
	n = pynames_new_on(&f.memory);
	for (size_t reads = 1; reads <= 4; reads++) {
		f.die_at_read = reads;
		fake_check(&f, n, 1, 7, GONE, 0);
		assert_int_equal(f.die_at_read, 0);
		f.alive_from = 0;
	}
	f.die_at_read = 5;
	fake_check(&f, n, 1, 7, "0000000000000007", 8);
	fake_check(&f, n, 1, 7, "0000000000000007", 8);
	assert_int_equal(f.die_at_read, 1); /* what is known is not read */
	pynames_free(n);
}

static void test_nonsense(void **state)
{
	static const struct {
		uint64_t name_length, table_bytes;
		uint32_t state;
		const char *name;
		uint32_t line;
	} cases[] = {
		{ 0, 2, STATE_ASCII, "", 8 },
		{ 16, 2, 0x60, "<unreadable>", 8 }, /* kind 0 */
		{ 16, 2, 0x6c, "<unreadable>", 8 }, /* kind 3 */
		{ 16, 2, 0x70, "<unreadable>", 8 }, /* four bytes, ASCII */
		{ 1ull << 60, 2, STATE_ASCII, "<unreadable>", 8 },
		{ UINT64_MAX, 2, STATE_ASCII, "<unreadable>", 8 },
		{ 16, 2, 0x44, GONE, 0 },				/* elsewhere: at "nnnnnnnn" */
		{ 16, UINT64_MAX, STATE_ASCII, "0000000000000007", 0 }, /* negative */
		{ 16, 5 << 20, STATE_ASCII, "0000000000000007", 0 },
		{ 16, 4 << 20, STATE_ASCII, GONE, 0 }, /* can't be read */
		{ 16, 1, STATE_ASCII, "0000000000000007", 8 },
		{ 16, 0, STATE_ASCII, "0000000000000007", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fake f;
		struct pynames *n;

		fake_init(&f);
		f.name_length = cases[i].name_length;
		f.table_bytes = cases[i].table_bytes;
		f.state = cases[i].state;
		n = pynames_new_on(&f.memory);
		fake_check(&f, n, 1, 7, cases[i].name, cases[i].line);
		pynames_free(n);
	}
}

static void test_layouts_of_nonsense(void **state)
{
	struct py_names bad[] = { names312, names312, names312, names312 };
	struct fake f;
	struct pynames *n;
	struct python_chain c = { 0 };
	struct py_line got;

	(void)state;
	fake_init(&f);
	n = pynames_new_on(&f.memory);
	push(&c, FAKE_BASE, fake_id(&f, 0));
	bad[0].code_name = UINT16_MAX;
	bad[1].str_state = 61;
	bad[2].bytes_size = 57;
	bad[3].str_compact_data = 300;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		pynames_resolve(n, 1, 1, &bad[i], CODE_ID, &c, &got);
		assert_string_equal(got.name, GONE);
		assert_true(got.is_entry);
	}
	pynames_resolve(n, 1, 1, &names312, 200, &c, &got);
	assert_string_equal(got.name, GONE);
	pynames_free(n);
}

/* More objects than are kept: those used last stay. */
static void test_many(void **state)
{
	enum { KEPT = 131072, MORE = 1000, STEP = 100 };
	struct py_line got[STEP];
	struct fake f;
	struct pynames *n;

	(void)state;
	fake_init(&f);
	n = pynames_new_on(&f.memory);
	for (size_t i = 0; i < KEPT + MORE; i += STEP) {
		fake_resolve(&f, n, 1, i, STEP, got);
		assert_string_not_equal(got[STEP - 1].name, GONE);
		size_t reads = f.reads;
		fake_check(&f, n, 1, 0, "0000000000000000", 1); /* always used */
		assert_int_equal(f.reads, reads);
	}
	f.alive_from = FAKE_OBJECTS;
	fake_check(&f, n, 1, 0, "0000000000000000", 1);
	fake_check(&f, n, 1, 1, GONE, 0);
	fake_check(&f, n, 1, MORE - STEP, GONE, 0);
	fake_check(&f, n, 1, MORE + STEP, "0000000000001100", MORE + STEP + 1);
	pynames_free(n);
}

/* Long names without end: strings are bounded, what was said stays as it was. */
static void test_strings_full(void **state)
{
	enum { STEP = 100 };
	struct py_line got[STEP], first;
	struct fake f;
	struct pynames *n;
	size_t i = STEP;

	(void)state;
	fake_init(&f);
	f.name_length = 500;
	n = pynames_new_on(&f.memory);
	fake_resolve(&f, n, 1, 0, 1, &first);
	do
		fake_resolve(&f, n, 1, i, STEP, got);
	while ((i += STEP) < FAKE_OBJECTS - STEP && strcmp(got[STEP - 1].name, "<no room>") != 0);
	assert_in_range(i, 40000, 70000); /* 32 MiB of 500 bytes and what goes with them */
	assert_string_equal(got[STEP - 1].file, "n");
	assert_int_equal(got[STEP - 1].line, i);
	assert_int_equal(strlen(first.name), 500);
	fake_resolve(&f, n, 1, 0, 1, got);
	assert_ptr_equal(got[0].name, first.name);
	pynames_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_images),	 cmocka_unit_test(test_dies_while_read),
		cmocka_unit_test(test_nonsense), cmocka_unit_test(test_layouts_of_nonsense),
		cmocka_unit_test(test_many),	 cmocka_unit_test(test_strings_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
