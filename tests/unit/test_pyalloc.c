/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of CPython's allocators. Known truth: what PyMem_GetAllocator says in interpreters of this machine, under each PYTHONMALLOC; TIDEMARK_PYTHONS (paths,
 * ":" between) adds interpreters. And what no interpreter does: a process without one, tables that nothing stands in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interpreters_fixture.h"
#include "probe/pyalloc.h"
#include "target/proc.h"
#include "util/mem.h"

/* After the version: per line that it is told, the three tables as numbers; "trace" starts tracemalloc before. "no" without ctypes. */
static const char script[] = "import sys\n"
			     "print(sys.version_info[1])\n"
			     "try:\n"
			     "    import ctypes\n"
			     "    print('yes')\n"
			     "except ImportError:\n"
			     "    print('no')\n"
			     "for line in sys.stdin:\n"
			     "    if line == 'trace\\n':\n"
			     "        import tracemalloc\n"
			     "        tracemalloc.start()\n"
			     "    said = []\n"
			     "    for domain in range(3):\n"
			     "        table = (ctypes.c_uint64 * 5)()\n"
			     "        ctypes.pythonapi.PyMem_GetAllocator(domain, table)\n"
			     "        said += list(table)\n"
			     "    print(*said)\n";

static void check_tables(struct interpreter *p, const struct py_alloc *a)
{
	char *at = interpreter_line(p);

	assert_non_null(at);
	for (int i = 0; i < PY_DOMAIN_NR; i++) {
		assert_int_equal(a->table[i].ctx, strtoull(at, &at, 10));
		for (int k = 0; k < PY_OPERATION_NR; k++)
			assert_int_equal(a->table[i].func[k], strtoull(at, &at, 10));
	}
}

/* Every function of every table is among those to be probed, once, with a row of its domains and its operation. */
static void check_funcs(const struct py_alloc *a)
{
	for (int i = 0; i < PY_DOMAIN_NR; i++)
		for (int k = 0; k < PY_OPERATION_NR; k++) {
			size_t found = 0;
			for (size_t j = 0; j < a->n_funcs; j++) {
				const struct py_alloc_func *f = &a->funcs[j];
				found += f->addr == a->table[i].func[k];
				if (f->addr == a->table[i].func[k])
					assert_int_equal(f->row->shape,
							 python_table_func(1, (enum py_operation)k)->shape);
			}
			assert_int_equal(found, 1);
		}
	assert_in_range(a->n_funcs, PY_OPERATION_NR, PY_DOMAIN_NR * PY_OPERATION_NR * 2);
}

static void find(const struct interpreter *p, struct py_alloc *ret)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	assert_int_equal(mappings_read((uint32_t)p->pid, &maps), 0);
	assert_int_equal(pyalloc_find((uint32_t)p->pid, &maps, ret), 0);
}

static int refresh(const struct interpreter *p, struct py_alloc *a)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	assert_int_equal(mappings_read((uint32_t)p->pid, &maps), 0);
	return pyalloc_refresh((uint32_t)p->pid, &maps, a);
}

/* false: without ctypes. */
static bool start(const char *path, const char *allocator, struct interpreter *ret)
{
	if (allocator)
		assert_int_equal(setenv("PYTHONMALLOC", allocator, 1), 0);
	interpreter_start(path, script, ret);
	assert_int_equal(unsetenv("PYTHONMALLOC"), 0);
	const char *has_ctypes = interpreter_line(ret);
	if (has_ctypes && !strcmp(has_ctypes, "yes"))
		return true;
	interpreter_stop(ret);
	return false;
}

static void each_interpreter(const char *allocator, void (*check)(struct interpreter *p, const struct py_alloc *a))
{
	static struct interpreters is;
	size_t checked = 0;

	interpreters_find(&is);
	for (size_t i = 0; i < is.n; i++) {
		struct interpreter p;
		struct py_alloc a;
		if (!start(is.path[i], allocator, &p))
			continue;
		find(&p, &a);
		interpreter_tell(&p, "say");
		check_tables(&p, &a);
		check_funcs(&a);
		check(&p, &a);
		interpreter_stop(&p);
		checked++;
	}
	if (!checked)
		skip();
}

static void is_pymalloc(struct interpreter *p, const struct py_alloc *a)
{
	struct py_alloc now = *a;

	assert_int_equal(a->kind, PY_ALLOCATOR_PYMALLOC);
	assert_int_equal(refresh(p, &now), 0);
	assert_memory_equal(now.table, a->table, sizeof(now.table));
	assert_string_equal(a->funcs[a->n_funcs - 1].row->family, "python");
}

static void test_pymalloc(void **state)
{
	(void)state;
	each_interpreter(NULL, is_pymalloc);
}

static void is_malloc(struct interpreter *p, const struct py_alloc *a)
{
	(void)p;
	assert_int_equal(a->kind, PY_ALLOCATOR_MALLOC);
	for (size_t i = 0; i < a->n_funcs; i++)
		if (a->funcs[i].addr == a->table[PY_OBJ].func[PY_MALLOC])
			assert_string_equal(a->funcs[i].row->site, "PyObject_Malloc, PyMem_Malloc or PyMem_RawMalloc");
}

static void test_plain_malloc(void **state)
{
	(void)state;
	each_interpreter("malloc", is_malloc);
}

static void is_debug(struct interpreter *p, const struct py_alloc *a)
{
	(void)p;
	assert_int_equal(a->kind, PY_ALLOCATOR_DEBUG);
	assert_true(a->table[PY_OBJ].ctx && a->table[PY_RAW].ctx);
}

static void test_debug(void **state)
{
	(void)state;
	each_interpreter("debug", is_debug);
	each_interpreter("malloc_debug", is_debug);
}

/* What they hold changes under way: hooks of tracemalloc before pymalloc. */
static void is_hooked(struct interpreter *p, const struct py_alloc *a)
{
	struct py_alloc now = *a;

	interpreter_tell(p, "trace");
	char *said = interpreter_line(p);
	assert_non_null(said);
	assert_int_equal(refresh(p, &now), 1);
	assert_int_equal(now.kind, PY_ALLOCATOR_PYMALLOC);
	assert_int_not_equal(now.table[PY_OBJ].func[PY_MALLOC], a->table[PY_OBJ].func[PY_MALLOC]);
	assert_int_equal(refresh(p, &now), 0);
	interpreter_tell(p, "say");
	check_tables(p, &now);
	check_funcs(&now);
}

static void test_hooks(void **state)
{
	(void)state;
	each_interpreter(NULL, is_hooked);
}

static void test_no_interpreter(void **state)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	struct py_alloc a;

	(void)state;
	assert_int_equal(mappings_read((uint32_t)getpid(), &maps), 0);
	assert_int_equal(pyalloc_find((uint32_t)getpid(), &maps, &a), -ENOENT);
}

/* The process is gone, or something else stands where the tables were. */
static void test_nothing_in_them(void **state)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	static const uint64_t zeros[5];
	struct py_alloc a = { .at = { (uintptr_t)zeros, (uintptr_t)zeros, (uintptr_t)zeros },
			      .kind = PY_ALLOCATOR_PYMALLOC };

	(void)state;
	assert_int_equal(mappings_read((uint32_t)getpid(), &maps), 0);
	assert_int_equal(pyalloc_refresh((uint32_t)getpid(), &maps, &a), -EAGAIN);
	assert_int_equal(a.kind, PY_ALLOCATOR_PYMALLOC);
	a.at[PY_RAW] = 8;
	assert_int_equal(pyalloc_refresh((uint32_t)getpid(), &maps, &a), -EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pymalloc),       cmocka_unit_test(test_plain_malloc),
		cmocka_unit_test(test_debug),	       cmocka_unit_test(test_hooks),
		cmocka_unit_test(test_no_interpreter), cmocka_unit_test(test_nothing_in_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
