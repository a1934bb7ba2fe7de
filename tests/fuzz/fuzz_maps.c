/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /proc/PID/maps as a target's file names may make it look. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "target/proc.h"
#include "util/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = xcalloc(size + 1, 1);
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	memcpy(text, data, size);
	mappings_parse(text, &maps);
	for (size_t i = 0; i < maps.n; i++)
		if (maps.items[i].start >= maps.items[i].end || (i && maps.items[i].start < maps.items[i - 1].end))
			abort();	  /* ascending and apart: mappings_find relies on it */
	(void)mappings_find(&maps, size); /* only looked up */
	return 0;
}
