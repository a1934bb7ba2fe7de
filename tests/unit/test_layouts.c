/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layouts of processes: our own one, children with known mappings, and mappings that are made up. What is found is
 * looked up as the kernel side does it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collect/layouts.h"
#include "probe/unwind.h"
#include "target/proc.h"
#include "unwind_fixture.h"
#include "util/mem.h"

#define LIBS "/usr/lib/x86_64-linux-gnu/"
#define PAGE 4096ull
#define N_LIBS 100

struct fixture {
	struct tables t;
	struct unwind_tables *u;
	struct layouts *l;
};

static int setup(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));

	tables_init(&x->t);
	x->u = unwind_new(&x->t.area);
	x->l = layouts_new(x->u);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	layouts_free(x->l);
	unwind_free(x->u);
	tables_done(&x->t);
	free(x);
	return 0;
}

static uint64_t take(struct fixture *x, pid_t pid)
{
	struct mappings maps;

	assert_int_equal(mappings_read((uint32_t)pid, &maps), 0);
	uint64_t layout = layouts_take(x->l, (uint32_t)pid, &maps);
	mappings_done(&maps);
	return layout;
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static uint64_t address_of(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

/* ---- our own process ---- */

/* At its first instruction nothing is pushed yet: the caller's stack pointer is 8 above. */
static void check_entry(const struct fixture *x, uint64_t layout, const char *name, const void *function)
{
	assert_non_null(function);
	const struct unwind_rule *rule = tables_find(&x->t, layout, address_of(function));
	if (!rule || rule->kind != UNWIND_SP || rule->cfa_off != 8)
		fail_msg("%s: kind %d, offset %d", name, rule ? rule->kind : -1, rule ? rule->cfa_off : 0);
}

static void check_functions(const struct fixture *x, uint64_t layout)
{
	static const char *const names[] = { "malloc",	    "free",	      "qsort", "printf",
					     "getaddrinfo", "pthread_create", "system" };
	static const char *const vdso_names[] = { "__vdso_gettimeofday", "__vdso_clock_gettime", "__vdso_time" };
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);

	assert_non_null(libc);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		check_entry(x, layout, names[i], dlsym(libc, names[i]));
	for (size_t i = 0; vdso && i < ARRAY_SIZE(vdso_names); i++)
		check_entry(x, layout, vdso_names[i], dlvsym(vdso, vdso_names[i], "LINUX_2.6"));
	check_entry(x, layout, "layouts_take", (void *)layouts_take);
	check_entry(x, layout, "check_functions", (void *)check_functions);
	dlclose(libc);
	if (vdso)
		dlclose(vdso);
}

static void our_own_functions_have_rows(void **state)
{
	struct fixture *x = *state;
	uint64_t layout = take(x, getpid());

	assert_int_not_equal(layout, 0);
	check_functions(x, layout);
	const struct unwind_range *vdso = tables_range(&x->t, layout, getauxval(AT_SYSINFO_EHDR));
	assert_true(vdso && vdso->page != RANGE_NO_ROWS);
	assert_int_equal(vdso->bias, vdso->start);
	/* Data and stack are in no range, nor is the kernel's page of system calls. */
	assert_null(tables_range(&x->t, layout, address_of(&layout)));
	assert_null(tables_range(&x->t, layout, address_of(x)));
	assert_null(tables_range(&x->t, layout, 0xffffffffff600000ull));
	/* Ascending and apart. */
	for (uint32_t i = 0; i < layout_n(layout); i++) {
		const struct unwind_range *r = &x->t.area.ranges[layout_first(layout) + i];
		assert_true(r->start < r->end);
		assert_true(!i || r[-1].end <= r->start);
	}
	assert_int_equal(take(x, getpid()), layout);
}

/* The frame that runs now is found in the middle of its function too, by the rule that holds there. */
static void a_return_address_finds_its_frame(void **state)
{
	struct fixture *x = *state;
	uint64_t layout = take(x, getpid());
	const struct unwind_rule *rule = tables_find(&x->t, layout, address_of(__builtin_return_address(0)) - 1);

	assert_non_null(rule);
	assert_true(rule->kind == UNWIND_SP || rule->kind == UNWIND_BP);
}

static void code_of_no_file_is_a_range_without_rows(void **state)
{
	struct fixture *x = *state;
	char *jit = mmap(NULL, 4 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(jit != MAP_FAILED);
	assert_int_equal(mprotect(jit + 2 * PAGE, PAGE, PROT_READ), 0);
	uint64_t layout = take(x, getpid());
	const struct unwind_range *r = tables_range(&x->t, layout, address_of(jit) + 5);
	assert_true(r && r->page == RANGE_NO_ROWS);
	assert_null(tables_range(&x->t, layout, address_of(jit) + 2 * PAGE));
	assert_non_null(tables_range(&x->t, layout, address_of(jit) + 3 * PAGE));
	assert_int_equal(tables_find(&x->t, layout, address_of(jit))->kind, UNWIND_NONE);
	munmap(jit, 4 * PAGE);
	/* Gone with the mapping. */
	assert_null(tables_range(&x->t, take(x, getpid()), address_of(jit) + 5));
}

/* ---- children ---- */

/* A child that does nothing after `prepare` until it is ended. */
static pid_t child_start(void (*prepare)(void *ctx), void *ctx)
{
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL)) /* a test that fails does not end it */
			_exit(1);
		if (prepare)
			prepare(ctx);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void child_end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_child_shares_its_parents_ranges(void **state)
{
	struct fixture *x = *state;
	uint64_t ours = take(x, getpid());
	size_t used = unwind_stats(x->u).ranges;
	pid_t pid = child_start(NULL, NULL);

	assert_int_equal(take(x, pid), ours);
	assert_int_equal(unwind_stats(x->u).ranges, used);
	child_end(pid);
	/* Each has its reference. */
	unwind_drop_ranges(x->u, ours);
	unwind_settle(x->u);
	unwind_settle(x->u);
	assert_int_equal(unwind_stats(x->u).ranges, used);
	unwind_drop_ranges(x->u, ours);
	unwind_settle(x->u);
	unwind_settle(x->u);
	assert_int_equal(unwind_stats(x->u).ranges, 0);
}

/* A process that is gone, its files under no name that there is: nothing can be opened, what is found was remembered. */
static void an_unchanged_process_is_not_opened_again(void **state)
{
	struct fixture *x = *state;
	struct mappings maps;
	struct mapping *last = NULL;
	pid_t pid = child_start(NULL, NULL);

	assert_int_equal(mappings_read((uint32_t)pid, &maps), 0);
	uint64_t layout = layouts_take(x->l, (uint32_t)pid, &maps);
	child_end(pid);
	for (size_t i = 0; i < maps.n; i++) {
		struct mapping *m = &maps.items[i];
		if (!m->inode)
			continue;
		m->path[0] = '?';
		last = m->exec ? m : last;
	}
	assert_int_equal(layouts_take(x->l, (uint32_t)pid, &maps), layout);
	/* Where one has changed, only that one is opened. */
	last->end -= PAGE;
	uint64_t changed = layouts_take(x->l, (uint32_t)pid, &maps);
	assert_int_not_equal(changed, layout);
	assert_int_equal(tables_range(&x->t, changed, last->start)->page, RANGE_NO_ROWS);
	check_functions(x, changed);
	mappings_done(&maps);
}

static void what_cannot_be_opened_is_tried_again(void **state)
{
	struct fixture *x = *state;
	struct mappings maps;
	struct rlimit old, none = { 0 };

	assert_int_equal(mappings_read((uint32_t)getpid(), &maps), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	uint64_t without = layouts_take(x->l, (uint32_t)getpid(), &maps);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	const struct unwind_range *r = tables_range(&x->t, without, address_of((void *)layouts_take));
	assert_true(r && r->page == RANGE_NO_ROWS);
	check_functions(x, layouts_take(x->l, (uint32_t)getpid(), &maps));
	mappings_done(&maps);
}

/* ---- files whose segments are known ---- */

/* A file with a name, so that it can be opened without privileges too. -1: none can be made or mapped there. */
static int named_file(const struct fake_elf *f, char path[], uint64_t offsets[3])
{
	struct stat st;
	_cleanup_(closep) int from = fake_elf_open(f, offsets);
	int fd = mkstemp(path);

	if (from < 0 || fd < 0 || fstat(from, &st) ||
	    sendfile(fd, from, &(off_t){ 0 }, (size_t)st.st_size) != st.st_size)
		return -1;
	return fd;
}

/*
 * Two segments of a file in one mapping, as one piece of the file and not as a loader would do it: each has its own
 * bias, and what is in none has no rows.
 */
static void a_mapping_is_cut_at_its_segments(void **state)
{
	struct fixture *x = *state;
	struct fake_elf f = { .segments = { { 0x401a40, 0x1000 }, { 0x7030c0, 0x800 } },
			      .n_segments = 2,
			      .functions = { { 0x401a40, 8, 4, 8, 8 }, { 0x703100, 8, 4, 800, 8 } },
			      .n_functions = 2 };
	char path[] = "/tmp/tidemark-layout-XXXXXX";
	uint64_t offsets[3];
	struct stat st;
	_cleanup_(closep) int fd = named_file(&f, path, offsets);

	assert_true(fd >= 0 && !fstat(fd, &st));
	size_t bytes = ((size_t)st.st_size + PAGE - 1) & ~(size_t)(PAGE - 1);
	char *at = mmap(NULL, bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED) {
		unlink(path);
		skip(); /* a file system without executables */
	}
	uint64_t layout = take(x, getpid());
	uint64_t first = address_of(at) + offsets[0], second = address_of(at) + offsets[1] + 0x40;
	assert_int_equal(tables_find(&x->t, layout, first)->cfa_off, 8);
	assert_int_equal(tables_find(&x->t, layout, first + 28)->cfa_off, 8 + 56);
	assert_int_equal(tables_find(&x->t, layout, first + 32)->kind, UNWIND_NONE);
	assert_int_equal(tables_find(&x->t, layout, second + 4)->cfa_off, 808);
	assert_int_equal(tables_range(&x->t, layout, first)->bias, first - 0x401a40);
	assert_int_equal(tables_range(&x->t, layout, second)->bias, second - 0x703100);
	assert_int_equal(tables_range(&x->t, layout, address_of(at))->page, RANGE_NO_ROWS);
	assert_int_equal(tables_range(&x->t, layout, address_of(at) + bytes - 1)->page, RANGE_NO_ROWS);
	munmap(at, bytes);
	/* As a loader maps it: whole pages of one segment, from an offset that is not the segment's. */
	at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, (off_t)(offsets[0] & ~(PAGE - 1)));
	assert_true(at != MAP_FAILED);
	layout = take(x, getpid());
	assert_int_equal(tables_find(&x->t, layout, address_of(at) + 0xa40 + 4)->cfa_off, 16);
	assert_int_equal(tables_range(&x->t, layout, address_of(at))->bias, address_of(at) - 0x401000);
	munmap(at, 2 * PAGE);
	unlink(path);
}

/* Deleted while it is mapped; another file takes its place (and, on many file systems, its inode's number). */
static void a_file_that_was_replaced_is_another_one(void **state)
{
	struct fixture *x = *state;
	struct fake_elf f = { .segments = { { 0x1000, 0x1000 } },
			      .n_segments = 1,
			      .functions = { { 0x1000, 8, 4, 8, 8 } },
			      .n_functions = 1 };
	char *fixed = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(fixed != MAP_FAILED);
	for (uint32_t turn = 1; turn <= 4; turn++) {
		char path[] = "/tmp/tidemark-layout-XXXXXX";
		uint64_t offsets[3];
		f.functions[0].first_cfa = 80 * turn;
		int fd = named_file(&f, path, offsets);
		assert_true(fd >= 0);
		char *at = mmap(fixed, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, (off_t)offsets[0]);
		close(fd);
		if (at == MAP_FAILED) {
			unlink(path);
			skip();
		}
		/* Of another process each time: this one's own memory of mappings ends with the process. */
		pid_t pid = child_start(NULL, NULL);
		uint64_t layout = take(x, pid);
		assert_int_equal(tables_find(&x->t, layout, address_of(at))->cfa_off, 80 * turn);
		child_end(pid);
		unlink(path);
		assert_true(mmap(fixed, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == fixed);
	}
	munmap(fixed, PAGE);
}

/* ---- mappings that are made up ---- */

static struct mapping anonymous(uint64_t start, uint64_t bytes)
{
	static char no_path[] = "";

	return (struct mapping){ .start = start, .end = start + bytes, .read = true, .exec = true, .path = no_path };
}

static void neighbours_are_one_range(void **state)
{
	struct fixture *x = *state;
	struct mapping items[] = { anonymous(0x10000, PAGE), anonymous(0x11000, 3 * PAGE), anonymous(0x15000, PAGE) };
	uint64_t layout = layouts_take(x->l, 1, &(struct mappings){ items, ARRAY_SIZE(items) });

	assert_int_equal(layout_n(layout), 2);
	assert_int_equal(tables_range(&x->t, layout, 0x10000)->end, 0x14000);
	assert_null(tables_range(&x->t, layout, 0x14000));
	assert_int_equal(layouts_take(x->l, 1, &(struct mappings){ items, 0 }), 0);
	items[0].exec = items[1].exec = items[2].exec = false;
	assert_int_equal(layouts_take(x->l, 1, &(struct mappings){ items, ARRAY_SIZE(items) }), 0);
}

static void of_too_many_the_largest_win(void **state)
{
	enum { N = 3000 };
	struct fixture *x = *state;
	struct mapping *items = xcalloc(N, sizeof(*items));

	for (uint32_t i = 0; i < N; i++) {
		uint64_t pages = 1 + i * 7919 % N; /* each size once, in disorder */
		items[i] = anonymous(0x100000000ull + i * 0x1000000ull, pages * PAGE);
	}
	uint64_t layout = layouts_take(x->l, 1, &(struct mappings){ items, N });
	assert_int_equal(layout_n(layout), PROCESS_RANGES_MAX);
	for (uint32_t i = 0; i < N; i++) {
		bool is_large = items[i].end - items[i].start > (N - PROCESS_RANGES_MAX) * PAGE;
		assert_int_equal(!!tables_range(&x->t, layout, items[i].start), is_large);
	}
	free(items);
}

/* More processes than are remembered: the first ones are forgotten, nothing grows and all still serves. */
static void many_processes_are_forgotten_in_order(void **state)
{
	struct fixture *x = *state;
	struct mapping one = anonymous(0x10000, PAGE);
	struct mappings maps = { &one, 1 };
	uint64_t layout = layouts_take(x->l, 1, &maps);

	for (uint32_t pid = 2; pid < 10000; pid++)
		assert_int_equal(layouts_take(x->l, pid, &maps), layout);
	assert_int_equal(layouts_take(x->l, 1, &maps), layout);
}

/* ---- a process with 100 libraries ---- */

struct library {
	char path[320];
	uint64_t offset, bytes; /* of its code in the file */
};

struct libraries {
	struct library v[N_LIBS];
	size_t n;
	size_t pages_before; /* so that two processes have them at different addresses */
};

static int is_shared_object(const struct dirent *d)
{
	return !strncmp(d->d_name, "lib", 3) && strstr(d->d_name, ".so.");
}

static void library_add(struct libraries *libs, const char *name)
{
	struct library *lib = &libs->v[libs->n];
	Elf64_Ehdr head;
	Elf64_Phdr ph;
	struct stat st;

	(void)snprintf(lib->path, sizeof(lib->path), LIBS "%s", name);
	if (lstat(lib->path, &st) || !S_ISREG(st.st_mode) || st.st_size > 16 << 20)
		return;
	for (size_t i = 0; i < libs->n; i++)
		if (!strcmp(libs->v[i].path, lib->path))
			return;
	_cleanup_(closep) int fd = open(lib->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		return;
	for (unsigned int i = 0; i < head.e_phnum; i++) {
		if (pread(fd, &ph, sizeof(ph), (off_t)(head.e_phoff + i * sizeof(ph))) != sizeof(ph) ||
		    ph.p_type != PT_LOAD || !(ph.p_flags & PF_X))
			continue;
		lib->offset = ph.p_offset & ~(PAGE - 1);
		lib->bytes = ph.p_filesz + ph.p_offset % PAGE;
		libs->n++;
		return;
	}
}

/* What a Python service has at least, then the others by name; a single one above 16 MiB (a compiler) is no library of 100. */
static void libraries_find(struct libraries *libs)
{
	struct dirent **names;
	int n = scandir(LIBS, &names, is_shared_object, alphasort);

	library_add(libs, "libc.so.6");
	library_add(libs, "libstdc++.so.6.0.30");
	library_add(libs, "libpython3.11.so.1.0");
	library_add(libs, "libcrypto.so.3");
	for (int i = 0; i < n; i++) {
		if (libs->n < N_LIBS)
			library_add(libs, names[i]->d_name);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

/* As the dynamic linker does it, but that nothing of them runs. */
static void map_libraries(void *ctx)
{
	const struct libraries *libs = ctx;

	if (libs->pages_before)
		(void)mmap(NULL, libs->pages_before * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < libs->n; i++) {
		int fd = open(libs->v[i].path, O_RDONLY | O_CLOEXEC);
		(void)mmap(NULL, libs->v[i].bytes, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, (off_t)libs->v[i].offset);
		close(fd);
	}
}

static size_t bytes_of(struct unwind_stats s)
{
	return s.rows * sizeof(uint32_t) + s.pages * sizeof(struct unwind_page) + s.rules * sizeof(struct unwind_rule);
}

static void a_hundred_libraries_are_small_and_shared(void **state)
{
	struct fixture *x = *state;
	struct libraries libs = { 0 };
	struct mappings maps;

	libraries_find(&libs);
	if (libs.n < N_LIBS)
		skip(); /* a machine with few packages */
	/* What this test itself is made of (the sanitizers) is not counted. */
	(void)take(x, getpid());
	struct unwind_stats s0 = unwind_stats(x->u);
	pid_t one = child_start(map_libraries, &libs);
	libs.pages_before = 1000;
	pid_t two = child_start(map_libraries, &libs);
	assert_int_equal(mappings_read((uint32_t)one, &maps), 0);
	double t0 = now_ms();
	uint64_t first = layouts_take(x->l, (uint32_t)one, &maps);
	double t1 = now_ms();
	assert_int_equal(layouts_take(x->l, (uint32_t)one, &maps), first);
	double t2 = now_ms();
	mappings_done(&maps);
	struct unwind_stats s1 = unwind_stats(x->u);
	uint64_t second = take(x, two);
	struct unwind_stats s2 = unwind_stats(x->u);
	child_end(one);
	child_end(two);
	print_message("%zu libraries: %zu rows, %zu pages, %zu rules: %.2f MiB in %.1f ms, again %.3f ms; "
		      "second process: %zu bytes\n",
		      libs.n, s1.rows - s0.rows, s1.pages - s0.pages, s1.rules - s0.rules,
		      (double)(bytes_of(s1) - bytes_of(s0)) / (1 << 20), t1 - t0, t2 - t1,
		      (s2.ranges - s1.ranges) * sizeof(struct unwind_range));
	assert_true(first && second && first != second);
	assert_true(layout_n(first) >= N_LIBS);
	assert_true(bytes_of(s1) - bytes_of(s0) < 2 << 20);
	assert_int_equal(s2.ranges - s1.ranges, layout_n(second));
	s2.ranges = s1.ranges;
	assert_memory_equal(&s1, &s2, sizeof(s1));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(our_own_functions_have_rows),
		CASE(a_return_address_finds_its_frame),
		CASE(code_of_no_file_is_a_range_without_rows),
		CASE(a_child_shares_its_parents_ranges),
		CASE(an_unchanged_process_is_not_opened_again),
		CASE(what_cannot_be_opened_is_tried_again),
		CASE(a_mapping_is_cut_at_its_segments),
		CASE(a_file_that_was_replaced_is_another_one),
		CASE(neighbours_are_one_range),
		CASE(of_too_many_the_largest_win),
		CASE(many_processes_are_forgotten_in_order),
		CASE(a_hundred_libraries_are_small_and_shared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
