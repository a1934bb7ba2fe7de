/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which processes are followed, and their identity from birth to death. `procs` is the target filter: a process that is not in
 * it costs a look at a few slots. Children enter it before they run their first instruction (sched_process_fork runs in the parent),
 * so prefork workers are complete; exec gives a new image and a new account, so that nothing of the old heap can match again.
 */
#ifndef TIDEMARK_BPF_PROCS_H
#define TIDEMARK_BPF_PROCS_H

#include "loss.bpf.h"

#define NS_PER_TICK 10000000ull /* USER_HZ is 100 on x86 */
#define NO_SLOT 0xffffffffu

static __always_inline __u64 start_ticks_of(struct task_struct *leader)
{
	return BPF_CORE_READ(leader, start_boottime) / NS_PER_TICK;
}

/* Events are rare; what is frequent wakes user space only when the ring fills. */
static __always_inline __u64 wake_flags(__u32 kind)
{
	if (kind <= EVENT_EXIT)
		return BPF_RB_FORCE_WAKEUP;
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > 524288 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* The other end of a fork or exec: whose child, which image before. */
struct account_ref {
	struct proc_key id;
	__u32 account;
};

static __always_inline void event_life(__u32 kind, const struct account_ref *who, const struct account_ref *other,
				       __u32 flags)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		loss_count(NULL, LOSS_RING_FULL);
		return;
	}
	e->kind = kind;
	e->tid = (__u32)bpf_get_current_pid_tgid();
	e->account = who->account;
	e->other_account = other->account;
	e->id = who->id;
	e->ts_ns = bpf_ktime_get_ns();
	e->life.other = other->id;
	e->life.flags = flags;
	(void)bpf_get_current_comm(e->life.comm, sizeof(e->life.comm)); /* only fails on a bad size */
	bpf_ringbuf_submit(e, wake_flags(kind));
}

/* Slot of a process, NO_SLOT if it is not followed. A slot that was never used ends the search: nobody was put behind it. */
static __always_inline __u32 proc_find(__u32 tgid)
{
	NO_UNROLL
	for (__u32 i = 0; i < PROC_PROBES; i++) {
		__u32 slot = proc_place(tgid, i);
		struct proc *p = bpf_map_lookup_elem(&procs, &slot);
		if (!p || !p->used)
			break;
		if (p->tgid == tgid)
			return slot;
	}
	return NO_SLOT;
}

static __always_inline struct proc *proc_at(__u32 slot)
{
	return bpf_map_lookup_elem(&procs, &slot);
}

/* Takes a free slot; it stays invisible until its tgid is written. */
static __always_inline __u32 proc_claim(__u32 tgid)
{
	NO_UNROLL
	for (__u32 i = 0; i < PROC_PROBES; i++) {
		__u32 slot = proc_place(tgid, i);
		struct proc *p = bpf_map_lookup_elem(&procs, &slot);
		if (p && !account_worn(p) && __sync_val_compare_and_swap(&p->tgid, 0, PROC_CLAIMED) == 0)
			return slot;
	}
	return NO_SLOT;
}

/* What a slot is filled with. */
struct proc_birth {
	struct proc_key id;
	__u32 flags, ppid;
	__u32 account;	    /* 0: its own */
	__u32 keeps_losses; /* exec: they are the process's, not the image's */
	__u64 layout;
	__u32 python;
	__u32 rate;
};

/* A new account in a slot that is claimed, or whose process is between two images (exec: only one thread is left). */
static __always_inline void proc_fill(struct proc *p, __u32 slot, __u32 tgid, const struct proc_birth *b)
{
	p->used++;
	p->account = b->account ? b->account : account_make(slot, p->used);
	p->flags = b->flags;
	p->id = b->id;
	p->ppid = b->ppid;
	p->layout = b->layout;
	p->python = b->python;
	p->layout_asked = 0;
	p->rate = b->rate;
	p->spent = 0;
	p->hits = p->returns = p->sampled = p->body_ns = p->hits_limit = p->given_back_bytes = 0;
	p->window_end_ns = cfg.windowed ? 0 : WINDOW_ALWAYS;
	p->scale = 0;
	p->unsampled = 0;
	p->code_turn = 0;
	p->booked_bytes = p->booked_var = 0;
	__builtin_memset(p->live_bytes, 0, sizeof(p->live_bytes));
	__builtin_memset(p->peak_live_bytes, 0, sizeof(p->peak_live_bytes));
	if (!b->keeps_losses)
		__builtin_memset(p->losses, 0, sizeof(p->losses));
	barrier();
	p->tgid = tgid;
}

/* NULL: no slot, counted. */
static __always_inline struct proc *proc_enter(__u32 tgid, const struct proc_birth *b)
{
	__u32 slot = proc_find(tgid);

	if (slot == NO_SLOT)
		slot = proc_claim(tgid);
	struct proc *p = slot == NO_SLOT ? NULL : proc_at(slot);
	if (p &&
	    account_worn(
		    p)) { /* it ran one program after the other faster than user space sweeps: not followed any more */
		p->tgid = 0;
		p = NULL;
	}
	if (!p) {
		loss_count(NULL, LOSS_PROCS_FULL);
		return NULL;
	}
	proc_fill(p, slot, tgid, b);
	return p;
}

/* A process below the observed cgroup that is seen for the first time. A global function: the verifier checks it once. */
__noinline int proc_adopt(__u32 tgid)
{
	if (!cfg.cgroup_id || tgid == cfg.own_tgid ||
	    bpf_get_current_ancestor_cgroup_id(cfg.cgroup_level) != cfg.cgroup_id)
		return -1;
	struct task_struct *leader = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader);
	struct proc_birth b = {
		.id = { .start_ticks = start_ticks_of(leader),
			.pid = tgid,
			.image = __sync_fetch_and_add(&next_image, 1) },
		.flags = cfg.adopt_flags | PROC_LATE,
		.ppid = BPF_CORE_READ(leader, real_parent, tgid),
		.rate = cfg.rate,
	};
	struct account_ref none = {}, self = { .id = b.id };

	if (__sync_val_compare_and_swap(&adopting, 0, 1) != 0)
		return -1; /* another thread is at it: this call is before the attach */
	struct proc *p = proc_find(tgid) == NO_SLOT ? proc_enter(tgid, &b) : NULL;
	if (p) {
		p->losses[LOSS_LATE_ATTACH] = 1;
		self.account = p->account;
	}
	__sync_lock_test_and_set(&adopting, 0);
	if (p)
		event_life(EVENT_EXEC, &self, &none, b.flags);
	return 0;
}

static __always_inline struct thread_state *thread_get(__u64 flags)
{
	return bpf_task_storage_get(&threads, bpf_get_current_task_btf(), 0, flags);
}

/* On whose record a process is booked: a child that has its parent's memory on the parent's, figures and all. */
static __always_inline struct proc *proc_booked(struct proc *p)
{
	if (!p || !(p->flags & PROC_BORROWS_MM))
		return p;
	struct proc *owner = proc_at(account_slot(p->account));
	/* A freed slot keeps its number: nobody is left to book on. */
	return owner && owner->account == p->account && owner->tgid && owner->tgid != PROC_CLAIMED ? owner : NULL;
}

/*
 * The followed process of this thread, NULL if it is not followed. A thread that was here before remembers its account, which
 * leads to the slot at once; it is checked, for the process may have run another program since.
 */
static __always_inline struct proc *proc_current(struct thread_state **ret)
{
	struct task_struct *task = bpf_get_current_task_btf(); /* once: kernels before 7.0 call it */
	struct thread_state *t = bpf_task_storage_get(&threads, task, 0, 0);
	__u32 tgid = task->tgid;
	struct proc *p;

	*ret = t;
	if (t) {
		p = proc_at(account_slot(t->account));
		if (p && p->tgid == tgid && p->account == t->account)
			return p;
	}
	__u32 slot = proc_find(tgid);
	if (slot == NO_SLOT && (!cfg.cgroup_id || proc_adopt(tgid) || (slot = proc_find(tgid)) == NO_SLOT))
		return NULL;
	p = proc_booked(proc_at(slot));
	if (p && t)
		t->account = p->account;
	return p;
}

static __always_inline void proc_born(struct task_struct *parent, struct task_struct *child)
{
	__u32 tgid = BPF_CORE_READ(child, tgid), parent_slot = proc_find(BPF_CORE_READ(parent, tgid));
	struct proc *pp = parent_slot == NO_SLOT ? NULL : proc_at(parent_slot);
	struct account_ref self = {}, other = {};
	struct proc_birth b = {};

	b.id.start_ticks = start_ticks_of(child);
	b.id.pid = tgid;
	b.ppid = BPF_CORE_READ(parent, tgid);
	b.rate = cfg.rate;
	if (pp && pp->flags & PROC_FOLLOW) {
		b.flags = pp->flags & ~(PROC_LATE | PROC_NAMED | PROC_BORROWS_MM);
		b.id.image = pp->id.image;
		b.layout = pp->layout;
		b.python = pp->python;
		if (BPF_CORE_READ(child, mm) == BPF_CORE_READ(parent, mm)) {
			b.flags |= PROC_BORROWS_MM;
			b.id = pp->id;
			b.account = pp->account;
		}
	} else if (cfg.follow_all_flags && BPF_CORE_READ(child, mm)) { /* kernel threads have no memory of their own */
		b.flags = cfg.follow_all_flags;
		b.id.image = __sync_fetch_and_add(&next_image, 1);
	} else {
		return;
	}
	struct proc *p = proc_enter(tgid, &b);
	if (!p)
		return;
	self.id = b.id;
	self.account = p->account;
	if (pp) {
		other.id = pp->id;
		other.account = pp->account;
	}
	event_life(EVENT_FORK, &self, &other, b.flags);
}

static __always_inline void proc_exec(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid), slot = proc_find(tgid);
	struct proc *old = slot == NO_SLOT ? NULL : proc_at(slot);
	struct account_ref self = {}, before = {};
	struct proc_birth b = {};

	b.id.start_ticks = start_ticks_of(BPF_CORE_READ(task, group_leader));
	b.id.pid = tgid;
	b.ppid = BPF_CORE_READ(task, real_parent, tgid);
	b.rate = cfg.rate;
	b.flags = cfg.follow_all_flags;
	if (!old && !cfg.follow_all_flags) {
		self.id = b.id;
		if (cfg.watch_exec)
			event_life(EVENT_EXEC, &self, &before, 0);
		return;
	}
	b.id.image = __sync_fetch_and_add(&next_image, 1);
	if (old) {
		b.keeps_losses = 1;
		b.flags = old->flags & ~(PROC_BORROWS_MM | PROC_LATE | PROC_NO_RETURN | PROC_TIGHT);
		if (!(old->flags & PROC_BORROWS_MM)) {
			before.id = old->id;
			before.account = old->account;
		}
	}
	struct proc *p = proc_enter(tgid, &b);
	if (!p)
		return;
	self.id = b.id;
	self.account = p->account;
	event_life(EVENT_EXEC, &self, &before, b.flags);
}

static __always_inline void proc_gone(struct task_struct *task)
{
	__u32 slot = proc_find(BPF_CORE_READ(task, tgid));
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct proc *p = slot == NO_SLOT ? NULL : proc_at(slot);

	/* Two threads that end together both see that none is left; one of them reports. */
	if (!p || __sync_val_compare_and_swap(&p->tgid, tgid, PROC_CLAIMED) != tgid)
		return;
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		e->kind = EVENT_EXIT;
		e->tid = tgid;
		e->account = p->account;
		e->other_account = 0;
		e->id = p->id;
		e->ts_ns = bpf_ktime_get_ns();
		__builtin_memcpy(&e->final, p, sizeof(e->final)); /* before the slot is free for others */
		bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
	} else {
		loss_count(NULL, LOSS_RING_FULL);
	}
	barrier();
	p->tgid = 0;
}

#endif
