/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/place.h"

#include <errno.h>
#include <gelf.h>
#include <libelf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "target/proc.h"
#include "util/arena.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/mem.h"

#define SEGMENTS_MAX 16
#define BUILD_ID_HEX 65
#define REREAD_NS 50000000ull /* an unknown address makes the mappings be read again at most this often */

struct segment {
	uint64_t offset, vaddr, bytes;
};

struct module_key {
	uint64_t dev, inode;
	uint64_t version;   /* inodes are used again, and files are rewritten in place */
	uint64_t path_hash; /* tells apart what has no inode: [vdso] */
};

struct module {
	struct module_key key;
	uint32_t id;
	char *path, *open_path;
	char build_id[BUILD_ID_HEX];
	struct segment segments[SEGMENTS_MAX];
	size_t n_segments;
	UT_hash_handle hh;
};

/* Mappings of one process image, as last read. */
struct image {
	struct proc_key id;
	struct mappings maps;
	struct module **modules; /* by mapping; NULL: not asked for since they were read */
	bool fresh;
	uint64_t read_ns;
	struct module *generated; /* code in no file; NULL: none seen */
	UT_hash_handle hh;
};

struct places {
	struct module *modules;
	struct module **by_id;
	size_t n_modules, cap_modules, n_taken;
	struct image *images;
};

struct places *places_new(void)
{
	(void)elf_version(EV_CURRENT); /* libelf asks for this before anything; EV_CURRENT can't be refused */
	return xcalloc(1, sizeof(struct places));
}

static void image_free(struct places *p, struct image *im)
{
	HASH_DEL(p->images, im);
	mappings_done(&im->maps);
	free(im->modules);
	free(im);
}

void places_free(struct places *p)
{
	struct module *m, *m_next;
	struct image *im, *im_next;

	if (!p)
		return;
	HASH_ITER(hh, p->images, im, im_next)
		image_free(p, im);
	HASH_ITER(hh, p->modules, m, m_next) {
		HASH_DEL(p->modules, m);
		free(m->path);
		free(m->open_path);
		free(m);
	}
	free(p->by_id);
	free(p);
}

static void elf_endp(Elf **e)
{
	if (*e)
		(void)elf_end(*e); /* reference count, not an error */
}

/* The GNU build id out of a note segment. */
static void read_build_id(Elf *e, const GElf_Phdr *ph, char hex[BUILD_ID_HEX])
{
	if (ph->p_filesz > 65536)
		return;
	Elf_Data *d = elf_getdata_rawchunk(e, (int64_t)ph->p_offset, ph->p_filesz, ELF_T_NHDR);
	size_t at = 0, name, desc;
	GElf_Nhdr nh;

	while (d && (at = gelf_getnote(d, at, &nh, &name, &desc)) > 0) {
		const unsigned char *id = (const unsigned char *)d->d_buf + desc;
		if (nh.n_type != NT_GNU_BUILD_ID || nh.n_namesz != 4 || nh.n_descsz > 32 ||
		    memcmp((char *)d->d_buf + name, "GNU", 4))
			continue;
		for (uint32_t i = 0; i < nh.n_descsz; i++)
			snprintf(hex + 2 * i, 3, "%02x", id[i]);
		return;
	}
}

static void read_segments(struct module *m, int fd)
{
	_cleanup_(elf_endp) Elf *e = elf_begin(fd, ELF_C_READ, NULL);
	size_t n = 0;
	GElf_Phdr ph;

	if (!e || elf_getphdrnum(e, &n))
		return;
	for (size_t i = 0; i < n && i < 256 && gelf_getphdr(e, (int)i, &ph); i++) {
		if (ph.p_type == PT_NOTE && !m->build_id[0])
			read_build_id(e, &ph, m->build_id);
		if (ph.p_type == PT_LOAD && m->n_segments < SEGMENTS_MAX)
			m->segments[m->n_segments++] =
				(struct segment){ .offset = ph.p_offset, .vaddr = ph.p_vaddr, .bytes = ph.p_filesz };
	}
}

static void module_keep(struct places *p, struct module *m)
{
	m->id = (uint32_t)p->n_modules + 1;
	p->by_id = grow_to(p->by_id, &p->cap_modules, p->n_modules + 1, sizeof(*p->by_id));
	p->by_id[p->n_modules++] = m;
}

static struct module *module_add(struct places *p, uint32_t pid, const struct mapping *map,
				 const struct module_key *key)
{
	struct module *m = xcalloc(1, sizeof(*m));
	_cleanup_(closep) int fd = -1;

	m->key = *key;
	m->path = xstrdup(map->path);
	if (map->inode) {
		fd = mapping_open(pid, map, &m->open_path);
		if (fd >= 0)
			read_segments(m, fd);
	}
	HASH_ADD(hh, p->modules, key, sizeof(m->key), m);
	module_keep(p, m);
	return m;
}

/* 0: the process is gone, or the file can't be asked. */
static uint64_t version_of(uint32_t pid, const struct mapping *map)
{
	struct stat st;

	return mapping_stat(pid, map, &st) ? 0 : fs_version(&st);
}

/* The newest that is known of an inode. */
static struct module *module_of_inode(const struct places *p, const struct mapping *map)
{
	for (size_t i = p->n_modules; i-- > 0;)
		if (p->by_id[i]->key.inode == map->inode && p->by_id[i]->key.dev == map->dev)
			return p->by_id[i];
	return NULL;
}

static struct module *module_of(struct places *p, uint32_t pid, const struct mapping *map)
{
	struct module_key key = { .dev = map->dev, .inode = map->inode };
	struct module *m = NULL;

	if (!map->path[0])
		return NULL;
	if (map->inode)
		key.version = version_of(pid, map);
	else
		for (const char *c = map->path; *c; c++)
			key.path_hash = key.path_hash * 31 + (unsigned char)*c;
	HASH_FIND(hh, p->modules, &key, sizeof(key), m);
	if (!m && map->inode && !key.version)
		m = module_of_inode(p, map);
	return m ? m : module_add(p, pid, map, &key);
}

static struct image *image_of(struct places *p, const struct proc_key *id)
{
	struct image *im = NULL;

	HASH_FIND(hh, p->images, id, sizeof(*id), im);
	if (im)
		return im;
	im = xcalloc(1, sizeof(*im));
	im->id = *id;
	HASH_ADD(hh, p->images, id, sizeof(im->id), im);
	return im;
}

static void image_read(struct image *im)
{
	struct mappings now;

	im->fresh = true;
	im->read_ns = mono_ns();
	if (mappings_read(im->id.pid, &now) || !now.n)
		return; /* gone: what was read before is still right for its old addresses */
	mappings_done(&im->maps);
	free(im->modules);
	im->maps = now;
	im->modules = xcalloc(now.n, sizeof(struct module *));
}

void places_stale(struct places *p, const struct proc_key *id)
{
	struct image *im = NULL;

	HASH_FIND(hh, p->images, id, sizeof(*id), im);
	if (im)
		im->fresh = false;
}

void places_forget(struct places *p, const struct proc_key *id)
{
	struct image *im = NULL;

	HASH_FIND(hh, p->images, id, sizeof(*id), im);
	if (im)
		image_free(p, im);
}

/* A child that was gone before it could be looked at had, but for what it mapped itself, the mappings of its parent. */
static struct image *relative_of(struct places *p, struct image *gone)
{
	for (struct image *im = p->images; im; im = im->hh.next)
		if (im->id.image == gone->id.image && im->maps.n)
			return im;
	return gone;
}

/* Where an address lies: the image whose mappings were asked, and the mapping. NULL: nowhere. */
static const struct mapping *mapping_of(struct places *p, const struct proc_key *id, uint64_t addr, struct image **ret)
{
	struct image *im = image_of(p, id);

	if (!im->fresh)
		image_read(im);
	*ret = im->maps.n ? im : relative_of(p, im);
	const struct mapping *m = mappings_find(&(*ret)->maps, addr);
	if (m || *ret != im || mono_ns() - im->read_ns < REREAD_NS)
		return m;
	image_read(im);
	return mappings_find(&im->maps, addr);
}

/* A file is asked once per reading of the mappings. */
static struct module *module_at(struct places *p, const struct proc_key *id, struct image *im,
				const struct mapping *map)
{
	struct module **m = &im->modules[map - im->maps.items];

	if (!*m)
		*m = module_of(p, id->pid, map);
	return *m;
}

static uint64_t linked_addr(const struct module *m, uint64_t offset)
{
	for (size_t i = 0; i < m->n_segments; i++) {
		const struct segment *s = &m->segments[i];
		if (offset >= s->offset && offset - s->offset < s->bytes)
			return s->vaddr + (offset - s->offset);
	}
	return offset;
}

/* The last number of "NSpid:": what the process calls itself. */
static uint32_t innermost_pid(uint32_t pid)
{
	_cleanup_(freep) char *text = NULL;
	char path[64];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%u/status", pid);
	const char *s = fs_read_all(path, 65536, &text, &len) ? NULL : strstr(text, "\nNSpid:");
	for (s = s ? s + 7 : ""; *s && *s != '\n'; s += strcspn(s, "\t\n"))
		if (*s == '\t')
			pid = (uint32_t)strtoul(++s, NULL, 10);
	return pid;
}

/* Generated code: its names are in the file that the process writes for perf, if it does. Addresses are run-time addresses. */
static struct module *generated_of(struct places *p, const struct proc_key *id)
{
	struct image *im = image_of(p, id);

	if (im->generated)
		return im->generated;
	struct module *m = xcalloc(1, sizeof(*m));
	m->path = xasprintf("/tmp/perf-%u.map", innermost_pid(id->pid));
	m->open_path = xasprintf("/proc/%u/root%s", id->pid, m->path);
	/* No inode says what it is; the process tells it from those of others. */
	m->key = (struct module_key){ .dev = id->pid, .path_hash = id->start_ticks << 32 | id->image };
	struct module *known = NULL;
	HASH_FIND(hh, p->modules, &m->key, sizeof(m->key), known);
	if (known) { /* the image was forgotten meanwhile */
		free(m->path);
		free(m->open_path);
		free(m);
		return im->generated = known;
	}
	HASH_ADD(hh, p->modules, key, sizeof(m->key), m);
	module_keep(p, m);
	return im->generated = m;
}

static bool is_anonymous(const struct mapping *map)
{
	return !map->inode && (!map->path[0] || !strncmp(map->path, "[anon:", 6) || !strcmp(map->path, "[heap]"));
}

struct snap_frame places_frame(struct places *p, const struct proc_key *id, uint64_t addr, bool is_return)
{
	struct snap_frame f = { .addr = addr, .is_return = is_return };
	struct image *im;
	const struct mapping *map = mapping_of(p, id, is_return ? addr - 1 : addr, &im);

	if (map && is_anonymous(map)) {
		f.module = generated_of(p, id)->id;
		return f;
	}
	struct module *m = map ? module_at(p, id, im, map) : NULL;
	if (!m || (!map->inode && map->path[0] != '['))
		return f;
	f.module = m->id;
	f.addr = linked_addr(m, addr - map->start + map->file_offset);
	return f;
}

const struct snap_module *places_take_new(struct places *p, struct arena *arena, size_t *ret_n)
{
	size_t n = p->n_modules - p->n_taken;
	struct snap_module *out = arena_alloc(arena, n, sizeof(*out));

	for (size_t i = 0; i < n; i++) {
		const struct module *m = p->by_id[p->n_taken + i];
		out[i] = (struct snap_module){
			.id = m->id,
			.path = arena_strdup(arena, m->path),
			.open_path = arena_strdup(arena, m->open_path),
			.dev = m->key.dev,
			.inode = m->key.inode,
			.version = m->key.version,
			.build_id = arena_strdup(arena, m->build_id),
		};
	}
	p->n_taken = p->n_modules;
	*ret_n = n;
	return out;
}
