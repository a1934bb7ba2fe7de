/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Line tables. Known truth: each interpreter of this machine compiles programs (ours, written for what tables can hold, and a part of its own library) and says
 * the line of every code unit of every code object; ours is asked for all of them. Then tables by hand: what compilers don't write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "collect/pynames.h"
#include "interpreters_fixture.h"
#include "util/mem.h"

/* --- what interpreters say --- */

/* One line per code object: first line, table, then "line*units" in order; at last "end", and how many units were special. */
static const char script[] =
	"import sys, dis, os, types\n"
	"minor = sys.version_info[1]\n"
	"print(minor)\n"
	"none = back = 0\n"
	"def lines_of(co):\n"
	"    n = len(co.co_code) // 2\n"
	"    lines = [0] * n\n"
	"    if minor >= 10:\n"
	"        for start, end, line in co.co_lines():\n"
	"            for u in range(start // 2, min(end // 2, n)):\n"
	"                lines[u] = line or 0\n"
	"    else:\n"
	"        starts = list(dis.findlinestarts(co)) + [(2 * n, 0)]\n"
	"        for (start, line), (end, _) in zip(starts, starts[1:]):\n"
	"            lines[start // 2:end // 2] = [line] * ((end - start) // 2)\n"
	"    return lines\n"
	"def say(co):\n"
	"    global none, back\n"
	"    lines = lines_of(co)\n"
	"    runs = []\n"
	"    for line in lines:\n"
	"        if runs and runs[-1][0] == line:\n"
	"            runs[-1][1] += 1\n"
	"        else:\n"
	"            runs.append([line, 1])\n"
	"    none += lines.count(0)\n"
	"    back += sum(0 < b[0] < a[0] for a, b in zip(runs, runs[1:]))\n"
	"    table = co.co_linetable if minor >= 10 else co.co_lnotab\n"
	"    print(co.co_firstlineno, table.hex() or '-', *['%d*%d' % tuple(r) for r in runs])\n"
	"    for c in co.co_consts:\n"
	"        if isinstance(c, types.CodeType):\n"
	"            say(c)\n"
	"text = '''\n"
	"def deco(a, b=1):\n"
	"    return lambda f: f\n"
	"@deco(\n"
	"    1,\n"
	"    b=[x for x in range(3)\n"
	"       if x],\n"
	")\n"
	"def decorated(a,\n"
	"              b=2):\n"
	"    return (a +\n"
	"            b *\n"
	"            f(a,\n"
	"              b)\n"
	"            + a)\n"
	"class K(object):\n"
	"    '''  + repr('doc') + '''\n"
	"    def m(self): return {k: v for k, v in self.x.items()}, {i for i in self.y}\n"
	"def tries(x):\n"
	"    try:\n"
	"        with open(x) as f, \\\\\n"
	"             open(f) as g:\n"
	"            return f.read(\n"
	"                g)\n"
	"    except (OSError,\n"
	"            ValueError) as e:\n"
	"        raise KeyError from e\n"
	"    except TypeError: pass\n"
	"    finally:\n"
	"        x.close()\n"
	"    for i in x:\n"
	"        while i:\n"
	"            if i and (\n"
	"                x or i):\n"
	"                continue\n"
	"            break\n"
	"    else:\n"
	"        assert x, (\n"
	"            i)\n"
	"async def co(x):\n"
	"    async with x as y:\n"
	"        async for z in y:\n"
	"            yield await z\n"
	"def chain(a):\n"
	"    return (a\n"
	"        .b(1)\n"
	"        .c(2,\n"
	"           a)\n"
	"        .d)\n"
	"'''\n"
	"match = '''\n"
	"def m(x):\n"
	"    match x:\n"
	"        case [1, 2, *rest] if rest:\n"
	"            return rest\n"
	"        case {'a': a} | (\n"
	"             K(a)):\n"
	"            return a\n"
	"        case _:\n"
	"            pass\n"
	"'''\n"
	"wide = 'def wide(a):\\n    x = [' + ', '.join('a.b%d' % i for i in range(400)) + ']\\n    return (' + "
	"'+'.join('a' for i in range(700)) + ')\\n'\n"
	"gaps = 'def gaps(a):\\n' + ''.join('    a(%d,\\n%s      a)\\n%s' % (g, '\\n' * g, '\\n' * g) "
	"for g in (1, 125, 126, 127, 128, 129, 253, 254, 255, 256, 300, 1000, 40000))\n"
	"tall = 'def tall(a):\\n' + ''.join('    x = %d\\n' % i for i in range(3000)) + '    return x\\n'\n"
	"for source in (text, wide, gaps, tall) + ((match,) if minor >= 10 else ()):\n"
	"    say(compile(source, '<ours>', 'exec'))\n"
	"own = none, back\n"
	"for name in 'argparse ast dataclasses datetime decimal enum functools inspect json/decoder logging/__init__ "
	"os pickle random tarfile threading typing unittest/mock zipfile asyncio/tasks contextlib'.split():\n"
	"    path = os.path.join(os.path.dirname(os.__file__), name + '.py')\n"
	"    if os.path.exists(path):\n"
	"        say(compile(open(path, encoding='utf-8').read(), path, 'exec'))\n"
	"print('end', *own)\n";

struct tally {
	size_t codes, units;
};

static void check_code(unsigned int minor, char *text, struct tally *t)
{
	char *rest = NULL;
	uint32_t first = (uint32_t)strtoul(strtok_r(text, " ", &rest), NULL, 10);
	size_t bytes, unit = 0;
	_cleanup_(freep) uint8_t *table = bytes_of_hex(strtok_r(NULL, " ", &rest), &bytes);
	/* Without the zero at its end: a byte read behind the table is found. */
	_cleanup_(freep) uint8_t *exact = bytes ? malloc(bytes) : NULL;

	if (bytes) {
		assert_non_null(exact);
		memcpy(exact, table, bytes);
	}
	for (char *run = strtok_r(NULL, " ", &rest); run; run = strtok_r(NULL, " ", &rest)) {
		char *units = NULL;
		uint32_t want = (uint32_t)strtoul(run, &units, 10);

		for (size_t n = strtoul(units + 1, NULL, 10); n; n--, unit++) {
			uint32_t got = pyline_find((uint8_t)minor, exact, bytes, first, (int64_t)unit);
			if (got != want)
				fail_msg("3.%u: object %zu, unit %zu: line %u, got %u", minor, t->codes, unit, want,
					 got);
		}
	}
	assert_int_equal(pyline_find((uint8_t)minor, exact, bytes, first, -1), first);
	t->codes++;
	t->units += unit;
}

static void check_interpreter(const char *path)
{
	struct interpreter p;
	struct tally t = { 0 };
	char *line;

	interpreter_start(path, script, &p);
	while ((line = interpreter_line(&p)) && strncmp(line, "end", 3) != 0)
		check_code(p.minor, line, &t);
	if (!line)
		fail_msg("%s: ended early", path);
	char *back = NULL;
	unsigned long none = strtoul(line + 3, &back, 10);
	print_message("3.%u: %zu code objects, %zu units, %lu of ours without a line\n", p.minor, t.codes, t.units,
		      none);
	/* The programs still hold what they were written for. */
	assert_true(t.codes > 500 && t.units > 50000);
	assert_true(strtoul(back, NULL, 10) > 10);
	if (p.minor >= 10)
		assert_true(none > 0);
	interpreter_stop(&p);
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

/* --- by hand --- */

struct hand {
	uint8_t minor;
	const char *table; /* hexadecimal */
	uint32_t first_line;
	int64_t unit;
	uint32_t want;
};

static const struct hand hands[] = {
	{ 8, "-", 7, 0, 7 },
	{ 8, "-", 7, 100, 7 },
	{ 8, "0401", 7, 1, 7 },
	{ 8, "0401", 7, 2, 8 },
	{ 9, "04ff", 7, 2, 6 },	      /* back */
	{ 9, "ff00010a", 7, 127, 7 }, /* 256 bytes in two pairs */
	{ 9, "ff00010a", 7, 128, 17 },
	{ 9, "007f0005", 7, 0, 139 },	/* more lines than a pair can hold */
	{ 9, "04", 7, 9, 7 },		/* half a pair */
	{ 8, "0080", 7, 0, 0 },		/* before line 1 */
	{ 8, "0001", INT32_MAX, 0, 0 }, /* behind the last one */
	{ 10, "-", 7, 0, 0 },
	{ 10, "04000601", 7, 1, 7 },
	{ 10, "04000601", 7, 2, 8 },
	{ 10, "04000601", 7, 4, 8 },
	{ 10, "04000601", 7, 5, 0 }, /* behind the code */
	{ 10, "04050280040104ff", 7, 2, 0 },
	{ 10, "04050280040104ff", 7, 3, 13 },
	{ 10, "04050280040104ff", 7, 5, 12 },
	{ 10, "007f02", 7, 0, 0 }, /* half a pair */
	{ 10, "007f0201", 7, 0, 135 },
	{ 11, "-", 7, 0, 0 },
	{ 11, "8100", 7, 1, 7 }, /* short */
	{ 11, "8100", 7, 2, 0 },
	{ 12, "d90000e00000", 7, 1, 8 }, /* one line: 1 on, then 2 on */
	{ 12, "d90000e00000", 7, 2, 10 },
	{ 13, "e803", 7, 0, 6 },	   /* no columns, back by 1 */
	{ 13, "e84401", 7, 0, 41 },	   /* 34 on, in two groups: (4 | 1 << 6) / 2 */
	{ 13, "f002000101e802", 7, 0, 8 }, /* long */
	{ 13, "f002000101e802", 7, 1, 9 },
	{ 14, "f9f800", 7, 1, 0 }, /* none */
	{ 14, "f9e802", 7, 2, 8 }, /* and on behind it */
	{ 13, "e8", 7, 0, 7 },	   /* its number is missing */
	{ 13, "e87f7f7f7f7f7f7f7f7f7f7f7f", 7, 0, 0 },
	{ 13, "0000e802", 7, 1, 8 }, /* first bytes that are none */
	{ 11, "8100", INT32_MAX, INT64_MAX, 0 },
	{ 5, "0401", 7, 0, 0 }, /* no version of ours */
	{ 8, "0401", UINT32_MAX, 0, 0 },
	{ 8, "0401", UINT32_MAX, -1, 0 },
	{ 12, "8100", 7, INT64_MIN, 7 },
};

static void test_by_hand(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hands); i++) {
		const struct hand *h = &hands[i];
		size_t bytes;
		_cleanup_(freep) uint8_t *table = bytes_of_hex(h->table, &bytes);
		uint32_t got = pyline_find(h->minor, table, bytes, h->first_line, h->unit);

		if (got != h->want)
			fail_msg("%zu: 3.%u %s unit %lld: line %u, got %u", i, h->minor, h->table, (long long)h->unit,
				 h->want, got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_interpreters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
