/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of code objects: names, files, lines of Python frames. Owns the strings, the objects by (image, address, id), and some of their
 * line tables. Refuses to guess: what could not be read in time is "<gone>", and is asked for again the next time.
 *
 * An object seen once is never read again, so its names stay right after it died. Bounds, each for the whole run:
 *
 *   objects   131072, 200 bytes each       the least recently used one goes; it is read again if it is still there
 *   tables    8 MiB as the process has     the least recently used one goes, likewise; a median one has 100 bytes, so that a large
 *             them (1-2 bytes per code     service's tables all stay. Raw, because decoded ones are 4 to 8 times as large and each
 *             unit)                        is asked for a few lines only: walking one takes less than a look-up by name
 *   strings   32 MiB                       never go (callers hold them); beyond: "<no room>"
 *
 * Per call: 127 objects' heads and strings, and 16 MiB of tables read or walked; lines beyond are 0 and asked for again the next time.
 */
#include "collect/pynames.h"

#include <stddef.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "collect/pycode.h"
#include "util/arena.h"
#include "util/mem.h"

#define CODES_MAX 131072
#define TABLES_BYTES_MAX (8u << 20)
#define STRINGS_BYTES_MAX (32u << 20)
#define TABLE_WORK_BYTES (16u << 20)

#define NAME_GONE "<gone>"
#define NAME_UNREADABLE "<unreadable>" /* the object is there, but its name is no string */
#define NAME_NO_ROOM "<no room>"

_Static_assert(PYTHON_FRAMES_MAX <= PY_PIECES_MAX, "a chain's heads are read at once");
_Static_assert(PY_TABLE_BYTES <= TABLES_BYTES_MAX, "the largest table can be kept");

struct string {
	UT_hash_handle hh;
	char text[];
};

struct code_key {
	uint64_t addr;
	uint64_t id;
};

struct code {
	struct code_key key;
	struct image *image;
	const char *name, *file;
	uint32_t first_line;
	bool has_table, is_table_kept;
	uint8_t *table;
	size_t table_bytes;
	/* The last answer: a deep recursion asks for the same line over and over. */
	int64_t last_unit;
	uint32_t last_line;
	struct code *prev, *next;	      /* all, the longest unused one first */
	struct code *table_prev, *table_next; /* those that keep a table, likewise */
	UT_hash_handle hh;
};

struct image {
	uint32_t id;
	struct code *codes;
	UT_hash_handle hh;
};

struct pynames {
	const struct py_memory *memory;
	struct image *images;
	struct code *by_use, *by_table_use;
	size_t n_codes, tables_bytes;
	struct arena *arena; /* strings */
	struct string *strings;
	size_t strings_bytes;
};

/* One call of pynames_resolve. */
struct look {
	struct pynames *n;
	struct py_source source;
	struct image *image;
	size_t table_work; /* bytes left to read or walk */
};

struct pynames *pynames_new_on(const struct py_memory *memory)
{
	struct pynames *n = xcalloc(1, sizeof(*n));

	n->memory = memory;
	n->arena = arena_new();
	return n;
}

struct pynames *pynames_new(void)
{
	return pynames_new_on(&py_memory_of_processes);
}

static const char *intern(struct pynames *n, const char *text)
{
	size_t len = strlen(text), bytes = sizeof(struct string) + len + 1;
	struct string *s = NULL;

	HASH_FIND(hh, n->strings, text, len, s);
	if (s)
		return s->text;
	if (bytes > STRINGS_BYTES_MAX - n->strings_bytes)
		return NULL;
	n->strings_bytes += bytes;
	s = arena_alloc(n->arena, 1, bytes);
	memcpy(s->text, text, len);
	HASH_ADD_KEYPTR(hh, n->strings, s->text, len, s);
	return s->text;
}

/* --- objects --- */

static void table_drop(struct pynames *n, struct code *c)
{
	if (!c->is_table_kept)
		return;
	DL_DELETE2(n->by_table_use, c, table_prev, table_next);
	n->tables_bytes -= c->table_bytes;
	free(c->table);
	c->table = NULL;
	c->is_table_kept = false;
}

static void table_keep(struct pynames *n, struct code *c, const struct py_text *t)
{
	c->has_table = t->table_state != PY_TABLE_NONE;
	if (t->table_state != PY_TABLE_READ)
		return;
	while (n->by_table_use && t->table_bytes > TABLES_BYTES_MAX - n->tables_bytes)
		table_drop(n, n->by_table_use);
	c->table = t->table;
	c->table_bytes = t->table_bytes;
	c->is_table_kept = true;
	n->tables_bytes += c->table_bytes;
	DL_APPEND2(n->by_table_use, c, table_prev, table_next);
}

static void table_use(struct pynames *n, struct code *c)
{
	if (!c->table_next)
		return; /* is the last one used */
	DL_DELETE2(n->by_table_use, c, table_prev, table_next);
	DL_APPEND2(n->by_table_use, c, table_prev, table_next);
}

static void code_drop(struct pynames *n, struct code *c)
{
	table_drop(n, c);
	DL_DELETE(n->by_use, c);
	HASH_DEL(c->image->codes, c);
	n->n_codes--;
	free(c);
}

/* An image stays when its last object goes for lack of room: it is asked for again soon. */
static struct image *image_of(struct pynames *n, uint32_t id)
{
	struct image *im = NULL;

	HASH_FIND(hh, n->images, &id, sizeof(id), im);
	if (im)
		return im;
	im = xcalloc(1, sizeof(*im));
	im->id = id;
	HASH_ADD(hh, n->images, id, sizeof(im->id), im);
	return im;
}

static void image_drop(struct pynames *n, struct image *im)
{
	struct code *c, *next;

	HASH_ITER(hh, im->codes, c, next)
		code_drop(n, c);
	HASH_DEL(n->images, im);
	free(im);
}

void pynames_forget(struct pynames *n, uint32_t image)
{
	struct image *im = NULL;

	HASH_FIND(hh, n->images, &image, sizeof(image), im);
	if (im)
		image_drop(n, im);
}

void pynames_free(struct pynames *n)
{
	struct image *im, *next;

	if (!n)
		return;
	HASH_ITER(hh, n->images, im, next)
		image_drop(n, im);
	HASH_CLEAR(hh, n->strings);
	arena_free(n->arena);
	free(n);
}

static struct code *code_find(struct look *l, uint64_t addr, uint32_t id)
{
	struct code_key key = { .addr = addr, .id = id };
	struct code *c = NULL;

	HASH_FIND(hh, l->image->codes, &key, sizeof(key), c);
	if (!c)
		return NULL;
	DL_DELETE(l->n->by_use, c);
	DL_APPEND(l->n->by_use, c);
	return c;
}

static struct code *code_add(struct look *l, uint64_t addr, uint32_t id, const struct py_text *t)
{
	struct pynames *n = l->n;
	struct code *c = xcalloc(1, sizeof(*c));
	const char *name = t->has_name ? intern(n, t->name) : NAME_UNREADABLE;

	if (n->n_codes >= CODES_MAX)
		code_drop(n, n->by_use);
	*c = (struct code){
		.key = { .addr = addr, .id = id },
		.image = l->image,
		.name = name ? name : NAME_NO_ROOM,
		.file = t->has_file ? intern(n, t->file) : NULL,
		.first_line = t->first_line,
		.last_unit = -1,
		.last_line = pyline_find(l->source.layout->minor, NULL, 0, t->first_line, -1),
	};
	table_keep(n, c, t);
	HASH_ADD(hh, l->image->codes, key, sizeof(c->key), c);
	DL_APPEND(n->by_use, c);
	n->n_codes++;
	return c;
}

/* NULL: gone. */
static struct code *code_load(struct look *l, uint64_t addr, uint32_t id, const struct py_head *head)
{
	size_t table_max = l->table_work < PY_TABLE_BYTES ? l->table_work : PY_TABLE_BYTES;
	struct py_text text;

	if (!pycode_is_head_of(&l->source, head, id) ||
	    pycode_read(&l->source, addr, id, head, true, table_max, &text) != 0)
		return NULL;
	l->table_work -= text.table_bytes;
	return code_add(l, addr, id, &text);
}

/* --- lines --- */

/* Once more from the process: the table went for lack of room. */
static void table_load(struct look *l, struct code *c)
{
	size_t table_max = l->table_work < PY_TABLE_BYTES ? l->table_work : PY_TABLE_BYTES;
	uint64_t addr = c->key.addr;
	uint32_t id = (uint32_t)c->key.id;
	struct py_head head;
	struct py_text text;
	bool is_read;

	pycode_read_heads(&l->source, &addr, 1, &head, &is_read);
	if (!is_read || !pycode_is_head_of(&l->source, &head, id) ||
	    pycode_read(&l->source, addr, id, &head, false, table_max, &text) != 0)
		return;
	l->table_work -= text.table_bytes;
	table_keep(l->n, c, &text);
}

static uint32_t line_of(struct look *l, struct code *c, uint32_t unit_plus_1)
{
	int64_t unit = (int64_t)unit_plus_1 - 1;

	if (unit_plus_1 == PYTHON_UNIT_MAX)
		return 0;
	if (unit == c->last_unit)
		return c->last_line;
	if (unit >= 0) {
		if (!c->has_table)
			return 0;
		if (!c->is_table_kept)
			table_load(l, c);
		if (!c->is_table_kept || c->table_bytes > l->table_work)
			return 0;
		l->table_work -= c->table_bytes;
		table_use(l->n, c);
	}
	c->last_unit = unit;
	c->last_line = pyline_find(l->source.layout->minor, c->table, c->table_bytes, c->first_line, unit);
	return c->last_line;
}

/* --- chains --- */

/* Finds what is not known yet, in place of the NULLs of `codes`. */
static void load_missing(struct look *l, const struct python_chain *c, size_t frames, struct code *codes[])
{
	struct py_head heads[PYTHON_FRAMES_MAX]; /* not cleared: only what is_read says is looked at */
	uint64_t addrs[PYTHON_FRAMES_MAX];
	bool is_read[PYTHON_FRAMES_MAX];
	size_t n = 0;

	for (size_t i = 0; i < frames; i++)
		if (!codes[i])
			addrs[n++] = python_frame_code(c->frame[i]);
	if (!n)
		return;
	pycode_read_heads(&l->source, addrs, n, heads, is_read);
	for (size_t i = 0, at = 0; i < frames; i++) {
		if (codes[i])
			continue;
		/* Recursion: a frame further in may have brought it just now. */
		codes[i] = code_find(l, addrs[at], c->code_id[i]);
		if (!codes[i] && is_read[at])
			codes[i] = code_load(l, addrs[at], c->code_id[i], &heads[at]);
		at++;
	}
}

void pynames_resolve(struct pynames *n, uint32_t pid, uint32_t image, const struct py_names *layout,
		     uint16_t code_id_offset, const struct python_chain *c, struct py_line *ret)
{
	struct look l = {
		.n = n,
		.source = { .memory = n->memory, .layout = layout, .pid = pid, .code_id_offset = code_id_offset },
		.image = image_of(n, image),
		.table_work = TABLE_WORK_BYTES,
	};
	struct code *codes[PYTHON_FRAMES_MAX];
	size_t frames = c->n < PYTHON_FRAMES_MAX ? c->n : PYTHON_FRAMES_MAX;

	pycode_measure(&l.source);
	for (size_t i = 0; i < frames; i++)
		codes[i] = code_find(&l, python_frame_code(c->frame[i]), c->code_id[i]);
	if (l.source.head_bytes)
		load_missing(&l, c, frames, codes);
	for (size_t i = 0; i < frames; i++) {
		ret[i] = (struct py_line){ .name = NAME_GONE, .is_entry = c->frame[i] & PYTHON_FRAME_ENTRY };
		if (!codes[i])
			continue;
		ret[i].name = codes[i]->name;
		ret[i].file = codes[i]->file;
		ret[i].line = line_of(&l, codes[i], python_frame_unit(c->frame[i]));
	}
}

/* --- copies --- */

/* Memory of a process as far as a copy has it. */
struct copy_memory {
	struct {
		uint64_t at, bytes;
		const uint8_t *from;
	} parts[4];
};

static size_t copy_read(void *ctx, uint32_t pid, const struct py_piece *p, size_t n)
{
	const struct copy_memory *m = ctx;

	(void)pid;
	for (size_t i = 0; i < n; i++) {
		size_t k = 0;
		while (k < ARRAY_SIZE(m->parts) &&
		       (p[i].at < m->parts[k].at || p[i].at - m->parts[k].at > m->parts[k].bytes ||
			p[i].bytes > m->parts[k].bytes - (p[i].at - m->parts[k].at)))
			k++;
		if (k == ARRAY_SIZE(m->parts))
			return i;
		memcpy(p[i].to, m->parts[k].from + (p[i].at - m->parts[k].at), p[i].bytes);
	}
	return n;
}

static uint64_t at_most(uint64_t bytes, uint64_t max)
{
	return bytes < max ? bytes : max;
}

void pynames_learn(struct pynames *n, uint32_t image, const struct py_names *layout, uint16_t code_id_offset,
		   const struct python_code_copy *c, size_t bytes)
{
	if (bytes < sizeof(*c))
		return;
	struct copy_memory parts = { {
		{ c->code, at_most(c->head_bytes, sizeof(c->head)), c->head },
		{ c->file, at_most(c->file_bytes, sizeof(c->file_text)), c->file_text },
		{ c->name, at_most(c->name_bytes, sizeof(c->name_text)), c->name_text },
		{ c->table, at_most(c->table_bytes, bytes - offsetof(struct python_code_copy, table_text)),
		  c->table_text },
	} };
	const struct py_memory memory = { .read = copy_read, .ctx = &parts };
	struct look l = {
		.n = n,
		.source = { .memory = &memory, .layout = layout, .code_id_offset = code_id_offset },
		.image = image_of(n, image),
		.table_work = TABLE_WORK_BYTES,
	};
	struct py_head head;
	uint64_t addr = c->code;
	bool is_read;

	pycode_measure(&l.source);
	if (!l.source.head_bytes || code_find(&l, addr, c->code_id))
		return;
	pycode_read_heads(&l.source, &addr, 1, &head, &is_read);
	if (is_read)
		(void)code_load(&l, addr, c->code_id, &head); /* not whole: read from the process, when it is needed */
}
