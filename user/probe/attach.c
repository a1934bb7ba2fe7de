/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/attach.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/link.h"
#include "util/log.h"
#include "util/mem.h"

/* One file that was looked into, for one process or for all (pid 0). */
struct attached {
	uint64_t dev, inode;
	uint32_t pid;
	int *links;
	size_t n_links, cap_links;
	struct file_info info;
};

struct attacher {
	const struct loader *loader; /* borrowed, must outlive */
	struct plan_kernel kernel;
	struct attached *files;
	size_t n_files, cap_files;
	bool wide;
};

struct attacher *attacher_new(const struct loader *l)
{
	struct attacher *a = xcalloc(1, sizeof(*a));
	struct rlimit files;

	a->loader = l;
	a->wide = loader_features(l)->session;
	a->kernel.version = loader_features(l)->version;
	/* A descriptor per link; process-by-process attaching needs many. Failing leaves the soft limit, which attaching reports. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	return a;
}

static void attached_done(struct attached *f)
{
	for (size_t i = 0; i < f->n_links; i++)
		(void)close(f->links[i]); /* the link's only reference: its probes go */
	free(f->links);
}

void attacher_free(struct attacher *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n_files; i++)
		attached_done(&a->files[i]);
	free(a->files);
	free(a);
}

void attacher_drop_pid(struct attacher *a, uint32_t pid)
{
	size_t kept = 0;

	for (size_t i = 0; i < a->n_files; i++)
		if (a->files[i].pid == pid && pid)
			attached_done(&a->files[i]);
		else
			a->files[kept++] = a->files[i];
	a->n_files = kept;
}

bool attacher_is_wide(const struct attacher *a)
{
	return a->wide;
}

static const struct attached *file_find(const struct attacher *a, uint64_t dev, uint64_t inode, uint32_t pid)
{
	uint32_t scope = a->wide ? 0 : pid;

	for (size_t i = 0; i < a->n_files; i++)
		if (a->files[i].inode == inode && a->files[i].dev == dev && a->files[i].pid == scope)
			return &a->files[i];
	return NULL;
}

bool attacher_knows_file(const struct attacher *a, uint64_t dev, uint64_t inode, uint32_t pid)
{
	return file_find(a, dev, inode, pid) != NULL;
}

uint16_t site_of(const struct family_func *f)
{
	return (uint16_t)(SITE_FIRST_PROBE + (f - family_funcs));
}

const char *site_name(uint16_t site)
{
	static const char *const calls[SITE_FIRST_PROBE] = { [SITE_MMAP] = "mmap", [SITE_MREMAP] = "mremap",
							     [SITE_BRK] = "brk" };

	if (site >= SITE_FIRST_PROBE && site - SITE_FIRST_PROBE < (int)family_funcs_n)
		return family_funcs[site - SITE_FIRST_PROBE].site;
	return site < SITE_FIRST_PROBE && calls[site] ? calls[site] : "unknown";
}

static uint64_t near_units(uint64_t bytes)
{
	uint64_t units = (bytes + NEAR_UNIT - 1) / NEAR_UNIT;

	return units > 255 ? 255 : units;
}

static unsigned short extent_of(const struct elf_file *e, const struct plan *p)
{
	uint64_t at = p->func_vaddr + p->insn_delta;
	uint64_t rest = p->func_bytes > p->insn_delta ? p->func_bytes - p->insn_delta : 0;

	if (p->shape == SHAPE_WRAP)
		return rest && rest <= 0xffff ? (unsigned short)rest : 0xffff;
	return (unsigned short)(near_units(at - e->text_start) | near_units(e->text_end - at) << 8);
}

static uint64_t cookie_of(const struct elf_file *e, const struct plan *p)
{
	struct call_cookie c = {
		.layer = (unsigned char)p->func->layer,
		.shape = (unsigned char)p->shape,
		.ptr_reg = p->ptr_reg,
		.size_reg = p->size_reg,
		.count_reg = p->count_reg,
		.slot_words = p->slot_words,
		.may_throw = p->may_throw,
		.site = site_of(p->func),
		.extent = extent_of(e, p),
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
	} else if (p->needs_return && f->session) {
		w.entry = CALL_ALLOC_SESSION;
		w.entry_type = ATTACH_UPROBE_SESSION;
	} else if (p->needs_return) { /* such a return can't be left out call by call: none where one could do harm */
		w.entry = CALL_ALLOC_ENTER;
		w.exit = with_return && !p->may_throw ? CALL_ALLOC_EXIT : -1;
	}
	return w;
}

static int keep_link(struct attached *f, int link)
{
	if (link < 0)
		return link;
	f->links = grow_to(f->links, &f->cap_links, f->n_links + 1, sizeof(*f->links));
	f->links[f->n_links++] = link;
	return 0;
}

/* All functions of a file that share a program go into one link. */
struct batch {
	uint64_t offsets[64], cookies[64];
	uint32_t n;
};

static int batch_attach(const struct attacher *a, struct attached *f, const struct batch *b, int prog, int type, bool is_return,
			const char *path)
{
	int fd = loader_prog_fd(a->loader, (enum call_prog)prog);

	if (!b->n)
		return 0;
	if (loader_features(a->loader)->multi) {
		struct link_multi l = { .prog_fd = fd, .attach_type = type, .path = path, .offsets = b->offsets,
					.cookies = b->cookies, .n = b->n, .pid = f->pid, .is_return = is_return };
		return keep_link(f, link_create_multi(&l));
	}
	for (uint32_t i = 0; i < b->n; i++) {
		int err = keep_link(f, link_create_uprobe(fd, path, b->offsets[i], b->cookies[i], f->pid, is_return));
		if (err)
			return err;
	}
	return 0;
}

/* Frees and returns first: a block must not be seen to come without being seen to go. */
static int attach_plans(const struct attacher *a, struct attached *f, int file, const struct elf_file *e,
			const struct plan *plans, size_t n, bool with_return)
{
	static const int order[] = { CALL_FREE_ENTER, CALL_ALLOC_EXIT, CALL_WRAP_ENTER, CALL_ALLOC_ENTER, CALL_ALLOC_SESSION };
	char path[64];
	int err = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	for (size_t o = 0; o < ARRAY_SIZE(order) && !err; o++) {
		struct batch b = { 0 };
		int type = ATTACH_UPROBE_MULTI;
		for (size_t i = 0; i < n; i++) {
			struct wiring w = wiring_of(a, &plans[i], with_return);
			if (!plans[i].planned || (w.entry != order[o] && w.exit != order[o]) || b.n == ARRAY_SIZE(b.offsets))
				continue;
			type = w.entry == order[o] ? w.entry_type : ATTACH_UPROBE_MULTI;
			b.offsets[b.n] = plans[i].probe_offset;
			b.cookies[b.n++] = cookie_of(e, &plans[i]);
		}
		err = batch_attach(a, f, &b, order[o], type, order[o] == CALL_ALLOC_EXIT, path);
	}
	return err;
}

/* Plans and attaches; what makes a file useless (no ELF, other machine, broken) is information, not an error. */
static int take_new(const struct attacher *a, struct attached *f, int fd, bool with_return)
{
	_cleanup_(elf_done) struct elf_file elf = { 0 };
	_cleanup_(freep) struct plan *plans = NULL;
	size_t n = 0;
	int err = elf_open(fd, family_wants, NULL, &elf);

	f->info.foreign = err == -ENOTSUP;
	f->info.go = elf.has_gopclntab;
	if (err)
		return err == -ENOEXEC || err == -ENOTSUP || err == -EBADMSG ? 0 : err;
	err = plan_file(&elf, &a->kernel, &plans, &n);
	for (size_t i = 0; i < n; i++)
		f->info.functions += plans[i].planned;
	if (err || !f->info.functions)
		return err;
	return attach_plans(a, f, fd, &elf, plans, n, with_return);
}

int attacher_take_file(struct attacher *a, int fd, uint32_t pid, bool with_return, struct file_info *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	const struct attached *known = file_find(a, st.st_dev, st.st_ino, pid);
	if (known) {
		*ret = known->info;
		return 0;
	}
	struct attached f = { .dev = st.st_dev, .inode = st.st_ino, .pid = a->wide ? 0 : pid };
	int err = take_new(a, &f, fd, with_return);
	log_debug("inode %llu: %d functions, %zu links, %s", (unsigned long long)f.inode, f.info.functions, f.n_links,
		  err ? strerror(-err) : "ok");
	if (err) {
		attached_done(&f);
		return err;
	}
	/* A file without functions is remembered too: it is not looked into at every turn. */
	a->files = grow_to(a->files, &a->cap_files, a->n_files + 1, sizeof(*a->files));
	a->files[a->n_files++] = f;
	*ret = f.info;
	ret->fresh = true;
	return 0;
}
