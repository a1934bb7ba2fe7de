/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Perf maps: what stands in them, how they grow, and whose they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sym/perfmap.h"
#include "sym/sym.h"
#include "util/clock.h"
#include "util/mem.h"

static void perfmap_freep(struct perfmap **m)
{
	perfmap_free(*m);
}

static void sym_freep(struct sym **s)
{
	sym_free(*s);
}

static void put(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* The map's descriptor is a second one of `fd`, so that the test can go on writing. */
static struct perfmap *map_with(int *ret_fd, const char *text)
{
	int fd = memfd_create("perf.map", MFD_CLOEXEC);

	assert_true(fd >= 0);
	put(fd, text);
	*ret_fd = fd;
	return perfmap_of_fd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

static const char *find(struct perfmap *m, uint64_t addr, char name[PERFMAP_NAME_CAP])
{
	perfmap_read(m);
	return perfmap_find(m, addr, name) ? "-" : name;
}

static void lines_are_understood(void **state)
{
	char name[PERFMAP_NAME_CAP];
	_cleanup_(closep) int fd = -1;
	_cleanup_(perfmap_freep) struct perfmap *m = map_with(&fd, "1000 10 LazyCompile:~f /app/a.js:1:2\n"
								   "0x2000 0x20 py::work:/app/b.py\n"
								   "7fffffffff000  A  Tab \t name \r\n");

	(void)state;
	assert_string_equal(find(m, 0x1000, name), "LazyCompile:~f /app/a.js:1:2");
	assert_string_equal(find(m, 0x100f, name), "LazyCompile:~f /app/a.js:1:2");
	assert_string_equal(find(m, 0x1010, name), "-");
	assert_string_equal(find(m, 0xfff, name), "-");
	assert_string_equal(find(m, 0x201f, name), "py::work:/app/b.py");
	assert_string_equal(find(m, 0x7fffffffff009, name), "Tab \t name ");
	assert_int_equal(perfmap_n(m), 3);
}

static void broken_lines_are_left_out(void **state)
{
	char name[PERFMAP_NAME_CAP];
	_cleanup_(closep) int fd = -1;
	_cleanup_(perfmap_freep) struct perfmap *m = map_with(
		&fd, "\n\n \nx 10 a\n1000\n1000 \n1000 10\n1000 10 \n1000 zz b\n-1000 10 c\n0x 10 d\n"
		     "10000000000000000 10 e\n1000 0 f\nffffffffffffff00 101 g\n1000 100000000 h\n3000 10 good\n");

	(void)state;
	assert_string_equal(find(m, 0x3000, name), "good");
	assert_int_equal(perfmap_n(m), 1);
}

static void later_lines_win(void **state)
{
	static const struct {
		uint64_t addr;
		const char *name;
	} cases[] = {
		{ 0xfff, "-" },	   { 0x1000, "d" }, { 0x10ff, "d" }, { 0x1100, "a" }, { 0x11ff, "a" },
		{ 0x1200, "b" },   { 0x127f, "b" }, { 0x1280, "e" }, { 0x128f, "e" }, { 0x1290, "b" },
		{ 0x12ff, "b" },   { 0x1300, "a" }, { 0x14ff, "a" }, { 0x1500, "-" }, { 0x2000, "new" },
		{ 0x20ff, "new" }, { 0x2100, "-" },
	};
	char name[PERFMAP_NAME_CAP];
	_cleanup_(closep) int fd = -1;
	_cleanup_(perfmap_freep) struct perfmap *m = map_with(&fd, "1000 500 a\n2000 80 old\n1200 100 b\nf00 200 c\n"
								   "f00 100 gone\nf00 200 c\n");

	(void)state;
	assert_string_equal(find(m, 0xf80, name), "c");
	put(fd, "f00 100 x\n1000 100 d\n1280 10 e\n2000 100 new\n");
	assert_string_equal(find(m, 0xf80, name), "x");
	for (size_t i = 1; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(find(m, cases[i].addr, name), cases[i].name);
}

static void order_of_writing_decides_everywhere(void **state)
{
	enum { SPACE = 512, LINES = 400 };
	static int truth[SPACE];
	char name[PERFMAP_NAME_CAP], line[64];
	_cleanup_(closep) int fd = -1;
	_cleanup_(perfmap_freep) struct perfmap *m = map_with(&fd, "");
	uint32_t seed = 12345;

	(void)state;
	memset(truth, -1, sizeof(truth));
	for (int i = 0; i < LINES; i++) {
		seed = seed * 1664525 + 1013904223;
		unsigned int start = seed >> 8 & (SPACE - 1), bytes = 1 + (seed >> 20) % 60;
		(void)snprintf(line, sizeof(line), "%x %x f%d\n", start, bytes, i); /* fits */
		put(fd, line);
		for (unsigned int a = start; a < start + bytes && a < SPACE; a++)
			truth[a] = i;
		if (i % 37 == 0 || i == LINES - 1)
			perfmap_read(m);
	}
	for (unsigned int a = 0; a < SPACE; a++) {
		int r = perfmap_find(m, a, name);
		assert_int_equal(r == 0, truth[a] >= 0);
		if (!r)
			assert_int_equal(atoi(name + 1), truth[a]);
	}
}

static void a_growing_file_is_read_on(void **state)
{
	char name[PERFMAP_NAME_CAP];
	_cleanup_(closep) int fd = -1;
	_cleanup_(perfmap_freep) struct perfmap *m = map_with(&fd, "1000 10 first\n2000 10 half a na");

	(void)state;
	assert_string_equal(find(m, 0x1000, name), "first");
	assert_string_equal(find(m, 0x2000, name), "-");
	put(fd, "me\n");
	assert_string_equal(find(m, 0x2000, name), "half a name");
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	put(fd, "3000 10 anew\n");
	assert_string_equal(find(m, 0x3000, name), "anew");
	assert_string_equal(find(m, 0x1000, name), "-");
}

/* An unknown address makes it look again, but not at each question. */
static void looks_are_spaced(void **state)
{
	char name[PERFMAP_NAME_CAP];
	_cleanup_(closep) int fd = -1;
	uint64_t start = mono_ns(); /* before the first look */
	_cleanup_(perfmap_freep) struct perfmap *m = map_with(&fd, "1000 10 first\n");
	const struct timespec pause = { .tv_nsec = 10000000 };

	(void)state;
	assert_int_equal(perfmap_find(m, 0x1000, name), 0);
	put(fd, "2000 10 second\n");
	while (perfmap_find(m, 0x2000, name) != 0) {
		assert_true(mono_ns() - start < 60000000000ull);
		(void)nanosleep(&pause, NULL); /* only a pause */
	}
	assert_true(mono_ns() - start >= 100000000);
}

/* By this process so far. */
static uint64_t bytes_read(void)
{
	char text[256];
	int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	uint64_t bytes;

	assert_true(n > 0);
	text[n] = 0;
	assert_int_equal(sscanf(text, "rchar: %" SCNu64, &bytes), 1);
	(void)close(fd);
	return bytes;
}

static void long_lines_and_files_are_bounded(void **state)
{
	enum { LONG = 200000 };
	char name[PERFMAP_NAME_CAP];
	_cleanup_(freep) char *text = xcalloc(1, LONG + 1);
	_cleanup_(closep) int fd = -1;
	_cleanup_(perfmap_freep) struct perfmap *m = map_with(&fd, "1000 10 ");

	(void)state;
	memset(text, 'n', LONG);
	put(fd, text);
	perfmap_read(m); /* in the middle of the line */
	put(fd, " 9000 10 inside\n2000 10 ");
	text[50000] = 0;
	put(fd, text);
	put(fd, "\n3000 10 after\n");
	assert_string_equal(find(m, 0x3000, name), "after");
	assert_string_equal(find(m, 0x9000, name), "-");
	assert_int_equal(strlen(find(m, 0x2000, name)), PERFMAP_NAME_CAP - 1);
	/* A hole of a gigabyte: zeros are one long line that never ends. */
	assert_int_equal(ftruncate(fd, 1 << 30), 0);
	uint64_t read_before = bytes_read();
	perfmap_read(m);
	assert_in_range(bytes_read() - read_before, 0, 128 << 20);
	assert_string_equal(find(m, 0x3000, name), "after");
}

static void many_lines_are_bounded(void **state)
{
	enum { LINES = 1200000 };
	char name[PERFMAP_NAME_CAP], line[64];
	int fd = memfd_create("perf.map", MFD_CLOEXEC);
	FILE *f = fdopen(fd, "w");

	(void)state;
	assert_non_null(f);
	for (int i = 0; i < LINES; i++)
		assert_true(fprintf(f, "%x 10 f%d\n", 0x1000 + i * 16, i) > 0);
	assert_int_equal(fflush(f), 0);
	_cleanup_(perfmap_freep) struct perfmap *m = perfmap_of_fd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	uint64_t start = mono_ns();
	perfmap_read(m);
	printf("%zu functions read in %.1f ms\n", perfmap_n(m), (double)(mono_ns() - start) / 1e6);
	assert_in_range(perfmap_n(m), 1 << 20, (1 << 20) + 65536);
	(void)snprintf(line, sizeof(line), "f%d", 1000000); /* fits */
	assert_string_equal(find(m, 0x1000 + 1000000 * 16 + 5, name), line);
	assert_int_equal(fclose(f), 0);
}

static void names_of_modules(void **state)
{
	static const struct {
		const char *path, *open_path;
		bool is_it;
	} cases[] = {
		{ "/tmp/perf-7.map", "/proc/4711/root/tmp/perf-7.map", true },
		{ "/tmp/perf-7.map", "/tmp/perf-7.map", false },
		{ "/tmp/perf-7.map", "/proc/4711/root/etc/shadow", false },
		{ "/tmp/perf-7.map", NULL, false },
		{ "/tmp/perf-.map", "/proc/4711/root/tmp/perf-.map", false },
		{ "/tmp/perf-7x.map", "/proc/4711/root/tmp/perf-7x.map", false },
		{ "/tmp/perf-7.map2", "/proc/4711/root/tmp/perf-7.map2", false },
		{ "/usr/lib/libc.so.6", "/proc/4711/root/usr/lib/libc.so.6", false },
		{ NULL, NULL, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(perfmap_is(cases[i].path, cases[i].open_path), cases[i].is_it);
	assert_null(perfmap_open("/proc/4294967295/root/tmp/perf-7.map"));
}

/* Our own process plays the target; its map lies in the real /tmp under a number that is no pid of anybody. */
struct own {
	char path[64], open_path[128];
};

static struct own own_map(void)
{
	struct own o;

	/* above PID_MAX_LIMIT of 4194304 */
	(void)snprintf(o.path, sizeof(o.path), "/tmp/perf-%u.map", 10000000 + (unsigned int)getpid()); /* fits */
	(void)snprintf(o.open_path, sizeof(o.open_path), "/proc/%d/root%s", getpid(), o.path);	       /* fits */
	(void)unlink(o.path); /* of an earlier run */
	return o;
}

static int create(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	put(fd, text);
	return fd;
}

static const char *name_in(const struct own *o, char name[PERFMAP_NAME_CAP])
{
	_cleanup_(perfmap_freep) struct perfmap *m = perfmap_open(o->open_path);

	assert_non_null(m);
	return find(m, 0x1008, name);
}

static void only_the_targets_own_file_counts(void **state)
{
	char name[PERFMAP_NAME_CAP];
	struct own o = own_map();
	_cleanup_(freep) char *other = xasprintf("%s.other", o.path);
	_cleanup_(closep) int fd = -1;
	const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };

	(void)state;
	assert_string_equal(name_in(&o, name), "-");
	(void)unlink(other); /* of an earlier run */
	fd = create(other, "1000 10 linked\n");
	assert_int_equal(symlink(other, o.path), 0);
	assert_string_equal(name_in(&o, name), "-");
	assert_int_equal(unlink(o.path), 0);
	assert_int_equal(mkfifo(o.path, 0600), 0);
	assert_string_equal(name_in(&o, name), "-");
	assert_int_equal(unlink(o.path), 0);
	assert_int_equal(rename(other, o.path), 0);
	assert_string_equal(name_in(&o, name), "linked");
	assert_int_equal(futimens(fd, old), 0);
	assert_string_equal(name_in(&o, name), "-"); /* older than the process: somebody else's */
	put(fd, "1000 10 fresh\n");
	assert_string_equal(name_in(&o, name), "fresh");
	if (geteuid() == 0 && fchown(fd, 12345, 12345) == 0)
		assert_string_equal(name_in(&o, name), "-");
	assert_int_equal(unlink(o.path), 0);
}

/* A child that is over and whose file is read all the same: the root was taken hold of while it lived. */
static void a_target_that_ended_has_names(void **state)
{
	char name[PERFMAP_NAME_CAP], open_path[128], path[64];
	int gate[2], status;

	(void)state;
	assert_int_equal(pipe(gate), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		(void)close(gate[1]);
		_exit(read(gate[0], &c, 1) != 0);
	}
	assert_true(pid > 0);
	assert_int_equal(close(gate[0]), 0);
	(void)snprintf(path, sizeof(path), "/tmp/perf-%d.map", 20000000 + pid);	    /* fits */
	(void)snprintf(open_path, sizeof(open_path), "/proc/%d/root%s", pid, path); /* fits */
	(void)unlink(path);							    /* of an earlier run */
	_cleanup_(perfmap_freep) struct perfmap *m = perfmap_open(open_path);
	assert_non_null(m);
	_cleanup_(closep) int fd = create(path, "1000 10 late\n");
	assert_int_equal(close(gate[1]), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_string_equal(find(m, 0x1008, name), "late");
	assert_int_equal(unlink(path), 0);
}

static void frames_get_names_when_they_are_written(void **state)
{
	struct own o = own_map();
	_cleanup_(sym_freep) struct sym *s = sym_new();
	const struct snap_module m = { .id = 1, .path = o.path, .open_path = o.open_path, .build_id = "" };
	const struct snap_frame at = { .module = 1, .addr = 0x7f0000001001, .is_return = true };
	const struct timespec pause = { .tv_nsec = 10000000 };
	const struct sym_frame *f;
	uint64_t start = mono_ns();

	(void)state;
	sym_add_modules(s, &m, 1);
	assert_int_equal(sym_resolve(s, &at, &f), 1);
	assert_string_equal(f->name, "0x7f0000001000");
	assert_null(f->module); /* there may never be a map */
	assert_true(f->final && !f->settled);
	_cleanup_(closep) int fd = create(o.path, "7f0000001000 10 _ZN3app3runEv\n");
	do {
		assert_true(mono_ns() - start < 60000000000ull);
		(void)nanosleep(&pause, NULL); /* only a pause */
		sym_set_budget(s, mono_ns() & 1 ? 0 : 1000000);
		assert_int_equal(sym_resolve(s, &at, &f), 1);
	} while (!f->module);
	assert_string_equal(f->name, "app::run()");
	assert_string_equal(f->module, o.path);
	assert_int_equal(f->offset, 0x7f0000001000);
	assert_true(f->settled);
	assert_int_equal(unlink(o.path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_understood),
		cmocka_unit_test(broken_lines_are_left_out),
		cmocka_unit_test(later_lines_win),
		cmocka_unit_test(order_of_writing_decides_everywhere),
		cmocka_unit_test(a_growing_file_is_read_on),
		cmocka_unit_test(looks_are_spaced),
		cmocka_unit_test(long_lines_and_files_are_bounded),
		cmocka_unit_test(many_lines_are_bounded),
		cmocka_unit_test(names_of_modules),
		cmocka_unit_test(only_the_targets_own_file_counts),
		cmocka_unit_test(a_target_that_ended_has_names),
		cmocka_unit_test(frames_get_names_when_they_are_written),
	};

	return cmocka_run_group_tests_name("sym_perfmap", tests, NULL, NULL);
}
