/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page faults: which stack made memory resident, and which one un-shared memory that a fork had left to both. No uprobe is needed.
 *
 *	exceptions:page_fault_*           the kernel maps pages               PAGE_FAULTS_MIN, _MAJ
 *	   one in `every`: how do   --->  (one; 16 around it of a file;  -->  how do the tables look
 *	   the page tables look?          a huge one; a copy)                 now? whose stack is it? book
 *
 * Every fault of the machine comes by at both ends, so the way out is short: a countdown of the processor at the first, one word at the second.
 * The countdown's distances are geometric: each fault is taken with probability 1/every, independently of all others, and stands for `every` of
 * them. The variance of a sum of Y_i / p, each taken with p, is estimated by the sum of (1-p)/p² Y_i² over those taken (Horvitz and Thompson).
 *
 * What a fault did is read off the page tables, not off the counters that rss_stat shows: those are cached per task before 6.2 and per processor
 * since, in layouts of their own, are only known for all threads together, and do not change when a private page is copied. The tables' format is the processor's, the same
 * for all kernels. They are read without locks, as they stand around a fault that is under way: of what other threads do meanwhile only pages within 15 of
 * the address could be taken for this fault's, which is as far as fault-around reaches (mm/memory.c: do_fault_around, 64 KiB).
 *
 * The second end is a software event, because no tracepoint tells that a fault was handled. It comes when the page is there (mm/memory.c: mm_account_fault), so
 * stacks can be read that have just grown, and not for faults that failed.
 *
 * Copied: the page was there, the fault wanted to write, and another page is there now. A page that only became writable again is the same page.
 */
#ifndef TIDEMARK_BPF_PAGES_H
#define TIDEMARK_BPF_PAGES_H

#include "mapping.bpf.h"
#include "paging.h"

#define FAULT_PRESENT (1 << 0) /* arch/x86/include/asm/trap_pf.h: X86_PF_PROT, X86_PF_WRITE */
#define FAULT_WRITE (1 << 1)
#define FAULT_AROUND 15ull /* pages to each side */
#define TABLE_ENTRIES 512
#define HUGE_PAGES 512

struct paging paging;
struct paging_answer paging_answer;

/* Thread that is in a fault which is looked at, by the low bits of its number. Two of one place at once: the first one's fault is lost, and nobody counts it twice. */
#define FAULTING 1024
__u32 faulting[FAULTING];

/* Where the way through the tables ended: at a page's entry, at a huge page's, or at one behind which nothing is. */
struct table_end {
	__u64 table, entry;
	__u32 shift;
	__u32 pad;
};

static __always_inline __u64 own_tables(void)
{
	return (__u64)BPF_CORE_READ(bpf_get_current_task_btf(), mm,
				    pgd); /* as a number: a pointer can't be handed on */
}

__noinline int table_walk(__u64 addr, struct table_end *w)
{
	if (!w)
		return -1;
	__u64 table = own_tables();
	__u32 shift = paging.levels == 5 ? PT_SHIFT_TOP5 : PT_SHIFT_TOP4;

	NO_UNROLL
	for (int i = 0; i < 5; i++) {
		if (!table || bpf_probe_read_kernel(&w->entry, sizeof(w->entry),
						    (void *)(table + (addr >> (shift & 63) & PT_INDEX) * 8)))
			return -1;
		w->table = table;
		w->shift = shift;
		if (shift <= PT_SHIFT_PAGE || !(w->entry & (PT_PRESENT | PT_PROTNONE)) ||
		    (shift <= PT_SHIFT_GIANT && w->entry & PT_LEAF))
			return 0;
		table = paging.direct_base + (w->entry & PT_ADDRESS);
		shift -= PT_SHIFT_STEP;
	}
	return -1;
}

/* User space asks, in its own process: for the way to its uppermost table, by which it knows when direct_base is right (addr 0), or to a page. */
static __always_inline int paging_ask(__u64 addr)
{
	struct table_end w = {};

	paging_answer.pgd = own_tables();
	paging_answer.failed = table_walk(addr ? addr : paging_answer.pgd, &w) != 0;
	paging_answer.entry = w.entry;
	paging_answer.shift = w.shift;
	return 0;
}

static __always_inline __u64 entry_pfn(__u64 entry)
{
	return (entry & PT_ADDRESS) >> PT_SHIFT_PAGE;
}

/* 1: a page of somebody's resident memory. Without branches: it is asked of many in a row. */
static __always_inline __u64 entry_counts(__u64 entry)
{
	return (entry | entry >> 8) & ~(entry >> 9) & 1;
}

static __always_inline void view_huge(struct page_view *v, __u64 entry, __u32 index)
{
	__u64 pfn = entry_pfn(entry) & ~PT_INDEX; /* bit 12 of such an entry is a flag */

	if (pfn == paging.huge_zero_pfn)
		return;
	v->huge = 1;
	v->present = ~0ull;
	v->pfn = entry & PT_PRESENT ? pfn + index : 0;
}

/* How the tables look around an address. Uses the window. */
__noinline int page_look(struct thread_state *t, __u64 addr, __u32 after)
{
	struct table_end w = {};

	if (!t)
		return -1;
	struct page_view *v = after ? &t->fault.after : &t->fault.before;
	__u32 index = addr >> PT_SHIFT_PAGE & PT_INDEX;
	__builtin_memset(v, 0, sizeof(*v));
	v->hugetlb = 0;
	if (bpf_core_field_exists(((struct mm_struct *)0)->hugetlb_usage))
		v->hugetlb = bpf_get_current_task_btf()->mm->hugetlb_usage.counter;
	if (table_walk(addr, &w))
		return -1;
	if (w.shift > PT_SHIFT_PAGE) {
		if (w.shift == PT_SHIFT_HUGE && w.entry & (PT_PRESENT | PT_PROTNONE))
			view_huge(v, w.entry, index);
		return 0; /* giant pages are never counted as resident */
	}
	if (entry_counts(w.entry) && w.entry & PT_PRESENT)
		v->pfn = entry_pfn(w.entry);
	v->first = index < VIEW_PAGES / 2 ? 0 : index - VIEW_PAGES / 2;
	if (v->first > TABLE_ENTRIES - VIEW_PAGES)
		v->first = TABLE_ENTRIES - VIEW_PAGES;
	v->table = w.table;
	t->window_bytes = 0;
	if (bpf_probe_read_kernel(t->window, VIEW_PAGES * 8, (void *)(w.table + (__u64)v->first * 8)))
		return -1;
	__u64 present = 0;
	NO_UNROLL
	for (int i = 0; i < VIEW_PAGES; i++)
		present |= entry_counts(t->window[i]) << i;
	v->present = present;
	return 0;
}

static __always_inline __u32 bits_set(__u64 v)
{
	v -= v >> 1 & 0x5555555555555555ull;
	v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return v * 0x0101010101010101ull >> 56;
}

/* Does the entry of the table in the window continue the row of pages that lie in physical memory as they lie in the process? */
static __always_inline int is_in_row(const struct thread_state *t, __u32 i, __u64 fresh, __u64 first_pfn)
{
	__u64 e = t->window[i & PT_INDEX];
	__u32 in_view = i - t->fault.after.first;

	if (in_view < VIEW_PAGES && !(fresh >> (in_view & 63) & 1))
		return 0;
	return entry_counts(e) && entry_pfn(e) == first_pfn + i;
}

/* New pages farther away than fault-around reaches: a large folio, mapped whole. Number of pages in the row that holds the address. */
__noinline __u32 folio_pages(struct thread_state *t, __u32 index, __u64 fresh)
{
	__u32 row = 1;

	if (!t || bpf_probe_read_kernel(t->window, TABLE_ENTRIES * 8, (void *)t->fault.after.table))
		return 0;
	__u64 first_pfn = t->fault.after.pfn - index;
	NO_UNROLL
	for (__u32 i = 1; i < TABLE_ENTRIES; i++) {
		if (index + i >= TABLE_ENTRIES || !is_in_row(t, index + i, fresh, first_pfn))
			break;
		row++;
	}
	NO_UNROLL
	for (__u32 i = 1; i < TABLE_ENTRIES; i++) {
		if (i > index || !is_in_row(t, index - i, fresh, first_pfn))
			break;
		row++;
	}
	return row;
}

/* Pages that became resident between the two looks. */
static __always_inline __u32 pages_grown(struct thread_state *t, __u32 index)
{
	const struct page_view *before = &t->fault.before, *after = &t->fault.after;

	if (after->huge) /* pages of hugetlbfs are no part of resident memory, as the kernel counts it */
		return before->present || before->hugetlb != after->hugetlb ? 0 : HUGE_PAGES;
	__u64 fresh = after->present & ~before->present, near = (1ull << (2 * FAULT_AROUND + 1)) - 1;
	__u32 at = (index - after->first) & 63;
	near = at >= FAULT_AROUND ? near << (at - FAULT_AROUND) : near >> (FAULT_AROUND - at);
	__u32 grown = bits_set(fresh & near), row;

	if (fresh & ~near && after->pfn && (row = folio_pages(t, index, fresh)) > grown)
		return row;
	return grown;
}

static __always_inline int is_copied(const struct fault *f)
{
	return f->may_copy && f->before.pfn && f->after.pfn && f->before.pfn != f->after.pfn &&
	       !(f->before.huge && f->after.huge);
}

/* Is this fault one of those that are looked at? */
static __always_inline int fault_is_due(void)
{
	__u32 zero = 0, *left = bpf_map_lookup_elem(&fault_turns, &zero);

	if (!left || !paging.every)
		return 0;
	if (!*left)
		*left = paging_turn(&sampling, paging.gap, bpf_get_prandom_u32());
	return --*left == 0;
}

/* A fault begins. Interrupts are off if it came from user space: nothing here waits for anybody. */
static __always_inline int fault_begin(__u64 addr, __u64 error)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread_state *t;

	/* The kernel's own memory, or a look at memory that must not fault: such are never handled. */
	if ((__s64)addr <= 0 || task->pagefault_disabled || !fault_is_due())
		return 0;
	struct proc *p = proc_current(&t);
	if (!p || !(p->flags & PROC_PAGE) || !(t = thread_need(p, t)))
		return 0;
	struct fault *f = &t->fault;
	f->addr = 0;
	if (page_look(t, addr, 0)) {
		loss_count(p, LOSS_USER_READ);
		return 0;
	}
	f->may_copy = (error & (FAULT_PRESENT | FAULT_WRITE)) == (FAULT_PRESENT | FAULT_WRITE);
	f->every = paging.every;
	f->addr = addr;
	faulting[task->pid & (FAULTING - 1)] = task->pid;
	return 0;
}

/* Where the fault happened; of the kernel's own, in a call, where that was entered. */
static __always_inline void fault_book(struct proc *p, struct thread_state *t, __u32 grown, int copied)
{
	__u64 every = t->fault.every;
	struct stack_ids ids;

	user_stack(p, t, SITE_FAULT, LAYER_PAGE, &ids);
	struct sum *s = sum_at(sum_get(p->account, &ids));
	if (!s) {
		loss_count(p, LOSS_SUMS_FULL);
		return;
	}
	if (grown) {
		__sync_fetch_and_add(&s->alloc_bytes, every * grown * PAGE_BYTES);
		__sync_fetch_and_add(&s->alloc_count, every);
		__sync_fetch_and_add(&s->alloc_var, every * (every - 1) * grown * grown);
	}
	if (copied)
		__sync_fetch_and_add(&s->cow_bytes, every * PAGE_BYTES);
}

/* A fault was handled: the page is there. */
static __always_inline int fault_end(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 *slot = &faulting[task->pid & (FAULTING - 1)];
	struct thread_state *t;

	if (*slot != (__u32)task->pid)
		return 0;
	*slot = 0;
	struct proc *p = proc_current(&t);
	if (!p || !t || !t->fault.addr)
		return 0;
	__u64 addr = t->fault.addr;
	t->fault.addr = 0;
	if (page_look(t, addr, 1)) {
		loss_count(p, LOSS_USER_READ);
		return 0;
	}
	__u32 grown = pages_grown(t, addr >> PT_SHIFT_PAGE & PT_INDEX);
	int copied = is_copied(&t->fault);
	if (grown || copied)
		fault_book(p, t, grown, copied);
	return 0;
}

/* arch/x86 does not touch the registers that hold a call's arguments until it returns. include/uapi/asm-generic/mman-common.h */
#define MADV_DONTNEED 4
#define MADV_FREE 8

static __always_inline int madvise_done(struct trace_event_raw_sys_exit *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct thread_state *t;
	struct proc *p = ctx->ret ? NULL : proc_current(&t);
	__u32 advice = BPF_CORE_READ(regs, dx);

	if (!p || !(p->flags & PROC_PAGE) || (advice != MADV_DONTNEED && advice != MADV_FREE))
		return 0;
	__u64 bytes = BPF_CORE_READ(regs, si);
	__sync_fetch_and_add(&p->given_back_bytes, (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1));
	return 0;
}

#endif
