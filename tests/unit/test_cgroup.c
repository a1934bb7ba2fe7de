/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control groups. As root with writable hierarchies the tests make groups of their own, put a child into them and
 * remove them; what needs them is skipped elsewhere. Paths, names and what does not exist are tested everywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target/cgroup.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/mem.h"

/*
 * Mount point of v2 or of the v1 hierarchy with this controller, "" if there is none: by getmntent, not by the code
 * under test.
 */
static void find_mount(const char *controller, char ret[512])
{
	FILE *f = setmntent("/proc/self/mounts", "r");

	ret[0] = 0;
	assert_non_null(f);
	for (struct mntent *m; (m = getmntent(f));) {
		bool is_it = controller ? !strcmp(m->mnt_type, "cgroup") && hasmntopt(m, controller)
					: !strcmp(m->mnt_type, "cgroup2");
		if (is_it && !*ret)
			snprintf(ret, 512, "%s", m->mnt_dir);
	}
	endmntent(f);
}

struct group {
	char outer[600], inner[640], name[64];
};

/* Makes MOUNT/tidemark-test-PID/in. */
static bool make_group(const char *controller, struct group *g)
{
	char mount[512];

	find_mount(controller, mount);
	if (!*mount)
		return false;
	snprintf(g->name, sizeof(g->name), "tidemark-test-%d", getpid());
	snprintf(g->outer, sizeof(g->outer), "%s/%s", mount, g->name);
	snprintf(g->inner, sizeof(g->inner), "%s/in", g->outer);
	if (mkdir(g->outer, 0755))
		return false;
	if (!mkdir(g->inner, 0755))
		return true;
	rmdir(g->outer);
	return false;
}

/* A group stays busy until the kernel has let go of its last process. */
static bool remove_dir(const char *path)
{
	for (uint64_t until = mono_ns() + 60000000000ull; rmdir(path);)
		if (errno != EBUSY || mono_ns() > until)
			return false;
	return true;
}

static bool remove_group(const struct group *g)
{
	return remove_dir(g->inner) && remove_dir(g->outer);
}

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[800];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return done;
}

static bool move(pid_t pid, const char *dir)
{
	char text[32];

	snprintf(text, sizeof(text), "%d\n", pid);
	return write_file(dir, "cgroup.procs", text);
}

static pid_t start_child(void)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_missing(void **state)
{
	static const char *const missing[] = {
		"", "no-such-group", "/no-such-group", "/sys/fs/cgroup/no/such", "../../etc", "no/../../../etc"
	};
	struct cgroup c = { .level = 7 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(missing); i++)
		assert_int_equal(cgroup_open(missing[i], &c), -ENOENT);
	assert_int_equal(cgroup_open("/etc", &c), -ENOTDIR);
	assert_int_equal(cgroup_open("/proc/self", &c), -ENOTDIR);
	assert_int_equal(c.level, 7); /* nothing was written */
}

static void test_own_membership(void **state)
{
	_cleanup_(freep) char *name = NULL;
	_cleanup_(freep) char *text = NULL;
	struct cgroup_limits *limits = cgroup_limits_new();
	struct cgroup_group *one = NULL, *same = NULL, *none = NULL;
	char want[4096];

	(void)state;
	assert_int_equal(fs_read_all("/proc/self/cgroup", 1 << 16, &text, NULL), 0);
	assert_int_equal(cgroup_group_of_pid(limits, (uint32_t)getpid(), &one), 0);
	name = xstrdup(cgroup_group_name(one));
	assert_int_equal(name[0], '/');
	/* It is one of the lines, or "/" when there is nothing to show. */
	snprintf(want, sizeof(want), ":%s\n", name);
	assert_true(!strcmp(name, "/") || strstr(text, want));
	assert_int_equal(cgroup_group_of_pid(limits, 4194303, &none), -ESRCH);
	assert_null(none);
	/* One group for all that are in it, until the last of them drops it. */
	assert_int_equal(cgroup_group_of_pid(limits, (uint32_t)getpid(), &same), 0);
	assert_ptr_equal(same, one);
	cgroup_group_drop(limits, one);
	assert_string_equal(cgroup_group_name(same), name);
	cgroup_group_drop(limits, same);
	cgroup_limits_free(limits);
	uint64_t limit = 5;
	assert_int_equal(cgroup_memory_limit(4194303, &limit, NULL), -ESRCH);
	assert_int_equal(limit, 5);
}

static void test_root_of_v2(void **state)
{
	char mount[512];
	struct cgroup c;
	struct stat st;

	(void)state;
	find_mount(NULL, mount);
	if (!*mount)
		skip();
	assert_int_equal(cgroup_open(mount, &c), 0);
	assert_string_equal(c.dir, mount);
	assert_true(c.v2);
	assert_int_equal(stat(mount, &st), 0);
	assert_true(c.id == st.st_ino || !c.id);
	if (!strcmp(c.name, "/")) {
		assert_int_equal(c.level, 0);
		assert_int_equal(cgroup_has_pid(&c, (uint32_t)getpid()), 1);
	}
	cgroup_done(&c);
	assert_null(c.dir);
}

static bool list_has_pid(const struct cgroup *c, pid_t pid, size_t *ret_n)
{
	_cleanup_(freep) uint32_t *pids = NULL;
	bool found = false;

	assert_int_equal(cgroup_list_pids(c, &pids, ret_n), 0);
	for (size_t i = 0; i < *ret_n; i++) {
		found |= pids[i] == (uint32_t)pid;
		assert_true(!i || pids[i - 1] < pids[i]);
	}
	return found;
}

static void check_found_by(const char *path, const char *dir, bool v2)
{
	struct cgroup c;
	struct stat st;

	assert_int_equal(cgroup_open(path, &c), 0);
	assert_string_equal(c.dir, dir);
	assert_int_equal(c.v2, v2);
	assert_int_equal(stat(dir, &st), 0);
	assert_true(v2 ? c.id == st.st_ino || !c.id : !c.id);
	cgroup_done(&c);
}

static void check_names(const struct group *g, bool v2)
{
	char path[160];
	struct cgroup c;

	check_found_by(g->outer, g->outer, v2);
	check_found_by(g->name, g->outer, v2);
	snprintf(path, sizeof(path), "/%s/in/", g->name);
	check_found_by(path, g->inner, v2);
	snprintf(path, sizeof(path), "%s/../%s/in", g->name, g->name);
	check_found_by(path, g->inner, v2);
	uint32_t outer_level;
	assert_int_equal(cgroup_open(g->outer, &c), 0);
	outer_level = c.level;
	snprintf(path, sizeof(path), "/%s", g->name);
	assert_true(strlen(c.name) >= strlen(path) && !strcmp(c.name + strlen(c.name) - strlen(path), path));
	if (!strcmp(c.name, path))
		assert_int_equal(outer_level, 1);
	cgroup_done(&c);
	assert_int_equal(cgroup_open(g->inner, &c), 0);
	assert_int_equal(c.level, outer_level + 1);
	cgroup_done(&c);
}

/* A child in the inner group belongs to both, a child in the outer one to that only. */
static void check_members(const struct group *g, pid_t inside, pid_t outside)
{
	struct cgroup outer, inner;
	size_t n;

	assert_int_equal(cgroup_open(g->outer, &outer), 0);
	assert_int_equal(cgroup_open(g->inner, &inner), 0);
	assert_false(list_has_pid(&outer, inside, &n));
	assert_int_equal(n, 0);
	assert_int_equal(cgroup_has_pid(&outer, (uint32_t)inside), 0);
	assert_true(move(inside, g->inner));
	assert_true(list_has_pid(&outer, inside, &n));
	assert_true(list_has_pid(&inner, inside, &n));
	assert_int_equal(n, 1);
	assert_int_equal(cgroup_has_pid(&outer, (uint32_t)inside), 1);
	assert_int_equal(cgroup_has_pid(&inner, (uint32_t)inside), 1);
	assert_int_equal(cgroup_has_pid(&inner, (uint32_t)outside), 0);
	assert_true(move(outside, g->outer));
	assert_true(list_has_pid(&outer, outside, &n));
	assert_int_equal(n, 2);
	assert_false(list_has_pid(&inner, outside, &n));
	assert_int_equal(cgroup_has_pid(&inner, (uint32_t)outside), 0);
	assert_int_equal(cgroup_has_pid(&outer, (uint32_t)outside), 1);
	assert_int_equal(cgroup_has_pid(&outer, 4194303), -ESRCH);
	cgroup_done(&outer);
	cgroup_done(&inner);
}

static void check_hierarchy(const char *controller)
{
	struct group g;
	struct cgroup c;

	if (!make_group(controller, &g))
		skip();
	check_names(&g, !controller);
	pid_t inside = start_child(), outside = start_child();
	check_members(&g, inside, outside);
	if (!controller) {
		/* A group of v2 is what is shown, whatever v1 says. */
		struct cgroup_limits *limits = cgroup_limits_new();
		struct cgroup_group *of = NULL;
		assert_int_equal(cgroup_group_of_pid(limits, (uint32_t)inside, &of), 0);
		const char *name = cgroup_group_name(of);
		assert_true(strlen(name) > 3 && !strcmp(name + strlen(name) - 3, "/in"));
		cgroup_limits_free(limits); /* and what is left in it */
	}
	end_child(inside);
	end_child(outside);
	assert_int_equal(cgroup_open(g.outer, &c), 0);
	assert_true(remove_group(&g));
	uint32_t *pids = NULL;
	size_t n;
	assert_int_equal(cgroup_list_pids(&c, &pids, &n), -ENOENT);
	assert_null(pids);
	cgroup_done(&c);
}

static void test_v2(void **state)
{
	(void)state;
	check_hierarchy(NULL);
}

static void test_v1_memory(void **state)
{
	(void)state;
	check_hierarchy("memory");
}

static void test_v1_other(void **state)
{
	(void)state;
	check_hierarchy("pids");
}

static void check_limit(pid_t pid, uint64_t want)
{
	uint64_t limit = 0, used = 0, again = 0;

	assert_int_equal(cgroup_memory_limit((uint32_t)pid, &limit, &used), 0);
	assert_int_equal(limit, want);
	assert_true(used < want); /* of the group with the limit: a child that sleeps */
	assert_int_equal(cgroup_memory_limit((uint32_t)pid, &again, NULL), 0);
	assert_int_equal(again, want);
}

/* Answers are kept for a while, and then asked for again; all processes of a group share one. */
static void check_kept_limit(struct cgroup_limits *c, pid_t pid, uint64_t now_ns, uint64_t want)
{
	struct cgroup_group *g = NULL;
	uint64_t limit = 0, used = 0;

	assert_int_equal(cgroup_group_of_pid(c, (uint32_t)pid, &g), 0);
	assert_int_equal(cgroup_group_limit(c, g, now_ns, &limit, &used), 0);
	assert_int_equal(limit, want);
	assert_true(used < want);
	cgroup_group_drop(c, g);
}

static void check_limits(const char *controller, const char *file)
{
	struct group g;
	uint64_t before = 0, used = 0;

	if (!make_group(controller, &g))
		skip();
	struct cgroup_limits *limits = cgroup_limits_new();
	struct cgroup_group *kept = NULL, *gone = NULL;
	pid_t pid = start_child();
	/* v2 without the memory controller has no such file; where it is there, it has to be handed down. */
	(void)write_file(g.outer, "cgroup.subtree_control", "+memory");
	bool can = move(pid, g.inner) && write_file(g.outer, file, "67108864");
	if (can) {
		assert_int_equal(cgroup_group_of_pid(limits, (uint32_t)pid, &kept), 0);
		check_limit(pid, 64 << 20); /* an ancestor's */
		check_kept_limit(limits, pid, 1, 64 << 20);
		assert_true(write_file(g.inner, file, "33554432"));
		check_limit(pid, 32 << 20);
		assert_true(write_file(g.outer, file, "16777216"));
		check_limit(pid, 16 << 20);
		check_kept_limit(limits, pid, CGROUP_LIMITS_NS, 64 << 20);
		check_kept_limit(limits, pid, CGROUP_LIMITS_NS + 1, 16 << 20);
	}
	end_child(pid);
	assert_int_equal(cgroup_group_of_pid(limits, 4194303, &gone), -ESRCH);
	cgroup_group_drop(limits, kept);
	cgroup_limits_free(limits);
	assert_true(remove_group(&g));
	assert_int_equal(cgroup_memory_limit((uint32_t)getpid(), &before, &used), 0);
	assert_true(before < UINT64_MAX || used == UINT64_MAX);
	if (!can)
		skip();
}

static void test_limits_of_v1(void **state)
{
	(void)state;
	check_limits("memory", "memory.limit_in_bytes");
}

static void test_limits_of_v2(void **state)
{
	(void)state;
	check_limits(NULL, "memory.max");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing),	     cmocka_unit_test(test_own_membership),
		cmocka_unit_test(test_root_of_v2),   cmocka_unit_test(test_v2),
		cmocka_unit_test(test_v1_memory),    cmocka_unit_test(test_v1_other),
		cmocka_unit_test(test_limits_of_v1), cmocka_unit_test(test_limits_of_v2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
