/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads what attaching needs out of an ELF file: identity, function symbols, code bytes, the targets of PLT stubs.
 * Decides nothing about probes and resolves no addresses of running processes.
 *
 * The file belongs to whoever runs the target and may change or shrink while it is read. So nothing is mapped (a
 * mapped page beyond the end of a file that shrank is a SIGBUS): libelf works with pread, code is fetched with
 * pread from a descriptor of our own. Tables that reach beyond the file make it broken; a single symbol that points
 * nowhere is only left out.
 */
#include "target/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "util/mem.h"

/* Largest symbol or relocation table that is read: a chromium with debug information has about 150 MiB. */
#define TABLE_MAX (512ull << 20)
/* Program headers: the kernel refuses to run files with more than 64 KiB of them (fs/binfmt_elf.c). */
#define SEGMENTS_MAX 1170u
#define NOTES_MAX (1u << 20)
/* Entries of the dynamic section; real ones have 20 to 60. */
#define DYNAMIC_MAX 8192u

struct segment {
	uint64_t vaddr, offset, bytes; /* bytes: in the file */
	bool exec;
};

struct plt_slot {
	uint64_t vaddr;
	char *name;
};

struct range {
	uint64_t start, end;
};

struct plt {
	struct plt_slot *slots; /* ascending */
	size_t n_slots;
	struct range *stubs; /* sections .plt* */
	size_t n_stubs;
};

struct by_vaddr {
	uint32_t func;	  /* index into funcs */
	uint64_t max_end; /* greatest end of this one and all before it */
};

struct elf_priv {
	int fd; /* of our own: the caller may close his */
	uint64_t file_bytes;
	struct segment *segments;
	size_t n_segments;
	struct by_vaddr *by_vaddr; /* ascending; as many as funcs */
	bool plt_read;		   /* read at first use: most files are never asked */
	struct plt plt;
};

static void elf_endp(Elf **elf)
{
	if (*elf)
		(void)elf_end(*elf);
}

static bool fits(uint64_t offset, uint64_t bytes, uint64_t total)
{
	return offset <= total && bytes <= total - offset;
}

static const struct segment *segment_at(const struct elf_priv *p, uint64_t vaddr)
{
	const struct segment *found = NULL;

	for (size_t i = 0; i < p->n_segments; i++) {
		const struct segment *s = &p->segments[i];
		if (vaddr >= s->vaddr && vaddr - s->vaddr < s->bytes && (!found || s->exec))
			found = s;
	}
	return found;
}

static bool read_fully(int fd, void *buf, size_t n, uint64_t offset)
{
	for (size_t used = 0; used < n;) {
		ssize_t got = pread(fd, (char *)buf + used, n - used, (off_t)(offset + used));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		used += (size_t)got;
	}
	return true;
}

/* Tables of headers: whole, and with entries of the size that libelf takes for granted. */
static bool headers_fit(Elf *elf, uint64_t offset, uint64_t n, uint64_t entry_bytes, Elf_Type type, uint64_t file_bytes)
{
	return !n || (entry_bytes == gelf_fsize(elf, type, 1, EV_CURRENT) && n <= file_bytes &&
		      fits(offset, n * entry_bytes, file_bytes));
}

static bool section_fits(const GElf_Shdr *s, uint64_t file_bytes)
{
	if (s->sh_type == SHT_NOBITS || s->sh_type == SHT_NULL)
		return true;
	bool is_read = s->sh_type == SHT_SYMTAB || s->sh_type == SHT_DYNSYM || s->sh_type == SHT_STRTAB ||
		       s->sh_type == SHT_RELA;
	/* libelf reads these whole: a file with holes may claim any size. */
	return fits(s->sh_offset, s->sh_size, file_bytes) && (!is_read || s->sh_size <= TABLE_MAX);
}

/* The headers of a file that was cut lie beyond its end, or describe what does. */
static int check_headers(Elf *elf, uint64_t file_bytes, GElf_Ehdr *ret)
{
	size_t n_sections, n_segments;
	GElf_Ehdr head;
	GElf_Shdr section;

	if (!gelf_getehdr(elf, &head) || elf_getshdrnum(elf, &n_sections) || elf_getphdrnum(elf, &n_segments))
		return -EBADMSG;
	/* libelf counts no sections when their table lies beyond the end. */
	if (n_sections < head.e_shnum || (head.e_shoff && !n_sections))
		return -EBADMSG;
	if (n_segments > SEGMENTS_MAX ||
	    !headers_fit(elf, head.e_phoff, n_segments, head.e_phentsize, ELF_T_PHDR, file_bytes) ||
	    !headers_fit(elf, head.e_shoff, n_sections, head.e_shentsize, ELF_T_SHDR, file_bytes))
		return -EBADMSG;
	for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn));)
		if (!gelf_getshdr(scn, &section) || !section_fits(&section, file_bytes))
			return -EBADMSG;
	*ret = head;
	return 0;
}

static void read_build_id(Elf *elf, const GElf_Phdr *ph, struct elf_file *e)
{
	if (e->build_id_len || ph->p_filesz > NOTES_MAX)
		return;
	Elf_Type type = ph->p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR;
	Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)ph->p_offset, ph->p_filesz, type);
	if (!data)
		return;
	GElf_Nhdr note;
	size_t name, desc;
	for (size_t at = 0, next; (next = gelf_getnote(data, at, &note, &name, &desc)) > 0; at = next) {
		const char *bytes = data->d_buf;
		if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != sizeof(ELF_NOTE_GNU) ||
		    memcmp(bytes + name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) || note.n_descsz > BUILD_ID_MAX)
			continue;
		memcpy(e->build_id, bytes + desc, note.n_descsz);
		e->build_id_len = note.n_descsz;
		return;
	}
}

static bool has_needed(Elf *elf, const GElf_Phdr *ph)
{
	size_t entry = gelf_fsize(elf, ELF_T_DYN, 1, EV_CURRENT);
	size_t n = ph->p_filesz / (entry ? entry : 1);

	if (n > DYNAMIC_MAX)
		n = DYNAMIC_MAX;
	Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)ph->p_offset, n * entry, ELF_T_DYN);
	GElf_Dyn dyn;
	for (size_t i = 0; data && i < n && gelf_getdyn(data, (int)i, &dyn) && dyn.d_tag != DT_NULL; i++)
		if (dyn.d_tag == DT_NEEDED)
			return true;
	return false;
}

static void add_segment(struct elf_priv *p, const GElf_Phdr *ph)
{
	uint64_t bytes = ph->p_filesz;

	if (ph->p_offset >= p->file_bytes)
		return;
	if (bytes > p->file_bytes - ph->p_offset)
		bytes = p->file_bytes - ph->p_offset;
	if (bytes > UINT64_MAX - ph->p_vaddr)
		bytes = UINT64_MAX - ph->p_vaddr;
	p->segments[p->n_segments++] = (struct segment){
		.vaddr = ph->p_vaddr,
		.offset = ph->p_offset,
		.bytes = bytes,
		.exec = ph->p_flags & PF_X,
	};
}

static void widen_text(struct elf_file *e, const GElf_Phdr *ph)
{
	uint64_t end = ph->p_vaddr + ph->p_memsz;

	if (end < ph->p_vaddr)
		return; /* a broken header spans nothing */
	if (!e->text_end || ph->p_vaddr < e->text_start)
		e->text_start = ph->p_vaddr;
	if (end > e->text_end)
		e->text_end = end;
}

static int read_segments(Elf *elf, struct elf_file *e, struct elf_priv *p)
{
	size_t n;
	bool interp = false, needed = false;
	GElf_Phdr ph;

	if (elf_getphdrnum(elf, &n))
		return -EBADMSG;
	p->segments = xcalloc(n, sizeof(*p->segments));
	for (size_t i = 0; i < n; i++) {
		if (!gelf_getphdr(elf, (int)i, &ph))
			return -EBADMSG;
		if (ph.p_type == PT_LOAD)
			add_segment(p, &ph);
		if (ph.p_type == PT_LOAD && ph.p_flags & PF_X)
			widen_text(e, &ph);
		interp |= ph.p_type == PT_INTERP;
		if (ph.p_type == PT_NOTE)
			read_build_id(elf, &ph, e);
		if (ph.p_type == PT_DYNAMIC)
			needed |= has_needed(elf, &ph);
	}
	e->is_static = !interp && !needed;
	return 0;
}

struct section {
	Elf_Scn *scn;
	GElf_Shdr head;
	const char *name; /* "" when unreadable; borrowed from the Elf handle */
};

/* Next section behind `s` (all zero: the first) of a file with checked headers; false: that was the last. */
static bool next_section(Elf *elf, struct section *s)
{
	size_t names;

	s->scn = elf_nextscn(elf, s->scn);
	if (!s->scn || !gelf_getshdr(s->scn, &s->head))
		return false;
	const char *name = elf_getshdrstrndx(elf, &names) ? NULL : elf_strptr(elf, names, s->head.sh_name);
	s->name = name ? name : "";
	return true;
}

/* A table of fixed-size entries; *ret_n whole ones. NULL data and 0: empty. */
static int table_data(const struct section *s, uint64_t entry_bytes, Elf_Data **ret, size_t *ret_n)
{
	*ret = NULL;
	*ret_n = 0;
	if (!s->head.sh_size)
		return 0;
	if (s->head.sh_entsize != entry_bytes)
		return -EBADMSG;
	Elf_Data *data = elf_getdata(s->scn, NULL);
	if (!data || !data->d_buf)
		return -EBADMSG;
	*ret = data;
	*ret_n = data->d_size / entry_bytes;
	return 0;
}

struct reader {
	Elf *elf;
	struct elf_file *e;
	struct elf_priv *p;
	bool (*want)(const char *name, void *ctx);
	void *ctx;
	size_t cap;
};

/* Copy without the version ("malloc@@GLIBC_2.2.5" in symbol tables of programs); `buf` when that was cut off. */
static const char *bare_name(const char *name, char *buf, size_t cap)
{
	const char *at = strchr(name, '@');

	if (!at)
		return name;
	size_t len = (size_t)(at - name);
	if (!len || len >= cap)
		return name;
	memcpy(buf, name, len);
	buf[len] = 0;
	return buf;
}

static void take_symbol(struct reader *r, const GElf_Sym *sym, size_t strings)
{
	/* STT_GNU_IFUNC: the symbol's code is the resolver, not the function. */
	if (GELF_ST_TYPE(sym->st_info) != STT_FUNC || sym->st_shndx == SHN_UNDEF || sym->st_shndx == SHN_ABS)
		return;
	const struct segment *seg = segment_at(r->p, sym->st_value);
	const char *name = seg ? elf_strptr(r->elf, strings, sym->st_name) : NULL;
	if (!name || !*name)
		return;
	char buf[512];
	name = bare_name(name, buf, sizeof(buf));
	if (r->want && !r->want(name, r->ctx))
		return;
	r->e->funcs = grow_to(r->e->funcs, &r->cap, r->e->n_funcs + 1, sizeof(*r->e->funcs));
	r->e->funcs[r->e->n_funcs++] = (struct elf_func){
		.name = xstrdup(name),
		.vaddr = sym->st_value,
		.file_offset = seg->offset + (sym->st_value - seg->vaddr),
		.bytes = sym->st_size,
	};
}

static int take_symbols(struct reader *r, const struct section *s)
{
	Elf_Data *data;
	size_t n;
	int err = table_data(s, sizeof(Elf64_Sym), &data, &n);

	for (size_t i = 0; !err && i < n; i++) {
		GElf_Sym sym;
		if (gelf_getsym(data, (int)i, &sym))
			take_symbol(r, &sym, s->head.sh_link);
	}
	return err;
}

static bool ends_with(const char *s, const char *tail)
{
	size_t n = strlen(s), t = strlen(tail);

	return n >= t && !strcmp(s + n - t, tail);
}

static int read_sections(struct reader *r)
{
	struct section s = { 0 };
	int err = 0;

	while (!err && next_section(r->elf, &s)) {
		/* Position-independent Go programs have it as .data.rel.ro.gopclntab. */
		r->e->has_gopclntab |= ends_with(s.name, ".gopclntab");
		if (r->e->is_x86_64 && (s.head.sh_type == SHT_SYMTAB || s.head.sh_type == SHT_DYNSYM))
			err = take_symbols(r, &s);
	}
	return err;
}

static int compare_funcs(const void *a, const void *b)
{
	const struct elf_func *x = a, *y = b;
	int by_name = strcmp(x->name, y->name);

	if (by_name)
		return by_name;
	if (x->vaddr != y->vaddr)
		return x->vaddr < y->vaddr ? -1 : 1;
	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0; /* a known size first: it is kept */
}

static void sort_funcs(struct elf_file *e)
{
	size_t kept = 0;

	if (!e->n_funcs)
		return;
	qsort(e->funcs, e->n_funcs, sizeof(*e->funcs), compare_funcs);
	for (size_t i = 1; i < e->n_funcs; i++) {
		const struct elf_func *f = &e->funcs[i], *last = &e->funcs[kept];
		if (f->vaddr == last->vaddr && !strcmp(f->name, last->name))
			free(f->name);
		else
			e->funcs[++kept] = *f;
	}
	e->n_funcs = kept + 1;
}

static int compare_by_vaddr(const void *a, const void *b, void *funcs)
{
	const struct elf_func *x = (const struct elf_func *)funcs + ((const struct by_vaddr *)a)->func;
	const struct elf_func *y = (const struct elf_func *)funcs + ((const struct by_vaddr *)b)->func;

	if (x->vaddr != y->vaddr)
		return x->vaddr < y->vaddr ? -1 : 1;
	return x < y ? 1 : x > y ? -1 : 0; /* aliases: the first in order of names is met first from behind */
}

static uint64_t func_end(const struct elf_func *f)
{
	return f->bytes > UINT64_MAX - f->vaddr ? UINT64_MAX : f->vaddr + f->bytes;
}

static void index_funcs(const struct elf_file *e, struct elf_priv *p)
{
	uint64_t max_end = 0;

	p->by_vaddr = xcalloc(e->n_funcs, sizeof(*p->by_vaddr));
	for (size_t i = 0; i < e->n_funcs; i++)
		p->by_vaddr[i].func = (uint32_t)i;
	qsort_r(p->by_vaddr, e->n_funcs, sizeof(*p->by_vaddr), compare_by_vaddr, e->funcs);
	for (size_t i = 0; i < e->n_funcs; i++) {
		uint64_t end = func_end(&e->funcs[p->by_vaddr[i].func]);
		max_end = end > max_end ? end : max_end;
		p->by_vaddr[i].max_end = max_end;
	}
}

static int read_all(struct reader *r)
{
	GElf_Ehdr head;
	int err = check_headers(r->elf, r->p->file_bytes, &head);

	if (err)
		return err;
	r->e->is_64 = gelf_getclass(r->elf) == ELFCLASS64;
	r->e->is_x86_64 = r->e->is_64 && head.e_machine == EM_X86_64 && head.e_ident[EI_DATA] == ELFDATA2LSB;
	err = read_segments(r->elf, r->e, r->p);
	if (!err)
		err = read_sections(r);
	if (err)
		return err;
	if (!r->e->is_x86_64)
		return -ENOTSUP;
	sort_funcs(r->e);
	index_funcs(r->e, r->p);
	return 0;
}

/* Is it ELF at all, and of what size? */
static int probe_file(int fd, struct stat *ret_st)
{
	char magic[SELFMAG];

	if (fstat(fd, ret_st))
		return -errno;
	if (!S_ISREG(ret_st->st_mode) || !read_fully(fd, magic, sizeof(magic), 0) || memcmp(magic, ELFMAG, SELFMAG))
		return -ENOEXEC;
	return 0;
}

int elf_open(int fd, bool (*want)(const char *name, void *ctx), void *ctx, struct elf_file *ret)
{
	struct stat st;
	int err = probe_file(fd, &st);

	if (err)
		return err;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return -errno;
	struct elf_file e = { .dev = st.st_dev, .inode = st.st_ino };
	struct elf_priv *p = xcalloc(1, sizeof(*p));
	*p = (struct elf_priv){ .fd = own, .file_bytes = (uint64_t)st.st_size };
	e.priv = p;
	(void)elf_version(EV_CURRENT); /* fails for versions newer than the library only */
	_cleanup_(elf_endp) Elf *elf = elf_begin(own, ELF_C_READ, NULL);
	struct reader r = { .elf = elf, .e = &e, .p = p, .want = want, .ctx = ctx };
	err = elf && elf_kind(elf) == ELF_K_ELF ? read_all(&r) : -EBADMSG;
	if (err)
		elf_done(&e); /* keeps the identity */
	if (!err || err == -ENOTSUP)
		*ret = e;
	return err;
}

static void plt_done(struct plt *plt)
{
	for (size_t i = 0; i < plt->n_slots; i++)
		free(plt->slots[i].name);
	free(plt->slots);
	free(plt->stubs);
}

void elf_done(struct elf_file *e)
{
	struct elf_priv *p = e->priv;

	for (size_t i = 0; i < e->n_funcs; i++)
		free(e->funcs[i].name);
	free(e->funcs);
	e->funcs = NULL;
	e->n_funcs = 0;
	e->priv = NULL;
	if (!p)
		return;
	closep(&p->fd);
	plt_done(&p->plt);
	free(p->segments);
	free(p->by_vaddr);
	free(p);
}

const struct elf_func *elf_find(const struct elf_file *e, const char *name)
{
	size_t low = 0, high = e->n_funcs;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(e->funcs[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < e->n_funcs && !strcmp(e->funcs[low].name, name) ? &e->funcs[low] : NULL;
}

const struct elf_func *elf_find_vaddr(const struct elf_file *e, uint64_t vaddr)
{
	const struct elf_priv *p = e->priv;
	size_t low = 0, high = p ? e->n_funcs : 0;

	/* The first one that starts above the address. */
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (e->funcs[p->by_vaddr[mid].func].vaddr <= vaddr)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low > 0 && p->by_vaddr[low - 1].max_end > vaddr; low--) {
		const struct elf_func *f = &e->funcs[p->by_vaddr[low - 1].func];
		if (func_end(f) > vaddr)
			return f;
	}
	return NULL;
}

int elf_read_code(const struct elf_file *e, uint64_t vaddr, uint8_t *buf, size_t cap)
{
	const struct elf_priv *p = e->priv;
	const struct segment *s = p ? segment_at(p, vaddr) : NULL;

	if (!s)
		return -ENOENT;
	uint64_t at = vaddr - s->vaddr, n = s->bytes - at;
	if (n > cap)
		n = cap;
	if (n > INT_MAX)
		n = INT_MAX;
	return read_fully(p->fd, buf, n, s->offset + at) ? (int)n : -EIO;
}

int elf_vaddr_to_offset(const struct elf_file *e, uint64_t vaddr, uint64_t *ret)
{
	const struct segment *s = e->priv ? segment_at(e->priv, vaddr) : NULL;

	if (!s)
		return -ENOENT;
	*ret = s->offset + (vaddr - s->vaddr);
	return 0;
}

int elf_offset_to_vaddr(const struct elf_file *e, uint64_t offset, uint64_t *ret)
{
	const struct elf_priv *p = e->priv;
	const struct segment *found = NULL;

	/* Segments may share file bytes: addresses that are asked for are code. */
	for (size_t i = 0; p && i < p->n_segments; i++) {
		const struct segment *s = &p->segments[i];
		if (offset >= s->offset && offset - s->offset < s->bytes && (!found || s->exec))
			found = s;
	}
	if (!found)
		return -ENOENT;
	*ret = found->vaddr + (offset - found->offset);
	return 0;
}

struct plt_caps {
	size_t slots, stubs;
};

static void take_slots(Elf *elf, const struct section *rela, struct plt *plt, size_t *cap)
{
	struct section syms = { .scn = elf_getscn(elf, rela->head.sh_link) };
	Elf_Data *relocs, *symbols;
	size_t n, n_symbols;

	if (!syms.scn || !gelf_getshdr(syms.scn, &syms.head) || table_data(rela, sizeof(Elf64_Rela), &relocs, &n) ||
	    table_data(&syms, sizeof(Elf64_Sym), &symbols, &n_symbols) || !symbols)
		return;
	for (size_t i = 0; i < n; i++) {
		GElf_Rela rel;
		GElf_Sym sym;
		if (!gelf_getrela(relocs, (int)i, &rel))
			continue;
		uint64_t type = GELF_R_TYPE(rel.r_info), index = GELF_R_SYM(rel.r_info);
		if ((type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) || index >= n_symbols ||
		    !gelf_getsym(symbols, (int)index, &sym) || GELF_ST_TYPE(sym.st_info) == STT_OBJECT)
			continue;
		const char *name = elf_strptr(elf, syms.head.sh_link, sym.st_name);
		if (!name || !*name)
			continue;
		plt->slots = grow_to(plt->slots, cap, plt->n_slots + 1, sizeof(*plt->slots));
		plt->slots[plt->n_slots++] = (struct plt_slot){ .vaddr = rel.r_offset, .name = xstrdup(name) };
	}
}

static int compare_slots(const void *a, const void *b)
{
	const struct plt_slot *x = a, *y = b;

	return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

/* What is broken is left out: a stub that is not understood is no stub. */
static void plt_read(struct elf_priv *p)
{
	struct plt_caps cap = { 0 };
	struct section s = { 0 };

	p->plt_read = true;
	_cleanup_(elf_endp) Elf *elf = elf_begin(p->fd, ELF_C_READ, NULL);
	GElf_Ehdr head;
	if (!elf || elf_kind(elf) != ELF_K_ELF || check_headers(elf, p->file_bytes, &head))
		return;
	while (next_section(elf, &s)) {
		if (s.head.sh_type == SHT_RELA)
			take_slots(elf, &s, &p->plt, &cap.slots);
		if (s.head.sh_type != SHT_PROGBITS || strncmp(s.name, ".plt", 4) ||
		    s.head.sh_addr > UINT64_MAX - s.head.sh_size)
			continue;
		p->plt.stubs = grow_to(p->plt.stubs, &cap.stubs, p->plt.n_stubs + 1, sizeof(*p->plt.stubs));
		p->plt.stubs[p->plt.n_stubs++] = (struct range){ s.head.sh_addr, s.head.sh_addr + s.head.sh_size };
	}
	if (p->plt.n_slots)
		qsort(p->plt.slots, p->plt.n_slots, sizeof(*p->plt.slots), compare_slots);
}

/* `[endbr64] [bnd] jmp *disp32(%rip)`: the address of the pointer that it jumps through. */
static bool stub_slot(const uint8_t *code, size_t n, uint64_t vaddr, uint64_t *ret)
{
	static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa }, jmp[] = { 0xff, 0x25 };
	size_t at = 0;
	int32_t disp;

	if (n >= sizeof(endbr64) && !memcmp(code, endbr64, sizeof(endbr64)))
		at += sizeof(endbr64);
	if (at < n && code[at] == 0xf2)
		at++;
	if (n < at + sizeof(jmp) + sizeof(disp) || memcmp(code + at, jmp, sizeof(jmp)))
		return false;
	memcpy(&disp, code + at + sizeof(jmp), sizeof(disp));
	*ret = vaddr + at + sizeof(jmp) + sizeof(disp) + (uint64_t)(int64_t)disp;
	return true;
}

const char *elf_plt_target(const struct elf_file *e, uint64_t vaddr)
{
	struct elf_priv *p = e->priv;
	uint8_t code[16];
	struct plt_slot key;
	bool is_stub = false;

	if (!p)
		return NULL;
	if (!p->plt_read)
		plt_read(p);
	for (size_t i = 0; i < p->plt.n_stubs && !is_stub; i++)
		is_stub = vaddr >= p->plt.stubs[i].start && vaddr < p->plt.stubs[i].end;
	int n = is_stub ? elf_read_code(e, vaddr, code, sizeof(code)) : 0;
	if (n <= 0 || !stub_slot(code, (size_t)n, vaddr, &key.vaddr) || !p->plt.n_slots)
		return NULL;
	const struct plt_slot *slot = bsearch(&key, p->plt.slots, p->plt.n_slots, sizeof(key), compare_slots);
	return slot ? slot->name : NULL;
}
