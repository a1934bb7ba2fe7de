/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which CPython a process runs, read from the files that it maps; its memory is not touched. */
#ifndef TIDEMARK_TARGET_PYTHON_H
#define TIDEMARK_TARGET_PYTHON_H

#include <stdbool.h>
#include <stdint.h>

struct dynsym;
struct mappings;

#define PYTHON_VERSION_MAX 24

/*
 * "3.11.2", "3.13.0rc2"; "3.10" when only the name of a file that is a CPython tells. -ENOENT: not a Python process, or
 * the version is not known (also when the files disagree). A 64-bit x86 process only.
 */
int python_version(uint32_t pid, const struct mappings *maps, char ret[PYTHON_VERSION_MAX]);

/* The same of one file, if it is a CPython; path: as mapped. -ENOENT: it is none, or does not say which. */
int python_file_version(const struct dynsym *f, const char *path, char ret[PYTHON_VERSION_MAX]);

/* Is the file called as an interpreter or its library is: "python3.11", "libpython3.6m.so.1.0"? */
bool python_is_named(const char *path);

#endif
