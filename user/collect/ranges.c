/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the picture of what every process has mapped: per process an array of ranges, sorted by address and
 * disjoint, and per (process, stack) the sums of them. Refuses to look at the system: what the events do not say
 * is not known here.
 *
 *	ranges    [start, end) -> booking     sorted; several ranges may hold parts of one booking
 *	booking   what one mapping call got   birth, file or not, bytes still mapped
 *	account   one stack of one process    the sums
 *
 * A booking that a partial munmap has split is still one allocation: it is counted as freed when its last byte
 * goes. Ranges are joined only when they touch and are parts of one booking (after an undo), so no count depends
 * on how often a mapping was cut.
 *
 * munmap and mremap are announced before the kernel acts. The range is taken out at the announcement, because any
 * mapping of another thread at that place comes after it; what was taken is kept as `pending` until the thread's
 * next event, for EVENT_UNDO.
 */
#include "collect/ranges.h"

#include <errno.h>
#include <linux/mman.h>
#include <stdbool.h>
#include <string.h>
#include <uthash.h>

#include "util/mem.h"

#define PAGE_BYTES 4096ull

/*
 * Bounds. A process has at most vm.max_map_count (65,530 by default) kernel areas, but the kernel merges what we
 * keep apart: four calls per area are followed. The pending pieces of all threads together get no more than one
 * process's ranges.
 */
enum { RANGES_MAX = 4 * 65536, PENDING_MAX = 4096, PENDING_PIECES_MAX = RANGES_MAX };

/* Huge pages of MAP_HUGETLB without a size: x86-64 uses 2 MiB unless booted with default_hugepagesz=. */
#define HUGE_SHIFT_DEFAULT 21

struct account {
	struct stack_ids ids; /* ids.id is the key */
	uint32_t tid;
	struct sum sum;
	uint64_t live_bytes, file_live_bytes;
	uint64_t oldest_birth_ns, newest_birth_ns; /* found anew by every ranges_each */
	UT_hash_handle hh;
};

struct booking {
	struct account *account;
	uint64_t birth_ns;
	uint64_t live_bytes;
	uint32_t refs; /* ranges and pending pieces that point here */
	bool is_file;
};

struct range {
	uint64_t start, end;
	struct booking *booking;
};

struct mapped {
	struct proc_key id;
	struct range *v;
	size_t n, cap;
	struct account *accounts; /* uthash */
	struct range_proc figures;
	size_t n_pending;
	bool has_ended; /* the figures are final */
	UT_hash_handle hh;
};

/* What the last announcement of a thread took out. */
struct pending {
	uint32_t tid;
	struct mapped *proc;
	struct range *pieces;
	size_t n, cap;
	uint64_t unmatched_bytes;
	bool is_file; /* of the range that an mremap names */
	UT_hash_handle hh;
};

struct ranges {
	struct mapped *procs;	 /* uthash by id */
	struct pending *pending; /* uthash by tid, oldest announcement first */
	size_t n_pending_pieces;
};

struct span {
	uint64_t start, end;
};

/* ---- bookings ---- */

static void booking_put(struct booking *b)
{
	if (--b->refs == 0)
		free(b);
}

/* `bytes` of the booking are mapped (again). */
static void account_add(struct mapped *p, struct booking *b, uint64_t bytes)
{
	struct account *a = b->account;

	b->live_bytes += bytes;
	a->live_bytes += bytes;
	if (b->is_file)
		a->file_live_bytes += bytes;
	p->figures.live_bytes += bytes;
	if (a->live_bytes > a->sum.peak_live_bytes)
		a->sum.peak_live_bytes = a->live_bytes;
	if (p->figures.live_bytes > p->figures.peak_live_bytes)
		p->figures.peak_live_bytes = p->figures.live_bytes;
}

static void account_sub(struct mapped *p, struct booking *b, uint64_t bytes)
{
	struct account *a = b->account;

	b->live_bytes -= bytes;
	a->live_bytes -= bytes;
	if (b->is_file)
		a->file_live_bytes -= bytes;
	p->figures.live_bytes -= bytes;
	a->sum.free_bytes += bytes;
	if (!b->live_bytes)
		a->sum.free_count++;
}

/* Takes back an account_sub: the kernel did not do it. */
static void account_restore(struct mapped *p, struct booking *b, uint64_t bytes)
{
	struct account *a = b->account;

	if (!b->live_bytes)
		a->sum.free_count--;
	a->sum.free_bytes -= bytes;
	account_add(p, b, bytes);
}

static struct account *account_of(struct mapped *p, const struct event *e)
{
	struct account *a;

	HASH_FIND(hh, p->accounts, &e->map.ids.id, sizeof(e->map.ids.id), a);
	if (a)
		return a;
	a = xcalloc(1, sizeof(*a));
	a->ids = e->map.ids;
	a->tid = e->tid;
	HASH_ADD(hh, p->accounts, ids.id, sizeof(a->ids.id), a);
	return a;
}

/* ---- the sorted array ---- */

/* Index of the first range that ends after `addr`. */
static size_t range_at(const struct mapped *p, uint64_t addr)
{
	size_t lo = 0, hi = p->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->v[mid].end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Replaces `n_old` ranges at `i` by the `n_new` given ones. */
static void splice(struct mapped *p, size_t i, size_t n_old, const struct range *new, size_t n_new)
{
	p->v = grow_to(p->v, &p->cap, p->n - n_old + n_new, sizeof(*p->v));
	memmove(p->v + i + n_new, p->v + i + n_old, (p->n - i - n_old) * sizeof(*p->v));
	for (size_t k = 0; k < n_new; k++)
		p->v[i + k] = new[k];
	p->n = p->n - n_old + n_new;
}

/* Puts a range where nothing is; takes a reference of its booking unless it joins a neighbour. */
static void range_put(struct mapped *p, struct range r)
{
	size_t i = range_at(p, r.start), first = i, n_old = 0;
	struct booking *b = r.booking;

	if (i > 0 && p->v[i - 1].end == r.start && p->v[i - 1].booking == b) {
		first = i - 1;
		r.start = p->v[first].start;
		n_old++;
	}
	if (i < p->n && p->v[i].start == r.end && p->v[i].booking == b) {
		r.end = p->v[i].end;
		n_old++;
	}
	b->refs = b->refs + 1 - (uint32_t)n_old;
	splice(p, first, n_old, &r, 1);
}

static void pending_push(struct ranges *r, struct pending *u, struct range piece)
{
	u->pieces = grow_to(u->pieces, &u->cap, u->n + 1, sizeof(*u->pieces));
	u->pieces[u->n++] = piece;
	piece.booking->refs++;
	r->n_pending_pieces++;
}

/* Takes [s.start, s.end) out, keeps what was there in `u` (NULL: for good). Returns the bytes that were there. */
static uint64_t take(struct ranges *r, struct mapped *p, struct span s, struct pending *u)
{
	size_t first = range_at(p, s.start), i = first, n_rest = 0;
	struct range rest[2];
	uint64_t taken = 0;

	for (; i < p->n && p->v[i].start < s.end; i++) {
		struct range whole = p->v[i], piece = whole;

		if (whole.start < s.start) {
			piece.start = s.start;
			rest[n_rest++] = (struct range){ whole.start, s.start, whole.booking };
			whole.booking->refs++;
		}
		if (whole.end > s.end) {
			piece.end = s.end;
			rest[n_rest++] = (struct range){ s.end, whole.end, whole.booking };
			whole.booking->refs++;
		}
		account_sub(p, piece.booking, piece.end - piece.start);
		taken += piece.end - piece.start;
		if (u)
			pending_push(r, u, piece);
		booking_put(whole.booking);
	}
	if (i > first)
		splice(p, first, i - first, rest, n_rest);
	return taken;
}

/* Puts a taken piece back, but for what another thread has mapped over it since. */
static void give_back(struct mapped *p, const struct range *piece)
{
	uint64_t at = piece->start;

	while (at < piece->end) {
		size_t i = range_at(p, at);
		uint64_t next = i < p->n && p->v[i].start < piece->end ? p->v[i].start : piece->end;

		if (next > at) {
			range_put(p, (struct range){ at, next, piece->booking });
			account_restore(p, piece->booking, next - at);
			at = next;
		} else {
			at = p->v[i].end;
		}
	}
}

/* ---- announcements ---- */

static void pending_drop(struct ranges *r, struct pending *u)
{
	for (size_t i = 0; i < u->n; i++)
		booking_put(u->pieces[i].booking);
	r->n_pending_pieces -= u->n;
	u->proc->n_pending--;
	HASH_DEL(r->pending, u);
	free(u->pieces);
	free(u);
}

static struct pending *pending_of(struct ranges *r, const struct event *e)
{
	struct pending *u;

	HASH_FIND(hh, r->pending, &e->tid, sizeof(e->tid), u);
	return u;
}

static struct pending *pending_new(struct ranges *r, struct mapped *p, uint32_t tid)
{
	struct pending *u = xcalloc(1, sizeof(*u));

	u->tid = tid;
	u->proc = p;
	p->n_pending++;
	HASH_ADD(hh, r->pending, tid, sizeof(u->tid), u);
	return u;
}

/*
 * Beyond the bounds the oldest announcements count as done: nearly all are, and their threads were silent for
 * longest.
 */
static void pending_trim(struct ranges *r, const struct pending *keep)
{
	while (r->pending != keep && (HASH_COUNT(r->pending) > PENDING_MAX || r->n_pending_pieces > PENDING_PIECES_MAX))
		pending_drop(r, r->pending);
}

/* ---- processes ---- */

static struct mapped *proc_find(const struct ranges *r, const struct proc_key *id)
{
	struct mapped *p;

	HASH_FIND(hh, r->procs, id, sizeof(*id), p);
	return p;
}

/* NULL: it has ended. */
static struct mapped *proc_get(struct ranges *r, const struct proc_key *id)
{
	struct mapped *p = proc_find(r, id);

	if (p)
		return p->has_ended ? NULL : p;
	p = xcalloc(1, sizeof(*p));
	p->id = *id;
	HASH_ADD(hh, r->procs, id, sizeof(p->id), p);
	return p;
}

static void proc_drop_pending(struct ranges *r, struct mapped *p)
{
	struct pending *u, *next;

	if (!p->n_pending)
		return;
	HASH_ITER(hh, r->pending, u, next) {
		if (u->proc == p)
			pending_drop(r, u);
	}
}

static void proc_end(struct ranges *r, const struct proc_key *id)
{
	struct mapped *p = proc_find(r, id);

	if (!p)
		return;
	proc_drop_pending(r, p);
	p->has_ended = true;
}

static void proc_free(struct ranges *r, struct mapped *p)
{
	struct account *a, *next;

	proc_drop_pending(r, p);
	for (size_t i = 0; i < p->n; i++)
		booking_put(p->v[i].booking);
	HASH_ITER(hh, p->accounts, a, next) {
		HASH_DEL(p->accounts, a);
		free(a);
	}
	HASH_DEL(r->procs, p);
	free(p->v);
	free(p);
}

/* ---- events ---- */

/* The kernel refuses an address that is not on a page, a length of 0 and a range that wraps. */
static bool span_of(uint64_t addr, uint64_t bytes, unsigned int shift, struct span *ret)
{
	uint64_t unit = 1ull << shift;
	uint64_t len = (bytes + unit - 1) & ~(unit - 1);

	if (addr % PAGE_BYTES || !bytes || len < bytes || addr + len < addr)
		return false;
	*ret = (struct span){ addr, addr + len };
	return true;
}

static unsigned int page_shift(const struct event *e)
{
	unsigned int shift = e->map.mmap_flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK;

	if (!(e->map.mmap_flags & MAP_HUGETLB))
		return 12;
	return shift >= 12 && shift < 48 ? shift : HUGE_SHIFT_DEFAULT;
}

static void book(struct ranges *r, struct mapped *p, struct span s, const struct event *e, bool is_file)
{
	struct account *a = account_of(p, e);
	uint64_t bytes = s.end - s.start;
	struct booking *b;

	(void)take(r, p, s, NULL); /* MAP_FIXED, or an unmapping that was not seen: either way it is gone */
	a->sum.alloc_bytes += bytes;
	a->sum.alloc_count++;
	if (p->n >= RANGES_MAX) {
		a->sum.untracked_bytes += bytes;
		a->sum.untracked_count++;
		return;
	}
	b = xcalloc(1, sizeof(*b));
	b->account = a;
	b->birth_ns = e->ts_ns;
	b->is_file = is_file;
	account_add(p, b, bytes);
	range_put(p, (struct range){ s.start, s.end, b });
}

static void announce(struct ranges *r, struct mapped *p, const struct event *e, uint64_t addr, uint64_t bytes)
{
	struct pending *u = pending_new(r, p, e->tid);
	size_t i = range_at(p, addr);
	struct span s;

	u->is_file = i < p->n && p->v[i].start <= addr && p->v[i].booking->is_file;
	if (!span_of(addr, bytes, 12, &s))
		return;
	u->unmatched_bytes = s.end - s.start - take(r, p, s, u);
	p->figures.unmatched_bytes += u->unmatched_bytes;
	pending_trim(r, u);
}

static void on_mmap(struct ranges *r, struct mapped *p, const struct event *e)
{
	bool is_file = e->map.fd >= 0 && !(e->map.mmap_flags & MAP_ANONYMOUS);
	struct span s;

	if (span_of(e->map.addr, e->map.bytes, page_shift(e), &s))
		book(r, p, s, e, is_file);
}

static void on_munmap(struct ranges *r, struct mapped *p, const struct event *e)
{
	announce(r, p, e, e->map.addr, e->map.bytes);
}

/*
 * old_bytes 0 makes a second view of a shared mapping, MREMAP_DONTUNMAP leaves an empty mapping behind: the old
 * range stays.
 */
static void on_mremap(struct ranges *r, struct mapped *p, const struct event *e)
{
	bool stays = e->map.mmap_flags & MREMAP_DONTUNMAP;

	announce(r, p, e, e->map.old_addr, stays ? 0 : e->map.old_bytes);
}

/*
 * The new place is an allocation of its full size, as with realloc. What it maps is what the old place mapped; of
 * a mapping from before the attach that is not known and it counts as anonymous.
 */
static void on_mremap_done(struct ranges *r, struct mapped *p, const struct event *e)
{
	const struct pending *u = pending_of(r, e);
	bool is_file = u && u->proc == p && u->is_file;
	struct span s;

	if (span_of(e->map.addr, e->map.bytes, 12, &s))
		book(r, p, s, e, is_file);
}

static void on_undo(struct ranges *r, struct mapped *p, const struct event *e)
{
	const struct pending *u = pending_of(r, e);

	if (!u || u->proc != p)
		return;
	for (size_t i = 0; i < u->n; i++)
		give_back(p, &u->pieces[i]);
	p->figures.unmatched_bytes -= u->unmatched_bytes;
}

/* The kernel keeps the end to the byte, but maps whole pages. */
static void on_brk(struct ranges *r, struct mapped *p, const struct event *e)
{
	uint64_t old_end = (e->map.old_addr + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	uint64_t new_end = (e->map.addr + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);

	if (!old_end || !new_end)
		return;
	if (new_end > old_end)
		book(r, p, (struct span){ old_end, new_end }, e, false);
	else if (new_end < old_end)
		p->figures.unmatched_bytes += old_end - new_end - take(r, p, (struct span){ new_end, old_end }, NULL);
}

static void step_map(struct ranges *r, const struct event *e)
{
	static void (*const on[EVENT_NR])(struct ranges *, struct mapped *, const struct event *) = {
		[EVENT_MMAP] = on_mmap,	    [EVENT_MUNMAP] = on_munmap,
		[EVENT_MREMAP] = on_mremap, [EVENT_MREMAP_DONE] = on_mremap_done,
		[EVENT_UNDO] = on_undo,	    [EVENT_BRK] = on_brk,
	};
	struct pending *before = pending_of(r, e);
	struct mapped *p = proc_get(r, &e->id);

	if (!p)
		return;
	if (e->kind == EVENT_UNDO || e->kind == EVENT_MREMAP_DONE) {
		on[e->kind](r, p, e);
		if (before)
			pending_drop(r, before);
		return;
	}
	if (before)
		pending_drop(r, before); /* the thread went on: its last announcement was carried out */
	on[e->kind](r, p, e);
}

void ranges_step(struct ranges *r, const struct event *e)
{
	if (e->kind >= EVENT_MMAP && e->kind <= EVENT_BRK)
		step_map(r, e);
	/* A vfork child works in its parent's memory and account: its exec and its exit leave that as it is. */
	else if (e->kind == EVENT_EXEC && e->life.other.pid == e->id.pid)
		proc_end(r, &e->life.other);
	else if (e->kind == EVENT_EXIT && !(e->final.flags & PROC_BORROWS_MM))
		proc_end(r, &e->id);
}

/* ---- reading ---- */

static void find_births(const struct mapped *p)
{
	struct account *a, *next;

	HASH_ITER(hh, p->accounts, a, next)
		a->oldest_birth_ns = a->newest_birth_ns = 0;
	for (size_t i = 0; i < p->n; i++) {
		uint64_t birth = p->v[i].booking->birth_ns;

		a = p->v[i].booking->account;
		if (!a->oldest_birth_ns || birth < a->oldest_birth_ns)
			a->oldest_birth_ns = birth;
		if (birth > a->newest_birth_ns)
			a->newest_birth_ns = birth;
	}
}

void ranges_each(const struct ranges *r, void (*fn)(const struct range_sum *s, void *ctx), void *ctx)
{
	for (const struct mapped *p = r->procs; p; p = p->hh.next) {
		find_births(p);
		for (const struct account *a = p->accounts; a; a = a->hh.next) {
			struct range_sum s = {
				.proc = p->id,
				.ids = a->ids,
				.tid = a->tid,
				.sum = a->sum,
				.file_live_bytes = a->file_live_bytes,
				.oldest_birth_ns = a->oldest_birth_ns,
				.newest_birth_ns = a->newest_birth_ns,
			};
			fn(&s, ctx);
		}
	}
}

void ranges_each_live(const struct ranges *r, const struct proc_key *p,
		      void (*fn)(uint64_t start, uint64_t bytes, uint64_t stack_id, uint64_t birth_ns, void *ctx),
		      void *ctx)
{
	const struct mapped *m = proc_find(r, p);

	for (size_t i = 0; m && i < m->n; i++) {
		const struct range *v = &m->v[i];

		fn(v->start, v->end - v->start, v->booking->account->ids.id, v->booking->birth_ns, ctx);
	}
}

int ranges_proc(const struct ranges *r, const struct proc_key *p, struct range_proc *ret)
{
	const struct mapped *m = proc_find(r, p);

	if (!m)
		return -ENOENT;
	*ret = m->figures;
	return 0;
}

void ranges_forget(struct ranges *r, const struct proc_key *p)
{
	struct mapped *m = proc_find(r, p);

	if (m)
		proc_free(r, m);
}

struct ranges *ranges_new(void)
{
	return xcalloc(1, sizeof(struct ranges));
}

void ranges_free(struct ranges *r)
{
	struct mapped *p, *next;

	if (!r)
		return;
	HASH_ITER(hh, r->procs, p, next)
		proc_free(r, p);
	free(r);
}
