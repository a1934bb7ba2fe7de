/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads one code object out of a process's memory, for pynames.c only. Keeps nothing and believes nothing: every length is bounded before memory is
 * taken for it, every answer is given only if the object was there, alive and the same, after its last byte was read.
 */
#ifndef TIDEMARK_COLLECT_PYCODE_H
#define TIDEMARK_COLLECT_PYCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/pyinfo.h"

struct pynames;

struct py_piece {
	uint64_t at;
	size_t bytes;
	void *to;
};

#define PY_PIECES_MAX 128 /* of one read */

/* Where memory comes from: processes, or a test. */
struct py_memory {
	/* Reads n <= PY_PIECES_MAX pieces in their order; stops at one that can't be read whole. Returns how many were. Empty ones always can. */
	size_t (*read)(void *ctx, uint32_t pid, const struct py_piece *p, size_t n);
	void *ctx;
};

extern const struct py_memory py_memory_of_processes;

/* pynames_new() with another memory, which must outlive it. */
struct pynames *pynames_new_on(const struct py_memory *memory);

#define PY_HEAD_BYTES 256 /* of a code object: all that is used of it lies in there */
#define PY_NAME_BYTES 512
#define PY_FILE_BYTES 4096
#define PY_TABLE_BYTES (4u << 20)

struct py_source {
	const struct py_memory *memory; /* borrowed, as the layout */
	const struct py_names *layout;
	uint32_t pid;
	uint16_t code_id_offset;
	uint16_t head_bytes; /* how much of a code object is read; 0: the layout makes no sense */
};

/* Completes a source: head_bytes. */
void pycode_measure(struct py_source *s);

struct py_head {
	unsigned char bytes[PY_HEAD_BYTES];
	__u64 table[4]; /* of the line table, from PYTHON_TABLE_HEAD on */
};

/* Heads of n <= PY_PIECES_MAX code objects; ret_read says of each whether it was read. */
void pycode_read_heads(const struct py_source *s, const uint64_t *addrs, size_t n, struct py_head *ret, bool *ret_read);
/* Is it a living object with that id? */
bool pycode_is_head_of(const struct py_source *s, const struct py_head *head, uint32_t id);

enum py_table {
	PY_TABLE_NONE,	/* not a bytes object, or over PY_TABLE_BYTES: there will never be one */
	PY_TABLE_LATER, /* over the caller's limit */
	PY_TABLE_READ,
};

struct py_text {
	/* UTF-8, cut at a character; control characters are '?', lone surrogates U+FFFD */
	char name[PY_NAME_BYTES + 1], file[PY_FILE_BYTES + 1];
	bool has_name, has_file; /* false: it is no string */
	uint32_t first_line;
	enum py_table table_state;
	uint8_t *table; /* the caller frees; NULL if empty */
	size_t table_bytes;
};

/*
 * What the object says whose head was just read. wants_names false: the line table only. 0; -ESTALE: it went away meanwhile, or what it points to can't
 * be read; nothing is written then.
 */
int pycode_read(const struct py_source *s, uint64_t addr, uint32_t id, const struct py_head *head, bool wants_names,
		size_t table_max, struct py_text *ret);

#endif
