/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many of the blocks whose address is in use are dead: the statistics of collect/survival.h, without any process. Pure.
 *
 * Blocks that were seen alive are looked at again later. Those of them that died meanwhile, unseen, show as
 *      found	the address is free: dead for certain, taken out
 *      hidden	another block took the address: not to be told from a live one
 * Controls, of which the free was seen, show the same two. Where an address goes after its free does not depend on who had it, so
 *
 *      hidden (new since the last look) = found x odds,	odds = controls in use / controls free
 *
 * and that needs only the share among those found, not when they died or how many were seen to die: both shrink alike. Blocks that are hidden already
 * may stay so (a leak took their address: for good), or come to light. Controls that are hidden are followed like blocks (with an entry in the kernel's
 * table, so that a free seen there ends them too), and tell: of n hidden before, stayed in use, came to light, left. With these
 *
 *      hidden = odds x (found - hidden' x light/n) + hidden' x stayed/n = odds x found + carry x hidden'
 *
 * where hidden' is the figure of the look before. carry is 0 where addresses change hands all the time, and 1 where they do not. What is kept
 * of the looks before is not hidden' but what it is made of, found + carry x the same of the look before: while there are few controls the odds are
 * hardly known, and what is learnt later puts right what was said then.
 *
 * The estimate is linear in the blocks' weights, so it is right in the mean for each sum by itself, a leak among churn of the same sizes: where
 * nothing is found free, nothing is hidden. odds are in use / (free + 1), nearly unbiased (Haldane, Biometrika 1945) and finite.
 */
#ifndef TIDEMARK_COLLECT_REUSE_H
#define TIDEMARK_COLLECT_REUSE_H

#include <stdbool.h>
#include <stdint.h>

#define REUSE_CLASSES 128 /* of sizes, in each of two layers */

/* Size class of a request: as glibc rounds small ones; four per doubling above. python: the layer. */
uint32_t reuse_class(bool python, uint64_t bytes);
bool reuse_class_is_python(uint32_t class);

enum reuse_fate { REUSE_STAYED, REUSE_LIGHT, REUSE_LEFT, REUSE_FATES };

struct reuse {
	double in_use[REUSE_CLASSES], is_free[REUSE_CLASSES]; /* controls that died since the look before */
	double old[REUSE_CLASSES][REUSE_FATES];		      /* controls hidden at the look before */
};

/* Times change: what was counted so far weighs less from now on. */
void reuse_fade(struct reuse *r);
void reuse_count(struct reuse *r, uint32_t class, bool in_use);
void reuse_count_old(struct reuse *r, uint32_t class, enum reuse_fate fate);

/* What the controls of a class say; of neighbouring classes too where there are too few of it; at last what is usual. */
struct reuse_odds {
	double odds, odds_var;
	double carry, carry_var;
	double n; /* controls behind odds */
};
void reuse_odds(const struct reuse *r, uint32_t class, struct reuse_odds *ret);

/* Weights of blocks: estimates are made of several at once. */
enum reuse_weight { WEIGHT_BYTES, WEIGHT_COUNT, REUSE_WEIGHTS };

/* The blocks of one sum in one size class. */
struct cohort {
	double trail[REUSE_WEIGHTS]; /* found at this look and, carried on, at those before: hidden = odds x trail */
	double trail_squares;	     /* sum of squares of bytes, likewise */
	double trail_doubt;	     /* variance of the bytes, as carry is not known well */
	/* of this look: */
	double in_use[REUSE_WEIGHTS], found[REUSE_WEIGHTS], unknown[REUSE_WEIGHTS];
	double in_use_var;    /* sampling variance of the bytes */
	double found_squares; /* sum of squares of bytes */
	uint32_t n_in_use, n_found, n_unknown;
};

/* Before a look's blocks are added. */
void cohort_begin(struct cohort *c);

struct cohort_live {
	double live[REUSE_WEIGHTS]; /* may be below 0 by chance: sums of many are right */
	double var;		    /* of the bytes */
};
/* After all were added: takes what was hidden before for what is hidden now. */
void cohort_settle(struct cohort *c, const struct reuse_odds *o, struct cohort_live *ret);

#endif
