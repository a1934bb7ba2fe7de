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
 * What /proc/PID/cgroup says: the path shown to the user (v2 unless it is "/", else v1 memory, else "/"). Caller frees.
 */
int cgroup_of_pid(uint32_t pid, char **ret_name);

/*
 * The tightest memory limit that holds for the process, over all ancestors, v2 memory.max and v1
 * memory.limit_in_bytes. No limit: UINT64_MAX in both. *ret_used (optional): usage in the group that has this
 * limit.
 */
int cgroup_memory_limit(uint32_t pid, uint64_t *ret_limit_bytes, uint64_t *ret_used_bytes);

/* The same for many processes: those of one group share an answer, which is CGROUP_LIMITS_NS old at most. */
#define CGROUP_LIMITS_NS 5000000000ull

struct cgroup_limits;
struct cgroup_limits *cgroup_limits_new(void);
void cgroup_limits_free(struct cgroup_limits *c);
int cgroup_limits_find(struct cgroup_limits *c, uint32_t pid, uint64_t now_ns, uint64_t *ret_limit_bytes,
		       uint64_t *ret_used_bytes);

#endif
