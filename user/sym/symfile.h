/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One file that modules are mapped from, shared by all modules with its build id (else device and inode). Opened
 * when it is first heard of, because the way to it may be gone with the process; symbols are read at the first
 * question. Refuses a file that is not the one that was mapped.
 */
#ifndef TIDEMARK_SYM_SYMFILE_H
#define TIDEMARK_SYM_SYMFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "sym/elfsym.h"
#include "sym/lines.h"

struct pool;

/* Descriptors kept open by all files together. */
struct fd_share {
	unsigned int used, cap;
};
/* At most 256 and a quarter of RLIMIT_NOFILE. */
void fd_share_init(struct fd_share *fds);

struct symfile {
	const char *path, *open_path; /* interned */
	const char *build_id;	      /* interned, "": none or not known */
	uint64_t dev, inode;
	struct fd_share *fds;	  /* borrowed */
	int fd;			  /* -1: not kept */
	unsigned int n_table_fds; /* kept by syms */
	char *debug_path;	  /* separate debug file */
	bool is_loaded;
	enum { LINES_NONE, LINES_MAIN, LINES_DEBUG } lines_in;
	uint64_t lines_bytes;	   /* heap that a fresh handle takes */
	struct elfsym *syms;	   /* NULL: none */
	struct lines_index *index; /* NULL: not begun */
	struct lines *lines;	   /* NULL: closed */
	uint64_t lines_used_ns;	   /* CLOCK_MONOTONIC */
};

struct symfile *symfile_new(struct pool *strings, struct fd_share *fds, const struct snap_module *m);
void symfile_free(struct symfile *f);
bool symfile_is(const struct symfile *f, const struct snap_module *m);
/* False: could not be reached so far; another module with the same contents may have a better way to it. */
bool symfile_is_open(const struct symfile *f);

/* Reads the symbol tables, once. */
void symfile_load(struct symfile *f, struct pool *strings);
/* 0 or -ENOENT. */
int symfile_name(const struct symfile *f, uint64_t addr, char ret[SYM_NAME_CAP]);
/* 0 or negative errno; after an error other than -EAGAIN there are no lines. */
int symfile_open_lines(struct symfile *f);
void symfile_close_lines(struct symfile *f);

#endif
