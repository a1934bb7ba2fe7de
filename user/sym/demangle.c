/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * C++ (Itanium) and Rust (legacy and v0) names by libiberty. A short hostile name can stand for gigabytes of text
 * (substitutions that double), so only libiberty's callback form is used, and left by longjmp once the text is too
 * long: that form keeps everything on the stack, nothing leaks. Includes no util/mem.h: libiberty.h declares an
 * xrealloc of its own.
 */
#include <libiberty/demangle.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "sym/sym.h"

#define MANGLED_MAX 4096
#define DEMANGLED_MAX 16384
/*
 * Up to this length libiberty's own recursion limit (2048 components, 2 per byte) lets a name pass; longer ones are
 * bounded by MANGLED_MAX.
 */
#define MANGLED_SAFE 1024

struct out {
	jmp_buf full;
	size_t used;
	char text[DEMANGLED_MAX];
};

static void on_text(const char *s, size_t n, void *opaque)
{
	struct out *o = opaque;

	if (!n)
		return; /* then s may be NULL */
	if (n >= sizeof(o->text) - o->used)
		longjmp(o->full, 1);
	memcpy(o->text + o->used, s, n);
	o->used += n;
}

typedef int (*demangler)(const char *, int, demangle_callbackref, void *);

static bool run(demangler fn, const char *name, int options, struct out *o)
{
	o->used = 0;
	if (setjmp(o->full))
		return false;
	return fn(name, options, on_text, o) && o->used;
}

char *sym_demangle(const char *name)
{
	size_t len = strnlen(name, MANGLED_MAX + 1);
	int options = DMGL_PARAMS | DMGL_ANSI;

	if (len > MANGLED_MAX || name[0] != '_' || !strchr("ZRG", name[1]))
		return NULL;
	if (len > MANGLED_SAFE)
		options |= DMGL_NO_RECURSE_LIMIT;
	struct out *o = malloc(sizeof(*o));
	if (!o)
		return NULL;
	/*
	 * Rust first: a legacy Rust name is a valid C++ name too, with its hash as the last part. Rust keeps its own
	 * limit always.
	 */
	bool done = run(rust_demangle_callback, name, DMGL_PARAMS | DMGL_ANSI, o) ||
		    run(cplus_demangle_v3_callback, name, options, o);
	char *text = done ? strndup(o->text, o->used) : NULL;
	free(o);
	return text;
}
