/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mappings with known truth: split, overlaid, moved, grown, shrunk, failed ones. Nothing here allocates from a heap. The truth is kept
 * page by page, which is simple enough to be trusted: each page knows the site that mapped it last. Sites whose name begins with
 * raw_ make the system call themselves; the others go through libc's function.
 */
#include <errno.h>
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

SITE void *site_map_a(size_t n)
{
	return book_map("mmap", __func__, mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), n);
}

SITE void *site_map_file(int fd, size_t n)
{
	return book_map("mmap", __func__, mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0), n);
}

SITE void *site_map_fixed(void *at, size_t n)
{
	void *p = mmap(at, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p != MAP_FAILED)
		book_unmap(at, n);
	return book_map("mmap", __func__, p, n);
}

SITE void *site_mremap(void *p, size_t old, size_t n, int flags)
{
	void *q = mremap(p, old, n, flags);

	if (q != MAP_FAILED)
		book_unmap(p, old);
	return book_map("mremap", __func__, q, n);
}

SITE void *site_mremap_fixed(void *p, size_t n, void *to)
{
	void *q = mremap(p, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	if (q != MAP_FAILED) {
		book_unmap(p, n);
		book_unmap(to, n);
	}
	return book_map("mremap", __func__, q, n);
}

SITE void *raw_map_b(size_t n)
{
	register long flags __asm__("r10") = MAP_PRIVATE | MAP_ANONYMOUS;
	register long fd __asm__("r8") = -1;
	register long off __asm__("r9") = 0;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(SYS_mmap), "D"(0), "S"(n), "d"(PROT_READ | PROT_WRITE), "r"(flags), "r"(fd), "r"(off)
			 : "rcx", "r11", "memory");
	return book_map("mmap", __func__, ret < 0 && ret > -4096 ? MAP_FAILED : (void *)ret, n);
}

static void unmap(void *p, size_t n)
{
	if (munmap(p, n))
		truth_die("munmap failed\n");
	book_unmap(p, n);
}

static void *site_brk_end;

SITE void site_brk_a(long by)
{
	void *p = sbrk(by);

	if (p == (void *)-1)
		truth_die("sbrk failed\n");
	book_map("brk", __func__, p, (size_t)by);
	site_brk_end = (char *)p + by;
}

SITE void site_brk_b(long by)
{
	void *p = sbrk(by);

	if (p == (void *)-1)
		truth_die("sbrk failed\n");
	book_map("brk", __func__, p, (size_t)by);
	site_brk_end = (char *)p + by;
}

static void brk_shrink(long by)
{
	if (sbrk(-by) == (void *)-1)
		truth_die("sbrk failed\n");
	site_brk_end = (char *)site_brk_end - by;
	book_unmap(site_brk_end, (size_t)by);
}

static void do_split(void)
{
	char *p = site_map_a(16 * PAGE), *q;

	unmap(p + 4 * PAGE, 2 * PAGE); /* in the middle: two ranges of one mapping */
	unmap(p, PAGE);
	unmap(p + 15 * PAGE, PAGE);
	unmap(p + 4 * PAGE, 2 * PAGE); /* a hole: succeeds, frees nothing */
	q = raw_map_b(8 * PAGE);
	unmap(q, 8 * PAGE);
	p = site_map_a(4 * PAGE);
	q = raw_map_b(4 * PAGE); /* often next to each other: one munmap may cover both */
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
	char *p = site_map_a(8 * PAGE), *q = raw_map_b(20 * PAGE);

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
	if (!munmap((void *)1, PAGE) || errno != EINVAL)
		truth_die("unaligned munmap succeeded\n");
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

int main(int argc, char **argv)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	if (fd < 0 || argc < 1)
		return 1;
	(void)argv;
	site_brk_end = sbrk(0);
	truth_start();
	do_split();
	do_overlay(fd);
	do_mremap();
	do_failures();
	do_brk();
	truth_print("maps");
	truth_wait_line();
	_exit(0);
}
