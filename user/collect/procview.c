/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/procview.h"

#include <math.h>
#include <string.h>

#include "collect/pyseen.h"
#include "target/cgroup.h"
#include "target/proc.h"
#include "util/arena.h"

#define STATUS_NS 10000000000ull
#define PAGES_FDS_MAX 1024 /* of more processes the dearer file is read each time */

/* The dearer file is read where the cheaper one does not tell, and now and then: as many pages may have come of one kind as went of another. */
static void refresh_rss(struct follow *f, struct watched *w, uint64_t now_ns)
{
	struct proc_pages pages = { 0 };

	if (w->rss.fd <= 0 && f->pages_fds < PAGES_FDS_MAX) {
		w->rss.fd = proc_open_pages(w->pid);
		f->pages_fds += w->rss.fd > 0;
	}
	if (w->rss.fd > 0 && proc_read_pages(w->rss.fd, &pages))
		return;
	bool told = w->rss.fd > 0 && w->rss.known && now_ns - w->rss.read_ns < STATUS_NS &&
		    proc_rss_follow(&w->rss.rss, &w->rss.pages, &pages);
	if (!told && proc_read_rss(w->pid, &w->rss.rss))
		return;
	w->rss.known = true;
	w->rss.pages = pages;
	w->rss.read_ns = told ? w->rss.read_ns : now_ns;
}

static void read_memory(struct follow *f, struct watched *w, struct snap_proc *p, uint64_t now_ns)
{
	static const struct proc_rss unknown = { UNKNOWN_U64, UNKNOWN_U64, UNKNOWN_U64, UNKNOWN_U64, UNKNOWN_U64 };

	/* An exited process is reported with what was read last. */
	if (w->state == PROC_RUNNING)
		refresh_rss(f, w, now_ns);
	const struct proc_rss *rss = w->rss.known ? &w->rss.rss : &unknown;
	p->rss_bytes = rss->rss_bytes;
	p->anon_bytes = rss->anon_bytes;
	p->file_bytes = rss->file_bytes;
	p->shmem_bytes = rss->shmem_bytes;
	p->swap_bytes = rss->swap_bytes;
}

static void read_limit(struct follow *f, const struct watched *w, struct snap_proc *p, uint64_t now_ns)
{
	if (!w->cgroup || cgroup_group_limit(f->limits, w->cgroup, now_ns, &p->limit_bytes, &p->limit_used_bytes))
		p->limit_bytes = p->limit_used_bytes = UNKNOWN_U64;
}

static void read_layers(struct watched *w, struct ranges *r, struct snap_proc *p, bool map)
{
	struct range_proc rp;

	p->layer_on[LAYER_PAGE] = true;
	p->layer_on[LAYER_MAP] = map && w->flags & PROC_MAP;
	p->layer_on[LAYER_HEAP] = w->flags & PROC_HEAP;
	p->layer_on[LAYER_PYTHON] = w->flags & PROC_PYTHON && w->py_alloc && w->py_alloc->n_funcs;
	for (int i = 0; i < LAYER_NR; i++)
		p->peak_live_bytes[i] = w->kernel.peak_live_bytes[i] > 0 ? (uint64_t)w->kernel.peak_live_bytes[i] : 0;
	/* The kernel side's running sum lacks the frees that no probe saw. */
	if (w->window.lever && !w->window.whole)
		p->peak_live_bytes[LAYER_HEAP] = p->peak_live_bytes[LAYER_PYTHON] = UNKNOWN_U64;
	if (ranges_proc(r, &w->id, &rp) == 0)
		p->peak_live_bytes[LAYER_MAP] = rp.peak_live_bytes;
}

const struct snap_proc *procview_list(struct follow *f, struct ranges *r, struct arena *arena, uint64_t now_ns,
				      bool map, size_t *ret_n)
{
	struct snap_proc *list = arena_alloc(arena, HASH_COUNT(f->all), sizeof(*list));
	size_t n = 0;

	for (struct watched *w = f->all; w; w = w->hh.next) {
		struct snap_proc *p = &list[n++];
		p->id = w->id;
		p->ppid = w->ppid;
		p->comm = arena_strdup(arena, w->comm);
		p->cmdline = arena_strdup(arena, w->cmdline ? w->cmdline : "");
		p->cgroup = arena_strdup(arena, w->cgroup ? cgroup_group_name(w->cgroup) : "");
		p->python = w->python[0] ? arena_strdup(arena, w->python) : NULL;
		p->python_refused = images_python_refused(f->images, w->id.image);
		p->py_allocator = w->flags & PROC_PYTHON && w->py_alloc ? py_allocator_name(w->py_alloc->kind) : NULL;
		p->py_coverage = pyseen_share(w);
		p->state = w->state;
		p->mode = !(w->flags & (PROC_HEAP | PROC_PYTHON)) ? MODE_PAGES
			  : w->kernel.rate			  ? MODE_SAMPLED
								  : MODE_EXACT;
		p->edge = w->window.lever ? w->window.edge : 0;
		p->lever = w->window.lever ? arena_strdup(arena, w->window.lever) : NULL;
		p->attached_share = w->window.lever ? w->window.attached_share : 1;
		p->overhead_pct = w->window.lever ? w->window.overhead_pct
						  : NAN; /* what faults and mappings cost is not measured */
		memcpy(p->losses, w->kernel.losses, sizeof(p->losses));
		p->losses[LOSS_LATE_ATTACH] += w->late_files;
		/* Of what was counted before probes went for good nobody knows what lives. */
		p->live_unknown = w->unsafe != NULL || !(w->flags & (PROC_HEAP | PROC_PYTHON)) ||
				  (w->window.lever && !w->window.whole && !w->survivors);
		memcpy(p->unanswered, w->unanswered, sizeof(p->unanswered));
		read_memory(f, w, p, now_ns);
		read_limit(f, w, p, now_ns);
		read_layers(w, r, p, map);
		p->faults_counted = w->flags & f->flags & PROC_PAGE;
		p->given_back_bytes = loader_sees_madvise(f->loader) ? w->kernel.given_back_bytes : UNKNOWN_U64;
	}
	*ret_n = n;
	return list;
}
