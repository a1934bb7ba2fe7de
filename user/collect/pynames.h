/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of Python frames: reads code objects out of a process at first sight and keeps strings, never pointers. Code objects are freed and their
 * addresses reused, so each is known by (image, address, code id) and read only while the bytes in the process still give that id. Everything that is
 * read is hostile: lengths are bounded, text that is not UTF-8 is replaced.
 */
#ifndef TIDEMARK_COLLECT_PYNAMES_H
#define TIDEMARK_COLLECT_PYNAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "probe/pyinfo.h"
#include "python.h"

struct pynames;

struct py_line {
	const char *
		name; /* qualified where the version has it; never NULL: "<gone>" if the code object could not be read in time */
	const char *file; /* as the code object says; NULL: not known */
	uint32_t line;	  /* that runs; 0: none */
	bool is_entry;	  /* first frame of an eval loop: a native frame of the loop belongs to the frames up to here */
};

struct pynames *pynames_new(void);
void pynames_free(struct pynames *n);

/*
 * Names of a chain's frames, innermost first, c->n of them written to ret. Strings belong to n and live as long as it. image: which program image the
 * process runs (children share what their parent showed). Never fails.
 */
void pynames_resolve(struct pynames *n, uint32_t pid, uint32_t image, const struct py_names *layout,
		     uint16_t code_id_offset, const struct python_chain *c, struct py_line *ret);
/* Takes the names of a code object from a copy that the kernel side made while it ran. */
void pynames_learn(struct pynames *n, uint32_t image, const struct py_names *layout, uint16_t code_id_offset,
		   const struct python_code_copy *c, size_t bytes);
/* Forgets the code objects of an image (not the strings). */
void pynames_forget(struct pynames *n, uint32_t image);

/* --- parts that read no process: tested and fuzzed by themselves --- */

/* Line of a code unit (0, 1, 2...), by the line table of 3.minor; 0: none. unit < 0: the frame has not begun: first line. */
uint32_t pyline_find(uint8_t minor, const uint8_t *table, size_t bytes, uint32_t first_line, int64_t unit);

#endif
