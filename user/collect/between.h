/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What of a stack lives between two looks at its blocks (collect/survival.h). A look costs what the heap is large, so that they can be a minute apart, and what
 * was allocated since would be missing. Pure.
 *
 * Of what was allocated from one look to the next a share came to stay: all of a leak, nothing of a cache that is full. It is taken to go on as it did, and
 * to fall on where it fell; a share that may be chance is taken for none. How far it was from what had been expected tells how far to trust it.
 */
#ifndef TIDEMARK_COLLECT_BETWEEN_H
#define TIDEMARK_COLLECT_BETWEEN_H

#include <stdint.h>

/* Bytes, or blocks. All zero: never looked at. */
struct between {
	double live, var;	   /* at the last look; var: its variance */
	double allocated;	   /* in all until then */
	double gain;		   /* live per allocated, from the look before on; within 0..1 */
	double expected, gain_var; /* from this look on */
	uint32_t looks;
};

/* A look: live as estimated, also below 0 by chance; allocated never falls. */
void between_look(struct between *b, double live, double var, double allocated);

struct between_now {
	double live, var;
};
/* When so much was allocated in all. */
struct between_now between_at(const struct between *b, double allocated);

#endif
