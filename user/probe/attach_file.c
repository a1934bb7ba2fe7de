/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/attach_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/closer.h"
#include "probe/link.h"
#include "util/fs.h"
#include "util/mem.h"

void links_close(struct closer *c, struct links *l)
{
	for (size_t i = 0; i < l->n; i++)
		closer_take(c, l->fds[i]);
	free(l->fds);
	*l = (struct links){ 0 };
}

struct file_key file_key_of(const struct stat *st)
{
	return (struct file_key){ .dev = st->st_dev, .inode = st->st_ino, .version = fs_version(st) };
}

bool file_is_same_inode(const struct file_key *a, const struct file_key *b)
{
	return a->inode == b->inode && a->dev == b->dev;
}

bool file_is_same(const struct file_key *a, const struct file_key *b)
{
	return file_is_same_inode(a, b) && a->version == b->version;
}

/* --- what is in it --- */

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

int file_look_into(int fd, const struct plan_kernel *kernel, struct file *f)
{
	_cleanup_(elf_done) struct elf_file elf = { 0 };
	int err = elf_open(fd, family_wants, NULL, &elf);

	f->info.foreign = err == -ENOTSUP;
	f->info.go = elf.has_gopclntab;
	if (err)
		return err == -ENOEXEC || err == -ENOTSUP || err == -EBADMSG ? 0 : err;
	err = plan_file(&elf, kernel, &f->plans, &f->n_plans);
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

void file_done(struct closer *c, struct file *f)
{
	links_close(c, &f->host);
	if (f->fd >= 0)
		(void)close(f->fd);
	free(f->plans);
}

/* Those whose calls are many. In a C library malloc and free are, and what else it defines is called through them or hardly ever. */
static bool is_frequent(const struct plan *p)
{
	static const bool frequent[SHAPE_NR] = { [SHAPE_SIZE_TO_PTR] = true,
						 [SHAPE_PTR_SIZE_TO_PTR] = true,
						 [SHAPE_PTR_TO_VOID] = true,
						 [SHAPE_WRAP] = true };

	return p->planned && frequent[p->shape];
}

static bool is_main_call(const struct plan *p)
{
	return is_frequent(p) && (!strcmp(p->func->site, "malloc") || !strcmp(p->func->site, "free"));
}

static double stepped_of_file(const struct file *f, bool (*counts)(const struct plan *))
{
	size_t stepped = 0, all = 0;

	for (size_t k = 0; k < f->n_plans; k++) {
		all += counts(&f->plans[k]);
		stepped += counts(&f->plans[k]) && f->plans[k].kind == INSN_STEPPED;
	}
	return all ? (double)stepped / (double)all : 0;
}

double file_stepped_share(const struct file *f)
{
	return fmax(stepped_of_file(f, is_main_call), stepped_of_file(f, is_frequent));
}

/* --- placing --- */

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

static struct wiring wiring_of(const struct loader *l, const struct plan *p, bool with_return)
{
	const struct features *f = loader_features(l);
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

static int batch_attach(const struct loader *l, const struct batch *b, const char *path, uint32_t pid, struct links *to)
{
	int fd = loader_prog_fd(l, (enum call_prog)b->prog);

	if (!b->n)
		return 0;
	if (loader_features(l)->multi) {
		struct link_multi m = { .prog_fd = fd,
					.attach_type = b->type,
					.path = path,
					.offsets = b->offsets,
					.cookies = b->cookies,
					.n = b->n,
					.pid = pid,
					.is_return = b->is_return };
		return keep_link(to, link_create_multi(&m));
	}
	for (uint32_t i = 0; i < b->n; i++) {
		int err = keep_link(to, link_create_uprobe(fd, path, b->offsets[i], b->cookies[i], pid, b->is_return));
		if (err)
			return err;
	}
	return 0;
}

/* The functions of a file that need one program. */
static struct batch batch_of(const struct loader *l, const struct file *f, int prog, bool with_return,
			     enum probe_scope scope)
{
	struct batch b = { .prog = prog, .type = ATTACH_UPROBE_MULTI, .is_return = prog == CALL_ALLOC_EXIT };

	for (size_t i = 0; i < f->n_plans; i++) {
		struct wiring w = wiring_of(l, &f->plans[i], with_return);
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
int file_attach(const struct file *f, const struct file_place *at, struct links *to)
{
	static const int order[] = { CALL_CODE_FREED, CALL_FREE_ENTER,	CALL_ALLOC_EXIT,
				     CALL_WRAP_ENTER, CALL_ALLOC_ENTER, CALL_ALLOC_SESSION };
	char path[64];

	if (to->n || f->fd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	for (size_t o = 0; o < ARRAY_SIZE(order); o++) {
		struct batch b = batch_of(at->loader, f, order[o], at->with_return,
					  at->pid ? SCOPE_PROCESS : SCOPE_HOST);
		int err = batch_attach(at->loader, &b, path, at->pid, to);
		if (err) {
			links_close(at->closer, to);
			return err;
		}
	}
	return 0;
}
