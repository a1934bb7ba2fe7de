/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel side has to know of a process's code to take its stacks: the layout of its mappings (which unwind rows lie where) and its
 * Python runtime. Owns both kinds of entries in the kernel's tables: layouts per account (children hold their parent's), runtimes per image.
 */
#ifndef TIDEMARK_COLLECT_IMAGES_H
#define TIDEMARK_COLLECT_IMAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"
#include "collect/accounts.h"
#include "probe/loader.h"
#include "probe/pyinfo.h"

struct images;
struct mappings;

struct images *images_new(struct loader *l, struct accounts *a); /* borrowed, must outlive */
void images_free(struct images *im);

/* The mappings of a process are as given: its layout and runtime are found and told to the kernel side. */
void images_scan(struct images *im, uint32_t account, const struct proc_key *id, const struct mappings *maps);
/* A child was born with its parent's. */
void images_born(struct images *im, uint32_t account);
void images_ended(struct images *im, uint32_t account);
/* No process runs the image any more. */
void images_forget(struct images *im, uint32_t image);
/* Once per interval: asks again for what no look explained, gives back what nobody reads any more. */
void images_settle(struct images *im);

/* The runtime of an image; NULL: none, or not known (yet). */
const struct py_process *images_python(const struct images *im, uint32_t image);
/* Why the Python of an image is not walked (static text); NULL: it is, or there is none. */
const char *images_python_refused(const struct images *im, uint32_t image);

struct unwind_stats images_unwind_stats(const struct images *im);

#endif
