/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel side's own tables: keys and places. They are plain arrays that both sides index, because a helper call per
 * look-up would be most of a probe's cost; an array's element is reached inline. What is shared is only arithmetic: who searches
 * does so with its own access to the array.
 */
#ifndef TIDEMARK_TABLES_H
#define TIDEMARK_TABLES_H

#include "abi.h"

/* 2^64 / golden ratio: a multiplication by it spreads every input bit upwards. */
#define TABLE_SPREAD 0x9e3779b97f4a7c15ull

static inline __u64 table_mix(__u64 h, __u64 v)
{
	h = (h ^ v) * TABLE_SPREAD;
	return h ^ (h >> 29);
}

static inline __u32 proc_place(__u32 tgid, __u32 probe)
{
	/* Spread: processes that were started in a row, twice, would fill the places of one another for as long as the rows are. */
	return ((tgid * 0x9e3779b1u >> (32 - PROC_SLOT_BITS)) + probe) & (PROC_SLOTS - 1);
}

/* Never 0, which means "none". */
static inline __u32 account_make(__u32 slot, __u32 used)
{
	return slot | (used % ACCOUNT_TURNS + 1) << PROC_SLOT_BITS;
}

/* Would the next turn's number still be in use? */
static inline int account_worn(const struct proc *p)
{
	return p->used - p->swept >= ACCOUNT_TURNS - 1;
}

static inline __u32 account_slot(__u32 account)
{
	return account & (PROC_SLOTS - 1);
}

/*
 * A live block's key, exact: user addresses have 47 bits and no allocator gives two blocks within 8 bytes, so address, layer and
 * account fill 64 bits. Never 0 (no block at 0) nor LIVE_BUSY.
 */
static inline __u64 live_key(__u64 addr, __u32 layer, __u32 account)
{
	return (addr >> 3) << (ACCOUNT_BITS + 1) | (__u64)(layer == LAYER_PYTHON) << ACCOUNT_BITS | account;
}

static inline __u32 live_key_account(__u64 key)
{
	return (__u32)key & ((1u << ACCOUNT_BITS) - 1);
}

static inline __u32 live_place(__u64 key, __u32 choice, __u32 buckets)
{
	__u64 h = table_mix(key, key >> 32);

	/* The 32 bits taken for a fraction of the table; the two choices share none. */
	return (__u32)(((choice ? h >> 32 : h & 0xffffffff) * buckets) >> 32);
}

static inline int live_is_filtered(const struct live_block *b)
{
	return b->rate || b->sum == LIVE_GHOST_SUM;
}

/* Blocks of one page have cells side by side: what a thread frees in a row lies together, mostly. */
static inline __u32 live_cell(__u64 key)
{
	__u64 words = key >> (ACCOUNT_BITS + 1), page = words >> 9;
	__u64 h = table_mix(page, key & ((1u << (ACCOUNT_BITS + 1)) - 1));

	return (__u32)((h >> 32) + (words >> 1)) & (LIVE_CELLS - 1);
}

static inline __u64 *live_cell_word(__u64 *filter, __u32 cell)
{
	return &filter[cell / LIVE_CELLS_PER_WORD];
}

static inline __u32 live_cell_shift(__u32 cell)
{
	return cell % LIVE_CELLS_PER_WORD * LIVE_CELL_BITS;
}

static inline int live_filter_has(__u64 *filter, __u64 key)
{
	__u32 cell = live_cell(key);

	return (*(volatile __u64 *)live_cell_word(filter, cell) >> live_cell_shift(cell) & LIVE_CELL_MOST) != 0;
}

#define LIVE_CELL_RETRIES 4

/* 0: others changed the word each time; the block must not become findable then. */
static inline int live_filter_add(__u64 *filter, __u64 key)
{
	__u32 cell = live_cell(key), shift = live_cell_shift(cell);
	__u64 *word = live_cell_word(filter, cell), was = *(volatile __u64 *)word;

	for (int i = 0; i < LIVE_CELL_RETRIES; i++) {
		if ((was >> shift & LIVE_CELL_MOST) == LIVE_CELL_MOST)
			return 1;
		__u64 now = __sync_val_compare_and_swap(word, was, was + (1ull << shift));
		if (now == was)
			return 1;
		was = now;
	}
	return 0;
}

/* For a block that was added and is not in the table any more. What others keep it from taking away stays: it only costs. */
static inline void live_filter_remove(__u64 *filter, __u64 key)
{
	__u32 cell = live_cell(key), shift = live_cell_shift(cell);
	__u64 *word = live_cell_word(filter, cell), was = *(volatile __u64 *)word;

	for (int i = 0; i < LIVE_CELL_RETRIES; i++) {
		__u64 n = was >> shift & LIVE_CELL_MOST;
		if (!n || n == LIVE_CELL_MOST)
			return;
		__u64 now = __sync_val_compare_and_swap(word, was, was - (1ull << shift));
		if (now == was)
			return;
		was = now;
	}
}

/* The pair's id; tid 0: of all threads. Without Python frames it is the native stack's own. */
static inline __u64 stack_id_of(__u64 native, __u64 python, __u32 tid, __u32 layer)
{
	__u64 h = python ? table_mix(native, python) : native;

	if (!native)
		return layer;
	if (tid)
		h = table_mix(h, tid);
	h &= ~STACK_ID_LAYER_MASK;
	return (h ? h : STACK_ID_LAYER_MASK + 1) | layer;
}

static inline __u64 sum_key(__u64 stack_id, __u32 account)
{
	__u64 h = table_mix(stack_id, account);

	return h ? h : 1;
}

static inline __u32 sum_place(__u64 key, __u32 probe, __u32 mask)
{
	return ((__u32)(key >> 20) + probe) & mask;
}

#endif
