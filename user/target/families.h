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

bool family_wants(const char *symbol, void *unused); /* fits elf_open's filter */
const struct family_func *family_find(const char *symbol);

#endif
