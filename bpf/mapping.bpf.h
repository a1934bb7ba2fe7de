/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mapping calls become events; user space keeps the ranges (they split and join, which wants an ordered tree, and they are a
 * thousand times rarer than heap calls). What takes memory away is announced before the kernel acts, so that another thread's reuse of the range always comes
 * after it in the ring; a call that failed is taken back by EVENT_UNDO.
 */
#ifndef TIDEMARK_BPF_MAPPING_H
#define TIDEMARK_BPF_MAPPING_H

#include "heap.bpf.h"

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_MMAP 9
#define NR_MUNMAP 11
#define NR_BRK 12
#define NR_MREMAP 25
#define MAX_ERRNO 4095
#define PROT_EXEC 4

static __always_inline struct event *map_event(struct proc *p, __u32 kind)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		loss_count(p, LOSS_RING_FULL);
		return NULL;
	}
	e->kind = kind;
	e->tid = (__u32)bpf_get_current_pid_tgid();
	e->account = p->account;
	e->other_account = 0;
	e->id = p->id;
	e->ts_ns = bpf_ktime_get_ns();
	__builtin_memset(&e->map, 0, sizeof(e->map));
	return e;
}

/* The stack begins where the kernel was entered: most often in libc's wrapper, which user space knows by its name. */
static __always_inline void user_stack(struct proc *p, struct thread_state *t, __u16 site, enum layer layer,
				       struct stack_ids *ret)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct stack_start from = { .site = site };

	from.pc = BPF_CORE_READ(regs, ip);
	from.bp = BPF_CORE_READ(regs, bp);
	from.sp = BPF_CORE_READ(regs, sp);
	stack_take(p, t, &from, layer, ret);
}

static __always_inline void syscall_stack(struct proc *p, struct thread_state *t, __u16 site, struct stack_ids *ret)
{
	user_stack(p, t, site, LAYER_MAP, ret);
}

static __always_inline void map_announce(struct proc *p, __u32 kind, const struct map_call *c)
{
	struct event *e = map_event(p, kind);

	if (!e)
		return;
	e->map.addr = e->map.old_addr = c->args[0];
	e->map.bytes = e->map.old_bytes = c->args[1];
	if (kind == EVENT_MREMAP)
		e->map.mmap_flags = c->args[3];
	bpf_ringbuf_submit(e, wake_flags(kind));
}

/* A call begins whose number and arguments are in t->map. */
static __always_inline void map_begin(struct proc *p, struct thread_state *t)
{
	struct map_call *c = &t->map;

	switch (c->nr - 1) {
	case NR_MUNMAP:
		map_announce(p, EVENT_MUNMAP, c);
		return;
	case NR_MREMAP:
		map_announce(p, EVENT_MREMAP, c);
		syscall_stack(p, t, SITE_MREMAP, &c->ids);
		return;
	case NR_BRK:
		c->brk_before = BPF_CORE_READ(bpf_get_current_task_btf(), mm, brk);
		syscall_stack(p, t, SITE_BRK, &c->ids);
		return;
	}
	syscall_stack(p, t, SITE_MMAP, &c->ids);
}

static __always_inline int map_enter(struct trace_event_raw_sys_enter *ctx)
{
	struct thread_state *t;
	struct proc *p = proc_current(&t);

	if (!p || !(p->flags & PROC_MAP) || !(t = thread_need(p, t)))
		return 0;
	struct map_call *c = &t->map;
	c->nr = (__u32)ctx->id + 1; /* the kernel fills an int here; the upper half of the long is stack garbage */
	/*
	 * Not read through ctx: the kernel refuses to attach a program that reads more arguments than the call has (munmap 2, brk 1). All six
	 * words are there (kernel/trace/trace_syscalls.c, perf_call_bpf_enter); those past the call's own mean nothing and are not used.
	 */
	(void)bpf_probe_read_kernel(c->args, sizeof(c->args), &ctx->args);
	map_begin(p, t);
	return 0;
}

static __always_inline void map_done(struct proc *p, struct map_call *c, __u64 ret)
{
	int failed = ret >= (__u64)-MAX_ERRNO;
	__u32 kind = EVENT_MMAP;

	switch (c->nr - 1) {
	case NR_MUNMAP:
		if (!failed)
			return;
		kind = EVENT_UNDO;
		break;
	case NR_MREMAP:
		kind = failed ? EVENT_UNDO : EVENT_MREMAP_DONE;
		break;
	case NR_BRK:
		if (ret == c->brk_before)
			return;
		kind = EVENT_BRK;
		break;
	default:
		if (failed)
			return;
	}
	struct event *e = map_event(p, kind);
	if (!e)
		return;
	e->map.ids = c->ids;
	e->map.addr = ret;
	e->map.bytes = kind == EVENT_MREMAP_DONE ? c->args[2] : c->args[1];
	e->map.old_addr = kind == EVENT_BRK ? c->brk_before : c->args[0];
	e->map.old_bytes = c->args[1];
	if (kind == EVENT_MMAP) {
		e->map.prot = c->args[2];
		e->map.mmap_flags = c->args[3];
		e->map.fd = (__s32)c->args[4];
	}
	/* New code may hold an allocator: user space looks at once. */
	int code = kind == EVENT_MMAP && c->args[2] & PROT_EXEC;
	bpf_ringbuf_submit(e, code ? BPF_RB_FORCE_WAKEUP : wake_flags(kind));
}

static __always_inline int map_exit(struct trace_event_raw_sys_exit *ctx)
{
	struct thread_state *t;
	struct proc *p = proc_current(&t);

	if (!p || !(p->flags & PROC_MAP) || !t || t->map.nr != (__u32)ctx->id + 1)
		return 0;
	map_done(p, &t->map, ctx->ret);
	t->map.nr = 0;
	return 0;
}

#endif
