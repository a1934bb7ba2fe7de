/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the facts come from: glibc malloc/malloc.c and malloc/arena.c of 2.26 to 2.43 (struct malloc_state, struct malloc_chunk, struct _heap_info).
 *
 * main_arena has no symbol, but 127 bins in a row are like nothing else: two words each, both pointing at the bin itself when it is empty. Seen
 * from the bins all versions agree; how far before them the arena begins (104, 112, 24) shows by the ring that the arenas form.
 *
 *   arena:   ... top  last_remainder  bins[254]  binmap  next  next_free  attached  system_mem  max
 *   bins     -16      -8              0                  2048  2056       2064      2072        2080
 *
 *   chunk p: [prev_size, only if the chunk before is free][size | PREV_INUSE 1 | MMAPPED 2 | NON_MAIN 4][user memory ...]
 *   A chunk is in use if the next one has PREV_INUSE; a free one's size stands again at the end of it, as the next one's prev_size.
 *
 * A walk goes from header to header. The process runs meanwhile: where a header makes no sense the walk looks for the next place from where eight
 * chunks in a row do.
 */
#include "collect/glibc_heap.h"

#include <errno.h>
#include <string.h>

#include "util/mem.h"

#define BINS 127
#define BINS_BYTES (BINS * 16u)
#define HALF_MAX 2	  /* an arena has one writer, which moves a chunk from one bin to another */
#define NEXT_OFFSET 2048u /* from the bins, as all below */
#define SYSTEM_MEM_OFFSET 2072u
#define TOP_OFFSET (-16)
#define ARENA_SPAN (SYSTEM_MEM_OFFSET + 16)
#define FLAGS_OFFSET 4u /* from the arena */
#define NONCONTIGUOUS 2u

#define HEAP_MAX (64ull << 20) /* slots of thread arenas */
#define ARENAS_MAX 4096u
#define HEAPS_MAX 65536u
#define USER_END (1ull << 47)

#define PREV_INUSE 1u
#define IS_MMAPPED 2u
#define SIZE_BITS 7u
#define CHUNK_MIN 32u
#define FENCE_BYTES 64u
#define CAPPED UINT32_MAX /* bytes of a request: that or more, of some that ask */
#define SLACK_MAX \
	64u /* of a request: up to 15 to round, CHUNK_MIN that was not worth a split, 16 more where a chunk of CHUNK_MIN was asked for less */

#define WINDOW (256u << 10)
#define SCAN_MAX (64ull << 20)	 /* of one mapping, for main_arena */
#define RUN 8			 /* chunks that have to validate after a torn one */
#define RESYNC_MAX (64ull << 20) /* bytes of one walk that may be looked through for a chunk */

/* --- finding it --- */

static bool is_link(uint64_t w)
{
	return w >= 4096 && w < USER_END && !(w & 15);
}

struct bins_seen {
	unsigned empty; /* point at themselves */
	unsigned half;	/* with one of their words: the process is between two stores */
};

static bool is_bin(const uint64_t *w, uint64_t self, struct bins_seen *seen)
{
	bool first = w[0] == self, second = w[1] == self;

	seen->empty += first && second;
	seen->half += first != second;
	return (first || is_link(w[0])) && (second || is_link(w[1])) && seen->half <= HALF_MAX;
}

/* Are these the 127 bins that lie at `at`? From the last one down: other memory fails at once. */
static bool are_bins(const uint64_t *w, uint64_t at)
{
	struct bins_seen seen = { 0 };

	for (int i = BINS - 1; i >= 0; i--)
		if (!is_bin(w + 2 * i, at + 16u * (unsigned)i - 16, &seen))
			return false;
	return seen.empty > 0;
}

static int word(struct glibc_heap *h, uint64_t addr, uint64_t *ret)
{
	return page_cache_read(h->cache, addr, ret, sizeof(*ret));
}

/* heap_info lies before a thread's arena: 32 bytes until 2.34, 48 from 2.35 on. */
static bool is_thread_arena(const struct glibc_heap *h, uint64_t arena)
{
	uint64_t offset = arena & (HEAP_MAX - 1);

	return (offset == 32 || offset == 48) && mappings_find(h->maps, arena);
}

/* Does the ring of arenas close if the bins are that far behind the arena's start? */
static bool is_ring(struct glibc_heap *h)
{
	uint64_t at = h->main_arena;

	for (unsigned i = 0; i < ARENAS_MAX; i++) {
		if (word(h, at + h->bins + NEXT_OFFSET, &at))
			return false;
		if (at == h->main_arena)
			return true;
		if (!is_thread_arena(h, at))
			return false;
	}
	return false;
}

/* The heap may have grown since the mappings were read: top is memory that can be read, and max follows system_mem a moment later. */
static bool has_top(struct glibc_heap *h)
{
	uint64_t top = 0, size = 0, mem[2] = { 0, 0 };
	uint64_t bins = h->main_arena + h->bins;

	return !word(h, bins + (uint64_t)TOP_OFFSET, &top) && is_link(top) && !word(h, top + 8, &size) &&
	       (size & ~(uint64_t)SIZE_BITS) >= CHUNK_MIN &&
	       !page_cache_read(h->cache, bins + SYSTEM_MEM_OFFSET, mem, sizeof(mem)) && mem[0] && mem[1];
}

static bool is_main_arena(struct glibc_heap *h, uint64_t bins)
{
	static const uint32_t before[] = { 112, 104, 24 }; /* 2.27-2.42, 2.26, 2.43 */

	for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
		h->bins = before[i];
		h->main_arena = bins - before[i];
		if (is_ring(h) && has_top(h))
			return true;
	}
	return false;
}

static bool scan_mapping(struct glibc_heap *h, const struct mapping *m)
{
	uint64_t at = m->start, end = m->end - m->start > SCAN_MAX ? m->start + SCAN_MAX : m->end;

	while (at + BINS_BYTES <= end) {
		size_t n = end - at < WINDOW ? (size_t)(end - at) : WINDOW;
		int got = h->memory->read(h->memory->ctx, at, h->window, n);
		if (got < (int)BINS_BYTES)
			return false;
		for (size_t i = 0; i + BINS_BYTES <= (size_t)got; i += 8)
			if (are_bins((const uint64_t *)(const void *)(h->window + i), at + i) &&
			    is_main_arena(h, at + i))
				return true;
		at += ((size_t)got - BINS_BYTES + 8) & ~7ull;
	}
	return false;
}

/* Initialised and zeroed data of a file: the second lies behind the first, without a name. */
static bool is_data(const struct mappings *maps, size_t i)
{
	const struct mapping *m = &maps->items[i];

	if (!m->read || !m->write || m->shared)
		return false;
	return m->inode || (i && maps->items[i - 1].inode && maps->items[i - 1].end == m->start);
}

static bool find_arena(struct glibc_heap *h)
{
	for (int libc_first = 1; libc_first >= 0; libc_first--)
		for (size_t i = 0; i < h->maps->n; i++) {
			const struct mapping *m = &h->maps->items[i];
			const struct mapping *file = m->inode || !i ? m : m - 1;
			bool libc = strstr(file->path, "/libc.so") || strstr(file->path, "/libc-");
			if (libc == libc_first && is_data(h->maps, i) && scan_mapping(h, m))
				return true;
		}
	return false;
}

static bool memo_holds(struct glibc_heap *h, const struct heap_memo *memo)
{
	uint64_t bins[2 * BINS];

	if (!memo->glibc_bins)
		return false;
	h->main_arena = memo->glibc_arena;
	h->bins = memo->glibc_bins;
	return !page_cache_read(h->cache, h->main_arena + h->bins, bins, sizeof(bins)) &&
	       are_bins(bins, h->main_arena + h->bins) && is_ring(h);
}

int glibc_open(const struct memory *m, const struct mappings *maps, struct heap_memo *memo, struct occupied_figures *f,
	       struct glibc_heap *ret)
{
	struct glibc_heap h = { .memory = m, .maps = maps, .figures = f };

	h.cache = page_cache_new(m);
	h.window = xcalloc(1, WINDOW);
	if (!memo_holds(&h, memo) && !find_arena(&h)) {
		glibc_done(&h);
		return -ENOTSUP;
	}
	if (memo->glibc_arena != h.main_arena)
		memo->glibc_start = 0;
	memo->glibc_arena = h.main_arena;
	memo->glibc_bins = h.bins;
	*ret = h;
	return 0;
}

void glibc_done(struct glibc_heap *h)
{
	page_cache_free(h->cache);
	free(h->window);
	free(h->tcaches);
	memset(h, 0, sizeof(*h));
}

/* --- segments --- */

struct segments {
	struct glibc_segment *items;
	size_t n, cap;
};

static void add_segment(struct segments *s, struct glibc_segment seg)
{
	if (seg.start >= seg.end || seg.end > USER_END)
		return;
	s->items = grow_to(s->items, &s->cap, s->n + 1, sizeof(*s->items));
	s->items[s->n++] = seg;
}

/*
 * The main arena's segment ends where its top ends and is system_mem long. It grows and shrinks while we look, since the mappings were read too: what
 * lies behind the last mapping before it is that one, grown. Its start, which never moves while it is contiguous, is kept once it was seen to fit.
 */
static void main_segment(struct glibc_heap *h, struct heap_memo *memo, struct segments *s)
{
	uint64_t bins = h->main_arena + h->bins, top = 0, size = 0, mem = 0;
	uint32_t flags = 0;

	if (word(h, bins + (uint64_t)TOP_OFFSET, &top) || word(h, top + 8, &size) ||
	    word(h, bins + SYSTEM_MEM_OFFSET, &mem) ||
	    page_cache_read(h->cache, h->main_arena + FLAGS_OFFSET, &flags, sizeof(flags)))
		return;
	const struct mapping *m = mappings_before(h->maps, top);
	if (!m || !m->write)
		return;
	uint64_t room = m + 1 < h->maps->items + h->maps->n ? m[1].start : USER_END;
	struct glibc_segment seg = { .arena = h->main_arena, .end = top + (size & ~(uint64_t)SIZE_BITS), .top = top };
	seg.start = (seg.end - mem + 15) & ~15ull;
	if (flags & NONCONTIGUOUS || seg.end > room || seg.start < m->start || seg.start > top) {
		/* Several pieces, or torn: what lies before the top in its own mapping can be found. */
		seg.torn = !(memo->glibc_start >= m->start && memo->glibc_start < top);
		if (seg.torn && m->end <= top)
			return; /* in a mapping that came since */
		seg.start = seg.torn ? m->start : memo->glibc_start;
		seg.end = seg.end > room || seg.end <= top ? (m->end > top ? m->end : top + CHUNK_MIN) : seg.end;
	} else if (!memo->glibc_start) {
		memo->glibc_start = seg.start;
	}
	add_segment(s, seg);
}

struct heap_info {
	uint64_t arena, prev, size, mprotect_size;
};

static uint64_t first_chunk(const struct glibc_heap *h, uint64_t slot, uint64_t arena)
{
	/* sizeof(struct malloc_state): what follows the bins is the same in all versions. */
	uint64_t info = arena & (HEAP_MAX - 1), arena_bytes = h->bins + SYSTEM_MEM_OFFSET + 16;

	return (arena & ~(HEAP_MAX - 1)) == slot ? slot + ((info + arena_bytes + 15) & ~15ull) : slot + info;
}

static void thread_segments(struct glibc_heap *h, uint64_t arena, struct segments *s)
{
	uint64_t top = 0;

	if (word(h, arena + h->bins + (uint64_t)TOP_OFFSET, &top) || !is_link(top))
		return;
	uint64_t slot = top & ~(HEAP_MAX - 1);
	for (unsigned i = 0; slot && i < HEAPS_MAX / 16; i++) {
		struct heap_info info;
		if (page_cache_read(h->cache, slot, &info, sizeof(info)) || info.arena != arena ||
		    info.size > HEAP_MAX || info.prev & (HEAP_MAX - 1))
			return;
		add_segment(s, (struct glibc_segment){ .arena = arena,
						       .start = first_chunk(h, slot, arena),
						       .end = slot + info.size,
						       .top = i ? 0 : top });
		slot = info.prev;
	}
}

int glibc_segments(struct glibc_heap *h, struct heap_memo *memo, struct glibc_segment **ret, size_t *ret_n)
{
	struct segments s = { 0 };
	uint64_t arena = h->main_arena;

	main_segment(h, memo, &s);
	for (unsigned i = 0; i < ARENAS_MAX && s.n < HEAPS_MAX; i++) {
		if (word(h, arena + h->bins + NEXT_OFFSET, &arena) || arena == h->main_arena ||
		    !is_thread_arena(h, arena))
			break;
		thread_segments(h, arena, &s);
	}
	*ret = s.items;
	*ret_n = s.n;
	return 0;
}

/* --- chunks --- */

struct header {
	uint64_t prev_size, size;
};

/* Bytes of the segment by way of the window, which moves on with the walk. */
static bool window_read(struct glibc_heap *h, const struct glibc_segment *s, uint64_t addr, void *to, size_t n)
{
	if (addr < h->window_at || addr + n > h->window_at + h->window_bytes) {
		size_t want = s->end - addr < WINDOW ? (size_t)(s->end - addr) : WINDOW;
		int got = h->memory->read(h->memory->ctx, addr, h->window, want);
		h->window_at = addr;
		h->window_bytes = got < 0 ? 0 : (uint64_t)got;
	}
	if (addr + n > h->window_at + h->window_bytes)
		return false;
	memcpy(to, h->window + (addr - h->window_at), n);
	return true;
}

struct chunk {
	uint64_t addr, size;
	bool used, is_last; /* last: the fence at the end of a segment follows */
};

/* A chunk whose header and whose neighbour's agree. */
static bool chunk_at(struct glibc_heap *h, const struct glibc_segment *s, uint64_t addr, struct chunk *ret)
{
	struct header own, next;

	if (addr + sizeof(own) > s->end || !window_read(h, s, addr, &own, sizeof(own)))
		return false;
	uint64_t size = own.size & ~(uint64_t)SIZE_BITS;
	if (size < CHUNK_MIN || size & 15 || own.size & IS_MMAPPED || size > s->end - addr)
		return false;
	uint64_t after = addr + size;
	if (after == s->end) {
		/* Only the top ends with its segment. */
		*ret = (struct chunk){ .addr = addr, .size = size, .is_last = true };
		return addr == s->top;
	}
	if (after + sizeof(next) > s->end || !window_read(h, s, after, &next, sizeof(next)))
		return false;
	uint64_t next_size = next.size & ~(uint64_t)SIZE_BITS;
	bool fence = s->end - after <= FENCE_BYTES && next_size <= CHUNK_MIN;
	if (!fence && (next_size < CHUNK_MIN || next_size & 15 || next.size & IS_MMAPPED || next_size > s->end - after))
		return false;
	bool used = next.size & PREV_INUSE;
	*ret = (struct chunk){ .addr = addr, .size = size, .used = used, .is_last = fence };
	return used || next.prev_size == size;
}

static bool run_at(struct glibc_heap *h, const struct glibc_segment *s, uint64_t addr)
{
	struct chunk c;

	for (int i = 0; i < RUN; i++) {
		if (addr == s->top)
			return true;
		if (!chunk_at(h, s, addr, &c))
			return false;
		if (c.is_last)
			return true;
		addr += c.size;
	}
	return true;
}

/* The next place from where chunks validate, at or behind `from`; the segment's end if there is none. */
static uint64_t resync(struct glibc_heap *h, const struct glibc_segment *s, uint64_t from, uint64_t *left)
{
	uint64_t at = (from + 15) & ~15ull;

	h->figures->resyncs++;
	for (; at + CHUNK_MIN <= s->end && *left >= 16; at += 16, *left -= 16) {
		struct header own;
		if (!window_read(h, s, at, &own, sizeof(own))) {
			at += 4096 - 16 - at % 4096; /* not mapped (any more) */
			continue;
		}
		uint64_t size = own.size & ~(uint64_t)SIZE_BITS;
		if (at == s->top || (size >= CHUNK_MIN && !(own.size & IS_MMAPPED) && !(size & 15) &&
				     size <= s->end - at && run_at(h, s, at)))
			return at;
	}
	return s->end;
}

/*
 * tcache: a struct of its own chunk size per version, in the heap. Its entries carry the in-use bit as chunks that the program has, so only its
 * lists tell.
 */
#define TCACHE_BINS 64
#define TCACHE_MAX 1024u	/* structs */
#define TCACHE_CHAIN_MAX 65536u /* a tunable can make a list that long */
#define TCACHE_TRIES 3

struct glibc_tcache {
	uint64_t heads; /* address of the array */
	uint64_t key;	/* of entries whose links are plain; 0: they have none */
	uint64_t head[TCACHE_BINS];
};

struct tcache_layout {
	uint32_t chunk, heads;
	bool keyed; /* an entry's second word is the struct's address, until it is handed out (2.29-2.33, of which 2.32 and 2.33 mangle links) */
};
static const struct tcache_layout tcache_layouts[] = {
	{ 0x250, 64, false },  /* 2.26-2.29 */
	{ 0x290, 128, true },  /* 2.30-2.41 */
	{ 0x300, 152, false }, /* 2.42, 2.43 */
	{ 0x310, 152, false },
};

static void meet_tcache(struct glibc_heap *h, const struct glibc_segment *s, uint64_t chunk, uint64_t size)
{
	struct glibc_tcache t;
	unsigned lists = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tcache_layouts); i++) {
		if (tcache_layouts[i].chunk != size || h->n_tcaches >= TCACHE_MAX)
			continue;
		t.heads = chunk + 16 + tcache_layouts[i].heads;
		t.key = tcache_layouts[i].keyed ? chunk + 16 : 0;
		if (!window_read(h, s, t.heads, t.head, sizeof(t.head)))
			return;
		for (int k = 0; k < TCACHE_BINS; k++) {
			if (t.head[k] && !is_link(t.head[k]))
				return;
			lists += t.head[k] != 0;
		}
		if (!lists)
			return;
		h->tcaches = grow_to(h->tcaches, &h->cap_tcaches, h->n_tcaches + 1, sizeof(*h->tcaches));
		h->tcaches[h->n_tcaches++] = t;
	}
}

void glibc_walk(struct glibc_heap *h, const struct glibc_segment *s, uint64_t from, uint64_t to,
		const struct glibc_visitor *v)
{
	uint64_t at = from < s->start ? s->start : from, left = RESYNC_MAX;
	struct chunk c;
	bool sure = !s->torn && at == s->start;

	h->window_bytes = 0;
	if (to > s->end)
		to = s->end;
	if (!sure)
		at = resync(h, s, at, &left);
	while (at < to) {
		if (at == s->top) {
			v->top(v->ctx, at, s->end);
			return;
		}
		if (!chunk_at(h, s, at, &c)) {
			uint64_t again = resync(h, s, at + 16, &left);
			h->figures->skipped_bytes += again - at;
			at = again;
			sure = false;
			continue;
		}
		h->figures->chunks++;
		if (c.used)
			meet_tcache(h, s, c.addr, c.size);
		v->chunk(v->ctx, c.addr, c.size, c.used, sure);
		if (c.is_last)
			return;
		at += c.size;
	}
}

/* --- free chunks that look as if in use --- */

#define LINK_OFFSET 16u /* of a link in its chunk */

struct list {
	uint64_t head, chunk_size;
	uint32_t points; /* where in a chunk links point to */
	bool mangled;	 /* 2.32 on: a link is stored as link ^ (its own address >> 12) */
	bool quick;	 /* changes all the time: nothing of it is read from pages that are kept */
	uint64_t
		key; /* behind each link; 0: nothing certain. What the program links in its own blocks looks like a list else */
};

static bool link_read(struct glibc_heap *h, const struct list *l, uint64_t chunk, uint64_t ret[3])
{
	int n = 3 * sizeof(*ret);

	return l->quick ? h->memory->read(h->memory->ctx, chunk + 8, ret, (size_t)n) == n
			: !page_cache_read(h->cache, chunk + 8, ret, (size_t)n);
}

/* Its length if every entry is a chunk of the list's size and it ends; -1. Tells each entry's user address if asked. */
static long follow_list(struct glibc_heap *h, const struct list *l, void (*entry)(void *ctx, uint64_t user), void *ctx)
{
	uint64_t at = l->head;
	uint32_t n = 0;

	for (; at; n++) {
		uint64_t chunk = at - l->points, words[3]; /* size, link, key */
		if (n >= TCACHE_CHAIN_MAX || !is_link(at) || !link_read(h, l, chunk, words) ||
		    (words[0] & ~(uint64_t)SIZE_BITS) != l->chunk_size || (l->key && words[2] != l->key))
			return -1;
		if (entry)
			entry(ctx, chunk + 16);
		at = l->mangled ? words[1] ^ ((chunk + LINK_OFFSET) >> 12) : words[1];
	}
	return n;
}

static struct list tcache_list(const struct glibc_tcache *t, uint32_t j, bool mangled)
{
	return (struct list){ t->head[j], CHUNK_MIN + 16 * j, 16, mangled, true, mangled ? 0 : t->key };
}

/* How many lists are sound; which way links are written shows by which reading finds more of them so. */
static unsigned sound_lists(struct glibc_heap *h, const struct glibc_tcache *t, bool mangled)
{
	unsigned sound = 0;

	for (uint32_t j = 0; j < TCACHE_BINS; j++) {
		struct list l = tcache_list(t, j, mangled);
		sound += l.head && follow_list(h, &l, NULL, NULL) > 0;
	}
	return sound;
}

/* A list that its thread changes under our eyes is read anew. */
static void tcache_list_entries(struct glibc_heap *h, struct glibc_tcache *t, uint32_t j, bool mangled,
				void (*entry)(void *ctx, uint64_t user), void *ctx)
{
	for (int tries = 0; tries < TCACHE_TRIES; tries++) {
		struct list l = tcache_list(t, j, mangled);
		if (!l.head)
			return;
		if (follow_list(h, &l, NULL, NULL) > 0) {
			(void)follow_list(h, &l, entry, ctx); /* sound a moment ago */
			return;
		}
		if (h->memory->read(h->memory->ctx, t->heads + 8 * j, &t->head[j], 8) != 8)
			return;
	}
}

static void tcache_entries(struct glibc_heap *h, struct glibc_tcache *t, void (*entry)(void *ctx, uint64_t user),
			   void *ctx)
{
	unsigned lists = 0;

	if (h->memory->read(h->memory->ctx, t->heads, t->head, sizeof(t->head)) != sizeof(t->head))
		return;
	unsigned plain = sound_lists(h, t, false), mangled = sound_lists(h, t, true);
	for (uint32_t j = 0; j < TCACHE_BINS; j++)
		lists += t->head[j] != 0;
	/* A struct that its thread changes while we read has lists that do not fit. Other memory has none that does. */
	if ((plain > mangled ? plain : mangled) * 2 < lists)
		return;
	for (uint32_t j = 0; j < TCACHE_BINS; j++)
		tcache_list_entries(h, t, j, mangled > plain, entry, ctx);
}

#define FASTBINS 10u

static void fastbin_entries(struct glibc_heap *h, uint64_t arena, void (*entry)(void *ctx, uint64_t user), void *ctx)
{
	uint64_t heads[FASTBINS];

	/* They end where top begins; 2.43 has none. */
	if (h->bins == 24 || page_cache_read(h->cache, arena + h->bins - 16 - sizeof(heads), heads, sizeof(heads)))
		return;
	for (uint32_t j = 0; j < FASTBINS; j++)
		for (int mangled = 0; mangled < 2; mangled++) {
			struct list l = { heads[j], CHUNK_MIN + 16 * j, 0, mangled, false, 0 };
			if (l.head && follow_list(h, &l, NULL, NULL) > 0)
				(void)follow_list(h, &l, entry, ctx); /* sound a moment ago, in the same pages */
		}
}

void glibc_cached(struct glibc_heap *h, void (*entry)(void *ctx, uint64_t user), void *ctx)
{
	uint64_t arena = h->main_arena;

	for (size_t i = 0; i < h->n_tcaches; i++)
		tcache_entries(h, &h->tcaches[i], entry, ctx);
	for (unsigned i = 0; i < ARENAS_MAX; i++) {
		fastbin_entries(h, arena, entry, ctx);
		if (word(h, arena + h->bins + NEXT_OFFSET, &arena) || arena == h->main_arena ||
		    !is_thread_arena(h, arena))
			return;
	}
}

/*
 * malloc and realloc split a chunk as soon as what is left makes a chunk itself (MINSIZE 32), memalign when it is more than that. pvalloc and libstdc++'s
 * aligned operator new round a request up to its alignment, which the address shows. (2.42 with the tunable tcache_max above 1032 hands out what is
 * larger by up to twice; not by default.)
 */
bool glibc_chunk_fits(uint64_t size, uint64_t user, uint64_t bytes)
{
	uint64_t usable = size - 8, alignment = user & -user;

	return usable >= bytes && (bytes >= CAPPED || usable < ((bytes + alignment - 1) & -alignment) + SLACK_MAX);
}

bool glibc_mapping_fits(uint64_t usable, uint64_t user, uint64_t bytes)
{
	return usable >= bytes && (bytes >= CAPPED || usable / 2 <= bytes + 4096 + (user & -user));
}

bool glibc_header_fits(struct glibc_heap *h, uint64_t user, uint64_t bytes)
{
	struct header own, next;

	if (user < 16 || page_cache_read(h->cache, user - 16, &own, sizeof(own)))
		return true; /* not known to be otherwise */
	uint64_t size = own.size & ~(uint64_t)SIZE_BITS;
	if (size < CHUNK_MIN || size & 15 || own.size & IS_MMAPPED || size >= USER_END ||
	    !glibc_chunk_fits(size, user, bytes))
		return false;
	return page_cache_read(h->cache, user - 16 + size, &next, sizeof(next)) || next.size & PREV_INUSE;
}

int glibc_mapped_chunk(struct glibc_heap *h, uint64_t user, uint64_t *ret_usable)
{
	uint64_t p = user - 16;
	struct header own;
	int err = user < 16 ? -EFAULT : page_cache_read(h->cache, p, &own, sizeof(own));

	if (err)
		return err;
	uint64_t size = own.size & ~(uint64_t)SIZE_BITS, offset = h->bins == 24 ? own.prev_size & ~1ull : own.prev_size;
	uint64_t end = h->bins == 24 ? offset + size + 16 : offset + size;
	if ((own.size & SIZE_BITS) != IS_MMAPPED || size < CHUNK_MIN || size >= USER_END || offset > p || end % 4096 ||
	    (p - offset) % 4096)
		return 0;
	*ret_usable = end - offset - 16; /* to the mapping's end */
	return 1;
}
