/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child of ours probes functions of its own and calls them:
 *
 *	parent                           child
 *	cache? else fork ------------->  enters itself into `procs`, links, runs the trial, writes to shared memory
 *	waits for a byte <-------------  done
 *	takes its traces out             exits; the kernel removes its links, which takes a grace period each: nobody waits for them
 *	statistics, cache                (a thread takes its exit code)
 *
 * The child makes the links and is the only one that holds them: when it ends, however it ends, they are gone. Links are for its pid, so that the
 * breakpoints are in no other process that runs this file.
 *
 * The bodies are measured with the programs that will be used, on a process that has a place in the tables like any other: its account's sums, its
 * stacks, its range and what it did to the counters of the processors are taken out again. Blocks it has freed itself.
 */
#include "probe/calibrate.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/calibrate_cache.h"
#include "probe/calibrate_child.h"
#include "probe/calibrate_trial.h"
#include "probe/features.h"
#include "probe/link.h"
#include "probe/loader.h"
#include "shapes.h"
#include "tables.h"
#include "target/proc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

#define ANSWER_MS 3000 /* an emulated processor needs half a second */
#define HOOKS_MAX 12
#define RANGE_INDEX (UNWIND_RANGES - 1) /* the place that is given away last */
#define HITS_RING_UNUSED 4096		/* bytes; bpf/maps.bpf.h */

/* One function to be probed. */
struct hook {
	enum trial_func func;
	int prog, type;
	bool is_return;
	uint64_t cookie;
};

struct calibration {
	struct features features;
	struct loader *loader; /* NULL: the kernel's part only */
	uint32_t image;	       /* the child's, if there is a loader */
	int empty, empty_session;
	struct mapping text; /* of this program; path is not used */
	char path[64];	     /* under which the kernel finds it */
	int file;
	struct hook hooks[HOOKS_MAX];
	size_t n_hooks;
	struct trial *trial; /* shared with the child */
};

/* --- programs that do nothing --- */

static int load_empty(const struct features *f)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts,
		    .expected_attach_type = (enum bpf_attach_type)(f->multi ? ATTACH_UPROBE_MULTI : 0));

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "tm_empty", "GPL", insns, ARRAY_SIZE(insns), &opts);
}

/* Wants no return where the cookie is 1. */
static int load_empty_session(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_attach_cookie },
		{ .code = BPF_ALU64 | BPF_AND | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = (enum bpf_attach_type)ATTACH_UPROBE_SESSION);

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "tm_empty_session", "GPL", insns, ARRAY_SIZE(insns), &opts);
}

static int load_programs(struct calibration *c)
{
	c->empty = load_empty(&c->features);
	if (c->empty < 0)
		return c->empty;
	c->empty_session = c->features.session ? load_empty_session() : -1;
	return c->features.session && c->empty_session < 0 ? c->empty_session : 0;
}

/* --- what is to be probed --- */

static int find_text(struct calibration *c)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	uint32_t pid = (uint32_t)getpid();
	int err = mappings_read(pid, &maps);

	if (err)
		return err;
	const struct mapping *m = mappings_find(&maps, trial_func_addr(FUNC_BARE));
	if (!m || !m->inode)
		return -ENOENT;
	c->file = mapping_open(pid, m, NULL);
	if (c->file < 0)
		return c->file;
	c->text = *m;
	c->text.path = NULL;
	(void)snprintf(c->path, sizeof(c->path), "/proc/%u/fd/%d", pid, c->file);
	return 0;
}

static uint64_t file_offset(const struct calibration *c, enum trial_func f)
{
	return trial_func_addr(f) - c->text.start + c->text.file_offset;
}

static void hook_add(struct calibration *c, enum trial_func func, int prog, uint64_t cookie, bool is_return)
{
	bool session = prog >= 0 && (prog == c->empty_session ||
				     (c->loader && prog == loader_prog_fd(c->loader, CALL_ALLOC_SESSION)));

	c->hooks[c->n_hooks++] = (struct hook){
		.func = func,
		.prog = prog,
		.type = session ? ATTACH_UPROBE_SESSION : ATTACH_UPROBE_MULTI,
		.is_return = is_return,
		.cookie = cookie,
	};
}

static enum probe_scope scope_in_use(const struct features *f)
{
	return f->session ? SCOPE_HOST : SCOPE_PROCESS; /* as attach.c begins */
}

static uint64_t cookie_for(const struct calibration *c, bool is_free)
{
	struct call_cookie k = {
		.layer = LAYER_HEAP,
		.shape = is_free ? SHAPE_PTR_TO_VOID : SHAPE_SIZE_TO_PTR,
		.ptr_reg = is_free ? REG_DI : REG_NONE,
		.size_reg = is_free ? REG_NONE : REG_DI,
		.count_reg = REG_NONE,
		.scope = (unsigned char)scope_in_use(&c->features),
		.site = SITE_FIRST_PROBE,
	};

	return cookie_pack(&k);
}

static void hook_bodies(struct calibration *c)
{
	const struct loader *l = c->loader;

	if (c->features.session) {
		hook_add(c, FUNC_ALLOC, loader_prog_fd(l, CALL_ALLOC_SESSION), cookie_for(c, false), false);
	} else {
		hook_add(c, FUNC_ALLOC, loader_prog_fd(l, CALL_ALLOC_EXIT), cookie_for(c, false), true);
		hook_add(c, FUNC_ALLOC, loader_prog_fd(l, CALL_ALLOC_ENTER), cookie_for(c, false), false);
	}
	hook_add(c, FUNC_FREE, loader_prog_fd(l, CALL_FREE_ENTER), cookie_for(c, true), false);
}

static void choose_hooks(struct calibration *c)
{
	hook_add(c, FUNC_PUSH, c->empty, 0, false);
	hook_add(c, FUNC_TEST, c->empty, 0, false);
	hook_add(c, FUNC_NOP5, c->empty, 0, false);
	if (c->features.session) {
		hook_add(c, FUNC_SKIP, c->empty_session, 1, false);
		hook_add(c, FUNC_FULL, c->empty_session, 0, false);
	} else {
		hook_add(c, FUNC_FULL, c->empty, 0, false);
		hook_add(c, FUNC_FULL, c->empty, 0, true);
	}
	if (c->loader)
		hook_bodies(c);
}

/* --- the child: no memory is allocated here --- */

static bool same_link(const struct hook *a, const struct hook *b)
{
	return a->prog == b->prog && a->type == b->type && a->is_return == b->is_return;
}

/* Hooks of one program, from i on, in one link. Where there are no such links each has its own. */
static int link_from(const struct calibration *c, size_t i, uint32_t pid)
{
	const struct hook *h = &c->hooks[i];
	uint64_t offsets[HOOKS_MAX], cookies[HOOKS_MAX];
	struct link_multi l = { .prog_fd = h->prog,
				.attach_type = h->type,
				.path = c->path,
				.offsets = offsets,
				.cookies = cookies,
				.pid = pid,
				.is_return = h->is_return };

	if (!c->features.multi)
		return link_create_uprobe(h->prog, c->path, file_offset(c, h->func), h->cookie, pid, h->is_return);
	for (size_t k = 0; k < i; k++)
		if (same_link(&c->hooks[k], h))
			return 0;
	for (size_t k = i; k < c->n_hooks; k++) {
		if (!same_link(&c->hooks[k], h))
			continue;
		offsets[l.n] = file_offset(c, c->hooks[k].func);
		cookies[l.n++] = c->hooks[k].cookie;
	}
	return link_create_multi(&l);
}

/* The place of a process in `procs`. */
static struct proc *slot_of(const struct loader *l, uint32_t tgid)
{
	struct proc *slots = loader_procs(l);

	for (uint32_t i = 0; i < PROC_PROBES; i++)
		if (slots[proc_place(tgid, i)].tgid == tgid)
			return &slots[proc_place(tgid, i)];
	return NULL;
}

/* NULL: no place is free. */
static struct proc *slot_enter(const struct loader *l, uint32_t tgid, uint32_t image)
{
	struct proc *slots = loader_procs(l);

	for (uint32_t i = 0; i < PROC_PROBES; i++) {
		struct proc *p = &slots[proc_place(tgid, i)];
		if (!__sync_bool_compare_and_swap(&p->tgid, 0, PROC_CLAIMED))
			continue;
		*p = (struct proc){ .tgid = PROC_CLAIMED,
				    .used = p->used + 1,
				    .swept = p->swept,
				    .flags = PROC_HEAP,
				    .id = { .pid = tgid, .image = image },
				    .layout = layout_pack(RANGE_INDEX, 1),
				    .layout_asked = 1,
				    .window_end_ns = WINDOW_ALWAYS };
		p->account = account_make((uint32_t)(p - slots), p->used);
		__atomic_store_n(&p->tgid, tgid, __ATOMIC_RELEASE);
		return p;
	}
	return NULL;
}

static int child_run(const struct calibration *c)
{
	uint32_t pid = (uint32_t)getpid();
	struct proc *self = c->loader ? slot_enter(c->loader, pid, c->image) : NULL;

	for (size_t i = 0; i < c->n_hooks; i++) {
		int link = link_from(c, i, pid); /* stays open until the child ends */
		if (link < 0)
			return link;
	}
	trial_run(c->trial, self);
	return 0;
}

static void child_work(void *ctx)
{
	const struct calibration *c = ctx;

	c->trial->err = child_run(c);
}

/* --- the parent --- */

/* The sums of an account, and the calls that they hold. */
struct traces {
	const struct loader *loader;
	uint32_t account;
	size_t sums;
	uint64_t calls;
};

/* Of the account: counted and taken out. */
static bool trace_take(void *ctx, uint32_t index, const struct sum *sum)
{
	struct traces *t = ctx;

	(void)index;
	if (sum->account != t->account)
		return true;
	t->sums++;
	t->calls += sum->alloc_count;
	(void)bpf_map_delete_elem(loader_map_fd(t->loader, KMAP_STACKS), &sum->ids.native); /* 0: there is none */
	return false;
}

static void stats_clear(const struct loader *l)
{
	int n = libbpf_num_possible_cpus();
	_cleanup_(freep) void *zero = n > 0 ? xcalloc((size_t)n, sizeof(struct cpu_stat)) : NULL;
	uint32_t key = 0;

	if (zero)
		(void)bpf_map_update_elem(loader_map_fd(l, KMAP_CPU_STATS), &key, zero, 0); /* an array: it is there */
}

/*
 * The child calls nothing any more: what it left in the tables goes. Figures for which its calls were not booked as they should be are no figures.
 */
static void traces_remove(struct calibration *c, pid_t pid, bool ran)
{
	struct proc *p = slot_of(c->loader, (uint32_t)pid);
	struct traces t = { .loader = c->loader, .account = p ? p->account : 0 };
	struct sums_table table = loader_sums(c->loader);

	if (p) {
		(void)sums_each(&table, trace_take, &t); /* what can't be read shows as sums that are missing */
		p->swept = p->used;
		__atomic_store_n(&p->tgid, 0, __ATOMIC_RELEASE);
	}
	stats_clear(c->loader);
	for (uint32_t i = 0; ran && i < c->trial->rounds; i++) {
		if (t.sums < 2)
			c->trial->ns[BATCH_BODY_STACK][i] = NAN;
		for (int b = BATCH_KERNEL_NR; b < BATCH_NR && !t.calls; b++)
			c->trial->ns[b][i] = NAN;
	}
	log_debug("calibration: %zu sums, %llu calls were booked", t.sums, (unsigned long long)t.calls);
}

static int measure_in_child(struct calibration *c, struct hit_costs *ret)
{
	struct unwind_range *range = c->loader ? &loader_unwind_area(c->loader).ranges[RANGE_INDEX] : NULL;
	pid_t pid = -1;

	if (range) {
		loader_set_scope(c->loader, scope_in_use(&c->features));
		c->image = loader_new_image(c->loader);
		*range = (struct unwind_range){
			.start = c->text.start, .end = c->text.end, .bias = c->text.start, .page = RANGE_NO_ROWS
		};
	}
	c->trial->err = -ECHILD;
	int err = child_do(child_work, c, ANSWER_MS, &pid);
	if (!err)
		err = c->trial->err;
	if (range && pid > 0)
		traces_remove(c, pid, !err);
	if (range)
		*range = (struct unwind_range){ 0 };
	if (pid > 0)
		child_reap(pid);
	return err ? err : trial_costs(c->trial, c->features.session, ret);
}

static void calibration_done(struct calibration *c)
{
	closep(&c->empty);
	closep(&c->empty_session);
	closep(&c->file);
	if (c->trial)
		(void)munmap(c->trial, sizeof(*c->trial));
}

static int measure(const struct features *f, struct loader *l, struct hit_costs *ret)
{
	_cleanup_(calibration_done) struct calibration c = {
		.features = *f, .loader = l, .empty = -1, .empty_session = -1, .file = -1
	};
	void *shared = mmap(NULL, sizeof(*c.trial), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return -errno;
	c.trial = shared;
	int err = load_programs(&c);
	if (!err)
		err = find_text(&c);
	if (err)
		return err;
	choose_hooks(&c);
	return measure_in_child(&c, ret);
}

/* --- with the cache --- */

bool hit_costs_complete(const struct hit_costs *c)
{
	return !isnan(c->body_skip_ns) && !isnan(c->body_count_ns) && !isnan(c->body_free_ns) &&
	       !isnan(c->body_stack_ns);
}

/* By what the kernel calls them: a hash of their instructions. */
static uint64_t programs_tag(const struct loader *l)
{
	uint64_t all = 0;

	for (int p = 0; p < CALL_NR; p++) {
		struct bpf_prog_info info = { 0 };
		uint32_t len = sizeof(info);
		int fd = loader_prog_fd(l, (enum call_prog)p);
		uint64_t tag;
		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
			continue;
		memcpy(&tag, info.tag, sizeof(tag));
		all = table_mix(all, tag);
	}
	return all ? all : 1;
}

static struct costs_key key_for(const struct loader *l)
{
	struct costs_key k = { 0 };

	if (costs_key_current(&k)) /* no file is of such a boot, and none is written */
		k.boot[0] = 0;
	k.programs = l ? programs_tag(l) : 0;
	return k;
}

static int load_kept(const struct features *f, const struct costs_key *k, bool with_bodies, struct hit_costs *ret)
{
	struct hit_costs c;
	int err = k->boot[0] ? costs_load(costs_dir(), k, &c) : -ENOENT;

	if (!err && ((c.skip_ns > 0) != f->session || (with_bodies && !hit_costs_complete(&c))))
		err = -ENODATA;
	if (!err)
		*ret = c;
	return err;
}

/* As measured in a guest of 2 processors, Linux 6.18, KVM: for whoever has to decide without knowing. */
static struct hit_costs usual_costs(const struct features *f)
{
	return (struct hit_costs){
		.emulated_ns = 660,
		.stepped_ns = 20000,
		.nop5_ns = f->multi ? 510 : 20000,
		.skip_ns = f->session ? 670 : 0,
		.return_ns = 540,
		.body_skip_ns = f->session ? 80 : 180,
		.body_count_ns = 610,
		.body_free_ns = 120,
		.body_stack_ns = 50,
		.body_python_ns = NAN,
	};
}

static int take(const struct features *f, struct loader *l, struct hit_costs *ret, bool *ret_fresh)
{
	struct costs_key k = key_for(l);
	int err = load_kept(f, &k, l != NULL, ret);

	if (!err) {
		log_debug("costs of hits: read from \"%s\"", costs_dir());
		*ret_fresh = false;
		return 0;
	}
	uint64_t began = mono_ns();
	int failed = measure(f, l, ret);
	log_debug("costs of hits: %s in %.1f ms (kept ones: %s)", failed ? strerror(-failed) : "measured",
		  (double)(mono_ns() - began) / 1e6, strerror(-err));
	if (failed) {
		*ret = usual_costs(f);
		*ret_fresh = false;
		return failed;
	}
	err = k.boot[0] ? costs_store(costs_dir(), &k, ret) : -ENOENT;
	if (err)
		log_debug("\"%s\" can't be written, so they are measured at each start: %s", costs_dir(),
			  strerror(-err));
	*ret_fresh = true;
	return 0;
}

int calibrate(struct loader *l, struct hit_costs *ret, bool *ret_fresh)
{
	/* Calls that are recorded are the tests' business: none of ours among them. */
	bool recorded = loader_map_info(l, KMAP_HITS).capacity > HITS_RING_UNUSED;

	return take(loader_features(l), recorded ? NULL : l, ret, ret_fresh);
}

int calibrate_kernel(const struct features *f, struct hit_costs *ret, bool *ret_fresh)
{
	return take(f, NULL, ret, ret_fresh);
}

int calibrate_kept(const struct features *f, struct hit_costs *ret)
{
	struct costs_key k = key_for(NULL);

	return load_kept(f, &k, false, ret);
}
