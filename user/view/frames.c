/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view/frames.h"

#include <string.h>

#include "util/arena.h"
#include "util/mem.h"

void frame_list_done(struct frame_list *l)
{
	free(l->frames);
	free(l->merged);
	*l = (struct frame_list){ 0 };
}

/* --- naming --- */

static void add(struct frame_list *l, const struct sym_frame *f)
{
	l->frames = grow_to(l->frames, &l->cap, l->n + 1, sizeof(*l->frames));
	l->frames[l->n++] = f;
}

static const struct sym_frame *copy(struct frame_list *l, const struct sym_frame *f)
{
	return memcpy(arena_alloc(l->arena, 1, sizeof(*f)), f, sizeof(*f));
}

/* Copied at once: sym may reuse what is not final. Inlined ones come before the one that called them. */
static void add_native(struct frame_list *l, struct sym *sym, const struct snap_frame *f)
{
	const struct sym_frame *named;
	size_t k = sym_resolve(sym, f, &named);

	for (size_t i = 0; i < k; i++) {
		l->settled &= named[i].settled;
		add(l, named[i].final ? &named[i] : copy(l, &named[i]));
	}
}

static void add_python(struct frame_list *l, const struct snap_pyframe *f)
{
	struct sym_frame named = { .name = f->name && *f->name ? f->name : "[unknown]",
				   .file = f->file,
				   .line = f->file ? f->line : 0,
				   .kind = FRAME_PYTHON,
				   .final = true,
				   .settled = true };

	add(l, copy(l, &named));
}

/* --- callers and sites --- */

static bool has_prefix(const char *s, const char *const *prefixes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strncmp(s, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static bool is_new(const char *name)
{
	static const char *const operators[] = { "operator new(", "operator new[](" };

	return has_prefix(name, operators, ARRAY_SIZE(operators));
}

/* The C library's way into the kernel, by whichever of its names the symbol table gives. */
static bool is_mapping_call(const char *name)
{
	static const char *const calls[] = { "mmap", "mmap64", "munmap", "mremap", "brk", "sbrk" };

	if (!strncmp(name, "__GI_", 5))
		name += 5;
	if (!strncmp(name, "__", 2))
		name += 2;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (!strcmp(name, calls[i]))
			return true;
	return false;
}

/* CPython's interface, where it is not left by a jump (builds without optimisation), and what stands between it and the type of an object. */
static bool is_python_alloc(const char *name)
{
	static const char *const domains[] = { "PyObject_", "PyMem_Raw", "PyMem_" };
	static const char *const calls[] = { "Malloc", "Calloc", "Realloc", "MallocWithType", "ReallocWithType" };

	name += *name == '_';
	for (size_t i = 0; i < ARRAY_SIZE(domains); i++)
		for (size_t k = 0; k < ARRAY_SIZE(calls); k++)
			if (!strncmp(name, domains[i], strlen(domains[i])) &&
			    !strcmp(name + strlen(domains[i]), calls[k]))
				return true;
	return false;
}

/*
 * The program calls `operator new`; that it calls malloc is the library's affair, and so is that mmap() enters the kernel. Such frames at the front are
 * no callers. The outermost operator is the site; of mappings the site is the system call already.
 */
static const struct lift_rule {
	bool (*is_wrapper)(const char *name);
	bool is_site;
} lift_rules[LAYER_NR] = {
	[LAYER_HEAP] = { is_new, true },
	[LAYER_MAP] = { is_mapping_call, false },
	[LAYER_PYTHON] = { is_python_alloc, true },
};

/* How many frames at the front of the list are no callers. */
static size_t wrappers(const struct frame_list *l, enum layer layer)
{
	const struct lift_rule *rule = &lift_rules[layer];
	size_t n = 0;

	while (rule->is_wrapper && n < l->n && l->frames[n]->kind == FRAME_NATIVE &&
	       rule->is_wrapper(l->frames[n]->name))
		n++;
	return n;
}

static void lift_site(struct frame_list *l, enum layer layer)
{
	size_t n = wrappers(l, layer);

	if (n && (lift_rules[layer].is_site || !l->site))
		l->site = l->frames[n - 1]->name;
	l->n -= n;
	if (n && l->n)
		memmove(l->frames, l->frames + n, l->n * sizeof(*l->frames));
}

/* --- lists --- */

enum merge_mode frames_mode(const struct query *q, const struct snap_stackdef *def)
{
	if (q->native_only || !def->n_python)
		return MERGE_NATIVE;
	return q->python_only ? MERGE_PYTHON : MERGE_BOTH;
}

/* Native frames up to the first caller. false: there is none, or a loop came first for which Python frames may stand. */
static bool add_leaf(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
		     enum merge_mode mode)
{
	for (uint32_t i = 0; i < def->n_frames; i++) {
		if (mode == MERGE_BOTH && def->frames[i].eval != EVAL_NONE)
			return false;
		add_native(l, sym, &def->frames[i]);
		if (l->n > wrappers(l, layer))
			return true;
	}
	return false;
}

static size_t merge(struct frame_list *l, const struct snap_stackdef *def, enum merge_mode mode)
{
	l->merged = grow_to(l->merged, &l->merged_cap, (size_t)def->n_frames + def->n_python, sizeof(*l->merged));
	return merge_frames(def, mode, l->merged);
}

static void add_merged(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum merge_mode mode)
{
	size_t n = merge(l, def, mode);

	for (size_t i = 0; i < n; i++) {
		const struct merged_frame *f = &l->merged[i];

		if (f->python)
			add_python(l, &def->python[f->index]);
		else
			add_native(l, sym, &def->frames[f->index]);
	}
}

static void begin(struct frame_list *l, const struct snap_stackdef *def)
{
	l->site = def->site;
	l->n = 0;
	l->settled = true;
}

void frames_resolve(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
		    const struct query *q)
{
	enum merge_mode mode = frames_mode(q, def);

	begin(l, def);
	if (mode == MERGE_PYTHON) { /* the site is what native frames say, also where they are not shown */
		(void)add_leaf(l, sym, def, layer, MERGE_NATIVE); /* without a caller too */
		lift_site(l, layer);
		l->n = 0;
	}
	add_merged(l, sym, def, mode);
	lift_site(l, layer);
}

void frames_resolve_innermost(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
			      const struct query *q)
{
	enum merge_mode mode = frames_mode(q, def);

	begin(l, def);
	if (mode == MERGE_PYTHON)
		add_python(l, &def->python[0]);
	else if (add_leaf(l, sym, def, layer, mode))
		lift_site(l, layer);
	else
		frames_resolve(l, sym, def, layer, q);
}

/* --- summary --- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Python that comes inside of the interpreter (import machinery): its code objects have no file. */
static bool is_frozen(const struct sym_frame *f)
{
	return f->file && !strncmp(f->file, "<frozen", 7);
}

/* Code that allocates for others: the runtime's libraries and the interpreter (Debian's python3 contains its libpython). */
static bool is_runtime(const struct sym_frame *f)
{
	static const char *const modules[] = {
		"libc.so",  "libc-2.", "libstdc++.so", "libc++.so", "libc++abi.so", "libgcc_s.so", "libpthread",
		"ld-linux", "ld-musl", "ld.so",	       "ld-2.",	    "libpython",    "python3",	   "[vdso]",
	};
	/* Templates of the C++ library end up in the program's own file; theirs may begin with the type returned. */
	static const char *const names[] = { "std::", "__gnu_cxx::", "void std::", "void __gnu_cxx::" };

	if (f->kind == FRAME_PYTHON)
		return is_frozen(f);
	if (f->module && has_prefix(base_name(f->module), modules, ARRAY_SIZE(modules)))
		return true;
	/* Extension modules of the standard library. */
	return (f->module && strstr(f->module, "/lib-dynload/")) || has_prefix(f->name, names, ARRAY_SIZE(names));
}

static const struct sym_frame *most_telling(const struct frame_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!is_runtime(l->frames[i]))
			return l->frames[i];
	for (size_t i = 0; i < l->n; i++)
		if (l->frames[i]->kind == FRAME_PYTHON)
			return l->frames[i];
	return l->frames[0];
}

/* Leaves the program's own frame alone in the list. 1; 0: it is none; -1: only the whole list tells. */
static int add_own(struct frame_list *l, struct sym *sym, const struct snap_frame *f, enum layer layer)
{
	const struct sym_frame of_file = { .name = "",
					   .module = sym_module_path(sym, f->module),
					   .kind = FRAME_NATIVE };
	size_t first = l->n;

	if (is_runtime(&of_file))
		return 0;
	add_native(l, sym, f);
	for (size_t i = first; i < l->n; i++) {
		if (is_runtime(l->frames[i]))
			continue;
		if (lift_rules[layer].is_wrapper && lift_rules[layer].is_wrapper(l->frames[i]->name))
			return -1; /* whether it counts depends on what stands before it */
		l->frames[0] = l->frames[i];
		l->n = 1;
		return 1;
	}
	l->n = first;
	return 0;
}

void frames_resolve_telling(struct frame_list *l, struct sym *sym, const struct snap_stackdef *def, enum layer layer,
			    const struct query *q)
{
	size_t n = merge(l, def, frames_mode(q, def));
	int found = 0;

	begin(l, def);
	for (size_t i = 0; i < n && !found; i++) {
		const struct merged_frame *f = &l->merged[i];

		if (!f->python) {
			found = add_own(l, sym, &def->frames[f->index], layer);
			continue;
		}
		add_python(l, &def->python[f->index]);
		found = !is_runtime(l->frames[l->n - 1]);
		if (found)
			l->frames[0] = l->frames[l->n - 1];
		l->n = 1; /* the first of Python's, if there is nothing better */
	}
	if (found < 0)
		frames_resolve(l, sym, def, layer, q);
	else if (!l->n)
		frames_resolve_innermost(l, sym, def, layer, q);
}

const char *frames_summary(struct arena *arena, const struct frame_list *l)
{
	if (!l->n)
		return l->site ? l->site : "unknown stack";
	const struct sym_frame *f = most_telling(l);
	if (!f->file)
		return f->name;
	if (!f->line)
		return arena_printf(arena, "%s %s", f->name, base_name(f->file));
	return arena_printf(arena, "%s %s:%u", f->name, base_name(f->file), f->line);
}
