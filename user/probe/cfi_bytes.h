/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reader over bytes that somebody else wrote. It never passes the end: a value that is not there is 0 and leaves `is_bad` set, so that a
 * caller may read a whole record and ask once. Knows numbers and pointers, not what they are for.
 */
#ifndef TIDEMARK_PROBE_CFI_BYTES_H
#define TIDEMARK_PROBE_CFI_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cfi_bytes {
	const uint8_t *at, *end;
	bool is_bad;
};

static inline size_t bytes_left(const struct cfi_bytes *b)
{
	return (size_t)(b->end - b->at);
}

/* After a failure nothing is read any more. */
static inline void bytes_fail(struct cfi_bytes *b)
{
	b->at = b->end;
	b->is_bad = true;
}

/* Skips n bytes; where they begin, NULL: there are less. */
static inline const uint8_t *bytes_take(struct cfi_bytes *b, uint64_t n)
{
	const uint8_t *at = b->at;

	if (n > bytes_left(b)) {
		bytes_fail(b);
		return NULL;
	}
	b->at += n;
	return at;
}

static inline uint64_t bytes_unsigned(struct cfi_bytes *b, unsigned int n)
{
	const uint8_t *at = bytes_take(b, n);
	uint64_t value = 0;

	if (at)
		memcpy(&value, at, n); /* little-endian as the files that we read */
	return value;
}

static inline int64_t bytes_signed(struct cfi_bytes *b, unsigned int n)
{
	unsigned int unused = 64 - 8 * n;

	return (int64_t)(bytes_unsigned(b, n) << unused) >> unused;
}

/* Bits above 63 are dropped: assemblers pad with them. */
static inline uint64_t bytes_leb(struct cfi_bytes *b, bool is_signed)
{
	uint64_t value = 0;
	unsigned int shift = 0;
	uint8_t byte = 0x80;

	while (byte & 0x80) {
		if (b->at == b->end) {
			bytes_fail(b);
			return 0;
		}
		byte = *b->at++;
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += shift < 64 ? 7 : 0;
	}
	if (is_signed && shift < 64 && byte & 0x40)
		value |= UINT64_MAX << shift;
	return value;
}

static inline uint64_t bytes_uleb(struct cfi_bytes *b)
{
	return bytes_leb(b, false);
}

static inline int64_t bytes_sleb(struct cfi_bytes *b)
{
	return (int64_t)bytes_leb(b, true);
}

/*
 * A pointer of .eh_frame (Linux Standard Base, "DWARF Exception Header Encoding"); `at`: address as linked of the byte that is read next. Fails on
 * encodings that nothing writes for x86-64: indirect ones, and those that count from something unknown. `data_base`: what
 * DW_EH_PE_datarel counts from, 0: unknown.
 */
uint64_t bytes_pointer(struct cfi_bytes *b, uint8_t encoding, uint64_t at, uint64_t data_base);
/* The number in it, whatever it counts from: lengths have the format of a pointer. */
uint64_t bytes_pointer_raw(struct cfi_bytes *b, uint8_t encoding, uint64_t at);

#endif
