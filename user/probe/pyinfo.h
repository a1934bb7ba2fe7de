/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPython of a process, as the kernel side's walker and the reader of names need it. Found in libpython or in the executable, stripped
 * or not; offsets from _Py_DebugOffsets (3.13+), else from the table that scripts/pyoffsets makes from the headers. Reads the target's files and,
 * from 3.13 on, its memory; both are hostile: what does not make sense is refused.
 */
#ifndef TIDEMARK_PROBE_PYINFO_H
#define TIDEMARK_PROBE_PYINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "python.h"

struct mappings;

/* Run-time addresses [start, end) of code of the eval loop. */
#define PYTHON_FREE_THREADED "free-threaded build"
#define PY_EVAL_RANGES_MAX 64
struct py_eval_range {
	uint64_t start, end;
	/*
	 * true: _PyEval_EvalFrameDefault and its parts (.cold): one activation of it ran the Python frames up to and with an entry frame.
	 * false: a part that it calls (_TAIL_CALL_* of 3.14's tail-call interpreter): to be dropped from a merged stack.
	 */
	bool is_entry;
};

/* What the reader of names needs besides; offsets in PyCodeObject, in str objects. */
struct py_names {
	uint16_t code_name, code_qualname; /* qualname 0: this version has none */
	uint16_t code_filename, code_firstlineno, code_linetable;
	uint16_t str_length, str_state, str_ascii_data, str_compact_data;
	uint16_t bytes_size, bytes_data;
	uint8_t minor; /* 3.minor: which form the line table has */
};

struct py_process {
	struct python_info info;
	struct py_names names;
	struct py_eval_range eval[PY_EVAL_RANGES_MAX];
	size_t n_eval;
	uint32_t version_hex; /* PY_VERSION_HEX, 0x030b02f0; lower bytes 0 if only X.Y is known */
};

/*
 * 0, also of a runtime that is not initialised yet; -ENOENT: no CPython; -EAGAIN: the runtime's memory is not mapped yet, ask again; -ENOTSUP: one that can't
 * be walked: *ret_why (static text) says why: "free-threaded build", "Python 3.7"... A process whose debug offsets are broken: -EBADMSG. The first look at
 * a stripped file takes some 20 ms of processor time (its code is searched): callers that see many processes keep what they got by file.
 */
int pyinfo_find(uint32_t pid, const struct mappings *maps, struct py_process *ret, const char **ret_why);

/* The rows for 3.8 to 3.14 (3.13+: as of their headers, what _Py_DebugOffsets does not publish). NULL: not supported. `version_hex` as above. */
const struct py_process *pyinfo_row(uint32_t minor);

#endif
