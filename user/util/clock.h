/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TIDEMARK_UTIL_CLOCK_H
#define TIDEMARK_UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static inline uint64_t mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static inline double unix_seconds(void)
{
	return (double)clock_ns(CLOCK_REALTIME) / 1e9;
}

#endif
