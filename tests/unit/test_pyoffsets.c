/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of offsets, and what a process may publish in its place. The process is this one: a buffer is its _PyRuntime, a small file built here, shown as
 * if it were mapped, says where. What tests/unit/test_pyinfo.c shows of real interpreters is not repeated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/pyinfo.h"
#include "probe/pyoffsets.h"
#include "target/proc.h"
#include "util/mem.h"

/* --- the file: symbols through a hash table of one bucket --- */

enum place {
	AT_DYNAMIC = 0x100,
	AT_HASH = 0x180,
	AT_SYMBOLS = 0x200,
	AT_STRINGS = 0x280,
	AT_NUMBER = 0x2c0,
	FILE_BYTES = 0x300,
};

#define RUNTIME_AT 0x10000u /* as linked, plus the buffer's place in its page */

static const char strings[] = "\0_PyRuntime\0Py_Version";

static uint32_t hash_of(const char *s)
{
	uint32_t h = 5381;

	while (*s)
		h = (h << 5) + h + (unsigned char)*s++;
	return h;
}

struct world {
	char dir[64];
	char *path;
	struct mapping m;
	uint8_t *runtime; /* two pages: the second one is taken away by tests */
};

static void put(uint8_t *file, size_t at, const void *data, size_t n)
{
	assert_true(at + n <= FILE_BYTES);
	memcpy(file + at, data, n);
}

static void write_file(const struct world *w, uint64_t version)
{
	uint8_t file[FILE_BYTES] = { 0 };
	const Elf64_Phdr segments[] = {
		{ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_filesz = FILE_BYTES, .p_memsz = FILE_BYTES },
		{ .p_type = PT_DYNAMIC, .p_offset = AT_DYNAMIC, .p_filesz = 4 * sizeof(Elf64_Dyn) },
	};
	const Elf64_Dyn dynamic[] = { { .d_tag = DT_GNU_HASH, .d_un.d_ptr = AT_HASH },
				      { .d_tag = DT_SYMTAB, .d_un.d_ptr = AT_SYMBOLS },
				      { .d_tag = DT_STRTAB, .d_un.d_ptr = AT_STRINGS } };
	const Elf64_Ehdr head = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
					       EV_CURRENT },
				  .e_type = ET_DYN,
				  .e_machine = EM_X86_64,
				  .e_phoff = sizeof(head),
				  .e_phentsize = sizeof(segments[0]),
				  .e_phnum = ARRAY_SIZE(segments) };
	const struct {
		uint32_t buckets, first, words, shift;
		uint64_t filter;
		uint32_t bucket, chain[2];
	} hash = { 1, 1, 1, 0, UINT64_MAX, 1, { hash_of("_PyRuntime") & ~1u, hash_of("Py_Version") | 1 } };
	const Elf64_Sym symbols[] = {
		{ 0 },
		{ .st_name = 1,
		  .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
		  .st_shndx = 1,
		  .st_value = RUNTIME_AT + (uintptr_t)w->runtime % 4096,
		  .st_size = 4096 },
		{ .st_name = 12,
		  .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
		  .st_shndx = 1,
		  .st_value = AT_NUMBER,
		  .st_size = 8 },
	};

	put(file, 0, &head, sizeof(head));
	put(file, sizeof(head), segments, sizeof(segments));
	put(file, AT_DYNAMIC, dynamic, sizeof(dynamic));
	put(file, AT_HASH, &hash, sizeof(hash));
	put(file, AT_SYMBOLS, symbols, sizeof(symbols));
	put(file, AT_STRINGS, strings, sizeof(strings));
	put(file, AT_NUMBER, &version, sizeof(version));
	_cleanup_(closep) int fd = open(w->path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file, sizeof(file)), sizeof(file));
}

static int world_open(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct stat st;

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/tidemark-pyoffsets-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->path = xasprintf("%s/embedder", w->dir); /* no name that says Python */
	w->runtime = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(w->runtime != MAP_FAILED);
	write_file(w, 0);
	assert_int_equal(stat(w->path, &st), 0);
	w->m = (struct mapping){ .start = (uintptr_t)w->runtime - RUNTIME_AT,
				 .end = (uintptr_t)w->runtime - RUNTIME_AT + 4096,
				 .dev = st.st_dev,
				 .inode = st.st_ino,
				 .read = true,
				 .exec = true,
				 .path = w->path };
	*state = w;
	return 0;
}

static int world_close(void **state)
{
	struct world *w = *state;

	(void)munmap(w->runtime, 8192);
	int err = unlink(w->path) || rmdir(w->dir);
	free(w->path);
	free(w);
	return err;
}

static int look(const struct world *w, struct py_process *ret, const char **ret_why)
{
	struct mapping m = w->m;

	return pyinfo_find((uint32_t)getpid(), &(struct mappings){ &m, 1 }, ret, ret_why);
}

/* --- what the buffer publishes --- */

static void number(struct world *w, uint16_t at, uint64_t value)
{
	memcpy(w->runtime + at, &value, sizeof(value));
}

static void set_key(struct world *w, uint32_t minor, uint32_t is_initialized, uint32_t key)
{
	const uint32_t tss[2] = { is_initialized, key };

	memcpy(w->runtime + pyinfo_row(minor)->info.tss_key, tss, sizeof(tss));
}

/* Row of 3.13 or 3.14, as an interpreter that agrees with it would publish it. */
static void publish(struct world *w, uint32_t version)
{
	const struct py_row *row = &py_rows[(version >> 16 & 0xff) - PY_MINOR_MIN];
	const struct py_published *at = &row->published;
	const struct python_info *info = &row->process.info;
	const struct py_names *n = &row->process.names;
	const struct {
		uint16_t at;
		uint64_t value;
	} numbers[] = {
		{ at->version, version },
		{ at->free_threaded, 0 },
		{ at->runtime_bytes, 8192 },
		{ at->tstate_bytes, 320 },
		{ at->tstate_thread, info->tstate_thread },
		{ at->tstate_frame, info->tstate_frame },
		{ at->frame_bytes, 88 },
		{ at->frame_back, info->frame_back },
		{ at->frame_code, info->frame_code },
		{ at->frame_instr, info->frame_instr },
		{ at->frame_owner, info->frame_owner },
		{ at->code_bytes, 216 },
		{ at->code_filename, n->code_filename },
		{ at->code_name, n->code_name },
		{ at->code_qualname, n->code_qualname },
		{ at->code_linetable, n->code_linetable },
		{ at->code_firstlineno, n->code_firstlineno },
		{ at->code_start, info->code_start },
		{ at->bytes_bytes, 40 },
		{ at->bytes_size, n->bytes_size },
		{ at->bytes_data, n->bytes_data },
		{ at->str_bytes, 64 },
		{ at->str_state, n->str_state },
		{ at->str_length, n->str_length },
		{ at->str_ascii_data, n->str_ascii_data },
	};

	memset(w->runtime, 0, 8192);
	memcpy(w->runtime, "xdebugpy", 8);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		number(w, numbers[i].at, numbers[i].value);
	set_key(w, version >> 16 & 0xff, 1, 3);
	write_file(w, version);
}

static const uint32_t publishing[] = { 0x030d00f0, 0x030e02f0 };

static void test_published(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(publishing); i++) {
		uint32_t minor = publishing[i] >> 16 & 0xff;
		const struct py_published *at = &py_rows[minor - PY_MINOR_MIN].published;
		struct py_process p;
		const char *why = "";
		publish(w, publishing[i]);
		assert_int_equal(look(w, &p, &why), 0);
		assert_int_equal(p.info.runtime, (uintptr_t)w->runtime);
		assert_int_equal(p.version_hex, publishing[i]);
		assert_int_equal(p.n_eval, 0);
		/* But for the address and the version it is the row. */
		p.info.runtime = 0;
		assert_memory_equal(&p.info, &pyinfo_row(minor)->info, sizeof(p.info));
		assert_memory_equal(&p.names, &pyinfo_row(minor)->names, sizeof(p.names));
		/* Another release of the version has moved fields. */
		number(w, at->tstate_frame, 80);
		number(w, at->frame_owner, 72);
		number(w, at->code_start, 214);
		number(w, at->str_ascii_data, 48);
		assert_int_equal(look(w, &p, &why), 0);
		assert_int_equal(p.info.tstate_frame, 80);
		assert_int_equal(p.info.frame_owner, 72);
		assert_int_equal(p.info.code_start, 214);
		assert_int_equal(p.names.str_compact_data, 64);
	}
}

static void test_broken(void **state)
{
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(publishing); i++) {
		const struct py_published *at = &py_rows[(publishing[i] >> 16 & 0xff) - PY_MINOR_MIN].published;
		const struct {
			uint16_t at;
			uint64_t value;
		} rows[] = {
			{ 0, 0x7967756265646879 }, /* cookie */
			{ 0, 0 },
			{ at->version, 0x030c00f0 }, /* not the file's */
			{ at->version, 0x1030d00f0 },
			{ at->runtime_bytes, 100 }, /* the row's key would lie outside */
			{ at->tstate_thread, 400 }, /* outside */
			{ at->tstate_thread, 316 },
			{ at->tstate_frame, 73 }, /* no pointer lies there */
			{ at->tstate_bytes, UINT64_MAX },
			{ at->frame_bytes, 0 },
			{ at->frame_back, UINT64_MAX },
			{ at->frame_code, UINT64_MAX - 7 },
			{ at->frame_instr, 1ull << 32 },
			{ at->frame_owner, 88 },
			{ at->code_filename, 0 }, /* what tells code objects apart would lie elsewhere */
			{ at->code_name, 128 },
			{ at->code_firstlineno, 40 },
			{ at->code_firstlineno, 80 },
			{ at->bytes_size, 40 },
			{ at->str_length, 12 },
			{ at->str_bytes, 5000 },
		};
		for (size_t j = 0; j < ARRAY_SIZE(rows); j++) {
			struct py_process p;
			const char *why = "kept";
			publish(w, publishing[i]);
			number(w, rows[j].at, rows[j].value);
			int err = look(w, &p, &why);
			if (err != -EBADMSG)
				fail_msg("%x, row %zu: %d", publishing[i], j, err);
			assert_string_equal(why, "kept");
		}
		/* A frame that is longer than what is read of one. */
		struct py_process p;
		const char *why;
		publish(w, publishing[i]);
		number(w, at->frame_bytes, 200);
		number(w, at->frame_instr, 120);
		assert_int_equal(look(w, &p, &why), 0);
		number(w, at->frame_instr, 128);
		assert_int_equal(look(w, &p, &why), -EBADMSG);
	}
}

/* Whatever it publishes: refused, or offsets within the bounds that the kernel side reads in. */
static void test_noise(void **state)
{
	struct world *w = *state;
	uint32_t seed = 1;

	for (size_t i = 0; i < 4000; i++) {
		struct py_process p;
		const char *why;
		if (i % 200 == 0)
			publish(w, publishing[i / 200 % 2]);
		seed = seed * 1664525 + 1013904223;
		size_t at = 8 + (seed >> 8) % 700;
		uint8_t kept = w->runtime[at];
		w->runtime[at] = (uint8_t)(seed >> 24);
		if (!look(w, &p, &why)) {
			assert_true(p.info.frame_back + 8 <= PYTHON_FRAME_BYTES &&
				    p.info.frame_code + 8 <= PYTHON_FRAME_BYTES);
			assert_true(p.info.frame_instr + 8 <= PYTHON_FRAME_BYTES &&
				    p.info.frame_owner < PYTHON_FRAME_BYTES);
			assert_true(p.info.tstate_frame < 4096 && p.info.tstate_thread < 4096 && p.info.code_id < 4096);
		}
		w->runtime[at] = kept;
	}
}

static void test_refused(void **state)
{
	static const struct {
		uint32_t version;
		const char *why;
	} rows[] = {
		{ 0x030f00f0, "Python 3.15 or newer" },
		{ 0x030700f0, "Python 3.7" },
		{ 0x030600f0, "Python 3.6 or older" },
	};
	struct world *w = *state;
	struct py_process p;
	const char *why = "";

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		write_file(w, rows[i].version);
		assert_int_equal(look(w, &p, &why), -ENOTSUP);
		assert_string_equal(why, rows[i].why);
	}
	publish(w, 0x030e00f0);
	number(w, py_rows[14 - PY_MINOR_MIN].published.free_threaded, 1);
	assert_int_equal(look(w, &p, &why), -ENOTSUP);
	assert_string_equal(why, "free-threaded build");
	/* A file that does not say its version: the memory does, from 3.13 on. */
	publish(w, 0x030e00f0);
	write_file(w, 0);
	assert_int_equal(look(w, &p, &why), 0);
	assert_int_equal(p.version_hex, 0x030e00f0);
	memset(w->runtime, 0, 8);
	assert_int_equal(look(w, &p, &why), -ENOENT);
}

/* Before Py_Initialize, after Py_Finalize, and while the loader is still mapping. */
static void test_not_yet(void **state)
{
	static const uint32_t versions[] = { 0x03080cf0, 0x030b02f0, 0x030c01f0, 0x030d00f0, 0x030e00f0 };
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		uint32_t minor = versions[i] >> 16 & 0xff;
		const char *why = "kept";
		struct py_process p;
		if (minor >= 13)
			publish(w, versions[i]);
		else
			write_file(w, versions[i]);
		set_key(w, minor, 0, 0);
		assert_int_equal(look(w, &p, &why), 0);
		set_key(w, minor, 0, 3);
		assert_int_equal(look(w, &p, &why), 0);
		set_key(w, minor, 1, 0);
		assert_int_equal(look(w, &p, &why), 0);
		assert_int_equal(p.info.minor, minor);
		set_key(w, minor, 1, 1024);
		assert_int_equal(look(w, &p, &why), -EBADMSG);
		set_key(w, minor, 2, 0);
		assert_int_equal(look(w, &p, &why), -EBADMSG);
		assert_int_equal(mprotect(w->runtime, 8192, PROT_NONE), 0);
		assert_int_equal(look(w, &p, &why), -EAGAIN);
		assert_int_equal(mprotect(w->runtime, 8192, PROT_READ | PROT_WRITE), 0);
		assert_string_equal(why, "kept");
	}
}

/* Two files with an interpreter, one of which is never used: whichever comes first. */
static void test_two(void **state)
{
	struct world *w = *state;
	void *second = NULL;

	assert_int_equal(world_open(&second), 0);
	struct world *other = second;
	for (int used = 0; used < 2; used++) {
		for (int first = 0; first < 2; first++) {
			struct mapping items[] = { first ? other->m : w->m, first ? w->m : other->m };
			struct py_process p;
			const char *why;
			publish(w, 0x030d00f0);
			publish(other, 0x030e00f0);
			set_key(used ? w : other, used ? 13 : 14, 0, 0);
			assert_int_equal(pyinfo_find((uint32_t)getpid(), &(struct mappings){ items, 2 }, &p, &why), 0);
			assert_int_equal(p.info.minor, used ? 14 : 13);
			assert_int_equal(p.info.runtime, (uintptr_t)(used ? other : w)->runtime);
			/* One that can't be read takes nothing from the other. */
			assert_int_equal(mprotect((used ? w : other)->runtime, 8192, PROT_NONE), 0);
			assert_int_equal(pyinfo_find((uint32_t)getpid(), &(struct mappings){ items, 2 }, &p, &why), 0);
			assert_int_equal(p.info.minor, used ? 14 : 13);
			assert_int_equal(mprotect((used ? w : other)->runtime, 8192, PROT_READ | PROT_WRITE), 0);
			/* Neither is ready: the first one. */
			set_key(w, 13, 0, 0);
			set_key(other, 14, 0, 0);
			assert_int_equal(pyinfo_find((uint32_t)getpid(), &(struct mappings){ items, 2 }, &p, &why), 0);
			assert_int_equal(p.info.minor, first ? 14 : 13);
		}
	}
	assert_int_equal(world_close(&second), 0);
}

static void test_libc(void **state)
{
	struct world *w = *state;
	struct mapping items[] = {
		w->m, { .start = UINT64_MAX - 1, .end = UINT64_MAX, .exec = true, .path = "/lib/ld-musl-x86_64.so.1" }
	};
	struct py_process p;
	const char *why;

	publish(w, 0x030d00f0);
	assert_int_equal(pyinfo_find((uint32_t)getpid(), &(struct mappings){ items, 2 }, &p, &why), 0);
	assert_int_equal(p.info.tsd, PYTHON_TSD_MUSL);
	assert_int_equal(pyinfo_find((uint32_t)getpid(), &(struct mappings){ items, 1 }, &p, &why), 0);
	assert_int_equal(p.info.tsd, PYTHON_TSD_GLIBC);
}

static void test_rows(void **state)
{
	(void)state;
	assert_null(pyinfo_row(7));
	assert_null(pyinfo_row(15));
	for (uint32_t minor = PY_MINOR_MIN; minor <= PY_MINOR_MAX; minor++) {
		const struct py_process *p = pyinfo_row(minor);
		const struct python_info *info = &p->info;
		assert_int_equal(info->minor, minor);
		assert_int_equal(p->names.minor, minor);
		assert_int_equal(p->version_hex, 0x03000000 | minor << 16);
		assert_true(info->tss_key && info->tstate_thread && info->tstate_frame);
		assert_int_equal(info->has_lasti, minor <= 10);
		assert_int_equal(info->lasti_shift, minor <= 9);
		assert_int_equal(info->has_cframe, minor == 11 || minor == 12);
		assert_int_equal(info->tstate_current != 0, minor <= 11);
		assert_int_equal(info->entry, minor <= 10   ? PYTHON_ENTRY_ALL
					      : minor == 11 ? PYTHON_ENTRY_FLAG
							    : PYTHON_ENTRY_SHIM);
		assert_int_equal(info->shim_owner, minor >= 12 ? 3 : 0);
		assert_int_equal(info->code_start != 0, minor >= 11);
		assert_true(info->frame_back + 8 <= PYTHON_FRAME_BYTES && info->frame_instr + 8 <= PYTHON_FRAME_BYTES);
		assert_int_equal(p->names.code_linetable + 8 <= info->code_id + PYTHON_CODE_ID_BYTES, true);
		assert_int_equal(py_rows[minor - PY_MINOR_MIN].published.bytes != 0, minor >= 13);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test_setup_teardown(test_published, world_open, world_close),
		cmocka_unit_test_setup_teardown(test_broken, world_open, world_close),
		cmocka_unit_test_setup_teardown(test_noise, world_open, world_close),
		cmocka_unit_test_setup_teardown(test_refused, world_open, world_close),
		cmocka_unit_test_setup_teardown(test_not_yet, world_open, world_close),
		cmocka_unit_test_setup_teardown(test_two, world_open, world_close),
		cmocka_unit_test_setup_teardown(test_libc, world_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
