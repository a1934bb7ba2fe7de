/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of generated code as the process itself writes them down: /tmp/perf-PID.map of its own mount and pid
 * namespaces. The file is read as it grows. Refuses links, files of other users, files older than the process, and
 * what goes beyond 64 MiB or a million functions.
 */
#ifndef TIDEMARK_SYM_PERFMAP_H
#define TIDEMARK_SYM_PERFMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PERFMAP_NAME_CAP 4096 /* longest name; longer ones are cut */

struct perfmap;

/*
 * Is this how such a module is called? `path` is the name inside of the target ("/tmp/perf-7.map"), `open_path` the way
 * there through its root ("/proc/4711/root/tmp/perf-7.map").
 */
bool perfmap_is(const char *path, const char *open_path);
/* Takes hold of the target's root while it is there; the file need not exist yet. NULL: no way to it. */
struct perfmap *perfmap_open(const char *open_path);
/* Of an open file, whoever it belongs to (for tests). The descriptor goes over. */
struct perfmap *perfmap_of_fd(int fd);
void perfmap_free(struct perfmap *m);

/* Name of the code at a run-time address; looks into the file again for one that is not known. 0 or -ENOENT. */
int perfmap_find(struct perfmap *m, uint64_t addr, char ret[PERFMAP_NAME_CAP]);
/* Reads what was added, however short ago the last look was. */
void perfmap_read(struct perfmap *m);
size_t perfmap_n(const struct perfmap *m);
/* Calls back in ascending order; the ranges do not overlap. */
void perfmap_each(const struct perfmap *m, void (*fn)(uint64_t start, uint64_t end, void *arg), void *arg);

#endif
