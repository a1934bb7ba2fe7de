/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests read of the maps, and what must hold of them at every quiet moment. Included after world.h and cmocka.h.
 */
#ifndef TIDEMARK_HOST_BOOKS_H
#define TIDEMARK_HOST_BOOKS_H

#define for_each_elem(m, e) for (struct host_elem *e = NULL; (e = host_map_next(host_map_of(m), e));)

static inline struct proc *proc_of(const struct process *p)
{
	uint32_t tgid = p->pid;

	return bpf_map_lookup_elem(&procs, &tgid);
}

static inline struct proc_key id_of(const struct process *p)
{
	const struct proc *pr = proc_of(p);

	assert_non_null(pr);
	return pr->id;
}

static inline bool id_equal(const struct proc_key *a, const struct proc_key *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static inline void sum_add(struct sum *to, const struct sum *s)
{
	to->alloc_bytes += s->alloc_bytes;
	to->alloc_count += s->alloc_count;
	to->free_bytes += s->free_bytes;
	to->free_count += s->free_count;
	to->untracked_bytes += s->untracked_bytes;
	to->untracked_count += s->untracked_count;
}

/* The sums of all stacks that begin at the caller; caller 0: of all stacks. */
static inline struct sum sums_at(struct proc_key id, uint64_t caller)
{
	struct sum total = { 0 };

	for_each_elem(&sums, e)
	{
		const struct sum_key *k = (const struct sum_key *)e->key;
		uint64_t stack_id = k->stack_id;
		const struct stack *st = bpf_map_lookup_elem(&stacks, &stack_id);
		if (id_equal(&k->proc, &id) && (!caller || (st && st->ip[0] == caller)))
			sum_add(&total, e->value);
	}
	return total;
}

static inline void expect_sums(struct proc_key id, uint64_t caller, struct sum want)
{
	struct sum got = sums_at(id, caller);

	assert_int_equal(got.alloc_bytes, want.alloc_bytes);
	assert_int_equal(got.alloc_count, want.alloc_count);
	assert_int_equal(got.free_bytes, want.free_bytes);
	assert_int_equal(got.free_count, want.free_count);
	assert_int_equal(got.untracked_bytes, want.untracked_bytes);
	assert_int_equal(got.untracked_count, want.untracked_count);
}

#define EXPECT_SUMS(id, caller, ...) expect_sums((id), (caller), (struct sum){ __VA_ARGS__ })
#define ALLOCS(bytes, count) .alloc_bytes = (bytes), .alloc_count = (count)
#define FREES(bytes, count) .free_bytes = (bytes), .free_count = (count)
#define UNTRACKED(bytes, count) .untracked_bytes = (bytes), .untracked_count = (count)

static inline const struct live_block *live_at(struct proc_key id, uint64_t addr)
{
	struct live_key k = live_key_of(&id, LAYER_HEAP, addr);

	return bpf_map_lookup_elem(&live, &k);
}

static inline uint32_t live_count(void)
{
	return host_map_of(&live)->n;
}

/* The stack of a live block. */
static inline const struct stack *stack_at(struct proc_key id, uint64_t addr)
{
	const struct live_block *b = live_at(id, addr);

	assert_non_null(b);
	uint64_t stack_id = b->stack_id;
	const struct stack *st = bpf_map_lookup_elem(&stacks, &stack_id);
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

/* Blocks of this account and stack in `live`, and those that a realloc under way has taken out. */
static inline struct sum tracked_of(const struct proc_key *id, uint64_t stack_id)
{
	struct sum t = { 0 };

	for_each_elem(&live, e)
	{
		const struct live_key *k = (const struct live_key *)e->key;
		const struct live_block *b = e->value;
		if (id_equal(&k->proc, id) && b->stack_id == stack_id) {
			t.alloc_bytes += b->bytes;
			t.alloc_count++;
		}
	}
	for (int i = 0; i < world.n_threads; i++) {
		const struct thread_state *ts = bpf_task_storage_get(&threads, &world.threads[i]->task, 0, 0);
		const struct inflight *c = ts ? &ts->call[0] : NULL;
		if (c && c->has_old && id_equal(&c->old_key.proc, id) && c->old.stack_id == stack_id) {
			t.alloc_bytes += c->old.bytes;
			t.alloc_count++;
		}
	}
	return t;
}

/* alloc - free - untracked = live, for every stack of every account; a scratch slot is never kept. */
static inline void books_check(void)
{
	for_each_elem(&sums, e)
	{
		const struct sum_key *k = (const struct sum_key *)e->key;
		const struct sum *s = e->value;
		struct sum t = tracked_of(&k->proc, k->stack_id);
		assert_int_equal(s->alloc_bytes - s->free_bytes - s->untracked_bytes, t.alloc_bytes);
		assert_int_equal(s->alloc_count - s->free_count - s->untracked_count, t.alloc_count);
		assert_true(s->peak_live_bytes >= t.alloc_bytes);
	}
	for_each_elem(&live, e)
	{
		const struct live_key *k = (const struct live_key *)e->key;
		struct sum_key sk = { .proc = k->proc, .stack_id = ((const struct live_block *)e->value)->stack_id };
		assert_non_null(bpf_map_lookup_elem(&sums, &sk));
	}
	for_each_elem(&scratches, e) assert_int_equal(((const struct scratch *)e->value)->busy, 0);
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
