/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of sums, in a file instead of the kernel: windows with many sums are mapped, which is what a file can do too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/sums.h"
#include "util/mem.h"

#define MANY 200 /* in one window, more than are read one by one */
#define BYTES ((size_t)SUMS_MAX * sizeof(struct sum))

struct fixture {
	struct sums_table t;
	struct sum *sums;
	uint32_t n_taken, last, unwanted; /* account */
	uint64_t bytes;
};

static void put(struct fixture *x, uint32_t at, uint32_t account)
{
	x->sums[at] = (struct sum){ .key = at + 1, .account = account, .alloc_bytes = 10, .alloc_count = 1 };
	x->t.marks[at / SUM_MARK_BITS] |= 1ull << at % SUM_MARK_BITS;
}

static bool is_marked(const struct fixture *x, uint32_t at)
{
	return x->t.marks[at / SUM_MARK_BITS] >> at % SUM_MARK_BITS & 1;
}

static bool take(void *ctx, uint32_t index, const struct sum *sum)
{
	struct fixture *x = ctx;

	assert_int_equal(sum->key, index + 1);
	assert_true(!x->n_taken || index > x->last);
	x->last = index;
	x->n_taken++;
	x->bytes += sum->alloc_bytes;
	return sum->account != x->unwanted;
}

static int setup(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));

	x->t = (struct sums_table){ memfd_create("sums", MFD_CLOEXEC), xcalloc(SUM_MARKS, sizeof(uint64_t)) };
	assert_int_equal(ftruncate(x->t.fd, (off_t)BYTES), 0);
	x->sums = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, x->t.fd, 0);
	assert_ptr_not_equal(x->sums, MAP_FAILED);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	(void)munmap(x->sums, BYTES);
	(void)close(x->t.fd);
	free(x->t.marks);
	free(x);
	return 0;
}

static void an_empty_table_is_not_touched(void **state)
{
	struct fixture *x = *state;
	struct sums_table nowhere = { -1, x->t.marks };

	assert_int_equal(sums_each(&nowhere, take, x), 0);
	assert_int_equal(x->n_taken, 0);
}

static void all_windows_are_read(void **state)
{
	struct fixture *x = *state;

	for (uint32_t i = 0; i < MANY; i++) {
		put(x, i * 3, 7);
		put(x, SUMS_MAX - 1 - i, 8);
	}
	assert_int_equal(sums_each(&x->t, take, x), 0);
	assert_int_equal(x->n_taken, 2 * MANY);
	assert_int_equal(x->bytes, 2 * MANY * 10);
	assert_int_equal(x->last, SUMS_MAX - 1);
}

static void one_that_is_being_filled_waits(void **state)
{
	struct fixture *x = *state;

	for (uint32_t i = 0; i < MANY; i++)
		put(x, i, i == 5 ? 0 : 7);
	assert_int_equal(sums_each(&x->t, take, x), 0);
	assert_int_equal(x->n_taken, MANY - 1);
	assert_true(is_marked(x, 5));
	x->sums[5].account = 7;
	x->n_taken = 0;
	assert_int_equal(sums_each(&x->t, take, x), 0);
	assert_int_equal(x->n_taken, MANY);
}

static void places_are_given_back_clean(void **state)
{
	static const struct sum empty;
	struct fixture *x = *state;

	for (uint32_t i = 0; i < MANY; i++)
		put(x, 5000 + i, i % 2 ? 7 : 8);
	x->unwanted = 8;
	assert_int_equal(sums_each(&x->t, take, x), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(is_marked(x, 5000 + i), i % 2);
		assert_int_equal(!memcmp(&x->sums[5000 + i], &empty, sizeof(empty)), i % 2 == 0);
	}
}

static void what_cannot_be_read_is_an_error(void **state)
{
	struct fixture *x = *state;

	put(x, 9, 7); /* read by a call that a file does not answer */
	assert_true(sums_each(&x->t, take, x) < 0);
	assert_int_equal(x->n_taken, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_empty_table_is_not_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(all_windows_are_read, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_is_being_filled_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(places_are_given_back_clean, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_read_is_an_error, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
