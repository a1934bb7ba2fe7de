/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading ELF files. Known truth: a small file built here (every kind of symbol and stub at a known place), and the
 * C library as the dynamic linker has loaded it into this process. Then the same files cut short and damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "target/elf.h"
#include "target/families.h"
#include "util/mem.h"

/* Layout of the built file: headers and tables in the first page, code in the second one, at an address of its own. */
#define BASE 0x400000u
#define CODE_OFFSET 0x1000u
#define CODE 0x402000u
#define CODE_BYTES 0x200u
#define STUBS (CODE + 0x100)
#define GOT 0x405000u
#define FILE_BYTES (CODE_OFFSET + CODE_BYTES)

enum section_index {
	S_NULL,
	S_TEXT,
	S_PLT,
	S_DYNSYM,
	S_DYNSTR,
	S_RELA_PLT,
	S_RELA_DYN,
	S_SYMTAB,
	S_STRTAB,
	S_GO,
	S_NAMES,
	S_NR
};

struct image {
	unsigned char bytes[FILE_BYTES];
	size_t used; /* of the first page */
	Elf64_Shdr sections[S_NR];
	char strings[512]; /* names of sections and symbols alike */
	size_t strings_used;
};

static size_t put(struct image *im, const void *data, size_t n)
{
	size_t at = (im->used + 7) & ~(size_t)7;

	assert_true(at + n <= CODE_OFFSET);
	memcpy(im->bytes + at, data, n);
	im->used = at + n;
	return at;
}

static uint32_t name_at(struct image *im, const char *name)
{
	size_t at = im->strings_used;

	assert_true(at + strlen(name) < sizeof(im->strings));
	strcpy(im->strings + at, name);
	im->strings_used += strlen(name) + 1;
	return (uint32_t)at;
}

static void add_section(struct image *im, enum section_index i, const char *name, uint32_t type, const void *data,
			size_t n, size_t entry, uint32_t link)
{
	im->sections[i] = (Elf64_Shdr){ .sh_name = name_at(im, name),
					.sh_type = type,
					.sh_offset = data ? put(im, data, n) : 0,
					.sh_size = n,
					.sh_entsize = entry,
					.sh_link = link,
					.sh_addralign = 8 };
}

static Elf64_Sym symbol(struct image *im, const char *name, unsigned char type, uint16_t section, uint64_t value,
			uint64_t size)
{
	return (Elf64_Sym){ .st_name = name_at(im, name),
			    .st_info = ELF64_ST_INFO(STB_GLOBAL, type),
			    .st_shndx = section,
			    .st_value = value,
			    .st_size = size };
}

static void add_symbols(struct image *im)
{
	const Elf64_Sym dynamic[] = {
		{ 0 },
		symbol(im, "malloc", STT_FUNC, SHN_UNDEF, 0, 0),
		symbol(im, "free", STT_FUNC, SHN_UNDEF, 0, 0),
		symbol(im, "environ", STT_OBJECT, SHN_UNDEF, 0, 0),
		symbol(im, "exported", STT_FUNC, S_TEXT, CODE, 16),
	};
	const Elf64_Sym all[] = {
		{ 0 },
		symbol(im, "exported", STT_FUNC, S_TEXT, CODE, 16),
		symbol(im, "tiny@@VER_1", STT_FUNC, S_TEXT, CODE + 0x10, 0x10),
		symbol(im, "outer", STT_FUNC, S_TEXT, CODE + 0x20, 0x40),
		symbol(im, "inner", STT_FUNC, S_TEXT, CODE + 0x30, 8),
		symbol(im, "resolved", STT_GNU_IFUNC, S_TEXT, CODE + 0x60, 8),
		symbol(im, "variable", STT_OBJECT, S_TEXT, CODE + 0x68, 8),
		symbol(im, "same", STT_FUNC, S_TEXT, CODE + 0x80, 8),
		symbol(im, "same", STT_FUNC, S_TEXT, CODE + 0x70, 8),
		symbol(im, "nowhere", STT_FUNC, S_TEXT, 0x900000, 8),
		symbol(im, "absolute", STT_FUNC, SHN_ABS, CODE, 8),
		symbol(im, "unsized", STT_FUNC, S_TEXT, CODE + 0x90, 0),
		{ .st_name = 0xffffff, .st_info = STT_FUNC, .st_shndx = S_TEXT, .st_value = CODE },
	};

	add_section(im, S_DYNSYM, ".dynsym", SHT_DYNSYM, dynamic, sizeof(dynamic), sizeof(Elf64_Sym), S_DYNSTR);
	add_section(im, S_SYMTAB, ".symtab", SHT_SYMTAB, all, sizeof(all), sizeof(Elf64_Sym), S_STRTAB);
}

static void add_stub(struct image *im, size_t at, const char *code, size_t n, uint32_t slot)
{
	unsigned char *p = im->bytes + CODE_OFFSET + (STUBS - CODE) + at;
	int32_t disp = (int32_t)(GOT + 8 * slot - (STUBS + (uint32_t)at + (uint32_t)n + 4));

	memcpy(p, code, n);
	memcpy(p + n, &disp, sizeof(disp));
}

static void add_plt(struct image *im)
{
	const Elf64_Rela plt[] = {
		{ .r_offset = GOT, .r_info = ELF64_R_INFO(1, R_X86_64_JUMP_SLOT) },
		{ .r_offset = GOT + 8, .r_info = ELF64_R_INFO(2, R_X86_64_JUMP_SLOT) },
		{ .r_offset = GOT + 32, .r_info = ELF64_R_INFO(99, R_X86_64_JUMP_SLOT) },
	};
	const Elf64_Rela dyn[] = {
		{ .r_offset = GOT + 24, .r_info = ELF64_R_INFO(3, R_X86_64_GLOB_DAT) },
		{ .r_offset = GOT + 16, .r_info = ELF64_R_INFO(1, R_X86_64_GLOB_DAT) },
	};

	add_section(im, S_RELA_PLT, ".rela.plt", SHT_RELA, plt, sizeof(plt), sizeof(Elf64_Rela), S_DYNSYM);
	add_section(im, S_RELA_DYN, ".rela.dyn", SHT_RELA, dyn, sizeof(dyn), sizeof(Elf64_Rela), S_DYNSYM);
	add_stub(im, 0x00, "\xf3\x0f\x1e\xfa\xf2\xff\x25", 7, 0); /* endbr64; bnd jmp */
	add_stub(im, 0x10, "\xf3\x0f\x1e\xfa\xff\x25", 6, 1);	  /* endbr64; jmp */
	add_stub(im, 0x20, "\xff\x25", 2, 2);			  /* jmp, GLOB_DAT */
	add_stub(im, 0x30, "\xf2\xff\x25", 3, 0);		  /* bnd jmp */
	add_stub(im, 0x40, "\xff\x25", 2, 3);			  /* through a data symbol */
	add_stub(im, 0x50, "\xff\x25", 2, 4);			  /* symbol number out of range */
	add_stub(im, 0x60, "\xff\x25", 2, 9);			  /* slot without relocation */
	add_stub(im, 0x70, "\xff\x35", 2, 0);			  /* push, not jmp */
}

static void add_headers(struct image *im, uint32_t note_offset, uint32_t note_bytes)
{
	Elf64_Ehdr head = { .e_type = ET_EXEC,
			    .e_machine = EM_X86_64,
			    .e_version = EV_CURRENT,
			    .e_ehsize = sizeof(head),
			    .e_phoff = sizeof(head),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = 3,
			    .e_shentsize = sizeof(Elf64_Shdr),
			    .e_shnum = S_NR,
			    .e_shstrndx = S_NAMES };
	const Elf64_Phdr segments[] = {
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R,
		  .p_vaddr = BASE,
		  .p_filesz = CODE_OFFSET,
		  .p_memsz = CODE_OFFSET,
		  .p_align = 4096 },
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_X,
		  .p_offset = CODE_OFFSET,
		  .p_vaddr = CODE,
		  .p_filesz = CODE_BYTES,
		  .p_memsz = 0x800,
		  .p_align = 4096 },
		{ .p_type = PT_NOTE,
		  .p_flags = PF_R,
		  .p_offset = note_offset,
		  .p_vaddr = BASE + note_offset,
		  .p_filesz = note_bytes,
		  .p_memsz = note_bytes,
		  .p_align = 4 },
	};

	memcpy(head.e_ident, ELFMAG, SELFMAG);
	head.e_ident[EI_CLASS] = ELFCLASS64;
	head.e_ident[EI_DATA] = ELFDATA2LSB;
	head.e_ident[EI_VERSION] = EV_CURRENT;
	head.e_shoff = put(im, im->sections, sizeof(im->sections));
	memcpy(im->bytes, &head, sizeof(head));
	memcpy(im->bytes + sizeof(head), segments, sizeof(segments));
}

static const unsigned char note[] = { 4, 0, 0, 0, 8, 0, 0, 0, NT_GNU_BUILD_ID, 0, 0, 0, 'G', 'N', 'U', 0,
				      1, 2, 3, 4, 5, 6, 7, 8 };

static void build(struct image *im)
{
	*im = (struct image){ .used = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr), .strings_used = 1 };
	size_t note_offset = put(im, note, sizeof(note));
	memset(im->bytes + CODE_OFFSET, 0x90, CODE_BYTES);
	add_symbols(im);
	add_plt(im);
	add_section(im, S_TEXT, ".text", SHT_PROGBITS, NULL, 0x100, 0, 0);
	im->sections[S_TEXT].sh_addr = CODE;
	im->sections[S_TEXT].sh_offset = CODE_OFFSET;
	add_section(im, S_PLT, ".plt.sec", SHT_PROGBITS, NULL, 0x80, 0, 0);
	im->sections[S_PLT].sh_addr = STUBS;
	im->sections[S_PLT].sh_offset = CODE_OFFSET + 0x100;
	add_section(im, S_GO, ".gopclntab", SHT_PROGBITS, "x", 1, 0, 0);
	(void)name_at(im, ".strings");
	for (enum section_index i = S_DYNSTR; i < S_NR; i++)
		if (i == S_DYNSTR || i == S_STRTAB || i == S_NAMES)
			add_section(im, i, "", SHT_STRTAB, im->strings, sizeof(im->strings), 0, 0);
	add_headers(im, (uint32_t)note_offset, sizeof(note));
}

static int file_of(const void *bytes, size_t n)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, 0), (ssize_t)n);
	return fd;
}

static int open_bytes(const void *bytes, size_t n, struct elf_file *ret)
{
	int fd = file_of(bytes, n), err = elf_open(fd, NULL, NULL, ret);

	close(fd); /* only borrowed: everything below works without it */
	return err;
}

static void test_identity(void **state)
{
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	struct elf_file e;
	struct stat st;

	(void)state;
	build(im);
	int fd = file_of(im->bytes, FILE_BYTES);
	assert_int_equal(elf_open(fd, NULL, NULL, &e), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(e.dev == st.st_dev && e.inode == st.st_ino);
	assert_true(e.is_64 && e.is_x86_64 && e.has_gopclntab && e.is_static);
	assert_int_equal(e.build_id_len, 8);
	assert_memory_equal(e.build_id, note + 16, 8);
	elf_done(&e);
	assert_null(e.funcs);
	assert_null(elf_find(&e, "outer"));
	elf_done(&e); /* twice is harmless */
	close(fd);
}

static void test_functions(void **state)
{
	static const struct {
		const char *name;
		uint32_t at, bytes;
	} want[] = { { "exported", 0, 16 }, { "inner", 0x30, 8 },   { "outer", 0x20, 0x40 }, { "same", 0x70, 8 },
		     { "same", 0x80, 8 },   { "tiny", 0x10, 0x10 }, { "unsized", 0x90, 0 } };
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	struct elf_file e;

	(void)state;
	build(im);
	assert_int_equal(open_bytes(im->bytes, FILE_BYTES, &e), 0);
	assert_int_equal(e.n_funcs, ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_string_equal(e.funcs[i].name, want[i].name);
		assert_int_equal(e.funcs[i].vaddr, CODE + want[i].at);
		assert_int_equal(e.funcs[i].file_offset, CODE_OFFSET + want[i].at);
		assert_int_equal(e.funcs[i].bytes, want[i].bytes);
	}
	assert_ptr_equal(elf_find(&e, "same"), &e.funcs[3]);
	assert_ptr_equal(elf_find(&e, "tiny"), &e.funcs[5]);
	assert_null(elf_find(&e, "tiny@@VER_1"));
	assert_null(elf_find(&e, "malloc")); /* only imported */
	assert_null(elf_find(&e, "resolved"));
	assert_null(elf_find(&e, "zzz"));
	elf_done(&e);
}

static void test_find_by_address(void **state)
{
	static const struct {
		uint32_t at;
		const char *name;
	} want[] = { { 0, "exported" }, { 0x0f, "exported" }, { 0x10, "tiny" },	 { 0x20, "outer" }, { 0x2f, "outer" },
		     { 0x30, "inner" }, { 0x37, "inner" },    { 0x38, "outer" }, { 0x5f, "outer" }, { 0x60, NULL },
		     { 0x70, "same" },	{ 0x78, NULL },	      { 0x90, NULL },	 { 0x1ff, NULL } };
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	struct elf_file e;

	(void)state;
	build(im);
	assert_int_equal(open_bytes(im->bytes, FILE_BYTES, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		const struct elf_func *f = elf_find_vaddr(&e, CODE + want[i].at);
		if (want[i].name) {
			assert_non_null(f);
			assert_string_equal(f->name, want[i].name);
		} else {
			assert_null(f);
		}
	}
	assert_null(elf_find_vaddr(&e, 0));
	assert_null(elf_find_vaddr(&e, UINT64_MAX));
	elf_done(&e);
}

static bool want_outer(const char *name, void *ctx)
{
	++*(int *)ctx;
	return !strcmp(name, "outer");
}

static void test_filter(void **state)
{
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	struct elf_file e;
	int asked = 0;

	(void)state;
	build(im);
	int fd = file_of(im->bytes, FILE_BYTES);
	assert_int_equal(elf_open(fd, want_outer, &asked, &e), 0);
	close(fd);
	assert_int_equal(e.n_funcs, 1);
	assert_string_equal(e.funcs[0].name, "outer");
	assert_int_equal(asked, 8); /* functions only, "exported" in both tables */
	assert_string_equal(elf_find_vaddr(&e, CODE + 0x21)->name, "outer");
	elf_done(&e);
}

static void test_plt(void **state)
{
	static const char *const want[] = { "malloc", "free", "malloc", "malloc", NULL, NULL, NULL, NULL };
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	struct elf_file e;

	(void)state;
	build(im);
	/* The same bytes outside of a .plt section are no stub. */
	memcpy(im->bytes + CODE_OFFSET, im->bytes + CODE_OFFSET + 0x100, 16);
	assert_int_equal(open_bytes(im->bytes, FILE_BYTES, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		const char *name = elf_plt_target(&e, STUBS + 16 * i);
		if (want[i]) {
			assert_non_null(name);
			assert_string_equal(name, want[i]);
		} else {
			assert_null(name);
		}
	}
	assert_null(elf_plt_target(&e, CODE));
	assert_null(elf_plt_target(&e, STUBS + 1));
	assert_null(elf_plt_target(&e, 0));
	assert_null(elf_plt_target(&e, UINT64_MAX));
	elf_done(&e);
}

static void test_addresses_and_code(void **state)
{
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	struct elf_file e;
	uint8_t code[CODE_BYTES + 16];
	uint64_t v = 1;

	(void)state;
	build(im);
	assert_int_equal(open_bytes(im->bytes, FILE_BYTES, &e), 0);
	assert_int_equal(elf_read_code(&e, CODE + 0x100, code, 16), 16);
	assert_memory_equal(code, im->bytes + CODE_OFFSET + 0x100, 16);
	assert_int_equal(elf_read_code(&e, CODE + 0x1f8, code, sizeof(code)), 8); /* ends with the segment */
	assert_int_equal(elf_read_code(&e, CODE + CODE_BYTES, code, 1), -ENOENT); /* memory without file bytes */
	assert_int_equal(elf_read_code(&e, 0, code, 1), -ENOENT);
	assert_int_equal(elf_vaddr_to_offset(&e, CODE + 5, &v), 0);
	assert_int_equal(v, CODE_OFFSET + 5);
	assert_int_equal(elf_offset_to_vaddr(&e, CODE_OFFSET + 5, &v), 0);
	assert_int_equal(v, CODE + 5);
	v = 77;
	assert_int_equal(elf_vaddr_to_offset(&e, CODE + CODE_BYTES, &v), -ENOENT);
	assert_int_equal(elf_offset_to_vaddr(&e, FILE_BYTES, &v), -ENOENT);
	assert_int_equal(v, 77);
	elf_done(&e);
}

static void test_not_elf(void **state)
{
	static const char script[] = "#!/bin/sh\nexit 0\n";
	struct elf_file e = { .inode = 5 };
	int pipe_fds[2];

	(void)state;
	assert_int_equal(open_bytes(script, sizeof(script), &e), -ENOEXEC);
	assert_int_equal(open_bytes("", 0, &e), -ENOEXEC);
	assert_int_equal(open_bytes(ELFMAG, 3, &e), -ENOEXEC);
	assert_int_equal(open_bytes(ELFMAG, 4, &e), -EBADMSG);
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(elf_open(pipe_fds[0], NULL, NULL, &e), -ENOEXEC);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	assert_int_equal(elf_open(-1, NULL, NULL, &e), -EBADF);
	assert_int_equal(e.inode, 5); /* nothing was written */
}

static void test_other_machines(void **state)
{
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	Elf64_Ehdr *head = (Elf64_Ehdr *)im->bytes;
	Elf32_Ehdr small = { .e_type = ET_EXEC,
			     .e_machine = EM_386,
			     .e_version = EV_CURRENT,
			     .e_ehsize = sizeof(small),
			     .e_phoff = sizeof(small),
			     .e_phentsize = sizeof(Elf32_Phdr),
			     .e_phnum = 1 };
	Elf32_Phdr notes = { .p_type = PT_NOTE, .p_offset = 128, .p_filesz = sizeof(note), .p_align = 4 };
	struct elf_file e = { 0 };
	unsigned char bytes[256] = { 0 };

	(void)state;
	build(im);
	head->e_machine = EM_AARCH64;
	assert_int_equal(open_bytes(im->bytes, FILE_BYTES, &e), -ENOTSUP);
	assert_true(e.is_64 && !e.is_x86_64 && e.inode && e.build_id_len == 8 && !e.n_funcs);
	elf_done(&e);

	memcpy(small.e_ident, ELFMAG, SELFMAG);
	small.e_ident[EI_CLASS] = ELFCLASS32;
	small.e_ident[EI_DATA] = ELFDATA2LSB;
	small.e_ident[EI_VERSION] = EV_CURRENT;
	memcpy(bytes, &small, sizeof(small));
	memcpy(bytes + sizeof(small), &notes, sizeof(notes));
	memcpy(bytes + 128, note, sizeof(note));
	assert_int_equal(open_bytes(bytes, sizeof(bytes), &e), -ENOTSUP);
	assert_true(!e.is_64 && !e.is_x86_64 && e.inode && e.build_id_len == 8);
	assert_memory_equal(e.build_id, note + 16, 8);
	elf_done(&e);
}

/* Everything that callers do, on a file that may be anything. */
static int use(const void *bytes, size_t n)
{
	struct elf_file e;
	uint8_t code[64];
	uint64_t v;
	int err = open_bytes(bytes, n, &e);

	assert_true(!err || err == -EBADMSG || err == -ENOEXEC || err == -ENOTSUP);
	if (err && err != -ENOTSUP)
		return err;
	assert_true(e.build_id_len <= BUILD_ID_MAX);
	for (size_t i = 0; i < e.n_funcs; i++) {
		const struct elf_func *f = &e.funcs[i];
		assert_true(f->file_offset < n);
		int got = elf_read_code(&e, f->vaddr, code, sizeof(code));
		assert_true(got > 0 && f->file_offset + (size_t)got <= n);
		assert_memory_equal(code, (const char *)bytes + f->file_offset, (size_t)got);
		assert_non_null(elf_find(&e, f->name));
		(void)elf_plt_target(&e, f->vaddr);
	}
	for (size_t i = 0; i < 8; i++)
		(void)elf_plt_target(&e, STUBS + 16 * i);
	(void)elf_find_vaddr(&e, CODE + 0x21);
	(void)elf_offset_to_vaddr(&e, CODE_OFFSET, &v);
	elf_done(&e);
	return err;
}

static void test_every_truncation(void **state)
{
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	int n_broken = 0;

	(void)state;
	build(im);
	for (size_t n = 0; n < FILE_BYTES; n++)
		n_broken += use(im->bytes, n) != 0;
	/* .text and .plt.sec are described to the last 0x80 bytes. */
	assert_int_equal(n_broken, FILE_BYTES - 0x80);
	assert_int_equal(use(im->bytes, FILE_BYTES), 0);
}

static void test_every_byte_damaged(void **state)
{
	static const unsigned char flips[] = { 0x01, 0x80, 0xff };
	_cleanup_(freep) struct image *im = xcalloc(1, sizeof(*im));
	int n_broken = 0;

	(void)state;
	build(im);
	for (size_t at = 0; at < FILE_BYTES; at++)
		for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
			im->bytes[at] ^= flips[i];
			n_broken += use(im->bytes, FILE_BYTES) == -EBADMSG;
			im->bytes[at] ^= flips[i];
		}
	assert_true(n_broken > 100);
}

/* The dynamic linker: real, with real tables, and small. */
static void test_damage_to_a_real_file(void **state)
{
	uint32_t seed = 1;
	struct stat st;
	int fd = open("/lib64/ld-linux-x86-64.so.2", O_RDONLY | O_CLOEXEC);

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(fstat(fd, &st), 0);
	size_t n = (size_t)st.st_size;
	_cleanup_(freep) unsigned char *bytes = xcalloc(n, 1);
	assert_int_equal(read(fd, bytes, n), (ssize_t)n);
	close(fd);
	assert_int_equal(use(bytes, n), 0);
	for (size_t cut = 1; cut < n; cut += n / 50)
		assert_int_not_equal(use(bytes, n - cut), 0);
	for (int round = 0; round < 300; round++) {
		size_t at[4];
		unsigned char old[4];
		for (size_t i = 0; i < 4; i++) {
			seed = seed * 1664525u + 1013904223u;
			/* Three of four into the headers and tables at either end. */
			size_t where = (seed >> 8) % n;
			at[i] = i == 0 ? where : i == 1 ? n - 1 - where % 2048 : where % 8192;
			old[i] = bytes[at[i]];
			bytes[at[i]] ^= (unsigned char)(seed >> 3 | 1);
		}
		(void)use(bytes, n);
		for (size_t i = 4; i-- > 0;)
			bytes[at[i]] = old[i];
	}
	assert_int_equal(use(bytes, n), 0);
}

/* The C library of this process: what the file says against what the dynamic linker did. */
static void test_against_the_dynamic_linker(void **state)
{
	static const char *const names[] = { "malloc",	       "calloc",	"realloc", "free",
					     "posix_memalign", "aligned_alloc", "memalign" };
	void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	struct link_map *map = NULL;
	struct elf_file e;

	(void)state;
	if (!libc || dlinfo(libc, RTLD_DI_LINKMAP, &map))
		skip();
	int fd = open(map->l_name, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(elf_open(fd, family_wants, NULL, &e), 0);
	close(fd);
	assert_false(e.is_static);
	assert_true(e.n_funcs >= ARRAY_SIZE(names) && e.n_funcs < 30);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const struct elf_func *f = elf_find(&e, names[i]);
		const unsigned char *loaded = dlsym(libc, names[i]);
		uint8_t code[16];
		assert_non_null(f);
		assert_non_null(loaded);
		assert_true(f->vaddr + map->l_addr == (uintptr_t)loaded);
		assert_int_equal(elf_read_code(&e, f->vaddr, code, sizeof(code)), sizeof(code));
		assert_memory_equal(code, loaded, sizeof(code));
		const struct elf_func *at = elf_find_vaddr(&e, f->vaddr + f->bytes - 1);
		assert_non_null(at);
		assert_int_equal(at->vaddr, f->vaddr);
	}
	elf_done(&e);
	dlclose(libc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_functions),
		cmocka_unit_test(test_find_by_address),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_plt),
		cmocka_unit_test(test_addresses_and_code),
		cmocka_unit_test(test_not_elf),
		cmocka_unit_test(test_other_machines),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_every_byte_damaged),
		cmocka_unit_test(test_damage_to_a_real_file),
		cmocka_unit_test(test_against_the_dynamic_linker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
