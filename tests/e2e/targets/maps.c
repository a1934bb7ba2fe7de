/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mappings with known truth: split, overlaid, moved, grown, shrunk, failed ones. Nothing here allocates from a heap. The truth is kept
 * page by page, which is simple enough to be trusted: each page knows the call that mapped it last. The sites make their system calls
 * themselves, so that they are the innermost frame. Argument "libc": libc's own function instead; "threads": many at once, and a child.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "truth.h"

enum { PAGE = 4096, MAX_PAGES = 1 << 16, THREADS = 8, ROUNDS = 200, MANY = 12000 };
#define MIB ((size_t)1 << 20)

struct page {
	uintptr_t addr;
	uint32_t site;
	uint32_t call; /* which mapping call; its free counts when its last page goes */
};

static struct page pages[MAX_PAGES];
static size_t n_pages;

static void *book_map(const char *site, const char *caller, void *p, size_t bytes)
{
	static uint32_t calls;
	uint32_t s = truth_find_site(site, caller);

	if (p == MAP_FAILED)
		return p;
	calls++;
	truth.sites[s].alloc_bytes += bytes;
	truth.sites[s].alloc_count++;
	for (size_t at = 0; at < bytes; at += PAGE) {
		if (n_pages == MAX_PAGES)
			truth_die("truth: too many pages\n");
		pages[n_pages++] = (struct page){ (uintptr_t)p + at, s, calls };
	}
	return p;
}

static bool has_page_of(uint32_t call)
{
	for (size_t i = 0; i < n_pages; i++)
		if (pages[i].call == call)
			return true;
	return false;
}

static void book_unmap(const void *p, size_t bytes)
{
	uintptr_t from = (uintptr_t)p, to = from + bytes;

	for (size_t i = 0; i < n_pages; i++) {
		if (pages[i].addr < from || pages[i].addr >= to)
			continue;
		struct page gone = pages[i];

		pages[i--] = pages[--n_pages];
		truth.sites[gone.site].free_bytes += PAGE;
		if (!has_page_of(gone.call))
			truth.sites[gone.site].free_count++;
	}
}

/* A macro, because an inlined function would be a frame of its own in the stacks. */
#define raw(nr, a, b, c, d, e, f) \
	__extension__({ \
		register long r10_ __asm__("r10") = (long)(d); \
		register long r8_ __asm__("r8") = (long)(e); \
		register long r9_ __asm__("r9") = (long)(f); \
		long ret_; \
\
		__asm__ volatile("syscall" \
				 : "=a"(ret_) \
				 : "a"((long)(nr)), "D"((long)(a)), "S"((long)(b)), "d"((long)(c)), "r"(r10_), \
				   "r"(r8_), "r"(r9_) \
				 : "rcx", "r11", "memory"); \
		ret_<0 && ret_> - 4096 ? MAP_FAILED : (void *)ret_; \
	})

SITE void *site_map_a(size_t n)
{
	void *p = raw(SYS_mmap, 0, (long)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return book_map("mmap", __func__, p, n);
}

SITE void *site_map_b(size_t n)
{
	void *p = raw(SYS_mmap, 0, (long)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return book_map("mmap", __func__, p, n);
}

SITE void *site_map_file(int fd, size_t n)
{
	return book_map("mmap", __func__, raw(SYS_mmap, 0, (long)n, PROT_READ, MAP_PRIVATE, fd, 0), n);
}

SITE void *site_map_fixed(void *at, size_t n)
{
	void *p = raw(SYS_mmap, (long)at, (long)n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p != MAP_FAILED)
		book_unmap(at, n);
	return book_map("mmap", __func__, p, n);
}

SITE void *site_mremap(void *p, size_t old, size_t n, int flags)
{
	void *q = raw(SYS_mremap, (long)p, (long)old, (long)n, flags, 0, 0);

	if (q != MAP_FAILED)
		book_unmap(p, old);
	return book_map("mremap", __func__, q, n);
}

SITE void *site_mremap_fixed(void *p, size_t n, void *to)
{
	void *q = raw(SYS_mremap, (long)p, (long)n, (long)n, MREMAP_MAYMOVE | MREMAP_FIXED, (long)to, 0);

	if (q != MAP_FAILED) {
		book_unmap(p, n);
		book_unmap(to, n);
	}
	return book_map("mremap", __func__, q, n);
}

SITE void *site_map_shared(size_t n)
{
	void *p = raw(SYS_mmap, 0, (long)n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return book_map("mmap", __func__, p, n);
}

SITE void *site_map_file_from(int fd, size_t n, size_t offset)
{
	return book_map("mmap", __func__, raw(SYS_mmap, 0, (long)n, PROT_READ, MAP_PRIVATE, fd, (long)offset), n);
}

/* Readable and writable, as what it may lie on: the kernel makes one of both. */
SITE void *site_map_over(void *at, size_t n)
{
	void *p = raw(SYS_mmap, (long)at, (long)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		      0);

	if (p != MAP_FAILED)
		book_unmap(at, n);
	return book_map("mmap", __func__, p, n);
}

/* more: MAP_* */
SITE void *site_map_hint(void *at, size_t n, int more)
{
	void *p = raw(SYS_mmap, (long)at, (long)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | more, -1, 0);

	return book_map("mmap", __func__, p, n);
}

/* The old place stays mapped. */
SITE void *site_mremap_keep(void *p, size_t old, size_t n, int flags)
{
	void *q = raw(SYS_mremap, (long)p, (long)old, (long)n, flags, 0, 0);

	return book_map("mremap", __func__, q, n);
}

/* As other programs do it. libc keeps no frame pointer, so the caller may be missing in the stack; the figures may not be. */
SITE void *site_libc_mmap(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return book_map("mmap", __func__, p, n);
}

static void unmap(void *p, size_t n)
{
	if (raw(SYS_munmap, (long)p, (long)n, 0, 0, 0, 0))
		truth_die("munmap failed\n");
	book_unmap(p, n);
}

static char *brk_end;

SITE void site_brk_a(size_t by)
{
	if (raw(SYS_brk, (long)brk_end + (long)by, 0, 0, 0, 0, 0) != brk_end + by)
		truth_die("brk failed\n");
	book_map("brk", __func__, brk_end, by);
	brk_end += by;
}

SITE void site_brk_b(size_t by)
{
	if (raw(SYS_brk, (long)brk_end + (long)by, 0, 0, 0, 0, 0) != brk_end + by)
		truth_die("brk failed\n");
	book_map("brk", __func__, brk_end, by);
	brk_end += by;
}

static void brk_shrink(size_t by)
{
	if (raw(SYS_brk, (long)brk_end - (long)by, 0, 0, 0, 0, 0) != brk_end - by)
		truth_die("brk failed\n");
	brk_end -= by;
	book_unmap(brk_end, by);
}

static void do_split(void)
{
	char *p = site_map_a(16 * PAGE), *q;

	unmap(p + 4 * PAGE, 2 * PAGE); /* in the middle: two ranges of one mapping */
	unmap(p, PAGE);
	unmap(p + 15 * PAGE, PAGE);
	unmap(p + 4 * PAGE, 2 * PAGE); /* a hole: succeeds, frees nothing */
	q = site_map_b(8 * PAGE);
	unmap(q, 8 * PAGE);
	p = site_map_a(4 * PAGE);
	q = site_map_b(4 * PAGE); /* often next to each other: one munmap may cover both */
	if (q + 4 * PAGE == p)
		unmap(q + 2 * PAGE, 4 * PAGE);
	mprotect(p + 2 * PAGE, PAGE, PROT_NONE); /* splits the kernel's mapping, changes no size */
}

static void do_overlay(int fd)
{
	char *p = site_map_a(10 * PAGE), *f;

	site_map_fixed(p + 2 * PAGE, 3 * PAGE);
	site_map_fixed(p + 4 * PAGE, 2 * PAGE); /* partly over the overlay, partly over the base */
	f = site_map_file(fd, 6 * PAGE);
	site_map_fixed(f + 5 * PAGE, PAGE);
	site_map_file(fd, 2 * PAGE);
	unmap(f, PAGE);
}

static void do_mremap(void)
{
	char *p = site_map_a(8 * PAGE), *q = site_map_b(20 * PAGE);

	q = site_mremap(q, 20 * PAGE, 5 * PAGE, 0); /* shrinks in place */
	q = site_mremap(q, 5 * PAGE, 300 * PAGE, MREMAP_MAYMOVE);
	p = site_mremap(p + 2 * PAGE, 3 * PAGE, 3 * PAGE, MREMAP_MAYMOVE); /* same size: stays */
	if (site_mremap(q, 300 * PAGE, (size_t)1 << 46, MREMAP_MAYMOVE) != MAP_FAILED)
		truth_die("huge mremap succeeded\n");
	q = site_mremap(q, 300 * PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	/* over another mapping */
	p = site_map_a(6 * PAGE);
	if (site_mremap_fixed(q, 2 * PAGE, p + PAGE) != p + PAGE)
		truth_die("mremap onto a mapping failed\n");
}

static void do_failures(void)
{
	if (site_map_a(truth_opaque((size_t)1 << 62)) != MAP_FAILED)
		truth_die("huge mmap succeeded\n");
	if (raw(SYS_munmap, 1, PAGE, 0, 0, 0, 0) != MAP_FAILED)
		truth_die("unaligned munmap succeeded\n");
	if (raw(SYS_brk, 1, 0, 0, 0, 0, 0) != brk_end)
		truth_die("brk moved to nowhere\n");
	if (site_map_file(-1, PAGE) != MAP_FAILED)
		truth_die("mmap of a bad descriptor succeeded\n");
}

static void do_brk(void)
{
	site_brk_a(64 * PAGE);
	site_brk_b(32 * PAGE);
	brk_shrink(40 * PAGE); /* all of b and 8 pages of a */
	site_brk_b(16 * PAGE);
	brk_shrink(4 * PAGE);
}

static void expect(const void *is, const void *want, const char *what)
{
	if (is != want)
		truth_die(what);
}

/* A place where nothing is, for `n` bytes. */
static char *free_place(size_t n)
{
	char *p = site_map_a(n);

	unmap(p, n);
	return p;
}

/* The kernel puts what may hold huge pages where they fit. */
static void do_large(int fd)
{
	char *p = site_map_a(2 * MIB), *q = site_map_b(3 * MIB), *r = site_map_a(4 * MIB);

	unmap(q + MIB, PAGE);
	unmap(p, 2 * MIB);
	p = site_map_b(2 * MIB);
	(void)site_map_b(2 * MIB + PAGE);
	unmap(r + 2 * MIB, MIB);
	q = site_map_shared(4 * MIB);
	unmap(q, MIB);
	q = site_map_file(fd, 3 * MIB);
	unmap(q + PAGE, 2 * MIB);
	(void)site_map_file_from(fd, 2 * MIB, MIB);
	(void)site_map_file_from(fd, 5 * MIB, MIB);
	p = site_mremap(p, 2 * MIB, 4 * MIB, MREMAP_MAYMOVE);
	(void)site_mremap(p + 3 * MIB, MIB, 6 * MIB, MREMAP_MAYMOVE);
}

static void do_hints(void)
{
	char *at = free_place(64 * PAGE), *p;

	expect(site_map_hint(at, 4 * PAGE, 0), at, "a free hint was not followed\n");
	if (site_map_hint(at, 4 * PAGE, 0) == at)
		truth_die("a mapping over another\n");
	expect(site_map_hint(at + 8 * PAGE + 5, 2 * PAGE, 0), at + 8 * PAGE, "a hint within a page\n");
	expect(site_map_hint(at + 16 * PAGE, 4 * PAGE, MAP_FIXED_NOREPLACE), at + 16 * PAGE,
	       "NOREPLACE where nothing is\n");
	expect(site_map_hint(at + 18 * PAGE, 4 * PAGE, MAP_FIXED_NOREPLACE), MAP_FAILED,
	       "NOREPLACE where something is\n");
	p = site_map_hint(NULL, 32 * PAGE, MAP_POPULATE);
	unmap(p + 3 * PAGE, PAGE);
	p = site_map_hint(NULL, 2 * MIB, MAP_POPULATE);
	expect(site_map_over(p + PAGE, 3 * PAGE), p + PAGE, "over the middle\n");
	expect(site_map_over(p, 2 * PAGE), p, "over the beginning\n");
	expect(site_map_over(p, 2 * MIB), p, "over all of it\n");
	expect(site_map_over(p + MIB, MIB), p + MIB, "over its end\n");
}

static void do_moves(void)
{
	char *p = site_map_a(16 * PAGE), *q;

	unmap(p + 4 * PAGE, 12 * PAGE);
	expect(site_mremap(p, 4 * PAGE, 8 * PAGE, 0), p, "does not grow where it is\n");
	expect(site_mremap(p, 8 * PAGE, 3 * PAGE, MREMAP_MAYMOVE), p, "does not shrink where it is\n");
	expect(site_mremap(p + PAGE, PAGE, PAGE, 0), p + PAGE, "does not stay\n");
	expect(site_mremap(p, PAGE, 4 * PAGE, 0), MAP_FAILED, "grows over its neighbour\n");
	expect(site_mremap(p + 12 * PAGE, PAGE, PAGE, 0), MAP_FAILED, "moves nothing\n");
	q = site_map_b(6 * PAGE);
	(void)site_mremap_keep(q, 6 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	q = site_map_shared(5 * PAGE);
	(void)site_mremap_keep(q, 0, 5 * PAGE, MREMAP_MAYMOVE);
	q = free_place(32 * PAGE);
	expect(site_mremap_fixed(p + 2 * PAGE, PAGE, q + PAGE), q + PAGE, "can't be moved to a free place\n");
	expect(site_mremap_fixed(q + 20 * PAGE, PAGE, q + PAGE), MAP_FAILED, "nothing was moved\n");
	expect(site_mremap_fixed(p, PAGE, q + 1), MAP_FAILED, "moved into a page\n");
}

/* Refused when the place is chosen already. */
static void do_refusals(void)
{
	struct rlimit old, none = { 0, 0 };
	int fd = open("/proc/self/exe", O_RDONLY);
	char *p = site_map_a(8 * PAGE), *at = free_place(64 * PAGE);

	if (getrlimit(RLIMIT_AS, &old))
		truth_die("getrlimit\n");
	none.rlim_max = old.rlim_max;
	if (setrlimit(RLIMIT_AS, &none))
		truth_die("setrlimit\n");
	expect(site_map_a(4 * PAGE), MAP_FAILED, "mapped above the limit\n");
	expect(site_map_b(4 * MIB), MAP_FAILED, "mapped above the limit\n");
	expect(site_map_hint(at, PAGE, 0), MAP_FAILED, "hint above the limit\n");
	expect(site_map_fixed(at, PAGE), MAP_FAILED, "fixed above the limit\n");
	expect(site_mremap(p, 8 * PAGE, 9 * PAGE, MREMAP_MAYMOVE), MAP_FAILED, "grown above the limit\n");
	expect(site_mremap_keep(p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP), MAP_FAILED,
	       "doubled above the limit\n");
	expect(raw(SYS_brk, (long)brk_end + PAGE, 0, 0, 0, 0, 0), brk_end, "brk above the limit\n");
	if (setrlimit(RLIMIT_AS, &old))
		truth_die("setrlimit\n");
	expect(raw(SYS_mmap, (long)p, 4 * PAGE, PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), MAP_FAILED,
	       "wrote what is read-only\n");
	expect(raw(SYS_mmap, (long)p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED,
	       "in a page\n");
	expect(raw(SYS_mmap, 0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED, "mapped nothing\n");
	expect(raw(SYS_munmap, (long)p, 0, 0, 0, 0, 0), MAP_FAILED, "unmapped nothing\n");
	expect(raw(SYS_munmap, (long)p, (size_t)1 << 60, 0, 0, 0, 0), MAP_FAILED, "unmapped everything\n");
	(void)close(fd); /* opened for reading */
}

/* So many that the kernel's tree of them grows deep. Each is one of its own, for none continues another in the file. */
static void do_many(int fd)
{
	for (size_t i = 0; i < MANY; i++) {
		char *p = site_map_file(fd, PAGE);

		if (i % 64 == 0)
			usleep(2000); /* it is about where they lie, not about how many can be told at once */
		if (i % 16 == 0)
			unmap(p, PAGE);
	}
}

/* --- many at once: what goes is booked before the call, for another may have the place at once --- */

SITE void *site_map_thread(size_t n)
{
	void *p = raw(SYS_mmap, 0, (long)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	truth_enter();
	book_map("mmap", __func__, p, n);
	truth_leave();
	return p;
}

SITE void *site_mremap_thread(void *p, size_t old, size_t n)
{
	truth_enter();
	book_unmap(p, old);
	truth_leave();
	void *q = raw(SYS_mremap, (long)p, (long)old, (long)n, MREMAP_MAYMOVE, 0, 0);

	if (q == MAP_FAILED)
		truth_die("mremap failed\n");
	truth_enter();
	book_map("mremap", __func__, q, n);
	truth_leave();
	return q;
}

static void unmap_thread(void *p, size_t n)
{
	truth_enter();
	book_unmap(p, n);
	truth_leave();
	if (raw(SYS_munmap, (long)p, (long)n, 0, 0, 0, 0))
		truth_die("munmap failed\n");
}

static void do_rounds(size_t seed)
{
	char *kept = NULL, *p;
	size_t kept_n = 0;

	for (size_t i = 0; i < ROUNDS; i++) {
		size_t n = (1 + (i * 7 + seed) % 13) * PAGE;

		p = site_map_thread(n);
		if (p == MAP_FAILED)
			truth_die("mmap failed\n");
		p[0] = 1;
		if (i % 3 == 0) {
			p = site_mremap_thread(p, n, n + PAGE);
			n += PAGE;
		}
		if (kept)
			unmap_thread(kept, kept_n);
		if (i % 5 == 0) {
			n -= PAGE;
			unmap_thread(p + n, PAGE);
		}
		kept = n ? p : NULL;
		kept_n = n;
	}
}

static volatile int may_begin, at_work = THREADS;

static void *thread_main(void *arg)
{
	while (!may_begin)
		usleep(1000);
	do_rounds((size_t)arg);
	__atomic_sub_fetch(&at_work, 1, __ATOMIC_SEQ_CST);
	for (;;)
		pause();
	return NULL;
}

static void do_threads(void)
{
	may_begin = 1;
	while (at_work)
		usleep(1000);
	pid_t child = fork();
	if (child < 0)
		truth_die("fork failed\n");
	if (child)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		truth_die("prctl\n");
	truth_forked();
	n_pages = 0;
	do_rounds(3);
	truth_print("child");
	for (;;)
		pause();
}

static void start_threads(void)
{
	for (size_t i = 0; i < THREADS; i++) {
		pthread_t t;

		if (pthread_create(&t, NULL, thread_main, (void *)i))
			truth_die("pthread_create failed\n");
	}
}

static void do_libc(void)
{
	char *p = site_libc_mmap(16 * PAGE);

	char *q = site_libc_mmap(PAGE);

	if (munmap(p + 4 * PAGE, 2 * PAGE) || munmap(q, PAGE))
		truth_die("munmap failed\n");
	book_unmap(p + 4 * PAGE, 2 * PAGE);
	book_unmap(q, PAGE);
}

int main(int argc, char **argv)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	if (fd < 0)
		return 1;
	int threads = argc > 1 && !strcmp(argv[1], "threads");
	brk_end = sbrk(0);
	if (threads)
		start_threads();
	truth_start();
	if (threads) {
		do_threads();
	} else if (argc > 1) {
		do_libc();
	} else {
		do_split();
		do_overlay(fd);
		do_mremap();
		do_failures();
		do_large(fd);
		do_hints();
		do_moves();
		do_refusals();
		do_brk();
		do_many(fd);
	}
	truth_print("maps");
	truth_wait_line();
	_exit(0);
}
