/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Booking: sums carry every total, `live` finds the sum that a free belongs to.
 *
 * Both are tables of our own in arrays (include/tables.h): a place is taken by compare-and-swap of its key and given back by writing 0. Order
 * matters between CPUs: an allocation is booked before its block becomes findable, so a free on another CPU never makes a sum
 * negative. A block that does not fit into `live` stays in the totals and is booked as untracked as well: live = alloc - free -
 * untracked is then exact for what is tracked.
 */
#ifndef TIDEMARK_BPF_ACCOUNT_H
#define TIDEMARK_BPF_ACCOUNT_H

#include "loss.bpf.h"

#define NO_SUM 0xffffffffu
#define SUM_AGAIN 0xfffffffeu
#define SUM_RETRIES 3
#define PEAK_RETRIES 4
#define NS_PER_MS 1000000ull

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

static __always_inline struct sum *sum_at(__u32 index)
{
	return bpf_map_lookup_elem(&sums, &index);
}

/* Place of the sum of an account's stack, made at first sight. NO_SUM: the table is full around it. */
__noinline __u32 sum_find_or_make(__u32 account, struct stack_ids *ids)
{
	if (!ids)
		return NO_SUM;
	__u64 key = sum_key(ids->id, account);
	__u32 free_at = NO_SUM;

	NO_UNROLL
	for (__u32 i = 0; i < SUM_PROBES; i++) {
		__u32 at = sum_place(key, i, cfg.sum_mask);
		struct sum *s = sum_at(at);
		if (!s)
			break;
		if (s->key == key)
			return at;
		if (!s->key && free_at == NO_SUM)
			free_at = at;
	}
	struct sum *s = free_at == NO_SUM ? NULL : sum_at(free_at);
	if (!s)
		return NO_SUM;
	__u64 was = __sync_val_compare_and_swap(&s->key, 0, key);
	if (was && was != key)
		return SUM_AGAIN; /* another new stack took it meanwhile */
	__sync_fetch_and_or(&sum_marks[free_at / SUM_MARK_BITS & (SUM_MARKS - 1)], 1ull << free_at % SUM_MARK_BITS);
	/* Its counters are zero: who gives a place back leaves it so. Two that are first at once write the same here. */
	s->ids = *ids;
	s->tid = cfg.by_thread ? bpf_get_current_task_btf()->pid : 0;
	barrier();
	s->account = account;
	return free_at;
}

static __always_inline __u32 sum_get(__u32 account, struct stack_ids *ids)
{
	__u32 at = sum_find_or_make(account, ids);

	for (int i = 0; at == SUM_AGAIN && i < SUM_RETRIES; i++)
		at = sum_find_or_make(account, ids);
	return at == SUM_AGAIN ? NO_SUM : at;
}

static __always_inline struct live_bucket *bucket_at(__u32 place)
{
	return bpf_map_lookup_elem(&live, &place);
}

static __always_inline struct sample_weight block_weight(const struct live_block *b)
{
	return sample_block(&sampling, cfg.sample_bytes, b);
}

/* A block that is counted now, with all that its weight depends on. */
static __always_inline struct live_block block_make(const struct proc *p, __u64 bytes, __u32 rate, __u32 sum)
{
	struct live_block b = { .bytes = bytes < BLOCK_BYTES_MAX ? bytes : BLOCK_BYTES_MAX, .rate = rate, .sum = sum };
	__u32 up = 0;

	if (rate)
		up = sample_round_up(&sampling, cfg.sample_bytes, rate, b.bytes, bpf_get_prandom_u32());
	b.up = up;
	if (rate && p->scale) {
		struct sample_weight w = block_weight(&b);
		b.up = up | sample_round_scaled(&sampling, p->scale, w.count, bpf_get_prandom_u32() & 0xffff);
		b.scale = p->scale;
	}
	return b;
}

/* What becomes of a block that is not live any more. */
enum { GONE_FREED, GONE_UNTRACKED };

__noinline int book_gone(struct proc *p, __u32 layer, struct live_block *b, __u32 how)
{
	struct sum *s = b ? sum_at(b->sum) : NULL;

	if (!p || !s)
		return 0;
	struct sample_weight w = block_weight(b);
	if (how == GONE_FREED) {
		__sync_fetch_and_add(&s->free_bytes, w.bytes);
		__sync_fetch_and_add(&s->free_count, w.count);
	} else {
		__sync_fetch_and_add(&s->untracked_bytes, w.bytes);
		__sync_fetch_and_add(&s->untracked_count, w.count);
	}
	sample_var_add(&s->gone_var, w.var);
	__sync_fetch_and_add(&p->live_bytes[layer & 3], -(__s64)w.bytes);
	return 0;
}

static __always_inline void book_free(struct proc *p, __u32 layer, struct live_block *b)
{
	(void)book_gone(p, layer, b, GONE_FREED);
}

static __always_inline void book_untracked(struct proc *p, __u32 layer, struct live_block *b)
{
	(void)book_gone(p, layer, b, GONE_UNTRACKED);
}

static __always_inline int bucket_has(const struct live_bucket *b, __u64 key)
{
	NO_UNROLL
	for (__u32 i = 0; i < LIVE_WAYS; i++)
		if (b->key[i] == key)
			return 1;
	return 0;
}

static __always_inline int live_has(__u64 key)
{
	struct live_bucket *a = bucket_at(live_place(key, 0, cfg.live_buckets));
	struct live_bucket *b = bucket_at(live_place(key, 1, cfg.live_buckets));

	return a && b && (bucket_has(a, key) || bucket_has(b, key));
}

/* Looks for the key in one bucket; copies the block out and frees its place. 1: it was there and is ours. */
static __always_inline int bucket_take(struct live_bucket *b, __u64 key, struct live_block *ret)
{
	NO_UNROLL
	for (__u32 i = 0; i < LIVE_WAYS; i++) {
		if (b->key[i] != key)
			continue;
		*ret = b->block[i]; /* before the place is given up */
		/* Two threads that free one block at once (a bug of the target): the one that clears it books it. */
		return __sync_val_compare_and_swap(&b->key[i], key, 0) == key;
	}
	return 0;
}

/* Global functions: the verifier goes through the retries once. */
__noinline int filter_add(__u64 key)
{
	return live_filter_add(live_filter, key);
}

__noinline int filter_remove(__u64 key)
{
	live_filter_remove(live_filter, key);
	return 0;
}

__noinline int live_take(__u64 key, struct live_block *ret)
{
	if (!ret)
		return 0;
	struct live_bucket *b = bucket_at(live_place(key, 0, cfg.live_buckets));
	int taken = b && bucket_take(b, key, ret);

	if (!taken) {
		b = bucket_at(live_place(key, 1, cfg.live_buckets));
		taken = b && bucket_take(b, key, ret);
	}
	if (taken && live_is_filtered(ret))
		(void)filter_remove(key);
	return taken;
}

/* Is that known without a look at the table? In a process that is sampled. */
static __always_inline int is_not_live(const struct proc *p, __u64 key)
{
	return p->rate && !p->unsampled && !live_filter_has(live_filter, key);
}

/* Without branches: the verifier would follow each of the 2^8 ways through them. */
static __always_inline __u64 bucket_taken(const struct live_bucket *b)
{
	__u64 taken = 0;

	for (int i = 0; i < LIVE_WAYS; i++) {
		__u64 key = b->key[i], negative = -key;
		barrier_var(negative); /* or the compiler sees what is meant and makes a branch of it */
		taken += (key | negative) >> 63;
	}
	return taken;
}

static __always_inline int bucket_put(struct live_bucket *b, __u64 key, const struct live_block *block)
{
	NO_UNROLL
	for (__u32 i = 0; i < LIVE_WAYS; i++) {
		if (b->key[i] || __sync_val_compare_and_swap(&b->key[i], 0, LIVE_BUSY) != 0)
			continue;
		b->block[i] = *block;
		barrier();
		b->key[i] = key; /* x86 keeps the order of stores: who sees the key sees the block */
		return 1;
	}
	return 0;
}

/* 1: it is in the table now; 0: both of its buckets are full. */
__noinline int live_put(__u64 key, struct live_block *block)
{
	struct live_bucket *a = bucket_at(live_place(key, 0, cfg.live_buckets));
	struct live_bucket *b = bucket_at(live_place(key, 1, cfg.live_buckets));

	if (!a || !b || !block || (live_is_filtered(block) && !filter_add(key)))
		return 0;
	int is_put = bucket_taken(a) <= bucket_taken(b) ? bucket_put(a, key, block) || bucket_put(b, key, block)
							: bucket_put(b, key, block) || bucket_put(a, key, block);
	if (!is_put && live_is_filtered(block))
		(void)filter_remove(key);
	return is_put;
}

/*
 * CLOCK_MONOTONIC in milliseconds, as of the last tick: that is a load, while reading the clock is a tenth of what booking takes. Set by the clock
 * again every so many ticks; who is preempted in between may be that much off.
 */
#define TICKS_TRUSTED 64

static __always_inline __u32 now_ms(void)
{
	__u32 zero = 0;
	struct cpu_stat *st = bpf_map_lookup_elem(&cpu_stats, &zero);
	__u64 tick = bpf_jiffies64();

	if (!st)
		return (__u32)(bpf_ktime_get_ns() / NS_PER_MS);
	if (tick - st->tick >= TICKS_TRUSTED) {
		st->tick_ms = bpf_ktime_get_ns() / NS_PER_MS;
		st->tick = tick;
	}
	return (__u32)(st->tick_ms + (tick - st->tick) * cfg.tick_us / 1000);
}

/* A layer and the rate at which a call was sampled, in one argument: a global function has five. */
#define LAYER_AT_RATE(layer, rate) ((__u32)(layer) | (__u32)(rate) << 8)

/* addr 0: the result can't be known (return probes are unsafe here); counted, never tracked. A global function. */
__noinline int book_alloc(struct proc *p, __u32 layer_rate, __u64 addr, __u64 bytes, __u32 sum)
{
	__u32 layer = layer_rate & 0xff, rate = layer_rate >> 8 & 0xff;
	struct sum *s = sum_at(sum);
	struct live_block old, block;

	if (!p || !s)
		return 0;
	block = block_make(p, bytes, rate, sum);
	struct sample_weight w = block_weight(&block);
	__u64 key = live_key(addr, layer, p->account);
	__u64 alloc = __sync_fetch_and_add(&s->alloc_bytes, w.bytes) + w.bytes;
	__s64 live_now = __sync_fetch_and_add(&p->live_bytes[layer & 3], (__s64)w.bytes) + (__s64)w.bytes;

	__sync_fetch_and_add(&s->alloc_count, w.count);
	if (!rate && !p->unsampled)
		p->unsampled = 1;
	if (rate) {
		sample_var_add(&s->alloc_var, w.var);
		__sync_fetch_and_add(&p->booked_bytes, w.bytes);
		__sync_fetch_and_add(&p->booked_var, w.var);
	}
	if (addr && live_take(key, &old)) { /* handed out again without a free seen: the old block is gone */
		book_free(p, layer, &old);
		if (!p->rate) /* else its free may have been in a time without probes */
			loss_count(p, LOSS_MISSED_FREE);
	}
	block.birth_ms = now_ms();
	if (!addr || !live_put(key, &block)) {
		if (addr)
			loss_count(p, LOSS_LIVE_FULL);
		book_untracked(p, layer, &block);
		return 0;
	}
	peak_raise(&s->peak_live_bytes, alloc - s->free_bytes - s->untracked_bytes);
	peak_raise((__u64 *)&p->peak_live_bytes[layer & 3], (__u64)live_now);
	return 0;
}

#endif
