/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Through which functions a CPython process allocates: its domains raw, mem and obj, each a table of four function pointers that may be changed at run time
 * (PYTHONMALLOC, tracemalloc, extension modules). Found in stripped files as well. Reads the target's files and memory; both are hostile.
 */
#ifndef TIDEMARK_PROBE_PYALLOC_H
#define TIDEMARK_PROBE_PYALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "target/families.h"

struct mappings;

/* What the obj domain ends in, behind hooks. */
#define for_each_py_allocator(X) \
	X(UNKNOWN, "unknown") \
	X(PYMALLOC, "pymalloc") \
	X(MALLOC, "malloc") \
	X(DEBUG, "debug") \
	X(MIMALLOC, "mimalloc")

enum py_allocator {
#define X(id, name) PY_ALLOCATOR_##id,
	for_each_py_allocator(X)
#undef X
		PY_ALLOCATOR_NR
};

const char *py_allocator_name(enum py_allocator a);

/* PyMemAllocatorEx (Include/cpython/pymem.h or objimpl.h, unchanged since 3.5). */
struct py_table {
	uint64_t ctx, func[PY_OPERATION_NR];
};

struct py_alloc_func {
	uint64_t addr; /* run-time */
	const struct family_func *row;
};

struct py_alloc {
	uint64_t at[PY_DOMAIN_NR]; /* run-time addresses of the tables */
	struct py_table table[PY_DOMAIN_NR];
	uint64_t api[PY_DOMAIN_NR][PY_OPERATION_NR]; /* run-time addresses of PyMem_RawMalloc and its kin */
	/*
	 * The compiler foresaw, from a profile, which function a table holds: that function's code stands in PyMem_Malloc (and where that was inlined in its
	 * turn) behind a comparison, and is not called. What callers inlined no probe sees.
	 */
	bool is_promoted[PY_DOMAIN_NR][PY_OPERATION_NR];
	bool promoted; /* any of them */
	enum py_allocator kind;
	struct py_alloc_func funcs[PY_TABLE_FUNCS + PY_API_FUNCS]; /* each address once */
	size_t n_funcs;
};

/*
 * 0; -ENOENT: no CPython, or its tables can't be told from its code; -EAGAIN: the tables are not filled yet (a process that is being
 * started), ask again. Costs some 2 ms.
 */
int pyalloc_find(uint32_t pid, const struct mappings *maps, struct py_alloc *ret);

/* Looks again at tables that were found. 1: other functions stand in them now, and *a is up to date; 0: as before; -errno: unreadable. */
int pyalloc_refresh(uint32_t pid, const struct mappings *maps, struct py_alloc *a);

#endif
