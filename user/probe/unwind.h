/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the kernel side's unwind tables: pages, rows, rules, ranges. A file's rows are loaded once, by its build id (else device and inode), for
 * all processes that map it, and stay. Knows no process but as a list of ranges that somebody holds. What does not fit any more is left out:
 * its code has no rows then, and that is counted.
 */
#ifndef TIDEMARK_PROBE_UNWIND_H
#define TIDEMARK_PROBE_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../include/unwind.h" /* "unwind.h" is this file in here */

struct unwind_tables;

/* The tables as mapped (loader_unwind_area); blocks are made as they are needed. */
struct unwind_area {
	struct unwind_page *pages;   /* UNWIND_PAGES */
	struct unwind_rule *rules;   /* UNWIND_RULES */
	struct unwind_range *ranges; /* UNWIND_RANGES */
	/* Makes block number i (0, 1, 2...) and maps it, for writing. NULL: no memory. Unmapped by block_done, once nothing is written to it any more. */
	struct row_block *(*block_new)(void *ctx, uint32_t i);
	void (*block_done)(void *ctx, struct row_block *b);
	void *ctx;
};

/* Borrows what the area points to. */
struct unwind_tables *unwind_new(const struct unwind_area *area);
void unwind_free(struct unwind_tables *u);

/* What a file is known by. */
struct unwind_key {
	uint64_t dev, inode;   /* inode 0: the vdso */
	uint64_t bytes, mtime; /* of the file: told apart when an inode is used again */
};

/* A file's executable segments, enough to place a mapping. */
#define UNWIND_SEGMENTS_MAX 16
struct unwind_file {
	uint32_t page; /* as in struct unwind_range; RANGE_NO_ROWS */
	size_t n_segments;
	struct {
		uint64_t file_offset, vaddr, bytes;
	} segments[UNWIND_SEGMENTS_MAX];
	size_t n_rows;
};

/*
 * The file behind an open descriptor (borrowed); loaded at first sight. Never NULL; a file that is no ELF file or has no rows has RANGE_NO_ROWS. Owned by u,
 * valid for its life. With fd -1 only a file whose key is known is found, else NULL.
 */
const struct unwind_file *unwind_take_file(struct unwind_tables *u, int fd, const struct unwind_key *key);
/* The same for the vdso, from its image in our own memory (all processes of a kernel have the same). */
const struct unwind_file *unwind_take_vdso(struct unwind_tables *u);

/*
 * Puts ranges (ascending, n <= PROCESS_RANGES_MAX) into the table. Returns their layout_pack() word, equal for equal lists; 0: no room. Each
 * call takes a reference; unwind_drop_ranges gives it back; the place is used again only after unwind_settle was called twice since, so that a
 * program that read the word just before still finds them.
 */
uint64_t unwind_put_ranges(struct unwind_tables *u, const struct unwind_range *ranges, size_t n);
void unwind_hold_ranges(struct unwind_tables *u, uint64_t layout); /* one more reference */
void unwind_drop_ranges(struct unwind_tables *u, uint64_t layout);
void unwind_settle(struct unwind_tables *u); /* once per interval */

struct unwind_stats {
	size_t files, rows, rules, pages, blocks, ranges;
	size_t rows_refused; /* left out: tables full */
};
struct unwind_stats unwind_stats(const struct unwind_tables *u);

#endif
