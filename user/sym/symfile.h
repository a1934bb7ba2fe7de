/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One file that modules are mapped from, shared by all modules with its build id (else device and inode). Opened
 * when it is first heard of, because the way to it may be gone with the process; symbols are read at the first
 * question. Refuses a file that is not the one that was mapped.
 */
#ifndef TIDEMARK_SYM_SYMFILE_H
#define TIDEMARK_SYM_SYMFILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"
#include "sym/elfsym.h"
#include "sym/lines.h"

struct fetch;
struct pool;

/* Descriptors kept open by all files together; from any thread. */
struct fd_share {
	atomic_uint used;
	unsigned int cap;
};
/* At most 256 and a quarter of RLIMIT_NOFILE. */
void fd_share_init(struct fd_share *fds);
/* False: none left. */
bool fd_share_take(struct fd_share *fds);
void fd_share_give(struct fd_share *fds, unsigned int n);

struct symfile {
	/* Who it is: never changes, so that any thread may ask. */
	const char *path, *open_path; /* interned */
	const char *build_id;	      /* as announced; interned, "": none or not known */
	uint64_t dev, inode, version;
	bool was_reached; /* could be opened when it was heard of */
	/* All below belongs to the namer. */
	char id[BUILD_ID_HEX_CAP]; /* build id as read, "": none */
	struct fd_share *fds;	   /* borrowed */
	int fd;			   /* -1: not kept */
	unsigned int n_table_fds;  /* kept by syms */
	char *debug_path;	   /* separate debug file */
	bool is_loaded;
	bool awaits_debug; /* a server was asked for its debug file */
	enum { LINES_NONE, LINES_MAIN, LINES_DEBUG } lines_in;
	uint64_t lines_bytes;	   /* heap that a fresh handle takes */
	struct elfsym *syms;	   /* NULL: none */
	struct lines_index *index; /* NULL: not begun */
	struct lines *lines;	   /* NULL: closed */
	/* CLOCK_MONOTONIC: when lines were opened last, asked for last; and, once closed for want of questions, before which they are not worth opening */
	uint64_t lines_opened_ns, lines_used_ns, lines_again_ns;
	uint64_t lines_cost_ns; /* processor time that opening took */
};

struct symfile *symfile_new(struct pool *strings, struct fd_share *fds, const struct snap_module *m);
void symfile_free(struct symfile *f);
bool symfile_is(const struct symfile *f, const struct snap_module *m);

/*
 * Reads the symbol tables, once; once more when a debug file came from a server. `fetch` (NULL: not wished) asks for
 * one that is not on this machine.
 */
void symfile_load(struct symfile *f, struct fetch *fetch);
/* 0 or -ENOENT. */
int symfile_name(const struct symfile *f, uint64_t addr, char ret[SYM_NAME_CAP]);
/* 0 or negative errno; after an error other than -EAGAIN there are no lines. */
int symfile_open_lines(struct symfile *f, const atomic_bool *stop);
void symfile_close_lines(struct symfile *f);

#endif
