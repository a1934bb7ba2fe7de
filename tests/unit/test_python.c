/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Versions of CPython. Known truth: what the interpreters of this machine say of themselves; and a small file built
 * here, whose symbols and code are ours, for what they don't show (release candidates, tables of all kinds, damage).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target/proc.h"
#include "target/python.h"
#include "util/clock.h"
#include "util/mem.h"

#define ANSWER_MS 60000

/* --- interpreters of this machine --- */

struct child {
	pid_t pid;
	int out;
};

static struct child start(const char *const *argv)
{
	int out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		(void)dup2(out[1], STDOUT_FILENO);
		(void)unsetenv("LD_PRELOAD"); /* the sanitizer's runtime */
		(void)execv(argv[0], (char **)argv);
		_exit(127);
	}
	(void)close(out[1]);
	return (struct child){ .pid = pid, .out = out[0] };
}

static void stop(struct child *c)
{
	(void)close(c->out);
	assert_int_equal(kill(c->pid, SIGKILL), 0);
	assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
}

/* The first line that it writes, which also says that it is up. */
static void read_line(struct child *c, char *buf, size_t cap)
{
	size_t n = 0;

	while (n + 1 < cap) {
		struct pollfd p = { .fd = c->out, .events = POLLIN };
		assert_int_equal(poll(&p, 1, ANSWER_MS), 1);
		assert_int_equal(read(c->out, buf + n, 1), 1);
		if (buf[n] == '\n')
			break;
		n++;
	}
	buf[n] = 0;
}

static int version_of_pid(pid_t pid, char ret[PYTHON_VERSION_MAX])
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	assert_int_equal(mappings_read((uint32_t)pid, &maps), 0);
	return python_version((uint32_t)pid, &maps, ret);
}

static void check_interpreter(const char *path)
{
	const char *argv[] = {
		path, "-c",
		"import platform, sys, time; print(platform.python_version()); sys.stdout.flush(); time.sleep(600)",
		NULL
	};
	char truth[64], got[PYTHON_VERSION_MAX] = "none";

	struct child c = start(argv);
	read_line(&c, truth, sizeof(truth));
	int err = version_of_pid(c.pid, got);
	stop(&c);
	if (err || strcmp(truth, got))
		fail_msg("%s: is %s, got %s (%d)", path, truth, got, err);
}

static void test_interpreters(void **state)
{
	static const char *const patterns[] = { "/usr/bin/python3", "/usr/bin/python2", "/usr/local/bin/python3" };
	const char *home = getenv("HOME");
	_cleanup_(freep) char *pyenv = xasprintf("%s/.pyenv/versions/*/bin/python", home ? home : "");
	glob_t g = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++)
		(void)glob(patterns[i], i ? GLOB_APPEND : 0, NULL, &g);
	(void)glob(pyenv, GLOB_APPEND, NULL, &g);
	size_t n = g.gl_pathc;
	for (size_t i = 0; i < n; i++)
		check_interpreter(g.gl_pathv[i]);
	globfree(&g);
	if (!n)
		skip();
}

static void test_other_programs(void **state)
{
	static const char *const shell[] = { "/bin/sh", "-c", "echo up; kill -STOP $$", NULL };
	char got[PYTHON_VERSION_MAX] = "kept", line[8];

	(void)state;
	assert_int_equal(version_of_pid(getpid(), got), -ENOENT);
	struct child c = start(shell);
	read_line(&c, line, sizeof(line));
	int err = version_of_pid(c.pid, got);
	stop(&c);
	assert_int_equal(err, -ENOENT);
	assert_int_equal(python_version(4194303, &(struct mappings){ 0 }, got), -ENOENT);
	assert_string_equal(got, "kept");
}

/* --- a built file --- */

enum place {
	AT_DYNAMIC = 0x100,
	AT_HASH = 0x180,
	AT_SYMBOLS = 0x1c0,
	AT_STRINGS = 0x240,
	AT_NUMBER = 0x280,
	AT_CODE = 0x2a0,
	AT_TEXT = 0x300, /* the constants that code may load */
	AT_SECTIONS = 0x380,
	IMAGE_BYTES = AT_SECTIONS + 4 * sizeof(Elf64_Shdr),
};

#define BASE 0x400000u

struct image {
	unsigned char bytes[IMAGE_BYTES];
};

static void put(struct image *im, size_t at, const void *data, size_t n)
{
	assert_true(at + n <= sizeof(im->bytes));
	memcpy(im->bytes + at, data, n);
}

struct wanted {
	uint64_t number;	    /* Py_Version; 0: none */
	bool function;		    /* Py_GetVersion */
	const char *first, *second; /* strings that its code loads; NULL: none */
	bool no_hash;		    /* sections only */
	bool fixed;		    /* code loads with mov $imm32 */
};

static uint32_t hash_of(const char *s)
{
	uint32_t h = 5381;

	while (*s)
		h = (h << 5) + h + (unsigned char)*s++;
	return h;
}

static void put_load(struct image *im, size_t at, uint32_t target, bool fixed)
{
	int32_t disp = (int32_t)(target - (uint32_t)at - 7);
	uint32_t address = BASE + target;

	put(im, at, fixed ? "\xb9" : "\x48\x8d\x0d", fixed ? 1 : 3);
	put(im, at + (fixed ? 1 : 3), fixed ? (const void *)&address : (const void *)&disp, 4);
}

static void put_symbols(struct image *im, const struct wanted *w)
{
	static const char strings[] = "\0Py_Version\0Py_GetVersion";
	const Elf64_Sym symbols[] = {
		{ 0 },
		{ .st_name = 12,
		  .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
		  .st_shndx = w->function ? SHN_ABS - 1 : SHN_UNDEF,
		  .st_value = BASE + AT_CODE,
		  .st_size = 0x30 },
		{ .st_name = 1,
		  .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
		  .st_shndx = w->number ? SHN_ABS - 1 : SHN_UNDEF,
		  .st_value = BASE + AT_NUMBER,
		  .st_size = 8 },
	};
	const uint32_t table[] = { 1,
				   1,
				   1,
				   6, /* one bucket, one filter word that lets everything pass */
				   ~0u,
				   ~0u,
				   1, /* the bucket's first symbol */
				   hash_of("Py_GetVersion") & ~1u,
				   hash_of("Py_Version") | 1 };

	put(im, AT_STRINGS, strings, sizeof(strings));
	put(im, AT_SYMBOLS, symbols, sizeof(symbols));
	put(im, AT_HASH, table, sizeof(table));
}

static void put_sections(struct image *im)
{
	const Elf64_Shdr sections[] = {
		{ 0 },
		{ .sh_type = SHT_SYMTAB,
		  .sh_offset = AT_SYMBOLS,
		  .sh_size = 3 * sizeof(Elf64_Sym),
		  .sh_entsize = sizeof(Elf64_Sym),
		  .sh_link = 2 },
		{ .sh_type = SHT_STRTAB, .sh_offset = AT_STRINGS, .sh_size = 0x40 },
	};

	put(im, AT_SECTIONS, sections, sizeof(sections));
}

static void put_headers(struct image *im, const struct wanted *w)
{
	const Elf64_Dyn dynamic[] = {
		{ .d_tag = w->no_hash ? DT_DEBUG : DT_GNU_HASH, .d_un.d_ptr = BASE + AT_HASH },
		{ .d_tag = DT_SYMTAB, .d_un.d_ptr = BASE + AT_SYMBOLS },
		{ .d_tag = DT_STRTAB, .d_un.d_ptr = BASE + AT_STRINGS },
		{ .d_tag = DT_NULL },
	};
	const Elf64_Phdr segments[] = {
		{ .p_type = PT_LOAD,
		  .p_flags = PF_R | PF_X,
		  .p_vaddr = BASE,
		  .p_filesz = IMAGE_BYTES,
		  .p_memsz = IMAGE_BYTES },
		{ .p_type = PT_DYNAMIC, .p_offset = AT_DYNAMIC, .p_filesz = sizeof(dynamic) },
	};
	Elf64_Ehdr head = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			    .e_type = ET_DYN,
			    .e_machine = EM_X86_64,
			    .e_version = EV_CURRENT,
			    .e_phoff = sizeof(head),
			    .e_ehsize = sizeof(head),
			    .e_phentsize = sizeof(segments[0]),
			    .e_phnum = ARRAY_SIZE(segments),
			    .e_shoff = AT_SECTIONS,
			    .e_shentsize = sizeof(Elf64_Shdr),
			    .e_shnum = 3 };

	put(im, 0, &head, sizeof(head));
	put(im, sizeof(head), segments, sizeof(segments));
	put(im, AT_DYNAMIC, dynamic, sizeof(dynamic));
}

static void build(struct image *im, const struct wanted *w)
{
	memset(im, 0x90, sizeof(*im));
	put_headers(im, w);
	put_symbols(im, w);
	put_sections(im);
	put(im, AT_NUMBER, &w->number, sizeof(w->number));
	if (w->first) {
		put(im, AT_TEXT, w->first, strlen(w->first) + 1);
		put_load(im, AT_CODE + 5, AT_TEXT, w->fixed);
	}
	if (w->second) {
		put(im, AT_TEXT + 0x40, w->second, strlen(w->second) + 1);
		put_load(im, AT_CODE + 15, AT_TEXT + 0x40, w->fixed);
	}
}

/* --- files in a directory of our own, shown to python_version() as if this process had mapped them --- */

struct dir {
	char path[64];
};

static int make_dir(void **state)
{
	struct dir *d = xcalloc(1, sizeof(*d));

	(void)snprintf(d->path, sizeof(d->path), "/tmp/tidemark-python-XXXXXX");
	if (!mkdtemp(d->path))
		return -1;
	*state = d;
	return 0;
}

static int drop_dir(void **state)
{
	struct dir *d = *state;
	int err = rmdir(d->path); /* each test takes its files away */

	free(d);
	return err;
}

/* Writes the bytes under this name and adds a mapping of it. */
static void add_file(const struct dir *d, struct mappings *maps, const char *name, const void *bytes, size_t n)
{
	char *path = xasprintf("%s/%s", d->path, name);
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	assert_int_equal(fstat(fd, &st), 0);
	(void)close(fd);
	maps->items = xrealloc(maps->items, maps->n + 1, sizeof(*maps->items));
	maps->items[maps->n] = (struct mapping){ .start = 0x1000 * (maps->n + 1),
						 .end = 0x1000 * (maps->n + 2),
						 .dev = st.st_dev,
						 .inode = st.st_ino,
						 .read = true,
						 .exec = true,
						 .path = path };
	maps->n++;
}

static void drop_files(struct mappings *maps)
{
	for (size_t i = 0; i < maps->n; i++)
		(void)unlink(maps->items[i].path);
	mappings_done(maps);
}

/* "-" for -ENOENT. */
static void expect(const struct mappings *maps, const char *wanted, const char *what)
{
	char got[PYTHON_VERSION_MAX] = "-";
	int err = python_version((uint32_t)getpid(), maps, got);

	if ((err && err != -ENOENT) || strcmp(got, wanted))
		fail_msg("%s: got %s (%d), not %s", what, got, err, wanted);
}

static void expect_built(const struct dir *d, const char *name, const struct wanted *w, const char *wanted)
{
	_cleanup_(drop_files) struct mappings maps = { 0 };
	struct image im;

	build(&im, w);
	add_file(d, &maps, name, im.bytes, sizeof(im.bytes));
	expect(&maps, wanted, name);
}

static void test_numbers(void **state)
{
	static const struct {
		uint64_t number;
		const char *text;
	} rows[] = {
		{ 0x030b02f0, "3.11.2" },    { 0x030d00c2, "3.13.0rc2" }, { 0x030e00a7, "3.14.0a7" },
		{ 0x030f00bf, "3.15.0b15" }, { 0x030cfff0, "3.12.255" },  { 0x09ffffaf, "9.255.255a15" },
		{ 0x030b0200, "-" }, /* no such level */
		{ 0x030b02e0, "-" },	     { 0x000b02f0, "-" },	  { 0x0a0b02f0, "-" },
		{ 0x1030b02f0, "-" },	     { UINT64_MAX, "-" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_built(*state, "python3", &(struct wanted){ .number = rows[i].number }, rows[i].text);
}

static void test_code(void **state)
{
	static const struct {
		struct wanted file;
		const char *text;
	} rows[] = {
		{ { .function = true, .first = "3.10.13" }, "3.10.13" },
		{ { .function = true, .first = "3.10.13", .fixed = true }, "3.10.13" },
		{ { .function = true, .first = "2.7.18rc1+" }, "2.7.18rc1+" },
		{ { .function = true, .first = "3.9.0a1" }, "3.9.0a1" },
		{ { .function = true, .first = "%.80s (%.80s) %.80s", .second = "3.10.13" }, "3.10.13" },
		{ { .function = true, .first = "3.10.13", .second = "3.10.13" }, "3.10.13" },
		{ { .function = true, .first = "3.10.13", .no_hash = true }, "3.10.13" },
		{ { .number = 0x030b02f0, .function = true, .first = "3.10.13" }, "3.11.2" },
		/* What is not exactly a version is none: the name has to do. */
		{ { .function = true, .first = "3.10.13", .second = "3.10.12" }, "3.10" },
		{ { .function = true }, "3.10" },
		{ { .function = true, .no_hash = true }, "3.10" },
		{ { .function = true, .first = "3.10" }, "3.10" },
		{ { .function = true, .first = "3.10." }, "3.10" },
		{ { .function = true, .first = "3.10.13 " }, "3.10" },
		{ { .function = true, .first = "3.10.1300" }, "3.10" },
		{ { .function = true, .first = "13.10.13" }, "3.10" },
		{ { .function = true, .first = "3.10.13rc" }, "3.10" },
		{ { .function = true, .first = "3.10.13rc1++" }, "3.10" },
		{ { .function = true, .first = "3.10.130000000000000000000000000000" }, "3.10" },
		/* Not the interpreter: it only has the name, or refers to the symbols. */
		{ { .first = "3.10.13" }, "-" },
		{ { .first = "3.10.13", .no_hash = true }, "-" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_built(*state, "python3.10", &rows[i].file, rows[i].text);
}

static void test_names(void **state)
{
	static const struct {
		const char *name, *text; /* of an interpreter that does not say its version */
	} rows[] = {
		{ "python3.10", "3.10" },
		{ "python3.6m", "3.6" },
		{ "python3.13t", "3.13" },
		{ "python2.7-dbg", "2.7" },
		{ "libpython3.6m.so.1.0", "3.6" },
		{ "libpython2.7.so.1.0", "2.7" },
		{ "libpython3.9.so", "3.9" },
		{ "python3", "-" },
		{ "python", "-" },
		{ "python4.1", "-" },
		{ "python3.", "-" },
		{ "python3.10.so", "-" },
		{ "libpython3.so", "-" },
		{ "libpython3.9.a", "-" },
		{ "mypython3.9", "-" },
		{ "libboost_python3.9.so", "-" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_built(*state, rows[i].name, &(struct wanted){ .function = true }, rows[i].text);
	/* Only files that this part of the name makes interesting are opened. */
	expect_built(*state, "redis-server", &(struct wanted){ .number = 0x030b02f0 }, "-");
}

static void test_several_files(void **state)
{
	const struct wanted is_310 = { .function = true, .first = "3.10.13" }, is_311 = { .number = 0x030b02f0 },
			    is_none = { 0 };
	_cleanup_(drop_files) struct mappings maps = { 0 };
	struct image im;

	build(&im, &is_none);
	add_file(*state, &maps, "python3.10", im.bytes, sizeof(im.bytes));
	expect(&maps, "-", "shared build, library not loaded");
	build(&im, &is_310);
	add_file(*state, &maps, "libpython3.10.so.1.0", im.bytes, sizeof(im.bytes));
	expect(&maps, "3.10.13", "shared build");
	add_file(*state, &maps, "libpython3.10d.so.1.0", im.bytes, sizeof(im.bytes));
	expect(&maps, "3.10.13", "two that agree");
	build(&im, &is_311);
	add_file(*state, &maps, "libpython3.11.so.1.0", im.bytes, sizeof(im.bytes));
	expect(&maps, "-", "two that don't");
	maps.items[3].exec = false;
	expect(&maps, "3.10.13", "one of them only read");
	maps.items[1].inode++;
	maps.items[2].inode++;
	expect(&maps, "-", "replaced files");
}

/* No damage may crash it, or make it say something that doesn't look like a version. */
static void expect_sane(const struct mappings *maps, const struct image *im, size_t n)
{
	char got[PYTHON_VERSION_MAX] = "3";
	int fd = open(maps->items[0].path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, im->bytes, n), n);
	(void)close(fd);
	int err = python_version((uint32_t)getpid(), maps, got);
	assert_true(err == 0 || err == -ENOENT);
	assert_non_null(memchr(got, 0, sizeof(got)));
	assert_int_equal(strspn(got, "0123456789.abrc+"), strlen(got));
}

static void test_damage(void **state)
{
	static const struct wanted files[] = {
		{ .number = 0x030d00c2 },
		{ .function = true, .first = "3.10.13" },
		{ .function = true, .first = "3.10.13", .no_hash = true },
	};
	static const unsigned char values[] = { 0x00, 0x7f, 0xff };
	_cleanup_(drop_files) struct mappings maps = { 0 };

	add_file(*state, &maps, "python3.10", "", 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		struct image whole, im;
		build(&whole, &files[i]);
		for (size_t n = 0; n <= sizeof(im.bytes); n += n < 512 ? 1 : 7)
			expect_sane(&maps, &whole, n);
		for (size_t at = 0; at < sizeof(im.bytes); at++) {
			im = whole;
			im.bytes[at] = values[at % ARRAY_SIZE(values)] ^ (at & 4 ? 0 : whole.bytes[at]);
			expect_sane(&maps, &im, sizeof(im.bytes));
		}
	}
}

/* A chain without end, and headers that ask for more than there is. */
static void test_hostile_tables(void **state)
{
	_cleanup_(drop_files) struct mappings maps = { 0 };
	struct image im;

	add_file(*state, &maps, "python3.10", "", 0);
	for (size_t i = 0; i < 14; i++) {
		const uint32_t value = i & 1 ? UINT32_MAX : 0;
		build(&im, &(struct wanted){ .number = 0x030b02f0 });
		put(&im, AT_HASH + 4 * (i / 2), &value, sizeof(value));
		expect_sane(&maps, &im, sizeof(im.bytes));
	}
	build(&im, &(struct wanted){ .number = 0x030b02f0 });
	memset(im.bytes + AT_HASH + 28, 0, IMAGE_BYTES - AT_HASH - 28);
	expect_sane(&maps, &im, sizeof(im.bytes));
	uint64_t bytes = 1ull << 30; /* holes */
	put(&im, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_filesz), &bytes, sizeof(bytes));
	expect_sane(&maps, &im, sizeof(im.bytes));
	assert_int_equal(truncate(maps.items[0].path, (off_t)bytes), 0);
	uint64_t begin_ns = mono_ns();
	expect(&maps, "-", "chain without end");
	assert_true(mono_ns() - begin_ns < 30000000000ull); /* all of it takes minutes */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interpreters),
		cmocka_unit_test(test_other_programs),
		cmocka_unit_test_setup_teardown(test_numbers, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(test_code, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(test_names, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(test_several_files, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(test_damage, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(test_hostile_tables, make_dir, drop_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
