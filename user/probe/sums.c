/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/sums.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* A whole number of pages, and of words of marks. */
#define WINDOW_SUMS 4096u
#define WINDOW_BYTES (WINDOW_SUMS * sizeof(struct sum))
#define WINDOW_MARKS (WINDOW_SUMS / SUM_MARK_BITS)

_Static_assert(WINDOW_BYTES % 4096 == 0 && SUMS_MAX % WINDOW_SUMS == 0, "windows");

/* As many sums as a window takes that are read one by one, by a call each: mapping its 120 pages costs as much as 90 calls. */
#define FEW_SUMS 48

/* Pages of the table from a multiple of WINDOW_SUMS on. NULL: not now, errno says why. */
static struct sum *window_map(const struct sums_table *t, uint32_t first)
{
	void *at = mmap(NULL, WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd,
			(off_t)(first / WINDOW_SUMS * WINDOW_BYTES));

	return at == MAP_FAILED ? NULL : at;
}

static void window_unmap(struct sum *sums)
{
	(void)munmap(sums, WINDOW_BYTES); /* only fails on bad arguments */
}

/* The mark goes first: the kernel side sets it anew with the next sum that takes the place. Counters are given back at zero. */
static void give_back(const struct sums_table *t, uint32_t index, struct sum *shared)
{
	(void)__sync_fetch_and_and(&t->marks[index / SUM_MARK_BITS], ~(1ull << index % SUM_MARK_BITS));
	memset((char *)shared + sizeof(shared->key), 0, sizeof(*shared) - sizeof(shared->key));
	__atomic_store_n(&shared->key, 0, __ATOMIC_RELEASE);
}

/* mapped: its window, NULL: it is not. 1, 0 (to be given back) or -errno. */
static int take_one(const struct sums_table *t, uint32_t index, struct sum *mapped, sum_fn take, void *ctx)
{
	struct sum sum;

	if (mapped)
		sum = mapped[index % WINDOW_SUMS];
	else if (bpf_map_lookup_elem(t->fd, &index, &sum))
		return -errno;
	return !sum.account || take(ctx, index, &sum); /* 0: it is being filled */
}

static uint32_t window_count(const uint64_t *marks)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < WINDOW_MARKS; i++)
		n += (uint32_t)__builtin_popcountll(__atomic_load_n(&marks[i], __ATOMIC_ACQUIRE));
	return n;
}

static int take_window(const struct sums_table *t, uint32_t first, sum_fn take, void *ctx)
{
	const uint64_t *marks = &t->marks[first / SUM_MARK_BITS];
	uint32_t n = window_count(marks);
	struct sum *sums = n > FEW_SUMS ? window_map(t, first) : NULL;
	int err = n > FEW_SUMS && !sums ? -errno : 0;

	for (uint32_t word = 0; word < WINDOW_MARKS && n && !err; word++)
		for (uint64_t left = __atomic_load_n(&marks[word], __ATOMIC_ACQUIRE); left && !err; left &= left - 1) {
			uint32_t i = word * SUM_MARK_BITS + (uint32_t)__builtin_ctzll(left);
			int kept = take_one(t, first + i, sums, take, ctx);
			if (!kept && !sums)
				sums = window_map(t, first);
			err = kept < 0 ? kept : !kept && !sums ? -errno : 0;
			if (!kept && sums)
				give_back(t, first + i, &sums[i]);
		}
	if (sums)
		window_unmap(sums);
	return err;
}

int sums_each(const struct sums_table *t, sum_fn take, void *ctx)
{
	int err = 0;

	for (uint32_t first = 0; first < SUMS_MAX && !err; first += WINDOW_SUMS)
		err = take_window(t, first, take, ctx);
	return err;
}
