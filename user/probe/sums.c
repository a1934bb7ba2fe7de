/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/sums.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* A whole number of pages, and of words of marks. */
#define WINDOW_SUMS 4096u
#define WINDOW_BYTES (WINDOW_SUMS * sizeof(struct sum))
#define WINDOW_MARKS (WINDOW_SUMS / SUM_MARK_BITS)

_Static_assert(WINDOW_BYTES % 4096 == 0 && SUMS_MAX % WINDOW_SUMS == 0, "windows");

/* The mark goes first: the kernel side sets it anew with the next sum that takes the place. Counters are given back at zero. */
static void give_back(const struct sums_table *t, uint32_t index, struct sum *shared)
{
	(void)__sync_fetch_and_and(&t->marks[index / SUM_MARK_BITS], ~(1ull << index % SUM_MARK_BITS));
	memset((char *)shared + sizeof(shared->key), 0, sizeof(*shared) - sizeof(shared->key));
	__atomic_store_n(&shared->key, 0, __ATOMIC_RELEASE);
}

static void take_one(const struct sums_table *t, uint32_t index, struct sum *shared, sum_fn take, void *ctx)
{
	struct sum sum = *shared;

	if (sum.account && !take(ctx, index, &sum)) /* 0: it is being filled */
		give_back(t, index, shared);
}

static bool window_is_empty(const uint64_t *marks)
{
	uint64_t any = 0;

	for (uint32_t i = 0; i < WINDOW_MARKS; i++)
		any |= __atomic_load_n(&marks[i], __ATOMIC_ACQUIRE);
	return !any;
}

static int take_window(const struct sums_table *t, uint32_t first, sum_fn take, void *ctx)
{
	const uint64_t *marks = &t->marks[first / SUM_MARK_BITS];

	if (window_is_empty(marks))
		return 0;
	struct sum *sums = mmap(NULL, WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd,
				(off_t)(first / WINDOW_SUMS * WINDOW_BYTES));
	if (sums == MAP_FAILED)
		return -errno;
	for (uint32_t word = 0; word < WINDOW_MARKS; word++)
		for (uint64_t left = __atomic_load_n(&marks[word], __ATOMIC_ACQUIRE); left; left &= left - 1) {
			uint32_t i = word * SUM_MARK_BITS + (uint32_t)__builtin_ctzll(left);
			take_one(t, first + i, &sums[i], take, ctx);
		}
	(void)munmap(sums, WINDOW_BYTES); /* only fails on bad arguments */
	return 0;
}

int sums_each(const struct sums_table *t, sum_fn take, void *ctx)
{
	int err = 0;

	for (uint32_t first = 0; first < SUMS_MAX && !err; first += WINDOW_SUMS)
		err = take_window(t, first, take, ctx);
	return err;
}
