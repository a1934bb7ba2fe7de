/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks symbols up as the dynamic linker does. Files belong to whoever runs the target: nothing is mapped, every read is bounded, loops have
 * limits. Decides nothing about what a symbol means.
 */
#include "target/dynsym.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "target/proc.h"
#include "util/mem.h"

#define DYNAMIC_MAX 128u      /* entries; files have 20 to 60 */
#define CHAIN_MAX 1024u	      /* symbols in one bucket; linkers aim at 2 */
#define SECTIONS_MAX 512u     /* of a program: 30 to 60 */
#define NAMES_MAX (64u << 10) /* bytes of their names: some 500 */
#define SYMTAB_MAX (4u << 20) /* entries; a chromium's has 1.5 M */
#define SYMTAB_CHUNK 1024u    /* entries of one read */
#define NAMES_READ_MAX \
	(1u << 14) /* candidates whose name is read: symbols of the wanted type that are not local to a function */
#define PAGE_BYTES 4096u

static bool read_all(int fd, void *buf, size_t n, uint64_t offset)
{
	ssize_t got;

	do
		got = pread(fd, buf, n, (off_t)offset);
	while (got < 0 && errno == EINTR);
	return got >= 0 && (size_t)got == n;
}

bool dynsym_read(const struct dynsym *f, uint64_t vaddr, void *buf, size_t n)
{
	for (size_t i = 0; i < f->n_segments; i++) {
		const Elf64_Phdr *s = &f->segments[i];
		if (s->p_type == PT_LOAD && vaddr >= s->p_vaddr && vaddr - s->p_vaddr <= s->p_filesz &&
		    n <= s->p_filesz - (vaddr - s->p_vaddr))
			return read_all(f->fd, buf, n, s->p_offset + (vaddr - s->p_vaddr));
	}
	return false;
}

static void read_dynamic(struct dynsym *f, const Elf64_Phdr *dynamic)
{
	Elf64_Dyn entries[DYNAMIC_MAX];
	size_t n = dynamic->p_filesz / sizeof(entries[0]);

	if (n > DYNAMIC_MAX)
		n = DYNAMIC_MAX;
	if (!read_all(f->fd, entries, n * sizeof(entries[0]), dynamic->p_offset))
		return;
	for (size_t i = 0; i < n && entries[i].d_tag != DT_NULL; i++) {
		uint64_t value = entries[i].d_un.d_ptr;
		if (entries[i].d_tag == DT_GNU_HASH)
			f->hash = value;
		else if (entries[i].d_tag == DT_SYMTAB)
			f->symbols = value;
		else if (entries[i].d_tag == DT_STRTAB)
			f->strings = value;
	}
}

bool dynsym_open(int fd, struct dynsym *ret)
{
	Elf64_Ehdr head;

	memset(ret, 0, sizeof(*ret));
	ret->fd = fd;
	if (!read_all(fd, &head, sizeof(head), 0) || memcmp(head.e_ident, ELFMAG, SELFMAG) ||
	    head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB ||
	    head.e_machine != EM_X86_64 || head.e_phentsize != sizeof(ret->segments[0]) ||
	    head.e_phnum > DYNSYM_SEGMENTS_MAX ||
	    !read_all(fd, ret->segments, head.e_phnum * sizeof(ret->segments[0]), head.e_phoff))
		return false;
	ret->n_segments = head.e_phnum;
	if (head.e_shentsize == sizeof(Elf64_Shdr) && head.e_shnum <= SECTIONS_MAX && head.e_shstrndx < head.e_shnum) {
		ret->sections_at = head.e_shoff;
		ret->n_sections = head.e_shnum;
		ret->names = head.e_shstrndx;
	}
	for (size_t i = 0; i < ret->n_segments; i++)
		if (ret->segments[i].p_type == PT_DYNAMIC)
			read_dynamic(ret, &ret->segments[i]);
	return true;
}

static bool symbol_is(const struct dynsym *f, uint64_t index, const char *name, Elf64_Sym *ret)
{
	char text[DYNSYM_NAME_MAX];
	size_t n = strlen(name) + 1;
	Elf64_Sym sym;

	if (n > sizeof(text) || !dynsym_read(f, f->symbols + index * sizeof(sym), &sym, sizeof(sym)) ||
	    sym.st_shndx == SHN_UNDEF || !dynsym_read(f, f->strings + sym.st_name, text, n) || memcmp(text, name, n))
		return false;
	*ret = sym;
	return true;
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return h;
}

/*
 * A defined symbol by the table that the dynamic linker uses:
 *
 *	| buckets, first symbol, words, shift | u64 filter[words] | u32 bucket[buckets] | u32 chain[] |
 *
 * chain[i] belongs to symbol first + i: its hash, lowest bit set in the last one of a bucket.
 */
bool dynsym_find(const struct dynsym *f, const char *name, Elf64_Sym *ret)
{
	struct {
		uint32_t buckets, first, words, shift;
	} head;
	uint32_t h = gnu_hash(name), index, entry = 0;
	uint64_t filter;

	if (!f->hash || !f->symbols || !f->strings || !dynsym_read(f, f->hash, &head, sizeof(head)) || !head.buckets ||
	    !head.words || head.shift > 31)
		return false;
	uint64_t at = f->hash + sizeof(head);
	if (!dynsym_read(f, at + 8ull * (h / 64 % head.words), &filter, sizeof(filter)) || !(filter >> h % 64 & 1) ||
	    !(filter >> (h >> head.shift) % 64 & 1))
		return false;
	at += 8ull * head.words;
	if (!dynsym_read(f, at + 4ull * (h % head.buckets), &index, sizeof(index)) || index < head.first)
		return false;
	at += 4ull * head.buckets;
	for (size_t i = 0; i < CHAIN_MAX && !(entry & 1); i++, index++) {
		if (!dynsym_read(f, at + 4ull * (index - head.first), &entry, sizeof(entry)))
			return false;
		if ((entry | 1) == (h | 1) && symbol_is(f, index, name, ret))
			return true;
	}
	return false;
}

static bool section_at(const struct dynsym *f, size_t index, Elf64_Shdr *ret)
{
	return index < f->n_sections && read_all(f->fd, ret, sizeof(*ret), f->sections_at + index * sizeof(*ret));
}

bool dynsym_section(const struct dynsym *f, const char *name, Elf64_Shdr *ret)
{
	Elf64_Shdr names;

	if (!section_at(f, f->names, &names) || !names.sh_size || names.sh_size > NAMES_MAX)
		return false;
	_cleanup_(freep) Elf64_Shdr *heads = xcalloc(f->n_sections, sizeof(*heads));
	_cleanup_(freep) char *text = xcalloc(names.sh_size + 1, 1);
	if (!read_all(f->fd, heads, f->n_sections * sizeof(*heads), f->sections_at) ||
	    !read_all(f->fd, text, names.sh_size, names.sh_offset))
		return false;
	for (size_t i = 0; i < f->n_sections; i++) {
		if (heads[i].sh_name < names.sh_size && !strcmp(text + heads[i].sh_name, name)) {
			*ret = heads[i];
			return true;
		}
	}
	return false;
}

struct wanted {
	const char *name;
	size_t n; /* with its end */
	int type;
	size_t read; /* names so far */
};

static bool take_symbol(const struct dynsym *f, const Elf64_Shdr *strings, struct wanted *w, const Elf64_Sym *sym)
{
	char text[DYNSYM_NAME_MAX];

	if (ELF64_ST_TYPE(sym->st_info) != w->type || sym->st_shndx == SHN_UNDEF || !sym->st_value || !sym->st_size ||
	    sym->st_name >= strings->sh_size || w->n > strings->sh_size - sym->st_name || w->read++ > NAMES_READ_MAX)
		return false;
	return read_all(f->fd, text, w->n, strings->sh_offset + sym->st_name) && !memcmp(text, w->name, w->n);
}

static bool scan_symtab(const struct dynsym *f, const Elf64_Shdr *symtab, struct wanted *w, Elf64_Sym *ret)
{
	_cleanup_(freep) Elf64_Sym *chunk = xcalloc(SYMTAB_CHUNK, sizeof(*chunk));
	uint64_t n = symtab->sh_size / sizeof(*chunk);
	Elf64_Shdr strings;

	if (!section_at(f, symtab->sh_link, &strings))
		return false;
	for (uint64_t i = 0; i < n && i < SYMTAB_MAX; i += SYMTAB_CHUNK) {
		size_t k = n - i < SYMTAB_CHUNK ? (size_t)(n - i) : SYMTAB_CHUNK;
		if (!read_all(f->fd, chunk, k * sizeof(*chunk), symtab->sh_offset + i * sizeof(*chunk)))
			return false;
		for (size_t j = 0; j < k; j++) {
			if (take_symbol(f, &strings, w, &chunk[j])) {
				*ret = chunk[j];
				return true;
			}
		}
	}
	return false;
}

bool dynsym_find_any(const struct dynsym *f, const char *name, int type, Elf64_Sym *ret)
{
	struct wanted w = { .name = name, .n = strlen(name) + 1, .type = type };
	Elf64_Shdr symtab;

	if (dynsym_find(f, name, ret))
		return true;
	return w.n <= DYNSYM_NAME_MAX && dynsym_section(f, ".symtab", &symtab) && scan_symtab(f, &symtab, &w, ret);
}

bool dynsym_bias(const struct dynsym *f, const struct mapping *m, uint64_t *ret)
{
	for (size_t i = 0; i < f->n_segments; i++) {
		const Elf64_Phdr *s = &f->segments[i];
		uint64_t from = s->p_offset & ~(uint64_t)(PAGE_BYTES - 1);
		if (s->p_type != PT_LOAD || !(s->p_flags & PF_X) || m->file_offset < from ||
		    m->file_offset - from >= s->p_filesz + (s->p_offset - from))
			continue;
		uint64_t bias = m->start - m->file_offset + s->p_offset - s->p_vaddr;
		if (bias % PAGE_BYTES == 0) {
			*ret = bias;
			return true;
		}
	}
	return false;
}
