/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fills the kernel side's unwind tables from files. Reads no call frame information itself (probe/cfi.h), knows no
 * process and opens no file.
 *
 *	file    by its key (device, inode, size, time): known, then nothing is read
 *	        else by its identity: a copy of a known file (the same library in another container) gets its rows
 *	        else loaded:
 *
 *	        pages    | p0 | p1 | p2 | p3 |     one for each 64 KiB from its lowest to its highest executable address
 *	                    |    |         |       (p2: no rows)
 *	        blocks   ...[rows]..[rows]..[rows]..
 *	                       |
 *	        rules    ......[rule]......        equal ones once, over all files
 *
 * Pages, rows and rules are written once and stay: a BPF program that meets a range of the file finds what the range
 * leads to complete, because ranges are written later. What does not fit is left out and counted; rows whose
 * rule does not fit say UNWIND_OTHER, so that no program guesses there.
 *
 * Who is trusted: nobody. A build id is only text in a file, and there are build systems that give the same one to
 * everything. So the identity takes in what the rows are made of too: the program headers and all that stands from
 * .eh_frame_hdr to the end of its segment, which is where linkers put .eh_frame.
 */
#include "probe/unwind.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>
#include <xxhash.h>

#include "probe/cfi.h"
#include "probe/runs.h"
#include "target/proc.h"
#include "util/mem.h"

#define PAGE_BYTES (1ull << ROW_PAGE_SHIFT)
#define LOW_MASK (PAGE_BYTES - 1)
/* What the kernel accepts (fs/binfmt_elf.c: 64 KiB of headers). */
#define HEADERS_MAX (65536 / sizeof(Elf64_Phdr))
#define NOTES_MAX (64u << 10)
#define BUILD_ID_MAX_BYTES 64u
#define FRAMES_MAX (32ull << 20) /* of one file, for its identity */
/* Mapped files that are met: far beyond a machine's; against a program that maps new files without an end. */
#define FILES_MAX 65536
#define KERNEL_PAGE 4096ull

/* Reserved, so that a full table still can say it. */
enum { RULE_OTHER = UNWIND_RULE_NONE + 1, RULES_RESERVED };
#define RULE_SLOTS (2u * UNWIND_RULES)
/* Blocks that more rows may go into, and that stay mapped for it: each is 128 KiB of our own resident memory. */
#define BLOCKS_OPEN 4

struct key_entry {
	struct unwind_key key;
	const struct unwind_file *file;
	UT_hash_handle hh;
};

struct identity_entry {
	XXH128_hash_t identity;
	const struct unwind_file *file;
	UT_hash_handle hh;
};

struct block {
	struct row_block *rows; /* NULL: closed, no more come */
	uint32_t used;
};

struct unwind_tables {
	struct unwind_area area;
	struct block blocks[ROW_BLOCKS];
	size_t n_blocks, n_pages, n_rules, n_rows, n_loaded, rows_refused;
	uint16_t slots[RULE_SLOTS]; /* open addressing: numbers of rules, 0: free */
	uint32_t scratch[BLOCK_ROWS];
	struct runs *runs;
	struct key_entry *by_key;
	struct identity_entry *by_identity;
	struct unwind_file **files;
	size_t n_files, files_cap;
	const struct unwind_file *nothing, *vdso;
};

/* A file that is being read: by descriptor or, the vdso, in memory. */
struct image {
	int fd;
	const uint8_t *mem;
	uint64_t bytes;
};

/* One load: rows of the file on their way into the tables. */
struct load {
	const struct cfi *cfi;
	uint16_t *rules; /* number of each of the file's rules in the table */
	size_t at;	 /* first row that is not placed yet */
	bool no_block;	 /* there is no memory for one */
};

/* ---- life ---- */

static struct unwind_file *file_new(struct unwind_tables *u)
{
	struct unwind_file *f = xcalloc(1, sizeof(*f));

	f->page = RANGE_NO_ROWS;
	u->files = grow_to(u->files, &u->files_cap, u->n_files + 1, sizeof(struct unwind_file *));
	u->files[u->n_files++] = f;
	return f;
}

static size_t rule_slot(const struct unwind_tables *u, const struct unwind_rule *rule)
{
	size_t i = XXH3_64bits(rule, sizeof(*rule)) % RULE_SLOTS;

	while (u->slots[i] && memcmp(&u->area.rules[u->slots[i]], rule, sizeof(*rule)) != 0)
		i = (i + 1) % RULE_SLOTS;
	return i;
}

static void rule_add(struct unwind_tables *u, const struct unwind_rule *rule)
{
	size_t slot = rule_slot(u, rule);

	u->area.rules[u->n_rules] = *rule;
	u->slots[slot] = (uint16_t)u->n_rules++;
}

static uint16_t rule_take(struct unwind_tables *u, const struct unwind_rule *rule)
{
	if (rule->kind == UNWIND_NONE)
		return UNWIND_RULE_NONE;
	if (rule->kind == UNWIND_OTHER)
		return RULE_OTHER; /* nothing in it but its kind is looked at */
	uint16_t known = u->slots[rule_slot(u, rule)];
	if (known)
		return known;
	if (u->n_rules == UNWIND_RULES)
		return RULE_OTHER;
	rule_add(u, rule);
	return (uint16_t)(u->n_rules - 1);
}

struct unwind_tables *unwind_new(const struct unwind_area *area)
{
	static const struct unwind_rule none = { .kind = UNWIND_NONE };
	static const struct unwind_rule other = { .kind = UNWIND_OTHER, .bp = UNWIND_BP_LOST };
	struct unwind_tables *u = xcalloc(1, sizeof(*u));

	u->area = *area;
	u->area.rules[UNWIND_RULE_NONE] = none;
	u->n_rules = RULE_OTHER;
	rule_add(u, &other);
	u->runs = runs_new(u->area.ranges, UNWIND_RANGES);
	u->nothing = file_new(u);
	return u;
}

void unwind_free(struct unwind_tables *u)
{
	struct key_entry *k, *next_k;
	struct identity_entry *i, *next_i;

	if (!u)
		return;
	HASH_ITER(hh, u->by_key, k, next_k) {
		HASH_DEL(u->by_key, k);
		free(k);
	}
	HASH_ITER(hh, u->by_identity, i, next_i) {
		HASH_DEL(u->by_identity, i);
		free(i);
	}
	for (size_t n = 0; n < u->n_files; n++)
		free(u->files[n]);
	for (size_t n = 0; n < u->n_blocks; n++)
		if (u->blocks[n].rows)
			u->area.block_done(u->area.ctx, u->blocks[n].rows);
	free(u->files);
	runs_free(u->runs);
	free(u);
}

/* ---- headers and identity ---- */

static bool image_read(const struct image *im, uint64_t offset, void *buf, size_t n)
{
	if (offset > im->bytes || n > im->bytes - offset)
		return false;
	if (im->mem) {
		memcpy(buf, im->mem + offset, n);
		return true;
	}
	for (size_t used = 0; used < n;) {
		ssize_t got = pread(im->fd, (char *)buf + used, n - used, (off_t)(offset + used));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		used += (size_t)got;
	}
	return true;
}

/* Caller frees. NULL: no ELF file of this machine, or broken. */
static Elf64_Phdr *headers_read(const struct image *im, size_t *ret_n)
{
	_cleanup_(freep) Elf64_Phdr *headers = NULL;
	Elf64_Ehdr head;

	if (!image_read(im, 0, &head, sizeof(head)) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
	    head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
	    head.e_machine != EM_X86_64 || head.e_phentsize != sizeof(*headers) || head.e_phnum > HEADERS_MAX)
		return NULL;
	headers = xcalloc(head.e_phnum, sizeof(*headers));
	if (!image_read(im, head.e_phoff, headers, head.e_phnum * sizeof(*headers)))
		return NULL;
	*ret_n = head.e_phnum;
	Elf64_Phdr *read = headers;
	headers = NULL;
	return read;
}

static void segments_take(struct unwind_file *f, const Elf64_Phdr *headers, size_t n, uint64_t file_bytes)
{
	for (size_t i = 0; i < n && f->n_segments < UNWIND_SEGMENTS_MAX; i++) {
		const Elf64_Phdr *h = &headers[i];
		if (h->p_type != PT_LOAD || !(h->p_flags & PF_X) || h->p_offset >= file_bytes || !h->p_filesz)
			continue;
		uint64_t bytes = h->p_filesz < file_bytes - h->p_offset ? h->p_filesz : file_bytes - h->p_offset;
		/* The kernel maps no segment whose address and offset differ within a page. */
		if (h->p_vaddr > UINT64_MAX - bytes || (h->p_vaddr ^ h->p_offset) % KERNEL_PAGE)
			continue;
		f->segments[f->n_segments].file_offset = h->p_offset;
		f->segments[f->n_segments].vaddr = h->p_vaddr;
		f->segments[f->n_segments++].bytes = bytes;
	}
}

/* The note's description; 0: not in there. Notes are padded to 4 bytes each (8 in segments aligned so). */
static size_t build_id_find(const uint8_t *notes, size_t bytes, uint64_t align, const uint8_t **ret)
{
	uint64_t pad = align == 8 ? 7 : 3;
	Elf64_Nhdr note;

	for (uint64_t at = 0; at + sizeof(note) <= bytes;) {
		memcpy(&note, notes + at, sizeof(note));
		uint64_t name = at + sizeof(note), desc = (name + note.n_namesz + pad) & ~pad;
		at = (desc + note.n_descsz + pad) & ~pad;
		if (desc + note.n_descsz > bytes)
			return 0;
		if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != sizeof(ELF_NOTE_GNU) ||
		    memcmp(notes + name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) != 0)
			continue;
		*ret = notes + desc;
		return note.n_descsz <= BUILD_ID_MAX_BYTES ? note.n_descsz : 0;
	}
	return 0;
}

static bool build_id_hash(const struct image *im, const Elf64_Phdr *headers, size_t n, XXH3_state_t *state)
{
	for (size_t i = 0; i < n; i++) {
		const Elf64_Phdr *h = &headers[i];
		const uint8_t *id;
		if (h->p_type != PT_NOTE || h->p_filesz > NOTES_MAX)
			continue;
		_cleanup_(freep) uint8_t *notes = xcalloc(1, h->p_filesz);
		size_t len = image_read(im, h->p_offset, notes, h->p_filesz)
				     ? build_id_find(notes, h->p_filesz, h->p_align, &id)
				     : 0;
		if (!len)
			continue;
		(void)XXH3_128bits_update(state, id, len); /* fails for NULL only */
		return true;
	}
	return false;
}

/* From .eh_frame_hdr to the end of its segment. */
static bool frames_hash(const struct image *im, const Elf64_Phdr *headers, size_t n, XXH3_state_t *state)
{
	const Elf64_Phdr *frames = NULL;
	uint64_t end = 0;
	static const size_t chunk = 64 << 10;

	for (size_t i = 0; i < n; i++)
		if (headers[i].p_type == PT_GNU_EH_FRAME)
			frames = &headers[i];
	for (size_t i = 0; frames && i < n; i++) {
		const Elf64_Phdr *h = &headers[i];
		if (h->p_type == PT_LOAD && frames->p_offset >= h->p_offset &&
		    frames->p_offset - h->p_offset < h->p_filesz && h->p_filesz <= UINT64_MAX - h->p_offset)
			end = h->p_offset + h->p_filesz;
	}
	if (!frames || !end || end - frames->p_offset > FRAMES_MAX)
		return false;
	_cleanup_(freep) uint8_t *buf = xcalloc(1, chunk);
	for (uint64_t at = frames->p_offset; at < end;) {
		size_t part = end - at < chunk ? (size_t)(end - at) : chunk;
		if (!image_read(im, at, buf, part))
			return false;
		(void)XXH3_128bits_update(state, buf, part);
		at += part;
	}
	return true;
}

/* false: the file can only be known by its key. */
static bool identity_of(const struct image *im, const Elf64_Phdr *headers, size_t n, XXH128_hash_t *ret)
{
	XXH3_state_t *state = XXH3_createState();

	if (!state)
		return false;
	(void)XXH3_128bits_reset(state);
	(void)XXH3_128bits_update(state, headers, n * sizeof(*headers));
	bool is_known = build_id_hash(im, headers, n, state) && frames_hash(im, headers, n, state);
	if (is_known)
		*ret = XXH3_128bits_digest(state);
	(void)XXH3_freeState(state);
	return is_known;
}

/* ---- rows into pages ---- */

/* Makes room among the open blocks: the fullest one goes. */
static void block_close(struct unwind_tables *u)
{
	struct block *fullest = NULL;
	size_t n_open = 0;

	for (size_t i = 0; i < u->n_blocks; i++) {
		struct block *b = &u->blocks[i];
		n_open += b->rows != NULL;
		if (b->rows && (!fullest || b->used > fullest->used))
			fullest = b;
	}
	if (n_open < BLOCKS_OPEN)
		return;
	u->area.block_done(u->area.ctx, fullest->rows);
	fullest->rows = NULL;
}

static bool block_open(struct unwind_tables *u)
{
	struct row_block *rows = u->n_blocks < ROW_BLOCKS ? u->area.block_new(u->area.ctx, (uint32_t)u->n_blocks)
							  : NULL;

	if (!rows)
		return false;
	block_close(u);
	u->blocks[u->n_blocks++] = (struct block){ .rows = rows };
	return true;
}

/* A place for n rows, one behind the other, within a block. NULL: none. */
static uint32_t *rows_place(struct unwind_tables *u, struct load *l, size_t n, uint32_t *ret_first)
{
	size_t i = 0;

	while (i < u->n_blocks && (!u->blocks[i].rows || BLOCK_ROWS - u->blocks[i].used < n))
		i++;
	if (i == u->n_blocks) {
		l->no_block = l->no_block || !block_open(u);
		if (l->no_block)
			return NULL;
	}
	struct block *b = &u->blocks[i];
	*ret_first = (uint32_t)i << BLOCK_ROWS_SHIFT | b->used;
	b->used += (uint32_t)n;
	return &b->rows->row[*ret_first & (BLOCK_ROWS - 1)];
}

/* The rows of one page into u->scratch. More than BLOCK_ROWS: only counted. */
static size_t page_rows(struct unwind_tables *u, struct load *l, uint64_t number)
{
	const struct cfi *c = l->cfi;
	uint64_t start = number << ROW_PAGE_SHIFT;
	uint16_t rule = l->at ? l->rules[c->rows[l->at - 1].rule] : UNWIND_RULE_NONE;
	size_t n = 0;

	if (l->at < c->n_rows && c->rows[l->at].vaddr == start)
		rule = l->rules[c->rows[l->at++].rule];
	u->scratch[n++] = rule;
	for (; l->at < c->n_rows && c->rows[l->at].vaddr >> ROW_PAGE_SHIFT == number; l->at++) {
		const struct cfi_row *row = &c->rows[l->at];
		uint16_t next = l->rules[row->rule];
		/* The rule did not fit: what stands here is not the file's. */
		if (next == RULE_OTHER && c->rules[row->rule].kind != UNWIND_OTHER)
			u->rows_refused++;
		if (next == rule)
			continue;
		rule = next;
		if (n < BLOCK_ROWS)
			u->scratch[n] = (uint32_t)(row->vaddr & LOW_MASK) << ROW_LOW_SHIFT | rule;
		n++;
	}
	return n == 1 && rule == UNWIND_RULE_NONE ? 0 : n;
}

static size_t page_fill(struct unwind_tables *u, struct load *l, uint64_t number, struct unwind_page *page)
{
	size_t n = page_rows(u, l, number);
	uint32_t first = 0;
	uint32_t *rows = n && n <= BLOCK_ROWS ? rows_place(u, l, n, &first) : NULL;

	if (!rows) {
		*page = (struct unwind_page){ 0 };
		u->rows_refused += n;
		return 0;
	}
	memcpy(rows, u->scratch, n * sizeof(*rows));
	*page = (struct unwind_page){ .first = first, .n = (uint32_t)n };
	return n;
}

/* Page numbers that the executable segments span. false: there are none. */
static bool file_span(const struct unwind_file *f, uint64_t *ret_low, uint64_t *ret_high)
{
	uint64_t low = UINT64_MAX, high = 0;

	for (size_t i = 0; i < f->n_segments; i++) {
		uint64_t first = f->segments[i].vaddr >> ROW_PAGE_SHIFT;
		uint64_t last = (f->segments[i].vaddr + f->segments[i].bytes - 1) >> ROW_PAGE_SHIFT;
		low = first < low ? first : low;
		high = last > high ? last : high;
	}
	*ret_low = low;
	*ret_high = high;
	return f->n_segments > 0;
}

/* First row at this page or behind it. */
static size_t rows_from(const struct cfi *c, uint64_t number)
{
	size_t low = 0, high = c->n_rows;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (c->rows[mid].vaddr >> ROW_PAGE_SHIFT < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void file_fill(struct unwind_tables *u, struct unwind_file *f, const struct cfi *c)
{
	uint64_t low, high;

	if (!c->n_rows || !file_span(f, &low, &high))
		return;
	/* No page of a file may stand where linked address 0 would get the number that means "no rows". */
	size_t first = (uint32_t)(u->n_pages - low) == RANGE_NO_ROWS ? u->n_pages + 1 : u->n_pages;
	size_t from = rows_from(c, low);
	if (first >= UNWIND_PAGES || high - low >= UNWIND_PAGES - first) {
		u->rows_refused += rows_from(c, high + 1) - from;
		return;
	}
	struct load l = { .cfi = c, .at = from, .rules = xcalloc(c->n_rules, sizeof(*l.rules)) };
	for (size_t i = 0; i < c->n_rules; i++)
		l.rules[i] = rule_take(u, &c->rules[i]);
	for (uint64_t number = low; number <= high; number++)
		f->n_rows += page_fill(u, &l, number, &u->area.pages[first + (number - low)]);
	free(l.rules);
	if (!f->n_rows)
		return; /* nobody knows of the pages: the next file takes them */
	u->n_pages = first + (high - low) + 1;
	u->n_rows += f->n_rows;
	u->n_loaded++;
	f->page = (uint32_t)(first - low);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* all of it before the ranges that lead to it */
}

/* ---- files ---- */

/* A file that is met under a new key. */
static const struct unwind_file *file_meet(struct unwind_tables *u, const struct image *im)
{
	struct identity_entry *known = NULL;
	struct cfi cfi = { 0 };
	XXH128_hash_t identity;
	size_t n;
	_cleanup_(freep) Elf64_Phdr *headers = headers_read(im, &n);

	if (!headers)
		return u->nothing;
	bool has_identity = identity_of(im, headers, n, &identity);
	if (has_identity)
		HASH_FIND(hh, u->by_identity, &identity, sizeof(identity), known);
	if (known)
		return known->file;
	struct unwind_file *f = file_new(u);
	segments_take(f, headers, n, im->bytes);
	/* Errors mean what no information means: the file has no rows. */
	if (!(im->mem ? cfi_build_mem(im->mem, im->bytes, &cfi) : cfi_build(im->fd, &cfi))) {
		file_fill(u, f, &cfi);
		cfi_done(&cfi);
	}
	if (has_identity) {
		known = xcalloc(1, sizeof(*known));
		known->identity = identity;
		known->file = f;
		HASH_ADD(hh, u->by_identity, identity, sizeof(known->identity), known);
	}
	return f;
}

const struct unwind_file *unwind_take_file(struct unwind_tables *u, int fd, const struct unwind_key *key)
{
	struct key_entry *e;
	struct stat st;

	HASH_FIND(hh, u->by_key, key, sizeof(*key), e);
	if (e)
		return e->file;
	if (fd < 0)
		return NULL;
	if (HASH_COUNT(u->by_key) >= FILES_MAX || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return u->nothing;
	struct image im = { .fd = fd, .bytes = (uint64_t)st.st_size };
	e = xcalloc(1, sizeof(*e));
	e->key = *key;
	e->file = file_meet(u, &im);
	HASH_ADD(hh, u->by_key, key, sizeof(e->key), e);
	return e->file;
}

const struct unwind_file *unwind_take_vdso(struct unwind_tables *u)
{
	struct mappings maps = { 0 };

	if (u->vdso)
		return u->vdso;
	uint64_t start = getauxval(AT_SYSINFO_EHDR);
	if (start && mappings_read((uint32_t)getpid(), &maps))
		return u->nothing; /* for now */
	u->vdso = u->nothing;
	const struct mapping *m = start ? mappings_find(&maps, start) : NULL;
	if (m && m->start == start) {
		struct image im = { .fd = -1, .mem = (const uint8_t *)(uintptr_t)start, .bytes = m->end - start };
		u->vdso = file_meet(u, &im);
	}
	mappings_done(&maps);
	return u->vdso;
}

/* ---- ranges ---- */

uint64_t unwind_put_ranges(struct unwind_tables *u, const struct unwind_range *ranges, size_t n)
{
	return runs_put(u->runs, ranges, n);
}

void unwind_hold_ranges(struct unwind_tables *u, uint64_t layout)
{
	runs_hold(u->runs, layout);
}

void unwind_drop_ranges(struct unwind_tables *u, uint64_t layout)
{
	runs_drop(u->runs, layout);
}

void unwind_settle(struct unwind_tables *u)
{
	runs_settle(u->runs);
}

struct unwind_stats unwind_stats(const struct unwind_tables *u)
{
	return (struct unwind_stats){
		.files = u->n_loaded,
		.rows = u->n_rows,
		.rules = u->n_rules,
		.pages = u->n_pages,
		.blocks = u->n_blocks,
		.ranges = runs_used(u->runs),
		.rows_refused = u->rows_refused,
	};
}
