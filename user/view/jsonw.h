/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streaming writer of JSON lines. Keeps every output valid: strings are escaped and repaired to UTF-8, numbers that JSON does not
 * have are null, commas are its own affair. Builds no tree: json-c needs 20 ms for 1,000 stacks of 20 frames, this 3 ms.
 */
#ifndef TIDEMARK_VIEW_JSONW_H
#define TIDEMARK_VIEW_JSONW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JSONW_PLACES 512

/* Where in the buffer a value stands. */
struct jsonw_place {
	const void *what;
	size_t at, bytes;
	uint64_t turn; /* of the buffer: another one holds other text */
};

struct jsonw {
	FILE *out; /* borrowed, must outlive the writer */
	char *buf;
	size_t len, cap;
	bool comma; /* a value stands before the next one */
	int err;    /* first failed write, negative errno; nothing is written after it */
	uint64_t turn;
	struct jsonw_place places[JSONW_PLACES]; /* by a hash of `what` */
};

void jsonw_init(struct jsonw *w, FILE *out);
/* Writes and flushes what is left, frees. 0 or the first error. */
int jsonw_done(struct jsonw *w);

/* `key` is NULL in arrays and for a line's outermost object; else it stands as it is, unescaped. */
void jsonw_object(struct jsonw *w, const char *key);
void jsonw_object_end(struct jsonw *w);
void jsonw_array(struct jsonw *w, const char *key);
void jsonw_array_end(struct jsonw *w);
void jsonw_line_end(struct jsonw *w);

void jsonw_null(struct jsonw *w, const char *key);
void jsonw_bool(struct jsonw *w, const char *key, bool v);
/* NULL prints null; a byte that is not UTF-8 prints U+FFFD; control characters are escaped. */
void jsonw_string(struct jsonw *w, const char *key, const char *s);
/* Exact up to UINT64_MAX. */
void jsonw_u64(struct jsonw *w, const char *key, uint64_t v);
/* At most `decimals` (0..6) places, rounded, trailing zeros dropped. NAN and infinities print null. */
void jsonw_number(struct jsonw *w, const char *key, double v, int decimals);
/* As jsonw_number, always with all `decimals`: for times, which have to stay fractional numbers. */
void jsonw_fixed(struct jsonw *w, const char *key, double v, int decimals);

/*
 * A value that is written again and again. `what` stands for it, and must do so as long as the writer lives: where it is still in the buffer it is copied from
 * there. false: it is to be written out, and from jsonw_here() on is what jsonw_remember takes.
 */
bool jsonw_again(struct jsonw *w, const void *what);
size_t jsonw_here(const struct jsonw *w);
void jsonw_remember(struct jsonw *w, const void *what, size_t from);

#endif
