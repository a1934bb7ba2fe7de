/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of frames. Takes dictionary entries of snapshots (modules, frames), gives function, file and line: symbol
 * tables (.symtab, .dynsym, .gnu_debugdata), demangled; file:line and inlined frames by libdw where debug
 * information exists; perf maps for generated code. Cached by build id (else device and inode); a budget per loop
 * turn so that the screen never stalls: what takes longer goes on in a thread. Debug files are asked of servers
 * (DEBUGINFOD_URLS) only where the environment has TIDEMARK_DEBUGINFOD=1. Never fails: a name is "module+0x1234" at
 * least.
 */
#ifndef TIDEMARK_SYM_SYM_H
#define TIDEMARK_SYM_SYM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"

struct sym;

enum frame_kind { FRAME_NATIVE, FRAME_PYTHON, FRAME_KERNEL };
const char *frame_kind_name(enum frame_kind k);

/* Strings belong to sym and live as long as it. */
struct sym_frame {
	const char *name;     /* demangled, never NULL: "foo(int)", "libc.so.6+0x98930" */
	const char *file;     /* NULL: unknown */
	uint32_t line;	      /* 0: unknown */
	const char *module;   /* path as the target names it; NULL: in no file */
	const char *build_id; /* hex; NULL: none */
	uint64_t offset;      /* file address in the module, of the call (return address - 1 where it is one) */
	enum frame_kind kind;
	bool inlined; /* was inlined into the next frame */
	bool final;   /* false: the budget ran out, or a debug file is on its way: ask again later */
	bool settled; /* every later answer is this one */
};

struct sym *sym_new(void);
void sym_free(struct sym *s);

/* Takes over (copies) modules of a snapshot's dictionary. */
void sym_add_modules(struct sym *s, const struct snap_module *modules, size_t n);

/*
 * Starts a loop turn: at most this much time is spent on new names until the next call; what was asked for goes on in
 * the background, in the order of asking, until then. 0: no limit, nothing in the background.
 */
void sym_set_budget(struct sym *s, uint64_t ns);

/*
 * Frames of one snapshot frame: the inlined ones first (innermost first), the function that really stands there
 * last. Returns their number, 1 at least; *ret is owned by sym and valid until the next call of sym_resolve that is
 * not `final`, else for sym's life. A later answer for generated code may be a better one: its name may be written
 * after its first call.
 */
size_t sym_resolve(struct sym *s, const struct snap_frame *f, const struct sym_frame **ret);

/* As the target names it, known without looking into it; NULL: this id is not known. */
const char *sym_module_path(const struct sym *s, uint32_t module);

/* Demangles C++ and Rust; NULL if it isn't a mangled name. Caller frees. */
char *sym_demangle(const char *name);

#endif
