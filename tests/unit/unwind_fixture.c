/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unwind_fixture.h"

#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/mem.h"

#define STEPS_MAX 16
#define PAGE 4096ull
#define FRAMES_VADDR 0x70000000ull

/* ---- tables ---- */

static struct row_block *block_new(void *ctx, uint32_t i)
{
	struct tables *t = ctx;

	if (i >= t->max_blocks || i != t->n_blocks)
		return NULL;
	t->blocks[i] = xcalloc(1, sizeof(struct row_block));
	t->n_blocks++;
	t->n_open++;
	t->most_open = t->n_open > t->most_open ? t->n_open : t->most_open;
	return t->blocks[i];
}

static void block_done(void *ctx, struct row_block *b)
{
	struct tables *t = ctx;

	(void)b; /* what is in it stays, as in the kernel */
	t->n_open--;
}

void tables_init(struct tables *t)
{
	*t = (struct tables){ .max_blocks = ROW_BLOCKS };
	t->area = (struct unwind_area){
		.pages = xcalloc(UNWIND_PAGES, sizeof(struct unwind_page)),
		.rules = xcalloc(UNWIND_RULES, sizeof(struct unwind_rule)),
		.ranges = xcalloc(UNWIND_RANGES, sizeof(struct unwind_range)),
		.block_new = block_new,
		.block_done = block_done,
		.ctx = t,
	};
}

void tables_done(struct tables *t)
{
	for (size_t i = 0; i < t->n_blocks; i++)
		free(t->blocks[i]);
	free(t->area.pages);
	free(t->area.rules);
	free(t->area.ranges);
}

const struct unwind_rule *tables_rule(const struct tables *t, uint32_t page, uint64_t vaddr)
{
	uint32_t number = page + (uint32_t)(vaddr >> ROW_PAGE_SHIFT);

	if (number >= UNWIND_PAGES)
		return NULL;
	const struct unwind_page *p = &t->area.pages[number];
	if (!p->n)
		return &t->area.rules[UNWIND_RULE_NONE];
	uint32_t block = p->first >> BLOCK_ROWS_SHIFT, at = p->first & (BLOCK_ROWS - 1);
	if (block >= t->n_blocks || !t->blocks[block] || at + p->n > BLOCK_ROWS)
		return NULL;
	const uint32_t *rows = &t->blocks[block]->row[at];
	uint32_t key = (uint32_t)(vaddr & 0xffff) << ROW_LOW_SHIFT | 0xffff;
	/* The last row at or below: it is in [low, high). */
	uint32_t low = 0, high = p->n;
	for (int step = 0; high - low > 1; step++) {
		uint32_t mid = low + (high - low) / 2;
		if (step == STEPS_MAX)
			return NULL;
		if (rows[mid] <= key)
			low = mid;
		else
			high = mid;
	}
	return rows[low] <= key ? &t->area.rules[rows[low] & 0xffff] : NULL;
}

const struct unwind_range *tables_range(const struct tables *t, uint64_t layout, uint64_t addr)
{
	uint32_t low = layout_first(layout), end = low + layout_n(layout), high = end;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (t->area.ranges[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low < end && t->area.ranges[low].start <= addr ? &t->area.ranges[low] : NULL;
}

const struct unwind_rule *tables_find(const struct tables *t, uint64_t layout, uint64_t addr)
{
	const struct unwind_range *r = tables_range(t, layout, addr);

	if (!r)
		return NULL;
	if (r->page == RANGE_NO_ROWS)
		return &t->area.rules[UNWIND_RULE_NONE];
	return tables_rule(t, r->page, addr - r->bias);
}

bool rules_agree(const struct unwind_rule *a, const struct unwind_rule *b)
{
	if (a->kind == UNWIND_OTHER || a->kind == UNWIND_NONE)
		return a->kind == b->kind;
	return !memcmp(a, b, sizeof(*a));
}

/* ---- files ---- */

struct bytes {
	uint8_t *v;
	size_t n, cap;
};

static void put(struct bytes *b, const void *data, size_t n)
{
	b->v = grow_to(b->v, &b->cap, b->n + n, 1);
	memcpy(b->v + b->n, data, n);
	b->n += n;
}

static void put_byte(struct bytes *b, uint8_t v)
{
	put(b, &v, 1);
}

static void put_u32(struct bytes *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static void put_uleb(struct bytes *b, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		put_byte(b, (uint8_t)(v | 0x80));
	put_byte(b, (uint8_t)v);
}

/* Ends an entry that began with its length at `at`. */
static void entry_end(struct bytes *b, size_t at)
{
	while ((b->n - at) % 8 != 4)
		put_byte(b, 0); /* DW_CFA_nop */
	uint32_t len = (uint32_t)(b->n - at - 4);
	memcpy(b->v + at, &len, sizeof(len));
}

/* DWARF 4, 6.4; LSB 5.0 Core, 10.6: CIE "zR" with absolute pointers, CFA rsp + 8, return address at CFA - 8. */
static void put_cie(struct bytes *b)
{
	static const uint8_t cie[] = { 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x00, 0x0c, 7, 8, 0x90, 1 };
	size_t at = b->n;

	put_u32(b, 0);
	put_u32(b, 0);
	put(b, cie, sizeof(cie));
	entry_end(b, at);
}

static void put_fde(struct bytes *b, size_t cie, const struct fake_function *f)
{
	size_t at = b->n;
	uint64_t bytes = (uint64_t)f->rows * f->step;

	put_u32(b, 0);
	put_u32(b, (uint32_t)(b->n - cie));
	put(b, &f->vaddr, sizeof(f->vaddr));
	put(b, &bytes, sizeof(bytes));
	put_byte(b, 0); /* augmentation data */
	for (uint32_t k = 0; k < f->rows; k++) {
		if (k) {
			put_byte(b, 0x04); /* DW_CFA_advance_loc4 */
			put_u32(b, f->step);
		}
		put_byte(b, 0x0e); /* DW_CFA_def_cfa_offset */
		put_uleb(b, f->first_cfa + 8ull * (k % f->period));
	}
	entry_end(b, at);
}

/* .eh_frame_hdr without a table, then .eh_frame. */
static struct bytes frames_of(const struct fake_elf *f, size_t *ret_hdr)
{
	static const uint8_t hdr[] = { 1, 0x1b, 0xff, 0xff, 4, 0, 0, 0 };
	struct bytes b = { 0 };

	put(&b, hdr, sizeof(hdr));
	*ret_hdr = sizeof(hdr);
	size_t cie = b.n;
	put_cie(&b);
	for (size_t i = 0; i < f->n_functions; i++)
		put_fde(&b, cie, &f->functions[i]);
	put_u32(&b, 0);
	return b;
}

static Elf64_Phdr load(uint64_t vaddr, uint64_t offset, uint64_t bytes, uint32_t flags)
{
	return (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = flags,
		.p_offset = offset,
		.p_vaddr = vaddr,
		.p_paddr = vaddr,
		.p_filesz = bytes,
		.p_memsz = bytes,
		.p_align = PAGE,
	};
}

static bool put_at(int fd, uint64_t offset, const void *data, size_t n)
{
	return pwrite(fd, data, n, (off_t)offset) == (ssize_t)n;
}

struct layout {
	Elf64_Phdr headers[6];
	uint16_t n_headers;
	uint64_t notes, frames, sections, names;
};

/* Headers, notes | segments | frames | section headers */
static struct layout layout_of(const struct fake_elf *f, const struct bytes *frames, uint64_t *ret_offsets)
{
	struct layout l = { .notes = 1024 };
	uint64_t at = PAGE;

	for (size_t i = 0; i < f->n_segments; i++) {
		const struct fake_segment *s = &f->segments[i];
		uint64_t offset = at + s->vaddr % PAGE;
		l.headers[l.n_headers++] = load(s->vaddr, offset, s->bytes, PF_R | PF_X);
		at = (offset + s->bytes + PAGE - 1) & ~(PAGE - 1);
		if (ret_offsets)
			ret_offsets[i] = offset;
	}
	l.frames = at;
	l.headers[l.n_headers++] = load(FRAMES_VADDR, at, frames->n, PF_R);
	l.headers[l.n_headers] = l.headers[l.n_headers - 1];
	l.headers[l.n_headers++].p_type = PT_GNU_EH_FRAME;
	l.names = (at + frames->n + 7) & ~7ull;
	l.sections = l.names + 64;
	if (f->build_id) {
		l.headers[l.n_headers] = load(l.notes, l.notes, sizeof(Elf64_Nhdr) + 4 + 20, PF_R);
		l.headers[l.n_headers].p_align = 4;
		l.headers[l.n_headers++].p_type = PT_NOTE;
	}
	return l;
}

static bool write_all(int fd, const struct fake_elf *f, const struct layout *l, const struct bytes *frames,
		      size_t hdr_bytes)
{
	static const char names[] = "\0.eh_frame\0.shstrtab";
	Elf64_Ehdr head = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_DYN,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(head),
		.e_shoff = l->sections,
		.e_ehsize = sizeof(head),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = l->n_headers,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 3,
		.e_shstrndx = 2,
	};
	const Elf64_Shdr sections[3] = {
		[1] = { .sh_name = 1,
			.sh_type = SHT_PROGBITS,
			.sh_flags = SHF_ALLOC,
			.sh_addr = FRAMES_VADDR + hdr_bytes,
			.sh_offset = l->frames + hdr_bytes,
			.sh_size = frames->n - hdr_bytes,
			.sh_addralign = 8 },
		[2] = { .sh_name = 11, .sh_type = SHT_STRTAB, .sh_offset = l->names, .sh_size = sizeof(names) },
	};
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint8_t id[20];
	} note = { .head = { .n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID }, .name = "GNU" };

	memset(note.id, f->build_id, sizeof(note.id));
	return put_at(fd, 0, &head, sizeof(head)) &&
	       put_at(fd, sizeof(head), l->headers, l->n_headers * sizeof(*l->headers)) &&
	       put_at(fd, l->notes, &note, sizeof(note)) && put_at(fd, l->frames, frames->v, frames->n) &&
	       put_at(fd, l->names, names, sizeof(names)) && put_at(fd, l->sections, sections, sizeof(sections));
}

int fake_elf_open(const struct fake_elf *f, uint64_t ret_offsets[3])
{
	size_t hdr_bytes;
	struct bytes frames = frames_of(f, &hdr_bytes);
	struct layout l = layout_of(f, &frames, ret_offsets);
	_cleanup_(closep) int fd = memfd_create("fake", MFD_CLOEXEC);
	bool is_done = fd >= 0 && write_all(fd, f, &l, &frames, hdr_bytes);

	free(frames.v);
	int opened = is_done ? fd : -1;
	fd = is_done ? -1 : fd;
	return opened;
}
