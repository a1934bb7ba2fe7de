/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control groups, in any mounted hierarchy: v2 (unified, also beside v1 on hybrid hosts) and v1. A path given by
 * the user is absolute ("/sys/fs/cgroup/memory/web") or relative to a hierarchy's root
 * ("system.slice/redis.service"): the v2 hierarchy is tried first, then v1 memory, then the other v1 ones.
 */
#ifndef TIDEMARK_TARGET_CGROUP_H
#define TIDEMARK_TARGET_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cgroup {
	char *dir;  /* directory in the file system */
	char *name; /* path from its hierarchy's root, "/web" */
	bool v2;
	/*
	 * v2: id as bpf_get_current_ancestor_cgroup_id gives it (inode of the directory). v1: 0. Also 0 inside a
	 * cgroup namespace: how deep its root lies is not visible there, so `level` can't be told and only
	 * membership is left.
	 */
	uint64_t id;
	uint32_t level; /* depth below the hierarchy's root: root 0, "/web" 1 */
};

/* -ENOENT: no hierarchy has it; -ENOTDIR: a path outside every hierarchy. */
int cgroup_open(const char *path, struct cgroup *ret);
void cgroup_done(struct cgroup *c);

/* Processes in the group and below. Caller frees. */
int cgroup_list_pids(const struct cgroup *c, uint32_t **ret, size_t *ret_n);

/* 1: the process is in the group or below; 0: it is not; negative errno (-ESRCH: gone). */
int cgroup_has_pid(const struct cgroup *c, uint32_t pid);

/*
 * The tightest memory limit that holds for the process, over all ancestors, v2 memory.max and v1
 * memory.limit_in_bytes. No limit: UINT64_MAX in both. *ret_used (optional): usage in the group that has this
 * limit.
 */
int cgroup_memory_limit(uint32_t pid, uint64_t *ret_limit_bytes, uint64_t *ret_used_bytes);

/*
 * The same for many processes: those with the same text in /proc/PID/cgroup are one group, whose limit is read once for all of them and is
 * CGROUP_LIMITS_NS old at most. Which group a process is in is read by cgroup_group_of_pid alone.
 */
#define CGROUP_LIMITS_NS 5000000000ull

struct cgroup_limits;
struct cgroup_limits *cgroup_limits_new(void);
void cgroup_limits_free(struct cgroup_limits *c); /* its groups too */

/* Counted: each that was got or held is dropped, but for those that are left when all go. */
struct cgroup_group;
int cgroup_group_of_pid(struct cgroup_limits *c, uint32_t pid, struct cgroup_group **ret); /* -ESRCH: gone */
struct cgroup_group *cgroup_group_hold(struct cgroup_group *g);				   /* NULL: NULL */
void cgroup_group_drop(struct cgroup_limits *c, struct cgroup_group *g);
const char *cgroup_group_name(
	const struct cgroup_group *g); /* as shown to the user: v2 unless it is "/", else v1 memory, else "/" */
int cgroup_group_limit(struct cgroup_limits *c, struct cgroup_group *g, uint64_t now_ns, uint64_t *ret_limit_bytes,
		       uint64_t *ret_used_bytes);

#endif
