/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Line tables of a process, of every version: minor, first line (4 bytes), unit (3 bytes), table. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collect/pynames.h"
#include "util/mem.h"

#define HEAD_BYTES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t first, unit = 0;

	if (size < HEAD_BYTES)
		return 0;
	memcpy(&first, data + 1, sizeof(first));
	memcpy(&unit, data + 5, 3);
	size_t bytes = size - HEAD_BYTES;
	_cleanup_(freep) uint8_t *table = xcalloc(bytes ? bytes : 1, 1); /* its own: a byte too far is found */
	memcpy(table, data + HEAD_BYTES, bytes);

	uint32_t line = pyline_find(data[0], table, bytes, first, unit);
	if (line > INT32_MAX || pyline_find(data[0], table, bytes, first, unit) != line)
		abort();
	if (pyline_find(data[0], table, bytes, first, -1) != (first <= INT32_MAX ? first : 0))
		abort();
	/* All minors, the units that matter: the same table means something else to each. */
	for (uint8_t minor = 5; minor < 16; minor++)
		if (pyline_find(minor, table, bytes, first, unit & 0xff) > INT32_MAX)
			abort();
	return 0;
}
