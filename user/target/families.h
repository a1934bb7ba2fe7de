/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The families table: which functions of which libraries allocate, and with what call shape. A new allocator is a row.
 */
#ifndef TIDEMARK_TARGET_FAMILIES_H
#define TIDEMARK_TARGET_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>

#include "layers.h"
#include "shapes.h"

struct family_func {
	const char *family; /* "malloc", "c++" */
	const char *symbol; /* as in the symbol table, e.g. "_Znwm" */
	const char *site;   /* as shown: "malloc", "operator new(unsigned long)" */
	enum shape shape;
	enum layer layer;
};

extern const struct family_func family_funcs[];
extern const size_t family_funcs_n;

/*
 * CPython's allocation functions. Those of the first table stand in the process's tables of allocators (PyMemAllocatorEx): they have no symbols of their own in
 * stripped files, and one may serve several domains; where it does, the site names all of them, for which of them was called can't be told. Those of the
 * second are the functions of the interface that call them.
 */
enum py_domain { PY_RAW, PY_MEM, PY_OBJ, PY_DOMAIN_NR };
enum py_operation { PY_MALLOC, PY_CALLOC, PY_REALLOC, PY_FREE, PY_OPERATION_NR };

#define PY_API_FUNCS (PY_DOMAIN_NR * PY_OPERATION_NR)
#define PY_TABLE_FUNCS (((1 << PY_DOMAIN_NR) - 1) * PY_OPERATION_NR)

extern const struct family_func python_funcs[PY_TABLE_FUNCS + PY_API_FUNCS];

/* domains: a set of 1 << enum py_domain, not empty. */
const struct family_func *python_table_func(unsigned int domains, enum py_operation op);
const struct family_func *python_api_func(enum py_domain domain, enum py_operation op);

bool family_wants(const char *symbol, void *unused); /* fits elf_open's filter */
const struct family_func *family_find(const char *symbol);

#endif
