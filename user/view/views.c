/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of views. A new output is a file and a row. */
#include "view/view.h"

#include <string.h>

#include "util/mem.h"

const struct view *const views[] = { &view_text, &view_json };
const size_t views_n = ARRAY_SIZE(views);

const struct view *view_find(const char *format)
{
	for (size_t i = 0; i < views_n; i++)
		if (!strcmp(views[i]->format, format))
			return views[i];
	return NULL;
}

const char *end_reason_name(enum end_reason r)
{
	static const char *const names[] = {
		[END_DURATION] = "duration",
		[END_INTERRUPTED] = "interrupted",
		[END_TARGETS_GONE] = "targets_gone",
		[END_ERROR] = "error",
	};

	return names[r];
}
