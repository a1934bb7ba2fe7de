/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/reuse.h"

#include <math.h>
#include <string.h>

#define LAYER_CLASSES (REUSE_CLASSES / 2)
#define SMALL_STEPS 32 /* of 16 bytes: up to 512; then four per doubling, up to 128 KiB; above that all are one */
/* Controls: then a class speaks for itself. Odds are known as well as the rarer of their two sides. */
#define ENOUGH 40
#define FREE_ENOUGH 10
#define OLD_ENOUGH 10
#define PLENTY 400    /* of one class: older ones fade sooner */
#define KEEP_FEW 0.98 /* per look */
#define KEEP_MANY 0.9
/* Without any control: three of four freed addresses are in use again, which programs vary between 45 and 97 %: odds of 1 to 32. */
#define USUAL_SHARE 0.75
#define USUAL_WEIGHT 2.0
#define USUAL_ODDS_MAX 32.0
#define NEIGHBOUR_SPREAD 0.25 /* standard deviation of the odds, as a share of them, per class of distance */

uint32_t reuse_class(bool python, uint64_t bytes)
{
	uint32_t base = python ? LAYER_CLASSES : 0, class = SMALL_STEPS;
	uint64_t rounded = (bytes + 8 + 15) / 16; /* a chunk's header is 8 bytes; at least 32 together */

	if (rounded <= SMALL_STEPS)
		return base + (rounded < 2 ? 2 : (uint32_t)rounded) - 1;
	for (uint64_t top = 512; class < LAYER_CLASSES - 1; class ++) {
		uint64_t quarter = (class - SMALL_STEPS) & 3;
		if (bytes + 8 <= top + top / 4 * (quarter + 1))
			break;
		top <<= quarter == 3;
	}
	return base + class;
}

bool reuse_class_is_python(uint32_t class)
{
	return class >= LAYER_CLASSES;
}

void reuse_fade(struct reuse *r)
{
	for (uint32_t i = 0; i < REUSE_CLASSES; i++) {
		double keep = r->in_use[i] + r->is_free[i] > PLENTY ? KEEP_MANY : KEEP_FEW;
		double old = r->old[i][REUSE_STAYED] + r->old[i][REUSE_LIGHT] + r->old[i][REUSE_LEFT];
		double keep_old = old > PLENTY ? KEEP_MANY : KEEP_FEW;
		r->in_use[i] *= keep;
		r->is_free[i] *= keep;
		for (int k = 0; k < REUSE_FATES; k++)
			r->old[i][k] *= keep_old;
	}
}

void reuse_count(struct reuse *r, uint32_t class, bool in_use)
{
	if (in_use)
		r->in_use[class]++;
	else
		r->is_free[class]++;
}

void reuse_count_old(struct reuse *r, uint32_t class, enum reuse_fate fate)
{
	r->old[class][fate]++;
}

/* The classes of the same layer within `reach` of one. */
static void neighbours(uint32_t class, uint32_t reach, uint32_t *ret_from, uint32_t *ret_to)
{
	uint32_t first = class / LAYER_CLASSES * LAYER_CLASSES, last = first + LAYER_CLASSES;

	*ret_from = class - first > reach ? class - reach : first;
	*ret_to = last - class > reach + 1 ? class + reach + 1 : last;
}

static void pool_fresh(const struct reuse *r, uint32_t class, struct reuse_odds *ret)
{
	double used = 0, is_free = 0, spread = 0;
	uint32_t reach = 0;

	for (;; reach = reach ? 2 * reach : 1) {
		uint32_t from, to;
		neighbours(class, reach, &from, &to);
		used = is_free = 0;
		for (uint32_t i = from; i < to; i++) {
			used += r->in_use[i];
			is_free += r->is_free[i];
		}
		if ((used + is_free >= ENOUGH && is_free >= FREE_ENOUGH) || reach >= LAYER_CLASSES)
			break;
	}
	ret->n = used + is_free;
	if (used + is_free < ENOUGH) {
		used += USUAL_WEIGHT * USUAL_SHARE;
		is_free += USUAL_WEIGHT * (1 - USUAL_SHARE);
		spread = USUAL_ODDS_MAX * (1 - ret->n / ENOUGH);
	}
	ret->odds = used / (is_free + 1);
	/* Of odds x/(1-x) by the delta method; one more in each so that none at all is not taken for never. */
	double plus = (used + 1) / (is_free + 1);
	/* What is said of other sizes says less the further they are. */
	const uint32_t classes = LAYER_CLASSES;
	spread = hypot(spread, NEIGHBOUR_SPREAD * reach * plus);
	spread = hypot(spread, USUAL_ODDS_MAX * reach / classes);
	ret->odds_var = plus * (1 + plus) * (1 + plus) / (ret->n + 2) + spread * spread;
}

static void pool_old(const struct reuse *r, uint32_t class, struct reuse_odds *ret)
{
	double fate[REUSE_FATES] = { 0 }, n = 0;

	for (uint32_t reach = 0; n < OLD_ENOUGH && reach < 2 * LAYER_CLASSES; reach = reach ? 2 * reach : 1) {
		uint32_t from, to;
		neighbours(class, reach, &from, &to);
		memset(fate, 0, sizeof(fate));
		for (uint32_t i = from; i < to; i++)
			for (int k = 0; k < REUSE_FATES; k++)
				fate[k] += r->old[i][k];
		n = fate[REUSE_STAYED] + fate[REUSE_LIGHT] + fate[REUSE_LEFT];
	}
	if (n < 1) {
		ret->carry = 0.5;
		ret->carry_var = 1.0 / 12; /* anything between 0 and 1 */
		return;
	}
	double stayed = fate[REUSE_STAYED] / n, light = fate[REUSE_LIGHT] / n;
	double carry = stayed - light * ret->odds;
	double var = (stayed + light * ret->odds * ret->odds - carry * carry + 1) / (n + 1) +
		     light * light * ret->odds_var;
	/* It is between 0 and 1. Below, chance may bring it, and cutting that off would be a bias; but not far below. */
	ret->carry = fmax(-1, fmin(1, carry));
	ret->carry_var = fmin(1, var);
}

void reuse_odds(const struct reuse *r, uint32_t class, struct reuse_odds *ret)
{
	pool_fresh(r, class, ret);
	pool_old(r, class, ret);
}

void cohort_begin(struct cohort *c)
{
	struct cohort fresh = { .trail_squares = c->trail_squares, .trail_doubt = c->trail_doubt };

	memcpy(fresh.trail, c->trail, sizeof(fresh.trail));
	*c = fresh;
}

static double bounded(double v, double limit)
{
	return fmax(-limit, fmin(limit, v));
}

/* What is found now, and what was before. */
static void follow_trail(struct cohort *c, const struct reuse_odds *o)
{
	double before = c->trail[WEIGHT_BYTES];

	for (int k = 0; k < REUSE_WEIGHTS; k++)
		c->trail[k] = c->found[k] + o->carry * c->trail[k];
	c->trail_squares = c->found_squares + o->carry * o->carry * c->trail_squares;
	c->trail_doubt = o->carry * o->carry * c->trail_doubt + before * before * o->carry_var;
}

void cohort_settle(struct cohort *c, const struct reuse_odds *o, struct cohort_live *ret)
{
	uint32_t known = c->n_in_use + c->n_found;
	double all = c->in_use[WEIGHT_BYTES] + c->unknown[WEIGHT_BYTES], share = 1;

	follow_trail(c, o);
	for (int k = 0; k < REUSE_WEIGHTS; k++) {
		/* Too few controls can say anything; but not more than what there is, twice over. */
		double in_use = c->in_use[k], hidden = bounded(o->odds * c->trail[k], 2 * (in_use + c->unknown[k]));
		/* What could not be looked at is taken to be as the rest. */
		double rest = in_use + c->found[k] > 0 ? (in_use - hidden) / (in_use + c->found[k]) : 1;
		ret->live[k] = in_use - hidden + c->unknown[k] * rest;
		share = k == WEIGHT_BYTES ? rest : share;
	}
	/*
	 * A sum of which none was found might have been about to show one: one more, of mean size. With odds as high as they may be: where few are
	 * found, few controls are, too, and the odds are too low when the trail is too short.
	 */
	double mean = known ? (c->in_use[WEIGHT_BYTES] + c->found[WEIGHT_BYTES]) / known : 0;
	double high = o->odds + sqrt(o->odds_var);
	double hidden_var = high * (1 + high) * (c->trail_squares + mean * mean) + high * high * c->trail_doubt +
			    c->trail[WEIGHT_BYTES] * c->trail[WEIGHT_BYTES] * o->odds_var;
	ret->var = c->in_use_var + fmin(hidden_var, all * all);
	/* How many of the unknown live is chance by itself; what share of them does, is for all of them together known only as well as the rest is many. */
	if (c->n_unknown)
		ret->var += c->unknown[WEIGHT_BYTES] * c->unknown[WEIGHT_BYTES] *
			    (fabs(share * (1 - share)) / c->n_unknown +
			     fmin(1, (fabs(share * (1 - share)) + 1.0 / (known + 1)) / (known + 1)));
}
