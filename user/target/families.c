/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The families table and its lookup. Knows names and C signatures only: where a function lies, whether it can be
 * probed and which of them are attached is decided elsewhere.
 *
 * Order matters: of several names at one address the first row gives site and shape. So the C names stand before
 * the prefixed names that allocators give the same code (gperftools: malloc = tc_malloc, operator new = tc_new),
 * and aligned_alloc before memalign (one address in glibc 2.36).
 *
 * Not expressible with a call shape, hence absent: jemalloc's xallocx (resizes in place, returns a size; the block
 * keeps the size first seen), mimalloc's mi_heap_* (a heap handle before the arguments). mi_reallocf is here: only
 * when it fails does it differ from realloc.
 */
#include "target/families.h"

#include <string.h>

#define ROW(family_, symbol_, site_, shape_) \
	{ \
		.family = family_, .symbol = symbol_, .site = site_, .shape = SHAPE_##shape_, .layer = LAYER_HEAP \
	}
#define C_ROW(symbol_, shape_) ROW("malloc", symbol_, symbol_, shape_)
#define CXX_ROW(symbol_, site_, shape_) ROW("c++", symbol_, "operator " site_, shape_)
#define JE_ROW(symbol_, shape_) ROW("jemalloc", symbol_, symbol_, shape_)
#define TC_ROW(symbol_, shape_) ROW("tcmalloc", "tc_" symbol_, "tc_" symbol_, shape_)
#define MI_ROW(symbol_, shape_) ROW("mimalloc", "mi_" symbol_, "mi_" symbol_, shape_)

const struct family_func family_funcs[] = {
	C_ROW("malloc", SIZE_TO_PTR),
	C_ROW("calloc", N_SIZE_TO_PTR),
	C_ROW("realloc", PTR_SIZE_TO_PTR),
	C_ROW("reallocarray", PTR_N_SIZE_TO_PTR),
	C_ROW("posix_memalign", OUT_ALIGN_SIZE_TO_INT),
	C_ROW("aligned_alloc", ALIGN_SIZE_TO_PTR),
	C_ROW("memalign", ALIGN_SIZE_TO_PTR),
	C_ROW("valloc", SIZE_TO_PTR),
	C_ROW("pvalloc", SIZE_TO_PTR),
	C_ROW("free", PTR_TO_VOID),
	C_ROW("free_sized", PTR_SIZE_TO_VOID),
	/* (pointer, alignment, size): what stands behind the pointer is not read. */
	C_ROW("free_aligned_sized", PTR_SIZE_TO_VOID),
	C_ROW("cfree", PTR_TO_VOID),

	/* The size comes first, also where an alignment follows. */
	CXX_ROW("_Znwm", "new(unsigned long)", SIZE_TO_PTR),
	CXX_ROW("_Znam", "new[](unsigned long)", SIZE_TO_PTR),
	CXX_ROW("_ZnwmRKSt9nothrow_t", "new(unsigned long, std::nothrow_t const&)", SIZE_TO_PTR),
	CXX_ROW("_ZnamRKSt9nothrow_t", "new[](unsigned long, std::nothrow_t const&)", SIZE_TO_PTR),
	CXX_ROW("_ZnwmSt11align_val_t", "new(unsigned long, std::align_val_t)", SIZE_TO_PTR),
	CXX_ROW("_ZnamSt11align_val_t", "new[](unsigned long, std::align_val_t)", SIZE_TO_PTR),
	CXX_ROW("_ZnwmSt11align_val_tRKSt9nothrow_t", "new(unsigned long, std::align_val_t, std::nothrow_t const&)",
		SIZE_TO_PTR),
	CXX_ROW("_ZnamSt11align_val_tRKSt9nothrow_t", "new[](unsigned long, std::align_val_t, std::nothrow_t const&)",
		SIZE_TO_PTR),
	CXX_ROW("_ZdlPv", "delete(void*)", PTR_TO_VOID),
	CXX_ROW("_ZdaPv", "delete[](void*)", PTR_TO_VOID),
	CXX_ROW("_ZdlPvm", "delete(void*, unsigned long)", PTR_TO_VOID),
	CXX_ROW("_ZdaPvm", "delete[](void*, unsigned long)", PTR_TO_VOID),
	CXX_ROW("_ZdlPvRKSt9nothrow_t", "delete(void*, std::nothrow_t const&)", PTR_TO_VOID),
	CXX_ROW("_ZdaPvRKSt9nothrow_t", "delete[](void*, std::nothrow_t const&)", PTR_TO_VOID),
	CXX_ROW("_ZdlPvSt11align_val_t", "delete(void*, std::align_val_t)", PTR_TO_VOID),
	CXX_ROW("_ZdaPvSt11align_val_t", "delete[](void*, std::align_val_t)", PTR_TO_VOID),
	CXX_ROW("_ZdlPvmSt11align_val_t", "delete(void*, unsigned long, std::align_val_t)", PTR_TO_VOID),
	CXX_ROW("_ZdaPvmSt11align_val_t", "delete[](void*, unsigned long, std::align_val_t)", PTR_TO_VOID),
	CXX_ROW("_ZdlPvSt11align_val_tRKSt9nothrow_t", "delete(void*, std::align_val_t, std::nothrow_t const&)",
		PTR_TO_VOID),
	CXX_ROW("_ZdaPvSt11align_val_tRKSt9nothrow_t", "delete[](void*, std::align_val_t, std::nothrow_t const&)",
		PTR_TO_VOID),

	/* jemalloc 5: the names with and without the prefix that it is built with inside another program. */
	JE_ROW("je_malloc", SIZE_TO_PTR),
	JE_ROW("je_calloc", N_SIZE_TO_PTR),
	JE_ROW("je_realloc", PTR_SIZE_TO_PTR),
	JE_ROW("je_posix_memalign", OUT_ALIGN_SIZE_TO_INT),
	JE_ROW("je_aligned_alloc", ALIGN_SIZE_TO_PTR),
	JE_ROW("je_memalign", ALIGN_SIZE_TO_PTR),
	JE_ROW("je_valloc", SIZE_TO_PTR),
	JE_ROW("je_pvalloc", SIZE_TO_PTR),
	JE_ROW("je_free", PTR_TO_VOID),
	JE_ROW("je_free_sized", PTR_SIZE_TO_VOID),
	JE_ROW("je_free_aligned_sized", PTR_SIZE_TO_VOID),
	JE_ROW("mallocx", SIZE_TO_PTR),
	JE_ROW("rallocx", PTR_SIZE_TO_PTR),
	JE_ROW("dallocx", PTR_TO_VOID),
	JE_ROW("sdallocx", PTR_SIZE_TO_VOID),
	JE_ROW("je_mallocx", SIZE_TO_PTR),
	JE_ROW("je_rallocx", PTR_SIZE_TO_PTR),
	JE_ROW("je_dallocx", PTR_TO_VOID),
	JE_ROW("je_sdallocx", PTR_SIZE_TO_VOID),

	/* gperftools 2.10, src/gperftools/tcmalloc.h. */
	TC_ROW("malloc", SIZE_TO_PTR),
	TC_ROW("malloc_skip_new_handler", SIZE_TO_PTR),
	TC_ROW("calloc", N_SIZE_TO_PTR),
	TC_ROW("realloc", PTR_SIZE_TO_PTR),
	TC_ROW("posix_memalign", OUT_ALIGN_SIZE_TO_INT),
	TC_ROW("memalign", ALIGN_SIZE_TO_PTR),
	TC_ROW("valloc", SIZE_TO_PTR),
	TC_ROW("pvalloc", SIZE_TO_PTR),
	TC_ROW("free", PTR_TO_VOID),
	TC_ROW("free_sized", PTR_SIZE_TO_VOID),
	TC_ROW("cfree", PTR_TO_VOID),
	TC_ROW("new", SIZE_TO_PTR),
	TC_ROW("newarray", SIZE_TO_PTR),
	TC_ROW("new_nothrow", SIZE_TO_PTR),
	TC_ROW("newarray_nothrow", SIZE_TO_PTR),
	TC_ROW("new_aligned", SIZE_TO_PTR),
	TC_ROW("newarray_aligned", SIZE_TO_PTR),
	TC_ROW("new_aligned_nothrow", SIZE_TO_PTR),
	TC_ROW("newarray_aligned_nothrow", SIZE_TO_PTR),
	TC_ROW("delete", PTR_TO_VOID),
	TC_ROW("deletearray", PTR_TO_VOID),
	TC_ROW("delete_sized", PTR_SIZE_TO_VOID),
	TC_ROW("deletearray_sized", PTR_SIZE_TO_VOID),
	TC_ROW("delete_nothrow", PTR_TO_VOID),
	TC_ROW("deletearray_nothrow", PTR_TO_VOID),
	TC_ROW("delete_aligned", PTR_TO_VOID),
	TC_ROW("deletearray_aligned", PTR_TO_VOID),
	TC_ROW("delete_sized_aligned", PTR_SIZE_TO_VOID),
	TC_ROW("deletearray_sized_aligned", PTR_SIZE_TO_VOID),
	TC_ROW("delete_aligned_nothrow", PTR_TO_VOID),
	TC_ROW("deletearray_aligned_nothrow", PTR_TO_VOID),

	/*
	 * mimalloc 2, include/mimalloc.h: *_aligned takes the size before the alignment, memalign and aligned_alloc
	 * after it.
	 */
	MI_ROW("malloc", SIZE_TO_PTR),
	MI_ROW("malloc_small", SIZE_TO_PTR),
	MI_ROW("zalloc", SIZE_TO_PTR),
	MI_ROW("zalloc_small", SIZE_TO_PTR),
	MI_ROW("calloc", N_SIZE_TO_PTR),
	MI_ROW("mallocn", N_SIZE_TO_PTR),
	MI_ROW("realloc", PTR_SIZE_TO_PTR),
	MI_ROW("reallocf", PTR_SIZE_TO_PTR),
	MI_ROW("rezalloc", PTR_SIZE_TO_PTR),
	MI_ROW("reallocn", PTR_N_SIZE_TO_PTR),
	MI_ROW("recalloc", PTR_N_SIZE_TO_PTR),
	MI_ROW("reallocarray", PTR_N_SIZE_TO_PTR),
	MI_ROW("posix_memalign", OUT_ALIGN_SIZE_TO_INT),
	MI_ROW("aligned_alloc", ALIGN_SIZE_TO_PTR),
	MI_ROW("memalign", ALIGN_SIZE_TO_PTR),
	MI_ROW("valloc", SIZE_TO_PTR),
	MI_ROW("pvalloc", SIZE_TO_PTR),
	MI_ROW("malloc_aligned", SIZE_TO_PTR),
	MI_ROW("zalloc_aligned", SIZE_TO_PTR),
	MI_ROW("calloc_aligned", N_SIZE_TO_PTR),
	MI_ROW("realloc_aligned", PTR_SIZE_TO_PTR),
	MI_ROW("free", PTR_TO_VOID),
	MI_ROW("cfree", PTR_TO_VOID),
	MI_ROW("free_size", PTR_SIZE_TO_VOID),
	MI_ROW("free_aligned", PTR_SIZE_TO_VOID),
	MI_ROW("free_size_aligned", PTR_SIZE_TO_VOID),
	MI_ROW("new", SIZE_TO_PTR),
	MI_ROW("new_nothrow", SIZE_TO_PTR),
	MI_ROW("new_aligned", SIZE_TO_PTR),
	MI_ROW("new_aligned_nothrow", SIZE_TO_PTR),
	MI_ROW("new_n", N_SIZE_TO_PTR),
	MI_ROW("new_realloc", PTR_SIZE_TO_PTR),
	MI_ROW("new_reallocn", PTR_N_SIZE_TO_PTR),
};
const size_t family_funcs_n = sizeof(family_funcs) / sizeof(family_funcs[0]);

#define PY_ROW(symbol_, site_, shape_) \
	{ \
		.family = "python", .symbol = symbol_, .site = site_, .shape = SHAPE_##shape_, .layer = LAYER_PYTHON \
	}
#define PY_CTX_ROWS(m, c, r, f) \
	PY_ROW("", m, CTX_SIZE_TO_PTR), PY_ROW("", c, CTX_N_SIZE_TO_PTR), PY_ROW("", r, CTX_PTR_SIZE_TO_PTR), \
		PY_ROW("", f, CTX_PTR_TO_VOID)
#define PY_TABLE_ROWS1(a) PY_CTX_ROWS(a "Malloc", a "Calloc", a "Realloc", a "Free")
#define PY_TABLE_ROWS2(a, b) \
	PY_CTX_ROWS(a "Malloc or " b "Malloc", a "Calloc or " b "Calloc", a "Realloc or " b "Realloc", \
		    a "Free or " b "Free")
#define PY_TABLE_ROWS3(a, b, c) \
	PY_CTX_ROWS(a "Malloc, " b "Malloc or " c "Malloc", a "Calloc, " b "Calloc or " c "Calloc", \
		    a "Realloc, " b "Realloc or " c "Realloc", a "Free, " b "Free or " c "Free")
#define PY_API_ROW(name, shape_) PY_ROW(name, name, shape_)
#define PY_API_ROWS(a) \
	PY_API_ROW(a "Malloc", SIZE_TO_PTR), PY_API_ROW(a "Calloc", N_SIZE_TO_PTR), \
		PY_API_ROW(a "Realloc", PTR_SIZE_TO_PTR), PY_API_ROW(a "Free", PTR_TO_VOID)

/* By sets of domains, 1 to 7, then by domain. */
const struct family_func python_funcs[PY_TABLE_FUNCS + PY_API_FUNCS] = {
	PY_TABLE_ROWS1("PyMem_Raw"),
	PY_TABLE_ROWS1("PyMem_"),
	PY_TABLE_ROWS2("PyMem_", "PyMem_Raw"),
	PY_TABLE_ROWS1("PyObject_"),
	PY_TABLE_ROWS2("PyObject_", "PyMem_Raw"),
	PY_TABLE_ROWS2("PyObject_", "PyMem_"),
	PY_TABLE_ROWS3("PyObject_", "PyMem_", "PyMem_Raw"),
	PY_API_ROWS("PyMem_Raw"),
	PY_API_ROWS("PyMem_"),
	PY_API_ROWS("PyObject_"),
};

const struct family_func *python_table_func(unsigned int domains, enum py_operation op)
{
	return &python_funcs[(domains - 1) * PY_OPERATION_NR + op];
}

const struct family_func *python_api_func(enum py_domain domain, enum py_operation op)
{
	return &python_funcs[PY_TABLE_FUNCS + domain * PY_OPERATION_NR + op];
}

const struct family_func *family_find(const char *symbol)
{
	for (const struct family_func *f = family_funcs; f < family_funcs + family_funcs_n; f++)
		if (f->symbol[0] == symbol[0] && !strcmp(f->symbol, symbol))
			return f;
	return NULL;
}

bool family_wants(const char *symbol, void *unused)
{
	(void)unused;
	return family_find(symbol) != NULL;
}
