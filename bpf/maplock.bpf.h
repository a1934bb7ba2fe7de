/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mapping calls seen at the lock of the address space. A tracepoint on any system call takes all calls of all tasks of the machine through the kernel's slow
 * path; the lock's tracepoints cost those alone who map, where page faults don't take this lock (per-VMA locks, 6.4).
 *
 *	mmap_lock_acquire_returned   write        arguments from the saved registers; announce; stack; what is mapped, and how much
 *	vm_unmapped_area             mmap, mremap  the free area that the kernel chose
 *	mmap_lock_released                         what became of it
 *
 * The lock is still held at its release, so nothing changes but by this call, and the order of events is the order of changes. The result is not in the
 * registers yet; it is found in what the call left, and nothing is taken for true without a proof:
 *
 *	brk                  mm->brk.
 *	munmap               mm->total_vm is smaller. A call that found nothing to unmap counts as failed, which changes nothing.
 *	mmap                 total_vm has grown, and a mapping of the length lies in the area, which was free before, so it is this one. The area may be larger than the
 *	                     length, for the sake of huge pages (mm/huge_memory.c, mm/shmem.c); where in it the mapping begins is seen, not calculated.
 *	  no area            The hint was free: total_vm has grown, and the hint's range is mapped.
 *	  MAP_FIXED          Another vm_area_struct lies at the address than before. The kernel makes the new one before it frees those that it replaces.
 *	mremap               moved: as mmap. In place: total_vm has grown, or the tail is gone. MREMAP_FIXED: the old place is empty.
 *
 * Not from 6.19 on: raw tracepoints can be preempted there, and the kernel leaves out a program that is under way on the processor already, in another task
 * (kernel/trace/bpf_trace.c: __bpf_trace_run); of 1,600 calls in threads five were missed.
 *
 * What lies at an address is read off the tree of mappings (mm->mm_mt). A mapping that can't be found that way is counted as lost.
 */
#ifndef TIDEMARK_BPF_MAPLOCK_H
#define TIDEMARK_BPF_MAPLOCK_H

#include "mapping.bpf.h"

/* include/uapi/linux/mman.h, include/uapi/asm-generic/mman-common.h */
#define MAP_FIXED 0x10
#define MAP_FIXED_NOREPLACE 0x100000
#define MREMAP_FIXED 2
#define MREMAP_DONTUNMAP 4

#define USER_CS 0x33	     /* arch/x86/include/asm/segment.h: __USER_CS */
#define CALL_UNDER_WAY (-38) /* the ax of a call until it returns: -ENOSYS (arch/x86/entry/entry_64.S) */
#define MAP_FAILED_ADDR ((__u64)-1)
#define MAP_LOST_ADDR 0ull

/* Which argument of the lock's tracepoints is `write`: 6.14 took one out before it. Set by user space before loading. */
const volatile __u32 lock_write_arg = 1;

/* Threads between the two ends, counted by the low bits of their numbers: most releases are nobody's, and are passed by one look here. */
#define LOCKING 1024
__u32 locking[LOCKING];

/* The fields that are used here, as CO-RE finds them. */
struct maple_tree___used {
	void *ma_root;
} __attribute__((preserve_access_index));

struct mm_struct___used {
	struct maple_tree___used mm_mt;
} __attribute__((preserve_access_index));

struct vm_unmapped_area_info___used {
	unsigned long length;
} __attribute__((preserve_access_index));

/*
 * include/linux/maple_tree.h, in words of 8 bytes; user space compares with the kernel's own description (user/probe/maplock.c). A node lies on a multiple of its size,
 * and the low bits of what points to it tell its kind. Behind each pivot, the last address of its slot, the next slot begins.
 */
#define NODE_WORDS 32
#define NODE_MASK 255ull
#define NODE_KIND(entry) ((__u32)((entry) >> 3 & 15))
#define NODE_LEAF 1u
#define NODE_ARANGE 3u
#define NODE_PIVOTS 15u
#define NODE_SLOT 16u
#define NODE_END 31u
#define ARANGE_SLOT 10u
#define ARANGE_END 30u
#define TREE_LEVELS 8 /* each has five children or more: some 100,000 mappings */

/* Number of the last slot in use (lib/maple_tree.c: ma_data_end). */
static __always_inline __u32 node_end(const __u64 *node, __u32 kind, __u64 max)
{
	if (kind == NODE_ARANGE)
		return node[ARANGE_END] & 255;
	if (!node[NODE_PIVOTS])
		return node[NODE_END] & 255;
	return node[NODE_PIVOTS] == max ? NODE_PIVOTS - 1 : NODE_PIVOTS;
}

/* The mapping that holds the address into t->map: vma 0: none. Uses the window. Only while this thread holds the lock. */
__noinline int vma_find(struct thread_state *t, __u64 addr)
{
	if (!t)
		return -1;
	struct map_call *c = &t->map;
	struct mm_struct___used *mm = (struct mm_struct___used *)bpf_get_current_task_btf()->mm;
	__u64 entry = (__u64)BPF_CORE_READ(mm, mm_mt.ma_root), max = ~0ull;
	c->vma = c->vma_start = c->vma_end = 0;
	t->window_bytes = 0;
	NO_UNROLL
	for (int level = 0; level < TREE_LEVELS; level++) {
		__u32 kind = NODE_KIND(entry), i = 0;
		if (kind < NODE_LEAF || kind > NODE_ARANGE ||
		    bpf_probe_read_kernel(t->window, NODE_WORDS * 8, (void *)(entry & ~NODE_MASK)))
			return -1;
		__u32 end = node_end(t->window, kind, max);
		NO_UNROLL
		for (; i < NODE_PIVOTS; i++) {
			if (i >= end)
				break;
			__u64 pivot = t->window[(1 + i) & (NODE_WORDS - 1)];
			if (pivot >= addr) {
				max = pivot;
				break;
			}
		}
		entry = t->window[(i + (kind == NODE_ARANGE ? ARANGE_SLOT : NODE_SLOT)) & (NODE_WORDS - 1)];
		if (kind == NODE_LEAF)
			break;
	}
	if (!entry)
		return 0;
	struct vm_area_struct *vma = (struct vm_area_struct *)entry;
	__u64 start = BPF_CORE_READ(vma, vm_start), end = BPF_CORE_READ(vma, vm_end);
	if (addr < start || addr >= end)
		return -1;
	c->vma = entry;
	c->vma_start = start;
	c->vma_end = end;
	return 0;
}

static __always_inline __u64 pages_up(__u64 bytes)
{
	return (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

static __always_inline int vma_covers(struct thread_state *t, __u64 addr, __u64 bytes)
{
	(void)vma_find(t, addr); /* failed: none, too */
	return t->map.vma && t->map.vma_end - addr >= bytes;
}

/* Where the call's mapping begins in the area that was free, if it holds this address of it. */
static __always_inline __u64 area_begin(struct thread_state *t, __u64 addr, __u64 bytes)
{
	const struct map_call *c = &t->map;

	(void)vma_find(t, addr); /* failed: none, too */
	if (!c->vma)
		return MAP_LOST_ADDR;
	__u64 start = c->vma_start > c->area ? c->vma_start : c->area; /* it may have joined its neighbour */
	__u64 end = c->area + c->area_bytes;
	return start + bytes <= end && start + bytes <= c->vma_end ? start : MAP_LOST_ADDR;
}

/* The area is larger than the mapping by `more`: so far behind its beginning lies a part of the mapping, or the area's first page is one. */
static __always_inline __u64 area_place(struct thread_state *t, __u64 bytes)
{
	__u64 more = t->map.area_bytes - bytes;

	if (!bytes || t->map.area_bytes < bytes)
		return MAP_LOST_ADDR;
	__u64 at = area_begin(t, t->map.area + more, bytes);
	return at || !more ? at : area_begin(t, t->map.area, bytes);
}

static __always_inline __u64 mmap_place(struct thread_state *t, int grew)
{
	struct map_call *c = &t->map;
	__u64 at = c->args[0] & ~(PAGE_BYTES - 1), bytes = pages_up(c->args[1]);
	int fixed = (c->args[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == MAP_FIXED;

	if (!fixed && !grew)
		return MAP_FAILED_ADDR;
	if (!(c->args[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)) && c->area)
		return area_place(t, bytes);
	int covers = vma_covers(t, at, bytes);
	if (fixed && (!c->vma || c->vma == c->vma_before))
		return MAP_FAILED_ADDR;
	return covers ? at : MAP_LOST_ADDR;
}

static __always_inline __u64 mremap_place_fixed(struct thread_state *t, int changed)
{
	struct map_call *c = &t->map;

	if (c->args[3] & MREMAP_DONTUNMAP || !c->args[1]) {
		if (!changed)
			return MAP_FAILED_ADDR;
	} else {
		(void)vma_find(t, c->args[0]); /* failed: none, too */
		if (c->vma)
			return MAP_FAILED_ADDR;
	}
	(void)vma_find(t, c->args[4]);
	return c->vma ? c->args[4] : MAP_FAILED_ADDR;
}

static __always_inline __u64 mremap_place_same(struct thread_state *t, int grew)
{
	struct map_call *c = &t->map;
	__u64 at = c->args[0], before = pages_up(c->args[1]), bytes = pages_up(c->args[2]);

	if (bytes < before) {
		(void)vma_find(t, at + bytes); /* failed: none, too */
		if (c->vma)
			return MAP_FAILED_ADDR;
		bytes = PAGE_BYTES;
	}
	if (bytes > before && !grew)
		return MAP_FAILED_ADDR;
	return vma_covers(t, at, bytes) ? at : MAP_FAILED_ADDR;
}

static __always_inline __u64 mremap_place(struct thread_state *t, int changed, int grew)
{
	struct map_call *c = &t->map;

	if (!c->vma_before)
		return MAP_FAILED_ADDR;
	if (c->args[3] & MREMAP_FIXED)
		return mremap_place_fixed(t, changed);
	if (c->area) {
		__u64 at = area_place(t, pages_up(c->args[2]));
		return at || c->vma ? at : MAP_FAILED_ADDR; /* it was free, and is */
	}
	if (!(c->args[3] & MREMAP_DONTUNMAP))
		return mremap_place_same(t, grew);
	__u64 hint = c->args[4] & ~(PAGE_BYTES - 1);
	if (!grew)
		return MAP_FAILED_ADDR;
	return vma_covers(t, hint, pages_up(c->args[2])) ? hint : MAP_LOST_ADDR;
}

/* The calling thread's registers, if it is in one of the calls: not on its way out of one, where a signal's frame may make its stack grow. */
static __always_inline struct pt_regs *map_call_regs(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 nr = regs->orig_ax;

	if (nr != NR_MMAP && nr != NR_MUNMAP && nr != NR_BRK && nr != NR_MREMAP)
		return NULL;
	return regs->cs == USER_CS && regs->ax == (unsigned long)CALL_UNDER_WAY ? regs : NULL;
}

static __always_inline __u32 *locking_of(struct task_struct *task)
{
	return &locking[task->pid & (LOCKING - 1)];
}

/* What can be told only now: what lies where the call will put something, or takes something from. */
static __always_inline void look_before(struct thread_state *t)
{
	struct map_call *c = &t->map;

	c->vma_before = 0;
	if (c->nr != NR_MREMAP + 1 && (c->nr != NR_MMAP + 1 || !(c->args[3] & MAP_FIXED)))
		return;
	(void)vma_find(t, c->args[0]); /* failed: none, too */
	c->vma_before = c->vma;
}

/*
 * An argument of the context: the verifier wants each read at a place that is written down, where the compiler would choose between two places and read once. One
 * that the tracepoint does not have must not be read, either.
 */
#define CONTEXT_BYTE(ctx, offset) \
	({ \
		__u64 arg_; \
		asm volatile("%0 = *(u64 *)(%1 + " #offset ")" : "=r"(arg_) : "r"(ctx)); \
		(__u8) arg_; \
	})

static __always_inline int is_taken_to_write(struct bpf_raw_tracepoint_args *ctx)
{
	if (lock_write_arg == 1)
		return CONTEXT_BYTE(ctx, 8) && CONTEXT_BYTE(ctx, 16);
	return CONTEXT_BYTE(ctx, 16) && CONTEXT_BYTE(ctx, 24);
}

static __always_inline int lock_taken(struct bpf_raw_tracepoint_args *ctx)
{
	if (!is_taken_to_write(ctx))
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = task->mm;
	if ((__u64)mm != ctx->args[0])
		return 0;
	struct pt_regs *regs = map_call_regs(task);
	struct thread_state *t;
	if (!regs)
		return 0;
	struct proc *p = proc_current(&t);
	if (!p || !(p->flags & PROC_MAP) || !(t = thread_need(p, t)))
		return 0;
	struct map_call *c = &t->map;
	if (c->nr)
		loss_count(p, LOSS_MAP_PLACE); /* its end was not seen */
	else
		__sync_fetch_and_add(locking_of(task), 1);
	c->nr = (__u32)regs->orig_ax + 1;
	c->args[0] = regs->di;
	c->args[1] = regs->si;
	c->args[2] = regs->dx;
	c->args[3] = regs->r10;
	c->args[4] = regs->r8;
	c->pages = mm->total_vm;
	c->area = 0;
	look_before(t);
	map_begin(p, t);
	return 0;
}

/* addr: of a free area, or an error: then the kernel tries otherwise, or the call fails. */
static __always_inline int area_found(__u64 addr, const struct vm_unmapped_area_info___used *info)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!*locking_of(task) || addr & (PAGE_BYTES - 1))
		return 0;
	struct thread_state *t = thread_get(0);
	if (!t || !t->map.nr)
		return 0;
	t->map.area = addr;
	t->map.area_bytes = BPF_CORE_READ(info, length);
	return 0;
}

static __always_inline int lock_released(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 *pending = locking_of(task);

	if (!*pending)
		return 0;
	struct mm_struct *mm = task->mm;
	if ((__u64)mm != ctx->args[0])
		return 0;
	struct thread_state *t;
	struct proc *p = proc_current(&t);
	if (!t || !t->map.nr)
		return 0;
	struct map_call *c = &t->map;
	__u64 pages = mm->total_vm, brk = mm->brk, at;
	__sync_fetch_and_add(pending, -1);
	switch (c->nr - 1) {
	case NR_MUNMAP:
		at = pages < c->pages ? 0 : MAP_FAILED_ADDR;
		break;
	case NR_BRK:
		at = brk;
		break;
	case NR_MREMAP:
		at = mremap_place(t, pages != c->pages, pages > c->pages);
		break;
	default:
		at = mmap_place(t, pages > c->pages);
	}
	if (p && at == MAP_LOST_ADDR && c->nr != NR_MUNMAP + 1)
		loss_count(p, LOSS_MAP_PLACE);
	else if (p)
		map_done(p, c, at);
	c->nr = 0;
	return 0;
}

#endif
