/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the user said, and the pids that it means: words that are refused, and children of this test as known
 * processes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target/select.h"
#include "util/mem.h"

static bool contains(const uint32_t *pids, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == (uint32_t)pid)
			return true;
	return false;
}

static bool lists(const struct target *t, pid_t pid)
{
	_cleanup_(freep) uint32_t *pids = NULL;
	size_t n = 0;

	assert_int_equal(target_list(t, &pids, &n), 0);
	bool listed = contains(pids, n, pid);
	assert_int_equal(target_matches(t, (uint32_t)pid), listed);
	return listed;
}

/* A child that has this name, once it has it. */
static pid_t start_named(const char *name)
{
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		prctl(PR_SET_NAME, name);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_kind_names(void **state)
{
	(void)state;
	assert_string_equal(target_kind_name(TARGET_ALL), "all");
	assert_string_equal(target_kind_name(TARGET_PIDS), "pid");
	assert_string_equal(target_kind_name(TARGET_NAME), "name");
	assert_string_equal(target_kind_name(TARGET_CGROUP), "cgroup");
	assert_string_equal(target_kind_name(TARGET_COMMAND), "command");
}

static void test_pid_lists(void **state)
{
	struct target t;
	char *why = NULL;

	(void)state;
	assert_int_equal(target_from_pids("7,1, 4194303 ,7", &t, &why), 0);
	assert_null(why);
	assert_int_equal(t.kind, TARGET_PIDS);
	assert_string_equal(t.text, "7,1, 4194303 ,7");
	assert_int_equal(t.n_pids, 3); /* said twice is one */
	assert_true(t.pids[0] == 7 && t.pids[1] == 1 && t.pids[2] == 4194303);
	target_done(&t);
	assert_null(t.pids);
}

static void test_bad_pid_lists(void **state)
{
	static const struct {
		const char *list, *named;
	} bad[] = { { "x", "'x'" },	    { "12x", "'12x'" },
		    { "-1", "'-1'" },	    { "+1", "'+1'" },
		    { "", "empty" },	    { ",", "empty" },
		    { "1,", "empty" },	    { "1,,2", "empty" },
		    { "0", "'0'" },	    { "4194304", "4194304" },
		    { "1,0x10", "'0x10'" }, { "1.5", "'1.5'" },
		    { "1 2", "'1 2'" },	    { "99999999999999999999", "range" },
		    { " ", "empty" } };
	struct target t = { .n_pids = 9 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *why = NULL;
		assert_int_equal(target_from_pids(bad[i].list, &t, &why), -EINVAL);
		assert_non_null(why);
		if (!strstr(why, bad[i].named))
			fail_msg("'%s': %s", bad[i].list, why);
		free(why);
	}
	assert_int_equal(t.n_pids, 9); /* nothing was written */
}

static void test_bad_patterns(void **state)
{
	static const char *const bad[] = { "(", "[", "a{2,1}", "*(" };
	struct target t;
	char *why = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(target_from_regex(bad[i], &t, &why), -EINVAL);
		char quoted[16];
		snprintf(quoted, sizeof(quoted), "'%s'", bad[i]);
		assert_non_null(strstr(why, quoted));
		free(why);
	}
	assert_int_equal(target_from_regex("", &t, &why), -EINVAL);
	assert_non_null(strstr(why, "empty"));
	free(why);
}

static void test_missing_cgroups(void **state)
{
	static const char *const missing[] = { "no-such-group", "/sys/fs/cgroup/no/such", "/etc" };
	struct target t;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(missing); i++) {
		char *why = NULL;
		assert_int_equal(target_from_cgroup(missing[i], &t, &why), -ENOENT);
		assert_non_null(strstr(why, missing[i]));
		free(why);
	}
}

static void test_all_is_all_but_this(void **state)
{
	struct target t = { .kind = TARGET_ALL };

	(void)state;
	pid_t child = start_named("tm-all");
	assert_true(lists(&t, child));
	assert_true(lists(&t, getppid()));
	assert_false(lists(&t, getpid()));
	end_child(child);
}

static void *wait_in_thread(void *fds)
{
	char c;
	pid_t tid = (pid_t)syscall(SYS_gettid);

	if (write(((int *)fds)[0], &tid, sizeof(tid)) != sizeof(tid) || read(((int *)fds)[1], &c, 1) != 0)
		return fds;
	return NULL;
}

static void test_given_pids_that_are_there(void **state)
{
	struct target t;
	char list[64], *why = NULL;

	(void)state;
	pid_t child = start_named("tm-pid"), dead = start_named("tm-dead");
	kill(dead, SIGKILL);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT), 0); /* a zombie from here on */
	snprintf(list, sizeof(list), "%d,%d,%d,4194303", child, dead, getpid());
	assert_int_equal(target_from_pids(list, &t, &why), 0);
	assert_true(lists(&t, child));
	assert_false(lists(&t, dead));
	assert_false(lists(&t, getpid()));
	assert_false(lists(&t, 4194303));
	assert_false(lists(&t, getppid())); /* there, but not given */
	t.kind = TARGET_COMMAND;
	assert_true(lists(&t, child));
	assert_false(lists(&t, getppid()));
	waitpid(dead, NULL, 0);
	end_child(child);
	assert_false(lists(&t, child));
	target_done(&t);
}

/* /proc/TID is there too, but a thread is no process. */
static void test_thread_is_no_process(void **state)
{
	int tell[2], hold[2];
	pid_t tid;
	pid_t pid;
	char list[64], *why = NULL;
	struct target t;

	(void)state;
	assert_int_equal(pipe(tell), 0);
	assert_int_equal(pipe(hold), 0);
	pid = fork();
	if (!pid) {
		int fds[] = { tell[1], hold[0] };
		pthread_t thread;
		close(hold[1]);
		_exit(pthread_create(&thread, NULL, wait_in_thread, fds) || pthread_join(thread, NULL));
	}
	close(hold[0]);
	assert_int_equal(read(tell[0], &tid, sizeof(tid)), sizeof(tid));
	assert_int_not_equal(tid, pid);
	snprintf(list, sizeof(list), "%d,%d", pid, tid);
	assert_int_equal(target_from_pids(list, &t, &why), 0);
	assert_true(lists(&t, pid));
	assert_false(lists(&t, tid));
	target_done(&t);
	close(hold[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(tell[0]);
	close(tell[1]);
}

static void test_names(void **state)
{
	struct target t;
	char regex[64], *why = NULL;

	(void)state;
	pid_t one = start_named("tm-one"), two = start_named("tm-two"), other = start_named("xtm-one");
	assert_int_equal(target_from_regex("^tm-(one|two)$", &t, &why), 0);
	assert_true(lists(&t, one));
	assert_true(lists(&t, two));
	assert_false(lists(&t, other));
	target_done(&t);
	/* Arguments count too: those of the children are this test's own. */
	snprintf(regex, sizeof(regex), "%s", "test_select");
	assert_int_equal(target_from_regex(regex, &t, &why), 0);
	assert_true(lists(&t, other));
	assert_false(lists(&t, getpid()));
	target_done(&t);
	end_child(one);
	end_child(two);
	end_child(other);
}

/* As `sudo tidemark -n NAME` sees itself: whoever stands above it has NAME among the arguments as well. */
static void test_parents_are_not_matched(void **state)
{
	struct target t;
	char *why = NULL;
	int status;

	(void)state;
	pid_t sibling = start_named("tm-kin");
	assert_int_equal(target_from_regex("^tm-kin$", &t, &why), 0);
	pid_t parent = fork();
	if (!parent) {
		prctl(PR_SET_NAME, "tm-kin");
		pid_t above = getpid(), self = fork();
		if (!self)
			_exit(target_matches(&t, (uint32_t)above) || target_matches(&t, (uint32_t)getpid()) ||
			      !target_matches(&t, (uint32_t)sibling));
		_exit(waitpid(self, &status, 0) != self || status ? 1 : 0);
	}
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_int_equal(status, 0);
	target_done(&t);
	end_child(sibling);
}

/* Every process is below the root of v2. */
static void test_cgroup(void **state)
{
	struct target t;
	char *why = NULL;

	(void)state;
	if (target_from_cgroup("/", &t, &why)) {
		free(why);
		skip(); /* no hierarchy mounted */
	}
	assert_int_equal(t.kind, TARGET_CGROUP);
	assert_true(lists(&t, getppid()));
	assert_false(lists(&t, getpid()));
	target_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kind_names),
		cmocka_unit_test(test_pid_lists),
		cmocka_unit_test(test_bad_pid_lists),
		cmocka_unit_test(test_bad_patterns),
		cmocka_unit_test(test_missing_cgroups),
		cmocka_unit_test(test_all_is_all_but_this),
		cmocka_unit_test(test_given_pids_that_are_there),
		cmocka_unit_test(test_thread_is_no_process),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_parents_are_not_matched),
		cmocka_unit_test(test_cgroup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
