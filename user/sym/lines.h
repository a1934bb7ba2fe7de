/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines and inlined calls of one file with DWARF, by libdw. The file is mapped only while a handle is open; the
 * index of compilation units outlives the handle, so that handles can be dropped for memory and opened again
 * cheaply. Refuses what names other files by path: .dwo files, and .gnu_debugaltlink other than by build id (a
 * target's file must not make us open what it likes).
 */
#ifndef TIDEMARK_SYM_LINES_H
#define TIDEMARK_SYM_LINES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINES_FRAMES_MAX 64

struct elfimg;
struct lines_index;
struct lines;

struct line_frame {
	char *name;    /* not demangled; NULL: unknown; owned by the result */
	char *file;    /* NULL: unknown; owned by the result */
	uint32_t line; /* 0: unknown */
};

struct line_result {
	struct line_frame frames[LINES_FRAMES_MAX]; /* innermost first; the last one is the function itself */
	size_t n;
};
void line_result_done(struct line_result *r);

struct lines_index *lines_index_new(void);
void lines_index_free(struct lines_index *x);

/* Heap that a handle on this file takes at first: compressed sections lie there unpacked. */
uint64_t lines_packed_bytes(const struct elfimg *img);

struct lines_query {
	int fd;			   /* borrowed for the call */
	const char *open_path;	   /* of the module: tells whose root may hold what the file refers to */
	struct lines_index *index; /* borrowed, must outlive the handle */
	const atomic_bool *stop;   /* borrowed, must outlive the handle: once true, long steps end early */
};
/* 0, -ENOENT (no usable DWARF), -EFBIG (would take too much memory), -EIO. */
int lines_open(const struct lines_query *q, struct lines **ret);
void lines_free(struct lines *l);

/* May take long. 0, -ENOENT (nothing known of the address), -EAGAIN (stopped), -ESTALE (the file changed). */
int lines_find(struct lines *l, uint64_t addr, struct line_result *ret);
/* Heap that the handle takes, estimated. */
uint64_t lines_bytes(const struct lines *l);

#endif
