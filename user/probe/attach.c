/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "probe/attach_file.h"
#include "probe/closer.h"
#include "probe/pycodefree.h"
#include "util/log.h"
#include "util/mem.h"

#define BARE_MAX 4096 /* files without functions that are remembered */

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
	int notify; /* inotify; -1: none */
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
	a->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
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
	if (a->notify >= 0)
		(void)close(a->notify);
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

/* Those of a file, or of a process: the other one is what nothing has. */
#define NO_FILE SIZE_MAX
#define NO_PID 0

static void uses_drop(struct attacher *a, size_t file, uint32_t pid)
{
	size_t kept = 0;

	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].file == file || a->uses[i].pid == pid)
			links_close(a->closer, &a->uses[i].own);
		else
			a->uses[kept++] = a->uses[i];
	a->n_uses = kept;
}

void attacher_drop_pid(struct attacher *a, uint32_t pid)
{
	pause_end(a, pid);
	uses_drop(a, NO_FILE, pid);
}

enum probe_scope attacher_scope(const struct attacher *a)
{
	return a->scope;
}

bool attacher_can_change(const struct attacher *a)
{
	return loader_features(a->loader)->session && !a->forced;
}

/* Of which file the calls are is not known before they are counted: the dearest one's, so that cost is rather told too high. */
double attacher_stepped_share(const struct attacher *a, uint32_t pid)
{
	double most = 0;

	for (size_t i = 0; i < a->n_uses; i++) {
		if (a->uses[i].pid == pid)
			most = fmax(most, file_stepped_share(&a->files[a->uses[i].file]));
	}
	return most;
}

void attacher_force_process(struct attacher *a)
{
	a->forced = true;
	a->scope = SCOPE_PROCESS;
	loader_set_scope(a->loader, a->scope);
}

/* Files' probes for the whole host (pid 0), or for one process. */
static int attach_file(const struct attacher *a, const struct file *f, uint32_t pid, bool with_return, struct links *to)
{
	const struct file_place at = {
		.loader = a->loader, .closer = a->closer, .pid = pid, .with_return = with_return
	};

	return file_attach(f, &at, to);
}

/* --- files --- */

static size_t watched_by(const struct attacher *a, int watch)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n_files; i++)
		n += a->files[i].watch == watch;
	return n;
}

/* Its place is free then. */
static void file_drop(struct attacher *a, struct file *f)
{
	if (f->watch && watched_by(a, f->watch) == 1)
		(void)inotify_rm_watch(a->notify, f->watch); /* it may have gone with the file */
	uses_drop(a, (size_t)(f - a->files), NO_PID);
	file_done(a->closer, f);
	*f = (struct file){ .fd = -1 };
}

/* Another file has taken the inode, or its content was replaced in place: places of probes in it would be those of other code. */
static void drop_stale(struct attacher *a, const struct file_key *key)
{
	for (size_t i = 0; i < a->n_files; i++)
		if (file_is_same_inode(&a->files[i].key, key) && !file_is_same(&a->files[i].key, key))
			file_drop(a, &a->files[i]);
}

static struct file *file_find(struct attacher *a, const struct file_key *key)
{
	for (size_t i = 0; i < a->n_files; i++)
		if (file_is_same(&a->files[i].key, key) && !a->files[i].given)
			return &a->files[i];
	return NULL;
}

static size_t free_place(const struct attacher *a)
{
	size_t i = 0;

	while (i < a->n_files && a->files[i].key.inode)
		i++;
	return i;
}

static struct file *file_put(struct attacher *a, const struct file *f)
{
	size_t i = free_place(a);

	if (i == a->n_files)
		a->files = grow_to(a->files, &a->cap_files, ++a->n_files, sizeof(*a->files));
	a->files[i] = *f;
	if (f->fd >= 0 && a->notify >= 0) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
		int watch = inotify_add_watch(a->notify, path, IN_MODIFY);
		a->files[i].watch = watch > 0 ? watch : 0; /* too many: not watched */
	}
	return &a->files[i];
}

int attacher_written_fd(const struct attacher *a)
{
	return a->notify;
}

static bool drop_watched(struct attacher *a, int watch)
{
	bool any = false;

	for (size_t i = 0; i < a->n_files; i++)
		if (a->files[i].watch == watch) {
			log_debug("inode %llu was written to", (unsigned long long)a->files[i].key.inode);
			file_drop(a, &a->files[i]);
			any = true;
		}
	return any;
}

bool attacher_drop_written(struct attacher *a)
{
	_Alignas(struct inotify_event) char buf[4096];
	bool any = false;
	ssize_t n;

	while (a->notify >= 0 && (n = read(a->notify, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const struct inotify_event *)(buf + at);
			any |= e->mask & IN_MODIFY && drop_watched(a, e->wd);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
	return any;
}

/* Those without functions are cheap to look into again. */
static void drop_bare(struct attacher *a)
{
	size_t bare = 0;

	for (size_t i = 0; i < a->n_files; i++)
		bare += a->files[i].key.inode && a->files[i].fd < 0;
	for (size_t i = 0; bare > BARE_MAX && i < a->n_files; i++)
		if (a->files[i].key.inode && a->files[i].fd < 0)
			file_drop(a, &a->files[i]);
}

static bool is_used(const struct attacher *a, size_t file)
{
	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].file == file)
			return true;
	return false;
}

void attacher_tidy(struct attacher *a)
{
	struct stat st;

	drop_bare(a);
	for (size_t i = 0; i < a->n_files; i++)
		if (a->files[i].fd >= 0 && !is_used(a, i) && fstat(a->files[i].fd, &st) == 0 && !st.st_nlink)
			file_drop(a, &a->files[i]);
}

/* A file without functions is remembered too: it is not looked into at every turn. */
static int file_add(struct attacher *a, int fd, const struct stat *st, struct file **ret)
{
	struct file f = { .key = file_key_of(st), .fd = -1 };
	int err = file_look_into(fd, &a->kernel, &f);

	log_debug("inode %llu: %d functions, %s", (unsigned long long)f.key.inode, f.info.functions,
		  err ? strerror(-err) : "ok");
	if (err) {
		file_done(a->closer, &f);
		return err;
	}
	*ret = file_put(a, &f);
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

void attacher_inherit(struct attacher *a, uint32_t parent, uint32_t child)
{
	size_t n = a->n_uses; /* the child's own come behind */

	for (size_t i = 0; a->scope == SCOPE_HOST && i < n; i++)
		if (a->uses[i].pid == parent)
			(void)use_of(a, &a->files[a->uses[i].file], child, a->uses[i].with_return);
}

int attacher_take_file(struct attacher *a, int fd, uint32_t pid, bool with_return, struct file_info *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	struct file_key key = file_key_of(&st);
	drop_stale(a, &key);
	struct file *f = file_find(a, &key);
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
	struct file_key key = file_key_of(st);

	return f->given && file_is_same(&f->key, &key);
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
	struct file f = { .key = file_key_of(st), .given = true, .fd = -1 };
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
	log_debug("inode %llu: %d given functions", (unsigned long long)f.key.inode, f.info.functions);
	(void)file_put(a, &f);
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
	struct file_key key = file_key_of(&st);
	drop_stale(a, &key);
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
