/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of frames, on a small program that is compiled here and pulled apart by binutils; addr2line is the second opinion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "sym/sym.h"
#include "util/mem.h"

#define FRAMES_MAX 64

static const char fixture_source[] = "#include <stdlib.h>\n"
				     "#include <stdio.h>\n"
				     "static inline __attribute__((always_inline)) int innermost(int x)\n"
				     "{\n"
				     "	int *p = malloc(sizeof(int) * (size_t)x);\n"
				     "	p[x / 2] = x;\n"
				     "	printf(\"%p\\n\", (void *)p);\n"
				     "	return p[x / 2] + x;\n"
				     "}\n"
				     "static inline __attribute__((always_inline)) int middle(int x)\n"
				     "{\n"
				     "	int sum = 0;\n"
				     "	for (int i = 1; i < x; i++)\n"
				     "		sum += innermost(i);\n"
				     "	return sum;\n"
				     "}\n"
				     "__attribute__((noinline)) static int hidden(int x)\n"
				     "{\n"
				     "	return middle(x) + 1;\n"
				     "}\n"
				     "__attribute__((noinline)) int __the_work(int x)\n"
				     "{\n"
				     "	return hidden(x) * 2 + hidden(x + 1);\n"
				     "}\n"
				     "int work(int x) __attribute__((weak, alias(\"__the_work\")));\n"
				     "int main(int argc, char **argv)\n"
				     "{\n"
				     "	(void)argv;\n"
				     "	return work(argc);\n"
				     "}\n";

struct fixture {
	char dir[64];
	char prog[PATH_MAX];
	struct func {
		char name[64];
		uint64_t start, bytes;
	} funcs[16];
	size_t n_funcs;
	bool has_compiler;
};

static int shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int shell(const char *fmt, ...)
{
	_cleanup_(freep) char *cmd = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&cmd, fmt, ap) < 0)
		cmd = NULL;
	va_end(ap);
	_cleanup_(freep) char *all = xasprintf("{ %s ; } >/dev/null 2>&1", cmd ? cmd : "false");
	return system(all);
}

static void read_funcs(struct fixture *fx)
{
	_cleanup_(freep) char *cmd = xasprintf("nm -S '%s'", fx->prog);
	FILE *p = popen(cmd, "r");
	char line[512];
	struct func f;
	char type;

	assert_non_null(p);
	while (fgets(line, sizeof(line), p))
		if (sscanf(line, "%" SCNx64 " %" SCNx64 " %c %63s", &f.start, &f.bytes, &type, f.name) == 4 &&
		    (!strcmp(f.name, "main") || !strcmp(f.name, "hidden") || !strcmp(f.name, "__the_work")))
			fx->funcs[fx->n_funcs++] = f;
	assert_int_equal(pclose(p), 0);
	assert_int_equal(fx->n_funcs, 3);
}

static void write_file(const char *path, const void *data, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
	static struct fixture fx = { .dir = "/tmp/tidemark-sym-XXXXXX" };
	char path[128];

	*state = &fx;
	if (!mkdtemp(fx.dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/fx.c", fx.dir);
	write_file(path, fixture_source, sizeof(fixture_source) - 1);
	(void)snprintf(fx.prog, sizeof(fx.prog), "%s/prog", fx.dir);
	fx.has_compiler = shell("cc -g -O2 -Wl,--build-id=sha1 '%s' -o '%s' && nm --version && addr2line --version && "
				"objcopy --version",
				path, fx.prog) == 0;
	if (fx.has_compiler)
		read_funcs(&fx);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fx = *state;

	return shell("rm -rf '%s'", fx->dir);
}

static struct fixture *need_compiler(void **state)
{
	struct fixture *fx = *state;

	if (!fx->has_compiler)
		skip();
	return fx;
}

static const struct func *func_named(const struct fixture *fx, const char *name)
{
	for (size_t i = 0; i < fx->n_funcs; i++)
		if (!strcmp(fx->funcs[i].name, name))
			return &fx->funcs[i];
	fail_msg("no function %s", name);
	return NULL;
}

static void sym_freep(struct sym **s)
{
	sym_free(*s);
}

static struct sym *sym_with(const char *path)
{
	struct sym *s = sym_new();
	const struct snap_module m = { .id = 1, .path = path, .open_path = path, .build_id = "" };

	sym_add_modules(s, &m, 1);
	return s;
}

static size_t resolve(struct sym *s, uint32_t module, uint64_t addr, bool is_return, const struct sym_frame **ret)
{
	const struct snap_frame f = { .module = module, .addr = addr, .is_return = is_return };
	size_t n = sym_resolve(s, &f, ret);

	assert_in_range(n, 1, FRAMES_MAX);
	for (size_t i = 0; i < n; i++) {
		assert_non_null((*ret)[i].name);
		assert_int_equal((*ret)[i].inlined, i + 1 < n);
	}
	return n;
}

static const char *name_at(struct sym *s, uint64_t addr)
{
	const struct sym_frame *frames;
	size_t n = resolve(s, 1, addr, false, &frames);

	return frames[n - 1].name;
}

/* addr2line's answer for one address: pairs of lines, function and file:line (discriminator N). */
struct opinion {
	char name[128], file[PATH_MAX];
	unsigned int line;
};

static void check_against(struct sym *s, uint64_t addr, const struct opinion *want, size_t n_want)
{
	const struct sym_frame *frames;
	size_t n = resolve(s, 1, addr, false, &frames);

	assert_int_equal(n, n_want);
	for (size_t i = 0; i < n; i++) {
		bool is_alias = !strcmp(want[i].name, "__the_work");
		assert_string_equal(frames[i].name, is_alias ? "work" : want[i].name);
		assert_int_equal(frames[i].line, want[i].line);
		assert_non_null(frames[i].file);
		assert_string_equal(frames[i].file, want[i].file);
	}
}

static void compare_function(struct sym *s, const struct fixture *fx, const struct func *f, size_t *inlined)
{
	struct opinion want[FRAMES_MAX];
	size_t n = 0;
	uint64_t addr = 0;
	char line[PATH_MAX + 64];
	_cleanup_(freep) char *cmd = xasprintf("seq -f %%.0f %" PRIu64 " %" PRIu64
					       " | xargs printf '%%x\\n' | addr2line -a -f -i -e '%s'",
					       f->start, f->start + f->bytes - 1, fx->prog);
	FILE *p = popen(cmd, "r");

	assert_non_null(p);
	while (fgets(line, sizeof(line), p)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "0x0", 3)) {
			if (n)
				check_against(s, addr, want, n);
			*inlined += n > 1;
			addr = strtoull(line, NULL, 16);
			n = 0;
			continue;
		}
		assert_true(n < FRAMES_MAX);
		(void)snprintf(want[n].name, sizeof(want[n].name), "%.127s", line);
		assert_non_null(fgets(line, sizeof(line), p));
		char *colon = strrchr(line, ':');
		assert_non_null(colon);
		*colon = 0;
		(void)snprintf(want[n].file, sizeof(want[n].file), "%.4095s", line);
		want[n++].line = (unsigned int)strtoul(colon + 1, NULL, 10);
	}
	assert_int_equal(pclose(p), 0);
	assert_int_equal(addr, f->start + f->bytes - 1);
	check_against(s, addr, want, n);
}

static void lines_agree_with_addr2line(void **state)
{
	const struct fixture *fx = need_compiler(state);
	_cleanup_(sym_freep) struct sym *s = sym_with(fx->prog);
	size_t inlined = 0;

	for (size_t i = 0; i < fx->n_funcs; i++)
		compare_function(s, fx, &fx->funcs[i], &inlined);
	assert_true(inlined > 10);
}

static void frames_carry_module_and_offset(void **state)
{
	const struct fixture *fx = need_compiler(state);
	_cleanup_(sym_freep) struct sym *s = sym_with(fx->prog);
	const struct func *f = func_named(fx, "hidden");
	const struct sym_frame *a, *b, *again;

	size_t n = resolve(s, 1, f->start + f->bytes, true, &a);
	assert_int_equal(resolve(s, 1, f->start + f->bytes - 1, false, &b), n);
	assert_string_equal(a[n - 1].name, "hidden");
	for (size_t i = 0; i < n; i++) {
		assert_true(a[i].final);
		assert_int_equal(a[i].kind, FRAME_NATIVE);
		assert_int_equal(a[i].offset, f->start + f->bytes - 1);
		assert_string_equal(a[i].module, fx->prog);
		assert_int_equal(strlen(a[i].build_id), 40);
		assert_ptr_equal(a[i].name, b[i].name);
		assert_int_equal(a[i].line, b[i].line);
	}
	assert_int_equal(resolve(s, 1, f->start + f->bytes, true, &again), n);
	assert_ptr_equal(a, again);
}

static void no_file_gives_numbers(void **state)
{
	_cleanup_(sym_freep) struct sym *s = sym_new();
	const struct snap_module m[] = {
		{ .id = 1, .path = "[heap]", .open_path = "", .build_id = "" },
		{ .id = 2, .path = "/nowhere/libx.so.1", .open_path = "/nowhere/libx.so.1", .build_id = "" },
		{ .id = 3, .path = "/tmp", .open_path = "/tmp", .build_id = "" },
		{ .id = 4, .path = "/dev/zero", .open_path = NULL, .build_id = NULL },
		{ .id = 5, .path = "/tmp/evil\033[2J", .open_path = "", .build_id = "" },
	};
	static const char *const names[] = { "[heap]+0xabc", "libx.so.1+0xabc", "tmp+0xabc", "zero+0xabc",
					     "evil?[2J+0xabc" };
	const struct sym_frame *f;

	(void)state;
	sym_add_modules(s, m, ARRAY_SIZE(m));
	for (uint32_t i = 0; i < ARRAY_SIZE(m); i++) {
		assert_int_equal(resolve(s, i + 1, 0xabc, false, &f), 1);
		assert_string_equal(f->name, names[i]);
		assert_true(f->final);
		assert_null(f->file);
		assert_null(f->build_id);
	}
	assert_int_equal(resolve(s, 0, 0x7f0000001000, false, &f), 1);
	assert_string_equal(f->name, "0x7f0000001000");
	assert_null(f->module);
	assert_true(f->final);
	assert_int_equal(resolve(s, 0, 0, true, &f), 1);
	assert_string_equal(f->name, "0x0");
	assert_int_equal(resolve(s, 77, 0x10, false, &f), 1);
	assert_false(f->final);
}

static void stripped_gives_offsets(void **state)
{
	const struct fixture *fx = need_compiler(state);
	_cleanup_(freep) char *path = xasprintf("%s/stripped", fx->dir), *want = NULL;
	const struct func *f = func_named(fx, "hidden");

	assert_int_equal(shell("strip -s '%s' -o '%s'", fx->prog, path), 0);
	_cleanup_(sym_freep) struct sym *s = sym_with(path);
	want = xasprintf("stripped+0x%" PRIx64, f->start + 3);
	assert_string_equal(name_at(s, f->start + 3), want);
}

static void dynsym_alone_gives_exported_names(void **state)
{
	const struct fixture *fx = need_compiler(state);
	_cleanup_(freep) char *path = xasprintf("%s/libfx.so", fx->dir),
			      *cmd = xasprintf("nm -D '%s' | grep ' W work$'", path);
	char line[128];

	assert_int_equal(shell("cc -O2 -fPIC -shared -s '%s/fx.c' -o '%s'", fx->dir, path), 0);
	FILE *p = popen(cmd, "r");
	assert_non_null(fgets(line, sizeof(line), p));
	assert_int_equal(pclose(p), 0);
	_cleanup_(sym_freep) struct sym *s = sym_with(path);
	const struct sym_frame *f;
	assert_int_equal(resolve(s, 1, strtoull(line, NULL, 16), false, &f), 1);
	assert_string_equal(f->name, "work"); /* not __the_work: the same address */
	assert_null(f->file);
}

static void mini_debug_info_gives_static_names(void **state)
{
	const struct fixture *fx = need_compiler(state);
	const char *d = fx->dir;

	if (shell("xz --version"))
		skip();
	assert_int_equal(shell("cd '%s' && strip -g prog -o m && objcopy --only-keep-debug m mini && xz -kf mini && "
			       "strip -s prog -o bare && "
			       "objcopy --add-section .gnu_debugdata=mini.xz bare packed",
			       d),
			 0);
	_cleanup_(freep) char *path = xasprintf("%s/packed", d);
	_cleanup_(sym_freep) struct sym *s = sym_with(path);
	assert_string_equal(name_at(s, func_named(fx, "hidden")->start + 1), "hidden");
	assert_string_equal(name_at(s, func_named(fx, "__the_work")->start), "work");
}

static void debuglink_is_followed(void **state)
{
	const struct fixture *fx = need_compiler(state);
	const struct func *f = func_named(fx, "hidden");
	_cleanup_(freep) char *path = xasprintf("%s/linked", fx->dir);
	const struct sym_frame *frames;

	assert_int_equal(shell("cd '%s' && mkdir -p .debug && objcopy --only-keep-debug prog .debug/linked.debug && "
			       "strip -s prog -o linked && "
			       "objcopy --add-gnu-debuglink=.debug/linked.debug linked",
			       fx->dir),
			 0);
	_cleanup_(sym_freep) struct sym *s = sym_with(path);
	size_t n = resolve(s, 1, f->start + 2, false, &frames);
	assert_string_equal(frames[n - 1].name, "hidden");
	assert_non_null(frames[n - 1].file);
	assert_string_equal(strrchr(frames[n - 1].file, '/'), "/fx.c");
}

/* Without a build id the CRC decides. */
static void debuglink_needs_its_crc(void **state)
{
	const struct fixture *fx = need_compiler(state);
	const char *d = fx->dir;
	_cleanup_(freep) char *path = xasprintf("%s/noid", d);
	const struct func *f = func_named(fx, "hidden");

	assert_int_equal(shell("cd '%s' && objcopy --remove-section .note.gnu.build-id prog p2 && objcopy "
			       "--only-keep-debug p2 noid.debug && "
			       "strip -s p2 -o noid && objcopy --add-gnu-debuglink=noid.debug noid",
			       d),
			 0);
	_cleanup_(sym_freep) struct sym *good = sym_with(path);
	assert_string_equal(name_at(good, f->start), "hidden");
	assert_int_equal(shell("printf x >> '%s/noid.debug'", d), 0);
	_cleanup_(sym_freep) struct sym *bad = sym_with(path);
	assert_int_equal(strncmp(name_at(bad, f->start), "noid+0x", 7), 0);
}

static void deleted_file_is_still_read(void **state)
{
	const struct fixture *fx = need_compiler(state);
	_cleanup_(freep) char *path = xasprintf("%s/gone", fx->dir);
	const struct func *f = func_named(fx, "hidden");
	const struct sym_frame *frames;

	assert_int_equal(shell("cp '%s' '%s'", fx->prog, path), 0);
	_cleanup_(sym_freep) struct sym *s = sym_with(path);
	assert_int_equal(unlink(path), 0);
	size_t n = resolve(s, 1, f->start, false, &frames);
	assert_string_equal(frames[n - 1].name, "hidden");
	assert_non_null(frames[n - 1].file);
}

static void wrong_file_is_refused(void **state)
{
	const struct fixture *fx = need_compiler(state);
	const struct func *f = func_named(fx, "hidden");
	struct stat st;
	const struct sym_frame *right;

	assert_int_equal(stat(fx->prog, &st), 0);
	_cleanup_(sym_freep) struct sym *first = sym_with(fx->prog);
	size_t n = resolve(first, 1, f->start, false, &right);
	assert_string_equal(right[n - 1].name, "hidden");
	const struct snap_module m[] = {
		{ .id = 1, .path = fx->prog, .open_path = fx->prog, .build_id = "0123456789abcdef" },
		{ .id = 2,
		  .path = fx->prog,
		  .open_path = fx->prog,
		  .build_id = "",
		  .dev = st.st_dev,
		  .inode = st.st_ino + 1 },
		{ .id = 3,
		  .path = fx->prog,
		  .open_path = "/proc/0/root/x",
		  .build_id = "",
		  .dev = st.st_dev,
		  .inode = st.st_ino },
		{ .id = 4, .path = fx->prog, .open_path = "/proc/0/root/x", .build_id = right->build_id },
		{ .id = 5, .path = fx->prog, .open_path = "/proc/0/root/x", .build_id = "" },
	};
	static const bool is_right[] = { false, false, true, true, false };
	for (size_t i = 0; i < ARRAY_SIZE(m); i++) {
		_cleanup_(sym_freep) struct sym *s = sym_new();
		const struct sym_frame *frames;
		sym_add_modules(s, &m[i], 1);
		n = resolve(s, m[i].id, f->start, false, &frames);
		assert_int_equal(!strcmp(frames[n - 1].name, "hidden"), is_right[i]);
		assert_int_equal(!strncmp(frames[n - 1].name, "prog+0x", 7), !is_right[i]);
	}
}

static void budget_leaves_names_for_later(void **state)
{
	const struct fixture *fx = need_compiler(state);
	_cleanup_(sym_freep) struct sym *s = sym_with(fx->prog);
	const struct func *f = func_named(fx, "hidden");
	const struct sym_frame *frames;
	size_t n;

	sym_set_budget(s, 1);
	assert_int_equal(resolve(s, 1, f->start, false, &frames), 1);
	assert_false(frames->final);
	assert_null(frames->file);
	assert_int_equal(strncmp(frames->name, "prog+0x", 7), 0);
	assert_string_equal(frames->module, fx->prog);
	sym_set_budget(s, 0);
	n = resolve(s, 1, f->start, false, &frames);
	assert_true(frames->final);
	assert_string_equal(frames[n - 1].name, "hidden");
	sym_set_budget(s, 1);
	assert_int_equal(resolve(s, 1, f->start, false, &frames), n); /* known: costs nothing */
	assert_true(frames->final);
}

static size_t open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	assert_int_equal(closedir(d), 0);
	return n;
}

static void descriptors_are_bounded(void **state)
{
	const struct fixture *fx = need_compiler(state);
	const struct func *f = func_named(fx, "hidden");
	size_t before = open_descriptors();
	_cleanup_(sym_freep) struct sym *s = sym_new();

	assert_int_equal(shell("cd '%s' && mkdir many && strip -g prog -o small && objcopy --remove-section "
			       ".note.gnu.build-id small && "
			       "for i in $(seq 600); do cp small many/$i; done",
			       fx->dir),
			 0);
	for (uint32_t i = 1; i <= 600; i++) {
		struct stat st;
		_cleanup_(freep) char *path = xasprintf("%s/many/%u", fx->dir, i);
		assert_int_equal(stat(path, &st), 0);
		const struct snap_module m = {
			.id = i, .path = path, .open_path = path, .dev = st.st_dev, .inode = st.st_ino
		};
		sym_add_modules(s, &m, 1);
	}
	for (uint32_t i = 1; i <= 600; i++) {
		const struct sym_frame *frames;
		size_t n = resolve(s, i, f->start, false, &frames);
		assert_string_equal(frames[n - 1].name, "hidden");
	}
	assert_true(open_descriptors() - before <= 256);
}

/* Asks for addresses all over a file that is broken; what it must do is come back with a name. */
static void probe_broken(const struct fixture *fx, const char *data, size_t len)
{
	_cleanup_(freep) char *path = xasprintf("%s/broken", fx->dir);
	const struct sym_frame *frames;

	write_file(path, data, len);
	_cleanup_(sym_freep) struct sym *s = sym_with(path);
	for (size_t i = 0; i < fx->n_funcs; i++)
		for (uint64_t off = 0; off < fx->funcs[i].bytes; off += 13)
			(void)resolve(s, 1, fx->funcs[i].start + off, off & 1,
				      &frames); /* it checks the shape of the answer */
	(void)resolve(s, 1, 0, true, &frames);
	(void)resolve(s, 1, UINT64_MAX, false, &frames);
}

static void broken_files_are_survived(void **state)
{
	const struct fixture *fx = need_compiler(state);
	_cleanup_(freep) char *data = NULL, *copy = NULL;
	FILE *f = fopen(fx->prog, "r");
	uint64_t seed = 2463534242u;
	struct stat st;

	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);
	size_t len = (size_t)st.st_size;
	data = xcalloc(1, len);
	copy = xcalloc(1, len);
	assert_int_equal(fread(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	for (size_t cut = 0; cut < len; cut += 509)
		probe_broken(fx, data, cut);
	for (int round = 0; round < 150; round++) {
		memcpy(copy, data, len);
		for (int flips = 0; flips < 1 + round % 40; flips++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			/* Headers of the file and of its sections are hit as often as all the rest. */
			size_t at = seed % 3 == 0   ? seed / 3 % 64
				    : seed % 3 == 1 ? len - 1 - seed / 3 % 2400
						    : seed / 3 % len;
			copy[at] ^= (char)(1 << (seed >> 60 & 7));
		}
		probe_broken(fx, copy, len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_file_gives_numbers),
		cmocka_unit_test(lines_agree_with_addr2line),
		cmocka_unit_test(frames_carry_module_and_offset),
		cmocka_unit_test(stripped_gives_offsets),
		cmocka_unit_test(dynsym_alone_gives_exported_names),
		cmocka_unit_test(mini_debug_info_gives_static_names),
		cmocka_unit_test(debuglink_is_followed),
		cmocka_unit_test(debuglink_needs_its_crc),
		cmocka_unit_test(deleted_file_is_still_read),
		cmocka_unit_test(wrong_file_is_refused),
		cmocka_unit_test(budget_leaves_names_for_later),
		cmocka_unit_test(descriptors_are_bounded),
		cmocka_unit_test(broken_files_are_survived),
	};

	return cmocka_run_group_tests_name("sym", tests, set_up, tear_down);
}
