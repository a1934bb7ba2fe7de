/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where CPython's eval loop lies in a file: all its parts, with and without symbols. */
#ifndef TIDEMARK_PROBE_PYEVAL_H
#define TIDEMARK_PROBE_PYEVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/pyinfo.h"

struct pyeval_query {
	int fd;		       /* borrowed */
	uint64_t start, bytes; /* of _PyEval_EvalFrameDefault, as linked */
	bool may_tail_call;    /* 3.14 or later: look for a table of instructions that are functions */
	uint64_t bias;	       /* run-time address minus address as linked */
	/* Copies from the process that runs the file; a run-time address. */
	bool (*read)(const void *ctx, uint64_t addr, void *buf, size_t n);
	const void *ctx; /* of read */
};

/*
 * Writes ranges, ascending, addresses as linked; returns their number, 0 if q->bytes is 0 or no function's. Neighbours of a kind are joined; what
 * does not fit into PY_EVAL_RANGES_MAX then is left out, the smallest first.
 */
size_t pyeval_find(const struct pyeval_query *q, struct py_eval_range ret[PY_EVAL_RANGES_MAX]);

#endif
