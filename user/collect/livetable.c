/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/livetable.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "probe/loader.h"
#include "tables.h"
#include "util/mem.h"

#define WINDOW_BUCKETS 4096u /* mapped at once: a whole number of pages */
#define WINDOW_BYTES (WINDOW_BUCKETS * sizeof(struct live_bucket))
#define PAGE 4096u

struct live_table live_table_of(const struct loader *l)
{
	return (struct live_table){ .live_fd = loader_map_fd(l, KMAP_LIVE),
				    .sums_fd = loader_map_fd(l, KMAP_SUMS),
				    .buckets = loader_map_info(l, KMAP_LIVE).capacity,
				    .n_sums = loader_map_info(l, KMAP_SUMS).capacity,
				    .filter = loader_live_filter(l) };
}

/* The programs go on changing it: a block is copied, then its key is read again. */
static bool copy_place(const struct live_table *t, const struct live_bucket *b, int way, uint32_t account,
		       struct live_entry *ret)
{
	uint64_t key = __atomic_load_n(&b->key[way], __ATOMIC_ACQUIRE);

	if (!key || key == LIVE_BUSY || live_key_account(key) != account)
		return false;
	*ret = (struct live_entry){ .key = key, .block = b->block[way], .way = (uint8_t)way };
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&b->key[way], __ATOMIC_RELAXED) == key &&
	       (ret->block.sum < t->n_sums || ret->block.sum == LIVE_GHOST_SUM);
}

int live_copy(const struct live_table *t, uint32_t account, struct live_entry **entries, size_t *n_entries, size_t *cap)
{
	for (uint32_t first = 0; first < t->buckets; first += WINDOW_BUCKETS) {
		uint32_t n = t->buckets - first < WINDOW_BUCKETS ? t->buckets - first : WINDOW_BUCKETS;
		struct live_bucket *b = mmap(NULL, n * sizeof(*b), PROT_READ, MAP_SHARED, t->live_fd,
					     (off_t)(first / WINDOW_BUCKETS * WINDOW_BYTES));
		if (b == MAP_FAILED)
			return -errno;
		for (uint32_t i = 0; i < n * LIVE_WAYS; i++) {
			struct live_entry e;
			if (!copy_place(t, &b[i / LIVE_WAYS], (int)(i % LIVE_WAYS), account, &e))
				continue;
			e.bucket = first + i / LIVE_WAYS;
			*entries = grow_to(*entries, cap, *n_entries + 1, sizeof(e));
			(*entries)[(*n_entries)++] = e;
		}
		(void)munmap(b, n * sizeof(*b)); /* only fails on bad arguments */
	}
	return 0;
}

/* One element of a table: the pages that it lies in. */
static void *view_open(int fd, uint64_t index, size_t size, struct table_view *ret)
{
	uint64_t at = index * size, from = at / PAGE * PAGE;

	ret->bytes = at + size - from;
	ret->map = mmap(NULL, ret->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)from);
	return ret->map == MAP_FAILED ? NULL : (char *)ret->map + (at - from);
}

void table_close(struct table_view *v)
{
	(void)munmap(v->map, v->bytes); /* only fails on bad arguments */
}

static struct live_bucket *bucket_open(const struct live_table *t, uint32_t number, struct table_view *ret)
{
	return view_open(t->live_fd, number, sizeof(struct live_bucket), ret);
}

struct sum *sum_open(const struct live_table *t, uint32_t number, struct table_view *v)
{
	return view_open(t->sums_fd, number, sizeof(struct sum), v);
}

void live_window_done(struct live_window *w)
{
	if (w->at)
		(void)munmap(w->at, w->n * sizeof(*w->at));
	w->at = NULL;
}

/* NULL: it can't be mapped. */
static struct live_bucket *bucket_in(const struct live_table *t, struct live_window *w, uint32_t number)
{
	uint32_t first = number / WINDOW_BUCKETS * WINDOW_BUCKETS;

	if (w->at && w->first != first)
		live_window_done(w);
	if (!w->at) {
		uint32_t n = t->buckets - first < WINDOW_BUCKETS ? t->buckets - first : WINDOW_BUCKETS;
		void *at = mmap(NULL, n * sizeof(*w->at), PROT_READ | PROT_WRITE, MAP_SHARED, t->live_fd,
				(off_t)(first / WINDOW_BUCKETS * WINDOW_BYTES));
		if (at == MAP_FAILED)
			return NULL;
		*w = (struct live_window){ at, first, n };
	}
	return &w->at[number - first];
}

bool live_take_out(const struct live_table *t, struct live_window *w, const struct live_entry *b)
{
	struct live_bucket *bucket = bucket_in(t, w, b->bucket);

	if (!bucket)
		return false;
	bool same = !memcmp(&bucket->block[b->way], &b->block, sizeof(b->block)) &&
		    __sync_bool_compare_and_swap(&bucket->key[b->way], b->key, 0);
	if (same && live_is_filtered(&b->block))
		live_filter_remove(t->filter, b->key);
	return same;
}

static bool bucket_has(const struct live_bucket *b, uint64_t key)
{
	for (int i = 0; i < LIVE_WAYS; i++)
		if (__atomic_load_n(&b->key[i], __ATOMIC_ACQUIRE) == key)
			return true;
	return false;
}

static int bucket_put(struct live_bucket *b, uint64_t key, const struct live_block *block)
{
	for (int i = 0; i < LIVE_WAYS; i++) {
		if (b->key[i] || !__sync_bool_compare_and_swap(&b->key[i], 0, LIVE_BUSY))
			continue;
		b->block[i] = *block;
		__atomic_store_n(&b->key[i], key, __ATOMIC_RELEASE);
		return i;
	}
	return -1;
}

#define PUT_AND_GONE (-2)

/* The programs may enter a block at the same address at the same time: then ours goes again. */
static int put_between(const struct live_entry *b, struct live_bucket *first, struct live_bucket *second, bool are_one)
{
	if (bucket_has(first, b->key) || bucket_has(second, b->key))
		return -1;
	int way = bucket_put(first, b->key, &b->block);
	if (way >= 0 && !are_one && bucket_has(second, b->key)) {
		/* Gone: as good, and the programs have told the filter. */
		return __sync_bool_compare_and_swap(&first->key[way], b->key, 0) ? -1 : PUT_AND_GONE;
	}
	return way;
}

static int put(const struct live_table *t, struct live_entry *b)
{
	struct table_view first, second;
	int way = -1;

	b->bucket = live_place(b->key, 0, t->buckets);
	struct live_bucket *one = bucket_open(t, b->bucket, &first);
	if (!one)
		return -1;
	uint32_t place = live_place(b->key, 1, t->buckets);
	struct live_bucket *other = bucket_open(t, place, &second);
	if (other) {
		way = put_between(b, one, other, place == b->bucket);
		table_close(&second);
	}
	table_close(&first);
	return way;
}

bool live_put_in(const struct live_table *t, struct live_entry *b)
{
	bool is_filtered = live_is_filtered(&b->block);

	if (is_filtered && !live_filter_add(t->filter, b->key))
		return false;
	int way = put(t, b);
	if (is_filtered && way < 0 && way != PUT_AND_GONE)
		live_filter_remove(t->filter, b->key);
	b->way = (uint8_t)way;
	return way >= 0;
}
