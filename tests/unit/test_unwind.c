/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unwind tables. Known truth: the rows that probe/cfi.h makes of the machine's own libraries, found again by the kernel
 * side's search, and files built here, of a size that fills each table.
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
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "probe/cfi.h"
#include "probe/unwind.h"
#include "unwind_fixture.h"
#include "util/fs.h"
#include "util/mem.h"

#define LIBS "/usr/lib/x86_64-linux-gnu/"
#define RANDOM_ADDRESSES 5000
#define FILE_MAX_BYTES (64u << 20)

struct fixture {
	struct tables t;
	struct unwind_tables *u;
};

static int setup(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));

	tables_init(&x->t);
	x->u = unwind_new(&x->t.area);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	unwind_free(x->u);
	assert_int_equal(x->t.n_open, 0); /* each was given back */
	tables_done(&x->t);
	free(x);
	return 0;
}

/* Of the file behind the descriptor; `salt` makes another one of it. */
static struct unwind_key key_of(int fd, uint64_t salt)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (struct unwind_key){ st.st_dev, st.st_ino, (uint64_t)st.st_size, salt };
}

static const struct unwind_file *take(struct fixture *x, int fd, uint64_t salt)
{
	struct unwind_key key = key_of(fd, salt);

	return unwind_take_file(x->u, fd, &key);
}

static const struct unwind_file *take_fake(struct fixture *x, const struct fake_elf *f)
{
	int fd = fake_elf_open(f, NULL);

	assert_true(fd >= 0);
	const struct unwind_file *file = take(x, fd, 0);
	close(fd);
	return file;
}

/* A descriptor with these contents. */
static int file_with(const void *data, size_t n)
{
	int fd = memfd_create("copy", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, n, 0), (ssize_t)n);
	return fd;
}

static char *read_libc(size_t *ret_n)
{
	char *data;

	assert_int_equal(fs_read_all(LIBS "libc.so.6", FILE_MAX_BYTES, &data, ret_n), 0);
	return data;
}

/* ---- every address finds what the file says ---- */

static bool is_code(const struct unwind_file *f, uint64_t vaddr)
{
	for (size_t i = 0; i < f->n_segments; i++)
		if (vaddr >= f->segments[i].vaddr && vaddr - f->segments[i].vaddr < f->segments[i].bytes)
			return true;
	return false;
}

static void check_address(const struct fixture *x, const struct unwind_file *f, const struct cfi *c, uint64_t vaddr)
{
	if (!is_code(f, vaddr))
		return;
	const struct cfi_row *row = cfi_find(c, vaddr);
	const struct unwind_rule *want = &c->rules[row ? row->rule : UNWIND_RULE_NONE];
	const struct unwind_rule *got = tables_rule(&x->t, f->page, vaddr);
	assert_non_null(got);
	if (!rules_agree(got, want))
		fail_msg("%#llx: kind %u, not %u", (unsigned long long)vaddr, got->kind, want->kind);
}

static void check_file(const struct fixture *x, const struct unwind_file *f, const struct cfi *c)
{
	uint64_t seed = 88172645463325252ull;

	for (size_t i = 0; i < c->n_rows; i++)
		for (int off = -1; off <= 1; off++)
			check_address(x, f, c, c->rows[i].vaddr + (uint64_t)off);
	for (size_t i = 0; i < f->n_segments; i++) {
		check_address(x, f, c, f->segments[i].vaddr);
		check_address(x, f, c, f->segments[i].vaddr + f->segments[i].bytes - 1);
		for (int k = 0; k < RANDOM_ADDRESSES; k++) {
			seed ^= seed << 13; /* Marsaglia's xorshift64 */
			seed ^= seed >> 7;
			seed ^= seed << 17;
			check_address(x, f, c, f->segments[i].vaddr + seed % f->segments[i].bytes);
		}
	}
}

static void real_files_find_every_rule(void **state)
{
	static const char *const paths[] = { "/proc/self/exe",
					     LIBS "libc.so.6",
					     "/lib64/ld-linux-x86-64.so.2",
					     LIBS "libstdc++.so.6",
					     LIBS "libpython3.11.so.1.0",
					     LIBS "libcrypto.so.3",
					     LIBS "libm.so.6",
					     "/usr/bin/python3" };
	struct fixture *x = *state;
	struct cfi c[ARRAY_SIZE(paths)] = { 0 };
	const struct unwind_file *f[ARRAY_SIZE(paths)] = { 0 };
	size_t n_checked = 0;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_(closep) int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		assert_int_equal(cfi_build(fd, &c[i]), 0);
		f[i] = take(x, fd, 0);
		assert_true(f[i]->page != RANGE_NO_ROWS && f[i]->n_rows > 100);
		n_checked++;
	}
	assert_true(n_checked >= 3);
	/* All of them in the tables: none has overwritten another. */
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		if (!f[i])
			continue;
		check_file(x, f[i], &c[i]);
		cfi_done(&c[i]);
	}
	assert_int_equal(unwind_stats(x->u).files, n_checked);
	assert_int_equal(unwind_stats(x->u).rows_refused, 0);
}

/* 4.5 bytes per row, pages and rules included, of the three libraries that every Python process has. */
static void overhead_is_small(void **state)
{
	static const char *const paths[] = { LIBS "libc.so.6", LIBS "libpython3.11.so.1.0", LIBS "libstdc++.so.6" };
	struct fixture *x = *state;
	struct timespec t0, t1;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_(closep) int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			(void)take(x, fd, 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	struct unwind_stats s = unwind_stats(x->u);
	double ms = (double)(t1.tv_sec - t0.tv_sec) * 1e3 + (double)(t1.tv_nsec - t0.tv_nsec) / 1e6;
	size_t bytes = s.rows * sizeof(uint32_t) + s.pages * sizeof(struct unwind_page) +
		       s.rules * sizeof(struct unwind_rule);
	print_message("%zu files: %zu rows, %zu pages, %zu rules, %.3f bytes per row, loaded in %.1f ms\n", s.files,
		      s.rows, s.pages, s.rules, (double)bytes / (double)s.rows, ms);
	assert_true(s.files >= 1);
	assert_true((double)bytes <= 4.5 * (double)s.rows);
	/* Blocks are filled up, but for the last one and a page's rows at the ends of the others. */
	assert_true(s.blocks <= s.rows / (BLOCK_ROWS - BLOCK_ROWS / 8) + 1);
	assert_in_range(x->t.most_open, 1, 5); /* what is mapped counts as our own memory */
}

static void the_vdso_has_rows(void **state)
{
	struct fixture *x = *state;
	const struct unwind_file *f = unwind_take_vdso(x->u);

	assert_true(f->page != RANGE_NO_ROWS && f->n_segments == 1);
	assert_ptr_equal(unwind_take_vdso(x->u), f);
	assert_int_equal(unwind_stats(x->u).files, 1);
}

/* ---- known files ---- */

static void a_known_key_costs_no_read(void **state)
{
	struct fixture *x = *state;
	_cleanup_(closep) int fd = open(LIBS "libc.so.6", O_RDONLY | O_CLOEXEC);
	_cleanup_(closep) int empty = memfd_create("empty", MFD_CLOEXEC);
	struct unwind_key key = key_of(fd, 7), other = key_of(fd, 8);

	assert_null(unwind_take_file(x->u, -1, &key));
	const struct unwind_file *f = unwind_take_file(x->u, fd, &key);
	assert_true(f->page != RANGE_NO_ROWS);
	assert_ptr_equal(unwind_take_file(x->u, empty, &key), f);
	assert_ptr_equal(unwind_take_file(x->u, -1, &key), f);
	assert_null(unwind_take_file(x->u, -1, &other));
}

static void copies_share_rows(void **state)
{
	struct fixture *x = *state;
	size_t n;
	_cleanup_(freep) char *data = read_libc(&n);
	_cleanup_(closep) int one = file_with(data, n);
	_cleanup_(closep) int two = file_with(data, n);
	const struct unwind_file *f = take(x, one, 1);
	struct unwind_stats before = unwind_stats(x->u);

	assert_ptr_equal(take(x, two, 2), f);
	struct unwind_stats after = unwind_stats(x->u);
	assert_memory_equal(&before, &after, sizeof(before));
}

/* A build id that was copied to a file with other frames does not give it the first one's rows. */
static void a_build_id_is_not_believed(void **state)
{
	struct fixture *x = *state;
	struct fake_elf a = { .segments = { { 0x1000, 0x1000 } },
			      .n_segments = 1,
			      .functions = { { 0x1000, 4, 4, 8, 4 } },
			      .n_functions = 1,
			      .build_id = 0xab };
	struct fake_elf b = a;

	b.functions[0].first_cfa = 16;
	const struct unwind_file *fa = take_fake(x, &a), *fb = take_fake(x, &b);
	assert_ptr_not_equal(fa, fb);
	assert_int_equal(tables_rule(&x->t, fa->page, 0x1000)->cfa_off, 8);
	assert_int_equal(tables_rule(&x->t, fb->page, 0x1000)->cfa_off, 16);
	assert_ptr_equal(take_fake(x, &a), fa);
	/* Without one each key is a file of its own. */
	a.build_id = 0;
	fa = take_fake(x, &a);
	assert_ptr_not_equal(take_fake(x, &a), fa);
}

static void what_is_no_elf_file_has_no_rows(void **state)
{
	struct fixture *x = *state;
	size_t n;
	_cleanup_(freep) char *data = read_libc(&n);
	_cleanup_(closep) int text = file_with("hello", 5);
	_cleanup_(closep) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_int_equal(take(x, text, 0)->page, RANGE_NO_ROWS);
	assert_int_equal(take(x, null, 0)->page, RANGE_NO_ROWS);
	/* Cut anywhere, it is a file with fewer rows or none. */
	for (size_t cut = 0; cut < n; cut = cut * 2 + 1) {
		_cleanup_(closep) int fd = file_with(data, cut);
		assert_non_null(take(x, fd, cut));
	}
	/* A header of which each field in turn is as large as it can be. */
	for (size_t at = EI_NIDENT; at + 8 <= sizeof(Elf64_Ehdr) + 4 * sizeof(Elf64_Phdr); at += 8) {
		char saved[8];
		memcpy(saved, data + at, sizeof(saved));
		memset(data + at, 0xff, sizeof(saved));
		_cleanup_(closep) int fd = file_with(data, n);
		assert_non_null(take(x, fd, n + at));
		memcpy(data + at, saved, sizeof(saved));
	}
}

/* ---- tables that are full ---- */

/* Two rules in turn, a row for each byte: more rows than a block has in the first page, some in the second one. */
static void a_page_with_too_many_rows_is_left_out(void **state)
{
	struct fixture *x = *state;
	struct fake_elf f = { .segments = { { 0x10000, 0x20000 } },
			      .n_segments = 1,
			      .functions = { { 0x10000, BLOCK_ROWS + 10, 1, 8, 2 }, { 0x20000, 4, 4, 8, 4 } },
			      .n_functions = 2 };
	const struct unwind_file *file = take_fake(x, &f);

	assert_int_equal(file->n_rows, 5);
	assert_int_equal(unwind_stats(x->u).rows_refused, BLOCK_ROWS + 11); /* the row that ends the function too */
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000)->kind, UNWIND_NONE);
	assert_int_equal(tables_rule(&x->t, file->page, 0x20005)->cfa_off, 16);
	/* As many as a block has: the page's first row is the function's. */
	f.functions[0].rows = BLOCK_ROWS - 1;
	file = take_fake(x, &f);
	assert_int_equal(file->n_rows, BLOCK_ROWS + 5);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000 + BLOCK_ROWS - 2)->cfa_off, 8);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000 + BLOCK_ROWS - 1)->kind, UNWIND_NONE);
}

/* Two files with more rules than there is room for; two numbers are reserved. */
static void full_rules_say_other(void **state)
{
	enum { EACH = 10000, LEFT = UNWIND_RULES - 2 - EACH };
	struct fixture *x = *state;
	struct fake_elf f = { .segments = { { 0x10000, 0x20000 } },
			      .n_segments = 1,
			      .functions = { { 0x10000, EACH, 4, 8, EACH } },
			      .n_functions = 1 };

	(void)take_fake(x, &f);
	assert_int_equal(unwind_stats(x->u).rules, EACH + 2);
	f.functions[0].first_cfa = 8 + 8 * EACH;
	const struct unwind_file *file = take_fake(x, &f);
	assert_int_equal(unwind_stats(x->u).rules, UNWIND_RULES);
	assert_int_equal(unwind_stats(x->u).rows_refused, EACH - LEFT);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000 + 4 * (LEFT - 1))->kind, UNWIND_SP);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000 + 4 * LEFT)->kind, UNWIND_OTHER);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000 + 4 * EACH - 1)->kind, UNWIND_OTHER);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000 + 4 * EACH)->kind, UNWIND_NONE);
	/* Rules that are known still serve. */
	f.functions[0].rows = LEFT;
	file = take_fake(x, &f);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10000 + 4 * 99)->cfa_off, 8 + 8 * (EACH + 99));
	assert_int_equal(unwind_stats(x->u).rows_refused, EACH - LEFT);
}

/* The second page is one row too large for what the first one has left of the only block. */
static void full_blocks_leave_pages_out(void **state)
{
	enum { SECOND = BLOCK_ROWS - 20001 };
	struct fixture *x = *state;
	struct fake_elf f = {
		.segments = { { 0, 0x30000 } },
		.n_segments = 1,
		.functions = { { 0, 20000, 1, 8, 2 }, { 0x10000, SECOND, 1, 8, 2 }, { 0x20000, 50, 1, 8, 2 } },
		.n_functions = 3
	};

	x->t.max_blocks = 1;
	const struct unwind_file *file = take_fake(x, &f);
	assert_int_equal(unwind_stats(x->u).blocks, 1);
	assert_int_equal(unwind_stats(x->u).rows_refused, SECOND + 1);
	assert_int_equal(file->n_rows, 20001 + 51);
	assert_int_equal(tables_rule(&x->t, file->page, 0x13)->kind, UNWIND_SP);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10013)->kind, UNWIND_NONE);
	assert_int_equal(tables_rule(&x->t, file->page, 0x20013)->kind, UNWIND_SP);
	/* Memory is back: the next file has a block again. */
	x->t.max_blocks = ROW_BLOCKS;
	file = take_fake(x, &f);
	assert_int_equal(tables_rule(&x->t, file->page, 0x10013)->kind, UNWIND_SP);
	assert_int_equal(unwind_stats(x->u).blocks, 3);
}

static void full_pages_leave_files_out(void **state)
{
	struct fixture *x = *state;
	struct fake_elf f = { .segments = { { 0x1000, 0x1000 }, { (UNWIND_PAGES - 1ull) << ROW_PAGE_SHIFT, 0x1000 } },
			      .n_segments = 2,
			      .functions = { { 0x1000, 4, 4, 8, 4 } },
			      .n_functions = 1 };
	struct fake_elf small = f;

	small.n_segments = 1;
	f.segments[1].vaddr += 1ull << ROW_PAGE_SHIFT; /* one page too many */
	assert_int_equal(take_fake(x, &f)->page, RANGE_NO_ROWS);
	assert_int_equal(unwind_stats(x->u).rows_refused, 5);
	f.segments[1].vaddr -= 1ull << ROW_PAGE_SHIFT;
	const struct unwind_file *file = take_fake(x, &f);
	assert_int_equal(tables_rule(&x->t, file->page, 0x1004)->cfa_off, 16);
	assert_int_equal(tables_rule(&x->t, file->page, f.segments[1].vaddr)->kind, UNWIND_NONE);
	assert_int_equal(unwind_stats(x->u).pages, UNWIND_PAGES);
	assert_int_equal(take_fake(x, &small)->page, RANGE_NO_ROWS);
	assert_int_equal(unwind_stats(x->u).rows_refused, 10);
	assert_int_equal(unwind_stats(x->u).files, 1);
}

/* The page of linked address 0 would be number -1, which means "no rows". */
static void no_file_gets_the_number_of_no_rows(void **state)
{
	struct fixture *x = *state;
	struct fake_elf f = { .segments = { { 0x10000, 0x1000 } },
			      .n_segments = 1,
			      .functions = { { 0x10000, 4, 4, 8, 4 } },
			      .n_functions = 1 };
	const struct unwind_file *file = take_fake(x, &f);

	assert_true(file->page != RANGE_NO_ROWS);
	assert_int_equal(tables_rule(&x->t, file->page, 0x1000c)->cfa_off, 32);
}

/* ---- ranges ---- */

/* n ranges that no other tag has. */
static uint64_t put_list(struct fixture *x, uint64_t tag, size_t n)
{
	struct unwind_range *list = xcalloc(n, sizeof(*list));

	for (size_t i = 0; i < n; i++)
		list[i] = (struct unwind_range){ .start = i << 12, .end = (i + 1) << 12, .bias = tag };
	uint64_t layout = unwind_put_ranges(x->u, list, n);
	free(list);
	return layout;
}

static void settle_twice(struct fixture *x)
{
	unwind_settle(x->u);
	unwind_settle(x->u);
}

static void equal_lists_share_a_place(void **state)
{
	struct fixture *x = *state;
	uint64_t a = put_list(x, 1, 10), b = put_list(x, 2, 10);

	assert_int_not_equal(a, 0); /* even at index 0 */
	assert_int_equal(layout_n(a), 10);
	assert_int_not_equal(a, b);
	assert_int_equal(put_list(x, 1, 10), a);
	assert_int_not_equal(put_list(x, 1, 9), a);
	assert_int_equal(unwind_stats(x->u).ranges, 29);
	assert_int_equal(x->t.area.ranges[layout_first(b) + 3].bias, 2);
	assert_int_equal(put_list(x, 1, 0), 0);
	assert_int_equal(put_list(x, 1, PROCESS_RANGES_MAX + 1), 0);
}

static void a_place_lives_as_long_as_its_references(void **state)
{
	struct fixture *x = *state;
	uint64_t a = put_list(x, 1, 10);

	assert_int_equal(put_list(x, 1, 10), a);
	unwind_hold_ranges(x->u, a);
	for (int i = 0; i < 2; i++) {
		unwind_drop_ranges(x->u, a);
		settle_twice(x);
		assert_int_equal(unwind_stats(x->u).ranges, 10);
	}
	unwind_drop_ranges(x->u, a);
	settle_twice(x);
	assert_int_equal(unwind_stats(x->u).ranges, 0);
	/* Words that are none, and one drop too many. */
	unwind_drop_ranges(x->u, a);
	unwind_drop_ranges(x->u, 0);
	unwind_hold_ranges(x->u, 0);
	assert_int_equal(put_list(x, 3, 10), a);
}

static void a_place_is_used_again_after_two_settles(void **state)
{
	struct fixture *x = *state;
	uint64_t a = put_list(x, 1, 10);

	unwind_drop_ranges(x->u, a);
	assert_int_not_equal(layout_first(put_list(x, 2, 10)), layout_first(a));
	unwind_settle(x->u);
	assert_int_not_equal(layout_first(put_list(x, 3, 10)), layout_first(a));
	/* A program that still has the word finds the ranges unchanged. */
	assert_int_equal(x->t.area.ranges[layout_first(a) + 9].bias, 1);
	/* Taken up again: the delay starts anew with the next drop. */
	assert_int_equal(put_list(x, 1, 10), a);
	settle_twice(x);
	assert_int_equal(x->t.area.ranges[layout_first(a) + 9].bias, 1);
	unwind_drop_ranges(x->u, a);
	unwind_settle(x->u);
	assert_int_not_equal(layout_first(put_list(x, 4, 10)), layout_first(a));
	unwind_settle(x->u);
	assert_int_equal(layout_first(put_list(x, 5, 10)), layout_first(a));
}

static void full_ranges_refuse_and_recover(void **state)
{
	enum { SMALL = PROCESS_RANGES_MAX / 11, N = UNWIND_RANGES / SMALL, LEFT = UNWIND_RANGES - N * SMALL };
	struct fixture *x = *state;
	uint64_t words[N + 1];
	size_t n = 0;

	while ((words[n] = put_list(x, n, SMALL)))
		n++;
	assert_int_equal(n, N);
	/* What is left still serves a smaller one. */
	assert_int_not_equal(put_list(x, 1000, LEFT), 0);
	assert_int_equal(put_list(x, 1001, 1), 0);
	assert_int_equal(unwind_stats(x->u).ranges, UNWIND_RANGES);
	/* Every second one, then the others: the holes join, and the largest lists fit from the first place on. */
	for (size_t i = 0; i < n; i += 2)
		unwind_drop_ranges(x->u, words[i]);
	settle_twice(x);
	assert_int_equal(put_list(x, 1002, SMALL + 1), 0);
	for (size_t i = 1; i < n; i += 2)
		unwind_drop_ranges(x->u, words[i]);
	settle_twice(x);
	assert_int_equal(unwind_stats(x->u).ranges, LEFT);
	for (uint32_t i = 0; i < N * SMALL / PROCESS_RANGES_MAX; i++)
		assert_int_equal(layout_first(put_list(x, 2000 + i, PROCESS_RANGES_MAX)), i * PROCESS_RANGES_MAX);
}

/* Lists of many sizes come and go: no two ever share a place, and nothing is lost. */
static void a_long_run_keeps_places_apart(void **state)
{
	enum { HELD = 64, TURNS = 4000 };
	struct fixture *x = *state;
	uint64_t words[HELD] = { 0 }, tags[HELD] = { 0 };
	uint32_t seed = 1;

	for (uint32_t turn = 1; turn <= TURNS; turn++) {
		seed = seed * 1664525 + 1013904223; /* Numerical Recipes' */
		size_t i = (seed >> 8) % HELD, n = 1 + (seed >> 16) % 300;
		if (words[i])
			unwind_drop_ranges(x->u, words[i]);
		tags[i] = turn;
		words[i] = put_list(x, turn, n);
		assert_int_not_equal(words[i], 0);
		if (turn % 8 == 0)
			unwind_settle(x->u);
	}
	for (size_t i = 0; i < HELD; i++)
		for (uint32_t k = 0; k < layout_n(words[i]); k++)
			assert_int_equal(x->t.area.ranges[layout_first(words[i]) + k].bias, tags[i]);
	for (size_t i = 0; i < HELD; i++)
		if (words[i])
			unwind_drop_ranges(x->u, words[i]);
	settle_twice(x);
	assert_int_equal(unwind_stats(x->u).ranges, 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(real_files_find_every_rule),
		CASE(overhead_is_small),
		CASE(the_vdso_has_rows),
		CASE(a_known_key_costs_no_read),
		CASE(copies_share_rows),
		CASE(a_build_id_is_not_believed),
		CASE(what_is_no_elf_file_has_no_rows),
		CASE(a_page_with_too_many_rows_is_left_out),
		CASE(full_rules_say_other),
		CASE(full_blocks_leave_pages_out),
		CASE(full_pages_leave_files_out),
		CASE(no_file_gets_the_number_of_no_rows),
		CASE(equal_lists_share_a_place),
		CASE(a_place_lives_as_long_as_its_references),
		CASE(a_place_is_used_again_after_two_settles),
		CASE(full_ranges_refuse_and_recover),
		CASE(a_long_run_keeps_places_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
