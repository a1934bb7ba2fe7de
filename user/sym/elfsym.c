/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/elfsym.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/mem.h"

#define SOURCES_MAX 3
#define SYMBOLS_MAX (1u << 20) /* 16 MB; Chromium has about 0.6 million functions */
#define COPIED_NAMES_MAX (16u << 20)
#define BACK_MAX 256 /* symbols before an address that are tried for one that reaches over it */
#define ALIASES_MAX 64
#define CHUNK 1024 /* symbols read at once */

struct entry {
	uint32_t off; /* from base */
	uint32_t bytes;
	uint32_t name; /* in the string table of its source */
	uint8_t source;
	uint8_t bind;
	bool is_label;	 /* no type: a label of assembly code */
	bool is_guessed; /* size 0 in the file: reaches to the next symbol, at most to the section's end */
};

struct source {
	int fd; /* -1: copied */
	char *mem;
	uint64_t off, bytes; /* the string table */
};

struct elfsym {
	uint64_t base;
	struct entry *entries;
	size_t n, cap;
	struct source sources[SOURCES_MAX];
	size_t n_sources;
	size_t copied_bytes;
	bool is_cut; /* too many symbols: what has no size is not trusted */
};

struct elfsym *elfsym_new(void)
{
	return xcalloc(1, sizeof(struct elfsym));
}

void elfsym_free(struct elfsym *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n_sources; i++) {
		closep(&t->sources[i].fd);
		free(t->sources[i].mem);
	}
	free(t->entries);
	free(t);
}

size_t elfsym_bytes(const struct elfsym *t)
{
	return sizeof(*t) + t->cap * sizeof(struct entry) + t->copied_bytes;
}

/*
 * Offsets are kept in 32 bits, counted from where the module is linked (position-dependent files: 0x400000 and
 * others).
 */
static uint64_t linked_base(const struct elfimg *e)
{
	uint64_t base = UINT64_MAX;

	for (size_t i = 1; i < e->n_sections; i++) {
		const Elf64_Shdr *sh = &e->sections[i];
		if ((sh->sh_flags & SHF_ALLOC) && !(sh->sh_flags & SHF_TLS) && sh->sh_addr < base)
			base = sh->sh_addr;
	}
	return base == UINT64_MAX ? 0 : base;
}

static bool is_function(const struct elfimg *e, const Elf64_Sym *s)
{
	unsigned int type = ELF64_ST_TYPE(s->st_info);

	if (s->st_shndx == SHN_UNDEF || s->st_shndx >= e->n_sections || !s->st_name)
		return false;
	if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
		return false;
	return e->sections[s->st_shndx].sh_flags & SHF_EXECINSTR;
}

static void add_symbol(struct elfsym *t, const struct elfimg *e, const Elf64_Sym *s, size_t source)
{
	const Elf64_Shdr *sh = &e->sections[s->st_shndx];
	uint64_t bytes = s->st_size;

	if (s->st_value < t->base || s->st_value - t->base > UINT32_MAX)
		return;
	if (s->st_value < sh->sh_addr || s->st_value - sh->sh_addr >= sh->sh_size)
		return;
	if (t->n >= SYMBOLS_MAX) {
		t->is_cut = true;
		return;
	}
	uint64_t room = sh->sh_size - (s->st_value - sh->sh_addr);
	if (!bytes || bytes > room)
		bytes = room;
	t->entries = grow_to(t->entries, &t->cap, t->n + 1, sizeof(*t->entries));
	t->entries[t->n++] = (struct entry){
		.off = (uint32_t)(s->st_value - t->base),
		.bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes,
		.name = s->st_name,
		.source = (uint8_t)source,
		.bind = ELF64_ST_BIND(s->st_info),
		.is_label = ELF64_ST_TYPE(s->st_info) == STT_NOTYPE,
		.is_guessed = !s->st_size,
	};
}

static void read_symbols(struct elfsym *t, const struct elfimg *e, const Elf64_Shdr *sh, size_t source)
{
	_cleanup_(freep) Elf64_Sym *buf = xcalloc(CHUNK, sizeof(*buf));
	uint64_t left = sh->sh_size / sizeof(*buf), off = sh->sh_offset;

	while (left) {
		size_t want = left < CHUNK ? left : CHUNK;
		size_t got = elfimg_read(e, off, buf, want * sizeof(*buf)) / sizeof(*buf);
		for (size_t i = 0; i < got; i++)
			if (is_function(e, &buf[i]))
				add_symbol(t, e, &buf[i], source);
		if (got < want)
			return;
		left -= got;
		off += got * sizeof(*buf);
	}
}

static int add_source(struct elfsym *t, const struct elfimg *e, const Elf64_Shdr *str, int *fd)
{
	struct source src = { .fd = *fd, .off = str->sh_offset, .bytes = str->sh_size };
	size_t len;

	if (t->n_sources == SOURCES_MAX)
		return -ENOSPC;
	if (str->sh_offset > e->size || str->sh_size > e->size - str->sh_offset)
		return -EBADMSG;
	if (*fd < 0) {
		int r = elfimg_load(e, str, COPIED_NAMES_MAX, &src.mem, &len);
		if (r < 0)
			return r;
		t->copied_bytes += len;
	}
	*fd = -1;
	t->sources[t->n_sources++] = src;
	return 0;
}

int elfsym_add(struct elfsym *t, const struct elfimg *e, const char *section, int keep_fd)
{
	_cleanup_(closep) int fd = keep_fd;
	const Elf64_Shdr *sh = elfimg_section(e, section);
	size_t before = t->n;

	if (!sh)
		return -ENOENT;
	if (sh->sh_entsize != sizeof(Elf64_Sym) || sh->sh_link >= e->n_sections)
		return -EBADMSG;
	if (!t->n)
		t->base = linked_base(e);
	int r = add_source(t, e, &e->sections[sh->sh_link], &fd);
	if (r < 0)
		return r;
	read_symbols(t, e, sh, t->n_sources - 1);
	return (int)(t->n - before);
}

static int by_offset(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;

	if (a->off != b->off)
		return a->off < b->off ? -1 : 1;
	if (a->source != b->source)
		return a->source < b->source ? -1 : 1;
	return a->name < b->name ? -1 : a->name > b->name;
}

void elfsym_seal(struct elfsym *t)
{
	uint64_t next = UINT64_MAX, here = UINT64_MAX;

	if (!t->n)
		return;
	qsort(t->entries, t->n, sizeof(*t->entries), by_offset);
	for (size_t i = t->n; i-- > 0;) {
		struct entry *s = &t->entries[i];
		if (s->off != here) {
			next = here;
			here = s->off;
		}
		if (s->is_guessed && next != UINT64_MAX && next - s->off < s->bytes)
			s->bytes = (uint32_t)(next - s->off);
	}
	t->entries = xrealloc(t->entries, t->n, sizeof(*t->entries));
	t->cap = t->n;
}

/* Index after the last entry that starts at or before `off`. */
static size_t upper(const struct elfsym *t, uint32_t off)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (t->entries[mid].off <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/*
 * The nearest sized function that covers the offset; else the nearest guess. Labels inside of a function don't hide
 * it.
 */
static const struct entry *covering(const struct elfsym *t, uint32_t off)
{
	const struct entry *guess = NULL;
	size_t i = upper(t, off), stop = i > BACK_MAX ? i - BACK_MAX : 0;

	while (i-- > stop) {
		const struct entry *s = &t->entries[i];
		if (off - s->off >= s->bytes)
			continue;
		if (!s->is_guessed && !s->is_label)
			return s;
		if (!guess && !(s->is_guessed && t->is_cut))
			guess = s;
	}
	return guess;
}

static void read_name(const struct elfsym *t, const struct entry *s, char ret[SYM_NAME_CAP])
{
	const struct source *src = &t->sources[s->source];
	size_t used = 0, step = 256;

	ret[0] = 0;
	if (s->name >= src->bytes)
		return;
	uint64_t room = src->bytes - s->name;
	if (room > SYM_NAME_CAP - 1)
		room = SYM_NAME_CAP - 1;
	if (src->fd < 0) {
		size_t len = strnlen(src->mem + s->name, room);
		memcpy(ret, src->mem + s->name, len);
		ret[len] = 0;
		return;
	}
	while (used < room) {
		size_t want = room - used < step ? room - used : step;
		ssize_t got = pread(src->fd, ret + used, want, (off_t)(src->off + s->name + used));
		if (got <= 0)
			break;
		if (memchr(ret + used, 0, (size_t)got))
			return;
		used += (size_t)got;
		step *= 4;
	}
	ret[used] = 0;
}

struct candidate {
	bool is_local, is_label, is_weak;
	size_t underscores, len;
	char name[SYM_NAME_CAP];
};

static void candidate_fill(struct candidate *c, const struct elfsym *t, const struct entry *s)
{
	read_name(t, s, c->name);
	/* ld writes the version into .symtab names: "memcpy@@GLIBC_2.14". */
	char *at = strchr(c->name, '@');
	if (at && at > c->name)
		*at = 0;
	c->is_local = s->bind == STB_LOCAL;
	c->is_weak = s->bind == STB_WEAK;
	c->is_label = s->is_label;
	c->underscores = strspn(c->name, "_");
	c->len = strlen(c->name);
}

/*
 * The name that people know: exported, without underscores ("malloc", not "__libc_malloc"). Total order, so the
 * choice is stable.
 */
static bool is_better(const struct candidate *a, const struct candidate *b)
{
	if (!a->len || !b->len)
		return a->len > b->len;
	if (a->is_label != b->is_label)
		return b->is_label;
	if (a->is_local != b->is_local)
		return b->is_local;
	if (a->underscores != b->underscores)
		return a->underscores < b->underscores;
	if (a->is_weak != b->is_weak)
		return b->is_weak;
	if (a->len != b->len)
		return a->len < b->len;
	return strcmp(a->name, b->name) < 0;
}

int elfsym_find(const struct elfsym *t, uint64_t addr, char ret[SYM_NAME_CAP])
{
	_cleanup_(freep) struct candidate *best = NULL, *next = NULL;

	if (addr < t->base || addr - t->base > UINT32_MAX)
		return -ENOENT;
	const struct entry *s = covering(t, (uint32_t)(addr - t->base));
	if (!s)
		return -ENOENT;
	const struct entry *first = s, *end = t->entries + t->n;
	while (first > t->entries && first[-1].off == s->off && s - first < ALIASES_MAX)
		first--;
	best = xcalloc(1, sizeof(*best));
	next = xcalloc(1, sizeof(*next));
	for (size_t i = 0; first + i < end && first[i].off == s->off && i < ALIASES_MAX; i++) {
		if (addr - t->base - first[i].off >= first[i].bytes)
			continue;
		candidate_fill(next, t, &first[i]);
		if (is_better(next, best)) {
			struct candidate *swap = best;
			best = next;
			next = swap;
		}
	}
	if (!best->len)
		return -ENOENT;
	memcpy(ret, best->name, best->len + 1);
	return 0;
}
