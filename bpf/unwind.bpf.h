/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native unwinder: from the registers of a hit to the thread's start, by rules that user space compiled from .eh_frame.
 *
 *	      pc ------------> which rule holds there?     ranges -> pages -> row_blocks -> rules   (include/unwind.h)
 *	       ^                     |
 *	       |                     v
 *	  return address  <---  CFA = rsp or rbp + offset; saved rbp
 *
 * The frame of the hit is looked up at its exact instruction, because the probe may sit behind a push; so is one that a signal interrupted.
 * All others are looked up one byte before their return address, where the call is: behind a call that never returns another function begins.
 *
 * The stack is read through a window of 4 KiB that moves outwards with the frames. Before unwinding, a stack that the thread showed
 * lately is compared with the window (state.bpf.h, struct remembered): most hits end there.
 *
 * Ends: a rule that says that the return address is undefined (_start, clone), a return address of 0, or, in code without rows, a frame pointer of
 * 0 are the thread's start. Everything else cuts the stack, and says why.
 *
 * Each step is a global function of its own: the verifier checks it once, whatever the number of frames, and no bpf_loop is needed.
 */
#ifndef TIDEMARK_BPF_UNWIND_H
#define TIDEMARK_BPF_UNWIND_H

#include "loss.bpf.h"

#define USER_ADDR_MAX 0x7ffffffff000ull
#define FRAME_SPAN_MAX (1ull << 24) /* a single frame larger than 16 MiB is no frame */
#define STACK_SPAN_MAX (1ull << 32)
#define RETURN_DEPTH_MAX 64 /* kernel/events/uprobes.c: MAX_URETPROBE_DEPTH */
#define ROW_STEPS 16	    /* of a search among at most BLOCK_ROWS */
#define RANGE_STEPS 11	    /* of a search among at most PROCESS_RANGES_MAX */
#define PAGE_BYTES 4096ull

/* arch/x86/include/uapi/asm/sigcontext.h, include/uapi/asm-generic/ucontext.h: offsets in struct ucontext. */
#define UCONTEXT_BP 120
#define UCONTEXT_SP 160
#define UCONTEXT_IP 168

/* --- the window --- */

/* As much as is wanted, or there is up to the stack's end; where that is not known, up to the page's end. */
__noinline int window_load(struct thread_state *t, __u64 base)
{
	if (!t)
		return -1;
	__u64 bytes = t->stack_end - base, most = t->window_want ? t->window_want : WINDOW_BYTES;

	if (t->stack_end <= base || bytes > most)
		bytes = most;
	barrier_var(bytes); /* the verifier wants to see the bound at the call */
	if (!bytes || bytes > WINDOW_BYTES)
		return -1;
	t->window_base = base;
	t->window_bytes = bytes;
	if (!bpf_probe_read_user(t->window, bytes, (void *)base))
		return 0;
	bytes = PAGE_BYTES - (base & (PAGE_BYTES - 1));
	barrier_var(bytes);
	if (!bytes || bytes > WINDOW_BYTES)
		return -1;
	t->window_bytes = bytes;
	if (!bpf_probe_read_user(t->window, bytes, (void *)base))
		return 0;
	t->window_bytes = 0;
	return -1;
}

static __always_inline int word_at(struct thread_state *t, __u64 addr, __u64 *ret)
{
	__u64 at = addr - t->window_base;

	if (addr & 7)
		return -1;
	if (at >= t->window_bytes) {
		if (window_load(t, addr))
			return -1;
		at = 0;
	}
	*ret = t->window[(at >> 3) & (WINDOW_WORDS - 1)];
	return 0;
}

/*
 * Where the stack that the thread is on ends: the main thread's at its first frame, others' below their control block, which glibc and musl
 * put at the top of the memory that they map for the stack. A guess for the window only: what lies outside is read page by page.
 */
static __always_inline void stack_end_guess(struct thread_state *t, __u64 sp)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 main_end = task->mm->start_stack,
	      block = task->thread.fsbase; /* plain loads: a helper call per hop costs more than the guess is worth */

	if (sp < main_end && main_end - sp < STACK_SPAN_MAX)
		t->stack_end = (main_end + 8) & ~7ull;
	else if (sp < block && block - sp < STACK_SPAN_MAX)
		t->stack_end = block & ~7ull;
	else
		t->stack_end = 0;
}

/* The window begins at the stack pointer. What can't be read shows at the first word that is wanted. */
static __always_inline void window_open(struct thread_state *t, __u64 sp)
{
	stack_end_guess(t, sp);
	t->window_bytes = 0;
	t->window_want = t->window_reach;
	(void)window_load(t, sp & ~7ull);
	t->window_want = 0; /* who comes to its end wants more than most */
}

/*
 * How far the stacks of a thread reach is much the same from one to the next, and what is not copied costs nothing: up for the first stack that
 * reaches further, down slowly.
 */
static __always_inline void window_learn(struct thread_state *t, __u64 reach)
{
	__u32 want = reach < WINDOW_BYTES - WINDOW_STEP ? (__u32)(reach + WINDOW_STEP) & ~(WINDOW_STEP - 1)
							: WINDOW_BYTES;

	if (want >= t->window_reach || !t->window_reach)
		t->window_reach = want;
	else if (++t->window_shorter >= WINDOW_PATIENCE) {
		t->window_reach -= WINDOW_STEP;
		t->window_shorter = 0;
	}
}

/* --- which rule --- */

/* Index plus one of the range that holds an address; 0: none. */
__noinline __u32 range_find(__u64 layout, __u64 addr)
{
	__u32 first = layout_first(layout), lo = 0, hi = layout_n(layout);

	NO_UNROLL
	for (int i = 0; i < RANGE_STEPS; i++) {
		if (lo >= hi)
			break;
		__u32 mid = (lo + hi) / 2, at = first + mid;
		struct unwind_range *r = bpf_map_lookup_elem(&ranges, &at);
		if (!r)
			return 0;
		if (r->start <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? first + lo : 0;
}

/*
 * Rules found lately: return addresses are few, and a search is most of a frame's cost. A word is the linked address among all pages, the rule, and that
 * there is something; files' rows stay as they are, so it holds for good.
 */
#define FOUND_ROWS_BITS 14
__u64 found_rows[1 << FOUND_ROWS_BITS];

static __always_inline __u64 *found_row(__u32 address)
{
	return &found_rows[(address * 0x9e3779b1u >> (32 - FOUND_ROWS_BITS)) & ((1 << FOUND_ROWS_BITS) - 1)];
}

static __always_inline __u64 found_pack(__u32 address, __u32 rule)
{
	return (__u64)address << 32 | rule << 1 | 1;
}

/* The rule's number that holds at a linked address; UNWIND_RULE_NONE: none. */
static __always_inline __u32 row_search(__u32 at, __u32 low)
{
	__u32 zero = 0;
	struct unwind_page *pg = bpf_map_lookup_elem(&pages, &at);

	if (!pg || !pg->n)
		return UNWIND_RULE_NONE;
	__u32 block = pg->first >> BLOCK_ROWS_SHIFT, first = pg->first & (BLOCK_ROWS - 1), lo = 0, hi = pg->n;
	__u32 most = low << ROW_LOW_SHIFT | 0xffff, found = UNWIND_RULE_NONE;
	struct row_block_map *inner = bpf_map_lookup_elem(&row_blocks, &block);
	if (!inner)
		return UNWIND_RULE_NONE;
	struct row_block *rows = bpf_map_lookup_elem(inner, &zero);
	if (!rows)
		return UNWIND_RULE_NONE;
	NO_UNROLL
	for (int i = 0; i < ROW_STEPS; i++) {
		if (lo >= hi)
			break;
		__u32 mid = (lo + hi) / 2, row = rows->row[(first + mid) & (BLOCK_ROWS - 1)];
		if (row <= most) {
			lo = mid + 1;
			found = row & 0xffff;
		} else {
			hi = mid;
		}
	}
	return found;
}

__noinline __u32 row_find(__u32 page, __u64 vaddr)
{
	__u32 at = page + (__u32)(vaddr >> ROW_PAGE_SHIFT), low = (__u16)vaddr, address = at << ROW_PAGE_SHIFT | low;

	if (at >= UNWIND_PAGES)
		return UNWIND_RULE_NONE;
	__u64 *known = found_row(address), word = *(volatile __u64 *)known; /* once: another CPU may write it */
	if (word >> 32 == address && word & 1)
		return (word >> 1) & 0xffff;
	__u32 rule = row_search(at, low);
	if (rule != UNWIND_RULE_NONE)
		*known = found_pack(address, rule);
	return rule;
}

/* Finds the mapping of an address, most often the one of the frame before. 0, or -1: in none that is known. */
static __always_inline int unwind_place(struct unwind *u, __u64 layout, __u64 addr)
{
	if (addr - u->range_start < u->range_bytes)
		return 0;
	__u32 index = range_find(layout, addr);
	if (!index)
		return -1;
	index--;
	struct unwind_range *r = bpf_map_lookup_elem(&ranges, &index);
	if (!r || addr - r->start >= r->end - r->start)
		return -1;
	u->range_start = r->start;
	u->range_bytes = r->end - r->start;
	u->bias = r->bias;
	u->page = r->page;
	return 0;
}

/* --- remembering --- */

static __always_inline void slot_note(struct thread_state *t, __u64 addr, __u32 kind)
{
	struct unwind *u = &t->unwind;
	__u64 words = (addr - u->start_sp) >> 3;
	__u32 n = u->n_slots, index = u->remember;

	struct remembered *r = bpf_map_lookup_elem(&seen_stacks, &index);

	if (words > REMEMBER_REACH || n >= REMEMBERED_SLOTS || !r) {
		u->forgettable = 1;
		return;
	}
	r->slot[n] = (__u16)words | kind;
	u->hash = table_mix(u->hash, (__u16)words | kind);
	u->n_slots = n + 1;
}

static __always_inline void check_note(struct thread_state *t, __u64 addr, __u64 word)
{
	slot_note(t, addr, REMEMBER_CHECK);
	t->unwind.check = table_mix(t->unwind.check, word - t->unwind.start_sp);
}

/* A rule used rbp: what it was has to be the same for the stack to be the same. */
static __always_inline int bp_use(struct thread_state *t)
{
	struct unwind *u = &t->unwind;

	if (u->bp_lost)
		return -1;
	if (u->bp_noted)
		return 0;
	u->bp_noted = 1;
	if (u->bp_slot) {
		check_note(t, u->bp_slot, u->bp);
	} else {
		u->bp_at_hit = 1;
	}
	return 0;
}

/* --- one step --- */

static __always_inline int unwind_cut(struct unwind *u, enum stack_cut why)
{
	u->cut = why;
	return 0;
}

/*
 * The return address that a return probe hides (of ours or of any other tool): the kernel keeps it with the address of its slot. Slots
 * rise as frames do, so the list is walked once for all frames.
 */
__noinline int trampoline_recover(struct thread_state *t, __u64 slot)
{
	if (!t)
		return -1;
	struct task_struct *task = bpf_get_current_task_btf();
	struct return_instance *ri = (struct return_instance *)t->unwind.instance;

	t->unwind.forgettable = 1;
	if (!ri)
		ri = BPF_CORE_READ(task, utask, return_instances);
	NO_UNROLL
	for (int i = 0; i < RETURN_DEPTH_MAX; i++) {
		if (!ri)
			break;
		t->unwind.instance = (__u64)ri;
		if (BPF_CORE_READ(ri, stack) == slot) {
			t->unwind.pc = BPF_CORE_READ(ri, orig_ret_vaddr);
			return 0;
		}
		ri = BPF_CORE_READ(ri, next);
	}
	return -1;
}

/* The frame is left: its return address becomes pc. 1: go on, 0: it ended. */
static __always_inline int unwind_leave(struct thread_state *t, __u64 cfa)
{
	struct unwind *u = &t->unwind;
	__u64 ret, slot = cfa - 8;

	if (cfa & 7 || cfa <= u->sp || cfa - u->sp > FRAME_SPAN_MAX || word_at(t, slot, &ret))
		return unwind_cut(u, CUT_MEMORY);
	slot_note(t, slot, 0);
	u->sp = cfa;
	u->pc = ret;
	u->exact = 0;
	if (ret == t->trampoline && ret && trampoline_recover(t, slot))
		return unwind_cut(u, CUT_MEMORY);
	u->hash = table_mix(u->hash, u->pc);
	if (!u->pc)
		return unwind_cut(u, CUT_NONE);
	return u->pc < USER_ADDR_MAX ? 1 : unwind_cut(u, CUT_MEMORY);
}

/* Code without rows: the caller's frame pointer and the return address stand where rbp points to. */
static __always_inline int unwind_by_fp(struct thread_state *t, __u64 layout)
{
	struct unwind *u = &t->unwind;
	__u64 fp = u->bp, next;

	if (bp_use(t))
		return unwind_cut(u, CUT_NO_ROW);
	if (!fp)
		return unwind_cut(u, CUT_NONE);
	if (fp < u->sp || fp & 7 || fp - u->sp > FRAME_SPAN_MAX || word_at(t, fp, &next))
		return unwind_cut(u, CUT_NO_ROW);
	u->bp = next;
	u->bp_slot = fp;
	u->bp_noted = 0;
	if (!unwind_leave(t, fp + 16))
		return 0;
	/* Any word could have stood there: it is a return address only if it leads to code. */
	return unwind_place(u, layout, u->pc - 1) ? unwind_cut(u, CUT_NO_ROW) : 1;
}

/* Behind the kernel's signal frame goes on what the signal interrupted. */
static __always_inline int unwind_signal(struct thread_state *t)
{
	struct unwind *u = &t->unwind;
	__u64 context = u->sp, bp, sp, pc;

	u->forgettable = 1;
	if (word_at(t, context + UCONTEXT_BP, &bp) || word_at(t, context + UCONTEXT_SP, &sp) ||
	    word_at(t, context + UCONTEXT_IP, &pc))
		return unwind_cut(u, CUT_MEMORY);
	u->hash = table_mix(u->hash, pc);
	u->bp = bp;
	u->bp_slot = context + UCONTEXT_BP;
	u->bp_lost = 0;
	u->sp = sp;
	u->pc = pc;
	u->exact = 1;
	t->stack_end = 0; /* the handler may have had a stack of its own */
	return pc && pc < USER_ADDR_MAX ? 1 : unwind_cut(u, CUT_MEMORY);
}

/* The CFA by a rule; 0: it can't be had. */
static __always_inline __u64 unwind_cfa(struct thread_state *t, const struct unwind_rule *r, __u64 pc)
{
	struct unwind *u = &t->unwind;
	__u64 at = u->sp, word;

	if (r->kind == UNWIND_PLT)
		return u->sp + 8 + ((pc & 15) >= (__u32)r->cfa_off ? 8 : 0);
	if (r->kind == UNWIND_BP || r->kind == UNWIND_BP_DEREF) {
		if (bp_use(t))
			return 0;
		at = u->bp;
	}
	at += (__s64)r->cfa_off;
	if (r->kind == UNWIND_SP || r->kind == UNWIND_BP)
		return at;
	if (word_at(t, at, &word))
		return 0;
	check_note(t, at, word);
	return word + (__s64)r->cfa_add;
}

/* The caller's rbp. It is read when it is passed, while the window is there. */
static __always_inline void unwind_bp(struct thread_state *t, const struct unwind_rule *r, __u64 cfa)
{
	struct unwind *u = &t->unwind;
	__u64 at = (r->bp == UNWIND_BP_AT_CFA ? cfa : u->bp) + (__s64)r->bp_off;

	if (r->bp == UNWIND_BP_SAME)
		return;
	u->bp_lost = r->bp == UNWIND_BP_LOST || (r->bp == UNWIND_BP_AT_BP && bp_use(t));
	if (!u->bp_lost && word_at(t, at, &u->bp))
		u->bp_lost = u->forgettable = 1; /* it may be in memory the next time */
	u->bp_slot = at;
	u->bp_noted = 0;
}

/* Tells user space of code that it does not know, once until it has looked. */
static __always_inline void layout_ask(struct proc *p, __u64 addr)
{
	if (p->layout_asked || __sync_val_compare_and_swap(&p->layout_asked, 0, 1) != 0)
		return;
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		loss_count(p, LOSS_RING_FULL);
		p->layout_asked = 0;
		return;
	}
	e->kind = EVENT_LAYOUT;
	e->tid = (__u32)bpf_get_current_pid_tgid();
	e->account = p->account;
	e->other_account = 0;
	e->id = p->id;
	e->ts_ns = bpf_ktime_get_ns();
	__builtin_memset(&e->map, 0, sizeof(e->map));
	e->map.addr = addr;
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

/* From a frame to its caller. 1: go on; 0: it ended, u->cut says how. A slot is given for the frame of the hit, whose rule tells rbp only. */
__noinline int unwind_step(struct proc *p, struct thread_state *t, __u64 slot)
{
	if (!p || !t)
		return 0;
	struct unwind *u = &t->unwind;
	__u64 addr = u->pc - !u->exact, layout = u->layout;

	if (unwind_place(u, layout, addr)) {
		layout_ask(p, addr);
		if (!slot)
			return unwind_cut(u, CUT_NO_MAPPING);
		return unwind_leave(t, slot + 8);
	}
	__u32 number = u->page == RANGE_NO_ROWS ? UNWIND_RULE_NONE : row_find(u->page, addr - u->bias);
	struct unwind_rule *r = bpf_map_lookup_elem(&rules, &number);
	if (!r)
		return unwind_cut(u, CUT_NO_ROW);
	__u8 kind = r->kind;
	if (slot && (kind == UNWIND_NONE || kind >= UNWIND_SIGNAL))
		return unwind_leave(t, slot + 8);
	if (kind == UNWIND_NONE)
		return unwind_by_fp(t, layout);
	if (kind == UNWIND_SIGNAL)
		return unwind_signal(t);
	if (kind == UNWIND_END)
		return unwind_cut(u, CUT_NONE);
	if (kind == UNWIND_OTHER)
		return unwind_cut(u, CUT_RULE);
	__u64 cfa = slot ? slot + 8 : unwind_cfa(t, r, addr);
	if (!cfa)
		return unwind_cut(u, u->bp_lost ? CUT_RULE : CUT_MEMORY);
	unwind_bp(t, r, cfa);
	return unwind_leave(t, cfa);
}

/* What a frame is listed as: the address behind the instruction that is under way. */
static __always_inline __u64 unwind_listed(const struct unwind *u)
{
	return u->pc + u->exact;
}

/* Unwinds to the end, from what unwind_begin set; frames go into the scratch slot. */
__noinline int unwind_all(struct proc *p, struct thread_state *t, __u32 scratch, __u64 slot)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &scratch);

	if (!p || !t || !s)
		return 0;
	t->unwind.cut = CUT_DEPTH;
	if (slot && !unwind_step(p, t, slot))
		return 0;
	NO_UNROLL
	for (int i = 0; i < STACK_MAX_FRAMES; i++) {
		s->stack.ip[i] = unwind_listed(&t->unwind);
		t->unwind.listed = table_mix(t->unwind.listed, s->stack.ip[i]);
		t->unwind.n = i + 1;
		if (!unwind_step(p, t, 0))
			return 0;
	}
	t->unwind.cut = CUT_DEPTH;
	return 0;
}

static __always_inline void unwind_begin(struct thread_state *t, const struct stack_start *from, __u64 seed,
					 __u64 layout, __u32 remember)
{
	struct unwind *u = &t->unwind;

	u->pc = from->pc;
	u->sp = u->start_sp = from->sp;
	u->bp = from->bp;
	u->bp_slot = 0;
	u->layout = layout;
	u->hash = u->listed = seed;
	u->check = 0;
	u->range_start = u->range_bytes = 0;
	u->n = 0;
	u->instance = 0;
	u->n_slots = 0;
	u->exact = 1;
	u->forgettable = u->bp_noted = u->bp_lost = u->bp_at_hit = 0;
	u->remember = remember;
	/* Outside of a probed function the first address is the hit's own. */
	if (!from->slot)
		u->hash = table_mix(u->hash, from->pc);
}

/* --- a stack that was there lately --- */

static __always_inline __u32 remember_place(const struct stack_start *from, __u64 caller)
{
	__u64 h = table_mix(table_mix(from->sp, from->pc), caller);
	__u32 place = (__u32)(((h >> 32) * REMEMBERED) >> 32);

	barrier_var(place); /* 6.1's verifier does not see a product's bound: the callers' checks have to stay */
	return place;
}

static __always_inline __u64 remembered_seal(const struct remembered *r, __u64 hash, __u64 check, __u64 id)
{
	return table_mix(table_mix(table_mix(hash, check), id), r->bp_at_hit ? r->bp : 1);
}

/* Id of the remembered stack, if it is this one; 0: it is not. */
__noinline __u64 remembered_check(struct thread_state *t, struct stack_start *from, __u64 seed, __u32 index)
{
	struct remembered *r = bpf_map_lookup_elem(&seen_stacks, &index);

	if (!t || !from || !r)
		return 0;
	__u64 hash = seed, check = 0, sp = from->sp, word, id = r->native_id;

	if (!from->slot)
		hash = table_mix(hash, from->pc);
	if (r->bp_at_hit && r->bp != from->bp - sp)
		return 0;
	NO_UNROLL
	for (int i = 0; i < REMEMBERED_SLOTS; i++) {
		if (i >= r->n)
			break;
		__u32 slot = r->slot[i];
		if (word_at(t, sp + (__u64)(slot & REMEMBER_REACH) * 8, &word))
			return 0;
		hash = table_mix(hash, slot);
		if (slot & REMEMBER_CHECK)
			check = table_mix(check, word - sp);
		else
			hash = table_mix(hash, word);
	}
	return remembered_seal(r, hash, check, id) == r->seal ? id : 0;
}

#endif
