/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of Python frames, of living interpreters: each makes code objects with names of all kinds and says what they are called; frees some while they are
 * read. Chains are made here as the kernel side makes them. test_pycode.c shows bounds and nonsense.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "collect/pycode.h"
#include "collect/pynames.h"
#include "interpreters_fixture.h"
#include "util/mem.h"

#define IMAGE 3
#define GONE "<gone>"

/* Of the headers of each version: Include/cpython/code.h (3.8 to 3.10: Include/code.h), unicodeobject.h, bytesobject.h. */
#define STR_OLD .str_length = 16, .str_state = 32, .str_ascii_data = 48, .str_compact_data = 72
#define STR_NEW .str_length = 16, .str_state = 32, .str_ascii_data = 40, .str_compact_data = 56
#define BYTES .bytes_size = 16, .bytes_data = 32
#define CODE_OLD .code_firstlineno = 40, .code_filename = 104, .code_name = 112, .code_linetable = 120
#define CODE_NEW .code_filename = 112, .code_name = 120, .code_qualname = 128, .code_linetable = 136

static const struct {
	struct py_names names;
	uint16_t code_id;
} layouts[] = {
	{ { .minor = 8, CODE_OLD, STR_OLD, BYTES }, 40 },
	{ { .minor = 9, CODE_OLD, STR_OLD, BYTES }, 40 },
	{ { .minor = 10, CODE_OLD, STR_OLD, BYTES }, 40 },
	{ { .minor = 11, .code_firstlineno = 72, CODE_NEW, STR_OLD, BYTES }, 56 },
	{ { .minor = 12, .code_firstlineno = 68, CODE_NEW, STR_NEW, BYTES }, 56 },
	{ { .minor = 13, .code_firstlineno = 68, CODE_NEW, STR_NEW, BYTES }, 56 },
	{ { .minor = 14, .code_firstlineno = 68, CODE_NEW, STR_NEW, BYTES }, 56 },
};
#define LAYOUT(minor) (&layouts[(minor)-8])

static const char script[] =
	"import sys, dis, types\n"
	"minor = sys.version_info[1]\n"
	"print(minor)\n"
	"def shown(s, cap):\n"
	"    s = ''.join('?' if ord(c) < 32 or 127 <= ord(c) < 160 else '\\ufffd' if 0xd800 <= ord(c) < 0xe000 else c "
	"for c in s)\n"
	"    return s.encode()[:cap].decode('utf-8', 'ignore').encode().hex() or '-'\n"
	"def line(co, unit):\n"
	"    if minor >= 10:\n"
	"        return next((l or 0 for s, e, l in co.co_lines() if s <= 2 * unit < e), 0)\n"
	"    return [l for s, l in dis.findlinestarts(co) if s <= 2 * unit][-1]\n"
	"def say(co, lines=True):\n"
	"    n = len(co.co_code) // 2\n"
	"    units = sorted({0, n // 4, n // 3, n // 2, n - 2, n - 1}) if lines else []\n"
	"    print(id(co), co.co_firstlineno, shown(getattr(co, 'co_qualname', co.co_name), 512), "
	"shown(co.co_filename, 4096),\n"
	"          *['%d:%d' % (u, line(co, u)) for u in units])\n"
	"    return co\n"
	"def named(co, name, **more):\n"
	"    if minor >= 11:\n"
	"        more['co_qualname'] = name\n"
	"    return co.replace(co_name=name, **more)\n"
	"def with_table(co, bytes):\n"
	"    fill = (b'\\0\\0' if minor < 10 else b'\\2\\0' if minor == 10 else b'\\x80\\0') * (bytes // 2)\n"
	"    if minor < 10:\n"
	"        return co.replace(co_lnotab=co.co_lnotab + fill)\n"
	"    return co.replace(co_linetable=co.co_linetable + fill)\n"
	"text = '''\n"
	"def plain(a,\n"
	"          b):\n"
	"    return [a(x,\n"
	"       b)\n"
	"       for x in b], lambda: (\n"
	"         a)\n"
	"class K:\n"
	"    def method(self):\n"
	"        def inner():\n"
	"            yield self\n"
	"        return inner\n"
	"def \\u00e9t\\u00e9(): pass\n"
	"class \\u0416:\n"
	"    def \\u0438\\u043c\\u044f(self): return 1\n"
	"'''\n"
	"keep = []\n"
	"def all_of(co):\n"
	"    keep.append(co)\n"
	"    for c in co.co_consts:\n"
	"        if isinstance(c, types.CodeType):\n"
	"            all_of(c)\n"
	"all_of(compile(text, '/srv/\\u00e9/\\u0416 \\U0001f600.py', 'exec'))\n"
	"base = keep[1]\n"
	"for name in ('\\U0001f600mo\\u0416\\u00e9', 'x' * 511, 'x' * 512, 'x' * 513, 'x' * 100000, '\\u00e9' * 256, "
	"'x' + '\\u00e9' * 256,\n"
	"             '\\u0416' * 9999, 'xx' + '\\u20ac' * 999, 'x' + '\\U0001f600' * 999, '\\ud800x\\udfff', "
	"'\\ud83d\\ude00', '\\x1b[31m\\n\\0\\x7f',\n"
	"             'a\\x85\\x9f\\xa0', '<gone>', ''):\n"
	"    keep.append(named(base, name))\n"
	"for path in ('', 'y' * 4096, 'y' * 4097, 'z' + '\\u00e9' * 5000, '\\udc80/\\n.py'):\n"
	"    keep.append(base.replace(co_filename=path))\n"
	"class S(str): pass\n"
	"for name in ('sub', 'sub\\u00e9', 'sub\\u0416', ''):\n"
	"    try:\n"
	"        keep.append(named(base, S(name), co_filename=S(name + '.py')))\n"
	"    except TypeError:\n"
	"        pass\n"
	"tables = [with_table(base, 3 << 20) for i in range(3)]\n"
	"large = with_table(base, 5 << 20)\n"
	"def names():\n"
	"    for co in keep:\n"
	"        say(co)\n"
	"    print('end')\n"
	"def long_tables():\n"
	"    for co in tables:\n"
	"        say(co)\n"
	"def drop_tables():\n"
	"    del tables[:]\n"
	"    print('dropped')\n"
	"def too_long_table():\n"
	"    say(large, False)\n"
	"held = []\n"
	"def make():\n"
	"    held[:] = [say(named(base, 'first', co_filename='first.py', co_firstlineno=10))]\n"
	"def drop():\n"
	"    global was\n"
	"    was = id(held[0])\n"
	"    held.clear()\n"
	"    print('dropped')\n"
	"def again():\n"
	"    for i in range(100000):\n"
	"        held.append(named(base, 'second', co_filename='second.py', co_firstlineno=20))\n"
	"        if id(held[-1]) == was:\n"
	"            held[:] = held[-1:]\n"
	"            say(held[0])\n"
	"            return\n"
	"for command in sys.stdin:\n"
	"    globals()[command.strip()]()\n";

/* --- chains as the kernel side makes them --- */

struct want {
	uint64_t addr;
	uint32_t first_line, id;
	char *name, *file;
	size_t n;
	uint32_t unit[8], line[8];
};

static void want_done(struct want *w)
{
	free(w->name);
	free(w->file);
}

/* 0: it could not be read. */
static uint32_t id_of(pid_t pid, uint64_t addr, unsigned int minor)
{
	__u64 w[PYTHON_CODE_ID_BYTES / sizeof(__u64)], t[4];
	struct iovec to = { w, sizeof(w) }, from = { (void *)(uintptr_t)(addr + LAYOUT(minor)->code_id), sizeof(w) };

	if (process_vm_readv(pid, &to, 1, &from, 1, 0) != sizeof(w))
		return 0;
	to = (struct iovec){ t, sizeof(t) };
	from = (struct iovec){ (void *)(uintptr_t)(w[ARRAY_SIZE(w) - 1] + PYTHON_TABLE_HEAD), sizeof(t) };
	if (process_vm_readv(pid, &to, 1, &from, 1, 0) != sizeof(t))
		return 0;
	return python_code_id(w, t);
}

static char *text_of(const char *hex)
{
	size_t n;

	return (char *)bytes_of_hex(hex, &n);
}

static struct want want_parse(const struct interpreter *p, char *line)
{
	struct want w = { 0 };
	char *rest = NULL;

	assert_non_null(line);
	w.addr = strtoull(strtok_r(line, " ", &rest), NULL, 10);
	w.first_line = (uint32_t)strtoul(strtok_r(NULL, " ", &rest), NULL, 10);
	w.name = text_of(strtok_r(NULL, " ", &rest));
	w.file = text_of(strtok_r(NULL, " ", &rest));
	for (char *s = strtok_r(NULL, " ", &rest); s && w.n < ARRAY_SIZE(w.unit); s = strtok_r(NULL, " ", &rest)) {
		w.unit[w.n] = (uint32_t)strtoul(s, &s, 10);
		w.line[w.n++] = (uint32_t)strtoul(s + 1, NULL, 10);
	}
	w.id = id_of(p->pid, w.addr, p->minor);
	assert_true(w.id);
	return w;
}

static struct want ask(struct interpreter *p, const char *command)
{
	interpreter_tell(p, command);
	return want_parse(p, interpreter_line(p));
}

static void tell(struct interpreter *p, const char *command, const char *answer)
{
	interpreter_tell(p, command);
	assert_string_equal(interpreter_line(p), answer);
}

static void push(struct python_chain *c, uint64_t addr, uint32_t id, uint32_t unit_plus_1)
{
	assert_true(c->n < PYTHON_FRAMES_MAX);
	c->frame[c->n] = python_frame_pack(addr, unit_plus_1) | (c->n % 3 ? 0 : PYTHON_FRAME_ENTRY);
	c->code_id[c->n++] = id;
}

static void resolve(struct pynames *n, const struct interpreter *p, const struct python_chain *c, struct py_line *ret)
{
	pynames_resolve(n, (uint32_t)p->pid, IMAGE, &LAYOUT(p->minor)->names, LAYOUT(p->minor)->code_id, c, ret);
	for (size_t i = 0; i < c->n; i++)
		assert_int_equal(ret[i].is_entry, i % 3 == 0);
}

static struct py_line resolve_one(struct pynames *n, const struct interpreter *p, const struct want *w,
				  uint32_t unit_plus_1)
{
	struct python_chain c = { 0 };
	struct py_line ret;

	push(&c, w->addr, w->id, unit_plus_1);
	resolve(n, p, &c, &ret);
	return ret;
}

static void check(const struct interpreter *p, const struct py_line *got, const char *name, const char *file,
		  uint32_t line)
{
	if (strcmp(got->name, name) != 0 || !got->file != !file || (file && strcmp(got->file, file) != 0) ||
	    got->line != line)
		fail_msg("3.%u: %s, %s:%u; got %s, %s:%u", p->minor, name, file ? file : "-", line, got->name,
			 got->file ? got->file : "-", got->line);
}

static void check_gone(const struct interpreter *p, const struct py_line *got)
{
	check(p, got, GONE, NULL, 0);
}

/* --- living interpreters --- */

/* All units of all objects, in chains; now and then a frame at an address that can't be read, and the innermost one twice (recursion). */
static void check_names(struct pynames *n, struct interpreter *p)
{
	size_t objects = 0;
	char *line;

	interpreter_tell(p, "names");
	while ((line = interpreter_line(p)) && strcmp(line, "end") != 0) {
		static const uint64_t bad[] = { 0, 0x10, (1ull << 47) - 4096, (1ull << 47) - 8 };
		struct want w = want_parse(p, line);
		struct python_chain c = { 0 };
		struct py_line got[PYTHON_FRAMES_MAX];

		for (size_t turn = 0; turn < 2; turn++) {
			for (size_t i = 0; i < w.n; i++)
				push(&c, w.addr, w.id, w.unit[i] + 1);
			push(&c, bad[objects % ARRAY_SIZE(bad)], w.id, 1);
			push(&c, w.addr, w.id + 1, 1); /* another object at this address, once */
			push(&c, w.addr, w.id, 0);
			push(&c, w.addr, w.id, PYTHON_UNIT_MAX);
		}
		resolve(n, p, &c, got);
		for (size_t i = 0, at = 0; at < c.n; at = i) {
			for (; i < at + w.n; i++)
				check(p, &got[i], w.name, w.file, w.line[i - at]);
			check_gone(p, &got[i++]);
			check_gone(p, &got[i++]);
			check(p, &got[i++], w.name, w.file, w.first_line);
			check(p, &got[i++], w.name, w.file, 0);
		}
		objects++;
		want_done(&w);
	}
	assert_true(objects > 30);
}

/* Three tables of 3 MiB: not all can be kept. Those read again are right; of the dead, only the line is missing. */
static void check_tables(struct pynames *n, struct interpreter *p)
{
	struct want w[3];

	w[0] = ask(p, "long_tables");
	for (size_t i = 1; i < ARRAY_SIZE(w); i++)
		w[i] = want_parse(p, interpreter_line(p));
	for (size_t turn = 0; turn < 3; turn++)
		for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
			struct py_line got = resolve_one(n, p, &w[i], w[i].unit[turn] + 1);
			check(p, &got, w[i].name, w[i].file, w[i].line[turn]);
		}
	tell(p, "drop_tables", "dropped");
	struct py_line kept = resolve_one(n, p, &w[2], w[2].unit[3] + 1);
	struct py_line lost = resolve_one(n, p, &w[0], w[0].unit[3] + 1);
	struct py_line last = resolve_one(n, p, &w[0], w[0].unit[2] + 1);
	check(p, &kept, w[2].name, w[2].file, w[2].line[3]);
	check(p, &lost, w[0].name, w[0].file, 0);
	check(p, &last, w[0].name, w[0].file, w[0].line[2]);
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		want_done(&w[i]);

	struct want large = ask(p, "too_long_table");
	struct py_line none = resolve_one(n, p, &large, 1), first = resolve_one(n, p, &large, 0);
	check(p, &none, large.name, large.file, 0);
	check(p, &first, large.name, large.file, large.first_line);
	want_done(&large);
}

/* An object dies, another one takes its place. */
static void check_reuse(struct pynames *n, struct interpreter *p, bool is_resolved_before)
{
	struct want first = ask(p, "make");
	struct py_line got;

	if (is_resolved_before) {
		got = resolve_one(n, p, &first, 0);
		check(p, &got, "first", "first.py", 10);
	}
	tell(p, "drop", "dropped");
	got = resolve_one(n, p, &first, 0);
	if (is_resolved_before)
		check(p, &got, "first", "first.py", 10);
	else
		check_gone(p, &got);

	struct want second = ask(p, "again");
	assert_int_equal(second.addr, first.addr);
	assert_int_not_equal(second.id, first.id);
	got = resolve_one(n, p, &second, 0);
	check(p, &got, "second", "second.py", 20);
	got = resolve_one(n, p, &first, 0);
	if (is_resolved_before)
		check(p, &got, "first", "first.py", 10);
	else
		check_gone(p, &got);
	pynames_forget(n, IMAGE);
	got = resolve_one(n, p, &first, 0);
	check_gone(p, &got);
	want_done(&first);
	want_done(&second);
}

/* Reads of a process in which something happens right before one of them. */
struct hooked {
	struct py_memory memory;
	struct interpreter *p;
	size_t at_read; /* the how manieth from now on; 0: none */
	bool replaces;	/* the memory of the dead object is given out again */
	struct want second;
};

static size_t hooked_read(void *ctx, uint32_t pid, const struct py_piece *p, size_t n)
{
	struct hooked *h = ctx;

	if (h->at_read && !--h->at_read) {
		tell(h->p, "drop", "dropped");
		if (h->replaces)
			h->second = ask(h->p, "again");
	}
	return py_memory_of_processes.read(NULL, pid, p, n);
}

/* An object dies before the first, second, third read of it: its names are its own or none. */
static void check_dying(struct interpreter *p, size_t at_read, bool replaces)
{
	struct hooked h = { .memory = { hooked_read, &h }, .p = p, .at_read = at_read, .replaces = replaces };
	struct pynames *n = pynames_new_on(&h.memory);
	struct want first = ask(p, "make");
	struct py_line got = resolve_one(n, p, &first, 0);

	assert_int_equal(h.at_read, 0);
	check_gone(p, &got);
	if (replaces) {
		assert_int_equal(h.second.addr, first.addr);
		got = resolve_one(n, p, &h.second, 0);
		check(p, &got, "second", "second.py", 20);
		want_done(&h.second);
	}
	got = resolve_one(n, p, &first, 0);
	check_gone(p, &got);
	want_done(&first);
	pynames_free(n);
}

static void check_interpreter(const char *path)
{
	struct interpreter p;
	struct pynames *n = pynames_new();

	interpreter_start(path, script, &p);
	check_names(n, &p);
	check_names(n, &p); /* all known by now */
	check_tables(n, &p);
	check_reuse(n, &p, false);
	check_reuse(n, &p, true);
	/* Before 3.12, reading the heads takes two reads. */
	for (size_t at_read = 1; at_read <= 4; at_read++) {
		check_dying(&p, at_read, false);
		check_dying(&p, at_read, true);
	}
	interpreter_stop(&p);
	pynames_free(n);
}

static void test_interpreters(void **state)
{
	static struct interpreters is;

	(void)state;
	interpreters_find(&is);
	for (size_t i = 0; i < is.n; i++)
		check_interpreter(is.path[i]);
	if (!is.n)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interpreters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
