/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading of BPF rings, over a file laid out as the kernel shows one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/bpf.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collect/ring.h"
#include "util/mem.h"

#define PAGE 4096u
#define DATA (4 * PAGE)
#define TAKEN_MAX 1024

struct fixture {
	int fd;
	char *file; /* consumer, producer, data, data again */
	uint64_t produced;
	struct ring_reader *r;
	char taken[TAKEN_MAX];
	size_t n_taken, bytes_taken;
	bool adds_one; /* at each record another one comes */
};

static uint64_t *consumer(const struct fixture *x)
{
	return (uint64_t *)x->file;
}

static uint32_t *header_at(const struct fixture *x, uint64_t at, bool again)
{
	return (uint32_t *)(x->file + 2 * PAGE + (again ? DATA : 0) + at % DATA);
}

/* As the kernel does it, in both copies of the data; filled with one letter. */
static uint64_t put(struct fixture *x, uint32_t bytes, uint32_t bits, char letter)
{
	uint64_t at = x->produced, total = (bytes + 8 + 7) & ~7ull;

	for (uint64_t i = 0; i < total; i++)
		for (int again = 0; again < 2; again++)
			*(x->file + 2 * PAGE + (again ? DATA : 0) + (at + i) % DATA) = letter;
	for (int again = 0; again < 2; again++)
		*header_at(x, at, again) = bytes | bits;
	x->produced += total;
	__atomic_store_n((uint64_t *)(x->file + PAGE), x->produced, __ATOMIC_RELEASE);
	return at;
}

static void clear_bits(struct fixture *x, uint64_t at, uint32_t bits)
{
	for (int again = 0; again < 2; again++)
		*header_at(x, at, again) &= ~bits;
}

static void take(void *ctx, const void *data, size_t bytes)
{
	struct fixture *x = ctx;
	const char *text = data;

	for (size_t i = 1; i < bytes; i++)
		assert_int_equal(text[i], text[0]);
	assert_in_range(x->n_taken, 0, TAKEN_MAX - 2);
	x->taken[x->n_taken++] = text[0];
	x->bytes_taken += bytes;
	if (x->adds_one)
		put(x, 24, 0, '+');
}

static int setup(void **state)
{
	struct fixture *x = xcalloc(1, sizeof(*x));

	x->fd = memfd_create("ring", MFD_CLOEXEC);
	assert_int_equal(ftruncate(x->fd, 2 * PAGE + 2 * DATA), 0);
	x->file = mmap(NULL, 2 * PAGE + 2 * DATA, PROT_READ | PROT_WRITE, MAP_SHARED, x->fd, 0);
	assert_ptr_not_equal(x->file, MAP_FAILED);
	assert_int_equal(ring_reader_open(x->fd, DATA, take, x, &x->r), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	ring_reader_close(x->r);
	(void)munmap(x->file, 2 * PAGE + 2 * DATA);
	(void)close(x->fd);
	free(x);
	return 0;
}

static void records_come_in_order(void **state)
{
	struct fixture *x = *state;

	ring_reader_consume(x->r); /* empty */
	put(x, 1, 0, 'a');
	put(x, 100, 0, 'b');
	put(x, 16, BPF_RINGBUF_DISCARD_BIT, 'c');
	put(x, 8, 0, 'd');
	ring_reader_consume(x->r);
	assert_string_equal(x->taken, "abd");
	assert_int_equal(x->bytes_taken, 109);
	assert_int_equal(*consumer(x), x->produced);
}

static void what_is_being_written_holds_up_the_rest(void **state)
{
	struct fixture *x = *state;

	put(x, 40, 0, 'a');
	uint64_t at = put(x, 40, BPF_RINGBUF_BUSY_BIT, 'b');
	put(x, 40, 0, 'c');
	ring_reader_consume(x->r);
	assert_string_equal(x->taken, "a");
	assert_int_equal(*consumer(x), at);
	clear_bits(x, at, BPF_RINGBUF_BUSY_BIT);
	ring_reader_consume(x->r);
	assert_string_equal(x->taken, "abc");
}

/* A target that is faster than the reader does not keep it. */
static void what_comes_meanwhile_is_read_the_next_time(void **state)
{
	struct fixture *x = *state;

	x->adds_one = true;
	put(x, 40, 0, 'a');
	ring_reader_consume(x->r);
	assert_string_equal(x->taken, "a");
	ring_reader_consume(x->r);
	assert_string_equal(x->taken, "a+");
	ring_reader_consume(x->r);
	assert_string_equal(x->taken, "a++");
}

/* Records of all lengths over all places, also across the end, with a full ring now and then. */
static void records_cross_the_end(void **state)
{
	struct fixture *x = *state;
	size_t bytes = 0;

	for (uint32_t round = 0; round < 300; round++) {
		x->n_taken = x->bytes_taken = bytes = 0;
		for (uint32_t n = 0; n <= round % 3; n++) {
			uint32_t length = (round * 37 + n * 1999) % 5000 + 1;
			put(x, length, 0, (char)('a' + n));
			bytes += length;
		}
		ring_reader_consume(x->r);
		x->taken[x->n_taken] = 0;
		assert_int_equal(x->n_taken, round % 3 + 1);
		assert_int_equal(x->bytes_taken, bytes);
		assert_memory_equal(x->taken, "abc", x->n_taken);
		assert_int_equal(*consumer(x), x->produced);
	}
	put(x, DATA - 8, 0, 'f');
	ring_reader_consume(x->r);
	assert_int_equal(x->taken[x->n_taken - 1], 'f');
}

static void what_is_no_ring_is_refused(void **state)
{
	struct ring_reader *r = NULL;

	(void)state;
	assert_true(ring_reader_open(-1, DATA, take, NULL, &r) < 0);
	assert_null(r);
	ring_reader_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(records_come_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_being_written_holds_up_the_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(what_comes_meanwhile_is_read_the_next_time, setup, teardown),
		cmocka_unit_test_setup_teardown(records_cross_the_end, setup, teardown),
		cmocka_unit_test(what_is_no_ring_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
