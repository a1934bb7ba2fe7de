/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/entries.h"

#include <string.h>
#include <uthash.h>

#include "probe/wrappers.h"
#include "target/elf.h"
#include "target/proc.h"
#include "util/mem.h"

#define SITES_MAX 32

struct file_key {
	uint64_t dev, inode;
};

struct file {
	struct file_key key;
	struct wrapper_site sites[SITES_MAX];
	uint64_t offsets[SITES_MAX]; /* in the file */
	size_t n;
	UT_hash_handle hh;
};

struct entries {
	struct file *files;
};

struct entries *entries_new(void)
{
	return xcalloc(1, sizeof(struct entries));
}

void entries_free(struct entries *e)
{
	struct file *f, *next;

	if (!e)
		return;
	HASH_ITER(hh, e->files, f, next) {
		HASH_DEL(e->files, f);
		free(f);
	}
	free(e);
}

static bool wants(const char *symbol, void *ctx)
{
	(void)ctx;
	return wrapper_wants(symbol);
}

static void look_into(struct file *f, uint32_t pid, const struct mapping *m)
{
	_cleanup_(elf_done) struct elf_file elf = { 0 };
	_cleanup_(closep) int fd = mapping_open(pid, m, NULL);
	size_t kept = 0;

	if (fd < 0 || elf_open(fd, wants, NULL, &elf))
		return;
	f->n = wrappers_find(&elf, f->sites, SITES_MAX);
	for (size_t i = 0; i < f->n; i++)
		if (elf_vaddr_to_offset(&elf, f->sites[i].vaddr, &f->offsets[kept]) == 0)
			f->sites[kept++] = f->sites[i];
	f->n = kept;
}

static const struct file *file_of(struct entries *e, uint32_t pid, const struct mapping *m)
{
	struct file_key key = { .dev = m->dev, .inode = m->inode };
	struct file *f = NULL;

	HASH_FIND(hh, e->files, &key, sizeof(key), f);
	if (f)
		return f;
	f = xcalloc(1, sizeof(*f));
	f->key = key;
	look_into(f, pid, m);
	HASH_ADD(hh, e->files, key, sizeof(f->key), f);
	return f;
}

/* The C library and the loader make these calls; so does an executable that is linked statically (it maps no loader). */
static bool makes_calls(const struct mapping *m, bool has_loader, bool is_first)
{
	const char *base = strrchr(m->path, '/');

	if (!base)
		return false;
	return !strncmp(base, "/libc.", 6) || !strncmp(base, "/libc-", 6) || !strncmp(base, "/ld-", 4) ||
	       (!has_loader && is_first);
}

static bool has_loader(const struct mappings *maps)
{
	for (size_t i = 0; i < maps->n; i++)
		if (strstr(maps->items[i].path, "/ld-"))
			return true;
	return false;
}

static size_t add_file(const struct file *f, const struct mapping *m, struct map_entries *ret, size_t n)
{
	for (size_t i = 0; i < f->n && n < MAP_WRAPPERS; i++) {
		if (f->offsets[i] < m->file_offset || f->offsets[i] - m->file_offset >= m->end - m->start)
			continue;
		ret->wrapper[n].ip = m->start + f->offsets[i] - m->file_offset;
		ret->wrapper[n++].slot_words = f->sites[i].slot_words;
	}
	return n;
}

void entries_fill(struct entries *e, uint32_t pid, const struct mappings *maps, struct map_entries *ret)
{
	bool loader = has_loader(maps), first = true;
	size_t n = 0;

	for (size_t i = 0; i < maps->n && n < MAP_WRAPPERS; i++) {
		const struct mapping *m = &maps->items[i];
		if (!m->exec || !m->inode)
			continue;
		if (makes_calls(m, loader, first))
			n = add_file(file_of(e, pid, m), m, ret, n);
		first = false;
	}
}
