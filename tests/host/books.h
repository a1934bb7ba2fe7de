/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests read of the maps, and what must hold of them at every quiet moment. Included after world.h and cmocka.h.
 */
#ifndef TIDEMARK_HOST_BOOKS_H
#define TIDEMARK_HOST_BOOKS_H

#define for_each_elem(m, e) for (struct host_elem *e = NULL; (e = host_map_next(host_map_of(m), e));)

static inline struct proc *proc_of(const struct process *p)
{
	uint32_t slot = proc_find(p->pid);

	return slot == NO_SLOT ? NULL : proc_at(slot);
}

static inline struct proc_key id_of(const struct process *p)
{
	const struct proc *pr = proc_of(p);

	assert_non_null(pr);
	return pr->id;
}

static inline uint32_t account_of(const struct process *p)
{
	const struct proc *pr = proc_of(p);

	assert_non_null(pr);
	return pr->account;
}

static inline bool id_equal(const struct proc_key *a, const struct proc_key *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* An array's element by its index, an index by its element. */
static inline uint32_t index_of(const struct host_elem *e)
{
	uint64_t key;

	memcpy(&key, e->key, sizeof(key));
	return (uint32_t)key;
}

static inline void sum_add(struct sum *to, const struct sum *s)
{
	to->alloc_bytes += s->alloc_bytes;
	to->alloc_count += s->alloc_count;
	to->free_bytes += s->free_bytes;
	to->free_count += s->free_count;
	to->untracked_bytes += s->untracked_bytes;
	to->untracked_count += s->untracked_count;
	to->alloc_var += s->alloc_var;
	to->gone_var += s->gone_var;
	to->cow_bytes += s->cow_bytes;
}

/* The sums of all stacks that begin at the caller; caller 0: of all stacks. */
static inline struct sum sums_at(uint32_t account, uint64_t caller)
{
	struct sum total = { 0 };

	for_each_elem(&sums, e)
	{
		const struct sum *s = e->value;
		const struct stack *st = bpf_map_lookup_elem(&stacks, &s->ids.native);
		if (s->key && s->account == account && (!caller || (st && st->ip[0] == caller)))
			sum_add(&total, s);
	}
	return total;
}

static inline void expect_sums(uint32_t account, uint64_t caller, struct sum want)
{
	struct sum got = sums_at(account, caller);

	assert_int_equal(got.alloc_bytes, want.alloc_bytes);
	assert_int_equal(got.alloc_count, want.alloc_count);
	assert_int_equal(got.free_bytes, want.free_bytes);
	assert_int_equal(got.free_count, want.free_count);
	assert_int_equal(got.untracked_bytes, want.untracked_bytes);
	assert_int_equal(got.untracked_count, want.untracked_count);
}

#define EXPECT_SUMS(account, caller, ...) expect_sums((account), (caller), (struct sum){ __VA_ARGS__ })
#define ALLOCS(bytes, count) .alloc_bytes = (bytes), .alloc_count = (count)
#define FREES(bytes, count) .free_bytes = (bytes), .free_count = (count)
#define UNTRACKED(bytes, count) .untracked_bytes = (bytes), .untracked_count = (count)

/* The block, and in how many places it stands. */
static inline int live_find(uint64_t key, const struct live_block **ret)
{
	int n = 0;

	for (uint32_t choice = 0; choice < 2; choice++) {
		uint32_t place = live_place(key, choice, cfg.live_buckets);
		if (choice && place == live_place(key, 0, cfg.live_buckets))
			break;
		const struct live_bucket *b = bucket_at(place);
		for (int i = 0; i < LIVE_WAYS; i++) {
			if (b->key[i] != key)
				continue;
			*ret = &b->block[i];
			n++;
		}
	}
	return n;
}

static inline const struct live_block *live_at(uint32_t account, uint64_t addr)
{
	const struct live_block *b = NULL;

	return live_find(live_key(addr, LAYER_HEAP, account), &b) ? b : NULL;
}

static inline uint32_t live_count(void)
{
	uint32_t n = 0;

	for_each_elem(&live, e) for (int i = 0; i < LIVE_WAYS; i++)
		n += !!((const struct live_bucket *)e->value)->key[i];
	return n;
}

static inline struct stack_ids stack_ids_at(uint32_t account, uint64_t addr)
{
	const struct live_block *b = live_at(account, addr);

	assert_non_null(b);
	const struct sum *s = sum_at(b->sum);
	assert_non_null(s);
	assert_int_equal(s->account, account);
	return s->ids;
}

static inline uint64_t stack_id_at(uint32_t account, uint64_t addr)
{
	return stack_ids_at(account, addr).id;
}

/* The native stack of a live block. */
static inline const struct stack *stack_at(uint32_t account, uint64_t addr)
{
	struct stack_ids ids = stack_ids_at(account, addr);
	const struct stack *st = bpf_map_lookup_elem(&stacks, &ids.native);

	assert_non_null(st);
	return st;
}

/* Tests name the losses that they expect; what is left at the end is a fault. */
static inline uint64_t loss_take(const struct process *p, enum loss why)
{
	struct proc *pr = proc_of(p);

	assert_non_null(pr);
	uint64_t n = pr->losses[why];
	pr->losses[why] = 0;
	return n;
}

static inline uint64_t orphan_loss_take(enum loss why)
{
	uint64_t n = 0;
	uint32_t key = why;

	for (host_cpu = HOST_CPUS; host_cpu--;) {
		__u64 *at = bpf_map_lookup_elem(&orphan_losses, &key);
		n += *at;
		*at = 0;
	}
	host_cpu = 0;
	return n;
}

static inline void expect_no_loss(void)
{
	for_each_elem(&procs, e)
	{
		const struct proc *p = e->value;
		for (int i = 0; i < LOSS_NR; i++)
			if (p->losses[i])
				fail_msg("process %u: loss %d counted %llu times", p->id.pid, i, p->losses[i]);
	}
	for (int i = 0; i < LOSS_NR; i++)
		assert_int_equal(orphan_loss_take((enum loss)i), 0);
}

static inline void tracked_add(struct sum *t, const struct live_block *b)
{
	struct sample_weight w = block_weight(b);

	assert_in_range(b->sum, 0, world.sum_places - 1);
	t[b->sum].alloc_bytes += w.bytes;
	t[b->sum].alloc_count += w.count;
	t[b->sum].alloc_var += w.var;
}

/* Per sum: blocks in `live`, and those that a realloc under way has taken out, by their weights. The caller frees it. */
static inline struct sum *tracked_all(void)
{
	struct sum *t = calloc(world.sum_places, sizeof(*t));

	assert_non_null(t);
	for_each_elem(&live, e)
	{
		const struct live_bucket *b = e->value;
		for (int i = 0; i < LIVE_WAYS; i++)
			if (b->key[i])
				tracked_add(t, &b->block[i]);
	}
	for (int i = 0; i < world.n_threads; i++) {
		const struct thread_state *ts = bpf_task_storage_get(&threads, &world.threads[i]->task, 0, 0);
		for (int k = 0; ts && k < TRACKED_LAYERS; k++)
			if (ts->call[k].has_old)
				tracked_add(t, &ts->call[k].old);
	}
	return t;
}

static inline void books_check_live(const struct live_bucket *b)
{
	for (int i = 0; i < LIVE_WAYS; i++) {
		if (!b->key[i])
			continue;
		const struct live_block *found = NULL;
		assert_int_not_equal(b->key[i], LIVE_BUSY);
		assert_int_equal(live_find(b->key[i], &found), 1);
		assert_ptr_equal(found, &b->block[i]);
		assert_int_equal(sum_at(b->block[i].sum)->account, live_key_account(b->key[i]));
	}
}

/* The filter has each sampled block once, and nothing else. Not for tests in which a cell was full. */
static inline void books_check_filter(void)
{
	__u64 *filter = calloc(LIVE_FILTER_WORDS, sizeof(*filter));

	assert_non_null(filter);
	for_each_elem(&live, e)
	{
		const struct live_bucket *b = e->value;
		for (int i = 0; i < LIVE_WAYS; i++)
			if (b->key[i] && live_is_filtered(&b->block[i]))
				assert_true(live_filter_add(filter, b->key[i]));
	}
	assert_memory_equal(filter, live_filter, sizeof(live_filter));
	free(filter);
}

/* alloc - free - untracked = live, for every sum, and so are the variances; each block stands once; a scratch slot is never kept. */
static inline void books_check(void)
{
	struct sum *tracked = tracked_all();

	for_each_elem(&sums, e)
	{
		const struct sum *s = e->value;
		struct sum t = tracked[index_of(e)];
		assert_int_equal(s->alloc_bytes - s->free_bytes - s->untracked_bytes, t.alloc_bytes);
		assert_int_equal(s->alloc_count - s->free_count - s->untracked_count, t.alloc_count);
		assert_int_equal(s->alloc_var - s->gone_var, t.alloc_var);
		assert_true(s->peak_live_bytes >= t.alloc_bytes);
		if (s->key)
			assert_int_equal(s->key, sum_key(s->ids.id, s->account));
	}
	free(tracked);
	for_each_elem(&live, e) books_check_live(e->value);
	books_check_filter();
	for_each_elem(&scratches, e) assert_int_equal(((const struct scratch *)e->value)->busy, 0);
}

/* Leaves no slot for this process. */
static inline void procs_fill(uint32_t tgid)
{
	for (uint32_t i = 0; i < PROC_PROBES; i++) {
		struct proc *p = proc_at(proc_place(tgid, i));
		if (p->tgid)
			continue;
		p->tgid = 0x7fff0000 + i;
		p->used++;
	}
}

/* The next record of the ring, in order; the caller frees it. NULL: none. */
static inline struct event *event_next(uint64_t *ret_wake)
{
	struct host_record *r = host.ring;

	if (!r)
		return NULL;
	assert_true(r->submitted);
	assert_int_equal(r->bytes, sizeof(struct event));
	struct event *e = malloc(sizeof(*e));
	assert_non_null(e);
	memcpy(e, r->data, sizeof(*e));
	*ret_wake = r->flags;
	host.ring = r->next;
	free(r);
	return e;
}

#endif
