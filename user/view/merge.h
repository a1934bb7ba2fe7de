/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One stack out of two: native frames, in which eval loops of the interpreter stand, and the Python frames that those ran.
 *
 *	native, leaf first          Python, leaf first         merged
 *	_PyObject_Malloc            -                          _PyObject_Malloc
 *	_PyEval_EvalFrameDefault <- g, f (entry)               g, f
 *	_PyFunction_Vectorcall                                 _PyFunction_Vectorcall
 *	_PyEval_EvalFrameDefault <- <module> (entry)           <module>
 *	main                                                   main
 *
 * Each activation of the loop takes Python frames up to and with the next entry frame. Pure: indices in, indices out.
 */
#ifndef TIDEMARK_VIEW_MERGE_H
#define TIDEMARK_VIEW_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/snapshot.h"

enum merge_mode { MERGE_BOTH, MERGE_NATIVE, MERGE_PYTHON, MERGE_NR };

struct merged_frame {
	bool python;
	uint32_t index; /* in def->frames or def->python */
};

/*
 * Writes at most def->n_frames + def->n_python frames, leaf first; returns their number. A loop for which no Python frame is left (the
 * thread's state could not be read) stays as a native frame; Python frames for which no loop is left stand at the outer end where the native
 * stack was cut, else they are put behind the outermost loop.
 */
size_t merge_frames(const struct snap_stackdef *def, enum merge_mode mode, struct merged_frame *ret);

#endif
