/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/reuse.h"

#include <math.h>
#include <string.h>

#define LAYER_CLASSES (REUSE_CLASSES / 2)
#define SMALL_STEPS 32 /* of 16 bytes: up to 512; then four per doubling, up to 128 KiB; above that all are one */
#define ENOUGH 40      /* controls: then a class speaks for itself */
#define OLD_ENOUGH 10
/* Without any control: three of four freed addresses are in use again, which programs vary between 45 and 97 %. */
#define USUAL_SHARE 0.75
#define USUAL_WEIGHT 2.0
#define NEIGHBOUR_SPREAD 0.25 /* standard deviation of the odds of other classes, as a share of them */
#define STRANGER_SPREAD 1.0

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

void reuse_fade(struct reuse *r, double keep)
{
	for (uint32_t i = 0; i < REUSE_CLASSES; i++) {
		r->in_use[i] *= keep;
		r->is_free[i] *= keep;
		for (int k = 0; k < REUSE_FATES; k++)
			r->old[i][k] *= keep;
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
		if (used + is_free >= ENOUGH || reach >= LAYER_CLASSES)
			break;
	}
	spread = reach ? NEIGHBOUR_SPREAD : 0;
	if (used + is_free < ENOUGH) {
		used += USUAL_WEIGHT * USUAL_SHARE;
		is_free += USUAL_WEIGHT * (1 - USUAL_SHARE);
		spread = STRANGER_SPREAD * ENOUGH / (ENOUGH + used + is_free);
	}
	ret->n = used + is_free;
	ret->odds = used / (is_free + 1);
	/* Of odds x/(1-x) by the delta method; one more in each so that none at all is not taken for never. */
	double plus = (used + 1) / (is_free + 1);
	ret->odds_var = plus * (1 + plus) * (1 + plus) / (ret->n + 2) + spread * spread * plus * plus;
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
	struct cohort fresh = { .hidden_var = c->hidden_var };

	memcpy(fresh.hidden, c->hidden, sizeof(fresh.hidden));
	*c = fresh;
}

static double bounded(double v, double limit)
{
	return fmax(-limit, fmin(limit, v));
}

void cohort_settle(struct cohort *c, const struct reuse_odds *o, struct cohort_live *ret)
{
	uint32_t known = c->n_in_use + c->n_found;
	double all = c->in_use[WEIGHT_BYTES] + c->unknown[WEIGHT_BYTES], before = c->hidden[WEIGHT_BYTES];
	double alive_share = 1;

	for (int k = 0; k < REUSE_WEIGHTS; k++) {
		double in_use = c->in_use[k], hidden = o->odds * c->found[k] + o->carry * c->hidden[k];
		/* Too few controls can say anything; but not more than what there is, twice over. */
		hidden = bounded(hidden, 2 * (in_use + c->unknown[k]));
		c->hidden[k] = hidden;
		/* What could not be looked at is taken to be as the rest. */
		double rest = in_use + c->found[k] > 0 ? (in_use - hidden) / (in_use + c->found[k]) : 1;
		ret->live[k] = in_use - hidden + c->unknown[k] * rest;
		if (k == WEIGHT_BYTES)
			alive_share = rest;
	}
	/* A sum of which none was found might have been about to show one: one more, of mean size. */
	double mean = known ? (c->in_use[WEIGHT_BYTES] + c->found[WEIGHT_BYTES]) / known : 0;
	double squares = (c->n_found ? c->found_squares : 0) + mean * mean;
	c->hidden_var = o->odds * (1 + o->odds) * squares +
			c->found[WEIGHT_BYTES] * c->found[WEIGHT_BYTES] * o->odds_var +
			o->carry * o->carry * c->hidden_var + before * before * o->carry_var;
	c->hidden_var = fmin(c->hidden_var, all * all);
	ret->var = c->in_use_var + c->hidden_var;
	if (c->n_unknown)
		ret->var += c->unknown[WEIGHT_BYTES] * c->unknown[WEIGHT_BYTES] *
			    (fabs(alive_share * (1 - alive_share)) + 1.0 / (known + 1)) / c->n_unknown;
}
