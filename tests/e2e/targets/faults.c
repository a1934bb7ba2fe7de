/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page faults of known functions, in known numbers: what each one made resident, or copied. Says `ready`, and after each line that it reads does all of
 * them once more. The truth of a step is what /proc/self/statm and the page size say, checked here, so that a wrong idea of the kernel fails before
 * Tidemark is blamed.
 *
 * No step touches memory that another one touches, and all begin with the program's other pages (stack, buffers) in place.
 */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "truth.h"

#define PAGE 4096ul
#define HUGE_BYTES (2ul << 20)

enum {
	ANON_PAGES = 1000,
	ZERO_PAGES = 500,
	FILE_PAGES = 1024,
	BRK_PAGES = 300,
	READ_PAGES = 200,
	LOADED_PAGES = 2048,
	REUSE_PAGES = 400
};

static char *map_anon(unsigned long bytes, int flags)
{
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (at == MAP_FAILED)
		truth_die("mmap");
	return at;
}

static char *map_small(unsigned long pages)
{
	char *at = map_anon(pages * PAGE, 0);

	(void)madvise(at, pages * PAGE, MADV_NOHUGEPAGE); /* a kernel without huge pages says no */
	return at;
}

SITE void touch_anon(char *at, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		at[i * PAGE] = 1;
}

SITE unsigned long read_zeros(char *at, unsigned long pages)
{
	unsigned long sum = 0;

	for (unsigned long i = 0; i < pages; i++)
		sum += (unsigned char)*(volatile char *)(at + i * PAGE);
	return sum;
}

SITE void write_zeros(char *at, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		at[i * PAGE] = 1;
}

SITE unsigned long read_file(char *at, unsigned long pages)
{
	unsigned long sum = 0;

	for (unsigned long i = 0; i < pages; i++)
		sum += (unsigned char)*(volatile char *)(at + i * PAGE);
	return sum;
}

SITE void copy_file(char *at, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		at[i * PAGE] = 1;
}

SITE void touch_brk(char *at, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		at[i * PAGE] = 1;
}

SITE void touch_huge(char *at)
{
	at[5 * PAGE] = 1;
}

/* The kernel faults, on behalf of a system call. */
SITE void fill_by_call(int fd, char *at, unsigned long bytes)
{
	if (read(fd, at, bytes) != (ssize_t)bytes)
		truth_die("read");
}

SITE void reuse_pages(char *at, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		at[i * PAGE] = 2;
}

SITE void unshare_pages(char *at, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		at[i * PAGE] = 3;
}

static char smaps[1 << 18];

/* What is resident of the mapping that `at` lies in. Not of the whole process: the kernel may take pages of a library away at any moment. */
static unsigned long resident(const void *at)
{
	int fd = open("/proc/self/smaps", O_RDONLY);
	unsigned long start, end, kib, where = (unsigned long)at;
	size_t n = 0;
	ssize_t got;

	while (fd >= 0 && n < sizeof(smaps) - 1 && (got = read(fd, smaps + n, sizeof(smaps) - 1 - n)) > 0)
		n += (size_t)got;
	(void)close(fd);
	smaps[n] = 0;
	for (char *line = smaps; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		if (sscanf(line, "%lx-%lx ", &start, &end) != 2 || where < start || where >= end)
			continue;
		char *rss = strstr(line, "\nRss:");
		if (rss && sscanf(rss, "\nRss: %lu kB", &kib) == 1)
			return kib * 1024;
	}
	truth_die("smaps");
	return 0;
}

static void grew(const char *what, const void *at, unsigned long before, unsigned long bytes)
{
	unsigned long now = resident(at);

	if (now - before != bytes) {
		fprintf(stderr, "%s: %ld bytes became resident, not %lu\n", what, (long)(now - before), bytes);
		exit(1);
	}
}

/* Pages in the page cache, so that faults map what lies around them, too. */
static int make_file(unsigned long pages)
{
	char page[PAGE];
	int fd = memfd_create("faults", MFD_CLOEXEC);

	memset(page, 'x', sizeof(page));
	if (fd < 0)
		truth_die("memfd_create");
	for (unsigned long i = 0; i < pages; i++)
		if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
			truth_die("write");
	return fd;
}

static void do_files(void)
{
	int fd = make_file(FILE_PAGES);
	char *at = mmap(NULL, FILE_PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	char *own = mmap(NULL, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *filled = map_small(READ_PAGES);
	unsigned long before;

	if (at == MAP_FAILED || own == MAP_FAILED)
		truth_die("mmap");
	before = resident(at);
	(void)read_file(at, FILE_PAGES);
	grew("read_file", at, before, FILE_PAGES * PAGE);
	if (madvise(own, FILE_PAGES * PAGE, MADV_POPULATE_READ)) /* 5.14: there, without a fault */
		(void)read_zeros(own, FILE_PAGES);
	before = resident(own);
	copy_file(own, FILE_PAGES);
	grew("copy_file", own, before, 0);
	before = resident(filled);
	(void)lseek(fd, 0, SEEK_SET);
	fill_by_call(fd, filled, READ_PAGES * PAGE);
	grew("fill_by_call", filled, before, READ_PAGES * PAGE);
	(void)munmap(at, FILE_PAGES * PAGE);
	(void)munmap(own, FILE_PAGES * PAGE);
	(void)munmap(filled, READ_PAGES * PAGE);
	(void)close(fd);
}

static void do_anon(void)
{
	char *at = map_small(ANON_PAGES), *zeros = map_small(ZERO_PAGES), *heap;
	unsigned long before = resident(at);

	touch_anon(at, ANON_PAGES);
	grew("touch_anon", at, before, ANON_PAGES * PAGE);
	before = resident(zeros);
	(void)read_zeros(zeros, ZERO_PAGES);
	grew("read_zeros", zeros, before, 0);
	write_zeros(zeros, ZERO_PAGES);
	grew("write_zeros", zeros, before, ZERO_PAGES * PAGE);
	heap = sbrk(BRK_PAGES * PAGE);
	if (heap == (void *)-1)
		truth_die("sbrk");
	heap = (char *)(((unsigned long)heap + PAGE - 1) & ~(PAGE - 1));
	before = resident(heap);
	touch_brk(heap, BRK_PAGES - 1);
	grew("touch_brk", heap, before, (BRK_PAGES - 1) * PAGE);
	if (madvise(at, ANON_PAGES * PAGE, MADV_DONTNEED))
		truth_die("madvise");
	(void)munmap(at, ANON_PAGES * PAGE);
	(void)munmap(zeros, ZERO_PAGES * PAGE);
}

/* 0: this kernel gave no huge page. */
static unsigned long do_huge(void)
{
	char *at = map_anon(2 * HUGE_BYTES, 0);
	char *huge = (char *)(((unsigned long)at + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	unsigned long before, grown = 0;

	if (madvise(huge, HUGE_BYTES, MADV_HUGEPAGE) == 0) {
		before = resident(huge);
		touch_huge(huge);
		grown = resident(huge) - before;
	}
	(void)munmap(at, 2 * HUGE_BYTES);
	return grown;
}

static void wait_line(int fd)
{
	char c;

	while (read(fd, &c, 1) == 1 && c != '\n')
		;
}

static void print_site(const char *function, unsigned long grown, unsigned long copied, int last)
{
	printf("{\"function\":\"%s\",\"bytes\":%lu,\"cow\":%lu}%s", function, grown, copied, last ? "" : ",");
}

/* A child un-shares what its parent loaded; then writes on pages that it alone has, which only have to become writable. */
static void in_child(char *loaded, int times)
{
	char *own = map_small(REUSE_PAGES);
	pid_t grandchild;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		truth_die("prctl");
	touch_anon(own, REUSE_PAGES);
	unshare_pages(loaded, LOADED_PAGES);
	/* A child that is gone leaves them write-protected, and nobody else's. */
	grandchild = fork();
	if (!grandchild)
		_exit(0);
	if (waitpid(grandchild, NULL, 0) != grandchild)
		truth_die("waitpid");
	reuse_pages(own, REUSE_PAGES);
	printf("{\"tag\":\"child%d\",\"pid\":%d,\"sites\":[", times, (int)getpid());
	print_site("unshare_pages", 0, LOADED_PAGES * PAGE, 0);
	print_site("touch_anon", REUSE_PAGES * PAGE, 0, 0);
	print_site("reuse_pages", 0, 0, 1);
	printf("]}\n");
	(void)fflush(stdout);
	wait_line(3);
	_exit(0);
}

int main(void)
{
	char *loaded = map_small(LOADED_PAGES);
	int hold[2], times = 0;
	unsigned long huge = 0;
	char line[16];

	touch_anon(loaded, LOADED_PAGES);
	(void)setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	(void)resident(loaded);
	printf("{\"tag\":\"ready\",\"pid\":%d}\n", (int)getpid());
	(void)fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		unsigned long n = (unsigned long)++times;
		pid_t child;

		do_anon();
		do_files();
		huge += do_huge();
		if (pipe(hold))
			truth_die("pipe");
		child = fork();
		if (!child) {
			(void)close(hold[1]);
			(void)dup2(hold[0], 3);
			in_child(loaded, times);
		}
		(void)close(hold[0]);
		printf("{\"tag\":\"done%d\",\"pid\":%d,\"given_back\":%lu,\"sites\":[", times, (int)getpid(),
		       n * ANON_PAGES * PAGE);
		print_site("touch_anon", n * ANON_PAGES * PAGE, 0, 0);
		print_site("read_zeros", 0, 0, 0);
		print_site("write_zeros", n * ZERO_PAGES * PAGE, 0, 0);
		print_site("touch_brk", n * (BRK_PAGES - 1) * PAGE, 0, 0);
		print_site("read_file", n * FILE_PAGES * PAGE, 0, 0);
		print_site("copy_file", 0, n * FILE_PAGES * PAGE, 0);
		print_site("fill_by_call", n * READ_PAGES * PAGE, 0, 0);
		print_site("touch_huge", huge, 0, 1);
		printf("]}\n");
		(void)fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) /* the child's figures were looked at */
			break;
		(void)close(hold[1]);
		if (waitpid(child, NULL, 0) != child)
			truth_die("waitpid");
	}
	return 0;
}
