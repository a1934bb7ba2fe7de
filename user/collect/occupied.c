/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/occupied.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "util/mem.h"

#define PAGE 4096ull
#define CACHE_PAGES 256 /* a power of two */
#define LIMIT_BYTES (2ull << 30)
#define LIMIT_CHUNKS 2000000ull
#define RUN_PAGES 64 /* of one read: 256 KiB */

/* Fields of a /proc/PID/pagemap entry (Documentation/admin-guide/mm/pagemap.rst). */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)

static const struct heap_walker *const walkers[] = { &heap_walker_pymalloc, &heap_walker_glibc };

static int by_address(const void *a, const void *b)
{
	uint64_t x = ((const struct occupied_query *)a)->addr, y = ((const struct occupied_query *)b)->addr;

	return x < y ? -1 : x > y;
}

int occupied_look(struct occupied_look *l)
{
	int found = -ENOTSUP;

	l->figures = (struct occupied_figures){ 0 };
	if (!l->limit_bytes)
		l->limit_bytes = LIMIT_BYTES;
	if (!l->limit_chunks)
		l->limit_chunks = LIMIT_CHUNKS;
	if (l->n)
		qsort(l->queries, l->n, sizeof(*l->queries), by_address);
	for (size_t i = 0; i < l->n; i++)
		l->queries[i].is = OCCUPANCY_UNKNOWN;
	for (size_t i = 0; i < ARRAY_SIZE(walkers); i++) {
		int err = walkers[i]->look(l);
		if (err && err != -ENOTSUP)
			return err;
		found = err ? found : 0;
	}
	for (size_t i = 0; i < l->n; i++)
		l->figures.answered += l->queries[i].is != OCCUPANCY_UNKNOWN;
	return found;
}

size_t occupied_from(const struct occupied_look *l, uint64_t addr)
{
	size_t low = 0, high = l->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (l->queries[mid].addr < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void occupied_answer(struct occupied_look *l, uint64_t addr, enum occupancy is)
{
	for (size_t i = occupied_from(l, addr); i < l->n && l->queries[i].addr == addr; i++)
		l->queries[i].is = (uint8_t)is;
}

/* --- a process --- */

static int read_plain(uint32_t pid, uint64_t addr, void *to, size_t n)
{
	struct iovec here = { .iov_base = to, .iov_len = n };
	struct iovec there = { .iov_base = (void *)(uintptr_t)addr, .iov_len = n };
	ssize_t got = process_vm_readv((pid_t)pid, &here, 1, &there, 1, 0);

	return got < 0 ? -errno : (int)got;
}

/*
 * To read a page that was never touched would map the zero page there: the target's page tables grow by our looking. To read one that is
 * swapped out brings it back. So residency is asked first, and each run of resident pages is read.
 */
static int read_resident(const struct process_memory *p, uint64_t addr, char *to, size_t n)
{
	uint64_t entries[RUN_PAGES + 1], first = addr / PAGE, pages = (addr + n - 1) / PAGE - first + 1;
	bool swapped = false;
	size_t done = 0;

	ssize_t got = pread(p->pagemap, entries, pages * sizeof(*entries), (off_t)(first * sizeof(*entries)));
	if (got != (ssize_t)(pages * sizeof(*entries)))
		return -EFAULT;
	while (done < n) {
		uint64_t at = addr + done, page = at / PAGE - first, end = page + 1;
		bool present = entries[page] & PAGEMAP_PRESENT;
		while (end < pages && !(entries[end] & PAGEMAP_PRESENT) == !present)
			end++;
		size_t run = (size_t)((first + end) * PAGE - at), wanted = run < n - done ? run : n - done;
		for (uint64_t i = page; i < end; i++)
			swapped |= !present && entries[i] & PAGEMAP_SWAPPED;
		if (!present) {
			memset(to + done, 0, wanted);
		} else if (read_plain(p->pid, at, to + done, wanted) != (int)wanted) {
			return done ? (int)done : -EFAULT;
		}
		done += wanted;
	}
	/* A walk may pass over a page that is swapped out; who asks for one page only wants that one. */
	return swapped && pages <= 2 ? -ENODATA : (int)n;
}

static int process_read(void *ctx, uint64_t addr, void *to, size_t n)
{
	const struct process_memory *p = ctx;

	if (!n)
		return 0;
	if (n > RUN_PAGES * PAGE)
		n = RUN_PAGES * PAGE;
	return p->pagemap < 0 ? read_plain(p->pid, addr, to, n) : read_resident(p, addr, to, n);
}

void process_memory_open(uint32_t pid, struct process_memory *ret)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/pagemap", pid);
	*ret = (struct process_memory){ .pid = pid, .pagemap = open(path, O_RDONLY | O_CLOEXEC) };
	ret->memory = (struct memory){ .read = process_read, .ctx = ret };
}

void process_memory_done(struct process_memory *p)
{
	closep(&p->pagemap);
	p->pagemap = -1;
}

/* --- pages that are kept for the time of one look --- */

struct cached_page {
	uint64_t page; /* its number + 1; 0: empty */
	int err;
	char bytes[PAGE];
};

struct page_cache {
	const struct memory *memory; /* borrowed */
	struct cached_page at[CACHE_PAGES];
};

struct page_cache *page_cache_new(const struct memory *m)
{
	struct page_cache *c = xcalloc(1, sizeof(*c));

	c->memory = m;
	return c;
}

void page_cache_free(struct page_cache *c)
{
	free(c);
}

static const struct cached_page *page_of(struct page_cache *c, uint64_t number)
{
	struct cached_page *p = &c->at[number & (CACHE_PAGES - 1)];

	if (p->page == number + 1)
		return p;
	int got = c->memory->read(c->memory->ctx, number * PAGE, p->bytes, PAGE);
	p->page = number + 1;
	p->err = got < 0 ? got : got < (int)PAGE ? -EFAULT : 0;
	return p;
}

int page_cache_read(struct page_cache *c, uint64_t addr, void *to, size_t n)
{
	if (addr >> 47 || n > (1ull << 47) - addr)
		return -EFAULT;
	for (size_t done = 0; done < n;) {
		const struct cached_page *p = page_of(c, (addr + done) / PAGE);
		size_t offset = (addr + done) % PAGE, part = PAGE - offset < n - done ? PAGE - offset : n - done;
		if (p->err)
			return p->err;
		memcpy((char *)to + done, p->bytes + offset, part);
		done += part;
	}
	return 0;
}
