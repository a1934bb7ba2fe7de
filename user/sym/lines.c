/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layout of one answer: the line table gives file and line of the address itself; every DW_TAG_inlined_subroutine
 * around it says where it was called from, so frame i has its name from inlined call i and its place from the call
 * inside of it:
 *
 *	frames[0]  name of inlined call n    place: line table
 *	frames[1]  name of inlined call n-1  place: call_file/call_line of inlined call n
 *	frames[n]  name of the function      place: call_file/call_line of inlined call 1
 */
#include "sym/lines.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <libelf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sym/debugfile.h"
#include "sym/elfimg.h"
#include "sym/lines_index.h"
#include "util/mem.h"

#define PACKED_MAX (64u << 20)	    /* compressed sections, unpacked: they lie on our heap */
#define LINE_PROGRAM_MAX (8u << 20) /* of one unit; a byte can make a row of 48 bytes */
#define ROW_BYTES 56		    /* libdw 0.188: sizeof(Dwarf_Line_s) and its pointer */
#define UNIT_BYTES 16384	    /* files, abbreviations; roughly */
#define UNIT_SEEN_BYTES \
	1800 /* libdw 0.188, measured on glibc's debug file: what every unit leaves that was only listed */
#define STRING_MAX 16384
#define UNITS_KEPT 16
#define INDEX_BATCH 64
#define DIES_PER_UNIT_MAX (8u << 20)
#define DIES_PER_LOOKUP_MAX (1u << 20)
#define NESTING_MAX 64
#define UNMAP_EVERY 8

/* A file in memory as libelf wants it. */
struct image {
	char *mem; /* NULL: none */
	size_t len;
	size_t headers, headers_end; /* pages of the section headers, which are changed in memory */
	Elf *elf;
	Dwarf *dw;
};

/* A compilation unit that was looked into. */
struct unit {
	Dwarf_Off off; /* 0: unused slot */
	Dwarf_Die cu;
	struct spans funcs; /* item: index in func_offs */
	Dwarf_Off *func_offs;
	size_t n_funcs, cap_funcs;
	size_t dies_left;
	Dwarf_Files *files; /* NULL: no usable line table */
	uint64_t used;	    /* for eviction */
};

struct lines {
	int fd; /* to see that the file keeps its size */
	struct image main, alt;
	const Elf_Data *line_data;
	struct lines_index *index; /* borrowed */
	const atomic_bool *stop;   /* borrowed */
	struct unit units[UNITS_KEPT];
	uint64_t clock, bytes;
};

void line_result_done(struct line_result *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->frames[i].name);
		free(r->frames[i].file);
	}
	r->n = 0;
}

static void image_done(struct image *m)
{
	if (m->dw)
		(void)dwarf_end(m->dw); /* read only */
	if (m->elf)
		(void)elf_end(m->elf); /* a reference count */
	if (m->mem)
		(void)munmap(m->mem, m->len); /* our own mapping */
	*m = (struct image){ 0 };
}

/*
 * Clean pages of a private file mapping come back from the page cache when they are needed again; changed ones would
 * be lost.
 */
static void image_drop_pages(const struct image *m)
{
	if (!m->mem)
		return;
	(void)madvise(m->mem, m->headers, MADV_DONTNEED); /* only saves memory */
	if (m->headers_end < m->len)
		(void)madvise(m->mem + m->headers_end, m->len - m->headers_end, MADV_DONTNEED);
}

static void find_headers(struct image *m)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n;
	Elf64_Ehdr eh;

	m->headers_end = m->len;
	if (m->len < sizeof(eh))
		return;
	memcpy(&eh, m->mem, sizeof(eh));
	if (eh.e_shoff >= m->len)
		return;
	/* e_shnum 0: 0xff00 sections or more, the number is in the first one; then all up to the end is kept. */
	n = eh.e_shnum ? (size_t)eh.e_shnum * sizeof(Elf64_Shdr) : m->len;
	m->headers = eh.e_shoff & ~(page - 1);
	if (n < m->len - eh.e_shoff)
		m->headers_end = (eh.e_shoff + n + page - 1) & ~(page - 1);
}

/* What names and lines don't need would only be unpacked onto the heap. Our names begin these sections' names. */
static bool is_unused(const char *name)
{
	static const char *const unused[] = { ".debug_loc", ".debug_aranges", ".debug_macro",
					      ".debug_pub", ".debug_gnu_pub", ".debug_frame" };

	for (size_t i = 0; i < ARRAY_SIZE(unused); i++)
		if (!strncmp(name, unused[i], strlen(unused[i])))
			return true;
	return false;
}

uint64_t lines_packed_bytes(const struct elfimg *img)
{
	uint64_t sum = 0;

	for (size_t i = 1; i < img->n_sections; i++) {
		const Elf64_Shdr *sh = &img->sections[i];
		if (is_unused(elfimg_section_name(img, sh)))
			continue;
		if (__builtin_add_overflow(sum, elfimg_unpacked_bytes(img, sh), &sum))
			return UINT64_MAX;
	}
	return sum;
}

static void hide_unused(const struct image *m, const struct elfimg *img)
{
	static const Elf64_Word nobits = SHT_NOBITS;

	for (size_t i = 1; i < img->n_sections; i++) {
		uint64_t at = img->sections_off + i * sizeof(Elf64_Shdr) + offsetof(Elf64_Shdr, sh_type);
		/* The file may have shrunk since its headers were read. */
		if (at + sizeof(nobits) <= m->len && is_unused(elfimg_section_name(img, &img->sections[i])))
			memcpy(m->mem + at, &nobits, sizeof(nobits));
	}
}

static int image_init(struct image *m, int fd)
{
	_cleanup_(elfimg_done) struct elfimg img = { .fd = -1 };
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return -EIO;
	struct image new = { .len = (size_t)st.st_size };
	/* Writable, privately: elf_compress of libelf 0.188 changes the section headers where they lie. */
	new.mem = mmap(NULL, new.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (new.mem == MAP_FAILED)
		return -EIO;
	find_headers(&new);
	if (elfimg_open(fd, &img) == 0)
		hide_unused(&new, &img);
	new.elf = elf_memory(new.mem, new.len);
	if (new.elf)
		new.dw = dwarf_begin_elf(new.elf, DWARF_C_READ, NULL);
	if (!new.dw) {
		image_done(&new);
		return -ENOENT;
	}
	image_drop_pages(&new); /* what was compressed is unpacked now */
	*m = new;
	return 0;
}

static const Elf_Data *section_data(Elf *elf, const char *name)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	size_t names;

	if (elf_getshdrstrndx(elf, &names) < 0)
		return NULL;
	while ((scn = elf_nextscn(elf, scn))) {
		const char *s = gelf_getshdr(scn, &sh) ? elf_strptr(elf, names, sh.sh_name) : NULL;
		if (s && !strcmp(s, name))
			return elf_getdata(scn, NULL);
	}
	return NULL;
}

static void unit_done(struct unit *u)
{
	free(u->funcs.items);
	free(u->func_offs);
	*u = (struct unit){ 0 };
}

void lines_free(struct lines *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < UNITS_KEPT; i++)
		unit_done(&l->units[i]);
	image_done(&l->main);
	image_done(&l->alt);
	closep(&l->fd);
	free(l);
}

uint64_t lines_bytes(const struct lines *l)
{
	return l->bytes;
}

/*
 * dwz moves what several files share into one more file. Without it the DWARF can't be read; libdw itself would open
 * any path that the section names.
 */
static int open_alt(struct lines *l, const char *open_path)
{
	const char *name;
	const void *id;
	char hex[BUILD_ID_HEX_CAP];
	_cleanup_(freep) char *path = NULL;
	ssize_t len = dwelf_dwarf_gnu_debugaltlink(l->main.dw, &name, &id);

	if (len == 0)
		return 0;
	if (len < 0 || (size_t)len * 2 >= sizeof(hex))
		return -ENOENT;
	for (ssize_t i = 0; i < len; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", ((const unsigned char *)id)[i]); /* fits: checked above */
	_cleanup_(closep) int fd = debugfile_open_alt(hex, name, open_path, &path);
	if (fd < 0)
		return -ENOENT;
	int r = image_init(&l->alt, fd);
	if (!r)
		dwarf_setalt(l->main.dw, l->alt.dw);
	return r;
}

static int open_images(struct lines *l, const char *open_path)
{
	_cleanup_(elfimg_done) struct elfimg img = { .fd = -1 };
	int r = elfimg_open(l->fd, &img);

	if (r < 0 || !elfimg_section(&img, ".debug_info"))
		return -ENOENT;
	l->bytes = lines_packed_bytes(&img);
	if (l->bytes > PACKED_MAX)
		return -EFBIG;
	r = image_init(&l->main, l->fd);
	if (!r)
		r = open_alt(l, open_path);
	if (!r)
		l->line_data = section_data(l->main.elf, ".debug_line");
	return r;
}

static void lines_freep(struct lines **l)
{
	lines_free(*l);
}

int lines_open(const struct lines_query *q, struct lines **ret)
{
	_cleanup_(lines_freep) struct lines *l = xcalloc(1, sizeof(*l));

	l->index = q->index;
	l->stop = q->stop;
	l->fd = fcntl(q->fd, F_DUPFD_CLOEXEC, 0);
	if (l->fd < 0 || elf_version(EV_CURRENT) == EV_NONE)
		return -EIO;
	int r = open_images(l, q->open_path);
	if (r < 0)
		return r;
	*ret = l;
	l = NULL;
	return 0;
}

static void add_func(struct unit *u, Dwarf_Die *die)
{
	size_t before = u->funcs.n;

	spans_add_die(&u->funcs, die, (uint32_t)u->n_funcs);
	if (u->funcs.n == before)
		return; /* a declaration or an abstract instance */
	u->func_offs = grow_to(u->func_offs, &u->cap_funcs, u->n_funcs + 1, sizeof(*u->func_offs));
	u->func_offs[u->n_funcs++] = dwarf_dieoffset(die);
}

static bool may_hold_functions(int tag)
{
	static const int tags[] = { DW_TAG_namespace, DW_TAG_module, DW_TAG_structure_type, DW_TAG_class_type,
				    DW_TAG_union_type };

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (tag == tags[i])
			return true;
	return false;
}

static void scan_functions(struct unit *u, Dwarf_Die *parent, unsigned int depth, const atomic_bool *stop)
{
	Dwarf_Die die;

	if (depth > NESTING_MAX || dwarf_child(parent, &die) != 0)
		return;
	do {
		if (!u->dies_left || atomic_load_explicit(stop, memory_order_relaxed))
			return;
		u->dies_left--;
		int tag = dwarf_tag(&die);
		if (tag == DW_TAG_subprogram)
			add_func(u, &die);
		else if (may_hold_functions(tag))
			scan_functions(u, &die, depth + 1, stop);
	} while (dwarf_siblingof(&die, &die) == 0);
}

/* The header of a line program starts with its length, 4 bytes, or 0xffffffff and 8 bytes (DWARF 5, 7.4). */
static bool has_bounded_lines(const struct lines *l, Dwarf_Die *cu)
{
	Dwarf_Attribute mem;
	Dwarf_Word off;
	uint32_t len;

	if (!l->line_data || dwarf_formudata(dwarf_attr(cu, DW_AT_stmt_list, &mem), &off) != 0)
		return false;
	if (off > l->line_data->d_size || l->line_data->d_size - off < sizeof(len))
		return false;
	memcpy(&len, (const char *)l->line_data->d_buf + off, sizeof(len));
	return len <= LINE_PROGRAM_MAX;
}

static void read_lines(struct lines *l, struct unit *u)
{
	Dwarf_Lines *rows;
	size_t n_rows, n_files;

	if (!has_bounded_lines(l, &u->cu) || dwarf_getsrclines(&u->cu, &rows, &n_rows) != 0)
		return;
	l->bytes += n_rows * ROW_BYTES + UNIT_BYTES;
	if (dwarf_getsrcfiles(&u->cu, &u->files, &n_files) != 0)
		u->files = NULL;
}

static struct unit *unit_get(struct lines *l, Dwarf_Off off)
{
	struct unit *oldest = &l->units[0];

	l->clock++;
	for (size_t i = 0; i < UNITS_KEPT; i++) {
		struct unit *u = &l->units[i];
		if (u->off == off) {
			u->used = l->clock;
			return u;
		}
		if (u->used < oldest->used)
			oldest = u;
	}
	unit_done(oldest);
	if (!dwarf_offdie(l->main.dw, off, &oldest->cu))
		return NULL;
	oldest->off = off;
	oldest->used = l->clock;
	oldest->dies_left = DIES_PER_UNIT_MAX;
	scan_functions(oldest, &oldest->cu, 0, l->stop);
	spans_sort(&oldest->funcs);
	read_lines(l, oldest);
	l->bytes += oldest->funcs.cap * sizeof(struct span) + oldest->cap_funcs * sizeof(Dwarf_Off);
	return oldest;
}

static char *copy(const char *s)
{
	return s && *s ? xstrndup(s, STRING_MAX) : NULL;
}

/*
 * Relative names (Rust's library, DWARF 5) count from the unit's directory, unless that was made relative itself
 * (-ffile-prefix-map).
 */
static char *copy_path(const struct unit *u, const char *path)
{
	Dwarf_Attribute mem;
	Dwarf_Die cu = u->cu;

	if (!path || !*path)
		return NULL;
	const char *dir = path[0] == '/' ? NULL : dwarf_formstring(dwarf_attr(&cu, DW_AT_comp_dir, &mem));
	if (!dir || dir[0] != '/')
		return copy(path);
	return xasprintf("%.*s/%.*s", STRING_MAX, dir, STRING_MAX, path);
}

static char *die_name(Dwarf_Die *die)
{
	static const unsigned int attrs[] = { DW_AT_linkage_name, DW_AT_MIPS_linkage_name, DW_AT_name };
	Dwarf_Attribute mem;

	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		const char *s = dwarf_formstring(dwarf_attr_integrate(die, attrs[i], &mem));
		if (s && *s)
			return copy(s);
	}
	return NULL;
}

static uint32_t bounded_line(Dwarf_Word line)
{
	return line <= UINT32_MAX ? (uint32_t)line : 0;
}

static void place_of_call(const struct unit *u, Dwarf_Die *inlined, struct line_frame *ret)
{
	Dwarf_Attribute mem;
	Dwarf_Word n;

	if (u->files && dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &mem), &n) == 0)
		ret->file = copy_path(u, dwarf_filesrc(u->files, n, NULL, NULL));
	if (ret->file && dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &mem), &n) == 0)
		ret->line = bounded_line(n);
}

static void place_of_address(struct unit *u, uint64_t addr, struct line_frame *ret)
{
	Dwarf_Line *row = u->files ? dwarf_getsrc_die(&u->cu, addr) : NULL;
	int line;

	if (!row)
		return;
	ret->file = copy_path(u, dwarf_linesrc(row, NULL, NULL));
	if (ret->file && dwarf_lineno(row, &line) == 0 && line > 0)
		ret->line = (uint32_t)line;
}

static bool is_block(int tag)
{
	return tag == DW_TAG_inlined_subroutine || tag == DW_TAG_lexical_block || tag == DW_TAG_try_block ||
	       tag == DW_TAG_catch_block;
}

/* The child that holds the address and may hold inlined calls. */
static bool step_inward(Dwarf_Die *die, uint64_t addr, size_t *dies_left)
{
	Dwarf_Die child;

	if (dwarf_child(die, &child) != 0)
		return false;
	do {
		if (!*dies_left)
			return false;
		--*dies_left;
		if (is_block(dwarf_tag(&child)) && dwarf_haspc(&child, addr) > 0) {
			*die = child;
			return true;
		}
	} while (dwarf_siblingof(&child, &child) == 0);
	return false;
}

/* Inlined calls around the address, outermost first. */
static size_t inlined_calls(Dwarf_Die func, uint64_t addr, Dwarf_Die ret[LINES_FRAMES_MAX])
{
	size_t n = 0, dies_left = DIES_PER_LOOKUP_MAX;
	Dwarf_Die die = func;

	for (size_t depth = 0; depth < 4 * NESTING_MAX && n < LINES_FRAMES_MAX - 1; depth++) {
		if (!step_inward(&die, addr, &dies_left))
			break;
		if (dwarf_tag(&die) == DW_TAG_inlined_subroutine)
			ret[n++] = die;
	}
	return n;
}

static int find_in_unit(struct lines *l, struct unit *u, uint64_t addr, struct line_result *ret)
{
	struct line_result res = { .n = 1 };
	Dwarf_Die func, calls[LINES_FRAMES_MAX];
	const struct span *s = spans_find(&u->funcs, addr);

	place_of_address(u, addr, &res.frames[0]);
	if (s && dwarf_offdie(l->main.dw, u->func_offs[s->item], &func)) {
		size_t n = inlined_calls(func, addr, calls);
		for (size_t i = 0; i < n; i++) {
			Dwarf_Die *call = &calls[n - 1 - i];
			res.frames[i].name = die_name(call);
			place_of_call(u, call, &res.frames[i + 1]);
		}
		res.frames[n].name = die_name(&func);
		res.n = n + 1;
	}
	if (res.n == 1 && !res.frames[0].name && !res.frames[0].file)
		return -ENOENT;
	*ret = res;
	return 0;
}

static int complete_index(struct lines *l)
{
	while (!lines_index_is_complete(l->index)) {
		if (atomic_load(l->stop))
			return -EAGAIN;
		(void)lines_index_step(l->index, l->main.dw, INDEX_BATCH); /* asked again above */
		l->bytes += INDEX_BATCH * UNIT_SEEN_BYTES;
		image_drop_pages(&l->main);
	}
	return 0;
}

int lines_find(struct lines *l, uint64_t addr, struct line_result *ret)
{
	struct stat st;
	Dwarf_Off off;

	/* A file that became shorter would raise SIGBUS below. */
	if (fstat(l->fd, &st) < 0 || (uint64_t)st.st_size < l->main.len)
		return -ESTALE;
	int r = complete_index(l);
	if (r < 0)
		return r;
	if (lines_index_find(l->index, addr, &off) < 0)
		return -ENOENT;
	struct unit *u = unit_get(l, off);
	r = u ? find_in_unit(l, u, addr, ret) : -ENOENT;
	if (l->clock % UNMAP_EVERY == 0) {
		image_drop_pages(&l->main);
		image_drop_pages(&l->alt);
	}
	return r;
}
