/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hits with registers and stack memory, for the tests' oracle. Compiled out of the programs unless cfg.record_hits is set at load. */
#ifndef TIDEMARK_BPF_HITS_H
#define TIDEMARK_BPF_HITS_H

#include "hit.h"
#include "maps.bpf.h"

static __always_inline void hit_registers(const struct pt_regs *ctx, struct hit_record *h)
{
	h->regs[0] = ctx->ax;
	h->regs[1] = ctx->dx;
	h->regs[2] = ctx->cx;
	h->regs[3] = ctx->bx;
	h->regs[4] = ctx->si;
	h->regs[5] = ctx->di;
	h->regs[6] = ctx->bp;
	h->regs[7] = ctx->sp;
	h->regs[8] = ctx->r8;
	h->regs[9] = ctx->r9;
	h->regs[10] = ctx->r10;
	h->regs[11] = ctx->r11;
	h->regs[12] = ctx->r12;
	h->regs[13] = ctx->r13;
	h->regs[14] = ctx->r14;
	h->regs[15] = ctx->r15;
	h->regs[16] = ctx->ip;
}

/* A program of many hits a second would write gigabytes otherwise. */
static __always_inline int hit_is_due(void)
{
	__u32 zero = 0;
	struct cpu_stat *st = bpf_map_lookup_elem(&cpu_stats, &zero);

	return st && st->stacks.taken % cfg.record_hits == 0;
}

/* As much of the stack as there is; a hit that does not fit into the ring is not recorded. */
static __always_inline void hit_record(const struct pt_regs *ctx, const struct thread_state *t, __u64 native_id)
{
	struct hit_record *h = bpf_ringbuf_reserve(&hits, sizeof(*h), 0);

	if (!h)
		return;
	__u64 sp = ctx->sp, pid_tgid = bpf_get_current_pid_tgid(), bytes = t->stack_end - sp;
	h->pid = pid_tgid >> 32;
	h->tid = (__u32)pid_tgid;
	h->native_id = native_id;
	h->repeated = t->was_repeated;
	hit_registers(ctx, h);
	if (t->stack_end <= sp || bytes > HIT_STACK_BYTES)
		bytes = HIT_STACK_BYTES;
	barrier_var(bytes);
	if (bytes > HIT_STACK_BYTES)
		bytes = HIT_STACK_BYTES;
	h->stack_bytes = bytes;
	if (bpf_probe_read_user(h->stack, bytes, (void *)sp))
		h->stack_bytes = 0;
	bpf_ringbuf_submit(h, 0);
}

#endif
