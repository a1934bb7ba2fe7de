/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of a process that means ill: an input is a short chain and the bytes that lie at its addresses, wherever they point (addresses count modulo the
 * size, so that pointers made of noise still point at something). Memory changes between reads. What comes out must be text, in bounds.
 *
 *   0 layout   1 frames   2 how many bytes change per read   3 how many reads there are until none succeeds   8... memory
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collect/pycode.h"
#include "collect/pynames.h"
#include "util/mem.h"

#define HEAD_BYTES 8
#define MEMORY_MAX 65536

#define STRS .str_length = 16, .str_state = 32
#define BYTES .bytes_size = 16, .bytes_data = 32
static const struct {
	struct py_names names;
	uint16_t code_id;
} layouts[] = {
	{ { .minor = 8,
	    .code_firstlineno = 40,
	    .code_filename = 104,
	    .code_name = 112,
	    .code_linetable = 120,
	    STRS,
	    .str_ascii_data = 48,
	    .str_compact_data = 72,
	    BYTES },
	  40 },
	{ { .minor = 10,
	    .code_firstlineno = 40,
	    .code_filename = 104,
	    .code_name = 112,
	    .code_linetable = 120,
	    STRS,
	    .str_ascii_data = 48,
	    .str_compact_data = 72,
	    BYTES },
	  40 },
	{ { .minor = 11,
	    .code_firstlineno = 72,
	    .code_filename = 112,
	    .code_name = 120,
	    .code_qualname = 128,
	    .code_linetable = 136,
	    STRS,
	    .str_ascii_data = 48,
	    .str_compact_data = 72,
	    BYTES },
	  56 },
	{ { .minor = 13,
	    .code_firstlineno = 68,
	    .code_filename = 112,
	    .code_name = 120,
	    .code_qualname = 128,
	    .code_linetable = 136,
	    STRS,
	    .str_ascii_data = 40,
	    .str_compact_data = 56,
	    BYTES },
	  56 },
};

struct world {
	uint8_t *bytes;
	size_t n;
	uint8_t changes, reads;
	uint32_t noise;
};

static void copy_out(const struct world *w, uint64_t at, unsigned char *to, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		size_t from = (at + done) % w->n, piece = w->n - from;

		if (piece > bytes - done)
			piece = bytes - done;
		memcpy(to + done, w->bytes + from, piece);
		done += piece;
	}
}

static size_t read_world(void *ctx, uint32_t pid, const struct py_piece *p, size_t n)
{
	struct world *w = ctx;

	(void)pid;
	if (!n || n > PY_PIECES_MAX)
		abort();
	if (!w->reads)
		return 0;
	w->reads--;
	for (unsigned int i = 0; i < w->changes; i++) {
		w->noise = w->noise * 1664525u + 1013904223u;
		w->bytes[w->noise % w->n] ^= (uint8_t)(w->noise >> 24);
	}
	for (size_t i = 0; i < n; i++) {
		if (p[i].bytes > PY_TABLE_BYTES)
			abort();
		if (p[i].bytes && p[i].at >> 46) /* not all is mapped */
			return i;
		copy_out(w, p[i].at, p[i].to, p[i].bytes);
	}
	return n;
}

/* UTF-8 without control characters, in `cap` bytes. */
static void check_text(const char *text, size_t cap)
{
	const unsigned char *s = (const unsigned char *)text;

	if (strlen(text) > cap)
		abort();
	while (*s) {
		size_t more = *s < 0x80 ? 0 : *s < 0xe0 ? 1 : *s < 0xf0 ? 2 : 3;

		if (*s < 0x20 || *s == 0x7f || (*s >= 0x80 && *s < 0xc2) || *s > 0xf4)
			abort();
		if ((*s == 0xc2 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || (*s == 0xe0 && s[1] < 0xa0) ||
		    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f))
			abort();
		for (s++; more; more--, s++)
			if ((*s & 0xc0) != 0x80)
				abort();
	}
}

static void make_chain(const struct world *w, size_t frames, uint16_t code_id, struct python_chain *ret)
{
	for (size_t i = 0; i < frames; i++) {
		__u64 word, id[PYTHON_CODE_ID_BYTES / sizeof(__u64)], table[4];

		copy_out(w, i * 8, (unsigned char *)&word, sizeof(word));
		uint64_t addr = python_frame_code(word);
		copy_out(w, addr + code_id, (unsigned char *)id, sizeof(id));
		ret->frame[i] = word;
		copy_out(w, id[ARRAY_SIZE(id) - 1] + PYTHON_TABLE_HEAD, (unsigned char *)table, sizeof(table));
		ret->code_id[i] = python_code_id(id, table);
		/* Mostly the right ones: what lies behind is what is tested. */
	}
	ret->n = (uint16_t)frames;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct python_chain c = { 0 };
	struct py_line lines[PYTHON_FRAMES_MAX];

	if (size <= HEAD_BYTES || size > MEMORY_MAX)
		return 0;
	size_t frames = data[1] % (PYTHON_FRAMES_MAX + 1), layout = data[0] % ARRAY_SIZE(layouts);
	struct world w = { .n = size - HEAD_BYTES, .changes = data[2], .reads = data[3], .noise = data[4] };
	_cleanup_(freep) uint8_t *bytes = xcalloc(w.n, 1);
	struct py_memory memory = { .read = read_world, .ctx = &w };
	struct pynames *n = pynames_new_on(&memory);

	memcpy(bytes, data + HEAD_BYTES, w.n);
	w.bytes = bytes;
	make_chain(&w, frames, layouts[layout].code_id, &c);
	for (int turn = 0; turn < 2; turn++) {
		pynames_resolve(n, 1, 1, &layouts[layout].names, layouts[layout].code_id, &c, lines);
		for (size_t i = 0; i < frames; i++) {
			check_text(lines[i].name, PY_NAME_BYTES);
			if (lines[i].file)
				check_text(lines[i].file, PY_FILE_BYTES);
			if (lines[i].line > INT32_MAX || lines[i].is_entry != !!(c.frame[i] & PYTHON_FRAME_ENTRY))
				abort();
		}
	}
	pynames_free(n);
	return 0;
}
