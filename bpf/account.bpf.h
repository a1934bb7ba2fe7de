/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Booking: sums carry every total, `live` finds the stack that a free belongs to.
 *
 * Order matters between CPUs: an allocation is booked before its block becomes findable, so a free on another CPU never makes a sum negative. A
 * block that does not fit into `live` stays in the totals and is booked as untracked as well: live = alloc - free - untracked is
 * then exact for what is tracked.
 */
#ifndef TIDEMARK_BPF_ACCOUNT_H
#define TIDEMARK_BPF_ACCOUNT_H

#include "loss.bpf.h"

#define ERR_EXIST (-17)
#define ERR_TOOBIG (-7) /* hash map at max_entries */
#define PEAK_RETRIES 4

static __always_inline void peak_raise(__u64 *peak, __u64 value)
{
	__u64 seen = *(volatile __u64 *)peak;

	for (int i = 0; i < PEAK_RETRIES; i++) {
		if ((__s64)value <= (__s64)seen)
			return;
		__u64 was = __sync_val_compare_and_swap(peak, seen, value);
		if (was == seen)
			return;
		seen = was;
	}
}

static __always_inline struct sum *sum_get(const struct proc_key *id, __u64 stack_id)
{
	struct sum_key key = { .proc = *id, .stack_id = stack_id };
	struct sum *s = bpf_map_lookup_elem(&sums, &key);

	if (s)
		return s;
	struct sum zero = {};
	/* The result is judged by the lookup: another CPU may have been first, or the table is full. */
	(void)bpf_map_update_elem(&sums, &key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(&sums, &key);
}

static __always_inline struct live_key live_key_of(const struct proc_key *id, enum layer layer, __u64 addr)
{
	struct live_key k = { .proc = *id, .addr_layer = addr | (__u64)layer << LIVE_LAYER_SHIFT };

	return k;
}

__noinline int book_free(struct proc *p, __u32 layer, struct live_block *b)
{
	if (!p || !b)
		return 0;
	struct sum *s = sum_get(&p->id, b->stack_id);

	if (s) {
		__sync_fetch_and_add(&s->free_bytes, b->bytes);
		__sync_fetch_and_add(&s->free_count, 1);
	}
	__sync_fetch_and_add(&p->live_bytes[layer & 3], -(__s64)b->bytes);
	return 0;
}

/* The address was handed out again although no free of the old block was seen: the old one is gone. */
static __always_inline long live_replace(struct proc *p, enum layer layer, const struct live_key *k,
					 const struct live_block *b)
{
	struct live_block *old = bpf_map_lookup_elem(&live, k);

	if (old) {
		struct live_block gone = *old;
		book_free(p, layer, &gone);
		loss_count(p, LOSS_MISSED_FREE);
	}
	return bpf_map_update_elem(&live, k, b, BPF_ANY);
}

static __always_inline long live_put(struct proc *p, enum layer layer, const struct live_key *k,
				     const struct live_block *b)
{
	long err = bpf_map_update_elem(&live, k, b, BPF_NOEXIST);

	if (err == ERR_EXIST)
		err = live_replace(p, layer, k, b);
	if (err)
		loss_count(p, err == ERR_TOOBIG ? LOSS_LIVE_FULL : LOSS_LIVE_BUSY);
	return err;
}

/* Copies the block out before its element goes: its memory may be reused at once. 0: it was there. */
static __always_inline int live_take(const struct live_key *k, struct live_block *ret)
{
	struct live_block *b = bpf_map_lookup_elem(&live, k);

	if (!b)
		return -1;
	*ret = *b;
	/* Two threads that free one block at once (a bug of the target): the one that deletes it books it. */
	return bpf_map_delete_elem(&live, k) ? -1 : 0;
}

/* addr 0: the result can't be known (return probes are unsafe here); counted, never tracked. */
__noinline int book_alloc(struct proc *p, __u32 layer, __u64 addr, __u64 bytes, __u64 stack_id)
{
	if (!p)
		return 0;
	struct sum *s = sum_get(&p->id, stack_id);

	if (!s) {
		loss_count(p, LOSS_SUMS_FULL);
		return 0;
	}
	struct live_key key = live_key_of(&p->id, layer, addr);
	struct live_block block = { .bytes = bytes, .stack_id = stack_id, .birth_ns = bpf_ktime_get_ns() };
	__u64 alloc = __sync_fetch_and_add(&s->alloc_bytes, bytes) + bytes;
	__s64 live_now = __sync_fetch_and_add(&p->live_bytes[layer & 3], (__s64)bytes) + (__s64)bytes;

	__sync_fetch_and_add(&s->alloc_count, 1);
	if (!addr || live_put(p, layer, &key, &block)) {
		__sync_fetch_and_add(&s->untracked_bytes, bytes);
		__sync_fetch_and_add(&s->untracked_count, 1);
		__sync_fetch_and_add(&p->live_bytes[layer & 3], -(__s64)bytes);
		return 0;
	}
	peak_raise(&s->peak_live_bytes, alloc - s->free_bytes - s->untracked_bytes);
	peak_raise((__u64 *)&p->peak_live_bytes[layer & 3], (__u64)live_now);
	return 0;
}

#endif
