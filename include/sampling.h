/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Byte-weighted sampling: the arithmetic, for both sides of the kernel boundary and for the tests.
 *
 * Points lie on the line of all bytes that a thread allocates, at random distances of mean R (exponential, so independent of everything
 * before). A block is sampled if at least one point falls into it: with probability p = 1 - exp(-S/R) for S bytes, each block by itself. A
 * sampled block stands for 1/p blocks and S/p bytes, so every total is right in the mean, whatever the sizes, and large blocks are nearly
 * certain. Its share of the variance of an estimate is (1-p)(S/p)², estimated from the sampled ones alone (Horvitz and Thompson, JASA
 * 1952); for what is live the same blocks' shares, taken away again when they go.
 *
 * A rate is a code: 0 counts every call, k means R = sample_bytes << (k - 1). The code stays with the block, so that it is freed with the
 * weight that it was booked with, also when R has changed since. A new R needs a new distance, no more: the exponential has no memory.
 *
 * Distances are whole bytes, rounded up, and a block is sampled if the distance that is left is at most its size. So P(distance <= S) is
 * P(exponential < S) = p to the last byte, however small R is, and the mean distance is R + 1/2. A block of no bytes counts as one byte here.
 *
 * Weights are whole bytes and whole blocks. Rounding them to the nearest would be a bias where R is small (half a byte of a weight of R) or
 * where S is near R (1.58 blocks are not 2). So they are rounded down or up at random, right in the mean, and two bits with the block
 * (SAMPLE_UP_*) say how, for the same to be taken away when it is freed.
 *
 * BPF has no floating point: functions of x = S/R stand in tables of SAMPLE_STEPS intervals up to SAMPLE_X, with linear interpolation. Beyond,
 * p is 1 (1 - p is below 1.3e-14). A chord lies above a convex function, so weights are too large: by at most 2.0e-5 of their value, near
 * x = 0, 3e-6 at x = 3; too small by at most 1.2e-6, where the table is rounded. Variances are within 2.1e-5 R² and a unit, ln(1 + m) within 4e-10.
 * tests/unit/test_sampling.c measures these.
 */
#ifndef TIDEMARK_SAMPLING_H
#define TIDEMARK_SAMPLING_H

#include "abi.h"

#define RATE_MAX 8 /* a power of two. 128 times sample_bytes: coarser says nothing */
#define SAMPLE_BYTES_DEFAULT (16u << 10)
#define SAMPLE_BYTES_MAX (1ull << 30)
#define SAMPLE_R_MAX (1ull << 37) /* products below stay within 64 bits */

#define SAMPLE_X 32
#define SAMPLE_STEPS 1024   /* a power of two */
#define SAMPLE_STEP_SHIFT 5 /* SAMPLE_STEPS / SAMPLE_X = 1 << 5 */
#define SAMPLE_FRACTION 16  /* bits behind a step */
#define SAMPLE_ONE_SHIFT 20 /* weight: 1.0 is 1 << 20 */
#define SAMPLE_VAR_SHIFT 24 /* var in the table: 1.0 is 1 << 24, in units of R² */
#define SAMPLE_LN_STEPS 256
#define SAMPLE_LN_SHIFT 32
#define SAMPLE_LN_2 2977044472ull /* ln 2 */

/*
 * alloc_var and gone_var of struct sum are in squares of sample_bytes / SAMPLE_VAR_UNIT (of 1 KiB at the default). A block in a window that stands for
 * k times as much adds (its bytes times k)²: many large ones could fill 64 bits. So a sum that has reached SAMPLE_VAR_MAX takes no more, and
 * means "not known"; so does a block that stands for over 2^25 sample_bytes (512 GiB at the default). The rest of the 64 bits is for processors that add
 * to the same sum at once.
 */
#define SAMPLE_VAR_UNIT 16
#define SAMPLE_VAR_DROP 16 /* bits of the table's that are rounded off */
#define SAMPLE_VAR_MAX (1ull << 58)
#define SAMPLE_WEIGHT_SHIFT 25 /* the largest weight, in sample_bytes */

/* How a block's weight was rounded. */
#define SAMPLE_UP_COUNT 1u
#define SAMPLE_UP_BYTES 2u
#define SAMPLE_UP_SCALED 4u /* the count, after scaling */

/*
 * Probes may be in place only for windows of time, drawn at random (user/collect/windows.h). What is counted in one stands for 1/share as much:
 * its scale, a code as well: 2^(code / SCALE_PER_OCTAVE).
 */
#define SCALE_PER_OCTAVE 8
#define SCALE_MAX 96 /* 1/4096 of the time */
#define SCALE_CODES 128
#define SCALE_ONE_SHIFT 16

struct sampling_tables {
	__u32 scale[SCALE_CODES];	/* 1.0 is 1 << SCALE_ONE_SHIFT */
	__u32 weight[SAMPLE_STEPS + 1]; /* x / (1 - exp(-x)): bytes that a block stands for, in R */
	__u32 var[SAMPLE_STEPS + 1];	/* (1-p) times its square */
	__u32 ln[SAMPLE_LN_STEPS];	/* ln(1 + i / SAMPLE_LN_STEPS) */
};

_Static_assert(SAMPLE_BYTES_MAX << (RATE_MAX - 1) <= SAMPLE_R_MAX, "R");
_Static_assert(SAMPLE_VAR_UNIT *SAMPLE_VAR_UNIT << SAMPLE_VAR_DROP == 1 << SAMPLE_VAR_SHIFT, "unit of variances");
_Static_assert(1ull << (2 * SAMPLE_WEIGHT_SHIFT) == SAMPLE_VAR_MAX / (SAMPLE_VAR_UNIT * SAMPLE_VAR_UNIT),
	       "largest weight");
_Static_assert(SAMPLE_STEPS == SAMPLE_X << SAMPLE_STEP_SHIFT, "steps");

/* What one sampled block adds to its sum. */
struct sample_weight {
	__u64 bytes, count, var;
};

static inline __u32 sample_doublings(__u32 rate)
{
	return (rate - 1) & (RATE_MAX - 1);
}

static inline __u64 sample_mean(__u64 sample_bytes, __u32 rate)
{
	return sample_bytes << sample_doublings(rate);
}

static inline __u32 sample_between(__u32 a, __u32 b, __u64 fraction)
{
	__s64 step = (__s64)b - (__s64)a;

	return (__u32)((__s64)a + ((step * (__s64)fraction) >> SAMPLE_FRACTION));
}

/* S/R, 1.0 being 1 << (SAMPLE_STEP_SHIFT + SAMPLE_FRACTION); s < r * SAMPLE_X. */
static inline __u64 sample_ratio(__u64 s, __u64 r)
{
	return (s << (SAMPLE_STEP_SHIFT + SAMPLE_FRACTION)) / r;
}

/* A table's value at x = sample_ratio(). */
static inline __u32 sample_table(const volatile __u32 *table, __u64 x)
{
	__u32 i = (__u32)(x >> SAMPLE_FRACTION) & (SAMPLE_STEPS - 1);

	return sample_between(table[i], table[i + 1], x & ((1u << SAMPLE_FRACTION) - 1));
}

/*
 * Weight of a block of `bytes` at a rate that is not 0. `up`: SAMPLE_UP_*, from sample_round_up and kept with the block.
 */
static inline struct sample_weight sample_weigh(const volatile struct sampling_tables *t, __u64 sample_bytes,
						__u32 rate, __u64 bytes, __u32 up)
{
	__u64 r = sample_mean(sample_bytes, rate), s = bytes ? bytes : 1;
	struct sample_weight w = { .bytes = bytes, .count = 1 };

	if (s >= r * SAMPLE_X)
		return w;
	__u64 x = sample_ratio(s, r), weight = r * sample_table(t->weight, x); /* < 2^37 * 2^25 */

	w.count = (weight / s >> SAMPLE_ONE_SHIFT) + (up & SAMPLE_UP_COUNT);
	if (!bytes)
		return w;
	w.bytes = (weight >> SAMPLE_ONE_SHIFT) + !!(up & SAMPLE_UP_BYTES);
	__u64 var = (__u64)sample_table(t->var, x) << (2 * sample_doublings(rate));

	w.var = (var + (1u << (SAMPLE_VAR_DROP - 1))) >> SAMPLE_VAR_DROP;
	w.var += !w.var; /* 0 would say that it was certain */
	return w;
}

/* x times a fixed-point number of `shift` bits; x is shortened rather than overflows. factor <= 1 << 28. */
static inline __u64 sample_times(__u64 x, __u64 factor, __u32 shift)
{
	return x < 1ull << 35 ? x * factor >> shift : (x >> shift) * factor;
}

/* The product of two sizes of which the second is the larger, in units of variance. */
static inline __u64 sample_product(__u64 s, __u64 weight, __u64 sample_bytes)
{
	const __u64 units = SAMPLE_VAR_UNIT * SAMPLE_VAR_UNIT;

	if (weight >> SAMPLE_WEIGHT_SHIFT >= sample_bytes)
		return SAMPLE_VAR_MAX;
	weight = weight * units / sample_bytes; /* below 2^33, of 2^30 * 2^25 * 2^8 */
	if (s < 1ull << 30)
		return s * weight / sample_bytes;
	return (s * 16 / sample_bytes) * weight / 16; /* 2^29 * 2^33 */
}

/*
 * The same block in a window that is open for 1/scale of the time. Its probability falls to p/scale, and its variance grows to
 * (1 - p/scale)(scale W)² = scale² (1-p) W² + (scale S)(scale W)(1 - 1/scale) with W = S/p, as if windows took each block by itself; how much more it is
 * because blocks come in bursts is measured from window to window.
 */
static inline struct sample_weight sample_scale(const volatile struct sampling_tables *t, __u64 sample_bytes,
						__u32 code, __u64 bytes, __u32 up, struct sample_weight w)
{
	__u64 scale = t->scale[code & (SCALE_CODES - 1)], inverse = (1ull << (2 * SCALE_ONE_SHIFT)) / scale;

	w.bytes = sample_times(w.bytes, scale, SCALE_ONE_SHIFT);
	w.count = (w.count * scale >> SCALE_ONE_SHIFT) + !!(up & SAMPLE_UP_SCALED);
	__u64 product = sample_product(sample_times(bytes, scale, SCALE_ONE_SHIFT), w.bytes, sample_bytes);
	if (product == SAMPLE_VAR_MAX) {
		w.var = product;
		return w;
	}
	w.var = sample_times(sample_times(w.var, scale, SCALE_ONE_SHIFT), scale, SCALE_ONE_SHIFT) +
		sample_times(product, (1u << SCALE_ONE_SHIFT) - inverse, SCALE_ONE_SHIFT);
	return w;
}

/* Adds a variance to a sum. */
static inline void sample_var_add(__u64 *to, __u64 var)
{
	if (var && *(volatile __u64 *)to < SAMPLE_VAR_MAX)
		(void)__sync_fetch_and_add(to, var);
}

/* What a live block was booked with, and will be freed with. */
static inline struct sample_weight sample_block(const volatile struct sampling_tables *t, __u64 sample_bytes,
						const struct live_block *b)
{
	struct sample_weight w = { .bytes = b->bytes, .count = 1 };

	if (b->rate)
		w = sample_weigh(t, sample_bytes, b->rate, b->bytes, b->up);
	return b->scale ? sample_scale(t, sample_bytes, b->scale, b->bytes, b->up, w) : w;
}

/* How to round a scaled count. random: 16 bits. */
static inline __u32 sample_round_scaled(const volatile struct sampling_tables *t, __u32 code, __u64 count, __u32 random)
{
	__u64 scale = t->scale[code & (SCALE_CODES - 1)];

	return (count * scale & ((1u << SCALE_ONE_SHIFT) - 1)) > random ? SAMPLE_UP_SCALED : 0;
}

/* How to round a block's weight: up with the probability that the whole part lacks, bytes and blocks by themselves. random: 32 bits. */
static inline __u32 sample_round_up(const volatile struct sampling_tables *t, __u64 sample_bytes, __u32 rate,
				    __u64 bytes, __u32 random)
{
	__u64 r = sample_mean(sample_bytes, rate), s = bytes ? bytes : 1, below_one = (1u << SAMPLE_ONE_SHIFT) - 1;

	if (s >= r * SAMPLE_X)
		return 0;
	__u64 weight = r * sample_table(t->weight, sample_ratio(s, r));
	__u32 of_count = (__u32)((weight / s & below_one) >> (SAMPLE_ONE_SHIFT - 16)),
	      of_bytes = (__u32)((weight & below_one) >> (SAMPLE_ONE_SHIFT - 16));

	return (of_count > (random & 0xffff) ? SAMPLE_UP_COUNT : 0) | (of_bytes > random >> 16 ? SAMPLE_UP_BYTES : 0);
}

/*
 * ln(1 + m), m = mantissa / 2^32: of the step below it from the table, of the rest t by t - t²/2 + t³/3 (t < 1/256). A chord of the
 * table would be off by 0.1 % where m is close to 1, for the short distances that decide whether a small block behind a sampled one is taken.
 */
static inline __u64 sample_ln(const volatile struct sampling_tables *t, __u64 mantissa)
{
	__u32 i = (__u32)(mantissa >> 24) & (SAMPLE_LN_STEPS - 1);
	__u64 rest = ((mantissa & 0xffffff) << 16) / (SAMPLE_LN_STEPS + i); /* 1.0 is 1 << 40, below 1 << 32 */
	__u64 square = rest * rest >> 40, cube = square * rest >> 40;

	return t->ln[i] + ((rest - square / 2 + cube / 3) >> (40 - SAMPLE_LN_SHIFT));
}

/* A distance to the next point: exponential with mean R, rounded up. random: 32 bits. At least 1. */
static inline __u64 sample_distance(const volatile struct sampling_tables *t, __u64 sample_bytes, __u32 rate,
				    __u32 random)
{
	__u64 r = sample_mean(sample_bytes, rate), v = 2 * (__u64)random + 1; /* u = v / 2^33: never 0, never 1 */
	__u32 bits = 0;

	/* v = 2^bits (1 + m): bits by halving */
	for (__u32 shift = 32; shift; shift >>= 1)
		if (v >> bits >> shift)
			bits += shift;
	__u64 ln = sample_ln(t, (v << (32 - bits)) & 0xffffffff), whole = (33 - (__u64)bits) * SAMPLE_LN_2;
	__u64 minus = whole > ln ? whole - ln : 0; /* -ln u, < 2^37 */

	return (((r >> 16) * minus + ((r & 0xffff) * minus >> 16)) >> 16) + 1;
}

#endif
