/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Standard errors of sums. What windows were not open for, and what cost was taken for work, is off for all stacks of a process alike: a part `edge` of
 * every figure (snapshot.h), which is added as it is; only the rest is independent, and adds as squares.
 */
#ifndef TIDEMARK_MODEL_SHARED_ERROR_H
#define TIDEMARK_MODEL_SHARED_ERROR_H

#include <math.h>
#include <stdint.h>

#include "collect/snapshot.h"

/* The square of a figure's own error. NAN: not known. */
static inline double error_own_square(double se, double edge, uint64_t bytes)
{
	double shared = bytes == UNKNOWN_U64 ? 0 : edge * (double)bytes, own = se * se - shared * shared;

	return own < 0 ? 0 : own;
}

/* The error of a sum, of its parts' own squares and what they share. */
static inline double error_of_sum(double own_squares, double edge, uint64_t bytes)
{
	return hypot(sqrt(own_squares), bytes == UNKNOWN_U64 ? 0 : edge * (double)bytes);
}

/* Layers whose figures come from windows. */
static inline double edge_of_layer(double edge, enum layer layer)
{
	return layer == LAYER_HEAP || layer == LAYER_PYTHON ? edge : 0;
}

#endif
