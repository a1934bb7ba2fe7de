/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Follows rsp through small functions that make mapping calls. Decides nothing about stacks, and says nothing about an
 * instruction that it reached with two different depths or through one that it does not understand.
 *
 * musl is built without .eh_frame, Debian's ld.so without .symtab: code is read, not unwind tables, and where names are
 * missing only the starts and sizes of functions are taken from .eh_frame. Such a start may also be that of a part which
 * the compiler split off (".cold"), where rsp is already deep. Its returns tell: rsp must be at the slot there.
 */
#include "probe/wrappers.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "probe/track.h"
#include "target/elf.h"
#include "util/mem.h"

#define BODY_BYTES_MAX 2048	  /* the largest one met, musl's __malloc_alloc_meta, has 817 */
#define DEPTH_BYTES_MAX 4096	  /* of stack below the slot: more is no wrapper */
#define LOOKS_MAX 256		  /* per file; Debian's libcs take 10 */
#define CODE_BYTES_MAX (64 << 20) /* searched per file */
#define NUMBER_BYTES 24		  /* before `syscall`, in which its number is loaded */
#define SYSCALL_BYTES 2
#define HEADERS_MAX 64
#define INDEX_HEAD_BYTES 12 /* of .eh_frame_hdr */

enum { DEPTH_UNSEEN = -1, DEPTH_UNSURE = -2 };

struct body {
	uint64_t vaddr;
	size_t bytes, n_todo;
	bool returns, is_odd; /* a return with rsp at the slot; elsewhere */
	uint8_t code[BODY_BYTES_MAX];
	int16_t depth[BODY_BYTES_MAX];	   /* per instruction: bytes from rsp up to the slot, or DEPTH_ */
	uint16_t todo[2 * BODY_BYTES_MAX]; /* an instruction gets a depth once and may lose it once */
};

struct search {
	const struct elf_file *e;
	struct wrapper_site *sites;
	size_t n, max, n_looks;
	uint64_t code_bytes;  /* searched */
	uint64_t index_vaddr; /* .eh_frame_hdr */
	uint32_t n_index;     /* rows; 0: no usable table */
};

bool wrapper_wants(const char *symbol)
{
	static const char names[][20] = { /* both libraries */
					  "mmap", "mmap64", "__mmap", "__mmap64", "munmap", "__munmap", "mremap",
					  "__mremap", "brk", "__brk", "sbrk", "__sbrk",
					  /* the one through which other allocators map */
					  "syscall",
					  /* glibc in static programs */
					  "_dl_early_allocate",
					  /* musl */
					  "__malloc_alloc_meta", "__expand_heap", "__simple_malloc", "__unmapself"
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(symbol, names[i]))
			return true;
	return false;
}

static int body_read(const void *ctx, uint64_t vaddr, uint8_t *buf, size_t cap)
{
	const struct body *b = ctx;
	uint64_t at = vaddr - b->vaddr;

	if (at >= b->bytes)
		return -ENOENT;
	cap = cap < b->bytes - at ? cap : b->bytes - at;
	memcpy(buf, b->code + at, cap);
	return (int)cap;
}

static void body_enter(struct body *b, uint64_t vaddr, int depth)
{
	uint64_t at = vaddr - b->vaddr;

	if (at >= b->bytes || b->depth[at] == depth || b->depth[at] == DEPTH_UNSURE)
		return;
	b->depth[at] = (int16_t)(b->depth[at] == DEPTH_UNSEEN ? depth : DEPTH_UNSURE);
	b->todo[b->n_todo++] = (uint16_t)at;
}

/* Calls and the kernel give rsp back as they got it. */
static int depth_behind(struct decoder *d, const cs_insn *insn, enum flow f, int depth)
{
	struct track t = { .sp_bytes = depth, .sp_known = depth != DEPTH_UNSURE };

	if (f != FLOW_NEXT)
		return depth;
	track_step(&t, d, insn);
	return t.sp_known && t.sp_bytes >= 0 && t.sp_bytes <= DEPTH_BYTES_MAX ? (int)t.sp_bytes : DEPTH_UNSURE;
}

static void body_step(struct body *b, struct decoder *d, size_t at)
{
	const cs_insn *insn = decoder_at(d, b->vaddr + at);
	uint64_t target = 0;

	if (!insn)
		return;
	/* Capstone counts it among the interrupts, where the planner ends a path. */
	enum flow f = insn->id == X86_INS_SYSCALL ? FLOW_CALL : insn_flow(insn, &target);
	uint64_t next = insn->address + insn->size;
	int depth = depth_behind(d, insn, f, b->depth[at]);
	b->returns |= f == FLOW_RET && !depth;
	b->is_odd |= f == FLOW_RET && depth > 0;
	if (f == FLOW_JCC || f == FLOW_JMP)
		body_enter(b, target, depth);
	if (f == FLOW_NEXT || f == FLOW_JCC || f == FLOW_CALL || f == FLOW_CALL_INDIRECT)
		body_enter(b, next, depth);
}

static bool is_syscall(const uint8_t *code)
{
	return code[0] == 0x0f && code[1] == 0x05;
}

static bool has_site(const struct search *s, uint64_t vaddr)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->sites[i].vaddr == vaddr)
			return true;
	return false;
}

static void take_sites(struct search *s, const struct body *b)
{
	for (size_t at = 0; at + SYSCALL_BYTES <= b->bytes && s->n < s->max; at++) {
		uint64_t vaddr = b->vaddr + at + SYSCALL_BYTES;
		if (b->depth[at] >= 0 && b->depth[at] % 8 == 0 && is_syscall(b->code + at) && !has_site(s, vaddr))
			s->sites[s->n++] = (struct wrapper_site){ vaddr, (uint32_t)b->depth[at] / 8 };
	}
}

/* bytes 0: not known. A function without a name must show by its returns that it is whole. */
static void look_at(struct search *s, uint64_t vaddr, uint64_t bytes, bool is_named)
{
	struct body b = { .vaddr = vaddr };
	struct code_source src = { .ctx = &b, .read = body_read };
	_cleanup_(decoder_close) struct decoder d = { 0 };

	if (s->n_looks++ >= LOOKS_MAX || bytes > BODY_BYTES_MAX)
		return;
	int n = elf_read_code(s->e, vaddr, b.code, bytes ? bytes : BODY_BYTES_MAX);
	if (n <= 0 || decoder_open(&src, &d))
		return;
	b.bytes = (size_t)n;
	for (size_t i = 0; i < b.bytes; i++)
		b.depth[i] = DEPTH_UNSEEN;
	body_enter(&b, vaddr, 0);
	while (b.n_todo)
		body_step(&b, &d, b.todo[--b.n_todo]);
	if (!b.is_odd && (is_named || b.returns))
		take_sites(s, &b);
}

/* A row of the table of .eh_frame_hdr, sorted: distances of a function and of its description from the section. */
struct row {
	int32_t start, fde;
};

static struct row index_row(const struct search *s, uint32_t i)
{
	static const struct row last = { INT32_MAX, 0 };
	struct row r;
	int n = elf_read_code(s->e, s->index_vaddr + INDEX_HEAD_BYTES + sizeof(r) * i, (uint8_t *)&r, sizeof(r));

	return n == sizeof(r) ? r : last;
}

static void look_around(struct search *s, uint64_t vaddr)
{
	struct {
		uint32_t length, cie;
		int32_t start; /* from here */
		uint32_t bytes;
	} fde;
	uint32_t low = 0, high = s->n_looks++ < LOOKS_MAX ? s->n_index : 0;

	/* The first one that starts above the address. */
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (s->index_vaddr + (uint64_t)index_row(s, mid).start <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return;
	struct row r = index_row(s, low - 1);
	uint64_t start = s->index_vaddr + (uint64_t)r.start, at = s->index_vaddr + (uint64_t)r.fde;
	/* Other encodings exist: it is this one if both say the same start. */
	if (elf_read_code(s->e, at, (uint8_t *)&fde, sizeof(fde)) == sizeof(fde) &&
	    at + offsetof(typeof(fde), start) + (uint64_t)fde.start == start && vaddr - start < fde.bytes)
		look_at(s, start, fde.bytes, false);
}

/* mov $number, %eax shortly before? */
static bool loads_number(const uint8_t *code, size_t n)
{
	static const uint8_t numbers[] = { 9, 11, 12, 25 }; /* mmap, munmap, brk, mremap of asm/unistd_64.h */

	for (size_t i = 0; i + 5 <= n; i++)
		if (code[i] == 0xb8 && memchr(numbers, code[i + 1], sizeof(numbers)) &&
		    !memcmp(code + i + 2, "\0\0\0", 3))
			return true;
	return false;
}

static void search_segment(struct search *s, uint64_t vaddr, uint64_t bytes)
{
	uint8_t code[1 << 14];
	int n;

	bytes = bytes < CODE_BYTES_MAX - s->code_bytes ? bytes : CODE_BYTES_MAX - s->code_bytes;
	s->code_bytes += bytes;
	for (uint64_t at = 0; at < bytes; at += sizeof(code) - NUMBER_BYTES - SYSCALL_BYTES) {
		n = elf_read_code(s->e, vaddr + at, code, bytes - at < sizeof(code) ? bytes - at : sizeof(code));
		for (int i = NUMBER_BYTES; i + SYSCALL_BYTES <= n; i++)
			if (is_syscall(code + i) && loads_number(code + i - NUMBER_BYTES, NUMBER_BYTES) &&
			    !has_site(s, vaddr + at + (uint64_t)i + SYSCALL_BYTES))
				look_around(s, vaddr + at + (uint64_t)i);
	}
}

static bool read_at(const struct search *s, uint64_t offset, void *buf, size_t n)
{
	uint64_t vaddr;

	return !elf_offset_to_vaddr(s->e, offset, &vaddr) && elf_read_code(s->e, vaddr, buf, n) == (int)n;
}

/* Version 1, a count of 4 bytes, rows of two 4-byte distances from the section: GNU ld's. */
static void take_index(struct search *s, uint64_t vaddr)
{
	static const uint8_t format[] = { 1, 0x1b, 0x03, 0x3b };
	uint8_t head[INDEX_HEAD_BYTES];

	if (elf_read_code(s->e, vaddr, head, sizeof(head)) != sizeof(head) || memcmp(head, format, sizeof(format)))
		return;
	s->index_vaddr = vaddr;
	memcpy(&s->n_index, head + 8, sizeof(s->n_index));
}

static void search_code(struct search *s)
{
	Elf64_Phdr p[HEADERS_MAX];
	Elf64_Ehdr head;

	if (!read_at(s, 0, &head, sizeof(head)) || head.e_phentsize != sizeof(*p) || head.e_phnum > HEADERS_MAX ||
	    !read_at(s, head.e_phoff, p, head.e_phnum * sizeof(*p)))
		return;
	for (size_t i = 0; i < head.e_phnum; i++)
		if (p[i].p_type == PT_GNU_EH_FRAME)
			take_index(s, p[i].p_vaddr);
	for (size_t i = 0; i < head.e_phnum && s->n_index; i++)
		if (p[i].p_type == PT_LOAD && p[i].p_flags & PF_X)
			search_segment(s, p[i].p_vaddr, p[i].p_filesz);
}

size_t wrappers_find(const struct elf_file *e, struct wrapper_site *ret, size_t max)
{
	struct search s = { .e = e, .sites = ret, .max = max };

	for (size_t i = 0; i < e->n_funcs; i++)
		if (wrapper_wants(e->funcs[i].name))
			look_at(&s, e->funcs[i].vaddr, e->funcs[i].bytes, true);
	search_code(&s);
	return s.n;
}
