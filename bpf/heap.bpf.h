/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state machine of allocation calls.
 *
 *      entry ---- inside another call of the same layer? ----> nothing: the outermost one counts
 *        |
 *        | remember size, stack, slot; realloc: take the old block out of `live`
 *        v
 *      in flight  --- return: result good ---> book the allocation; realloc: book the old block's free
 *        |        --- return: failed -------> realloc: put the old block back; else nothing
 *        |
 *        +--- no return comes (longjmp, the thread's end): found stale at the thread's next call or exit, put back
 *
 * Which call is "inside" which is read from the stack itself. A call is identified by the address of its return address' slot. While
 * the kernel awaits its return, that slot holds the address of the return trampoline; a call that was left by longjmp has had its slot
 * overwritten or lies below the stack pointer. So a record is alive if its slot is at or above the new call's, still holds the
 * trampoline, and the new call comes from the allocator's own code: the last because the slot of a call that was left can lie
 * untouched in a hole of a later frame. An equal slot is a tail call, if the trampoline stands there.
 *
 * Taking the block out of `live` at realloc's entry is not a free: sums do not change until the result is known. It has to leave the map
 * then because the allocator may hand its address to another thread before realloc's return is seen.
 *
 * Where calls are sampled (include/sampling.h), the entry of one that no sampling point falls into leaves at once and no return is set up.
 * A realloc of a sampled block is followed whatever becomes of the new size. A call that was left out may still make others, which must not
 * count in its place: functions that do so leave a record without a return, which is alive as long as its slot holds its return address.
 */
#ifndef TIDEMARK_BPF_HEAP_H
#define TIDEMARK_BPF_HEAP_H

#include "account.bpf.h"
#include "procs.bpf.h"
#include "hits.bpf.h"
#include "stack.bpf.h"

#define SKIP_RETURN 1 /* what a session's entry returns so that the kernel sets up no return */
#define WANT_RETURN 0

/*
 * One load per register at a constant offset: the verifier forbids computed offsets into the context, and without the barrier
 * the compiler would make one load of all of them.
 */
#define REG_CASE(id, field) \
	if (reg == REG_##id) { \
		__u64 value = ctx->field; \
		barrier_var(value); \
		return value; \
	}

static __always_inline __u64 reg_read(struct pt_regs *ctx, __u32 reg)
{
	REG_CASE(DI, di)
	REG_CASE(SI, si)
	REG_CASE(DX, dx)
	REG_CASE(CX, cx)
	REG_CASE(R8, r8)
	REG_CASE(R9, r9)
	REG_CASE(AX, ax)
	REG_CASE(BX, bx)
	REG_CASE(BP, bp)
	REG_CASE(R12, r12)
	REG_CASE(R13, r13)
	REG_CASE(R14, r14)
	REG_CASE(R15, r15)
	return 0;
}

static __always_inline struct inflight *inflight_of(struct thread_state *t, enum layer layer)
{
	return &t->call[layer == LAYER_PYTHON];
}

static __always_inline void old_put_back(struct proc *p, enum layer layer, struct inflight *c)
{
	if (!c->has_old)
		return;
	c->has_old = 0;
	if (live_has(c->old_key)) { /* its address was taken again: it did go */
		book_free(p, layer, &c->old);
	} else if (!live_put(c->old_key, &c->old)) { /* no room any more: nobody will see its free */
		book_untracked(p, layer, &c->old);
		loss_count(p, LOSS_LIVE_FULL);
	}
}

/* Did the allocator's own code make this call? A tail call has the trampoline as its caller. */
static __always_inline int is_inner_caller(const struct inflight *c, __u64 caller, __u64 trampoline)
{
	return (caller >= c->code_start && caller < c->code_end) || caller == trampoline;
}

/*
 * Where calls from inside came from while the outer one's return was awaited, which proves them to be such: from which function into which, how far down
 * the stack, and where in its page the caller stands, which is the same in every process. A function's frame has one size at one place.
 */
#define INNER_PLACES 512 /* a power of two; one that was pushed out is learnt again */
__u64 inner_places[INNER_PLACES];

static __always_inline __u64 inner_place(const struct inflight *c, __u64 slot, __u16 site, __u64 caller)
{
	return table_mix(table_mix(c->slot - slot, (__u64)c->site << 16 | site), caller & 0xfff);
}

static __always_inline void inner_learn(const struct inflight *c, __u64 slot, __u16 site, __u64 caller)
{
	__u64 place = inner_place(c, slot, site, caller), *at = &inner_places[place & (INNER_PLACES - 1)];

	if (*at != place)
		*at = place;
}

static __always_inline int inner_is_known(const struct inflight *c, __u64 slot, __u16 site, __u64 caller)
{
	__u64 place = inner_place(c, slot, site, caller);

	return inner_places[place & (INNER_PLACES - 1)] == place;
}

/*
 * The same for a record without a return. Nothing tells when that call is over, and its return address may stand for long in a hole of a later
 * frame. So the slot must hold it, and a call from inside come from where such were seen to come from; until one was, it counts by itself. Where returns
 * come for all calls (no sessions), the slot holds the trampoline, and the record goes with the return. A jump from it has the slot itself, and is
 * another function's; the same function there is the next call.
 */
static __always_inline int is_in_skipped(struct inflight *c, __u64 slot, __u16 site, __u64 trampoline)
{
	__u64 word = 0, caller = 0;

	if (slot == c->slot && site != c->site && !bpf_probe_read_user(&word, sizeof(word), (void *)slot) &&
	    (word == c->caller || word == trampoline))
		return 1;
	if (slot < c->slot && !bpf_probe_read_user(&caller, sizeof(caller), (void *)slot) && caller >= c->code_start &&
	    caller < c->code_end && !bpf_probe_read_user(&word, sizeof(word), (void *)c->slot) &&
	    (word == c->caller ? inner_is_known(c, slot, site, caller) : word == trampoline))
		return 1;
	c->slot = 0;
	c->is_skipped = 0;
	return 0;
}

/* Is a call of this layer under way that encloses the one whose slot is given? Clears a stale record. */
static __always_inline int is_nested(struct proc *p, struct thread_state *t, const struct call_cookie *k, __u64 slot)
{
	enum layer layer = k->layer;
	struct inflight *c = inflight_of(t, layer);
	__u64 word = 0, caller = 0, trampoline;

	if (!c->slot)
		return 0;
	trampoline = trampoline_of(t, p->id.image);
	if (c->is_skipped)
		return is_in_skipped(c, slot, k->site, trampoline);
	if (slot <= c->slot && !bpf_probe_read_user(&word, sizeof(word), (void *)c->slot) && word == trampoline &&
	    !bpf_probe_read_user(&caller, sizeof(caller), (void *)slot) && is_inner_caller(c, caller, trampoline)) {
		if (p->rate && slot < c->slot)
			inner_learn(c, slot, k->site, caller);
		return 1;
	}
	c->slot = 0;
	old_put_back(p, layer, c);
	loss_count(p, LOSS_MISSED_RETURN);
	return 0;
}

/* Does this call come from inside the wrapper that was entered last? By a call its caller tells, by a jump its slot and what stands there. */
static __always_inline int is_wrapped(const struct wrap *w, __u64 slot, __u64 caller)
{
	return w->slot && ((slot == w->inner_slot && caller == w->inner_caller) || caller - w->code < w->code_bytes);
}

/* A product that overflows is a size that no allocator has: the call will fail, and must not look like one for 0 bytes. */
static __always_inline __u64 call_bytes(struct pt_regs *ctx, const struct call_cookie *k)
{
	__u64 bytes = reg_read(ctx, k->size_reg);

	if (k->count_reg == REG_NONE)
		return bytes;
	__u64 n = reg_read(ctx, k->count_reg);
	__u64 most = n ? ~0ull / n : ~0ull;
	barrier_var(most); /* or the compiler makes a 128-bit product of it, which BPF has not */
	return bytes > most ? ~0ull : n * bytes;
}

/* User space is told once that the process used up what it was allowed. */
__noinline int hits_spent(struct proc *p)
{
	if (!p || __sync_val_compare_and_swap(&p->spent, 0, 1) != 0)
		return 0;
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		p->spent = 0; /* tried again at the next step */
		return 0;
	}
	e->kind = EVENT_SPENT;
	e->tid = 0;
	e->account = p->account;
	e->other_account = 0;
	e->id = p->id;
	e->ts_ns = bpf_ktime_get_ns();
	__builtin_memset(&e->map, 0, sizeof(e->map));
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* Threads count by themselves: one word that all of them write at each hit would cost as much as the rest of it. */
static __always_inline void hit_count(struct proc *p, struct thread_state *t)
{
	if (++t->hits & (HITS_STEP - 1))
		return;
	__u64 now = __sync_fetch_and_add(&p->hits, HITS_STEP) + HITS_STEP;
	if (p->hits_limit && now > p->hits_limit && !p->spent)
		(void)hits_spent(p);
}

static __always_inline int is_observed(const struct proc *p, enum layer layer)
{
	return (p->flags & (layer == LAYER_PYTHON ? PROC_PYTHON : PROC_HEAP)) != 0;
}

/* The thread's state is made at its first call. NULL: none to be had. */
static __always_inline struct thread_state *thread_make(struct proc *p, struct thread_state *t)
{
	if (t)
		return t;
	t = thread_get(BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t)
		return NULL;
	t->account = p->account;
	t->scope = scope;
	return t;
}

/* Where a call is lost without one: that is counted. */
static __always_inline struct thread_state *thread_need(struct proc *p, struct thread_state *t)
{
	t = thread_make(p, t);
	if (!t)
		loss_count(p, LOSS_THREAD_STATE);
	return t;
}

/* The process whose heap or Python call this is, NULL if that layer of it is not observed. */
static __always_inline struct proc *heap_hit(struct thread_state **ret, enum layer layer)
{
	struct proc *p = proc_current(ret);
	__u32 zero = 0;

	if (p && is_observed(p, layer)) {
		*ret = thread_make(p, *ret); /* one that only frees is paid for, too */
		if (*ret)
			hit_count(p, *ret);
		return p;
	}
	struct cpu_stat *st = bpf_map_lookup_elem(&cpu_stats, &zero);
	if (st)
		st->foreign_hits++;
	return NULL;
}

/* The sum on which a call is booked. Most calls repeat a stack that the thread booked on lately. */
static __always_inline __u32 sum_of_stack(struct pt_regs *ctx, struct proc *p, struct thread_state *t,
					  struct stack_start *from, enum layer layer)
{
	struct stack_ids *ids = &t->ids;

	stack_take(p, t, from, layer, ids);
	if (cfg.record_hits && hit_is_due())
		hit_record(ctx, t, ids->native);
	struct recent_sum *r = &t->recent[(ids->id >> 8) & (RECENT_SUMS - 1)];
	if (r->stack_id == ids->id && r->account == p->account)
		return r->sum;
	__u32 sum = sum_get(p->account, ids);
	if (sum == NO_SUM) {
		loss_count(p, LOSS_SUMS_FULL);
		return sum;
	}
	r->stack_id = ids->id;
	r->sum = sum;
	r->account = p->account;
	return sum;
}

/* Takes the block that a realloc resizes out of `live`. Calls without an old block: nothing. */
static __always_inline void old_take(struct proc *p, enum layer layer, struct inflight *c)
{
	c->has_old = 0;
	if (!c->ptr || (c->shape != SHAPE_PTR_SIZE_TO_PTR && c->shape != SHAPE_PTR_N_SIZE_TO_PTR))
		return;
	c->old_key = live_key(c->ptr, layer, p->account);
	c->has_old = !is_not_live(p, c->old_key) && live_take(c->old_key, &c->old);
}

/*
 * An exception that leaves a function whose return address is the kernel's trampoline ends the program. Functions that throw when
 * memory runs out are followed to their return only while they can't: for sizes that a machine has, in processes without a tighter limit.
 */
#define THROWS_FROM_BYTES (64ull << 20)

static __always_inline int is_return_unsafe(const struct proc *p, const struct call_cookie *k, __u64 bytes)
{
	if (p->flags & PROC_NO_RETURN)
		return 1;
	return k->may_throw && (bytes >= THROWS_FROM_BYTES || p->flags & PROC_TIGHT);
}

/* Does the call come from the allocator's library itself? Of a program that holds its allocator nothing can be said. */
static __always_inline int is_own_code(const struct pt_regs *ctx, const struct call_cookie *k, __u64 caller)
{
	__u64 start = ctx->ip - (__u64)(k->extent & 0xff) * NEAR_UNIT,
	      end = ctx->ip + (__u64)(k->extent >> 8) * NEAR_UNIT;

	return k->library && caller >= start && caller < end;
}

/* A call whose result can't be seen is taken to succeed, if a machine can have that much; it is counted, and its block not tracked. */
static __always_inline void unseen_call(struct pt_regs *ctx, struct proc *p, const struct call_cookie *k,
					struct inflight *c, __u64 bytes, __u64 slot, __u64 caller)
{
	/* Without a record that is alive, only code tells of a call from inside, and only another function at one place of a jump. */
	if (is_own_code(ctx, k, caller) || (slot == c->unseen_slot && caller == c->caller && k->site != c->site))
		return;
	c->unseen_slot = slot;
	c->caller = caller;
	c->site = k->site;
	loss_count(p, LOSS_RETURN_UNSAFE);
	/* One that may throw for want of memory is likely to: what isn't known to exist isn't counted. */
	if (k->may_throw || bytes >= USER_ADDR_MAX)
		return;
	c->ptr = k->ptr_reg == REG_NONE ? 0 : reg_read(ctx, k->ptr_reg);
	c->shape = k->shape;
	old_take(p, k->layer, c);
	if (c->has_old)
		book_free(p, k->layer, &c->old);
	c->has_old = 0;
	if (c->is_counted && (bytes || !c->ptr)) /* realloc(p, 0) only frees */
		book_alloc(p, LAYER_AT_RATE(k->layer, c->rate), 0, bytes, c->sum);
}

/* Where a probed function was called from; the window is open then. */
static __always_inline __u64 caller_read(__u64 sp, struct proc *p, struct thread_state *t, __u64 slot)
{
	__u64 caller = 0;

	window_open(t, sp);
	if (word_at(t, slot, &caller))
		loss_count(p, LOSS_USER_READ);
	return caller;
}

static __always_inline struct stack_start *heap_start(struct thread_state *t, const struct pt_regs *ctx,
						      const struct call_cookie *k, __u64 slot, __u64 caller)
{
	struct stack_start *from = &t->start;

	from->pc = ctx->ip;
	from->sp = ctx->sp;
	from->bp = ctx->bp;
	from->slot = slot;
	from->caller = caller;
	from->site = k->site;
	return from;
}

/* Does a sampling point fall into these bytes? A rate of 0 counts every call. */
static __always_inline int is_sampled(struct thread_state *t, __u32 rate, __u64 bytes)
{
	if (!rate)
		return 1;
	if (t->left_rate != rate) {
		t->left_rate = rate;
		t->left = sample_distance(&sampling, cfg.sample_bytes, rate, bpf_get_prandom_u32());
	}
	if (!bytes)
		bytes = 1; /* blocks of no bytes are counted too */
	if (t->left > bytes) {
		t->left -= bytes;
		return 0;
	}
	t->left = sample_distance(&sampling, cfg.sample_bytes, rate, bpf_get_prandom_u32());
	return 1;
}

/* Allocations are counted in windows; frees always. Asked of sampled calls only. */
static __always_inline int is_window_open(const struct proc *p)
{
	return p->window_end_ns == WINDOW_ALWAYS || bpf_ktime_get_ns() < p->window_end_ns;
}

static __always_inline __u64 word_of(__u64 addr)
{
	__u64 word = 0;

	(void)bpf_probe_read_user(&word, sizeof(word),
				  (void *)addr); /* unreadable: no place that code is called from */
	return word;
}

static __always_inline void call_extent(struct inflight *c, const struct pt_regs *ctx, const struct call_cookie *k)
{
	/* Between two domains of Python's may stand hooks of any library. Nothing leaves those calls but by returning. */
	c->code_start = k->layer == LAYER_PYTHON ? 0 : ctx->ip - (__u64)(k->extent & 0xff) * NEAR_UNIT;
	c->code_end = k->layer == LAYER_PYTHON ? ~0ull : ctx->ip + (__u64)(k->extent >> 8) * NEAR_UNIT;
	c->site = k->site;
	c->shape = k->shape;
}

/* Not sampled: what remains to be done. Is its return needed? */
static __always_inline int left_out(struct pt_regs *ctx, struct proc *p, struct thread_state *t,
				    const struct call_cookie *k, __u64 slot)
{
	struct inflight *c = inflight_of(t, k->layer);

	if (!k->may_nest)
		return SKIP_RETURN;
	__u64 caller = word_of(slot);
	c->is_counted = 0;
	c->bytes = call_bytes(ctx, k);
	if (is_return_unsafe(p, k, c->bytes)) { /* looks at the call before, too */
		unseen_call(ctx, p, k, c, c->bytes, slot, caller);
		return SKIP_RETURN;
	}
	call_extent(c, ctx, k);
	c->caller = caller;
	c->ptr = k->ptr_reg == REG_NONE ? 0 : reg_read(ctx, k->ptr_reg);
	old_take(p, k->layer, c);
	c->is_skipped = !c->has_old;
	c->slot = slot;
	return c->has_old ? WANT_RETURN : SKIP_RETURN;
}

/* A wrapper that was entered has decided for the call that it makes. 0: the call is not from one. */
static __always_inline int from_wrapper(struct thread_state *t, struct inflight *c, __u64 slot, __u64 *bytes)
{
	struct wrap *w = &t->wrap;

	if (!w->slot || !is_wrapped(w, slot, word_of(slot)))
		return 0;
	*bytes = w->bytes;
	c->sum = w->sum;
	c->rate = w->rate;
	c->is_counted = w->is_counted;
	w->slot = 0;
	return 1;
}

static __always_inline int alloc_enter(struct pt_regs *ctx, const struct call_cookie *k)
{
	enum layer layer = k->layer;
	struct thread_state *t;
	struct proc *p = heap_hit(&t, layer);

	if (!p || !(t = thread_need(p, t)))
		return SKIP_RETURN;
	__u64 sp = ctx->sp, slot = sp + k->slot_words * 8;
	if (is_nested(p, t, k, slot))
		return SKIP_RETURN;

	__u64 bytes = call_bytes(ctx, k);
	__u32 rate = p->rate;
	struct inflight *c = inflight_of(t, layer);
	int wrapped = from_wrapper(t, c, slot, &bytes);
	if (wrapped ? !c->is_counted : !is_sampled(t, rate, bytes) || !is_window_open(p))
		return left_out(ctx, p, t, k, slot);
	__u64 caller = caller_read(sp, p, t, slot);
	if (!wrapped) {
		c->sum = sum_of_stack(ctx, p, t, heap_start(t, ctx, k, slot, caller), layer);
		c->rate = (__u8)rate;
		c->is_counted = 1;
	}
	if (rate)
		__sync_fetch_and_add(&p->sampled, 1);
	if (is_return_unsafe(p, k, bytes)) {
		unseen_call(ctx, p, k, c, bytes, slot, caller);
		return SKIP_RETURN;
	}
	c->bytes = bytes;
	call_extent(c, ctx, k);
	c->ptr = k->ptr_reg == REG_NONE ? 0 : reg_read(ctx, k->ptr_reg);
	old_take(p, layer, c);
	c->caller = caller;
	c->is_skipped = 0;
	c->slot = slot;
	return WANT_RETURN;
}

/* The address that the call gave, 0 if it failed. */
static __always_inline __u64 result_of(__u64 ax, struct proc *p, const struct inflight *c)
{
	__u64 addr = 0;

	if (c->shape != SHAPE_OUT_ALIGN_SIZE_TO_INT)
		return ax;
	if ((__u32)ax == 0 && bpf_probe_read_user(&addr, sizeof(addr), (void *)c->ptr))
		loss_count(p, LOSS_USER_READ);
	return addr;
}

static __always_inline void realloc_settle(struct proc *p, enum layer layer, struct inflight *c, __u64 addr)
{
	if (!addr && c->bytes) { /* failed: the old block lives on */
		old_put_back(p, layer, c);
		return;
	}
	if (c->has_old)
		book_free(p, layer, &c->old);
	else if (!c->rate && !p->rate) /* else it was most likely not sampled */
		loss_count(p, LOSS_UNMATCHED_FREE);
	c->has_old = 0;
}

static __always_inline void alloc_exit(struct pt_regs *ctx, const struct call_cookie *k)
{
	enum layer layer = k->layer;
	__u64 ax = reg_read(ctx, REG_AX);
	struct thread_state *t;
	struct proc *p = proc_current(&t);

	if (!t)
		return;
	if (p && is_observed(p, layer) && !(++t->returns & (HITS_STEP - 1)))
		__sync_fetch_and_add(&p->returns, HITS_STEP);
	struct inflight *c = inflight_of(t, layer);
	/* After the return the stack pointer stands just above the slot. Anything else is an inner call. */
	if (!c->slot || ctx->sp != c->slot + 8 || c->site != k->site)
		return;
	c->slot = 0;
	if (!p || c->is_skipped)
		return;
	__u64 addr = result_of(ax, p, c);
	if (c->ptr && c->shape != SHAPE_OUT_ALIGN_SIZE_TO_INT)
		realloc_settle(p, layer, c, addr);
	if (addr && c->is_counted)
		book_alloc(p, LAYER_AT_RATE(layer, c->rate), addr, c->bytes, c->sum);
}

/*
 * A free of a block that is not live changes nothing, wherever it comes from, unless it shows that a call is gone whose return was awaited. Which call it comes
 * from would be read from the stack, and one word of that is as much as half of the rest.
 */
static __always_inline int pass_unsampled(struct inflight *c, __u64 slot)
{
	if (c->slot && !c->is_skipped)
		return 0;
	if (slot >= c->slot) /* from further out, or in place of it: that call is over */
		c->slot = c->is_skipped = 0;
	return 1;
}

static __always_inline void free_enter(struct pt_regs *ctx, const struct call_cookie *k)
{
	enum layer layer = k->layer;
	__u64 addr = reg_read(ctx, k->ptr_reg);

	if (!addr)
		return;
	struct thread_state *t;
	struct proc *p = heap_hit(&t, layer);
	if (!p)
		return;
	__u64 key = live_key(addr, layer, p->account), slot = ctx->sp + k->slot_words * 8, caller = 0;
	if (t && is_not_live(p, key) && pass_unsampled(inflight_of(t, layer), slot))
		return;
	/* A call that was left out frees nothing that is live: else it would be followed. */
	if (t && is_nested(p, t, k, slot) && !inflight_of(t, layer)->is_skipped)
		return;
	struct live_block b;
	if (live_take(key, &b)) {
		book_free(p, layer, &b);
		return;
	}
	if (p->rate)
		return;
	/* glibc gives the blocks that a thread kept back to itself when the thread ends: they were freed before. */
	(void)bpf_probe_read_user(&caller, sizeof(caller), (void *)slot); /* unreadable: counted */
	if (!is_own_code(ctx, k, caller))
		loss_count(p, LOSS_UNMATCHED_FREE);
}

/* operator new and its kin: remember where they were called from; the allocation follows from inside. */
static __always_inline void wrap_enter(struct pt_regs *ctx, const struct call_cookie *k)
{
	enum layer layer = k->layer;
	struct thread_state *t;
	struct proc *p = heap_hit(&t, layer);
	__u64 sp = ctx->sp, slot = sp + k->slot_words * 8;

	if (!p || !(t = thread_need(p, t)))
		return;
	if (is_nested(p, t, k, slot))
		return;
	__u32 rate = p->rate;
	__u64 caller = rate ? word_of(slot) : caller_read(sp, p, t, slot);
	/* One wrapper calls or jumps to another: the outer one named the stack, the inner one will make the call. */
	int inner = is_wrapped(&t->wrap, slot, caller), again = inner && slot == t->wrap.slot;
	t->wrap.inner_slot = slot;
	t->wrap.inner_caller = caller;
	t->wrap.code = ctx->ip;
	t->wrap.code_bytes = k->extent;
	/* At the outermost's own slot: a jump from it with the same size, or the same call once more after a mark that was never used. */
	if (again)
		t->wrap.bytes = reg_read(ctx, k->size_reg);
	if (inner)
		return;
	t->wrap.bytes = reg_read(ctx, k->size_reg);
	t->wrap.rate = (__u8)rate;
	t->wrap.is_counted = is_sampled(t, t->wrap.rate, t->wrap.bytes) && is_window_open(p);
	t->wrap.slot = slot;
	if (!t->wrap.is_counted)
		return;
	if (t->wrap.rate)
		(void)caller_read(sp, p, t, slot); /* opens the window on the stack */
	t->wrap.sum = sum_of_stack(ctx, p, t, heap_start(t, ctx, k, slot, caller), layer);
}

/* A thread ends or becomes another program, maybe inside a call. */
static __always_inline void thread_gone(struct task_struct *task)
{
	struct thread_state *t = bpf_task_storage_get(&threads, task, 0, 0);
	__u32 slot = t ? proc_find(BPF_CORE_READ(task, tgid)) : NO_SLOT;
	struct proc *p = slot == NO_SLOT ? NULL : proc_booked(proc_at(slot));

	if (!t || !p)
		return;
	/* What the steps left over: a thread of few calls would count for none. */
	__sync_fetch_and_add(&p->hits, t->hits & (HITS_STEP - 1));
	__sync_fetch_and_add(&p->returns, t->returns & (HITS_STEP - 1));
	t->hits = t->returns = 0;
	for (int i = 0; i < TRACKED_LAYERS; i++) {
		if (!t->call[i].is_skipped)
			old_put_back(p, LAYER_HEAP + i, &t->call[i]);
		t->call[i].slot = 0;
	}
	t->wrap.slot = 0; /* its sum is the old image's */
}

#endif
