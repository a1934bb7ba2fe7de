/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/symfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sym/debugfile.h"
#include "sym/elfimg.h"
#include "sym/fetch.h"
#include "sym/pool.h"
#include "sym/vdso.h"
#include "util/fs.h"
#include "util/mem.h"

#define FDS_MAX 256

void fd_share_init(struct fd_share *fds)
{
	struct rlimit lim;

	fds->used = 0;
	fds->cap = FDS_MAX;
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur / 4 < fds->cap)
		fds->cap = (unsigned int)(lim.rlim_cur / 4);
}

bool fd_share_take(struct fd_share *fds)
{
	if (atomic_fetch_add(&fds->used, 1) < fds->cap)
		return true;
	fd_share_give(fds, 1);
	return false;
}

void fd_share_give(struct fd_share *fds, unsigned int n)
{
	(void)atomic_fetch_sub(&fds->used, n);
}

/*
 * Files of a process show the device of the mapping, which on btrfs and overlayfs is not what stat says: the inode
 * has to do then.
 */
static bool is_right_inode(int fd, const struct symfile *f, bool by_target)
{
	struct stat st;

	if (!f->inode)
		return by_target;
	if (fstat(fd, &st) < 0 || (f->version && f->version != fs_version(&st)))
		return false;
	if (st.st_ino == f->inode && (st.st_dev == f->dev || by_target))
		return true;
	return by_target && strstr(f->open_path, "/map_files/");
}

static bool is_right_file(int fd, const struct symfile *f, bool by_target)
{
	return f->build_id[0] ? elfimg_is(fd, f->build_id) : is_right_inode(fd, f, by_target);
}

static int open_checked(const struct symfile *f, const char *path, bool by_target)
{
	_cleanup_(closep) int fd = path[0] == '/' ? open_regular(path) : -ENOENT;

	if (fd < 0)
		return fd;
	if (!is_right_file(fd, f, by_target))
		return -ENOENT;
	return steal_fd(&fd);
}

/* A descriptor of the file; the caller closes it. */
static int open_main(const struct symfile *f)
{
	if (f->fd >= 0)
		return fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	if (!strcmp(f->path, VDSO_PATH))
		return vdso_open();
	int fd = open_checked(f, f->open_path, true);
	return fd >= 0 ? fd : open_checked(f, f->path, false);
}

struct symfile *symfile_new(struct pool *strings, struct fd_share *fds, const struct snap_module *m)
{
	struct symfile *f = xcalloc(1, sizeof(*f));

	f->path = pool_intern(strings, m->path ? m->path : "");
	f->open_path = pool_intern(strings, m->open_path ? m->open_path : "");
	f->build_id = pool_intern(strings, m->build_id ? m->build_id : "");
	f->dev = m->dev;
	f->inode = m->inode;
	f->version = m->version;
	f->fds = fds;
	f->fd = -1;
	_cleanup_(closep) int fd = open_main(f);
	f->was_reached = fd >= 0;
	if (f->was_reached && fd_share_take(fds))
		f->fd = steal_fd(&fd);
	return f;
}

void symfile_free(struct symfile *f)
{
	if (!f)
		return;
	symfile_close_lines(f);
	lines_index_free(f->index);
	elfsym_free(f->syms);
	fd_share_give(f->fds, f->n_table_fds + (f->fd >= 0));
	closep(&f->fd);
	free(f->debug_path);
	free(f);
}

bool symfile_is(const struct symfile *f, const struct snap_module *m)
{
	const char *id = m->build_id ? m->build_id : "";

	if (id[0] || f->build_id[0])
		return !strcmp(f->build_id, id);
	return m->inode && f->inode == m->inode && f->dev == m->dev && f->version == m->version;
}

static void take_lines(struct symfile *f, const struct elfimg *img, int where)
{
	if (f->lines_in != LINES_NONE || !elfimg_section(img, ".debug_info"))
		return;
	f->lines_in = where;
	f->lines_bytes = lines_packed_bytes(img);
}

/*
 * Names are read from the file later, so a table keeps a descriptor of it; beyond the share (-1) it copies its
 * names.
 */
static int add_section(struct symfile *f, const struct elfimg *img, const char *section, int fd)
{
	int keep = -1;

	if (!elfimg_section(img, section))
		return -ENOENT;
	if (fd >= 0 && fd_share_take(f->fds)) {
		keep = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (keep >= 0)
			f->n_table_fds++;
		else
			fd_share_give(f->fds, 1);
	}
	return elfsym_add(f->syms, img, section, keep);
}

static int open_debug(struct symfile *f, const struct elfimg *main)
{
	const struct debugfile_query q = { .img = main, .build_id = f->id, .path = f->path, .open_path = f->open_path };

	return f->debug_path ? open_regular(f->debug_path) : debugfile_open(&q, &f->debug_path);
}

/* Looks for the separate debug file: for lines, and for symbols where `want_symbols`. True: it gave symbols. */
static bool load_debug(struct symfile *f, const struct elfimg *main, bool want_symbols)
{
	_cleanup_(elfimg_done) struct elfimg img = { .fd = -1 };
	_cleanup_(closep) int fd = open_debug(f, main);

	if (fd < 0 || elfimg_open(fd, &img) < 0)
		return false;
	take_lines(f, &img, LINES_DEBUG);
	return want_symbols && add_section(f, &img, ".symtab", fd) > 0;
}

static void load_minidebug(struct symfile *f, const struct elfimg *main)
{
	_cleanup_(elfimg_done) struct elfimg img = { .fd = -1 };
	_cleanup_(freep) uint8_t *mem = NULL;
	size_t len;

	if (minidebug_load(main, &mem, &len) < 0 || elfimg_open_mem(mem, len, &img) < 0)
		return;
	(void)add_section(f, &img, ".symtab", -1); /* what can't be read gives no names */
}

/*
 * The fullest table alone: .symtab here or in the debug file holds all of .dynsym; .gnu_debugdata holds what .dynsym
 * does not.
 */
static void load_tables(struct symfile *f, const struct elfimg *img, int fd)
{
	bool has_all = add_section(f, img, ".symtab", fd) > 0;

	take_lines(f, img, LINES_MAIN);
	if (!has_all || f->lines_in == LINES_NONE)
		has_all |= load_debug(f, img, !has_all);
	if (has_all)
		return;
	(void)add_section(f, img, ".dynsym", fd); /* what can't be read gives no names */
	load_minidebug(f, img);
}

static void load(struct symfile *f)
{
	_cleanup_(elfimg_done) struct elfimg img = { .fd = -1 };
	_cleanup_(closep) int fd = open_main(f);

	if (fd < 0 || elfimg_open(fd, &img) < 0)
		return;
	if (elfimg_build_id(&img, f->id) < 0)
		f->id[0] = 0;
	f->syms = elfsym_new();
	load_tables(f, &img, fd);
	elfsym_seal(f->syms);
}

static void unload(struct symfile *f)
{
	elfsym_free(f->syms);
	f->syms = NULL;
	fd_share_give(f->fds, f->n_table_fds);
	f->n_table_fds = 0;
	f->lines_in = LINES_NONE;
}

static bool wants_debug(const struct symfile *f)
{
	return f->syms && f->lines_in == LINES_NONE && f->id[0] && !f->debug_path && strcmp(f->path, VDSO_PATH) != 0;
}

/* What came is taken only if it is what was asked for. */
static void ask_for_debug(struct symfile *f, struct fetch *fetch)
{
	const char *path = NULL;
	enum fetch_state state = fetch_ask(fetch, f->id, &path);

	f->awaits_debug = state == FETCH_ASKED;
	_cleanup_(closep) int fd = state == FETCH_HERE ? open_regular(path) : -1;
	_cleanup_(closep) int again = fd >= 0 ? open_main(f) : -1;
	if (again < 0 || !elfimg_is(fd, f->id))
		return;
	f->debug_path = xstrdup(path);
	unload(f);
	load(f);
}

void symfile_load(struct symfile *f, struct fetch *fetch)
{
	if (f->is_loaded && !f->awaits_debug)
		return;
	if (!f->is_loaded)
		load(f);
	f->is_loaded = true;
	if (fetch && wants_debug(f))
		ask_for_debug(f, fetch);
	if (f->lines_in != LINES_MAIN && !f->awaits_debug && f->fd >= 0) {
		closep(&f->fd); /* the tables have their own */
		f->fd = -1;
		fd_share_give(f->fds, 1);
	}
}

int symfile_name(const struct symfile *f, uint64_t addr, char ret[SYM_NAME_CAP])
{
	return f->syms ? elfsym_find(f->syms, addr, ret) : -ENOENT;
}

int symfile_open_lines(struct symfile *f, const atomic_bool *stop)
{
	if (f->lines)
		return 0;
	if (f->lines_in == LINES_NONE)
		return -ENOENT;
	_cleanup_(closep) int fd = f->lines_in == LINES_MAIN ? open_main(f) : open_regular(f->debug_path);
	if (!f->index)
		f->index = lines_index_new();
	const struct lines_query q = { .fd = fd, .open_path = f->open_path, .index = f->index, .stop = stop };
	int r = fd < 0 ? -ENOENT : lines_open(&q, &f->lines);
	if (r < 0)
		f->lines_in = LINES_NONE;
	return r;
}

void symfile_close_lines(struct symfile *f)
{
	lines_free(f->lines);
	f->lines = NULL;
}
