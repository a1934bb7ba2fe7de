/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of sort keys. Owns nothing else of a query: its fields are set by those who read keys and arguments. */
#include "model/query.h"

#include <errno.h>
#include <string.h>

static const char *const names[SORT_NR] = {
#define X(id, name, text) [SORT_##id] = name,
	for_each_sort(X)
#undef X
};

const char *sort_key_name(enum sort_key k)
{
	return names[k];
}

int sort_key_parse(const char *name, enum sort_key *ret)
{
	for (int i = 0; i < SORT_NR; i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret = (enum sort_key)i;
			return 0;
		}
	}
	return -EINVAL;
}
