/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User space's hands in the kernel's tables `live` and `sums` (include/abi.h), which the programs go on changing: entries are taken and put by
 * compare-and-swap of their key, as the programs do. Mapped in pieces and for a moment: mapped whole, all of it would count as our resident memory.
 */
#ifndef TIDEMARK_COLLECT_LIVETABLE_H
#define TIDEMARK_COLLECT_LIVETABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

struct live_table {
	int live_fd, sums_fd; /* borrowed */
	uint32_t buckets, n_sums;
	__u64 *filter; /* borrowed; LIVE_FILTER_WORDS of them */
};

struct loader;
struct live_table live_table_of(const struct loader *l);

/* A place in `live`, as copied. */
struct live_entry {
	uint64_t key;
	struct live_block block;
	uint32_t bucket;
	uint8_t way;
	bool gone; /* the caller's: not there any more */
};

/* Copies the blocks of one account into an array that grows. 0 or -errno. */
int live_copy(const struct live_table *t, uint32_t account, struct live_entry **entries, size_t *n, size_t *cap);

/* The part of `live` that was used last: for who goes through it in the order of buckets. All zero: none. */
struct live_window {
	struct live_bucket *at;
	uint32_t first, n;
};
void live_window_done(struct live_window *w);

/* Takes a block out, as it was copied: no other that came to its place since. false: it is not there any more. */
bool live_take_out(const struct live_table *t, struct live_window *w, const struct live_entry *e);

/* Enters a block under its key, fills in its place. false: there is a block with this key already, or no room. */
bool live_put_in(const struct live_table *t, struct live_entry *e);

/* One sum, in place. NULL: it can't be mapped. The view is to be closed if it is not. */
struct table_view {
	void *map;
	size_t bytes;
};
struct sum *sum_open(const struct live_table *t, uint32_t number, struct table_view *v);
void table_close(struct table_view *v);

static inline bool live_key_is_python(uint64_t key)
{
	return key >> ACCOUNT_BITS & 1;
}

static inline uint64_t live_key_addr(uint64_t key)
{
	return key >> (ACCOUNT_BITS + 1) << 3;
}

#endif
