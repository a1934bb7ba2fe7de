/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/follow.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collect/sumscatter.h"
#include "collect/survival.h"
#include "collect/pycoverage.h"
#include "collect/pyseen.h"
#include "collect/threads.h"
#include "probe/gate.h"
#include "probe/pycodefree.h"
#include "target/cgroup.h"
#include "target/dynsym.h"
#include "target/proc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

static void watched_free(struct follow *f, struct watched *w)
{
	HASH_DELETE(hh, f->all, w);
	HASH_DELETE(by_id, f->ids, w);
	f->changed = true;
	if (w->rss.fd > 0) {
		(void)close(w->rss.fd);
		f->pages_fds--;
	}
	free(w->cmdline);
	cgroup_group_drop(f->limits, w->cgroup);
	free(w->py_alloc);
	pycoverage_free(w->py_coverage);
	free(w);
}

void follow_done(struct follow *f)
{
	struct watched *w, *next;

	HASH_ITER(hh, f->all, w, next)
		watched_free(f, w);
}

/* Called while the account that ends is still listed: one process that has the image is itself. */
static void image_ended(struct follow *f, uint32_t image)
{
	int users = 0;

	for (struct watched *w = f->all; w; w = w->hh.next)
		users += w->id.image == image;
	if (users > 1)
		return;
	stackdefs_forget(f->defs, image);
	images_forget(f->images, image);
}

static void account_ended(struct follow *f, const struct watched *w)
{
	places_forget(f->places, &w->id);
	ranges_forget(f->ranges, &w->id);
	images_ended(f->images, w->account);
	survival_forget(f->survival, w->account);
	sum_scatters_forget(f->scatters, w->account);
	threads_forget(f->threads, w->account);
	image_ended(f, w->id.image);
	accounts_end(f->accounts, w->account);
}

/* At the first look at a new image the loader may not have mapped the interpreter's library; not all modes tell when. */
#define PYTHON_LOOKS 2

struct watched *follow_find_account(struct follow *f, uint32_t account)
{
	struct watched *w = NULL;

	HASH_FIND(hh, f->all, &account, sizeof(account), w);
	return w;
}

/* The process that has this number now; those that had it before are found by their accounts only. */
static struct watched *find_pid(struct follow *f, uint32_t pid)
{
	uint32_t account = accounts_of_pid(f->accounts, pid);

	return account ? follow_find_account(f, account) : NULL;
}

struct watched *follow_find(struct follow *f, const struct proc_key *id)
{
	struct watched *w = NULL;

	HASH_FIND(by_id, f->ids, id, sizeof(*id), w);
	return w;
}

size_t follow_running(const struct follow *f)
{
	size_t n = 0;

	for (struct watched *w = f->all; w; w = w->hh.next)
		n += w->state == PROC_RUNNING;
	return n;
}

static struct watched *watched_add(struct follow *f, const struct proc_key *id, uint32_t account, uint32_t flags,
				   uint32_t ppid)
{
	struct watched *w = xcalloc(1, sizeof(*w));

	w->account = account;
	w->pid = id->pid;
	w->id = *id;
	w->flags = flags;
	w->ppid = ppid;
	w->files_changed = w->names_changed = f->changed = true;
	w->python_looks = flags & PROC_LATE ? 1 : PYTHON_LOOKS;
	w->py_alloc_looks = PYTHON_LOOKS;
	HASH_ADD(hh, f->all, account, sizeof(w->account), w);
	HASH_ADD(by_id, f->ids, id, sizeof(w->id), w);
	return w;
}

int follow_enter(struct follow *f, uint32_t pid, bool late)
{
	struct proc_stat st;
	int err = proc_read_stat(pid, &st);

	if (err)
		return err;
	if (st.state == 'Z' || st.state == 'X')
		return -ESRCH;
	struct proc p = {
		.id = { .start_ticks = st.start_ticks, .pid = pid, .image = loader_new_image(f->loader) },
		.flags = f->flags | PROC_NAMED | (late ? PROC_LATE : 0),
		.ppid = st.ppid,
		.rate = f->rate,
		.window_end_ns = f->windowed ? 0 : WINDOW_ALWAYS,
	};
	p.losses[LOSS_LATE_ATTACH] = late;
	uint32_t account;
	err = accounts_enter(f->accounts, pid, &p, &account);
	if (err)
		return err == -EEXIST ? 0 : err;
	watched_add(f, &p.id, account, p.flags, p.ppid)->kernel = p;
	return 0;
}

static bool is_kernel_thread(uint32_t pid)
{
	struct proc_rss rss;

	return proc_read_rss(pid, &rss) == -ENOENT;
}

/* Children of followed processes that were born before the probes of births were in place. Number entered. */
static int seed_children(struct follow *f)
{
	_cleanup_(freep) uint32_t *pids = NULL;
	size_t n = 0;
	int entered = 0;

	if (proc_list_pids(&pids, &n))
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct proc_stat st;
		if (find_pid(f, pids[i]) || pids[i] == (uint32_t)getpid() || proc_read_stat(pids[i], &st))
			continue;
		if (st.state != 'Z' && find_pid(f, st.ppid))
			entered += follow_enter(f, pids[i], true) == 0 && find_pid(f, pids[i]);
	}
	return entered;
}

int follow_seed(struct follow *f)
{
	_cleanup_(freep) uint32_t *pids = NULL;
	size_t n = 0;
	int err = target_list(f->target, &pids, &n), entered = 0;
	uint64_t refused = 0;

	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		if (find_pid(f, pids[i]) || (f->target->kind == TARGET_ALL && is_kernel_thread(pids[i])))
			continue;
		err = follow_enter(f, pids[i], true);
		refused += err == -ENOSPC; /* told; the others are observed all the same */
		if (err && err != -ESRCH && err != -ENOENT && err != -ENOSPC)
			return err;
		entered += !err;
	}
	f->refused = refused > f->refused ? refused : f->refused; /* the same ones are met again each time */
	while (f->target->kind != TARGET_ALL && seed_children(f))
		;
	return entered;
}

/* What of the process itself decides about return probes; told to the kernel side as it is learnt. */
static struct gate_input read_guard(struct follow *f, struct watched *w)
{
	struct proc_guard guard = { 0 };

	(void)proc_read_guard(w->pid, &guard); /* gone: nothing will be attached either */
	if (guard.tight_memory)
		accounts_set_flags(f->accounts, w->account, PROC_TIGHT, 0);
	return (struct gate_input){
		.kernel_version = loader_features(f->loader)->version,
		.seccomp_mode = guard.seccomp_mode,
		.shadow_stack = guard.shadow_stack,
	};
}

static bool gate(struct follow *f, struct watched *w, const struct gate_input *in)
{
	if (gate_allows_return(in, &w->unsafe))
		return true;
	accounts_set_flags(f->accounts, w->account, PROC_NO_RETURN, 0);
	return false;
}

static int take_mapping(struct follow *f, struct watched *w, const struct mapping *m, struct gate_input *in)
{
	_cleanup_(closep) int fd = mapping_open(w->pid, m, NULL);
	struct file_info info = { 0 };

	if (fd < 0)
		return 0; /* gone or not readable: part of what is not observed, not an error of attaching */
	int err = attacher_take_file(f->attacher, fd, w->pid, gate(f, w, in), &info);
	in->go |= info.go;
	w->functions += info.functions;
	/* A process that was there before the attach is late as a whole, and says so already. */
	if (info.fresh && info.functions && !f->held && (w->scanned || !(w->flags & PROC_LATE)))
		w->late_files++;
	w->foreign |= info.foreign;
	return err;
}

static int attach_files(struct follow *f, struct watched *w, const struct mappings *maps)
{
	struct gate_input in = read_guard(f, w);
	int first = 0;

	w->functions = 0;
	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->items[i];
		if (!m->exec || !m->inode || (i && maps->items[i - 1].inode == m->inode && maps->items[i - 1].exec))
			continue;
		int err = take_mapping(f, w, m, &in);
		first = first ? first : err;
	}
	w->scanned = true;
	return first;
}

/* The functions that stand in the tables now, file by file. */
static int attach_python(struct follow *f, struct watched *w, const struct mappings *maps, struct gate_input *in)
{
	struct given_func funcs[PY_TABLE_FUNCS + PY_API_FUNCS];
	int first = 0;

	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->items[i];
		size_t n = 0;
		for (size_t k = 0; m->exec && m->inode && k < w->py_alloc->n_funcs; k++) {
			uint64_t addr = w->py_alloc->funcs[k].addr;
			if (addr >= m->start && addr < m->end)
				funcs[n++] = (struct given_func){ w->py_alloc->funcs[k].row,
								  addr - m->start + m->file_offset };
		}
		_cleanup_(closep) int fd = n ? mapping_open(w->pid, m, NULL) : -1;
		struct file_info info = { 0 };
		if (fd < 0)
			continue;
		int err = attacher_take_funcs(f->attacher, fd, w->pid, gate(f, w, in), funcs, n, &info);
		first = first ? first : err;
	}
	return first;
}

/* Go moves its stacks: no return probe may be in place in a process that runs such code. */
static bool has_go(uint32_t pid, const struct mappings *maps)
{
	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->items[i];
		Elf64_Shdr section;
		struct dynsym f;
		if (!m->exec || !m->inode || (i && maps->items[i - 1].inode == m->inode && maps->items[i - 1].exec))
			continue;
		_cleanup_(closep) int fd = mapping_open(pid, m, NULL);
		if (fd >= 0 && dynsym_open(fd, &f) &&
		    (dynsym_section(&f, ".gopclntab", &section) ||
		     dynsym_section(&f, ".data.rel.ro.gopclntab", &section)))
			return true;
	}
	return false;
}

/* Looked at while a process is young, for what stands in the tables changes as it starts (PYTHONMALLOC), and when its files change. */
static int scan_python(struct follow *f, struct watched *w, const struct mappings *maps)
{
	int found = w->py_alloc ? pyalloc_refresh(w->pid, maps, w->py_alloc) : 0;
	const char *refused = images_python_refused(f->images, w->id.image);
	struct gate_input in = read_guard(f, w);

	w->py_alloc_looks -= w->py_alloc_looks > 0;
	if (!w->py_alloc) {
		_cleanup_(freep) struct py_alloc *a = xcalloc(1, sizeof(*a));
		if (pyalloc_find(w->pid, maps, a))
			return 0;
		w->py_alloc = a;
		a = NULL;
		found = 1;
	}
	if (refused && !strcmp(refused, PYTHON_FREE_THREADED))
		w->py_alloc->n_funcs = 0; /* what it allocates through differs from thread to thread */
	in.go = !(w->flags & PROC_HEAP) && has_go(w->pid, maps); /* else its files are looked into */
	(void)gate(f, w, &in);
	/* Links for one process each: its own are made though its parent's tables are the same. */
	return found > 0 || attacher_scope(f->attacher) == SCOPE_PROCESS ? attach_python(f, w, maps, &in) : 0;
}

static int refresh_py_alloc(struct follow *f, struct watched *w)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	if (!(w->flags & PROC_PYTHON) || !w->py_alloc_looks || mappings_read(w->pid, &maps))
		return 0;
	return scan_python(f, w, &maps);
}

static void look_for_python(struct watched *w, const struct mappings *maps)
{
	w->python_looks -= w->python_looks > 0;
	if (!w->python[0] && python_version(w->pid, maps, w->python) == 0)
		w->python_looks = 0;
}

/* Looks that no change of files brings: where mapping calls are not observed, and for children that are not scanned. */
static void refresh_python(struct watched *w)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	if (!w->python_looks)
		return;
	(void)mappings_read(w->pid, &maps); /* without them the program itself may still be the interpreter */
	look_for_python(w, &maps);
}

/* Its Python's frames can be remembered while a probe tells of code objects that are freed. Without it they are read each time. */
static void watch_codes(struct follow *f, struct watched *w, const struct mappings *maps)
{
	uint64_t addr = 0;

	if (!w->python[0] || pycodefree_find(w->pid, maps, &addr))
		return;
	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->items[i];
		struct given_func func = { &pycodefree_func, addr - m->start + m->file_offset };
		struct file_info info;
		if (!m->exec || addr < m->start || addr >= m->end)
			continue;
		_cleanup_(closep) int fd = mapping_open(w->pid, m, NULL);
		if (fd >= 0)
			(void)attacher_take_funcs(f->attacher, fd, w->pid, false, &func, 1, &info);
	}
	if (attacher_tells_codes(f->attacher, w->pid))
		accounts_watch_codes(f->accounts, w->account, true);
}

int follow_scan_one(struct follow *f, struct watched *w)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	w->files_changed = false;
	w->looked_ns = w->scan_ns = mono_ns();
	places_stale(f->places, &w->id);
	if (mappings_read(w->pid, &maps))
		return 0; /* gone: its exit is on its way */
	images_scan(f->images, w->account, &w->id, &maps);
	look_for_python(w, &maps);
	int err = w->flags & PROC_HEAP ? attach_files(f, w, &maps) : 0,
	    py = w->flags & PROC_PYTHON ? scan_python(f, w, &maps) : 0;
	if (w->flags & (PROC_HEAP | PROC_PYTHON))
		watch_codes(f, w, &maps);
	w->attach_error = err ? err : py;
	return w->attach_error;
}

void follow_prepare(struct follow *f)
{
	for (struct watched *w = f->all; w; w = w->hh.next) {
		_cleanup_(mappings_done) struct mappings maps = { 0 };

		if (!(w->flags & (PROC_HEAP | PROC_PYTHON)))
			(void)follow_scan_one(f, w); /* nothing is attached for it: this is all that there is to do */
		else if (mappings_read(w->pid, &maps) == 0)
			images_scan(f->images, w->account, &w->id, &maps);
	}
}

int follow_scan(struct follow *f)
{
	int first = 0;

	for (struct watched *w = f->all; w; w = w->hh.next)
		if (w->files_changed && w->state == PROC_RUNNING) {
			int err = follow_scan_one(f, w);
			first = first ? first : err;
		}
	return first;
}

void follow_stale(struct follow *f)
{
	for (struct watched *w = f->all; w; w = w->hh.next)
		w->files_changed = true;
	f->changed = true;
}

void follow_zoom(struct follow *f, struct watched *w, bool in)
{
	w->flags = in ? w->flags | PROC_HEAP : w->flags & ~(uint32_t)PROC_HEAP;
	accounts_set_flags(f->accounts, w->account, in ? PROC_HEAP : 0, in ? 0 : PROC_HEAP);
	f->changed = true;
	if (in)
		w->files_changed = true;
	else
		accounts_watch_codes(f->accounts, w->account, false);
	if (!in) {
		attacher_drop_pid(f->attacher, w->pid);
		w->was_away = true;
	}
}

/* A process may be gone before it can be looked at: it has at least the name that the kernel gave with the event. */
static void name_at_birth(struct follow *f, struct watched *w, const struct event *e, const struct watched *parent)
{
	snprintf(w->comm, sizeof(w->comm), "%.*s", (int)sizeof(e->life.comm), e->life.comm);
	if (parent && !w->cmdline && parent->cmdline)
		w->cmdline = xstrdup(parent->cmdline);
	if (parent && !w->cgroup)
		w->cgroup = cgroup_group_hold(parent->cgroup);
	if (parent) {
		memcpy(w->python, parent->python, sizeof(w->python));
		w->python_looks = parent->files_changed ? PYTHON_LOOKS : parent->python_looks;
		if (parent->py_alloc && !w->py_alloc) {
			w->py_alloc = xcalloc(1, sizeof(*w->py_alloc));
			*w->py_alloc = *parent->py_alloc;
		}
	}
	follow_names(f, w);
}

/* A look at the kernel's table may have found it before its event was read. */
static struct watched *watched_of_event(struct follow *f, const struct event *e, uint32_t ppid)
{
	struct watched *w = follow_find_account(f, e->account);

	return w ? w : watched_add(f, &e->id, e->account, e->life.flags, ppid);
}

static void on_fork(struct follow *f, const struct event *e)
{
	if (e->life.flags & PROC_BORROWS_MM)
		return; /* accounted to the owner of its memory until it execs */
	struct watched *w = watched_of_event(f, e, e->life.other.pid),
		       *parent = follow_find_account(f, e->other_account);
	name_at_birth(f, w, e, parent);
	/* Links for the whole host hold for it already; its executable mappings are its parent's. */
	w->files_changed = attacher_scope(f->attacher) == SCOPE_PROCESS || !parent || parent->files_changed;
	if (!w->files_changed)
		attacher_inherit(f->attacher, parent->pid, w->pid);
	images_born(f->images, w->account);
	f->births++;
}

/* The process goes on as another program: nothing of this one is shown any more. */
static void replaced(struct follow *f, struct watched *before)
{
	account_ended(f, before);
	watched_free(f, before);
}

static void on_exec(struct follow *f, const struct event *e)
{
	struct watched *before = follow_find_account(f, e->other_account);

	if (!e->life.flags) { /* not followed: is it one that the target names now? */
		if (target_matches(f->target, e->id.pid))
			(void)follow_enter(f, e->id.pid, true); /* gone again: nothing to follow */
		return;
	}
	if (before)
		replaced(f, before);
	name_at_birth(f, watched_of_event(f, e, 0), e, NULL);
}

static void on_exit_event(struct follow *f, const struct event *e)
{
	struct watched *w = follow_find_account(f, e->account);

	if (!w || e->final.flags & PROC_BORROWS_MM)
		return;
	w->kernel = e->final;
	w->state = PROC_EXITED;
	f->changed = true;
	attacher_drop_pid(f->attacher, w->pid);
}

/* What was mapped before the last look began has been seen by it. */
static void files_changed(struct follow *f, const struct event *e)
{
	struct watched *w = follow_find_account(f, e->account);

	if (w && e->ts_ns > w->scan_ns)
		w->files_changed = f->changed = true;
}

static void on_mmap(struct follow *f, const struct event *e)
{
	if (e->map.prot & PROT_EXEC && e->map.fd >= 0)
		files_changed(f, e);
}

/* Code that the kernel side has no rows for: most often a library that was opened where mapping calls are not observed. */
static void on_layout(struct follow *f, const struct event *e)
{
	files_changed(f, e);
}

void follow_event(struct follow *f, const struct event *e)
{
	static void (*const handlers[EVENT_NR])(struct follow *, const struct event *) = {
		[EVENT_FORK] = on_fork, [EVENT_EXEC] = on_exec,	    [EVENT_EXIT] = on_exit_event,
		[EVENT_MMAP] = on_mmap, [EVENT_LAYOUT] = on_layout,
	};

	if (e->kind < EVENT_NR && handlers[e->kind])
		handlers[e->kind](f, e);
}

static void take_figures(struct follow *f, const struct proc *p)
{
	if (p->flags & PROC_BORROWS_MM)
		return;
	struct watched *w = follow_find_account(f, p->account);
	if (!w) /* its birth was lost with a full ring, or its event is still in it */
		w = watched_add(f, &p->id, p->account, p->flags, p->ppid);
	w->kernel = *p;
	w->ppid = p->ppid;
	w->seen = true;
}

/* Programs set their own title, most of them once, when they have started; some all the time. */
#define RENAME_NS 10000000000ull
#define RENAME_MAX_NS (8 * RENAME_NS)
#define REGROUP_NS 10000000000ull /* one control group's limit is shown until it is seen in another */

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* Did they change? */
static bool read_titles(struct watched *w)
{
	struct proc_stat st;
	char *text = NULL;
	bool changed = false;

	if (proc_read_stat(w->pid, &st) == 0) {
		changed = strcmp(w->comm, st.comm) != 0;
		memcpy(w->comm, st.comm, sizeof(w->comm));
		w->ppid = st.ppid;
	}
	if (proc_read_cmdline(w->pid, &text) == 0) {
		changed |= !same_text(w->cmdline, text);
		free(w->cmdline);
		w->cmdline = text;
	}
	return changed;
}

static void read_group(struct follow *f, struct watched *w)
{
	struct cgroup_group *group = NULL;

	w->grouped_ns = mono_ns();
	if (cgroup_group_of_pid(f->limits, w->pid, &group))
		return;
	cgroup_group_drop(f->limits, w->cgroup);
	w->cgroup = group;
}

void follow_names(struct follow *f, struct watched *w)
{
	bool changed = read_titles(w);

	w->names_changed = false;
	w->named_ns = mono_ns();
	w->rename_ns = changed || !w->rename_ns ? RENAME_NS : 2 * w->rename_ns;
	w->rename_ns = w->rename_ns < RENAME_MAX_NS ? w->rename_ns : RENAME_MAX_NS;
	read_group(f, w);
}

#define RELOOK_NS 10000000000ull

/* Where mapping calls are not observed nothing tells of a library that was closed and whose addresses another one has now. */
static void look_again(struct follow *f, struct watched *w)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	w->looked_ns = mono_ns();
	if (mappings_read(w->pid, &maps) == 0)
		images_scan(f->images, w->account, &w->id, &maps);
}

/* Not in the kernel's table any more: its exit or exec was lost with a full ring, or the event is still in it. */
static void gone(struct follow *f, struct watched *w)
{
	const struct watched *next = find_pid(f, w->pid);

	f->changed = true;
	if (next && next != w && next->id.start_ticks == w->id.start_ticks) {
		replaced(f, w);
		return;
	}
	w->state = PROC_EXITED;
	if (!next) /* else the links are its successor's */
		attacher_drop_pid(f->attacher, w->pid);
}

void follow_refresh(struct follow *f)
{
	struct watched *w, *next;

	for (w = f->all; w; w = w->hh.next)
		w->seen = false;
	for (uint32_t i = 0; i < PROC_SLOTS; i++) {
		const struct proc *p = accounts_slot(f->accounts, i);
		if (p)
			take_figures(f, p);
	}
	HASH_ITER(hh, f->all, w, next) {
		if (w->state != PROC_RUNNING)
			continue;
		if (!w->seen) {
			gone(f, w);
			continue;
		}
		if (w->names_changed || mono_ns() - w->named_ns > w->rename_ns)
			follow_names(f, w);
		else if (mono_ns() - w->grouped_ns > REGROUP_NS)
			read_group(f, w);
		refresh_python(w);
		(void)refresh_py_alloc(f, w); /* what can't be probed shows as a layer that is not observed */
		pyseen_step(f->pyseen, w);
		if (!(w->flags & PROC_MAP) && mono_ns() - w->looked_ns > RELOOK_NS)
			look_again(f, w);
	}
	images_settle(f->images);
}

void follow_reap(struct follow *f)
{
	struct watched *w, *next;

	HASH_ITER(hh, f->all, w, next)
		if (w->state == PROC_EXITED) {
			account_ended(f, w);
			watched_free(f, w);
		}
}
