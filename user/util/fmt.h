/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers as people read and write them. The buffers are the caller's; the result is the buffer. */
#ifndef TIDEMARK_UTIL_FMT_H
#define TIDEMARK_UTIL_FMT_H

#include <stddef.h>
#include <stdint.h>

#define FMT_CAP 24

/* "0", "999", "1.0K", "12.3M", "100M", "1.5G": powers of 1024, at most 5 columns up to 1023 T. Negative: leading '-'. */
char *fmt_bytes(char buf[FMT_CAP], double bytes);
/* "0", "999", "12.3k", "4.5M": powers of 1000. */
char *fmt_count(char buf[FMT_CAP], double n);
/* "350ms", "12s", "4m05s", "3h07m", "5d02h". */
char *fmt_duration(char buf[FMT_CAP], double seconds);

/* "1M", "1.5G", "4096", "64K", "64KiB", "1MB" (all powers of 1024). 0 or -EINVAL; negative is invalid. */
int parse_bytes(const char *s, uint64_t *ret);
/* Seconds, "1", "0.5", "200ms", "2m", "1h". 0 or -EINVAL; negative is invalid. */
int parse_seconds(const char *s, double *ret);
/* "2%" or "2": a percentage >= 0. */
int parse_percent(const char *s, double *ret);

#endif
