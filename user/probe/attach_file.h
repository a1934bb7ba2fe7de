/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One file that processes map, as the attacher sees it: what it is known by, where its functions are probed, and the links of one placing of
 * these probes. No processes here.
 */
#ifndef TIDEMARK_PROBE_ATTACH_FILE_H
#define TIDEMARK_PROBE_ATTACH_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/attach.h"
#include "probe/plan.h"

struct closer;
struct stat;

struct links {
	int *fds;
	size_t n, cap;
};

void links_close(struct closer *c, struct links *l);

/* What a file is known by. */
struct file_key {
	uint64_t dev, inode, version;
};

struct file_key file_key_of(const struct stat *st);
bool file_is_same_inode(const struct file_key *a, const struct file_key *b);
bool file_is_same(const struct file_key *a, const struct file_key *b);

/* A file that was looked into; its descriptor and plans are kept to attach it again in another scope. */
struct file {
	struct file_key key; /* inode 0: the place is free */
	int fd;		     /* -1: nothing to attach */
	struct plan *plans;
	size_t n_plans;
	uint64_t text_start, text_end;
	bool library;
	bool given; /* its functions were not found by name: there may be several such for one file */
	struct file_info info;
	struct links host;
	int watch; /* inotify; 0: none */
};

/*
 * Plans; keeps a descriptor of its own if there is something to attach. What makes a file useless (no ELF, other machine, broken) is information,
 * not an error. 0 or -errno; f is to be given to file_done in any case.
 */
int file_look_into(int fd, const struct plan_kernel *kernel, struct file *f);
/* Closes the descriptor and the links for the whole host. */
void file_done(struct closer *c, struct file *f);

struct file_place {
	const struct loader *loader;
	struct closer *closer;
	uint32_t pid; /* 0: every process */
	bool with_return;
};
/* Places all of its probes, unless `to` has them already. 0, or -errno and none is placed. */
int file_attach(const struct file *f, const struct file_place *at, struct links *to);

/* Of the functions whose calls are many: the share whose probes must be single-stepped; rather too high than too low. */
double file_stepped_share(const struct file *f);

#endif
