/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The eval loop in a file. One function of the source, but in the file
 *
 *	_PyEval_EvalFrameDefault	exported; with its size in .dynsym, also of stripped files
 *	_PyEval_EvalFrameDefault.cold	a part that the compiler moved away: 4 bytes, or all but 1 KiB of it (Debian's 3.13 and 3.14)
 *	_TAIL_CALL_*			3.14 where built so: each instruction a function, which jumps to the next one's through a table
 *
 * A file that has .symtab tells all of them. In a stripped one the parts are found by what no other function has:
 *
 *	- Their call frame information starts in the middle: at its first address a part has a frame already, a function never has. So the first
 *	  thing that a part's FDE does is to say where the frame is; a function's moves on to the push or sub that makes it.
 *	- They jump into the middle of the loop, or the loop jumps to their first byte.
 *
 * Jumps are looked for at every byte, which is cheap and finds too much: parts of all functions lie close together, so that any four bytes may lead to
 * one. Those few that would matter are then looked at again by decoding their function from its start.
 *
 * Parts without a frame of their own (reached before the loop has made it) have to jump back twice. Instructions as functions are known by the table:
 * 256 pointers in the memory of the process, each to the start of a function.
 */
#include "probe/pyeval.h"

#include <capstone/capstone.h>
#include <string.h>

#include "probe/cfi_entry.h"
#include "probe/cfi_image.h"
#include "target/dynsym.h"
#include "target/elf.h"
#include "util/mem.h"

#define CODE_MAX (1u << 20)  /* of one function; eval loops have 35 to 90 KB */
#define INSTRUCTIONS 256     /* in a table */
#define DISTINCT_MIN 64	     /* functions in it; CPython 3.14 has some 220 */
#define TABLES_MAX 8192	     /* places that are tried */
#define TEXT_MAX (64u << 20) /* code of a file; libpython has 3 to 5 MB */
#define JUMPS_MAX 4096	     /* of one function that are looked at */
#define ALIGNMENT 16	     /* of functions: a gap smaller than that holds none */
#define LOOP "_PyEval_EvalFrameDefault"
#define TAIL_CALL "_TAIL_CALL_"

enum mark { MARK_NONE, MARK_LOOP, MARK_INSTRUCTION };

struct ranges {
	struct py_eval_range *items;
	size_t n, cap;
};

struct jump {
	size_t at; /* from the start of its FDE */
	uint64_t to;
};

struct finder {
	const struct pyeval_query *q;
	struct elf_file e;
	struct cfi_image im;
	struct cfi_entries fdes;
	uint8_t *marks; /* enum mark, one per FDE */
	uint8_t *text;	/* from e.text_start on */
	size_t text_bytes;
	struct jump *jumps; /* JUMPS_MAX */
	size_t tables;	    /* tried so far */
	csh decoder;
	cs_insn *insn;
};

static void finder_done(struct finder *f)
{
	elf_done(&f->e);
	cfi_image_done(&f->im);
	cfi_entries_done(&f->fdes);
	free(f->marks);
	free(f->text);
	free(f->jumps);
	if (f->insn)
		cs_free(f->insn, 1);
	if (f->decoder)
		(void)cs_close(&f->decoder); /* was open */
}

/* --- call frame information --- */

/* Index of the FDE that holds an address; n_fdes: none does. */
static size_t fde_at(const struct finder *f, uint64_t vaddr)
{
	size_t low = 0, high = f->fdes.n_fdes;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (f->fdes.fdes[mid].start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	return low && vaddr < f->fdes.fdes[low - 1].end ? low - 1 : f->fdes.n_fdes;
}

static bool fde_starts_at(const struct finder *f, uint64_t vaddr)
{
	size_t i = fde_at(f, vaddr);

	return i < f->fdes.n_fdes && f->fdes.fdes[i].start == vaddr;
}

/* Says its first call frame instruction where the frame is? DWARF 5, 6.4.2: def_cfa* (0x0c-0x0f, 0x12, 0x13), offset (0x80-0xbf). */
static bool fde_is_part(const struct finder *f, const struct cfi_fde *fde)
{
	uint8_t op = 0;

	if (fde->program < fde->program_end && fde->program < f->im.eh.bytes)
		op = f->im.eh.data[fde->program];
	return (op >= 0x0c && op <= 0x0f) || op == 0x12 || op == 0x13 || (op & 0xc0) == 0x80;
}

/* --- code --- */

/* Code of an FDE, *ret_n bytes of it. */
static const uint8_t *code_of(const struct finder *f, const struct cfi_fde *fde, size_t *ret_n)
{
	uint64_t at = fde->start - f->e.text_start, n = fde->end - fde->start;

	if (fde->start < f->e.text_start || at > f->text_bytes || n > f->text_bytes - at)
		n = at = 0;
	*ret_n = n < CODE_MAX ? (size_t)n : CODE_MAX;
	return f->text + at;
}

static uint64_t relative(const uint8_t *disp, uint64_t next)
{
	int32_t d;

	memcpy(&d, disp, sizeof(d));
	return next + (uint64_t)(int64_t)d;
}

/* Would these bytes be jmp rel32 or jcc rel32? */
static bool jump_at(const uint8_t *p, size_t left, uint64_t vaddr, uint64_t *ret)
{
	if (left >= 5 && p[0] == 0xe9)
		*ret = relative(p + 1, vaddr + 5);
	else if (left >= 6 && p[0] == 0x0f && (p[1] & 0xf0) == 0x80)
		*ret = relative(p + 2, vaddr + 6);
	else
		return false;
	return true;
}

/* Keeps of f->jumps those that are instructions; before the opcode may stand bnd or a branch hint. */
static size_t confirm_jumps(struct finder *f, const struct cfi_fde *fde, size_t n_jumps)
{
	size_t left, kept = 0, i = 0;
	const uint8_t *from = code_of(f, fde, &left), *p = from;
	uint64_t addr = fde->start;

	while (i < n_jumps && left) {
		size_t at = (size_t)(p - from);
		while (i < n_jumps && f->jumps[i].at < at)
			i++;
		if (i < n_jumps &&
		    (f->jumps[i].at == at || (f->jumps[i].at == at + 1 && strchr("\xf2\x2e\x3e", *p) && *p)))
			f->jumps[kept++] = f->jumps[i++];
		if (!cs_disasm_iter(f->decoder, &p, &left, &addr, f->insn)) {
			p++;
			left--;
			addr++;
		}
	}
	return kept;
}

/* Which jumps out of an FDE matter. */
enum into {
	INTO_MARKED, /* to the middle of what is marked */
	INTO_START,  /* to the start of what is not: a function */
	INTO_PART,   /* the same: a part that has a frame already */
	INTO_OTHER,  /* to the middle of what is not, if that seems to jump back twice */
};

static size_t scan_jumps(const struct finder *f, const struct cfi_fde *fde, enum into what, enum mark mark,
			 struct jump *ret, size_t cap);

static bool is_into(const struct finder *f, const struct cfi_fde *from, uint64_t to, enum into what, enum mark mark)
{
	struct jump back[2];

	if (to >= from->start && to < from->end)
		return false;
	size_t at = fde_at(f, to);
	if (at == f->fdes.n_fdes)
		return false;
	const struct cfi_fde *fde = &f->fdes.fdes[at];
	bool at_start = fde->start == to;
	if (what == INTO_MARKED)
		return f->marks[at] == mark && !at_start;
	if (f->marks[at] || at_start == (what == INTO_OTHER))
		return false;
	if (what == INTO_PART)
		return fde_is_part(f, fde);
	return what == INTO_START || scan_jumps(f, fde, INTO_MARKED, mark, back, 2) == 2;
}

/* All places that look like a jump that matters. */
static size_t scan_jumps(const struct finder *f, const struct cfi_fde *fde, enum into what, enum mark mark,
			 struct jump *ret, size_t cap)
{
	size_t n, n_jumps = 0;
	const uint8_t *code = code_of(f, fde, &n);
	uint64_t to;

	for (size_t i = 0; i < n && n_jumps < cap; i++)
		if (jump_at(code + i, n - i, fde->start + i, &to) && is_into(f, fde, to, what, mark))
			ret[n_jumps++] = (struct jump){ i, to };
	return n_jumps;
}

/* Those that are, into f->jumps; their number. */
static size_t list_jumps(struct finder *f, const struct cfi_fde *fde, enum into what, enum mark mark)
{
	size_t n = scan_jumps(f, fde, what, mark, f->jumps, JUMPS_MAX);

	return n ? confirm_jumps(f, fde, n) : 0;
}

static bool mark_fde(struct finder *f, size_t at, enum mark mark)
{
	if (f->marks[at])
		return false;
	f->marks[at] = mark;
	return true;
}

/* Parts that jump back; true: one was added. */
static bool mark_returning(struct finder *f, enum mark mark)
{
	bool added = false;

	for (size_t i = 0; i < f->fdes.n_fdes; i++) {
		const struct cfi_fde *fde = &f->fdes.fdes[i];
		if (!f->marks[i] && fde_is_part(f, fde) && list_jumps(f, fde, INTO_MARKED, mark))
			added |= mark_fde(f, i, mark);
	}
	return added;
}

/* Parts that are jumped to and don't come back. */
static bool mark_reached(struct finder *f, size_t from, enum mark mark)
{
	size_t n = list_jumps(f, &f->fdes.fdes[from], INTO_PART, mark);
	bool added = false;

	for (size_t i = 0; i < n; i++)
		added |= mark_fde(f, fde_at(f, f->jumps[i].to), mark);
	return added;
}

/* Parts without a frame: jumped to in their middle, and come back. */
static bool mark_frameless(struct finder *f, size_t from, enum mark mark)
{
	size_t found[64];
	size_t n = list_jumps(f, &f->fdes.fdes[from], INTO_OTHER, mark);
	bool added = false;

	if (n > ARRAY_SIZE(found))
		n = ARRAY_SIZE(found);
	for (size_t i = 0; i < n; i++)
		found[i] = fde_at(f, f->jumps[i].to);
	for (size_t i = 0; i < n; i++)
		if (list_jumps(f, &f->fdes.fdes[found[i]], INTO_MARKED, mark) >= 2)
			added |= mark_fde(f, found[i], mark);
	return added;
}

static void mark_parts(struct finder *f, enum mark mark)
{
	bool added = true;

	for (unsigned int round = 0; added && round < 8; round++) {
		added = mark_returning(f, mark);
		for (size_t i = 0; i < f->fdes.n_fdes; i++) {
			if (f->marks[i] != mark)
				continue;
			added |= mark_reached(f, i, mark);
			added |= mark_frameless(f, i, mark);
		}
	}
}

/* --- instructions as functions --- */

static bool mark_table(struct finder *f, uint64_t vaddr)
{
	uint64_t to[INSTRUCTIONS];
	unsigned int distinct = 0;

	if (f->tables++ >= TABLES_MAX || vaddr % 8 || !f->q->read(f->q->ctx, vaddr + f->q->bias, to, sizeof(to[0])) ||
	    !fde_starts_at(f, to[0] - f->q->bias) || !f->q->read(f->q->ctx, vaddr + f->q->bias, to, sizeof(to)))
		return false;
	for (size_t i = 0; i < INSTRUCTIONS; i++) {
		size_t j = 0;
		if (!fde_starts_at(f, to[i] - f->q->bias))
			return false;
		while (j < i && to[j] != to[i])
			j++;
		distinct += j == i;
	}
	if (distinct < DISTINCT_MIN)
		return false;
	for (size_t i = 0; i < INSTRUCTIONS; i++) {
		size_t at = fde_at(f, to[i] - f->q->bias);
		if (!f->marks[at])
			f->marks[at] = MARK_INSTRUCTION;
	}
	return true;
}

/* A table that the code would use: lea disp32(%rip),%r64, or jmp *disp32(,%r64,8). */
static bool table_ref(const uint8_t *p, size_t left, uint64_t vaddr, uint64_t *ret)
{
	int32_t address;

	if (left >= 7 && (p[0] & 0xfb) == 0x48 && p[1] == 0x8d && (p[2] & 0xc7) == 0x05) {
		*ret = relative(p + 3, vaddr + 7);
		return true;
	}
	if (left < 7 || p[0] != 0xff || p[1] != 0x24 || (p[2] & 0xc7) != 0xc5)
		return false;
	memcpy(&address, p + 3, sizeof(address));
	*ret = (uint64_t)(int64_t)address;
	return true;
}

static bool mark_instructions_of(struct finder *f, size_t from)
{
	const struct cfi_fde *fde = &f->fdes.fdes[from];
	size_t n;
	const uint8_t *code = code_of(f, fde, &n);
	uint64_t table, last = 0;

	for (size_t i = 0; i < n; i++) {
		if (!table_ref(code + i, n - i, fde->start + i, &table) || table == last)
			continue;
		last = table;
		if (mark_table(f, table))
			return true;
	}
	return false;
}

/* Functions that the loop calls. */
static size_t list_callees(const struct finder *f, size_t from, size_t *ret, size_t cap)
{
	const struct cfi_fde *fde = &f->fdes.fdes[from];
	size_t n, n_found = 0;
	const uint8_t *code = code_of(f, fde, &n);

	for (size_t i = 0; i + 5 <= n && n_found < cap; i++) {
		uint64_t to = relative(code + i + 1, fde->start + i + 5);
		size_t at = code[i] == 0xe8 && fde_starts_at(f, to) ? fde_at(f, to) : f->fdes.n_fdes, j = 0;
		while (j < n_found && ret[j] != at)
			j++;
		if (at < f->fdes.n_fdes && !f->marks[at] && j == n_found)
			ret[n_found++] = at;
	}
	return n_found;
}

static bool mark_instructions_from(struct finder *f, size_t from)
{
	size_t callees[256];

	if (mark_instructions_of(f, from))
		return true;
	size_t n = list_callees(f, from, callees, ARRAY_SIZE(callees));
	for (size_t i = 0; i < n; i++)
		if (mark_instructions_of(f, callees[i]))
			return true;
	return false;
}

/*
 * What an instruction jumps to is one, or one's part, or a label that all share (error, exit). Other functions are called: the instructions'
 * convention differs from theirs. Exported ones are none for certain.
 */
static bool mark_shared(struct finder *f, size_t from)
{
	size_t n = list_jumps(f, &f->fdes.fdes[from], INTO_START, MARK_INSTRUCTION);
	bool added = false;

	for (size_t i = 0; i < n; i++)
		if (!elf_find_vaddr(&f->e, f->jumps[i].to))
			added |= mark_fde(f, fde_at(f, f->jumps[i].to), MARK_INSTRUCTION);
	return added;
}

static void mark_instructions(struct finder *f)
{
	bool found = false, added = true;

	for (size_t i = 0; i < f->fdes.n_fdes && !found; i++)
		found = f->marks[i] == MARK_LOOP && mark_instructions_from(f, i);
	for (unsigned int round = 0; found && added && round < 8; round++) {
		added = false;
		for (size_t i = 0; i < f->fdes.n_fdes; i++)
			if (f->marks[i] == MARK_INSTRUCTION)
				added |= mark_shared(f, i);
	}
	if (found)
		mark_parts(f, MARK_INSTRUCTION);
}

/* --- ranges --- */

static void add_range(struct ranges *all, uint64_t start, uint64_t bytes, bool is_entry)
{
	if (!bytes || bytes > CODE_MAX || start > UINT64_MAX - bytes)
		return;
	all->items = grow_to(all->items, &all->cap, all->n + 1, sizeof(*all->items));
	all->items[all->n++] = (struct py_eval_range){ .start = start, .end = start + bytes, .is_entry = is_entry };
}

static int compare_places(const void *a, const void *b)
{
	const struct py_eval_range *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* Those that stay first: the loop's, then the largest. */
static int compare_worth(const void *a, const void *b)
{
	const struct py_eval_range *x = a, *y = b;
	uint64_t m = x->end - x->start, n = y->end - y->start;

	if (x->is_entry != y->is_entry)
		return x->is_entry ? -1 : 1;
	return m > n ? -1 : m < n;
}

static void join_neighbours(struct ranges *all)
{
	size_t kept = 0;

	for (size_t i = 1; i < all->n; i++) {
		struct py_eval_range *last = &all->items[kept], *r = &all->items[i];
		bool meets = r->start < last->end || r->start - last->end < ALIGNMENT;
		if (meets && r->is_entry == last->is_entry)
			last->end = r->end > last->end ? r->end : last->end;
		else
			all->items[++kept] = *r;
	}
	all->n = kept + 1;
}

static size_t write_ranges(struct ranges *all, struct py_eval_range ret[PY_EVAL_RANGES_MAX])
{
	if (!all->n)
		return 0;
	qsort(all->items, all->n, sizeof(*all->items), compare_places);
	join_neighbours(all);
	if (all->n > PY_EVAL_RANGES_MAX) {
		qsort(all->items, all->n, sizeof(*all->items), compare_worth);
		all->n = PY_EVAL_RANGES_MAX;
		qsort(all->items, all->n, sizeof(*all->items), compare_places);
	}
	memcpy(ret, all->items, all->n * sizeof(*ret));
	return all->n;
}

/* --- by name --- */

static bool has_prefix(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

/* The function itself or a clone: "x.cold", "x.part.0.cold", "x.lto_priv.0", of BOLT "x.cold.0" and "x/1". */
static bool is_loop(const char *name)
{
	size_t n = strlen(LOOP);

	return !strncmp(name, LOOP, n) && (!name[n] || name[n] == '.' || name[n] == '/');
}

static bool want_parts(const char *name, void *ctx)
{
	(void)ctx;
	return is_loop(name) || has_prefix(name, TAIL_CALL);
}

static void find_named(const struct pyeval_query *q, struct ranges *all)
{
	_cleanup_(elf_done) struct elf_file e = { 0 };

	if (elf_open(q->fd, want_parts, NULL, &e))
		return;
	for (size_t i = 0; i < e.n_funcs; i++)
		add_range(all, e.funcs[i].vaddr, e.funcs[i].bytes, is_loop(e.funcs[i].name));
}

/* --- without names --- */

static bool read_text(struct finder *f)
{
	uint64_t n = f->e.text_end - f->e.text_start;

	if (!n || n > TEXT_MAX)
		return false;
	f->text = xcalloc(n, 1);
	f->text_bytes = (size_t)n;
	/* Segments of code need not be one: what lies between them stays zero. */
	for (uint64_t at = 0; at < n;) {
		int got = elf_read_code(&f->e, f->e.text_start + at, f->text + at, (size_t)(n - at));
		at += got > 0 ? (uint64_t)got : 4096 - (f->e.text_start + at) % 4096;
	}
	return true;
}

static bool finder_open(struct finder *f)
{
	if (elf_open(f->q->fd, NULL, NULL, &f->e) || cfi_image_open(f->q->fd, NULL, 0, &f->im) ||
	    cfi_entries_build(&f->im.eh, &f->im, &f->fdes) || !f->fdes.n_fdes || !read_text(f) ||
	    cs_open(CS_ARCH_X86, CS_MODE_64, &f->decoder) != CS_ERR_OK)
		return false;
	f->insn = cs_malloc(f->decoder);
	f->marks = xcalloc(f->fdes.n_fdes, 1);
	f->jumps = xcalloc(JUMPS_MAX, sizeof(*f->jumps));
	return f->insn;
}

static void find_marked(const struct pyeval_query *q, struct ranges *all)
{
	_cleanup_(finder_done) struct finder f = { .q = q };
	size_t loop;

	if (!finder_open(&f))
		return;
	loop = fde_at(&f, q->start);
	if (loop == f.fdes.n_fdes || f.fdes.fdes[loop].start != q->start)
		return;
	f.marks[loop] = MARK_LOOP;
	mark_parts(&f, MARK_LOOP);
	if (q->may_tail_call)
		mark_instructions(&f);
	for (size_t i = 0; i < f.fdes.n_fdes; i++) {
		const struct cfi_fde *fde = &f.fdes.fdes[i];
		if (f.marks[i])
			add_range(all, fde->start, fde->end - fde->start, f.marks[i] == MARK_LOOP);
	}
}

static void ranges_done(struct ranges *all)
{
	free(all->items);
}

size_t pyeval_find(const struct pyeval_query *q, struct py_eval_range ret[PY_EVAL_RANGES_MAX])
{
	_cleanup_(ranges_done) struct ranges all = { 0 };
	Elf64_Shdr symtab;
	struct dynsym f;

	add_range(&all, q->start, q->bytes, true);
	if (!all.n || !dynsym_open(q->fd, &f))
		return 0;
	if (dynsym_section(&f, ".symtab", &symtab))
		find_named(q, &all);
	else
		find_marked(q, &all);
	return write_ranges(&all, ret);
}
