/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaches the planned functions of files and keeps the links. A file is known by (device, inode) and, as inodes are used again and files
 * rewritten in place, by its size and when it was written; asking twice attaches once.
 *
 * Scope. Links for the whole host count a child from its first call, and let calls of processes that are not observed go at once; but these
 * pay for the breakpoint all the same. Links for one process each cost nobody else anything, but a child gets its own only after it was born.
 * Where the kernel has sessions both are possible and attacher_set_scope changes over without a call lost or counted twice. Elsewhere a return
 * probe would also fire in processes that it might harm, so links are always for one process.
 */
#ifndef TIDEMARK_PROBE_ATTACH_H
#define TIDEMARK_PROBE_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/loader.h"
#include "probe/plan.h"

struct attacher;

struct attacher *attacher_new(struct loader *l); /* borrowed, must outlive the attacher */
void attacher_free(struct attacher *a);		 /* detaches everything */

struct file_info {
	int functions; /* that are now probed for this process; 0: the file has none */
	bool fresh;    /* attached by this call */
	bool go;       /* holds Go code */
	bool foreign;  /* another class or machine (32-bit): can't be probed */
};

/*
 * Looks into one open file (borrowed) that process `pid` maps executable, and attaches what it defines. 0 or -errno (probes could not be
 * placed). with_return false: no return probes for this process (the gate). pid 0: a file that is probed ahead of any process.
 */
int attacher_take_file(struct attacher *a, int fd, uint32_t pid, bool with_return, struct file_info *ret);

/* A function that no symbol leads to, or that counts only in some processes. */
struct given_func {
	const struct family_func *row;
	uint64_t file_offset;
};

/*
 * As attacher_take_file, for functions that the caller found in this file, of which this process runs those given. For others they are ready,
 * and count where the process's flags say that the layer is observed.
 */
int attacher_take_funcs(struct attacher *a, int fd, uint32_t pid, bool with_return, const struct given_func *funcs,
			size_t n, struct file_info *ret);

/*
 * Takes the links of one process away for a while, and puts them back; only where links are for one process each. What it maps meanwhile is
 * attached with the rest. 0, or -errno of the first link that could not be made (then it is paused).
 */
void attacher_pause(struct attacher *a, uint32_t pid);
int attacher_resume(struct attacher *a, uint32_t pid);
/* Is a probe in place now that tells when a code object of this process's Python is freed (probe/pycodefree.h)? */
bool attacher_tells_codes(const struct attacher *a, uint32_t pid);

/* The share of the functions that allocate and free most whose probes must be single-stepped, as far as this process maps them. */
double attacher_stepped_share(const struct attacher *a, uint32_t pid);
/* From now on links are for one process each, whatever it would choose; before the first file. */
void attacher_force_process(struct attacher *a);

/*
 * A child maps what its parent maps: links for the whole host hold for it already, and are made its own if the scope changes. Only while they are
 * for the whole host.
 */
void attacher_inherit(struct attacher *a, uint32_t parent, uint32_t child);
/* The process is gone, its links go. */
void attacher_drop_pid(struct attacher *a, uint32_t pid);

/*
 * A descriptor that polls readable when a file with probes was written to: another program's code comes to lie under them, which would run into a
 * breakpoint in the midst of an instruction. attacher_drop_written takes them away at once, and tells whether there were any: who maps such a file
 * is to be looked into again, when it is written. -1: not to be had. (Package managers put a new file in the place of the old one. What starts in
 * the few milliseconds before the probes are gone is not safe.)
 */
int attacher_written_fd(const struct attacher *a);
bool attacher_drop_written(struct attacher *a);

/* Lets go of files that were deleted and that no process that is observed maps any more; costs a system call for each that is not mapped. */
void attacher_tidy(struct attacher *a);

enum probe_scope attacher_scope(const struct attacher *a);
bool attacher_can_change(const struct attacher *a);
/*
 * 0; -errno: a link could not be made, and the scope is as it was. Links of the scope before stay until attacher_settle, a second or so
 * later: calls that were under way return through them. -EBUSY: links are still being closed; one of the same scope would count a hit twice.
 */
int attacher_set_scope(struct attacher *a, enum probe_scope scope);
void attacher_settle(struct attacher *a);

/* Name of a site as it stands in a stack: "malloc", "mmap". */
const char *site_name(uint16_t site);
uint16_t site_of(const struct family_func *f);

#endif
