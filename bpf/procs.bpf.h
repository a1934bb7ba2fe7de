/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which processes are followed, and their identity from birth to death. `procs` is the target filter: a process that is not in
 * it costs one lookup. Children enter it before they run their first instruction (sched_process_fork runs in the parent),
 * so prefork workers are complete; exec gives a new image number, so that nothing of the old heap can match again.
 */
#ifndef TIDEMARK_BPF_PROCS_H
#define TIDEMARK_BPF_PROCS_H

#include "loss.bpf.h"

#define NS_PER_TICK 10000000ull /* USER_HZ is 100 on x86 */

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

static __always_inline void event_life(__u32 kind, const struct proc_key *id, const struct proc_key *other, __u32 flags)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		loss_count(NULL, LOSS_RING_FULL);
		return;
	}
	e->kind = kind;
	e->tid = (__u32)bpf_get_current_pid_tgid();
	e->id = *id;
	e->ts_ns = bpf_ktime_get_ns();
	e->life.other = *other;
	e->life.flags = flags;
	(void)bpf_get_current_comm(e->life.comm, sizeof(e->life.comm)); /* only fails on a bad size */
	bpf_ringbuf_submit(e, wake_flags(kind));
}

/* A process below the observed cgroup that is seen for the first time. */
__noinline int proc_adopt(__u32 tgid)
{
	if (!cfg.cgroup_id || tgid == cfg.own_tgid ||
	    bpf_get_current_ancestor_cgroup_id(cfg.cgroup_level) != cfg.cgroup_id)
		return -1;
	struct task_struct *leader = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader);
	struct proc p = {
		.id = { .start_ticks = start_ticks_of(leader), .pid = tgid, .image = __sync_fetch_and_add(&next_image, 1) },
		.flags = cfg.adopt_flags | PROC_LATE,
		.ppid = BPF_CORE_READ(leader, real_parent, tgid),
	};
	struct proc_key none = {};

	p.losses[LOSS_LATE_ATTACH] = 1;
	if (bpf_map_update_elem(&procs, &tgid, &p, BPF_NOEXIST) == 0)
		event_life(EVENT_EXEC, &p.id, &none, p.flags);
	return 0;
}

static __always_inline struct proc *proc_current(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct proc *p = bpf_map_lookup_elem(&procs, &tgid);

	if (!p && cfg.cgroup_id)
		p = proc_adopt(tgid) ? NULL : bpf_map_lookup_elem(&procs, &tgid);
	return p;
}

static __always_inline void proc_insert(__u32 tgid, struct proc *p)
{
	if (bpf_map_update_elem(&procs, &tgid, p, BPF_ANY))
		loss_count(NULL, LOSS_PROCS_FULL);
}

static __always_inline void proc_born(struct task_struct *parent, struct task_struct *child)
{
	__u32 tgid = BPF_CORE_READ(child, tgid), parent_tgid = BPF_CORE_READ(parent, tgid);
	struct proc *pp = bpf_map_lookup_elem(&procs, &parent_tgid);
	struct proc_key none = {};
	struct proc p = {};

	p.id.start_ticks = start_ticks_of(child);
	p.id.pid = tgid;
	p.ppid = parent_tgid;
	if (pp && pp->flags & PROC_FOLLOW) {
		p.flags = pp->flags & ~(PROC_LATE | PROC_NAMED | PROC_BORROWS_MM);
		p.id.image = pp->id.image;
		if (BPF_CORE_READ(child, mm) == BPF_CORE_READ(parent, mm)) {
			p.flags |= PROC_BORROWS_MM;
			p.id = pp->id;
		}
	} else if (cfg.follow_all_flags) {
		p.flags = cfg.follow_all_flags;
		p.id.image = __sync_fetch_and_add(&next_image, 1);
	} else {
		return;
	}
	proc_insert(tgid, &p);
	event_life(EVENT_FORK, &p.id, pp ? &pp->id : &none, p.flags);
}

static __always_inline void proc_exec(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct proc *old = bpf_map_lookup_elem(&procs, &tgid);
	struct proc_key before = {};
	struct proc p = {};

	p.id.start_ticks = start_ticks_of(BPF_CORE_READ(task, group_leader));
	p.id.pid = tgid;
	p.ppid = BPF_CORE_READ(task, real_parent, tgid);
	if (!old && !cfg.follow_all_flags) {
		if (cfg.watch_exec)
			event_life(EVENT_EXEC, &p.id, &before, 0);
		return;
	}
	p.id.image = __sync_fetch_and_add(&next_image, 1);
	p.flags = cfg.follow_all_flags;
	if (old) {
		p.flags = old->flags & ~(PROC_BORROWS_MM | PROC_LATE | PROC_NO_RETURN);
		if (!(old->flags & PROC_BORROWS_MM))
			before = old->id;
	}
	proc_insert(tgid, &p);
	event_life(EVENT_EXEC, &p.id, &before, p.flags);
}

static __always_inline void proc_gone(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);
	struct proc *p = bpf_map_lookup_elem(&procs, &tgid);

	if (!p)
		return;
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		e->kind = EVENT_EXIT;
		e->tid = tgid;
		e->id = p->id;
		e->ts_ns = bpf_ktime_get_ns();
		e->final = *p; /* copied before the element is deleted: its memory may be reused at once */
		bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
	} else {
		loss_count(NULL, LOSS_RING_FULL);
	}
	bpf_map_delete_elem(&procs, &tgid);
}

#endif
