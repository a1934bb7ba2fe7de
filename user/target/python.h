/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which CPython a process runs, read from the files that it maps; its memory is not touched. */
#ifndef TIDEMARK_TARGET_PYTHON_H
#define TIDEMARK_TARGET_PYTHON_H

#include <stdint.h>

struct mappings;

#define PYTHON_VERSION_MAX 24

/*
 * "3.11.2", "3.13.0rc2"; "3.10" when only the name of a file that is a CPython tells. -ENOENT: not a Python process, or
 * the version is not known (also when the files disagree). A 64-bit x86 process only.
 */
int python_version(uint32_t pid, const struct mappings *maps, char ret[PYTHON_VERSION_MAX]);

#endif
