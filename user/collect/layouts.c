/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the executable mappings of a process to its list of ranges. Owns what it remembers of processes; the tables
 * and the ranges in them belong to probe/unwind.h. Attaches nothing and reads no memory of a process.
 *
 *	mapping  start .......................... end        of a file from file_offset on
 *	segment      p_offset, p_vaddr                       which of the file's segments holds that offset
 *	bias     start - file_offset + p_offset - p_vaddr    the same for all addresses of the segment
 *
 * Nearly every mapping is one segment. But the kernel shows neighbours with equal rights as one mapping, and a
 * program may map executable what is none of the file's code: so a mapping is cut at the segments' ends, and what is
 * in none has no rows.
 *
 * Opening a file is the expensive part. Which file a mapping is, is asked for in this order:
 *   1. the process had this very mapping the last time: it has kept the file alive, so it still is the same
 *   2. stat of the mapping: device, inode, size and time of a file that is known (they may be another file's by now
 *      if only the inode is compared: numbers are used again)
 *   3. open
 */
#include "collect/layouts.h"

#include <string.h>
#include <sys/stat.h>
#include <uthash.h>
#include <xxhash.h>

#include "probe/unwind.h"
#include "target/proc.h"
#include "util/mem.h"

#define KERNEL_PAGE 4096ull
/* Processes that are remembered, the latest ones: some 2.4 KB for each with 100 libraries. */
#define PROCESSES_MAX 4096

/* A mapping and its file; ascending by start. */
struct placed {
	uint64_t start;
	uint64_t mapping; /* hash of all that says which mapping it is */
	const struct unwind_file *file;
};

struct process {
	uint32_t pid;
	struct placed *placed;
	size_t n;
	UT_hash_handle hh;
};

struct layouts {
	struct unwind_tables *u;
	struct process *processes; /* uthash by pid, least lately taken first */
	struct unwind_range *ranges;
	size_t n_ranges, ranges_cap;
};

struct layouts *layouts_new(struct unwind_tables *u)
{
	struct layouts *l = xcalloc(1, sizeof(*l));

	l->u = u;
	return l;
}

static void process_forget(struct layouts *l, struct process *p)
{
	HASH_DEL(l->processes, p);
	free(p->placed);
	free(p);
}

void layouts_free(struct layouts *l)
{
	struct process *p, *next;

	if (!l)
		return;
	HASH_ITER(hh, l->processes, p, next)
		process_forget(l, p);
	free(l->ranges);
	free(l);
}

/* ---- which file ---- */

static uint64_t mapping_hash(const struct mapping *m)
{
	const uint64_t words[] = { m->start, m->end, m->file_offset, m->dev, m->inode };

	return XXH3_64bits(words, sizeof(words));
}

static struct unwind_key key_of(const struct stat *st)
{
	return (struct unwind_key){
		.dev = st->st_dev,
		.inode = st->st_ino,
		.bytes = (uint64_t)st->st_size,
		.mtime = (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec,
	};
}

static const struct unwind_file *file_by_stat(struct layouts *l, uint32_t pid, const struct mapping *m)
{
	struct stat st;

	if (mapping_stat(pid, m, &st))
		return NULL;
	struct unwind_key key = key_of(&st);
	return unwind_take_file(l->u, -1, &key);
}

/* NULL: it can't be opened now. */
static const struct unwind_file *file_by_open(struct layouts *l, uint32_t pid, const struct mapping *m)
{
	_cleanup_(closep) int fd = mapping_open(pid, m, NULL);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return NULL;
	struct unwind_key key = key_of(&st);
	return unwind_take_file(l->u, fd, &key);
}

/* *at moves along the remembered mappings: both lists ascend. */
static const struct unwind_file *file_remembered(const struct process *p, size_t *at, const struct mapping *m,
						 uint64_t hash)
{
	while (p && *at < p->n && p->placed[*at].start < m->start)
		(*at)++;
	if (!p || *at == p->n || p->placed[*at].start != m->start || p->placed[*at].mapping != hash)
		return NULL;
	return p->placed[*at].file;
}

/* ---- ranges ---- */

static void range_add(struct layouts *l, const struct unwind_range *range)
{
	struct unwind_range *last = l->n_ranges ? &l->ranges[l->n_ranges - 1] : NULL;

	if (last && last->end == range->start && last->bias == range->bias && last->page == range->page) {
		last->end = range->end;
		return;
	}
	l->ranges = grow_to(l->ranges, &l->ranges_cap, l->n_ranges + 1, sizeof(*l->ranges));
	l->ranges[l->n_ranges++] = *range;
}

static void range_add_bare(struct layouts *l, uint64_t start, uint64_t end)
{
	range_add(l, &(struct unwind_range){ .start = start, .end = end, .page = RANGE_NO_ROWS });
}

/* Segments are mapped by whole pages: these are the offsets that come with segment i. */
static uint64_t segment_low(const struct unwind_file *f, size_t i)
{
	return f->segments[i].file_offset & ~(KERNEL_PAGE - 1);
}

static uint64_t segment_high(const struct unwind_file *f, size_t i)
{
	return (f->segments[i].file_offset + f->segments[i].bytes + KERNEL_PAGE - 1) & ~(KERNEL_PAGE - 1);
}

/*
 * The segment that a mapping of [low, high) of the file begins with, n_segments: none. Segments may share a page of
 * the file: the one with the most bytes in there is meant. *ret_end: up to where.
 */
static size_t segment_at(const struct unwind_file *f, uint64_t low, uint64_t high, uint64_t *ret_end)
{
	size_t found = f->n_segments;
	uint64_t most = 0, end = high;

	for (size_t i = 0; i < f->n_segments; i++) {
		uint64_t first = segment_low(f, i), last = segment_high(f, i);
		if (first > low) {
			if (found == f->n_segments && first < end)
				end = first;
			continue;
		}
		last = last < high ? last : high;
		if (last <= low || last - low <= most)
			continue;
		most = last - low;
		found = i;
		end = last;
	}
	*ret_end = end;
	return found;
}

static void mapping_add(struct layouts *l, const struct mapping *m, const struct unwind_file *f)
{
	uint64_t end;

	if (!f || f->page == RANGE_NO_ROWS || m->file_offset > UINT64_MAX - (m->end - m->start)) {
		range_add_bare(l, m->start, m->end);
		return;
	}
	uint64_t zero = m->start - m->file_offset, high = m->end - zero;
	for (uint64_t at = m->file_offset; at < high; at = end) {
		size_t i = segment_at(f, at, high, &end);
		if (i == f->n_segments) {
			range_add_bare(l, zero + at, zero + end);
			continue;
		}
		range_add(l, &(struct unwind_range){
				     .start = zero + at,
				     .end = zero + end,
				     .bias = zero + f->segments[i].file_offset - f->segments[i].vaddr,
				     .page = f->page,
			     });
	}
}

static int compare_larger(const void *a, const void *b)
{
	const struct unwind_range *x = a, *y = b;
	uint64_t xn = x->end - x->start, yn = y->end - y->start;

	return xn > yn ? -1 : xn < yn;
}

static int compare_start(const void *a, const void *b)
{
	const struct unwind_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void ranges_trim(struct layouts *l)
{
	if (l->n_ranges <= PROCESS_RANGES_MAX)
		return;
	qsort(l->ranges, l->n_ranges, sizeof(*l->ranges), compare_larger);
	l->n_ranges = PROCESS_RANGES_MAX;
	qsort(l->ranges, l->n_ranges, sizeof(*l->ranges), compare_start);
}

/* ---- a process ---- */

static void process_remember(struct layouts *l, struct process *p, uint32_t pid, struct placed *placed, size_t n)
{
	if (p)
		process_forget(l, p); /* and behind all others again */
	p = xcalloc(1, sizeof(*p));
	*p = (struct process){ .pid = pid, .placed = placed, .n = n };
	HASH_ADD(hh, l->processes, pid, sizeof(p->pid), p);
	if (HASH_COUNT(l->processes) > PROCESSES_MAX)
		process_forget(l, l->processes);
}

uint64_t layouts_take(struct layouts *l, uint32_t pid, const struct mappings *maps)
{
	struct process *p;
	struct placed *placed = NULL;
	size_t n = 0, cap = 0, at = 0;

	HASH_FIND(hh, l->processes, &pid, sizeof(pid), p);
	l->n_ranges = 0;
	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->items[i];
		/* Nothing but the kernel's emulation ever runs in [vsyscall]. */
		if (!m->exec || m->start >= m->end || !strcmp(m->path, "[vsyscall]"))
			continue;
		if (!m->inode) {
			mapping_add(l, m, strcmp(m->path, "[vdso]") ? NULL : unwind_take_vdso(l->u));
			continue;
		}
		uint64_t hash = mapping_hash(m);
		const struct unwind_file *f = file_remembered(p, &at, m, hash);
		f = f ? f : file_by_stat(l, pid, m);
		f = f ? f : file_by_open(l, pid, m);
		mapping_add(l, m, f);
		if (!f)
			continue; /* tried again the next time */
		placed = grow_to(placed, &cap, n + 1, sizeof(*placed));
		placed[n++] = (struct placed){ .start = m->start, .mapping = hash, .file = f };
	}
	process_remember(l, p, pid, placed, n);
	ranges_trim(l);
	return unwind_put_ranges(l->u, l->ranges, l->n_ranges);
}
