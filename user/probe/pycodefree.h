/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where CPython frees code objects. A probe there tells that frames which look the same are the same: before 3.13 nothing in a process counts its code
 * objects, and each frame's would have to be read again at every call. Code objects are freed rarely; the probe is next to never hit.
 */
#ifndef TIDEMARK_PROBE_PYCODEFREE_H
#define TIDEMARK_PROBE_PYCODEFREE_H

#include <stdint.h>

#include "target/families.h"

struct mappings;

/* The row of what is attached there. */
extern const struct family_func pycodefree_func;

/*
 * Run-time address of what PyCode_Type's tp_dealloc points to (static, so without a symbol in stripped files; the type itself is exported by all
 * versions). 0; -ENOENT: no CPython; -EAGAIN: the type is not filled yet, ask again.
 */
int pycodefree_find(uint32_t pid, const struct mappings *maps, uint64_t *ret);

#endif
