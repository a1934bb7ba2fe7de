/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loss ledger of the kernel side: nothing is dropped without being counted here. */
#ifndef TIDEMARK_BPF_LOSS_H
#define TIDEMARK_BPF_LOSS_H

#include "maps.bpf.h"

static __always_inline void loss_count(struct proc *p, enum loss why)
{
	__u32 key = why;

	if (p) {
		__sync_fetch_and_add(&p->losses[why], 1);
		return;
	}
	__u64 *n = bpf_map_lookup_elem(&orphan_losses, &key);
	if (n)
		(*n)++; /* per CPU; preemption here may lose one: only of losses that have no process */
}

#endif
