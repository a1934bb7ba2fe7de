/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mappings with known truth: split, overlaid, moved, grown, shrunk, failed ones. Nothing here allocates from a heap. The truth is kept
 * page by page, which is simple enough to be trusted: each page knows the call that mapped it last. The sites make their system calls
 * themselves, so that they are the innermost frame. Argument "libc": libc's own function instead.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "truth.h"

enum { PAGE = 4096, MAX_PAGES = 1 << 16 };

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
	brk_end = sbrk(0);
	truth_start();
	if (argc > 1 && !strcmp(argv[1], "libc")) {
		do_libc();
	} else {
		do_split();
		do_overlay(fd);
		do_mremap();
		do_failures();
		do_brk();
	}
	truth_print("maps");
	truth_wait_line();
	_exit(0);
}
