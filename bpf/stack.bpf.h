/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stacks: walked at a call's entry (never at its return, where the kernel's trampoline hides the return address), hashed, stored once.
 *
 * The caller of the allocation function is always right: its return address is read from its known slot. The frames above come from
 * the chain of frame pointers, as far as it goes; the first word that is no frame pointer or leads to no code ends the walk, and the stack is
 * marked as incomplete. stack_walk is the seam: another unwinder replaces it and nothing else.
 */
#ifndef TIDEMARK_BPF_STACK_H
#define TIDEMARK_BPF_STACK_H

#include "loss.bpf.h"

#define ERR_EXIST (-17)
#define FRAME_SPAN_MAX (1ull << 20) /* a single frame larger than 1 MiB is no frame */
#define USER_ADDR_MIN 0x10000ull
#define USER_ADDR_MAX 0x7ffffffff000ull

static __always_inline struct scratch *scratch_claim(__u32 *ret_index)
{
	__u32 first = bpf_get_smp_processor_id() * SCRATCH_PER_CPU;

	for (int i = 0; i < SCRATCH_PER_CPU; i++) {
		__u32 index = (first + i) & (cfg.scratch_slots - 1);
		struct scratch *s = bpf_map_lookup_elem(&scratches, &index);
		if (s && __sync_val_compare_and_swap(&s->busy, 0, 1) == 0) {
			*ret_index = index;
			return s;
		}
	}
	return NULL;
}

static __always_inline void scratch_release(struct scratch *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
}

/* Where a walk begins. */
struct stack_start {
	__u64 slot; /* where the first address of the stack stands; 0: `leaf` is it */
	__u64 leaf; /* first address of the stack; stack_hash reads it from the slot */
	__u64 fp;
	__u64 below;
	__u16 site;
	__u8 is_ip; /* the leaf is an instruction that ran, not a return address */
};

static __always_inline int is_code(const struct proc *p, __u64 addr)
{
	if (addr < USER_ADDR_MIN || addr >= USER_ADDR_MAX)
		return 0;
	if (!p->lib_end)
		return 1;
	return (addr >= p->exe_start && addr < p->exe_end) || (addr >= p->lib_start && addr < p->lib_end);
}

struct frame_words {
	__u64 next_fp, return_addr;
};

/*
 * The stack from a call's return address up, read at once: that costs as much as one word. It lies on the program's own stack because
 * the kernel checks a copy into any other memory at length (hardened usercopy).
 */
#define COPY_WORDS 16

struct stack_copy {
	__u64 base; /* 0: none: near the stack's end less than this can be read, and frames are read one by one */
	__u64 word[COPY_WORDS];
};

static __always_inline int frame_read(const struct stack_copy *c, __u64 fp, struct frame_words *w)
{
	__u64 at = (fp - c->base) >> 3;

	if (!c->base || at >= COPY_WORDS - 1 || c->base & 7)
		return bpf_probe_read_user(w, sizeof(*w), (void *)fp);
	w->next_fp = c->word[at & (COPY_WORDS - 1)];
	w->return_addr = c->word[(at + 1) & (COPY_WORDS - 1)];
	return 0;
}

/* A walk's outcome. */
struct walk {
	__u64 hash;
	__u32 n;
	__u8 cut;
};

/*
 * Follows the frame pointers from a start. The hash grows with the frames; the addresses are kept only where there is room for them:
 * most calls repeat a stack whose definition is stored, and need the hash alone.
 */
static __always_inline void stack_walk(const struct proc *p, const struct stack_copy *copy,
				       const struct stack_start *from, struct walk *wk, struct stack *keep)
{
	__u64 fp = from->fp, below = from->below;
	struct frame_words w;

	wk->hash = table_mix(table_mix(0x7469646d61726bull, (__u64)p->id.image << 16 | from->site), from->leaf);
	wk->n = 1;
	wk->cut = CUT_NO_ROW;
	for (__u32 n = 1; n <= STACK_MAX_FRAMES; n++) {
		if (fp == 0) {
			wk->cut = CUT_NONE;
			return;
		}
		if (fp <= below || fp & 7 || fp - below > FRAME_SPAN_MAX)
			return;
		if (frame_read(copy, fp, &w))
			return;
		if (!is_code(p, w.return_addr))
			return;
		if (n == STACK_MAX_FRAMES) {
			wk->cut = CUT_DEPTH;
			return;
		}
		if (keep)
			keep->ip[n] = w.return_addr;
		wk->hash = table_mix(wk->hash, w.return_addr);
		wk->n = n + 1;
		below = fp;
		fp = w.next_fp;
	}
}

static __always_inline __u64 stack_id_of(__u64 hash, enum layer layer)
{
	hash &= ~STACK_ID_LAYER_MASK;
	return (hash ? hash : STACK_ID_LAYER_MASK + 1) | layer;
}

/* Stores the definition of a stack that was not seen before, from a second walk. Its id, or the layer's unknown stack. */
__noinline __u64 stack_define(struct proc *p, struct stack_start *from, __u32 layer)
{
	struct stack_copy none = {};
	struct walk wk;
	__u32 index;

	if (!p || !from)
		return layer;
	struct scratch *s = scratch_claim(&index);
	if (!s) {
		loss_count(p, LOSS_SCRATCH_BUSY);
		return layer;
	}
	struct stack *st = &s->stack;
	st->ip[0] = from->leaf + from->is_ip;
	stack_walk(p, &none, from, &wk, st);
	__u64 id = stack_id_of(wk.hash, layer);
	st->site = from->site;
	st->cut = wk.cut;
	st->n_ips = wk.n;
	st->first_seen_in = p->id;
	long err = bpf_map_update_elem(&stacks, &id, st, BPF_NOEXIST);
	scratch_release(s);
	if (err && err != ERR_EXIST) { /* -EEXIST: another CPU was first with the same stack */
		loss_count(p, LOSS_STACKS_FULL);
		return layer;
	}
	if (wk.cut == CUT_DEPTH)
		loss_count(p, LOSS_STACK_TRUNCATED);
	return id;
}

/*
 * The id of the stack that begins there; never fails: what can't be had is booked on the layer's unknown stack and counted.
 * A global function: the verifier checks it once, not once per path that calls it (as all __noinline ones here); hence the checks for NULL.
 */
__noinline __u64 stack_hash(struct proc *p, struct stack_start *from, __u32 layer)
{
	struct stack_copy copy;
	struct walk wk;

	if (!p || !from)
		return layer;
	copy.base = from->slot;
	if (!from->slot || bpf_probe_read_user(copy.word, sizeof(copy.word), (void *)from->slot)) {
		copy.base = 0;
		copy.word[0] = from->leaf;
		if (from->slot && bpf_probe_read_user(copy.word, sizeof(copy.word[0]), (void *)from->slot))
			loss_count(p, LOSS_USER_READ);
	}
	from->leaf = copy.word[0];
	stack_walk(p, &copy, from, &wk, NULL);
	return stack_id_of(wk.hash, layer);
}

static __always_inline __u64 stack_capture(struct proc *p, struct stack_start *from, __u32 layer)
{
	__u64 id = stack_hash(p, from, layer);

	return bpf_map_lookup_elem(&stacks, &id) ? id : stack_define(p, from, layer);
}

#endif
