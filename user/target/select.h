/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which processes are observed: what the user said, and the pids that it means now. */
#ifndef TIDEMARK_TARGET_SELECT_H
#define TIDEMARK_TARGET_SELECT_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "target/cgroup.h"

enum target_kind { TARGET_ALL, TARGET_PIDS, TARGET_NAME, TARGET_CGROUP, TARGET_COMMAND };
const char *target_kind_name(enum target_kind k); /* "all", "pid", "name", "cgroup", "command" */

struct target {
	enum target_kind kind;
	char *text;	/* as given */
	uint32_t *pids; /* TARGET_PIDS */
	size_t n_pids;
	regex_t regex; /* TARGET_NAME: matched against comm and cmdline (extended) */
	bool has_regex;
	struct cgroup cgroup; /* TARGET_CGROUP */
	char **argv;	      /* TARGET_COMMAND, NULL-terminated, borrowed from main's */
};

/*
 * Constructors. -EINVAL with *ret_why set (caller frees): one clause that names the object ("pid 'x' is not a
 * number").
 */
int target_from_pids(const char *list, struct target *ret, char **ret_why);
int target_from_regex(const char *regex, struct target *ret, char **ret_why);
int target_from_cgroup(const char *path, struct target *ret, char **ret_why); /* -ENOENT too */
void target_done(struct target *t);

/*
 * Pids that match now; never this process nor, for TARGET_NAME, its parents (a `sudo tidemark -n redis` must not
 * match itself). Caller frees.
 */
int target_list(const struct target *t, uint32_t **ret, size_t *ret_n);
/* Does one process match now? (new processes, after exec). TARGET_PIDS and TARGET_COMMAND: only by their list. */
bool target_matches(const struct target *t, uint32_t pid);

#endif
