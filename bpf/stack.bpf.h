/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stacks: taken at a call's entry (never at its return, where the kernel's trampoline hides the return address), identified by hashes,
 * stored once. A stack is a pair of a native one (unwind.bpf.h) and, in a thread that runs Python, a chain of Python frames (python.bpf.h).
 *
 *	remembered? --yes--> id                                   stack_take
 *	     | no
 *	unwind into a scratch slot -> id -> store if new -> remember
 *
 * Definitions are stored under their hash and compared when they are met again; two that differ and share a hash are told as a collision.
 */
#ifndef TIDEMARK_BPF_STACK_H
#define TIDEMARK_BPF_STACK_H

#include "pycode.bpf.h"

#define ERR_EXIST (-17)
#define ERR_FULL (-7) /* E2BIG */
#define NO_SCRATCH 0xffffffffu

static __always_inline struct stack_stat *stack_stats(void)
{
	__u32 zero = 0;
	struct cpu_stat *st = bpf_map_lookup_elem(&cpu_stats, &zero);

	return st ? &st->stacks : NULL;
}

/* Per CPU; preemption may lose one: these tell how, not how much. */
#define stack_stat_add(field) \
	do { \
		struct stack_stat *stat_ = stack_stats(); \
		if (stat_) \
			stat_->field++; \
	} while (0)

/* Index of a slot of working memory that is ours until it is released; NO_SCRATCH: all are taken. */
static __always_inline __u32 scratch_claim(void)
{
	__u32 first = bpf_get_smp_processor_id() * SCRATCH_PER_CPU;

	for (int i = 0; i < SCRATCH_PER_CPU; i++) {
		__u32 index = (first + i) & (cfg.scratch_slots - 1);
		struct scratch *s = bpf_map_lookup_elem(&scratches, &index);
		if (s && __sync_val_compare_and_swap(&s->busy, 0, 1) == 0)
			return index;
	}
	return NO_SCRATCH;
}

static __always_inline void scratch_release(__u32 index)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &index);

	if (s)
		__sync_lock_test_and_set(&s->busy, 0);
}

static __always_inline struct stack *stack_find(__u64 *id)
{
	struct stack *st = bpf_map_lookup_elem(&stacks, id);

	return st ? st : bpf_map_lookup_elem(&more_stacks, id);
}

static __always_inline long stack_put(__u64 *id, struct stack *st)
{
	long err = bpf_map_update_elem(&stacks, id, st, BPF_NOEXIST);

	return err == ERR_FULL ? bpf_map_update_elem(&more_stacks, id, st, BPF_NOEXIST) : err;
}

static __always_inline struct python_chain *chain_find(__u64 *id)
{
	struct python_chain *c = bpf_map_lookup_elem(&python_chains, id);

	return c ? c : bpf_map_lookup_elem(&more_chains, id);
}

static __always_inline long chain_put(__u64 *id, struct python_chain *c)
{
	long err = bpf_map_update_elem(&python_chains, id, c, BPF_NOEXIST);

	return err == ERR_FULL ? bpf_map_update_elem(&more_chains, id, c, BPF_NOEXIST) : err;
}

static __always_inline __u64 hash_to_id(__u64 hash)
{
	hash &= ~STACK_ID_LAYER_MASK;
	return hash ? hash : STACK_ID_LAYER_MASK + 1;
}

__noinline int stack_same(struct stack *a, struct stack *b)
{
	if (!a || !b || a->n_ips != b->n_ips || a->site != b->site || a->cut != b->cut)
		return 0;
	NO_UNROLL
	for (int i = 0; i < STACK_MAX_FRAMES; i++) {
		if (i >= a->n_ips)
			break;
		if (a->ip[i] != b->ip[i])
			return 0;
	}
	return 1;
}

/* Stores what the scratch slot holds, if it is new. The id; 0: it could not be stored, counted. */
__noinline __u64 stack_define(struct proc *p, struct thread_state *t, __u32 scratch, __u32 site)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &scratch);

	if (!p || !t || !s)
		return 0;
	struct stack *st = &s->stack;
	/* Of what is shown: a word that was refused as a return address makes no other stack of it, how it ended does. */
	__u64 id = hash_to_id(table_mix(t->unwind.listed, t->unwind.cut));
	st->first_seen_in = p->id;
	st->site = (__u16)site;
	st->cut = t->unwind.cut;
	st->n_ips = (__u8)t->unwind.n;
	stack_stat_add(cut[st->cut & 7]);
	struct stack *known = stack_find(&id);
	if (!known) {
		long err = stack_put(&id, st);
		if (!err)
			stack_stat_add(defined);
		if (!err)
			return id;
		/* Another CPU was first with this hash; it may still be gone again. */
		known = err == ERR_EXIST ? stack_find(&id) : NULL;
		if (!known) {
			loss_count(p, LOSS_STACKS_FULL);
			return 0;
		}
	}
	if (stack_same(known, st))
		return id;
	loss_count(p, LOSS_STACK_COLLISION);
	return 0;
}

static __always_inline void remember(struct thread_state *t, struct proc *p, const struct stack_start *from, __u64 id)
{
	struct unwind *u = &t->unwind;
	__u32 index = u->remember;

	struct remembered *r = bpf_map_lookup_elem(&seen_stacks, &index);

	if (!r)
		return;
	r->layout = 0;
	/* What was cut may be whole the next time: the mapping is known then, or the page is there. */
	if (u->forgettable || u->cut == CUT_NO_MAPPING || u->cut == CUT_MEMORY || !id)
		return;
	r->ip = from->pc;
	r->native_id = id;
	r->bp = from->bp - from->sp;
	r->image = p->id.image;
	r->site = from->site;
	r->n = u->n_slots;
	r->bp_at_hit = u->bp_at_hit;
	r->seal = remembered_seal(r, u->hash, u->check, id);
	r->layout = u->layout;
}

static __always_inline int is_remembered(const struct remembered *r, const struct proc *p,
					 const struct stack_start *from)
{
	return r->layout && r->layout == p->layout && r->ip == from->pc && r->image == p->id.image &&
	       r->site == from->site;
}

/* The id of the native stack; 0: unknown, counted. A global function: the verifier checks it once, not once per path that calls it. */
__noinline __u64 stack_native(struct proc *p, struct thread_state *t, struct stack_start *from)
{
	if (!p || !t || !from)
		return 0;
	__u64 seed = table_mix(0x7469646d61726bull, (__u64)p->id.image << 16 | from->site), caller = from->pc, id = 0;

	if (from->slot)
		caller = from->caller;
	else
		window_open(t, from->sp);
	__u32 place = remember_place(from, caller);
	struct remembered *r = bpf_map_lookup_elem(&seen_stacks, &place);
	if (r && is_remembered(r, p, from))
		id = remembered_check(t, from, seed, place);
	struct stack_stat *stat = stack_stats();
	t->was_repeated = id != 0;
	if (stat) {
		stat->taken++;
		stat->repeated += id != 0;
	}
	if (id && r) {
		__u32 last = r->n ? r->n - 1 : 0;
		if (last < REMEMBERED_SLOTS)
			window_learn(t, (__u64)(r->slot[last] & REMEMBER_REACH) * 8);
		return id;
	}
	__u32 scratch = scratch_claim();
	if (scratch == NO_SCRATCH) {
		loss_count(p, LOSS_SCRATCH_BUSY);
		return 0;
	}
	if (r)
		r->layout = 0; /* its slots are overwritten from now on */
	unwind_begin(t, from, seed, p->layout, place);
	(void)unwind_all(p, t, scratch, from->slot); /* t->unwind.cut says how it ended */
	window_learn(t, t->unwind.sp - from->sp);
	id = stack_define(p, t, scratch, from->site);
	scratch_release(scratch);
	remember(t, p, from, id);
	stack_stat_add(unwound);
	return id;
}

/* Names are read from the process while its code objects are there. */
static __always_inline void python_tell(struct proc *p, __u64 id)
{
	struct event *e = bpf_ringbuf_reserve(&python_events, sizeof(*e), 0);

	if (!e)
		return; /* its names are read when it is shown */
	e->kind = EVENT_PYTHON;
	e->tid = 0;
	e->account = p->account;
	e->other_account = 0;
	e->id = p->id;
	e->ts_ns = 0;
	__builtin_memset(&e->map, 0, sizeof(e->map));
	e->map.ids.python = id;
	bpf_ringbuf_submit(e, python_wake());
}

/* Stores the chain that was walked into the scratch slot. 1: it is stored. */
__noinline int chain_define(struct proc *p, struct thread_state *t, __u32 scratch, __u64 id)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &scratch);

	if (!p || !t || !s)
		return 0;
	struct python_chain *c = &s->chain;
	c->first_seen_in = p->id;
	c->python = p->python;
	c->n = t->walk.n;
	c->flags = t->walk.flags;
	long err = chain_put(&id, c);
	if (err && err != ERR_EXIST) {
		loss_count(p, LOSS_STACKS_FULL);
		return 0;
	}
	if (!err) {
		(void)chain_tell(p, t, scratch);
		stack_stat_add(python_defined);
		python_tell(p, id);
	}
	return 1;
}

/* Of chains of equal length. */
__noinline int chain_same(struct python_chain *a, struct python_chain *b)
{
	if (!a || !b)
		return 0;
	NO_UNROLL
	for (int i = 0; i < PYTHON_FRAMES_MAX; i++) {
		if (i >= a->n)
			break;
		if (a->frame[i] != b->frame[i] || a->code_id[i] != b->code_id[i])
			return 0;
	}
	return 1;
}

/* Walks, and makes the chain known. Its id; PYTHON_LOST: it could not be read, or not stored. */
__noinline __u64 chain_walk(struct proc *p, struct thread_state *t, __u32 remember)
{
	if (!p || !t)
		return 0;
	__u32 scratch = scratch_claim();
	(void)python_walk(t, p->id.image, scratch, remember); /* without a slot it still finds out which chain it is */
	__u64 id = hash_to_id(table_mix(t->walk.hash, t->walk.flags)); /* a chain that was cut is another one */
	struct python_chain *known = chain_find(&id);
	struct scratch *s = bpf_map_lookup_elem(&scratches, &scratch);

	if (!t->walk.n) {
		id = t->walk.flags ? PYTHON_LOST : 0;
	} else if (known && (known->n != t->walk.n || (s && !chain_same(known, &s->chain)))) {
		loss_count(p, LOSS_STACK_COLLISION);
		id = PYTHON_LOST;
	} else if (known) {
		chain_remember(t, id);
	} else if (!s) {
		loss_count(p, LOSS_SCRATCH_BUSY);
		id = PYTHON_LOST;
	} else if (!chain_define(p, t, scratch, id)) {
		id = PYTHON_LOST;
	}
	if (s)
		scratch_release(scratch);
	return id;
}

/* The id of the thread's Python frames; 0: it has none; PYTHON_LOST: unknown. */
__noinline __u64 stack_python(struct proc *p, struct thread_state *t)
{
	__u32 place;

	if (!p || !t || !p->python)
		return 0;
	t->walk.counter = p->code_turn;
	if (t->walk.counter < CODE_TURNS_APART)
		t->walk.counter = 0;
	if (!python_begin(t, p->python)) {
		stack_stat_add(python_foreign);
		return 0;
	}
	stack_stat_add(python_taken);
	__u64 id = chain_remembered(t, &place);
	if (id) {
		stack_stat_add(python_repeated);
		return id;
	}
	return chain_walk(p, t, place);
}

/* The page that the kernel maps into a process for return trampolines (kernel/events/uprobes.c: xol_area). 0: none yet. */
static __always_inline __u64 trampoline_of(struct thread_state *t, __u32 image)
{
	if (t->image != image) {
		t->image = image;
		t->trampoline = 0;
		t->python_key = 0;
	}
	if (!t->trampoline)
		t->trampoline = BPF_CORE_READ(bpf_get_current_task_btf(), mm, uprobes_state.xol_area, vaddr);
	return t->trampoline;
}

/* The stack that begins there; never fails: what can't be had is booked on the layer's unknown stack and counted. */
static __always_inline void stack_take(struct proc *p, struct thread_state *t, struct stack_start *from,
				       enum layer layer, struct stack_ids *ret)
{
	if (cfg.no_stacks) {
		ret->native = ret->python = 0;
		ret->id = layer;
		return;
	}
	(void)trampoline_of(t, p->id.image);
	ret->native = stack_native(p, t, from);
	ret->python = stack_python(p, t);
	ret->id = stack_id_of(ret->native, ret->python, cfg.by_thread ? bpf_get_current_task_btf()->pid : 0, layer);
}

#endif
