/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sym/sym.h"

#include <inttypes.h>
#include <string.h>

#include "sym/asker.h"
#include "sym/fetch.h"
#include "sym/namer.h"
#include "sym/perfmap.h"
#include "sym/pool.h"
#include "sym/symfile.h"
#include "sym/vdso.h"
#include "util/clock.h"
#include "util/mem.h"

#define MODULES_MAX (1u << 20)
#define BARE_NAME_CAP 4128 /* a path is below 4096 */

struct module {
	const char *path;     /* NULL: this id is not known */
	const char *name;     /* last part of the path */
	const char *build_id; /* NULL: none */
	struct symfile *file; /* NULL: in no file */
	struct perfmap *map;  /* NULL: no generated code, or no way to its names */
	bool is_generated;
};

/* Open addressing, a power of two; `is_used` false: free. */
struct slot {
	uint64_t addr;
	const struct sym_frame *frames; /* NULL: no answer yet */
	uint32_t module;
	uint32_t asked; /* in which turn */
	uint16_t n;
	bool is_return, is_used;
	bool may_improve; /* an answer, but there may be a better one */
};

struct sym {
	struct pool *pool;
	struct module *modules; /* by id */
	size_t n_modules, cap_modules;
	struct symfile **files;
	size_t n_files, cap_files;
	struct fd_share fds;
	struct fetch *fetch; /* NULL: servers are not asked */
	struct asker *asker;
	struct answer *answers; /* not looked at yet */
	struct slot *slots;
	size_t n_slots, used_slots;
	uint64_t deadline_ns; /* 0: none */
	uint32_t turn;
	struct sym_frame pending; /* the last answer that is not final */
};

const char *frame_kind_name(enum frame_kind k)
{
	static const char *const names[] = {
		[FRAME_NATIVE] = "native", [FRAME_PYTHON] = "python", [FRAME_KERNEL] = "kernel"
	};

	return (size_t)k < ARRAY_SIZE(names) ? names[k] : "native";
}

/* Servers learn what runs here: only when the user says so, even where DEBUGINFOD_URLS is set for all. */
static bool wants_servers(void)
{
	const char *said = getenv("TIDEMARK_DEBUGINFOD");

	return said && !strcmp(said, "1");
}

struct sym *sym_new(void)
{
	struct sym *s = xcalloc(1, sizeof(*s));

	s->pool = pool_new();
	s->n_slots = 1024;
	s->slots = xcalloc(s->n_slots, sizeof(*s->slots));
	s->turn = 1;
	fd_share_init(&s->fds);
	if (wants_servers() && fetch_new(&s->fetch) < 0)
		s->fetch = NULL; /* no library: names come from this machine alone */
	s->asker = asker_new(namer_new(s->fetch));
	return s;
}

static void forget_answers(struct sym *s)
{
	while (s->answers) {
		struct answer *a = s->answers;
		s->answers = a->next;
		answer_free(a);
	}
}

void sym_free(struct sym *s)
{
	if (!s)
		return;
	forget_answers(s);
	if (!asker_free(s->asker))
		return; /* its thread still reads the files; the process is about to end */
	fetch_free(s->fetch);
	for (size_t i = 0; i < s->n_files; i++)
		symfile_free(s->files[i]);
	for (size_t i = 0; i < s->n_modules; i++)
		perfmap_free(s->modules[i].map);
	free(s->files);
	free(s->modules);
	free(s->slots);
	pool_free(s->pool);
	free(s);
}

static struct symfile *file_of(struct sym *s, const struct snap_module *m)
{
	if (!m->path || (m->path[0] != '/' && strcmp(m->path, VDSO_PATH) != 0))
		return NULL; /* "[heap]" */
	/* One that could not be reached may be reached through this module. */
	for (size_t i = 0; i < s->n_files; i++)
		if (symfile_is(s->files[i], m) && s->files[i]->was_reached)
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
	mod->is_generated = !m->inode && perfmap_is(m->path, m->open_path);
	if (!mod->is_generated)
		mod->file = file_of(s, m);
	else if (fd_share_take(&s->fds))
		mod->map = perfmap_open(m->open_path);
}

void sym_add_modules(struct sym *s, const struct snap_module *modules, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_module(s, &modules[i]);
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

	while (slots[i].is_used &&
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
		if (old->is_used)
			*slot_of(next, n, old->module, old->addr, old->is_return) = *old;
	}
	free(s->slots);
	s->slots = next;
	s->n_slots = n;
}

/* Valid until the next one is made. */
static struct slot *make_slot(struct sym *s, const struct snap_frame *f)
{
	struct slot *slot = slot_of(s->slots, s->n_slots, f->module, f->addr, f->is_return);

	if (slot->is_used)
		return slot;
	if (++s->used_slots * 4 > s->n_slots * 3) {
		grow_slots(s);
		slot = slot_of(s->slots, s->n_slots, f->module, f->addr, f->is_return);
	}
	*slot = (struct slot){ .is_used = true, .addr = f->addr, .module = f->module, .is_return = f->is_return };
	return slot;
}

static struct module *module_of(const struct sym *s, uint32_t id)
{
	return id && id < s->n_modules && s->modules[id].path ? &s->modules[id] : NULL;
}

const char *sym_module_path(const struct sym *s, uint32_t module)
{
	const struct module *m = module_of(s, module);

	return m ? m->path : NULL;
}

/* Where names belong to: the call, not what follows it. */
static uint64_t named_addr(uint64_t addr, bool is_return)
{
	return is_return && addr ? addr - 1 : addr;
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

/* "libc.so.6+0x98930"; in no file the address alone. */
static const char *bare_name(struct sym *s, const struct module *m, uint64_t offset)
{
	bool in_file = m && m->path && !m->is_generated;
	char name[BARE_NAME_CAP];

	(void)snprintf(name, sizeof(name), "%.4095s%s0x%" PRIx64, in_file ? m->name : "", in_file ? "+" : "",
		       offset); /* fits */
	return pool_intern(s->pool, name);
}

static size_t provisional(struct sym *s, const struct module *m, uint64_t offset, const struct sym_frame **ret)
{
	s->pending = bare_frame(m, offset);
	s->pending.name = bare_name(s, m, offset);
	*ret = &s->pending;
	return 1;
}

/*
 * An answer becomes frames. What can't be found in generated code is in no module: the target may write no perf map at
 * all.
 */
static void keep(struct sym *s, struct slot *slot, struct module *m, const struct named *named)
{
	uint64_t offset = named_addr(slot->addr, slot->is_return);
	size_t n = named->lines.n ? named->lines.n : 1;
	struct sym_frame *frames = pool_alloc(s->pool, n, sizeof(*frames));

	if (!m->build_id && named->build_id[0])
		m->build_id = pool_intern(s->pool, named->build_id);
	for (size_t i = 0; i < n; i++) {
		const struct line_frame *l = &named->lines.frames[i];
		frames[i] = bare_frame(m->is_generated && !named->lines.n ? NULL : m, offset);
		frames[i].settled = !named->may_improve;
		frames[i].final = m->is_generated || frames[i].settled;
		frames[i].inlined = i + 1 < n;
		frames[i].file = l->file ? pool_intern(s->pool, l->file) : NULL;
		frames[i].line = l->line;
		frames[i].name = l->name ? pool_intern(s->pool, l->name) : bare_name(s, m, offset);
	}
	slot->n = (uint16_t)n;
	slot->frames = frames;
}

static void take_answer(struct sym *s, struct slot *slot, const struct named *named)
{
	struct module *m = module_of(s, slot->module);

	if (!slot->frames || (slot->may_improve && !named->may_improve))
		keep(s, slot, m, named);
	else
		return; /* as before */
	slot->may_improve = named->may_improve;
}

static bool is_over_budget(const struct sym *s)
{
	return s->deadline_ns && mono_ns() >= s->deadline_ns;
}

/* Looks at answers that have come, as long as the budget lasts; if there are none, waits for some that long. */
static void take_answers(struct sym *s, bool waits)
{
	if (!s->answers)
		s->answers = asker_take(s->asker, waits ? s->deadline_ns : 0);
	while (s->answers && !is_over_budget(s)) {
		struct answer *a = s->answers;
		const struct question *q = &a->q;
		s->answers = a->next;
		take_answer(s, slot_of(s->slots, s->n_slots, q->module, q->addr, q->is_return), &a->named);
		answer_free(a);
	}
}

void sym_set_budget(struct sym *s, uint64_t ns)
{
	s->deadline_ns = ns ? mono_ns() + ns : 0;
	s->turn++;
	/* What is still wanted is asked for again, in the order in which it is wanted now. */
	asker_withdraw(s->asker);
	asker_rest(s->asker);
	take_answers(s, false);
}

static void ask(struct sym *s, struct slot *slot, const struct module *m)
{
	uint64_t addr = named_addr(slot->addr, slot->is_return);
	const struct question q = { .at = { .file = m->file, .map = m->map, .addr = addr, .may_wait = s->deadline_ns },
				    .module = slot->module,
				    .addr = slot->addr,
				    .is_return = slot->is_return };
	struct named named;

	if (slot->asked == s->turn)
		return;
	slot->asked = s->turn;
	if (s->deadline_ns && asker_post(s->asker, &q))
		return;
	asker_find(s->asker, &q.at, &named);
	take_answer(s, slot, &named);
	named_done(&named);
}

/* Nothing to look into: known at once. */
static size_t resolve_bare(struct sym *s, struct slot *slot, struct module *m, const struct sym_frame **ret)
{
	static const struct named nothing = { .may_improve = false };
	struct module none = { .path = NULL };

	keep(s, slot, m ? m : &none, &nothing);
	*ret = slot->frames;
	return slot->n;
}

size_t sym_resolve(struct sym *s, const struct snap_frame *f, const struct sym_frame **ret)
{
	uint64_t offset = named_addr(f->addr, f->is_return);
	struct module *m = module_of(s, f->module);

	if (!m && f->module)
		return provisional(s, NULL, offset, ret); /* its module may still come */
	struct slot *slot = make_slot(s, f);
	if (!slot->frames && (!m || (!m->file && !m->map)))
		return resolve_bare(s, slot, m, ret);
	if (!slot->frames || slot->may_improve)
		ask(s, slot, m);
	while (!slot->frames && !is_over_budget(s))
		take_answers(s, true);
	if (!slot->frames)
		return provisional(s, m, offset, ret);
	*ret = slot->frames;
	return slot->n;
}
