/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Line tables of CPython: from the number of a code unit to the line that a traceback would name. Pure: bytes in, a line out. Tables come from
 * other processes, so nothing in one is believed: each is walked once, forwards, within its bytes.
 *
 * Three forms, after Objects/lnotab_notes.txt (3.8 to 3.10) and InternalDocs/code_objects.md (3.11 on; in 3.11 Objects/locations.md):
 *
 *   3.8, 3.9  co_lnotab     pairs (bytes, lines): the line grows by `lines` (signed) once `bytes` more are behind
 *   3.10      co_linetable  pairs (bytes, lines): the next `bytes` belong to the line `lines` (signed) further on; -128: to none
 *   3.11+     co_linetable  |1|code:4|units-1:3| then what the code says; only a first byte has its highest bit set
 *               0-9 short (1 byte), 10-12 one line (2 bytes): line grows by 0, or by code - 10
 *               13 no columns, 14 long: a zigzag number of 6-bit groups, lowest first, 0x40: one more; 15: no line
 */
#include "collect/pynames.h"

#include "util/mem.h"

enum location {
	LOCATION_ONE_LINE = 10, /* to 12: 0, 1, 2 lines on */
	LOCATION_NO_COLUMNS = 13,
	LOCATION_LONG = 14,
	LOCATION_NONE = 15,
};

#define UNIT_BYTES 2
#define NO_LINE (-128)

static uint32_t to_line(int64_t line)
{
	return line > 0 && line <= INT32_MAX ? (uint32_t)line : 0;
}

static uint32_t find_in_lnotab(const uint8_t *table, size_t bytes, int64_t line, uint64_t unit)
{
	uint64_t at = 0;

	for (size_t i = 0; i + 1 < bytes; i += 2) {
		at += table[i];
		if (at > unit * UNIT_BYTES)
			break;
		line += (int8_t)table[i + 1];
	}
	return to_line(line);
}

static uint32_t find_in_ranges(const uint8_t *table, size_t bytes, int64_t line, uint64_t unit)
{
	uint64_t end = 0;

	for (size_t i = 0; i + 1 < bytes; i += 2) {
		int8_t delta = (int8_t)table[i + 1];

		end += table[i];
		if (delta != NO_LINE)
			line += delta;
		if (unit * UNIT_BYTES < end)
			return delta == NO_LINE ? 0 : to_line(line);
	}
	return 0;
}

/* A signed number that begins at table[i]; bits beyond 32 are dropped, as CPython's unsigned int does. */
static int64_t zigzag(const uint8_t *table, size_t bytes, size_t i)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; i < bytes; i++, shift += 6) {
		if (shift < 32)
			v |= (uint64_t)(table[i] & 0x3f) << shift;
		if (!(table[i] & 0x40))
			break;
	}
	v = (uint32_t)v;
	return v & 1 ? -(int64_t)(v >> 1) : (int64_t)(v >> 1);
}

static uint32_t find_in_locations(const uint8_t *table, size_t bytes, int64_t line, uint64_t unit)
{
	uint64_t end = 0;

	for (size_t i = 0; i < bytes;) {
		unsigned int code = table[i] >> 3 & 15;

		end += (table[i] & 7u) + 1;
		if (code >= LOCATION_ONE_LINE && code < LOCATION_NO_COLUMNS)
			line += code - LOCATION_ONE_LINE;
		else if (code == LOCATION_NO_COLUMNS || code == LOCATION_LONG)
			line += zigzag(table, bytes, i + 1);
		if (unit < end)
			return code == LOCATION_NONE ? 0 : to_line(line);
		for (i++; i < bytes && !(table[i] & 0x80); i++)
			; /* columns and end lines: nothing that we show */
	}
	return 0;
}

uint32_t pyline_find(uint8_t minor, const uint8_t *table, size_t bytes, uint32_t first_line, int64_t unit)
{
	static const struct {
		uint8_t from; /* minor */
		uint32_t (*find)(const uint8_t *table, size_t bytes, int64_t line, uint64_t unit);
	} forms[] = { { 11, find_in_locations }, { 10, find_in_ranges }, { 6, find_in_lnotab } };

	if (unit < 0)
		return to_line(first_line);
	if (unit > INT32_MAX)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		if (minor >= forms[i].from)
			return forms[i].find(table, bytes, first_line, (uint64_t)unit);
	return 0;
}
