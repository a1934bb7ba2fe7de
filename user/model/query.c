/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of sort keys and of groupings. Owns nothing else of a query: its fields are set by those who read keys and arguments. */
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

static const char *const group_names[GROUP_NR] = {
#define X(id, name) [GROUP_##id] = name,
	for_each_group(X)
#undef X
};

const char *group_by_name(enum group_by g)
{
	return group_names[g];
}

int group_by_parse(const char *name, enum group_by *ret)
{
	for (int i = GROUP_NONE + 1; i < GROUP_NR; i++) {
		if (strcmp(name, group_names[i]) == 0) {
			*ret = (enum group_by)i;
			return 0;
		}
	}
	return -EINVAL;
}
