/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading /proc: the text of maps (also a hostile one), our own process as the known truth, files behind mappings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "target/proc.h"
#include "util/clock.h"
#include "util/mem.h"

#define GONE_PID 4194303u /* the last one that the kernel could give */

static void test_parse_lines(void **state)
{
	static const char text[] =
		"55d0c8a00000-55d0c8a02000 r-xp 00001000 08:01 1234                       /usr/bin/x\n"
		"55d0c8a02000-55d0c8a03000 rw-p 00000000 00:00 0                          [heap]\n"
		"7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n"
		"7f0000001000-7f0000002000 rw-s 0fffff000 fe:1ff 99999999999              /tmp/a b (deleted)\n"
		"7f0000002000-7f0000003000 r--p 00000000 00:01 7                          /tmp/line\\012end\n"
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]";
	struct mappings m;

	(void)state;
	mappings_parse(text, &m);
	assert_int_equal(m.n, 6);
	assert_true(m.items[0].start == 0x55d0c8a00000 && m.items[0].end == 0x55d0c8a02000);
	assert_int_equal(m.items[0].file_offset, 0x1000);
	assert_int_equal(m.items[0].dev, makedev(8, 1));
	assert_int_equal(m.items[0].inode, 1234);
	assert_true(m.items[0].read && !m.items[0].write && m.items[0].exec && !m.items[0].shared &&
		    !m.items[0].deleted);
	assert_string_equal(m.items[0].path, "/usr/bin/x");
	assert_string_equal(m.items[1].path, "[heap]");
	assert_string_equal(m.items[2].path, "");
	assert_false(m.items[2].read || m.items[2].write || m.items[2].exec);
	assert_true(m.items[3].shared && m.items[3].deleted);
	assert_int_equal(m.items[3].dev, makedev(0xfe, 0x1ff));
	assert_true(m.items[3].inode == 99999999999ull && m.items[3].file_offset == 0xfffff000);
	assert_string_equal(m.items[3].path, "/tmp/a b");
	assert_string_equal(m.items[4].path, "/tmp/line\nend");
	assert_true(m.items[5].end == 0xffffffffff601000ull);
	assert_ptr_equal(mappings_find(&m, 0x55d0c8a00000), &m.items[0]);
	assert_ptr_equal(mappings_find(&m, 0x55d0c8a01fff), &m.items[0]);
	assert_ptr_equal(mappings_find(&m, 0x55d0c8a02000), &m.items[1]);
	assert_null(mappings_find(&m, 0x55d0c8a03000));
	assert_null(mappings_find(&m, 0));
	assert_null(mappings_find(&m, UINT64_MAX));
	mappings_done(&m);
	assert_int_equal(m.n, 0);
}

static void test_parse_leaves_out_what_is_wrong(void **state)
{
	static const char *const wrong[] = {
		"",
		"\n",
		"\n\n\n",
		"garbage",
		"-",
		"1000",
		"1000-",
		"1000-2000",
		"1000-2000 ",
		"1000-2000 r-x",
		"1000-2000 r-xp",
		"1000-2000 r-xp 0",
		"1000-2000 r-xp 0 8",
		"1000-2000 r-xp 0 8:1",
		"1000-2000 r-xp 0 8:1 ",
		"1000-2000 r-xp 0 8:1 x",
		"1000-2000 r-xp 0 8:1 12x /a",
		"2000-1000 r-xp 0 8:1 1 /a",
		"1000-1000 r-xp 0 8:1 1 /a",
		"1000-2000 zzzz 0 8:1 1 /a",
		"1000-2000 r-xpp 0 8:1 1 /a",
		" 1000-2000 r-xp 0 8:1 1 /a",
		"-1000-2000 r-xp 0 8:1 1 /a",
		"1ffffffffffffffff-2ffffffffffffffff r-xp 0 8:1 1 /a",
		"1000-2000 r-xp 0 8:1 99999999999999999999999 /a",
		"1000-2000 r-xp 0 100000000:1 1 /a",
		"1000-2000\nr-xp 0 8:1 1 /a",
		"1000-2000 r-xp 0 8:1\n1 /a",
	};
	struct mappings m;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		mappings_parse(wrong[i], &m);
		if (m.n)
			fail_msg("taken: '%s'", wrong[i]);
		mappings_done(&m);
	}
	/* Good lines around a bad one stay; one that overlaps what came before does not. */
	mappings_parse("1000-2000 r-xp 0 8:1 1 /a\nbad\n1800-2800 r-xp 0 8:1 1 /b\n2000-3000 r-xp 0 8:1 1 /c\n500-600 "
		       "r-xp 0 8:1 1 /d\n",
		       &m);
	assert_int_equal(m.n, 2);
	assert_string_equal(m.items[0].path, "/a");
	assert_string_equal(m.items[1].path, "/c");
	mappings_done(&m);
}

/* Deterministic: a failure can be repeated. */
static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void check_order(const struct mappings *m)
{
	for (size_t i = 0; i < m->n; i++) {
		assert_true(m->items[i].start < m->items[i].end);
		assert_true(!i || m->items[i - 1].end <= m->items[i].start);
		assert_non_null(m->items[i].path);
		assert_ptr_equal(mappings_find(m, m->items[i].start), &m->items[i]);
	}
}

static void test_parse_survives_damage(void **state)
{
	static const char good[] = "55d0c8a00000-55d0c8a02000 r-xp 00001000 08:01 1234   /usr/bin/x (deleted)\n"
				   "55d0c8a02000-55d0c8a03000 rw-p 00000000 00:00 0      [heap]\n"
				   "7f0000002000-7f0000003000 r--p 00000000 00:01 7      /tmp/line\\012\n";
	static const char alphabet[] = "0123456789abcdef-: \n\\rwxps/()\xff\x01";
	uint32_t seed = 1;
	struct mappings m;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		/* On the heap and of exact size: reading beyond the end is seen. */
		size_t len = next_random(&seed) % sizeof(good);
		_cleanup_(freep) char *text = xstrndup(good, len);
		for (uint32_t i = next_random(&seed) % 6; len && i; i--)
			text[next_random(&seed) % len] = alphabet[next_random(&seed) % (sizeof(alphabet) - 1)];
		mappings_parse(text, &m);
		check_order(&m);
		mappings_done(&m);
	}
}

static void test_own_stat(void **state)
{
	struct proc_stat st;

	(void)state;
	/* The name imitates the fields behind it. */
	assert_int_equal(prctl(PR_SET_NAME, "x) S 1 (y"), 0);
	assert_int_equal(proc_read_stat((uint32_t)getpid(), &st), 0);
	assert_int_equal(st.pid, getpid());
	assert_int_equal(st.ppid, getppid());
	assert_string_equal(st.comm, "x) S 1 (y");
	assert_int_equal(st.state, 'R');
	assert_true(st.threads >= 1);
	double age = unix_seconds() - (proc_boot_unix_seconds() + (double)st.start_ticks / 100);
	assert_true(age > -0.05 && age < 60);
}

static void test_cpu_ticks_grow(void **state)
{
	struct proc_stat before, after;
	uint64_t first, last, start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	(void)state;
	assert_int_equal(proc_read_stat((uint32_t)getpid(), &before), 0);
	first = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	do
		last = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	while (last < first + 60000000);
	assert_int_equal(proc_read_stat((uint32_t)getpid(), &after), 0);
	/* User and system time, each in whole steps of 10 ms. */
	assert_in_range(after.cpu_ticks - before.cpu_ticks, (last - first) / 10000000 - 2,
			(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start) / 10000000 + 2);
	assert_true(after.start_ticks == before.start_ticks);
}

static void test_own_rss(void **state)
{
	const size_t bytes = 32 << 20;
	struct proc_rss before, after;
	struct proc_pages pages_before, pages_after;

	(void)state;
	assert_int_equal(proc_read_rss((uint32_t)getpid(), &before), 0);
	int fd = proc_open_pages((uint32_t)getpid());
	assert_int_equal(proc_read_pages(fd, &pages_before), 0);
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 1, bytes);
	assert_int_equal(proc_read_rss((uint32_t)getpid(), &after), 0);
	assert_int_equal(proc_read_pages(fd, &pages_after), 0); /* the same descriptor */
	(void)close(fd);
	munmap(p, bytes);
	uint64_t grown = after.anon_bytes - before.anon_bytes;
	assert_true(grown > bytes - (1 << 20) && grown < bytes + (4 << 20));
	assert_true(after.rss_bytes == after.anon_bytes + after.file_bytes + after.shmem_bytes);
	assert_true(after.file_bytes > 100000 && after.swap_bytes != UINT64_MAX);
	uint64_t pages = pages_after.resident - pages_before.resident;
	assert_true(pages > (bytes - (1 << 20)) / 4096 && pages < (bytes + (4 << 20)) / 4096);
	assert_true(pages_after.shared < pages_after.resident && pages_after.shared * 4096 > 100000);
}

/* What the pages alone tell, and where status has to be asked. */
static void test_rss_follows_pages(void **state)
{
	const struct proc_pages before = { .resident = 100, .shared = 40 };
	const struct proc_rss read = { 100 * 4096, 60 * 4096, 30 * 4096, 10 * 4096, 0 };
	struct proc_rss rss = read;

	(void)state;
	assert_true(proc_rss_follow(&rss, &before, &before));
	assert_memory_equal(&rss, &read, sizeof(rss));
	/* Status was read a moment after the pages, and had more: what the pages say now is the truth all the same. */
	rss.rss_bytes += 3 * 4096;
	rss.anon_bytes += 3 * 4096;
	assert_true(proc_rss_follow(&rss, &before, &(struct proc_pages){ 105, 40 }));
	assert_int_equal(rss.rss_bytes, 105 * 4096);
	assert_int_equal(rss.anon_bytes, 65 * 4096);
	assert_int_equal(rss.file_bytes, 30 * 4096);
	assert_int_equal(rss.shmem_bytes, 10 * 4096);
	rss = read;
	assert_false(proc_rss_follow(&rss, &before, &(struct proc_pages){ 99, 40 }));  /* freed, or in swap now */
	assert_false(proc_rss_follow(&rss, &before, &(struct proc_pages){ 101, 41 })); /* of a file, or shared */
	assert_false(proc_rss_follow(&rss, &before, &(struct proc_pages){ 100, 39 }));
	rss.swap_bytes = 4096;
	assert_true(proc_rss_follow(&rss, &before, &before));
	assert_false(proc_rss_follow(&rss, &before, &(struct proc_pages){ 101, 40 })); /* new, or from swap */
	rss.swap_bytes = 0;
	assert_memory_equal(&rss, &read, sizeof(rss));
}

static void test_gone_process(void **state)
{
	struct proc_stat st;
	struct proc_rss rss;
	struct proc_guard guard;
	struct mappings m;
	char *text;

	(void)state;
	assert_int_equal(proc_read_stat(GONE_PID, &st), -ESRCH);
	assert_int_equal(proc_read_rss(GONE_PID, &rss), -ESRCH);
	assert_int_equal(proc_open_pages(GONE_PID), -ESRCH);
	assert_int_equal(proc_read_guard(GONE_PID, &guard), -ESRCH);
	assert_int_equal(proc_read_cmdline(GONE_PID, &text), -ESRCH);
	assert_int_equal(mappings_read(GONE_PID, &m), -ESRCH);
}

/* Runs fn in a child; the parent looks at it between its "ready" and its end. */
static pid_t start_child(void (*fn)(void), int *ret_hold)
{
	int ready[2], hold[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(hold), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(hold[1]);
		fn();
		_exit(write(ready[1], "x", 1) == 1 && read(hold[0], &c, 1) == 0 ? 0 : 1);
	}
	close(ready[1]);
	close(hold[0]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	*ret_hold = hold[1];
	return pid;
}

static void end_child(pid_t pid, int hold)
{
	int status;

	close(hold);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
}

/* SECCOMP_RET_ALLOW for everything: only the mode is looked at. */
static void filter_calls(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = { .len = 1, .filter = &allow };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(2);
}

static void test_guard(void **state)
{
	struct proc_guard guard = { 0 };
	int hold;

	(void)state;
	pid_t pid = start_child(filter_calls, &hold);
	assert_int_equal(proc_read_guard((uint32_t)pid, &guard), 0);
	assert_int_equal(guard.seccomp_mode, 2);
	assert_false(guard.shadow_stack);
	end_child(pid, hold);
}

static void test_cmdline(void **state)
{
	static const char shown[] = "a -c read x b? \xc3\xa9";
	_cleanup_(freep) char *text = NULL;
	int hold[2], ready[2];
	char c;

	(void)state;
	assert_int_equal(pipe2(hold, 0), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (!pid) {
		close(hold[1]);
		dup2(hold[0], 0);
		execl("/bin/sh", "a", "-c", "read x", "b\n", "\xc3\xa9", (char *)NULL); /* waits for its input */
		_exit(1);
	}
	close(hold[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 0); /* closed by exec */
	close(ready[0]);
	/* exec closes descriptors a moment before it sets up the arguments (fs/exec.c, begin_new_exec). */
	for (uint64_t until = mono_ns() + 60000000000ull; mono_ns() < until && (!text || !*text);) {
		free(text);
		text = NULL;
		assert_int_equal(proc_read_cmdline((uint32_t)pid, &text), 0);
	}
	kill(pid, SIGKILL);
	close(hold[1]);
	waitpid(pid, NULL, 0);
	assert_string_equal(text, shown);
}

static void test_zombie_has_no_cmdline_and_no_rss(void **state)
{
	_cleanup_(freep) char *text = NULL;
	struct proc_rss rss;
	struct proc_stat st;
	siginfo_t info;

	(void)state;
	pid_t pid = fork();
	if (!pid)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(proc_read_stat((uint32_t)pid, &st), 0);
	assert_int_equal(st.state, 'Z');
	assert_int_equal(proc_read_rss((uint32_t)pid, &rss), -ENOENT);
	assert_int_equal(proc_read_cmdline((uint32_t)pid, &text), 0);
	assert_string_equal(text, "");
	waitpid(pid, NULL, 0);
}

static void test_list_pids(void **state)
{
	_cleanup_(freep) uint32_t *pids = NULL;
	size_t n = 0;
	bool own = false, parent = false;

	(void)state;
	assert_int_equal(proc_list_pids(&pids, &n), 0);
	for (size_t i = 0; i < n; i++) {
		own |= pids[i] == (uint32_t)getpid();
		parent |= pids[i] == (uint32_t)getppid();
		assert_true(pids[i] > 0);
	}
	assert_true(own && parent);
}

static void check_opens(const struct mapping *m, const struct stat *want)
{
	_cleanup_(freep) char *path = NULL;
	struct stat st;
	int fd = mapping_open((uint32_t)getpid(), m, &path);

	if (fd < 0)
		fail_msg("%s: %s", m->path, strerror(-fd));
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_ino == want->st_ino && st.st_dev == want->st_dev);
	/* The name leads to the same file. */
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_ino == want->st_ino && st.st_dev == want->st_dev);
	close(fd);
}

static void test_open_own_program(void **state)
{
	struct mappings m;
	struct stat want;

	(void)state;
	assert_int_equal(stat("/proc/self/exe", &want), 0);
	assert_int_equal(mappings_read((uint32_t)getpid(), &m), 0);
	check_order(&m);
	const struct mapping *code = mappings_find(&m, (uint64_t)(uintptr_t)&test_open_own_program);
	assert_non_null(code);
	assert_true(code->exec && code->inode == want.st_ino);
	check_opens(code, &want);
	int on_stack = 0;
	const struct mapping *stack = mappings_find(&m, (uint64_t)(uintptr_t)&on_stack);
	if (stack)
		assert_int_equal(mapping_open((uint32_t)getpid(), stack, NULL), -ENOENT);
	mappings_done(&m);
}

/* A file that was replaced after it was mapped, as packages are upgraded: the new one must not be taken for it. */
static void test_replaced_file(void **state)
{
	char name[] = "/tmp/tidemark-test-XXXXXX";
	struct mappings m;
	struct stat old, new;

	(void)state;
	int fd = mkstemp(name);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(fstat(fd, &old), 0);
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(unlink(name), 0);
	int other = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(other >= 0);
	assert_int_equal(fstat(other, &new), 0);
	assert_true(new.st_ino != old.st_ino);
	assert_int_equal(mappings_read((uint32_t)getpid(), &m), 0);
	const struct mapping *at = mappings_find(&m, (uint64_t)(uintptr_t)p);
	assert_non_null(at);
	assert_true(at->deleted);
	assert_string_equal(at->path, name);
	if (geteuid()) { /* map_files is for root: without it the file is out of reach */
		assert_true(mapping_open((uint32_t)getpid(), at, NULL) < 0);
	} else {
		check_opens(at, &old);
	}
	mappings_done(&m);
	unlink(name);
	munmap(p, 4096);
	close(fd);
	close(other);
}

/* The range is gone, the name leads to another file: nothing is opened. */
static void test_wrong_file_is_refused(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat("/proc/self/exe", &st), 0);
	struct mapping m = {
		.start = 0x1000, .end = 0x2000, .dev = st.st_dev, .inode = st.st_ino + 1, .path = (char *)"/bin/sh"
	};
	char *path = NULL;
	assert_int_equal(mapping_open((uint32_t)getpid(), &m, &path), -ENOENT);
	assert_null(path);
	/* The same with the right inode is found by name. */
	assert_int_equal(stat("/bin/sh", &st), 0);
	m.dev = st.st_dev;
	m.inode = st.st_ino;
	check_opens(&m, &st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_lines),
		cmocka_unit_test(test_parse_leaves_out_what_is_wrong),
		cmocka_unit_test(test_parse_survives_damage),
		cmocka_unit_test(test_own_stat),
		cmocka_unit_test(test_cpu_ticks_grow),
		cmocka_unit_test(test_own_rss),
		cmocka_unit_test(test_rss_follows_pages),
		cmocka_unit_test(test_gone_process),
		cmocka_unit_test(test_guard),
		cmocka_unit_test(test_cmdline),
		cmocka_unit_test(test_zombie_has_no_cmdline_and_no_rss),
		cmocka_unit_test(test_list_pids),
		cmocka_unit_test(test_open_own_program),
		cmocka_unit_test(test_replaced_file),
		cmocka_unit_test(test_wrong_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
