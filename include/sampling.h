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
 * BPF has no floating point: functions of x = S/R stand in tables of SAMPLE_STEPS intervals up to SAMPLE_X, from where on p is 1 (the error is
 * below 1e-13), with linear interpolation (error below 2e-5 of the value, of both signs... see user/probe/sample_tables.c).
 */
#ifndef TIDEMARK_SAMPLING_H
#define TIDEMARK_SAMPLING_H

#include "abi.h"

#define RATE_MAX 16
#define SAMPLE_BYTES_DEFAULT (512u << 10)
#define SAMPLE_BYTES_MAX (1ull << 30)
#define SAMPLE_R_MAX (1ull << 37) /* products below stay within 64 bits */

#define SAMPLE_X 32
#define SAMPLE_STEPS 1024 /* a power of two */
#define SAMPLE_STEP_SHIFT 5 /* SAMPLE_STEPS / SAMPLE_X = 1 << 5 */
#define SAMPLE_FRACTION 16 /* bits behind a step */
#define SAMPLE_ONE_SHIFT 20 /* weight: 1.0 is 1 << 20 */
#define SAMPLE_VAR_SHIFT 24 /* var: 1.0 is 1 << 24, in units of R² */
#define SAMPLE_LN_STEPS 256
#define SAMPLE_LN_SHIFT 24

/* alloc_var and gone_var of struct sum are in squares of sample_bytes / SAMPLE_VAR_UNIT. */
#define SAMPLE_VAR_UNIT 4096

struct sampling_tables {
	__u32 weight[SAMPLE_STEPS + 1]; /* x / (1 - exp(-x)): bytes that a block stands for, in R */
	__u32 var[SAMPLE_STEPS + 1];	/* (1-p) times its square */
	__u32 ln[SAMPLE_LN_STEPS + 1];	/* ln(1 + i / SAMPLE_LN_STEPS) */
	__u32 pad;
};

/* What one sampled block adds to its sum. */
struct sample_weight {
	__u64 bytes, count, var;
};

static inline __u64 sample_mean(__u64 sample_bytes, __u32 rate)
{
	__u64 r = sample_bytes << ((rate - 1) & 31);

	return r > SAMPLE_R_MAX ? SAMPLE_R_MAX : r;
}

static inline __u32 sample_between(__u32 a, __u32 b, __u64 fraction, __u32 shift)
{
	__s64 step = (__s64)b - (__s64)a;

	return (__u32)((__s64)a + ((step * (__s64)fraction) >> shift));
}

/*
 * Weight of a block of `bytes` at a rate that is not 0. `up`: 0 or 1, makes the whole number of blocks right in the mean; chosen with
 * sample_fraction and kept with the block.
 */
static inline struct sample_weight sample_weigh(const volatile struct sampling_tables *t, __u64 sample_bytes, __u32 rate, __u64 bytes,
						__u32 up)
{
	__u64 r = sample_mean(sample_bytes, rate), s = bytes ? bytes : 1;
	struct sample_weight w = { .bytes = bytes, .count = 1 };

	if (s >= r * SAMPLE_X)
		return w;
	__u64 x = (s << (SAMPLE_STEP_SHIFT + SAMPLE_FRACTION)) / r;
	__u32 i = (__u32)(x >> SAMPLE_FRACTION) & (SAMPLE_STEPS - 1);
	__u64 fraction = x & ((1u << SAMPLE_FRACTION) - 1);
	__u64 weight = (r * sample_between(t->weight[i], t->weight[i + 1], fraction, SAMPLE_FRACTION) + (1u << (SAMPLE_ONE_SHIFT - 1))) >>
		       SAMPLE_ONE_SHIFT;

	w.count = weight / s + up;
	w.bytes = bytes ? weight : 0;
	w.var = (__u64)sample_between(t->var[i], t->var[i + 1], fraction, SAMPLE_FRACTION) << (2 * (rate - 1));
	return bytes ? w : (struct sample_weight){ .count = w.count };
}

/* Should this block be booked as one more? With the probability that the whole part of its count lacks. */
static inline __u32 sample_round_up(const volatile struct sampling_tables *t, __u64 sample_bytes, __u32 rate, __u64 bytes, __u32 random)
{
	__u64 s = bytes ? bytes : 1, weight = s;
	struct sample_weight w = sample_weigh(t, sample_bytes, rate, s, 0);

	weight = w.bytes;
	return (((weight % s) << 32) / s) > random;
}

/* A distance to the next point: exponential with mean R. random: 32 bits. At least 1. */
static inline __u64 sample_distance(const volatile struct sampling_tables *t, __u64 sample_bytes, __u32 rate, __u32 random)
{
	__u64 r = sample_mean(sample_bytes, rate), v = (__u64)random + 1;
	__u32 bits = 0, shift = 0;

	/* v = 2^bits (1 + m): bits by halving */
	for (shift = 16; shift; shift >>= 1)
		if (v >> bits >> shift)
			bits += shift;
	if (v >> 32)
		return 1; /* u = 1 */
	__u64 mantissa = ((v << (32 - bits)) & 0xffffffff); /* 32 bits behind the point */
	__u32 i = (__u32)(mantissa >> 24) & (SAMPLE_LN_STEPS - 1);
	__u64 ln = sample_between(t->ln[i], t->ln[i + 1], mantissa & 0xffffff, 24);
	__u64 minus = (32 - (__u64)bits) * 11629080ull - ln; /* ln 2 in SAMPLE_LN_SHIFT bits */

	/* minus < 2^29 */
	__u64 d = r >> 34 ? (r >> 8) * minus >> (SAMPLE_LN_SHIFT - 8) : r * minus >> SAMPLE_LN_SHIFT;
	return d ? d : 1;
}

#endif
