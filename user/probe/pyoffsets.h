/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table that scripts/pyoffsets makes, in its raw form; probe/pyinfo.h is what others use. */
#ifndef TIDEMARK_PROBE_PYOFFSETS_H
#define TIDEMARK_PROBE_PYOFFSETS_H

#include <stdint.h>

#include "probe/pyinfo.h"

#define PY_MINOR_MIN 8
#define PY_MINOR_MAX 14
#define PY_ROWS_NR (PY_MINOR_MAX - PY_MINOR_MIN + 1)

/* Where in _Py_DebugOffsets each number stands that is used of it; *_bytes: the size of the structure that the next ones lie in. */
struct py_published {
	uint16_t bytes; /* of _Py_DebugOffsets; 0: this version has none */
	uint16_t version, free_threaded;
	uint16_t runtime_bytes;
	uint16_t tstate_bytes, tstate_thread, tstate_frame;
	uint16_t frame_bytes, frame_back, frame_code, frame_instr, frame_owner;
	uint16_t code_bytes, code_filename, code_name, code_qualname, code_linetable, code_firstlineno, code_start;
	uint16_t bytes_bytes, bytes_size, bytes_data;
	uint16_t str_bytes, str_state, str_length, str_ascii_data;
};

struct py_row {
	struct py_process process; /* no eval ranges, no address; version_hex is that of X.Y */
	struct py_published published;
};

extern const struct py_row py_rows[PY_ROWS_NR]; /* by minor */

#endif
