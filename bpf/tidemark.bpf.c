// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The programs: thin entry points, one per kind of probe, over the logic in *.bpf.h. Which function was called stands in the attach cookie.
 *
 *   on_alloc_session          entry and return in one (uprobe.session, 6.13)
 *   on_alloc_enter, _exit     the same where the kernel has no sessions
 *   on_free_enter             frees
 *   on_wrap_enter             operator new where it reaches malloc
 *   on_code_freed             CPython frees a code object
 *   on_map_enter, _exit       mmap, munmap, mremap, brk
 *   on_lock_taken, on_area_found, on_lock_released
 *                             the same where the kernel can do without tracing system calls
 *   on_user_fault, on_kernel_fault, on_faulted
 *                             page faults: one begins, one was handled
 *   on_madvise                memory given back
 *   on_paging                 run by user space to learn how page tables are read
 *   on_fork, on_exec, on_exit process life
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "heap.bpf.h"
#include "maplock.bpf.h"
#include "mapping.bpf.h"
#include "pages.bpf.h"
#include "scope.bpf.h"

char LICENSE[] SEC("license")
= "GPL";

/*
 * Since 6.13 the kernel gives a KPROBE program that needs 64 bytes of stack or more a private one, and has one of these per program and CPU: it takes
 * for granted that a program is not entered again while it runs there (kernel/bpf/verifier.c: bpf_enable_priv_stack). Uprobe programs are of that type, but can
 * be preempted; then another task's hit writes over the stack of the one that waits. With one CPU 7.2 lost one return in ten that way.
 * A program that holds a tail call gets no private stack, whether the call is ever reached or not. These maps stay empty; programs that are attached in
 * different ways can't share one.
 */
struct no_progs {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} no_progs SEC(".maps");

struct no_progs no_sessions SEC(".maps");

#define NO_PRIVATE_STACK(ctx, map) \
	do { \
		if (!cfg.scratch_slots) /* never: the verifier knows, and leaves nothing of it */ \
			bpf_tail_call(ctx, map, 0); \
	} while (0)

/* Measures one program run of BODY_SAMPLE. */
static __always_inline __u64 body_begin(struct cpu_stat **ret)
{
	__u32 zero = 0;
	struct cpu_stat *st = bpf_map_lookup_elem(&cpu_stats, &zero);

	*ret = st;
	if (!st || !body_is_measured(++st->runs))
		return 0;
	return bpf_ktime_get_ns();
}

static __always_inline void body_end(struct cpu_stat *st, __u64 began)
{
	if (!began || !st)
		return;
	__u64 took = bpf_ktime_get_ns() - began;
	struct thread_state *t;

	st->body_ns += took;
	st->body_samples++;
	struct proc *p = proc_current(&t);
	if (p)
		__sync_fetch_and_add(&p->body_ns, took * BODY_SAMPLE);
}

static __always_inline int enter(struct pt_regs *ctx, const struct call_cookie *k)
{
	struct cpu_stat *st;

	if (!is_in_scope(k->scope))
		return SKIP_RETURN;
	__u64 began = body_begin(&st);
	int ret = alloc_enter(ctx, k);

	body_end(st, began);
	return ret;
}

static __always_inline void leave(struct pt_regs *ctx, const struct call_cookie *k)
{
	struct cpu_stat *st;
	__u64 began = body_begin(&st);

	alloc_exit(ctx, k);
	body_end(st, began);
}

SEC("uprobe")
int on_alloc_session(struct pt_regs *ctx)
{
	struct call_cookie k = cookie_unpack(bpf_get_attach_cookie(ctx));

	NO_PRIVATE_STACK(ctx, &no_sessions);
	/* At the return the instruction pointer is the caller's; at the entry it is the probed instruction. */
	if (ctx->ip == bpf_get_func_ip(ctx))
		return enter(ctx, &k);
	leave(ctx, &k);
	return 0;
}

SEC("uprobe")
int on_alloc_enter(struct pt_regs *ctx)
{
	struct call_cookie k = cookie_unpack(bpf_get_attach_cookie(ctx));

	NO_PRIVATE_STACK(ctx, &no_progs);
	(void)enter(ctx, &k); /* without sessions the return probe fires in any case */
	return 0;
}

SEC("uretprobe")
int on_alloc_exit(struct pt_regs *ctx)
{
	struct call_cookie k = cookie_unpack(bpf_get_attach_cookie(ctx));

	NO_PRIVATE_STACK(ctx, &no_progs);
	leave(ctx, &k);
	return 0;
}

SEC("uprobe")
int on_free_enter(struct pt_regs *ctx)
{
	struct call_cookie k = cookie_unpack(bpf_get_attach_cookie(ctx));
	struct cpu_stat *st;

	NO_PRIVATE_STACK(ctx, &no_progs);
	if (!is_in_scope(k.scope))
		return 0;
	__u64 began = body_begin(&st);
	free_enter(ctx, &k);
	body_end(st, began);
	return 0;
}

SEC("uprobe")
int on_wrap_enter(struct pt_regs *ctx)
{
	struct call_cookie k = cookie_unpack(bpf_get_attach_cookie(ctx));
	struct cpu_stat *st;

	NO_PRIVATE_STACK(ctx, &no_progs);
	if (!is_in_scope(k.scope))
		return 0;
	__u64 began = body_begin(&st);
	wrap_enter(ctx, &k);
	body_end(st, began);
	return 0;
}

/* What is remembered of Python frames may name it. */
SEC("uprobe")
int on_code_freed(struct pt_regs *ctx)
{
	struct thread_state *t;
	struct proc *p;

	NO_PRIVATE_STACK(ctx, &no_progs);
	p = proc_current(&t);
	if (p && p->code_turn)
		__sync_fetch_and_add(&p->code_turn, 1);
	return 0;
}

SEC("tracepoint")
int on_map_enter(struct trace_event_raw_sys_enter *ctx)
{
	return map_enter(ctx);
}

SEC("tracepoint")
int on_map_exit(struct trace_event_raw_sys_exit *ctx)
{
	return map_exit(ctx);
}

SEC("raw_tp")
int on_lock_taken(struct bpf_raw_tracepoint_args *ctx)
{
	return lock_taken(ctx);
}

SEC("raw_tp")
int on_area_found(struct bpf_raw_tracepoint_args *ctx)
{
	return area_found(ctx->args[0], (const void *)ctx->args[1]);
}

SEC("raw_tp")
int on_lock_released(struct bpf_raw_tracepoint_args *ctx)
{
	return lock_released(ctx);
}

SEC("tp_btf/page_fault_user")
int BPF_PROG(on_user_fault, unsigned long addr, struct pt_regs *regs, unsigned long error)
{
	return fault_begin(addr, error);
}

SEC("tp_btf/page_fault_kernel")
int BPF_PROG(on_kernel_fault, unsigned long addr, struct pt_regs *regs, unsigned long error)
{
	return fault_begin(addr, error);
}

SEC("perf_event")
int on_faulted(struct bpf_perf_event_data *ctx)
{
	return fault_end();
}

SEC("tracepoint")
int on_madvise(struct trace_event_raw_sys_exit *ctx)
{
	return madvise_done(ctx);
}

SEC("raw_tp")
int on_paging(struct bpf_raw_tracepoint_args *ctx)
{
	return paging_ask(ctx->args[0]);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	if (child->tgid == child->pid)
		proc_born(parent, child);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	thread_gone(task);
	proc_exec(task);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	thread_gone(task);
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		proc_gone(task);
	return 0;
}
