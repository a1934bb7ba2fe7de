/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "probe/closer.h"
#include "probe/link.h"
#include "probe/pycodefree.h"
#include "util/log.h"
#include "util/mem.h"

struct links {
	int *fds;
	size_t n, cap;
};

/* A file that was looked into; its descriptor and plans are kept to attach it again in another scope. */
struct file {
	uint64_t dev, inode;
	int fd; /* -1: nothing to attach */
	struct plan *plans;
	size_t n_plans;
	uint64_t text_start, text_end;
	bool library;
	bool given; /* its functions were not found by name: there may be several such for one file */
	struct file_info info;
	struct links host;
};

/* A process that maps a file. */
struct use {
	size_t file;
	uint32_t pid;
	bool with_return;
	struct links own;
};

/* A process whose links are away for a while. */
struct pause {
	uint32_t pid; /* key */
	UT_hash_handle hh;
};

struct attacher {
	struct loader *loader; /* borrowed, must outlive */
	struct plan_kernel kernel;
	struct file *files;
	size_t n_files, cap_files;
	struct use *uses;
	size_t n_uses, cap_uses;
	struct closer *closer;
	struct pause *paused;
	enum probe_scope scope;
	bool forced; /* the scope stays as it is */
};

struct attacher *attacher_new(struct loader *l)
{
	struct attacher *a = xcalloc(1, sizeof(*a));
	struct rlimit files;

	a->loader = l;
	a->closer = closer_new();
	a->scope = loader_features(l)->session ? SCOPE_HOST : SCOPE_PROCESS;
	loader_set_scope(l, a->scope);
	a->kernel.version = loader_features(l)->version;
	/* A descriptor per link; process-by-process attaching needs many. Failing leaves the soft limit, which attaching reports. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	return a;
}

static void links_close(struct closer *c, struct links *l)
{
	for (size_t i = 0; i < l->n; i++)
		closer_take(c, l->fds[i]);
	free(l->fds);
	*l = (struct links){ 0 };
}

static void file_done(struct closer *c, struct file *f)
{
	links_close(c, &f->host);
	if (f->fd >= 0)
		(void)close(f->fd);
	free(f->plans);
}

static struct pause *pause_find(const struct attacher *a, uint32_t pid)
{
	struct pause *p = NULL;

	HASH_FIND(hh, a->paused, &pid, sizeof(pid), p);
	return p;
}

static void pause_end(struct attacher *a, uint32_t pid)
{
	struct pause *p = pause_find(a, pid);

	if (!p)
		return;
	HASH_DEL(a->paused, p);
	free(p);
}

void attacher_free(struct attacher *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n_uses; i++)
		links_close(a->closer, &a->uses[i].own);
	for (size_t i = 0; i < a->n_files; i++)
		file_done(a->closer, &a->files[i]);
	while (a->paused)
		pause_end(a, a->paused->pid);
	closer_free(a->closer); /* waits: nothing stays attached */
	free(a->uses);
	free(a->files);
	free(a);
}

void attacher_pause(struct attacher *a, uint32_t pid)
{
	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].pid == pid)
			links_close(a->closer, &a->uses[i].own);
	if (pause_find(a, pid))
		return;
	struct pause *p = xcalloc(1, sizeof(*p));
	p->pid = pid;
	HASH_ADD(hh, a->paused, pid, sizeof(p->pid), p);
}

void attacher_drop_pid(struct attacher *a, uint32_t pid)
{
	size_t kept = 0;

	pause_end(a, pid);

	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].pid == pid)
			links_close(a->closer, &a->uses[i].own);
		else
			a->uses[kept++] = a->uses[i];
	a->n_uses = kept;
}

enum probe_scope attacher_scope(const struct attacher *a)
{
	return a->scope;
}

bool attacher_can_change(const struct attacher *a)
{
	return loader_features(a->loader)->session && !a->forced;
}

/* Those whose calls are many. */
static bool is_frequent(const struct plan *p)
{
	static const bool frequent[SHAPE_NR] = { [SHAPE_SIZE_TO_PTR] = true,
						 [SHAPE_PTR_SIZE_TO_PTR] = true,
						 [SHAPE_PTR_TO_VOID] = true,
						 [SHAPE_WRAP] = true };

	return p->planned && frequent[p->shape];
}

double attacher_stepped_share(const struct attacher *a, uint32_t pid)
{
	size_t stepped = 0, all = 0;

	for (size_t i = 0; i < a->n_uses; i++) {
		const struct file *f = &a->files[a->uses[i].file];
		for (size_t k = 0; a->uses[i].pid == pid && k < f->n_plans; k++) {
			all += is_frequent(&f->plans[k]);
			stepped += is_frequent(&f->plans[k]) && f->plans[k].kind == INSN_STEPPED;
		}
	}
	return all ? (double)stepped / (double)all : 0;
}

void attacher_force_process(struct attacher *a)
{
	a->forced = true;
	a->scope = SCOPE_PROCESS;
	loader_set_scope(a->loader, a->scope);
}

static struct file *file_find(struct attacher *a, uint64_t dev, uint64_t inode)
{
	for (size_t i = 0; i < a->n_files; i++)
		if (a->files[i].inode == inode && a->files[i].dev == dev && !a->files[i].given)
			return &a->files[i];
	return NULL;
}

uint16_t site_of(const struct family_func *f)
{
	if (f == &pycodefree_func)
		return SITE_NONE; /* nothing is booked there */
	if (f >= python_funcs && f < python_funcs + ARRAY_SIZE(python_funcs))
		return (uint16_t)(SITE_FIRST_PROBE + family_funcs_n + (size_t)(f - python_funcs));
	return (uint16_t)(SITE_FIRST_PROBE + (f - family_funcs));
}

const char *site_name(uint16_t site)
{
	static const char *const calls[SITE_FIRST_PROBE] = {
		[SITE_MMAP] = "mmap", [SITE_MREMAP] = "mremap", [SITE_BRK] = "brk", [SITE_FAULT] = "page fault"
	};

	size_t row = site >= SITE_FIRST_PROBE ? (size_t)(site - SITE_FIRST_PROBE) : SIZE_MAX;

	if (row < family_funcs_n)
		return family_funcs[row].site;
	if (row < family_funcs_n + ARRAY_SIZE(python_funcs))
		return python_funcs[row - family_funcs_n].site;
	return site < SITE_FIRST_PROBE && calls[site] ? calls[site] : "unknown";
}

static uint64_t near_units(uint64_t bytes)
{
	uint64_t units = (bytes + NEAR_UNIT - 1) / NEAR_UNIT;

	return units > 255 ? 255 : units;
}

static unsigned short extent_of(const struct file *f, const struct plan *p)
{
	uint64_t at = p->func_vaddr + p->insn_delta;
	uint64_t rest = p->func_bytes > p->insn_delta ? p->func_bytes - p->insn_delta : 0;

	if (p->shape == SHAPE_WRAP)
		return rest && rest <= 0xffff ? (unsigned short)rest : 0xffff;
	return (unsigned short)(near_units(at - f->text_start) | near_units(f->text_end - at) << 8);
}

static uint64_t cookie_of(const struct file *f, const struct plan *p, enum probe_scope scope)
{
	struct call_cookie c = {
		.layer = (unsigned char)p->func->layer,
		.shape = (unsigned char)shape_plain(p->shape),
		.ptr_reg = p->ptr_reg,
		.size_reg = p->size_reg,
		.count_reg = p->count_reg,
		.slot_words = p->slot_words,
		.may_throw = p->may_throw,
		.scope = (unsigned char)scope,
		.library = f->library,
		.may_nest = p->func->layer != LAYER_HEAP || p->shape != SHAPE_SIZE_TO_PTR,
		.site = site_of(p->func),
		.extent = extent_of(f, p),
	};

	return cookie_pack(&c);
}

/* Which programs a plan needs, as a row: [0] at the entry, [1] at the return (-1: none). */
struct wiring {
	int entry, exit;
	int entry_type;
};

static struct wiring wiring_of(const struct attacher *a, const struct plan *p, bool with_return)
{
	const struct features *f = loader_features(a->loader);
	struct wiring w = { .entry = CALL_FREE_ENTER, .exit = -1, .entry_type = ATTACH_UPROBE_MULTI };

	if (p->shape == SHAPE_WRAP) {
		w.entry = CALL_WRAP_ENTER;
	} else if (p->shape == SHAPE_CODE_FREED) {
		w.entry = CALL_CODE_FREED;
	} else if (p->needs_return && f->session) {
		w.entry = CALL_ALLOC_SESSION;
		w.entry_type = ATTACH_UPROBE_SESSION;
	} else if (p->needs_return) { /* such a return can't be left out call by call: none where one could do harm */
		w.entry = CALL_ALLOC_ENTER;
		w.exit = with_return && !p->may_throw ? CALL_ALLOC_EXIT : -1;
	}
	return w;
}

static int keep_link(struct links *l, int link)
{
	if (link < 0)
		return link;
	l->fds = grow_to(l->fds, &l->cap, l->n + 1, sizeof(*l->fds));
	l->fds[l->n++] = link;
	return 0;
}

/* All functions of a file that share a program go into one link. */
struct batch {
	uint64_t offsets[64], cookies[64];
	uint32_t n;
	int prog, type;
	bool is_return;
};

static int batch_attach(const struct attacher *a, const struct batch *b, const char *path, uint32_t pid,
			struct links *to)
{
	int fd = loader_prog_fd(a->loader, (enum call_prog)b->prog);

	if (!b->n)
		return 0;
	if (loader_features(a->loader)->multi) {
		struct link_multi l = { .prog_fd = fd,
					.attach_type = b->type,
					.path = path,
					.offsets = b->offsets,
					.cookies = b->cookies,
					.n = b->n,
					.pid = pid,
					.is_return = b->is_return };
		return keep_link(to, link_create_multi(&l));
	}
	for (uint32_t i = 0; i < b->n; i++) {
		int err = keep_link(to, link_create_uprobe(fd, path, b->offsets[i], b->cookies[i], pid, b->is_return));
		if (err)
			return err;
	}
	return 0;
}

/* The functions of a file that need one program. */
static struct batch batch_of(const struct attacher *a, const struct file *f, int prog, bool with_return,
			     enum probe_scope scope)
{
	struct batch b = { .prog = prog, .type = ATTACH_UPROBE_MULTI, .is_return = prog == CALL_ALLOC_EXIT };

	for (size_t i = 0; i < f->n_plans; i++) {
		struct wiring w = wiring_of(a, &f->plans[i], with_return);
		if (!f->plans[i].planned || (w.entry != prog && w.exit != prog) || b.n == ARRAY_SIZE(b.offsets))
			continue;
		if (w.entry == prog)
			b.type = w.entry_type;
		b.offsets[b.n] = f->plans[i].probe_offset;
		b.cookies[b.n++] = cookie_of(f, &f->plans[i], scope);
	}
	return b;
}

/* Frees and returns first: a block must not be seen to come without being seen to go. pid 0: every process. */
static int attach_file(const struct attacher *a, const struct file *f, uint32_t pid, bool with_return, struct links *to)
{
	static const int order[] = { CALL_CODE_FREED, CALL_FREE_ENTER,	CALL_ALLOC_EXIT,
				     CALL_WRAP_ENTER, CALL_ALLOC_ENTER, CALL_ALLOC_SESSION };
	char path[64];

	if (to->n || f->fd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	for (size_t o = 0; o < ARRAY_SIZE(order); o++) {
		struct batch b = batch_of(a, f, order[o], with_return, pid ? SCOPE_PROCESS : SCOPE_HOST);
		int err = batch_attach(a, &b, path, pid, to);
		if (err) {
			links_close(a->closer, to);
			return err;
		}
	}
	return 0;
}

/* By its name: libc can be run and has no mark that a program has not. */
static bool is_library(int fd)
{
	char link[64], path[4096];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = 0;
	const char *base = strrchr(path, '/');
	return base && strstr(base, ".so");
}

/* Plans; what makes a file useless (no ELF, other machine, broken) is information, not an error. */
static int look_into(const struct attacher *a, int fd, struct file *f)
{
	_cleanup_(elf_done) struct elf_file elf = { 0 };
	int err = elf_open(fd, family_wants, NULL, &elf);

	f->info.foreign = err == -ENOTSUP;
	f->info.go = elf.has_gopclntab;
	if (err)
		return err == -ENOEXEC || err == -ENOTSUP || err == -EBADMSG ? 0 : err;
	err = plan_file(&elf, &a->kernel, &f->plans, &f->n_plans);
	for (size_t i = 0; i < f->n_plans; i++)
		f->info.functions += f->plans[i].planned;
	f->text_start = elf.text_start;
	f->text_end = elf.text_end;
	f->library = is_library(fd);
	if (err || !f->info.functions)
		return err;
	f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return f->fd < 0 ? -errno : 0;
}

/* A file without functions is remembered too: it is not looked into at every turn. */
static int file_add(struct attacher *a, int fd, const struct stat *st, struct file **ret)
{
	struct file f = { .dev = st->st_dev, .inode = st->st_ino, .fd = -1 };
	int err = look_into(a, fd, &f);

	log_debug("inode %llu: %d functions, %s", (unsigned long long)f.inode, f.info.functions,
		  err ? strerror(-err) : "ok");
	if (err) {
		file_done(a->closer, &f);
		return err;
	}
	a->files = grow_to(a->files, &a->cap_files, a->n_files + 1, sizeof(*a->files));
	a->files[a->n_files] = f;
	*ret = &a->files[a->n_files++];
	return 0;
}

static struct use *use_of(struct attacher *a, const struct file *f, uint32_t pid, bool with_return)
{
	size_t file = (size_t)(f - a->files);

	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].file == file && a->uses[i].pid == pid) {
			/* The process runs another program by now, in which a return probe would do harm. */
			if (a->uses[i].with_return && !with_return && !loader_features(a->loader)->session)
				links_close(a->closer, &a->uses[i].own);
			a->uses[i].with_return = with_return;
			return &a->uses[i];
		}
	a->uses = grow_to(a->uses, &a->cap_uses, a->n_uses + 1, sizeof(*a->uses));
	a->uses[a->n_uses] = (struct use){ .file = file, .pid = pid, .with_return = with_return };
	return &a->uses[a->n_uses++];
}

static int take(struct attacher *a, struct file *f, uint32_t pid, bool with_return, struct file_info *ret)
{
	int err = 0;
	struct use *u = pid && f->info.functions ? use_of(a, f, pid, with_return) : NULL;
	bool host = a->scope == SCOPE_HOST;
	struct links *to = host ? &f->host : u && !pause_find(a, pid) ? &u->own : NULL;
	size_t before = to ? to->n : 0;
	if (to)
		err = attach_file(a, f, host ? 0 : pid, with_return, to);
	if (err)
		return err;
	*ret = f->info;
	ret->fresh = to && to->n && !before;
	return 0;
}

int attacher_take_file(struct attacher *a, int fd, uint32_t pid, bool with_return, struct file_info *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	struct file *f = file_find(a, st.st_dev, st.st_ino);
	int err = f ? 0 : file_add(a, fd, &st, &f);
	return err ? err : take(a, f, pid, with_return, ret);
}

/* --- functions that are given --- */

static const struct plan *given_plan(const struct file *f, const struct given_func *g)
{
	for (size_t i = 0; i < f->n_plans; i++)
		if (f->plans[i].func_offset == g->file_offset)
			return &f->plans[i];
	return NULL;
}

static bool is_given(const struct file *f, const struct stat *st)
{
	return f->given && f->inode == st->st_ino && f->dev == st->st_dev;
}

static bool is_planned(const struct attacher *a, const struct stat *st, const struct given_func *g)
{
	for (size_t i = 0; i < a->n_files; i++)
		if (is_given(&a->files[i], st) && given_plan(&a->files[i], g))
			return true;
	return false;
}

static int plan_given(const struct attacher *a, const struct elf_file *elf, const struct given_func *g,
		      struct plan *ret)
{
	char name[64];
	struct elf_func at = { .name = name, .file_offset = g->file_offset };

	snprintf(name, sizeof(name), "%s", g->row->site);
	int err = elf_offset_to_vaddr(elf, g->file_offset, &at.vaddr);

	return err ? err : plan_function(elf, &at, g->row, &a->kernel, ret);
}

/* Those that no process brought before. */
static int add_given(struct attacher *a, int fd, const struct stat *st, const struct given_func *funcs, size_t n)
{
	_cleanup_(elf_done) struct elf_file elf = { 0 };
	struct file f = { .dev = st->st_dev, .inode = st->st_ino, .given = true, .fd = -1 };
	int err = elf_open(fd, family_wants, NULL, &elf);

	if (err)
		return err;
	f.plans = xcalloc(n, sizeof(*f.plans));
	for (size_t i = 0; i < n; i++)
		if (!is_planned(a, st, &funcs[i]) && !given_plan(&f, &funcs[i]) &&
		    !plan_given(a, &elf, &funcs[i], &f.plans[f.n_plans]))
			f.info.functions += f.plans[f.n_plans++].planned;
	/* `library` stays false: calls from the file's own code are the interpreter's, and these are what is counted. */
	f.text_start = elf.text_start;
	f.text_end = elf.text_end;
	f.fd = f.info.functions ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (f.fd < 0) {
		err = f.info.functions ? -errno : 0;
		file_done(a->closer, &f);
		return err;
	}
	log_debug("inode %llu: %d given functions", (unsigned long long)f.inode, f.info.functions);
	a->files = grow_to(a->files, &a->cap_files, a->n_files + 1, sizeof(*a->files));
	a->files[a->n_files++] = f;
	return 0;
}

static bool has_any(const struct file *f, const struct given_func *funcs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (given_plan(f, &funcs[i]))
			return true;
	return false;
}

int attacher_take_funcs(struct attacher *a, int fd, uint32_t pid, bool with_return, const struct given_func *funcs,
			size_t n, struct file_info *ret)
{
	struct file_info all = { 0 };
	bool missing = false;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	for (size_t i = 0; i < n; i++)
		missing |= !is_planned(a, &st, &funcs[i]);
	int err = missing ? add_given(a, fd, &st, funcs, n) : 0;
	for (size_t i = 0; i < a->n_files && !err; i++) {
		struct file_info one = { 0 };
		if (!is_given(&a->files[i], &st) || !has_any(&a->files[i], funcs, n))
			continue;
		err = take(a, &a->files[i], pid, with_return, &one);
		all.functions += one.functions;
		all.fresh |= one.fresh;
	}
	if (!err)
		*ret = all;
	return err;
}

bool attacher_tells_codes(const struct attacher *a, uint32_t pid)
{
	for (size_t i = 0; i < a->n_uses; i++) {
		const struct use *u = &a->uses[i];
		const struct file *f = &a->files[u->file];
		if (u->pid == pid && f->n_plans && f->plans[0].shape == SHAPE_CODE_FREED)
			return (a->scope == SCOPE_HOST ? f->host.n : u->own.n) > 0;
	}
	return false;
}

int attacher_resume(struct attacher *a, uint32_t pid)
{
	int err = 0;

	for (size_t i = 0; i < a->n_uses && !err; i++) {
		struct use *u = &a->uses[i];
		if (u->pid == pid)
			err = attach_file(a, &a->files[u->file], pid, u->with_return, &u->own);
	}
	if (err)
		attacher_pause(a, pid);
	else
		pause_end(a, pid);
	return err;
}

static int attach_scope(struct attacher *a, enum probe_scope scope)
{
	int err = 0;

	for (size_t i = 0; scope == SCOPE_HOST && i < a->n_files && !err; i++)
		err = attach_file(a, &a->files[i], 0, true, &a->files[i].host);
	for (size_t i = 0; scope == SCOPE_PROCESS && i < a->n_uses && !err; i++) {
		struct use *u = &a->uses[i];
		err = attach_file(a, &a->files[u->file], u->pid, u->with_return, &u->own);
		if (err == -ESRCH) /* the process is gone: its exit is on its way */
			err = 0;
	}
	return err;
}

static void detach_scope(struct attacher *a, enum probe_scope scope)
{
	for (size_t i = 0; scope == SCOPE_HOST && i < a->n_files; i++)
		links_close(a->closer, &a->files[i].host);
	for (size_t i = 0; scope == SCOPE_PROCESS && i < a->n_uses; i++)
		links_close(a->closer, &a->uses[i].own);
}

/* New links first, then the switch, later the old ones go: in between both fire, and one of them counts. */
int attacher_set_scope(struct attacher *a, enum probe_scope scope)
{
	if (scope == a->scope)
		return 0;
	if (closer_is_busy(a->closer))
		return -EBUSY;
	int err = attach_scope(a, scope);
	if (err) {
		detach_scope(a, scope);
		return err;
	}
	loader_switch_scope(a->loader);
	a->scope = scope;
	return 0;
}

void attacher_settle(struct attacher *a)
{
	loader_settle_scope(a->loader);
	detach_scope(a, a->scope == SCOPE_HOST ? SCOPE_PROCESS : SCOPE_HOST);
}
