/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/sym.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <string.h>

#include "sym/lines.h"
#include "sym/pool.h"
#include "sym/symfile.h"
#include "util/clock.h"
#include "util/mem.h"

#define MODULES_MAX (1u << 20)
/* Debug information held open at once. glibc's alone takes 10 MB, as Debian packs it. */
#define LINES_BYTES_MAX (16u << 20)
/* What one handle may grow by, with the units that were looked into, before it is closed and begun anew. */
#define LINES_GROWTH_MAX (4u << 20)
#define LINES_OPEN_MAX 4
#define LINES_IDLE_NS 10000000000ull

struct module {
	const char *path;     /* NULL: this id is not known */
	const char *name;     /* last part of the path */
	const char *build_id; /* NULL: none */
	struct symfile *file; /* NULL: in no file */
};

/* Open addressing, a power of two; `frames` NULL: free. */
struct slot {
	uint64_t addr;
	uint32_t module;
	uint16_t n;
	bool is_return;
	const struct sym_frame *frames;
};

struct sym {
	struct pool *pool;
	struct module *modules; /* by id */
	size_t n_modules, cap_modules;
	struct symfile **files;
	size_t n_files, cap_files;
	struct fd_share fds;
	struct symfile *open[LINES_OPEN_MAX]; /* those with a handle on debug information; NULL: free */
	struct slot *slots;
	size_t n_slots, used_slots;
	uint64_t deadline_ns;	  /* 0: none */
	struct sym_frame pending; /* the last answer that is not final */
	char name[SYM_NAME_CAP];
};

const char *frame_kind_name(enum frame_kind k)
{
	static const char *const names[] = {
		[FRAME_NATIVE] = "native", [FRAME_PYTHON] = "python", [FRAME_KERNEL] = "kernel"
	};

	return (size_t)k < ARRAY_SIZE(names) ? names[k] : "native";
}

struct sym *sym_new(void)
{
	struct sym *s = xcalloc(1, sizeof(*s));

	s->pool = pool_new();
	s->n_slots = 1024;
	s->slots = xcalloc(s->n_slots, sizeof(*s->slots));
	fd_share_init(&s->fds);
	return s;
}

void sym_free(struct sym *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_files; i++)
		symfile_free(s->files[i]);
	free(s->files);
	free(s->modules);
	free(s->slots);
	pool_free(s->pool);
	free(s);
}

static struct symfile *file_of(struct sym *s, const struct snap_module *m)
{
	if (!m->path || m->path[0] != '/')
		return NULL; /* "[vdso]", "[heap]" */
	for (size_t i = 0; i < s->n_files; i++)
		if (symfile_is(s->files[i], m) && symfile_is_open(s->files[i]))
			return s->files[i];
	s->files = grow_to(s->files, &s->cap_files, s->n_files + 1, sizeof(*s->files));
	return s->files[s->n_files++] = symfile_new(s->pool, &s->fds, m);
}

static void add_module(struct sym *s, const struct snap_module *m)
{
	if (!m->id || m->id >= MODULES_MAX)
		return;
	if (m->id >= s->n_modules) {
		s->modules = grow_to(s->modules, &s->cap_modules, m->id + 1, sizeof(*s->modules));
		memset(s->modules + s->n_modules, 0, (m->id + 1 - s->n_modules) * sizeof(*s->modules));
		s->n_modules = m->id + 1;
	}
	struct module *mod = &s->modules[m->id];
	if (mod->path)
		return; /* ids are stable */
	mod->path = pool_intern(s->pool, m->path && m->path[0] ? m->path : "?");
	const char *slash = mod->path[0] == '/' ? strrchr(mod->path, '/') : NULL;
	mod->name = slash && slash[1] ? slash + 1 : mod->path;
	mod->build_id = m->build_id && m->build_id[0] ? pool_intern(s->pool, m->build_id) : NULL;
	mod->file = file_of(s, m);
}

void sym_add_modules(struct sym *s, const struct snap_module *modules, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_module(s, &modules[i]);
}

static void close_lines(struct sym *s, size_t i)
{
	symfile_close_lines(s->open[i]);
	s->open[i] = NULL;
}

void sym_set_budget(struct sym *s, uint64_t ns)
{
	uint64_t now = mono_ns();
	bool closed = false;

	s->deadline_ns = ns ? now + ns : 0;
	for (size_t i = 0; i < LINES_OPEN_MAX; i++) {
		if (!s->open[i] || now - s->open[i]->lines_used_ns < LINES_IDLE_NS)
			continue;
		close_lines(s, i);
		closed = true;
	}
	if (closed)
		(void)malloc_trim(
			0); /* libdw's many small blocks hold the heap open; whether any page went is no matter */
}

static uint64_t hash(uint32_t module, uint64_t addr, bool is_return)
{
	uint64_t h = (addr * 2 + is_return) ^ (uint64_t)module << 48;

	/* Finaliser of MurmurHash3 (64 bit): addresses differ in few, low bits. */
	h = (h ^ h >> 33) * 0xff51afd7ed558ccdull;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ull;
	return h ^ h >> 33;
}

static struct slot *slot_of(struct slot *slots, size_t n, uint32_t module, uint64_t addr, bool is_return)
{
	size_t i = hash(module, addr, is_return) & (n - 1);

	while (slots[i].frames &&
	       (slots[i].module != module || slots[i].addr != addr || slots[i].is_return != is_return))
		i = (i + 1) & (n - 1);
	return &slots[i];
}

static void grow_slots(struct sym *s)
{
	size_t n = s->n_slots * 2;
	struct slot *next = xcalloc(n, sizeof(*next));

	for (size_t i = 0; i < s->n_slots; i++) {
		const struct slot *old = &s->slots[i];
		if (old->frames)
			*slot_of(next, n, old->module, old->addr, old->is_return) = *old;
	}
	free(s->slots);
	s->slots = next;
	s->n_slots = n;
}

static size_t keep(struct sym *s, const struct snap_frame *f, const struct sym_frame *frames, size_t n,
		   const struct sym_frame **ret)
{
	struct sym_frame *copy = pool_alloc(s->pool, n, sizeof(*copy));

	memcpy(copy, frames, n * sizeof(*copy));
	*slot_of(s->slots, s->n_slots, f->module, f->addr, f->is_return) = (struct slot){
		.addr = f->addr, .module = f->module, .n = (uint16_t)n, .is_return = f->is_return, .frames = copy
	};
	if (++s->used_slots * 4 > s->n_slots * 3)
		grow_slots(s);
	*ret = copy;
	return n;
}

/* The handle that was not used for the longest time, of another file than `but`; LINES_OPEN_MAX: none. */
static size_t oldest_lines(const struct sym *s, const struct symfile *but)
{
	size_t oldest = LINES_OPEN_MAX;

	for (size_t i = 0; i < LINES_OPEN_MAX; i++) {
		const struct symfile *f = s->open[i];
		if (f && f != but && (oldest == LINES_OPEN_MAX || f->lines_used_ns < s->open[oldest]->lines_used_ns))
			oldest = i;
	}
	return oldest;
}

static void trim_lines(struct sym *s, const struct symfile *but, uint64_t bytes_max)
{
	for (;;) {
		uint64_t bytes = 0;
		for (size_t i = 0; i < LINES_OPEN_MAX; i++)
			bytes += s->open[i] ? lines_bytes(s->open[i]->lines) : 0;
		size_t oldest = oldest_lines(s, but);
		if (bytes <= bytes_max || oldest == LINES_OPEN_MAX)
			return;
		close_lines(s, oldest);
	}
}

static int open_lines(struct sym *s, struct symfile *f)
{
	size_t i = 0;

	trim_lines(s, NULL, f->lines_bytes < LINES_BYTES_MAX ? LINES_BYTES_MAX - f->lines_bytes : 0);
	while (i < LINES_OPEN_MAX && s->open[i])
		i++;
	if (i == LINES_OPEN_MAX) {
		i = oldest_lines(s, NULL);
		close_lines(s, i);
	}
	int r = symfile_open_lines(f);
	if (!r)
		s->open[i] = f;
	return r;
}

static int find_lines(struct sym *s, struct symfile *f, uint64_t addr, struct line_result *ret)
{
	if (f->lines_in == LINES_NONE)
		return -ENOENT;
	int r = f->lines ? 0 : open_lines(s, f);
	if (r < 0)
		return r;
	f->lines_used_ns = mono_ns();
	r = lines_find(f->lines, addr, s->deadline_ns, ret);
	trim_lines(s, f, LINES_BYTES_MAX);
	/* What libdw read of a unit stays until the handle goes; a new one starts small. */
	if (lines_bytes(f->lines) > f->lines_bytes + LINES_GROWTH_MAX || r == -ESTALE)
		for (size_t i = 0; i < LINES_OPEN_MAX; i++)
			if (s->open[i] == f)
				close_lines(s, i);
	return r;
}

static bool is_over_budget(const struct sym *s)
{
	return s->deadline_ns && mono_ns() >= s->deadline_ns;
}

static const char *pretty(struct sym *s, const char *raw)
{
	char *plain = sym_demangle(raw);
	const char *name = pool_intern(s->pool, plain ? plain : raw);

	free(plain);
	return name;
}

static struct sym_frame bare_frame(const struct module *m, uint64_t offset)
{
	return (struct sym_frame){
		.module = m ? m->path : NULL,
		.build_id = m ? m->build_id : NULL,
		.offset = offset,
		.kind = FRAME_NATIVE,
	};
}

/* "libc.so.6+0x98930"; without a module the address alone. */
static const char *bare_name(struct sym *s, const struct module *m, uint64_t offset)
{
	(void)snprintf(s->name, sizeof(s->name), "%s%s0x%" PRIx64, m ? m->name : "", m ? "+" : "",
		       offset); /* a path is below 4096 */
	return pool_intern(s->pool, s->name);
}

static size_t provisional(struct sym *s, const struct module *m, uint64_t offset, const struct sym_frame **ret)
{
	s->pending = bare_frame(m, offset);
	s->pending.name = bare_name(s, m, offset);
	*ret = &s->pending;
	return 1;
}

/* "main.cold", "work.constprop.0": a part or a copy of the function that the debug information names. */
static bool is_part_of(const char *symbol, const char *function)
{
	size_t len = strlen(function);

	return !strncmp(symbol, function, len) && symbol[len] == '.';
}

/*
 * The symbol's name goes before the one in the debug information: it is the one that people call ("malloc", there
 * "__libc_malloc"). But parts and copies that the compiler made of a function go by the function's name.
 */
static const char *function_name(struct sym *s, const struct module *m, uint64_t offset, const char *dwarf_name)
{
	if (m->file && symfile_name(m->file, offset, s->name) == 0)
		return pretty(s, dwarf_name && is_part_of(s->name, dwarf_name) ? dwarf_name : s->name);
	return dwarf_name ? pretty(s, dwarf_name) : bare_name(s, m, offset);
}

static size_t fill(struct sym *s, const struct module *m, uint64_t offset, const struct line_result *lines,
		   struct sym_frame *frames)
{
	size_t n = lines->n ? lines->n : 1;

	for (size_t i = 0; i < n; i++) {
		const struct line_frame *l = &lines->frames[i];
		frames[i] = bare_frame(m, offset);
		frames[i].final = true;
		frames[i].inlined = i + 1 < n;
		frames[i].file = l->file ? pool_intern(s->pool, l->file) : NULL;
		frames[i].line = l->line;
		if (!frames[i].inlined)
			frames[i].name = function_name(s, m, offset, l->name);
		else
			frames[i].name = l->name ? pretty(s, l->name) : bare_name(s, m, offset);
	}
	return n;
}

static size_t resolve_in(struct sym *s, struct module *m, const struct snap_frame *f, uint64_t offset,
			 const struct sym_frame **ret)
{
	_cleanup_(line_result_done) struct line_result lines = { .n = 0 };
	struct sym_frame frames[LINES_FRAMES_MAX];

	if (m->file) {
		symfile_load(m->file, s->pool);
		if (!m->build_id && m->file->build_id[0])
			m->build_id = m->file->build_id;
		if (find_lines(s, m->file, offset, &lines) == -EAGAIN)
			return provisional(s, m, offset, ret);
	}
	return keep(s, f, frames, fill(s, m, offset, &lines, frames), ret);
}

size_t sym_resolve(struct sym *s, const struct snap_frame *f, const struct sym_frame **ret)
{
	const struct slot *known = slot_of(s->slots, s->n_slots, f->module, f->addr, f->is_return);
	uint64_t offset = f->is_return && f->addr ? f->addr - 1 : f->addr;

	if (known->frames) {
		*ret = known->frames;
		return known->n;
	}
	struct module *m = f->module < s->n_modules && s->modules[f->module].path ? &s->modules[f->module] : NULL;
	if (!m && f->module)
		return provisional(s, NULL, offset, ret); /* its module may still come */
	if (!m) {
		struct sym_frame frame = bare_frame(NULL, offset);
		frame.name = bare_name(s, NULL, offset);
		frame.final = true;
		return keep(s, f, &frame, 1, ret);
	}
	if (is_over_budget(s))
		return provisional(s, m, offset, ret);
	return resolve_in(s, m, f, offset, ret);
}
