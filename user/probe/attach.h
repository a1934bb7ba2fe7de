/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaches the planned functions of a file and keeps the links. A file is known by (device, inode); asking twice attaches once.
 *
 * Scope. Where the kernel has sessions a file's probes are placed for every process that maps it: the program itself lets
 * calls of processes that are not observed go at once, without a return probe, and children are seen from their first call.
 * Elsewhere a return probe would also fire in processes that it might harm, so probes are placed process by process.
 */
#ifndef TIDEMARK_PROBE_ATTACH_H
#define TIDEMARK_PROBE_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/loader.h"
#include "probe/plan.h"

struct attacher;

struct attacher *attacher_new(const struct loader *l); /* borrowed, must outlive the attacher */
void attacher_free(struct attacher *a);		       /* detaches everything */

struct file_info {
	int functions; /* that are now probed for this process; 0: the file has none */
	bool fresh;    /* attached by this call */
	bool go;       /* holds Go code */
	bool foreign;  /* another class or machine (32-bit): can't be probed */
};

/*
 * Looks into one open file (borrowed) that process `pid` maps executable, and attaches what it defines. 0 or -errno (probes could not be
 * placed). with_return false: no return probes for this process (the gate).
 */
int attacher_take_file(struct attacher *a, int fd, uint32_t pid, bool with_return, struct file_info *ret);

/* Process-by-process scope only: the process is gone, its links go. */
void attacher_drop_pid(struct attacher *a, uint32_t pid);

bool attacher_is_wide(const struct attacher *a); /* probes hold for every process that maps the file */
bool attacher_knows_file(const struct attacher *a, uint64_t dev, uint64_t inode, uint32_t pid);

/* Name of a site as it stands in a stack: "malloc", "mmap". */
const char *site_name(uint16_t site);
uint16_t site_of(const struct family_func *f);

#endif
