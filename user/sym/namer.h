/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds names, file and line of one address: symbol tables, debug information, perf maps. Takes as long as it takes
 * (large files: seconds) and remembers no answers. Used by one thread at a time; the caller sees to that.
 */
#ifndef TIDEMARK_SYM_NAMER_H
#define TIDEMARK_SYM_NAMER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sym/elfimg.h"
#include "sym/lines.h"

struct fetch;
struct namer;
struct perfmap;
struct symfile;

/* Where an address lies: in a file, or in generated code (then `addr` is the run-time address). Borrowed. */
struct place {
	struct symfile *file;
	struct perfmap *map;
	uint64_t addr;
	bool may_wait; /* lines of a file that is closed and dear to open may come with a later answer */
};

struct named {
	struct line_result lines; /* names demangled; n 0: nothing known */
	char build_id[BUILD_ID_HEX_CAP];
	bool may_improve; /* generated code whose name is not written yet; a debug file is on its way; lines are waited for */
};
void named_done(struct named *n);

/* `fetch` is borrowed; NULL: no server is asked. */
struct namer *namer_new(struct fetch *fetch);
/* Files that it was asked about must still be there. */
void namer_free(struct namer *n);

void namer_find(struct namer *n, const struct place *at, struct named *ret);
/* From any thread: what runs ends soon, and nothing more is found. */
void namer_stop(struct namer *n);
/* Closes debug information that was not used for some time. */
void namer_rest(struct namer *n);

#endif
