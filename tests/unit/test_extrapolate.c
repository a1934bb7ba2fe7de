/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What windows stand for, on programs that are a sequence of moments, each with its work and its bytes. Periods of 1,000 moments, in each a
 * window of 100 at a random place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "collect/extrapolate.h"

#define PERIOD 1000
#define WINDOW 100
#define RUNS 400

/* Work and bytes of one moment. */
struct moment {
	double work, bytes;
};
typedef struct moment (*program_fn)(uint64_t t, uint64_t seed);

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* In [0, 1). */
static double share(uint64_t x)
{
	return (double)(mix(x + 0x9e3779b97f4a7c15ull) >> 11) / 9007199254740992.0;
}

static struct moment steady(uint64_t t, uint64_t seed)
{
	(void)t;
	(void)seed;
	return (struct moment){ .work = 1, .bytes = 100 };
}

/* It works 30 moments of 150, and stands still for the rest. */
static struct moment bursts(uint64_t t, uint64_t seed)
{
	bool on = (t + seed * 37) % 150 < 30;

	return (struct moment){ .work = on, .bytes = on ? 100 : 0 };
}

/* What it allocates has nothing to do with how much it works. */
static struct moment fitful(uint64_t t, uint64_t seed)
{
	bool on = share(seed * 1000003 + t / 40) < 0.25;

	return (struct moment){ .work = 1, .bytes = on ? 400 : 0 };
}

struct run {
	double truth, sum, edge, stated;
	struct extrapolation x;
};

static double work_of(program_fn program, uint64_t from, uint64_t to, uint64_t seed)
{
	double work = 0;

	for (uint64_t t = from; t < to; t++)
		work += program(t, seed).work;
	return work;
}

/*
 * Windows see `seen` of what a moment holds: a program that has no CPU time to spare does less while it is watched. Of every second window only
 * `kept` is left.
 */
static struct run observe(program_fn program, unsigned periods, uint64_t seed, double mean_work, double seen,
			  double kept)
{
	struct run r = { 0 };

	for (unsigned i = 0; i < periods; i++) {
		uint64_t began = (uint64_t)i * PERIOD, end = began + PERIOD;
		uint64_t open = began + (uint64_t)(share(seed * 7919 + i) * (PERIOD - WINDOW));
		uint64_t close = open + (uint64_t)(WINDOW * (i % 2 ? kept : 1));
		struct window_ahead ahead = {
			.plain = (double)PERIOD / WINDOW,
			.work_ns = work_of(program, began, open, seed),
			.rest_ns = i ? mean_work * (double)(end - open) : NAN,
			.within_ns = i ? mean_work * seen * WINDOW : NAN,
		};
		struct window_seen w = { .scale = extrapolate_scale(&r.x, &ahead) };
		double lost = 0;

		for (uint64_t t = began; t < end; t++) {
			struct moment m = program(t, seed);
			double part = t >= open && t < close ? seen : 1;

			r.truth += part * m.bytes;
			lost += (1 - part) * m.work;
			if (t < open || t >= close)
				continue;
			w.work_ns += part * m.work;
			w.bytes += w.scale * part * m.bytes;
		}
		w.var = 1;
		r.sum += w.bytes;
		extrapolate_window(&r.x, &w);
		extrapolate_period(&r.x, work_of(program, began, end, seed) - lost);
	}
	r.edge = extrapolate_edge(&r.x, 0, 0);
	r.stated = extrapolate_spread(&r.x);
	return r;
}

/* Root of the mean square, and mean, of the errors as a part of the truth. */
static double errors(program_fn program, unsigned periods, double mean_work, double seen, double kept, double *mean)
{
	double squares = 0, sum = 0;

	for (uint64_t seed = 1; seed <= RUNS; seed++) {
		struct run r = observe(program, periods, seed, mean_work, seen, kept);
		double e = r.sum / r.truth - 1;

		sum += e;
		squares += e * e;
	}
	*mean = sum / RUNS;
	return sqrt(squares / RUNS);
}

static void a_steady_program_is_told_as_it_is(void **state)
{
	struct run r = observe(steady, 20, 1, 1, 1, 1);

	(void)state;
	assert_true(fabs(r.sum / r.truth - 1) < 1e-9);
	assert_true(r.edge < 1e-9);
	assert_true(r.stated == 1);
}

/* By the clock alone they would be off by 15 % after 20 windows, and by 7 % after 80. */
static void bursts_do_not_add_up(void **state)
{
	double mean, few, many;

	(void)state;
	few = errors(bursts, 20, 0.2, 1, 1, &mean);
	assert_true(fabs(mean) < 0.005);
	assert_true(few < 0.05);
	many = errors(bursts, 80, 0.2, 1, 1, &mean);
	assert_true(fabs(mean) < 0.002);
	assert_true(many < few / 3);
}

static void what_is_off_is_known(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= RUNS; seed++) {
		struct run r = observe(bursts, 20, seed, 0.2, 1, 1);

		assert_true(fabs(fabs(r.sum / r.truth - 1) - r.edge) < 1e-9);
	}
}

/* The last window was cut: what it left open is less than one period, and nobody is there to make up for it. */
static void windows_that_slow_or_are_cut(void **state)
{
	double mean;

	(void)state;
	assert_true(errors(bursts, 80, 0.2, 0.6, 1, &mean) < 0.02);
	assert_true(fabs(mean) < 0.003);
	assert_true(errors(bursts, 80, 0.2, 1, 0.3, &mean) < 0.03);
	assert_true(fabs(mean) < 1.0 / 80);
	(void)errors(bursts, 320, 0.2, 1, 0.3, &mean);
	assert_true(fabs(mean) < 1.0 / 320);
}

/* Work says nothing about it: no better than by the clock, no bias, and the scatter is stated. */
static void allocations_apart_from_work(void **state)
{
	double mean, rms = errors(fitful, 40, 1, 1, 1, &mean), stated = 0;

	(void)state;
	assert_true(fabs(mean) < 4 * rms / sqrt(RUNS));
	for (uint64_t seed = 1; seed <= RUNS; seed++) {
		struct run r = observe(fitful, 40, seed, 1, 1, 1);

		stated += r.stated * sqrt(40) / r.truth / RUNS; /* var is 1 per window here */
	}
	assert_true(stated > 0.8 * rms && stated < 1.25 * rms);
}

static void bounds_and_what_is_not_known(void **state)
{
	struct extrapolation none = { 0 }, behind = { .work_ns = 1e12 }, ahead_of = { .counted_ns = 1e12 };
	struct window_ahead a = { .plain = 8, .work_ns = 10, .rest_ns = 70, .within_ns = 10 };

	(void)state;
	assert_true(extrapolate_scale(&none, &a) == 8);
	assert_true(extrapolate_scale(&behind, &a) == 8 * 64);
	assert_true(extrapolate_scale(&ahead_of, &a) == 2);
	a.within_ns = NAN;
	assert_true(extrapolate_scale(&behind, &a) == 8);
	a = (struct window_ahead){ .plain = 8, .within_ns = 10, .rest_ns = NAN };
	assert_true(extrapolate_scale(&behind, &a) == 8);
	assert_true(isnan(extrapolate_spread(&none)));
	assert_true(extrapolate_edge(&none, 0, 0) == 0);
	assert_true(extrapolate_edge(&none, 50, 0) == 1);
	assert_true(extrapolate_edge(&none, 50, 40) == 0.2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_steady_program_is_told_as_it_is),
		cmocka_unit_test(bursts_do_not_add_up),
		cmocka_unit_test(what_is_off_is_known),
		cmocka_unit_test(windows_that_slow_or_are_cut),
		cmocka_unit_test(allocations_apart_from_work),
		cmocka_unit_test(bounds_and_what_is_not_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
