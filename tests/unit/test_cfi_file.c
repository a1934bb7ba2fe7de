/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From files to rows: common entries of every version and encoding, where sections are found, how functions that overlap, leave gaps or come
 * twice are put together, and what hostile files may cost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/cfi.h"
#include "probe/cfi_image.h"
#include "test_cfi_file.h"

#define BYTES(s) (s), sizeof(s) - 1
#define OFFSET_16 "\x0e\x10" /* CFA is rsp + 16, so that a function is told from another */
#define OFFSET_24 "\x0e\x18"

/* Rows as "+address:cfa ...", "-" for no rule, "?" for one that is not rsp + offset. */
static void describe(const struct cfi *c, char *ret, size_t cap)
{
	size_t n = 0;

	ret[0] = 0;
	for (size_t i = 0; i < c->n_rows && n < cap; i++) {
		const struct unwind_rule *r = &c->rules[c->rows[i].rule];
		char rule[16] = "-";
		if (r->kind == UNWIND_SP)
			(void)snprintf(rule, sizeof(rule), "%d", r->cfa_off); /* fits */
		else if (r->kind != UNWIND_NONE)
			rule[0] = '?';
		n += (size_t)snprintf(ret + n, cap - n, "%s%lx:%s", i ? " " : "",
				      (unsigned long)(c->rows[i].vaddr - CODE), rule);
	}
}

static void check(const struct file_parts *f, const char *want, size_t n_broken)
{
	_cleanup_(bytes_done) struct bytes im = { 0 };
	_cleanup_(cfi_done) struct cfi c = { 0 };
	char got[512];

	make_file(f, &im);
	assert_int_equal(cfi_build_mem(im.p, im.n, &c), 0);
	describe(&c, got, sizeof(got));
	assert_string_equal(got, want);
	assert_int_equal(c.n_broken, n_broken);
}

static void check_eh(const struct bytes *eh, const char *want, size_t n_broken)
{
	check(&(struct file_parts){ .eh = eh }, want, n_broken);
}

static void test_plain(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, im = { 0 };
	_cleanup_(closep) int fd = memfd_create("cfi", MFD_CLOEXEC);
	_cleanup_(cfi_done) struct cfi c = { 0 };
	char got[128];

	(void)state;
	add_fde(&eh, add_cie(&eh), CODE + 0x40, 0x20, BYTES("\x41" OFFSET_16));
	check_eh(&eh, "40:8 41:16 60:-", 0);
	/* The same from a descriptor. */
	make_file(&(struct file_parts){ .eh = &eh }, &im);
	assert_int_equal(write(fd, im.p, im.n), im.n);
	assert_int_equal(cfi_build(fd, &c), 0);
	describe(&c, got, sizeof(got));
	assert_string_equal(got, "40:8 41:16 60:-");
	assert_int_equal(c.n_rules, 3);
	assert_null(cfi_find(&c, CODE + 0x3f));
	assert_ptr_equal(cfi_find(&c, CODE + 0x40), &c.rows[0]);
	assert_ptr_equal(cfi_find(&c, CODE + 0x41), &c.rows[1]);
	assert_ptr_equal(cfi_find(&c, CODE + 0x5f), &c.rows[1]);
	assert_ptr_equal(cfi_find(&c, UINT64_MAX), &c.rows[2]);
}

/* Augmentations and what follows them; a function's start written as its letter R says. */
static void test_augmentations(void **state)
{
	static const struct {
		const char *letters, *data;
		size_t n_data;
		bool is_ok;
	} cases[] = {
		{ "zR", BYTES("\x1b"), true },
		{ "zRS", BYTES("\x1b"), true },
		{ "zRB", BYTES("\x1b"), true },
		{ "zPLR", BYTES("\x9b\x01\x02\x03\x04\x1b\x1b"), true },
		{ "zPLR", BYTES("\x03\x01\x02\x03\x04\x1b\x1b"), true },
		{ "zPLR", BYTES("\xff\x1b\x1b"), true },
		{ "zLR", BYTES("\xff\x1b"), true },
		{ "zR", BYTES("\x1b\x01\x02\x03"), true }, /* more data than letters */
		{ "zR?", BYTES("\x1b\x01"), true },	   /* the length says what to skip */
		{ "zR", BYTES(""), false },
		{ "zPR", BYTES("\x03\x01\x02"), false },
		{ "zPR", BYTES("\x07\x01\x02\x03\x04\x1b"), false }, /* no such format */
		{ "?", BYTES(""), false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(bytes_done) struct bytes eh = { 0 };
		size_t cie = add_cie_with(&eh, cases[i].letters, cases[i].data, cases[i].n_data,
					  BYTES(DEFAULT_CIE_PROGRAM));
		add_fde(&eh, cie, CODE, 0x20, BYTES(OFFSET_16));
		check_eh(&eh, cases[i].is_ok ? "0:16 20:-" : "", cases[i].is_ok ? 0 : 2);
	}
}

/* Without z: letters have their data behind the registers, functions no length of data. */
static void test_old_augmentations(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	size_t eh_cie, bare_cie, at;

	(void)state;
	eh_cie = entry_begin(&eh);
	put_int(&eh, 0, 4);
	put(&eh, BYTES("\x01"
		       "eh\0\x11\x22\x33\x44\x55\x66\x77\x88\x01\x78\x10" DEFAULT_CIE_PROGRAM));
	entry_end(&eh, eh_cie);
	bare_cie = add_cie_with(&eh, "R", BYTES("\x03"), BYTES(DEFAULT_CIE_PROGRAM));
	at = entry_begin(&eh);
	put_int(&eh, eh.n - eh_cie, 4);
	put_int(&eh, CODE, 8);
	put_int(&eh, 0x20, 8);
	put(&eh, BYTES(OFFSET_16));
	entry_end(&eh, at);
	at = entry_begin(&eh);
	put_int(&eh, eh.n - bare_cie, 4);
	put_int(&eh, CODE + 0x20, 4);
	put_int(&eh, 0x20, 4);
	put(&eh, BYTES(OFFSET_24));
	entry_end(&eh, at);
	check_eh(&eh, "0:16 20:24 40:-", 0);
}

static void test_pointer_encodings(void **state)
{
	/* Start as absolute value or distance, then the length in the same format. */
	static const struct {
		uint8_t encoding, bytes;
		bool is_pcrel, is_ok;
	} cases[] = {
		{ 0x00, 8, false, true },  { 0x03, 4, false, true },  { 0x04, 8, false, true },
		{ 0x08, 8, false, true },  { 0x0b, 4, false, true },  { 0x0c, 8, false, true },
		{ 0x10, 8, true, true },   { 0x13, 4, true, true },   { 0x14, 8, true, true },
		{ 0x1b, 4, true, true },   { 0x1c, 8, true, true },   { 0x20, 8, false, false }, /* from .text */
		{ 0x30, 8, false, false }, { 0x40, 8, false, false }, /* from .got, from the function */
		{ 0x80, 8, false, false }, { 0x9b, 4, true, false },  /* where it stands */
		{ 0x05, 8, false, false }, { 0xff, 8, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(bytes_done) struct bytes eh = { 0 };
		char encoding = (char)cases[i].encoding;
		size_t cie = add_cie_with(&eh, "zR", &encoding, 1, BYTES(DEFAULT_CIE_PROGRAM));
		size_t at = entry_begin(&eh);
		put_int(&eh, eh.n - cie, 4);
		put_int(&eh, CODE - (cases[i].is_pcrel ? EH_OFFSET + eh.n : 0), cases[i].bytes);
		put_int(&eh, 0x20, cases[i].bytes);
		put(&eh, BYTES("\0" OFFSET_16));
		entry_end(&eh, at);
		check_eh(&eh, cases[i].is_ok ? "0:16 20:-" : "", !cases[i].is_ok);
	}
}

static void test_more_pointer_encodings(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	static const struct {
		const char *encoding, *pointers;
		size_t n;
	} cases[] = {
		{ "\x01", BYTES("\x80\x80\x40\x20") },				     /* ULEB128 */
		{ "\x09", BYTES("\xa0\x80\xc0\x00\x20") },			     /* SLEB128 */
		{ "\x0b", BYTES("\x40\x00\x10\x00\x20\x00\x00\x00") },		     /* signed, positive */
		{ "\x50", BYTES("\0\0\0\x60\x00\x10\0\0\0\0\0\x20\0\0\0\0\0\0\0") }, /* aligned to 8 */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t cie = add_cie_with(&eh, "zR", cases[i].encoding, 1, BYTES(DEFAULT_CIE_PROGRAM));
		size_t at;
		/* Nops in the CIE, until the pointer would not be aligned. */
		while (cases[i].encoding[0] == 0x50 && (EH_OFFSET + eh.n + 8) % 8 != 5) {
			put_int(&eh, 0, 1);
			eh.p[cie]++;
		}
		at = entry_begin(&eh);
		put_int(&eh, eh.n - cie, 4);
		put(&eh, cases[i].pointers, cases[i].n);
		put(&eh, BYTES("\0" OFFSET_16));
		entry_end(&eh, at);
	}
	check_eh(&eh, "0:16 80:-", 0);
}

/* Versions of .debug_frame and what a version 4 may say; 64-bit lengths in both sections. */
static void test_versions(void **state)
{
	static const int versions[] = { 1, 3, 4 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		_cleanup_(bytes_done) struct bytes debug = { 0 };
		add_debug_cie(&debug, versions[i]);
		add_debug_fde(&debug, 0, CODE, 0x20, BYTES(OFFSET_16));
		check(&(struct file_parts){ .debug = &debug }, "0:16 20:-", 0);
		if (versions[i] == 4) {
			debug.p[10] = 4; /* size of addresses */
			check(&(struct file_parts){ .debug = &debug }, "", 2);
			debug.p[10] = 8;
			debug.p[11] = 2; /* of segment selectors */
			check(&(struct file_parts){ .debug = &debug }, "", 2);
			debug.p[11] = 0;
		}
		debug.p[8] = 2; /* a version that never was */
		check(&(struct file_parts){ .debug = &debug }, "", 2);
	}
}

static void test_lengths_of_64_bits(void **state)
{
	_cleanup_(bytes_done) struct bytes debug = { 0 }, eh = { 0 };
	static const char cie[] = "\x01\0\x01\x78\x10" DEFAULT_CIE_PROGRAM;

	(void)state;
	put_int(&debug, UINT32_MAX, 4);
	put_int(&debug, 8 + sizeof(cie) - 1, 8);
	put_int(&debug, UINT64_MAX, 8);
	put(&debug, cie, sizeof(cie) - 1);
	put_int(&debug, UINT32_MAX, 4);
	put_int(&debug, 8 + 16 + 2, 8);
	put_int(&debug, 0, 8);
	put_int(&debug, CODE, 8);
	put_int(&debug, 0x20, 8);
	put(&debug, BYTES(OFFSET_16));
	check(&(struct file_parts){ .debug = &debug }, "0:16 20:-", 0);
	put_int(&eh, UINT32_MAX, 4);
	put_int(&eh, 4 + sizeof(cie) - 1, 8);
	put_int(&eh, 0, 4);
	put(&eh, cie, sizeof(cie) - 1);
	put_int(&eh, UINT32_MAX, 4);
	put_int(&eh, 4 + 16 + 2, 8);
	put_int(&eh, eh.n, 4);
	put_int(&eh, CODE, 8);
	put_int(&eh, 0x20, 8);
	put(&eh, BYTES(OFFSET_24));
	check_eh(&eh, "0:24 20:-", 0);
}

/* gas moves the first instructions of a cold part into a CIE of its own, restores among them. */
static void test_cie_programs(void **state)
{
	static const struct {
		const char *program;
		size_t n;
		const char *want;
		size_t n_broken;
	} cases[] = {
		{ BYTES("\x0c\x06\x10\x90\x01\x86\x02\x0c\x07\x08\xc6"), "0:8 20:-", 0 },
		{ BYTES("\x0c\x07\x08\x90\x01\x0a\x0e\x20\x0b"), "0:8 20:-", 0 },
		{ BYTES("\x0c\x07\x08"), "0:? 20:-", 0 },     /* no return address */
		{ BYTES("\x90\x01"), "0:? 20:-", 0 },	      /* no CFA */
		{ BYTES("\x0c\x07\x08\x90\x01\x41"), "", 2 }, /* no function to move in */
		{ BYTES("\x0c\x07"), "", 2 },
		{ BYTES("\x0b"), "", 2 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(bytes_done) struct bytes eh = { 0 };
		size_t cie = add_cie_with(&eh, "zR", "\x1b", 1, cases[i].program, cases[i].n);
		add_fde(&eh, cie, CODE, 0x20, BYTES(""));
		check_eh(&eh, cases[i].want, cases[i].n_broken);
	}
}

static void test_return_address_column(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	size_t cie = add_cie(&eh);

	(void)state;
	add_fde(&eh, cie, CODE, 0x20, BYTES(""));
	eh.p[cie + 14] = 8; /* as a 32-bit file has it */
	check_eh(&eh, "", 2);
}

/* Entries that don't hold together; those around them stay. */
static void test_broken_entries(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	size_t cie = add_cie(&eh), at;

	(void)state;
	add_fde(&eh, cie, CODE, 0x20, BYTES(OFFSET_16));
	add_fde(&eh, cie - 4, CODE + 0x20, 0x20, BYTES(OFFSET_24)); /* no CIE begins there */
	add_fde(&eh, cie, CODE - 0x10, 0x20, BYTES(OFFSET_24));	    /* begins before the code */
	add_fde(&eh, cie, CODE + CODE_BYTES - 0x10, 0x20, BYTES(OFFSET_24));
	add_fde(&eh, cie, 0, 0x20, BYTES(OFFSET_24));
	add_fde(&eh, cie, CODE + 0x20, 0, BYTES(OFFSET_24)); /* nothing: not broken */
	at = entry_begin(&eh);				     /* cut */
	put_int(&eh, eh.n - cie, 4);
	put_int(&eh, CODE + 0x20 - (EH_OFFSET + eh.n), 4);
	entry_end(&eh, at);
	at = entry_begin(&eh); /* no room for an id */
	put_int(&eh, 0, 2);
	entry_end(&eh, at);
	add_fde(&eh, cie, CODE + 0x20, 0x20, BYTES("\x41\x3f"));
	add_fde(&eh, cie, CODE + 0x40, 0x20, BYTES(OFFSET_24));
	check_eh(&eh, "0:16 20:- 40:24 60:-", 7);
	/* Lengths that are none end the walk. */
	put_int(&eh, 0xfffffff0, 4);
	add_fde(&eh, cie, CODE + 0x60, 0x20, BYTES(OFFSET_16));
	check_eh(&eh, "0:16 20:- 40:24 60:-", 8);
}

static void test_length_beyond_end(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	size_t cie = add_cie(&eh);

	(void)state;
	add_fde(&eh, cie, CODE, 0x20, BYTES(OFFSET_16));
	put_int(&eh, 100, 4);
	put_int(&eh, 0, 4);
	check_eh(&eh, "0:16 20:-", 1);
	eh.n -= 5; /* less than a length */
	check_eh(&eh, "0:16 20:-", 1);
}

static void test_order_and_gaps(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	size_t cie = add_cie(&eh);

	(void)state;
	add_fde(&eh, cie, CODE + 0x100, 0x10, BYTES(OFFSET_16));
	add_fde(&eh, cie, CODE, 0x21, BYTES(OFFSET_16));
	add_fde(&eh, cie, CODE + 0x30, 0x10, BYTES(OFFSET_16)); /* 15 bytes behind: padding, and the rule is the same */
	add_fde(&eh, cie, CODE + 0x4f, 0x11, BYTES(OFFSET_24)); /* 15 */
	add_fde(&eh, cie, CODE + 0x70, 0x10, BYTES(OFFSET_24)); /* 16 */
	check_eh(&eh, "0:16 4f:24 60:- 70:24 80:- 100:16 110:-", 0);
}

static void test_overlaps(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	size_t cie = add_cie(&eh);

	(void)state;
	add_fde(&eh, cie, CODE + 0x10, 0x40, BYTES("\x48" OFFSET_24 "\x58\x0e\x20")); /* 18:24 30:32, first 10 hidden */
	add_fde(&eh, cie, CODE, 0x20, BYTES(OFFSET_16));
	add_fde(&eh, cie, CODE, 0x20, BYTES(OFFSET_24)); /* the same again: the first in the section wins */
	add_fde(&eh, cie, CODE + 0x38, 0x10, BYTES("\x0e\x28"));
	check_eh(&eh, "0:16 20:24 30:32 50:-", 2);
}

/* .debug_frame fills in what .eh_frame leaves out, in the middle of its functions too. */
static void test_both_sections(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, debug = { 0 };
	size_t cie = add_cie(&eh);
	const struct file_parts f = { .eh = &eh, .debug = &debug };

	(void)state;
	add_fde(&eh, cie, CODE + 0x20, 0x10, BYTES(OFFSET_16));
	add_fde(&eh, cie, CODE + 0x38, 0x08, BYTES(OFFSET_16));
	add_debug_cie(&debug, 4);
	add_debug_fde(&debug, 0, 0, 0x1000, BYTES("\x3f")); /* dropped by the linker: not even looked at */
	add_debug_fde(&debug, 0, CODE + 0x10, 0x40, BYTES("\x58" OFFSET_24));
	check(&f, "10:8 20:16 30:24 38:16 40:24 50:-", 0);
	add_debug_fde(&debug, 0, CODE + 0x80, 0x10, BYTES("\x3f"));
	check(&f, "10:8 20:16 30:24 38:16 40:24 50:-", 1);
}

/* What is linked in the middle ends the section only where its size is not known. */
static void test_terminators(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 };
	size_t cie = add_cie(&eh);

	(void)state;
	add_fde(&eh, cie, CODE, 0x20, BYTES(OFFSET_16));
	put_int(&eh, 0, 4);
	add_fde(&eh, cie, CODE + 0x20, 0x20, BYTES(OFFSET_24));
	put_int(&eh, 0, 4);
	check_eh(&eh, "0:16 20:24 40:-", 0);
	check(&(struct file_parts){ .eh = &eh, .has_hdr = true }, "0:16 20:24 40:-", 0);
	check(&(struct file_parts){ .eh = &eh, .has_hdr = true, .has_no_sections = true }, "0:16 20:-", 0);
	check(&(struct file_parts){ .eh = &eh, .has_no_sections = true }, "", 0);
}

/* A file of debug information: its .eh_frame has no bytes, and headers as the program has them, which lead to something else. */
static void test_section_without_bytes(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, im = { 0 };
	_cleanup_(cfi_done) struct cfi c = { 0 };
	uint64_t table;
	uint32_t type = SHT_NOBITS;

	(void)state;
	add_fde(&eh, add_cie(&eh), CODE, 0x20, BYTES(OFFSET_16));
	make_file(&(struct file_parts){ .eh = &eh, .has_hdr = true }, &im);
	memcpy(&table, im.p + offsetof(Elf64_Ehdr, e_shoff), 8);
	memcpy(im.p + table + 2 * sizeof(Elf64_Shdr) + offsetof(Elf64_Shdr, sh_type), &type, 4);
	assert_int_equal(cfi_build_mem(im.p, im.n, &c), 0);
	assert_int_equal(c.n_rows, 0);
}

/* zlib's container with one stored block (RFC 1950, 1951), so that no compressor is needed. */
static void pack(const struct bytes *plain, uint32_t type, uint64_t claimed, struct bytes *ret)
{
	const Elf64_Chdr head = { .ch_type = type, .ch_size = claimed, .ch_addralign = 1 };
	uint32_t a = 1, b = 0;

	put(ret, &head, sizeof(head));
	put(ret, "\x78\x01\x01", 3);
	put_int(ret, plain->n, 2);
	put_int(ret, ~plain->n, 2);
	put(ret, plain->p, plain->n);
	for (size_t i = 0; i < plain->n; i++) {
		a = (a + plain->p[i]) % 65521;
		b = (b + a) % 65521;
	}
	put_int(ret, __builtin_bswap32(b << 16 | a), 4);
}

static void test_packed_section(void **state)
{
	static const struct {
		uint32_t type;
		size_t more; /* bytes claimed beyond the true ones */
		bool is_ok;
	} cases[] = {
		{ ELFCOMPRESS_ZLIB, 0, true },
		{ ELFCOMPRESS_ZLIB, 1, false },
		{ ELFCOMPRESS_ZLIB, CFI_SECTION_MAX, false },
		{ ELFCOMPRESS_ZLIB, (size_t)1 << 40, false },
		{ 77, 0, false },
	};
	_cleanup_(bytes_done) struct bytes plain = { 0 }, eh = { 0 };

	(void)state;
	add_debug_cie(&plain, 3);
	add_debug_fde(&plain, 0, CODE, 0x20, BYTES(OFFSET_16));
	add_fde(&eh, add_cie(&eh), CODE + 0x20, 0x20, BYTES(OFFSET_24));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(bytes_done) struct bytes packed = { 0 };
		const struct file_parts f = { .eh = &eh, .debug = &packed, .is_debug_packed = true };
		pack(&plain, cases[i].type, plain.n + cases[i].more, &packed);
		check(&f, cases[i].is_ok ? "0:16 20:24 40:-" : "20:24 40:-", !cases[i].is_ok);
	}
}

static void test_not_for_us(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		int want;
	} cases[] = {
		{ 0, 0, -ENOEXEC },
		{ EI_CLASS, ELFCLASS32, -ENOEXEC },
		{ EI_DATA, ELFDATA2MSB, -ENOEXEC },
		{ offsetof(Elf64_Ehdr, e_machine), EM_386, -ENOEXEC },
		{ offsetof(Elf64_Ehdr, e_phentsize), 1, -EBADMSG },
		{ offsetof(Elf64_Ehdr, e_phoff) + 4, 1, -EBADMSG },
		{ offsetof(Elf64_Ehdr, e_phnum) + 1, 0xff, -EBADMSG },
	};
	_cleanup_(bytes_done) struct bytes eh = { 0 }, im = { 0 };
	struct cfi c;

	(void)state;
	add_fde(&eh, add_cie(&eh), CODE, 0x20, BYTES(""));
	make_file(&(struct file_parts){ .eh = &eh }, &im);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t before = im.p[cases[i].at];
		im.p[cases[i].at] = cases[i].value;
		assert_int_equal(cfi_build_mem(im.p, im.n, &c), cases[i].want);
		im.p[cases[i].at] = before;
	}
	assert_int_equal(cfi_build_mem(im.p, 10, &c), -ENOEXEC);
	assert_int_equal(cfi_build(-1, &c), -EIO);
}

/* Each cut and each changed byte: an answer, with rows in order, and no more than the file can say. */
static void test_damaged(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, debug = { 0 }, im = { 0 };
	size_t cie = add_cie(&eh);

	(void)state;
	add_fde(&eh, cie, CODE, 0x40, BYTES("\x41" OFFSET_16 "\x86\x02\x43\x0d\x06\x0a\x41\xc6\x0c\x07\x08\x0b"));
	add_fde(&eh, cie, CODE + 0x40, 0x20, BYTES("\x0f\x03\x76\x78\x06\x10\x06\x02\x76\x00"));
	add_debug_cie(&debug, 4);
	add_debug_fde(&debug, 0, CODE + 0x60, 0x40, BYTES("\x58" OFFSET_24));
	make_file(&(struct file_parts){ .eh = &eh, .debug = &debug, .has_hdr = true }, &im);
	for (size_t n = 0; n <= im.n; n++) {
		_cleanup_(freep) uint8_t *cut = xcalloc(n, 1); /* of exactly this size: reading on is noticed */
		struct cfi c = { 0 };
		memcpy(cut, im.p, n);
		if (!cfi_build_mem(cut, n, &c))
			cfi_done(&c);
	}
	for (size_t at = 0; at < im.n; at++)
		for (unsigned int bit = 0; bit < 8; bit++) {
			struct cfi c = { 0 };
			im.p[at] ^= (uint8_t)(1u << bit);
			if (!cfi_build_mem(im.p, im.n, &c)) {
				for (size_t i = 1; i < c.n_rows; i++)
					assert_true(c.rows[i - 1].vaddr < c.rows[i].vaddr);
				cfi_done(&c);
			}
			im.p[at] ^= (uint8_t)(1u << bit);
		}
}

/* More rules than the kernel side has room for: the rest can't be followed, and is counted. */
static void test_too_many_rules(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, program = { 0 }, im = { 0 };
	_cleanup_(cfi_done) struct cfi c = { 0 };
	uint32_t n = UNWIND_RULES + 100;

	(void)state;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t leb[4] = { 0x0e, (i & 0x7f) | 0x80, (i >> 7 & 0x7f) | 0x80, i >> 14 };
		put(&program, "\x41", 1);
		put(&program, leb, sizeof(leb));
	}
	add_fde(&eh, add_cie(&eh), CODE, CODE_BYTES, program.p, program.n);
	make_file(&(struct file_parts){ .eh = &eh }, &im);
	assert_int_equal(cfi_build_mem(im.p, im.n, &c), 0);
	assert_int_equal(c.n_rules, UNWIND_RULES);
	assert_int_equal(c.n_other, 1); /* one behind the other: one row */
	assert_int_equal(c.rules[cfi_find(&c, CODE + 1)->rule].kind, UNWIND_SP);
	assert_int_equal(c.rules[cfi_find(&c, CODE + n)->rule].kind, UNWIND_OTHER);
}

static void test_too_many_rows(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, program = { 0 }, im = { 0 };
	struct cfi c;

	(void)state;
	for (uint32_t i = 0; i < CFI_ROWS_MAX / 2 + 1; i++)
		put(&program, BYTES("\x41" OFFSET_16 "\x41\x0e\x08"));
	add_fde(&eh, add_cie(&eh), CODE, CODE_BYTES, program.p, program.n);
	make_file(&(struct file_parts){ .eh = &eh }, &im);
	assert_int_equal(cfi_build_mem(im.p, im.n, &c), -EFBIG);
}

/* A file with holes may claim any size; nothing of that is allocated. */
static void test_huge_section(void **state)
{
	_cleanup_(bytes_done) struct bytes eh = { 0 }, im = { 0 };
	_cleanup_(closep) int fd = memfd_create("cfi", MFD_CLOEXEC);
	struct cfi c;

	(void)state;
	pad_to(&eh, 16);
	make_file(&(struct file_parts){ .eh = &eh }, &im);
	uint64_t huge = CFI_SECTION_MAX + 1, table;
	memcpy(&table, im.p + offsetof(Elf64_Ehdr, e_shoff), 8);
	memcpy(im.p + table + 2 * sizeof(Elf64_Shdr) + offsetof(Elf64_Shdr, sh_size), &huge, 8);
	assert_int_equal(cfi_build_mem(im.p, im.n, &c), -EFBIG);
	huge = CFI_SECTION_MAX;
	memcpy(im.p + table + 2 * sizeof(Elf64_Shdr) + offsetof(Elf64_Shdr, sh_size), &huge, 8);
	assert_int_equal(write(fd, im.p, im.n), im.n);
	assert_int_equal(cfi_build(fd, &c), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_augmentations),
		cmocka_unit_test(test_old_augmentations),
		cmocka_unit_test(test_pointer_encodings),
		cmocka_unit_test(test_more_pointer_encodings),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_lengths_of_64_bits),
		cmocka_unit_test(test_cie_programs),
		cmocka_unit_test(test_return_address_column),
		cmocka_unit_test(test_broken_entries),
		cmocka_unit_test(test_length_beyond_end),
		cmocka_unit_test(test_order_and_gaps),
		cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_both_sections),
		cmocka_unit_test(test_terminators),
		cmocka_unit_test(test_section_without_bytes),
		cmocka_unit_test(test_packed_section),
		cmocka_unit_test(test_not_for_us),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_too_many_rules),
		cmocka_unit_test(test_too_many_rows),
		cmocka_unit_test(test_huge_section),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
