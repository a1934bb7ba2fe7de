/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One code object, read while its process goes on:
 *
 *   read 1   head: reference count ... id, pointers      batched over a chain's frames; before 3.12 one more, for what of
 *                                                        the line tables is part of the id
 *   read 2   heads of name, file name, line table        lengths and kinds: bounded here
 *   read 3   their data, then the head once more         the kernel fills pieces in their order, so that this head is the last thing read
 *
 * An object that dies keeps its bytes until the memory is given out again, and its name may be given out sooner than itself. So the same id is not
 * enough: it must be alive, too. Freeing leaves a reference count of 0, or what an allocator keeps in a free block's first word: 0 or a (mangled)
 * pointer, which no count in bits 0 to 47 looks like. (3.14 has flags in bits 48 to 63. A count at +0 is what regular builds have;
 * free-threaded ones don't, and neither do their strings' states look like this.)
 */
#include "collect/pycode.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "util/mem.h"

#define USER_END (1ull << 47)
#define SMALL_HEAD_BYTES 64 /* of str and bytes objects */
#define DATA_OFFSET_MAX 256
#define NON_CHARACTER 0xfffdu

/* Include/cpython/unicodeobject.h, struct PyASCIIObject.state; the same from 3.3 to 3.14. */
#define STR_KIND(state) ((state) >> 2 & 7)
#define STR_COMPACT (1u << 5)
#define STR_ASCII (1u << 6)

static size_t read_process(void *ctx, uint32_t pid, const struct py_piece *p, size_t n)
{
	struct iovec to[PY_PIECES_MAX], from[PY_PIECES_MAX];
	size_t whole = 0;

	(void)ctx;
	if (!n)
		return 0;
	for (size_t i = 0; i < n; i++) {
		to[i] = (struct iovec){ .iov_base = p[i].to, .iov_len = p[i].bytes };
		from[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)p[i].at, .iov_len = p[i].bytes };
	}
	ssize_t got = process_vm_readv((pid_t)pid, to, n, from, n, 0);
	if (got < 0)
		return 0;
	while (whole < n && (size_t)got >= p[whole].bytes)
		got -= (ssize_t)p[whole++].bytes;
	return whole;
}

const struct py_memory py_memory_of_processes = { .read = read_process };

/* As memory->read, but only of user space: sums of address and length that wrap never get to the kernel. */
static size_t read_pieces(const struct py_source *s, const struct py_piece *p, size_t n)
{
	size_t good = 0;

	while (good < n && p[good].at < USER_END && p[good].bytes <= USER_END - p[good].at)
		good++;
	return good ? s->memory->read(s->memory->ctx, s->pid, p, good) : 0;
}

/* memcpy, because offsets of a layout need not be aligned. */
static uint64_t word_at(const unsigned char *bytes, size_t offset)
{
	uint64_t v;

	memcpy(&v, bytes + offset, sizeof(v));
	return v;
}

static uint32_t half_at(const unsigned char *bytes, size_t offset)
{
	uint32_t v;

	memcpy(&v, bytes + offset, sizeof(v));
	return v;
}

static size_t max_of(size_t a, size_t b)
{
	return a > b ? a : b;
}

void pycode_measure(struct py_source *s)
{
	const struct py_names *l = s->layout;
	size_t end = max_of(s->code_id_offset + PYTHON_CODE_ID_BYTES, l->code_firstlineno + sizeof(uint32_t));
	const uint16_t pointers[] = { l->code_name, l->code_qualname, l->code_filename, l->code_linetable };

	for (size_t i = 0; i < ARRAY_SIZE(pointers); i++)
		end = max_of(end, pointers[i] + sizeof(uint64_t));
	bool is_sane = end <= PY_HEAD_BYTES && l->str_length + sizeof(uint64_t) <= SMALL_HEAD_BYTES &&
		       l->str_state + sizeof(uint32_t) <= SMALL_HEAD_BYTES &&
		       l->bytes_size + sizeof(uint64_t) <= SMALL_HEAD_BYTES && l->bytes_data <= DATA_OFFSET_MAX &&
		       l->str_ascii_data <= DATA_OFFSET_MAX && l->str_compact_data <= DATA_OFFSET_MAX;
	s->head_bytes = is_sane ? (uint16_t)end : 0;
}

/* Reads all that can be read, and says of each whether it was. */
static void read_each(const struct py_source *s, const struct py_piece *p, size_t n, bool *ret_read)
{
	for (size_t i = 0; i < n; i++) {
		size_t whole = i + read_pieces(s, p + i, n - i);

		for (; i < whole; i++)
			ret_read[i] = true;
		if (i < n)
			ret_read[i] = false; /* go on behind it */
	}
}

/* The table is found where the id's words say, as the kernel side finds it. */
static struct py_piece table_head_piece(const struct py_source *s, const struct py_head *head, struct py_head *ret)
{
	uint64_t table = word_at(head->bytes, s->code_id_offset + PYTHON_CODE_ID_BYTES - sizeof(uint64_t));

	return (struct py_piece){ .at = table + PYTHON_TABLE_HEAD, .bytes = sizeof(ret->table), .to = ret->table };
}

void pycode_read_heads(const struct py_source *s, const uint64_t *addrs, size_t n, struct py_head *ret, bool *ret_read)
{
	struct py_piece p[PY_PIECES_MAX] = { 0 };
	bool is_table_read[PY_PIECES_MAX];

	for (size_t i = 0; i < n; i++)
		p[i] = (struct py_piece){ .at = addrs[i], .bytes = s->head_bytes, .to = ret[i].bytes };
	read_each(s, p, n, ret_read);
	for (size_t i = 0; i < n; i++)
		p[i] = ret_read[i] ? table_head_piece(s, &ret[i], &ret[i]) : (struct py_piece){ 0 };
	read_each(s, p, n, is_table_read);
	for (size_t i = 0; i < n; i++)
		ret_read[i] = ret_read[i] && is_table_read[i];
}

static bool is_alive(const struct py_head *head)
{
	uint64_t refs = word_at(head->bytes, 0);

	return (uint32_t)refs && !(refs >> 32 & 0xffff);
}

bool pycode_is_head_of(const struct py_source *s, const struct py_head *head, uint32_t id)
{
	__u64 w[PYTHON_CODE_ID_BYTES / sizeof(__u64)];

	memcpy(w, head->bytes + s->code_id_offset, sizeof(w));
	return is_alive(head) && python_code_id(w, head->table) == id;
}

/* --- strings --- */

struct str_data {
	uint64_t at;
	size_t chars;	   /* as many as are wanted; 0 too if it is no string */
	unsigned int kind; /* bytes of a character; 0: it is no string */
};

static size_t str_head_bytes(const struct py_names *l)
{
	return max_of(l->str_length + sizeof(uint64_t), l->str_state + sizeof(uint32_t));
}

/* Where the characters of the string at `addr` lie. *ret_is_apart: not behind the head, as in subclasses of str; then at is where the pointer lies. */
static struct str_data str_of(const struct py_names *l, uint64_t addr, const unsigned char *head, size_t chars_max,
			      bool *ret_is_apart)
{
	uint64_t chars = word_at(head, l->str_length);
	uint32_t state = half_at(head, l->str_state);
	unsigned int kind = STR_KIND(state);
	bool is_compact = state & STR_COMPACT, is_ascii = state & STR_ASCII;

	*ret_is_apart = false;
	if ((kind != 1 && kind != 2 && kind != 4) || (is_ascii && kind != 1) || chars > USER_END)
		return (struct str_data){ 0 };
	*ret_is_apart = !is_compact;
	return (struct str_data){
		.at = addr + (is_compact && is_ascii ? l->str_ascii_data : l->str_compact_data),
		.chars = chars < chars_max ? (size_t)chars : chars_max,
		.kind = kind,
	};
}

/* As a terminal may see it: no control characters (C0, DEL, C1), nothing that UTF-8 has no form for. */
static uint32_t presentable(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0))
		return '?';
	return c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? NON_CHARACTER : c;
}

static size_t encode(uint32_t c, unsigned char to[4])
{
	static const struct {
		uint32_t below;
		unsigned char mark;
	} forms[] = { { 0x80, 0 }, { 0x800, 0xc0 }, { 0x10000, 0xe0 }, { 0x110000, 0xf0 } };
	size_t n = 0;

	while (c >= forms[n].below)
		n++;
	for (size_t i = n; i > 0; i--, c >>= 6)
		to[i] = (unsigned char)(0x80 | (c & 0x3f));
	to[0] = (unsigned char)(forms[n].mark | c);
	return n + 1;
}

/* Into cap + 1 bytes. */
static void to_utf8(const unsigned char *raw, const struct str_data *d, char *ret, size_t cap)
{
	size_t used = 0;

	for (size_t i = 0; i < d->chars; i++) {
		uint32_t c = 0;
		unsigned char form[4];

		memcpy(&c, raw + i * d->kind, d->kind); /* little endian */
		size_t n = encode(presentable(c), form);
		if (used + n > cap)
			break;
		memcpy(ret + used, form, n);
		used += n;
	}
	ret[used] = 0;
}

/* --- the object --- */

enum part {
	PART_NAME,
	PART_FILE,
	PART_TABLE,
	PART_NR,
};

struct parts {
	uint64_t at[PART_NR];
	unsigned char head[PART_NR][SMALL_HEAD_BYTES];
	struct str_data str[PART_TABLE]; /* name, file */
	unsigned char name[PY_NAME_BYTES * 4], file[PY_FILE_BYTES * 4];
};

static int read_part_heads(const struct py_source *s, const struct py_head *head, bool wants_names, struct parts *ret)
{
	const struct py_names *l = s->layout;
	struct py_piece p[PART_NR];
	size_t from = wants_names ? PART_NAME : PART_TABLE;

	ret->at[PART_NAME] = word_at(head->bytes, l->code_qualname ? l->code_qualname : l->code_name);
	ret->at[PART_FILE] = word_at(head->bytes, l->code_filename);
	ret->at[PART_TABLE] = word_at(head->bytes, l->code_linetable);
	for (size_t i = 0; i < PART_NR; i++)
		p[i] = (struct py_piece){
			.at = ret->at[i],
			.bytes = i == PART_TABLE ? l->bytes_size + sizeof(uint64_t) : str_head_bytes(l),
			.to = ret->head[i],
		};
	return read_pieces(s, p + from, PART_NR - from) == PART_NR - from ? 0 : -ESTALE;
}

static int find_strings(const struct py_source *s, bool wants_names, struct parts *ret)
{
	static const size_t chars_max[PART_TABLE] = { PY_NAME_BYTES, PY_FILE_BYTES };

	for (size_t i = 0; i < PART_TABLE; i++) {
		struct str_data *d = &ret->str[i];
		bool is_apart;

		*d = (struct str_data){ 0 };
		if (!wants_names)
			continue;
		*d = str_of(s->layout, ret->at[i], ret->head[i], chars_max[i], &is_apart);
		if (!is_apart)
			continue;
		struct py_piece p = { .at = d->at, .bytes = sizeof(d->at), .to = &d->at };
		if (read_pieces(s, &p, 1) != 1)
			return -ESTALE;
	}
	return 0;
}

static enum py_table table_state(uint64_t bytes, size_t table_max)
{
	if (bytes > PY_TABLE_BYTES)
		return PY_TABLE_NONE;
	return bytes > table_max ? PY_TABLE_LATER : PY_TABLE_READ;
}

int pycode_read(const struct py_source *s, uint64_t addr, uint32_t id, const struct py_head *head, bool wants_names,
		size_t table_max, struct py_text *ret)
{
	const struct py_names *l = s->layout;
	_cleanup_(freep) uint8_t *table = NULL;
	struct parts parts; /* 18 KB: not cleared */
	struct py_head after;
	int err = read_part_heads(s, head, wants_names, &parts);

	if (!err)
		err = find_strings(s, wants_names, &parts);
	if (err)
		return err;
	uint64_t bytes = word_at(parts.head[PART_TABLE], l->bytes_size);
	enum py_table state = table_state(bytes, table_max);
	if (state != PY_TABLE_READ)
		bytes = 0;
	if (bytes)
		table = xcalloc((size_t)bytes, 1);

	const struct str_data *name = &parts.str[PART_NAME], *file = &parts.str[PART_FILE];
	struct py_piece p[] = {
		{ .at = name->at, .bytes = name->chars * name->kind, .to = parts.name },
		{ .at = file->at, .bytes = file->chars * file->kind, .to = parts.file },
		{ .at = parts.at[PART_TABLE] + l->bytes_data, .bytes = (size_t)bytes, .to = table },
		table_head_piece(s, head, &after),
		{ .at = addr, .bytes = s->head_bytes, .to = after.bytes }, /* the last one */
	};
	if (read_pieces(s, p, ARRAY_SIZE(p)) != ARRAY_SIZE(p) || !pycode_is_head_of(s, &after, id))
		return -ESTALE;
	ret->has_name = name->kind;
	ret->has_file = file->kind;
	to_utf8(parts.name, name, ret->name, PY_NAME_BYTES);
	to_utf8(parts.file, file, ret->file, PY_FILE_BYTES);
	ret->first_line = half_at(after.bytes, l->code_firstlineno);
	ret->table_state = state;
	ret->table_bytes = (size_t)bytes;
	ret->table = table;
	table = NULL;
	return 0;
}
