/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arithmetic of byte-weighted sampling: the tables against double precision, the roundings and the distances against their
 * distributions, and whole streams of calls, sampled thousands of times: no bias, and standard errors that mean what they say. All
 * numbers come from a fixed seed, so what passes once passes always.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sampling.h"

#include "probe/sample_tables.h"

#define MIB (1ull << 20)

static struct sampling_tables tables;

static int setup(void **state)
{
	(void)state;
	sampling_tables_fill(&tables);
	return 0;
}

/* xorshift64* (Marsaglia 2003, Vigna 2016) */
static uint64_t seed;

static uint32_t draw(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (uint32_t)(seed * 2685821657736338717ull >> 32);
}

static double weight_exact(double x)
{
	return x / -expm1(-x);
}

static void check_between(double value, double low, double high, const char *what)
{
	if (!(value >= low && value <= high)) {
		print_error("%s: %.9g, not in %.9g to %.9g\n", what, value, low, high);
		fail();
	}
}

/* --- functions --- */

static void test_tables(void **state)
{
	double above = 0, below = 0, var = 0, ln = 0;

	(void)state;
	for (uint64_t x = 1; x < (uint64_t)SAMPLE_X << (SAMPLE_STEP_SHIFT + SAMPLE_FRACTION); x += 97) {
		double real = ldexp((double)x, -(SAMPLE_STEP_SHIFT + SAMPLE_FRACTION)), want = weight_exact(real);
		double error = ldexp(sample_table(tables.weight, x), -SAMPLE_ONE_SHIFT) / want - 1;

		above = fmax(above, error);
		below = fmin(below, error);
		var = fmax(var, fabs(ldexp(sample_table(tables.var, x), -SAMPLE_VAR_SHIFT) - exp(-real) * want * want));
	}
	for (uint64_t m = 0; m < 1ull << 32; m += 2003)
		ln = fmax(ln,
			  fabs(ldexp((double)sample_ln(&tables, m), -SAMPLE_LN_SHIFT) - log1p(ldexp((double)m, -32))));
	print_message("weight: %+.3g and %+.3g of the value; variance: %.3g R²; ln: %.3g\n", above, below, var, ln);
	check_between(above, 0, 2.05e-5, "weight above");
	check_between(below, -1.2e-6, 0, "weight below");
	check_between(var, 0, 2.1e-5, "variance");
	check_between(ln, 0, 4e-10, "ln");
}

/* Means over the roundings, whole blocks and whole bytes: the exact weights, for all rates and sizes. */
static void check_weight(uint64_t sample_bytes, uint32_t rate, uint64_t bytes)
{
	uint64_t r = sample_mean(sample_bytes, rate), s = bytes ? bytes : 1;
	double x = (double)s / (double)r, want = (double)r * weight_exact(x), mean_bytes = 0, mean_count = 0;
	double unit = pow((double)sample_bytes / SAMPLE_VAR_UNIT, 2);
	char what[100];

	snprintf(what, sizeof(what), "R %llu, S %llu", (unsigned long long)r, (unsigned long long)bytes);
	for (int i = 0; i < 4096; i++) { /* all pairs of 64 steps each */
		uint32_t random = (uint32_t)(i & 63) << 10 | (uint32_t)(i >> 6) << 26;
		uint32_t up = sample_round_up(&tables, sample_bytes, rate, bytes, random);
		struct sample_weight w = sample_weigh(&tables, sample_bytes, rate, bytes, up);

		mean_bytes += (double)w.bytes / 4096;
		mean_count += (double)w.count / 4096;
		if (x < SAMPLE_X) /* in units of sample_bytes / SAMPLE_VAR_UNIT */
			check_between((double)w.var * unit,
				      bytes ? exp(-x) * want * want - 2.1e-5 * (double)r * (double)r - unit : 0,
				      bytes ? exp(-x) * want * want + 2.1e-5 * (double)r * (double)r + unit : 0, what);
		else
			assert_int_equal(w.var, 0);
	}
	/* 64 steps: the means are right to 1/64 */
	check_between(mean_bytes, bytes ? want * (1 - 2e-6) - .02 : 0, bytes ? want * (1 + 2.1e-5) + .02 : 0, what);
	check_between(mean_count, want / (double)s * (1 - 2e-6) - .02, want / (double)s * (1 + 2.1e-5) + .02, what);
}

static void test_weights(void **state)
{
	static const uint64_t means[] = { 1, 2, 64, 100, 4096, 65521, SAMPLE_BYTES_DEFAULT, SAMPLE_BYTES_MAX };
	static const uint64_t sizes[] = { 0,	1,    2,     7,	      8,	63,	    64,		65,	   100,
					  1000, 4096, 65536, 1000003, 64 * MIB, 1024 * MIB, 1ull << 37, 1ull << 47 };

	(void)state;
	for (size_t i = 0; i < sizeof(means) / sizeof(*means); i++)
		for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++)
			for (uint32_t rate = 1; rate <= RATE_MAX; rate++)
				check_weight(means[i], rate, sizes[k]);
}

/* The last size that isn't certain, at the largest R: no product may overflow. */
static void test_largest(void **state)
{
	uint64_t r = sample_mean(SAMPLE_BYTES_MAX, RATE_MAX);
	struct sample_weight w;

	(void)state;
	assert_int_equal(r, SAMPLE_R_MAX);
	check_weight(SAMPLE_BYTES_MAX, RATE_MAX, r * SAMPLE_X - 1);
	check_weight(SAMPLE_BYTES_MAX, RATE_MAX, r * SAMPLE_X);
	w = sample_weigh(&tables, SAMPLE_BYTES_MAX, RATE_MAX, 8, 0);
	assert_true(w.var > 0 && w.var << 25 >> 25 == w.var); /* 2^25 of them in one sum */
	w = sample_weigh(&tables, 64, 1, UINT64_MAX, 0);
	assert_int_equal(w.bytes, UINT64_MAX);
	/* a code that no rate has: some rate's weight, nothing undefined */
	w = sample_weigh(&tables, 64, 255, 8, 0);
	assert_in_range(w.bytes, 64, 64 << RATE_MAX);
}

/* Scales: the variance against double precision, for whatever is not too large to be told. */
static void check_scaled(uint64_t sample_bytes, uint32_t code, uint64_t bytes, unsigned *ret_too_large)
{
	double scale = exp2((double)code / SCALE_PER_OCTAVE), r = (double)sample_bytes, s = (double)bytes,
	       weight = r * weight_exact(s / r), unit = pow(r / SAMPLE_VAR_UNIT, 2);
	double want = scale * scale * (exp(-s / r) * weight * weight + s * weight * (1 - 1 / scale));
	struct sample_weight w = sample_weigh(&tables, sample_bytes, 1, bytes, 0);
	char what[100];

	w = sample_scale(&tables, sample_bytes, code, bytes, 0, w);
	snprintf(what, sizeof(what), "R %llu, S %llu, scale %g", (unsigned long long)sample_bytes,
		 (unsigned long long)bytes, scale);
	if (w.var == SAMPLE_VAR_MAX) {
		check_between(scale * weight / r, 0.999 * (1 << SAMPLE_WEIGHT_SHIFT), INFINITY, what);
		++*ret_too_large;
		return;
	}
	check_between(scale * weight / r, 0, 1.001 * (1 << SAMPLE_WEIGHT_SHIFT), what);
	/* Whole bytes of small weights; sizes above 1 GiB are in sixteenths of R. */
	double part = 0.002 + 2 / weight + (bytes * scale >= 1 << 30 ? r / (s * scale) / 8 : 0);
	check_between((double)w.var * unit, want * (1 - part) - (scale * scale + 2) * unit,
		      want * (1 + part) + (scale * scale + 2) * unit, what);
}

static void test_scaled(void **state)
{
	static const uint64_t means[] = { 64, 1000, SAMPLE_BYTES_DEFAULT, 1 << 20, SAMPLE_BYTES_MAX };
	static const uint64_t sizes[] = {
		1, 16, 100, 4000, 65536, 1 << 20, 64 * MIB, 1024 * MIB, 64 * 1024 * MIB, 1ull << 47
	};
	static const uint32_t codes[] = { 1, 5, 8, 20, 45, 60, SCALE_MAX };
	unsigned too_large = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(means) / sizeof(*means); i++)
		for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++)
			for (size_t c = 0; c < sizeof(codes) / sizeof(*codes); c++)
				check_scaled(means[i], codes[c], sizes[k], &too_large);
	check_between(too_large, 1, 200, "too large to be told");
}

/* A sum that is full stays full, whatever comes. */
static void test_full(void **state)
{
	__u64 sum = 0;

	(void)state;
	sample_var_add(&sum, 5);
	assert_int_equal(sum, 5);
	sample_var_add(&sum, SAMPLE_VAR_MAX);
	for (int i = 0; i < 100; i++)
		sample_var_add(&sum, SAMPLE_VAR_MAX);
	assert_int_equal(sum, SAMPLE_VAR_MAX + 5);
}

/* The mean over all random numbers is R + 1/2 (exactly 1 / (1 - exp(-1/R))), here of each of so many; and P(distance <= S) is p. */
#define STRIDE 4801

static void check_distances(uint64_t sample_bytes, uint32_t rate)
{
	static const double at[] = { 1e-4, 1e-3, .01, .1, .5, 1, 2, 5, 10 };
	enum { AT_NR = sizeof(at) / sizeof(*at) };
	double r = (double)sample_mean(sample_bytes, rate), sum = 0, n = 0, within[AT_NR] = { 0 };
	char what[100];

	for (uint64_t random = STRIDE / 2; random < 1ull << 32; random += STRIDE, n++) {
		uint64_t d = sample_distance(&tables, sample_bytes, rate, (uint32_t)random);

		assert_true(d >= 1);
		sum += (double)d;
		for (int i = 0; i < AT_NR; i++)
			within[i] += (double)d <= floor(at[i] * r);
	}
	snprintf(what, sizeof(what), "mean distance at R %g", r);
	check_between(sum / n * -expm1(-1 / r), 1 - 1e-5, 1 + 1e-5, what);
	for (int i = 0; i < AT_NR; i++) {
		double p = -expm1(-floor(at[i] * r) / r);

		snprintf(what, sizeof(what), "P(distance <= %g R) at R %g", at[i], r);
		check_between(within[i] / n, p - 2 / n, p + 2 / n, what);
	}
}

static void test_distances(void **state)
{
	(void)state;
	check_distances(1, 1);
	check_distances(64, 1);
	check_distances(1000, 3);
	check_distances(SAMPLE_BYTES_DEFAULT, 1);
	check_distances(SAMPLE_BYTES_MAX, RATE_MAX);
	assert_int_equal(sample_distance(&tables, 1, 1, UINT32_MAX), 1);
	assert_in_range(sample_distance(&tables, SAMPLE_BYTES_MAX, RATE_MAX, 0), 22 * SAMPLE_R_MAX, 23 * SAMPLE_R_MAX);
}

/* --- streams of calls --- */

enum op { OP_ALLOC, OP_REALLOC, OP_FREE };
enum from { FROM_SMALL, FROM_MIXED, FROM_LARGE, FROM_CHAIN, FROM_EMPTY, FROMS };

struct call {
	uint8_t op, from, rate;
	uint32_t block;
	uint64_t bytes;
};

#define CALLS 10000
#define BLOCKS 4000
#define RUNS 2000

struct books {
	double alloc_bytes, alloc_count, live_bytes, live_count, alloc_var, live_var;
	double alloc_chance, live_chance; /* of the truth: variance of the number of sampled blocks, p(1-p) each */
};

struct block {
	uint64_t bytes;
	uint8_t from, rate, up, is_live, is_booked;
};

static struct call calls[CALLS];

/* Between 2^low and 2^high, even in the logarithm. */
static uint64_t log_size(double low, double high)
{
	return (uint64_t)exp2(low + (high - low) * draw() / 4294967296.);
}

static uint64_t new_size(enum from from, uint64_t old)
{
	switch (from) {
	case FROM_SMALL:
		return 8 + draw() % 249;
	case FROM_MIXED:
		return log_size(3, 18);
	case FROM_LARGE:
		return log_size(10, 26);
	case FROM_CHAIN: /* grows by half, at times it shrinks to a quarter */
		return !old ? 16 : draw() % 4 ? old + old / 2 : old / 4 + 1;
	default:
		return 0;
	}
}

/* A program: the same calls in each run. */
static void make_calls(int rates_change)
{
	static const uint8_t mix[16] = { FROM_SMALL, FROM_SMALL, FROM_SMALL, FROM_SMALL, FROM_SMALL, FROM_SMALL,
					 FROM_SMALL, FROM_SMALL, FROM_MIXED, FROM_MIXED, FROM_MIXED, FROM_CHAIN,
					 FROM_CHAIN, FROM_CHAIN, FROM_LARGE, FROM_EMPTY };
	static struct block blocks[BLOCKS];

	memset(blocks, 0, sizeof(blocks));
	for (int i = 0; i < CALLS; i++) {
		uint32_t at = draw() % BLOCKS;
		struct block *b = &blocks[at];
		struct call c = { .block = at, .rate = rates_change ? (uint8_t)(1 + i / 700 % 3) : 1 };

		if (!b->is_live)
			b->from = mix[draw() % 16];
		else if (b->from == FROM_CHAIN && draw() % 8)
			c.op = OP_REALLOC;
		else
			c.op = OP_FREE;
		c.from = b->from;
		b->is_live = c.op != OP_FREE;
		b->bytes = c.bytes = b->is_live ? new_size(b->from, c.op == OP_REALLOC ? b->bytes : 0) : 0;
		calls[i] = c;
	}
}

static void book(struct books *sums, const struct block *b, double sign, uint64_t sample_bytes, int sampled)
{
	struct sample_weight w = { .bytes = b->bytes, .count = 1 };
	struct books *s = &sums[b->from];
	double p = -expm1(-(double)b->bytes / (double)sample_mean(sample_bytes, b->rate));

	if (sampled)
		w = sample_weigh(&tables, sample_bytes, b->rate, b->bytes, b->up);
	double var = (double)w.var * pow((double)sample_bytes / SAMPLE_VAR_UNIT, 2);

	s->live_bytes += sign * (double)w.bytes;
	s->live_count += sign * (double)w.count;
	s->live_var += sign * var;
	s->live_chance += sign * p * (1 - p);
	if (sign > 0) {
		s->alloc_bytes += (double)w.bytes;
		s->alloc_count += (double)w.count;
		s->alloc_var += var;
		s->alloc_chance += p * (1 - p);
	}
}

/* As the kernel side does it (bpf/heap.bpf.h, is_sampled). */
struct countdown {
	uint64_t left;
	uint32_t rate;
};

static int is_taken(struct countdown *c, uint64_t sample_bytes, uint32_t rate, uint64_t bytes)
{
	uint64_t s = bytes ? bytes : 1;

	if (c->rate != rate) {
		c->rate = rate;
		c->left = sample_distance(&tables, sample_bytes, rate, draw());
	}
	if (c->left > s) {
		c->left -= s;
		return 0;
	}
	c->left = sample_distance(&tables, sample_bytes, rate, draw());
	return 1;
}

/* sampled 0: the truth. */
static void run_calls(struct books *sums, uint64_t sample_bytes, int sampled)
{
	static struct block blocks[BLOCKS];
	struct countdown left = { 0, 0 };

	memset(blocks, 0, sizeof(blocks));
	memset(sums, 0, FROMS * sizeof(*sums));
	for (int i = 0; i < CALLS; i++) {
		const struct call *c = &calls[i];
		struct block *b = &blocks[c->block];

		if (c->op != OP_ALLOC && b->is_booked)
			book(sums, b, -1, sample_bytes, sampled);
		b->is_booked = 0;
		if (c->op == OP_FREE || (sampled && !is_taken(&left, sample_bytes, c->rate, c->bytes)))
			continue;
		*b = (struct block){ .bytes = c->bytes, .from = c->from, .rate = c->rate, .is_booked = 1 };
		if (sampled)
			b->up = (uint8_t)sample_round_up(&tables, sample_bytes, c->rate, c->bytes, draw());
		book(sums, b, 1, sample_bytes, sampled);
	}
}

/* Of one figure over all runs. */
struct figure {
	double truth, chance, sum, squares, covered, stated;
};

static void figure_add(struct figure *f, double truth, double estimate, double var)
{
	double error = estimate - truth;

	f->truth = truth;
	f->sum += error;
	f->squares += error * error;
	f->stated += var;
	f->covered += error * error <= 1.96 * 1.96 * var;
}

/*
 * Unbiased: the mean error is below 4 of its own standard errors, and of bytes below 0.3 % of the truth, where as many runs can tell. Covered:
 * where chance left enough blocks out and took enough of them for a normal distribution.
 */
#define ENOUGH 100
#define BIAS .003

static void figure_check(const struct figure *f, const char *name, int has_se)
{
	double mean = f->sum / RUNS, spread = sqrt(f->squares / RUNS), own = spread / sqrt(RUNS);

	print_message("%-22s truth %12.0f  mean error %+.4f %%  spread %.2f %%  stated %.2f %%  covered %.1f %%\n",
		      name, f->truth, 100 * mean / f->truth, 100 * spread / f->truth,
		      100 * sqrt(f->stated / RUNS) / f->truth, 100 * f->covered / RUNS);
	check_between(fabs(mean), 0, 4 * own + 2.1e-5 * f->truth, name);
	if (has_se && 3 * own < BIAS * f->truth)
		check_between(fabs(mean), 0, BIAS * f->truth, name);
	if (has_se && f->chance > ENOUGH)
		check_between(f->covered / RUNS, .93, .97, name);
}

enum { FIG_ALLOC, FIG_LIVE, FIG_COUNT, FIG_LIVE_COUNT, FIGURES };

static void add_run(struct figure fig[FIGURES], const struct books *truth, const struct books *got)
{
	fig[FIG_ALLOC].chance = truth->alloc_chance;
	fig[FIG_LIVE].chance = truth->live_chance;
	figure_add(&fig[FIG_ALLOC], truth->alloc_bytes, got->alloc_bytes, got->alloc_var);
	figure_add(&fig[FIG_LIVE], truth->live_bytes, got->live_bytes, got->live_var);
	figure_add(&fig[FIG_COUNT], truth->alloc_count, got->alloc_count, 0);
	figure_add(&fig[FIG_LIVE_COUNT], truth->live_count, got->live_count, 0);
}

static void books_sum(struct books *to, const struct books *froms)
{
	memset(to, 0, sizeof(*to));
	for (int i = 0; i < FROMS; i++) {
		to->alloc_bytes += froms[i].alloc_bytes;
		to->alloc_count += froms[i].alloc_count;
		to->live_bytes += froms[i].live_bytes;
		to->live_count += froms[i].live_count;
		to->alloc_var += froms[i].alloc_var;
		to->live_var += froms[i].live_var;
		to->alloc_chance += froms[i].alloc_chance;
		to->live_chance += froms[i].live_chance;
	}
}

static void run_many(uint64_t sample_bytes)
{
	static const char *const names[FROMS + 1] = { "small", "mixed", "large", "chain", "empty", "all" };
	static struct books truth[FROMS + 1], got[FROMS + 1];
	static struct figure figures[FROMS + 1][FIGURES];

	memset(figures, 0, sizeof(figures));
	run_calls(truth, sample_bytes, 0);
	books_sum(&truth[FROMS], truth);
	for (int run = 0; run < RUNS; run++) {
		run_calls(got, sample_bytes, 1);
		books_sum(&got[FROMS], got);
		for (int i = 0; i <= FROMS; i++)
			add_run(figures[i], &truth[i], &got[i]);
	}
	for (int i = 0; i <= FROMS; i++) {
		static const char *const what[FIGURES] = { "total bytes", "live bytes", "total blocks", "live blocks" };

		for (int k = 0; k < FIGURES; k++) {
			char name[64];
			int is_bytes = k == FIG_ALLOC || k == FIG_LIVE;

			snprintf(name, sizeof(name), "%s, %s", names[i], what[k]);
			if (i != FROM_EMPTY || !is_bytes)
				figure_check(&figures[i][k], name, is_bytes);
		}
		if (i == FROM_EMPTY)
			assert_true(figures[i][FIG_ALLOC].squares == 0 && figures[i][FIG_LIVE].squares == 0);
	}
}

static void test_streams(void **state)
{
	static const uint64_t means[] = { 64, 512 };

	(void)state;
	seed = 88172645463325252ull;
	for (size_t i = 0; i < sizeof(means) / sizeof(*means); i++) {
		print_message("R %llu\n", (unsigned long long)means[i]);
		make_calls(0);
		run_many(means[i]);
	}
}

static void test_rates_change(void **state)
{
	(void)state;
	seed = 362436069521288629ull;
	make_calls(1);
	run_many(128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),	cmocka_unit_test(test_weights),	     cmocka_unit_test(test_largest),
		cmocka_unit_test(test_scaled),	cmocka_unit_test(test_full),	     cmocka_unit_test(test_distances),
		cmocka_unit_test(test_streams), cmocka_unit_test(test_rates_change),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
