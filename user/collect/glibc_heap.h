/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * glibc's malloc seen from outside, 2.26 to 2.43, without symbols: its arenas, the segments of memory they hold, the chunks of a segment, and the
 * free chunks that look as if in use (tcache, fastbins). Who wants to know something of the heap visits it; nothing is kept.
 */
#ifndef TIDEMARK_COLLECT_GLIBC_HEAP_H
#define TIDEMARK_COLLECT_GLIBC_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collect/occupied.h"

struct glibc_heap {
	const struct memory *memory; /* borrowed, as maps */
	const struct mappings *maps;
	struct page_cache *cache;
	uint64_t main_arena; /* address */
	uint32_t bins;	     /* offset of the bins in an arena: tells the versions apart */
	struct occupied_figures *figures;
	unsigned char *window; /* of a walk */
	uint64_t window_at, window_bytes;
	struct glibc_tcache *tcaches; /* candidates that the walks met */
	size_t n_tcaches, cap_tcaches;
};

/* Finds main_arena, or checks the one of the memo. 0; -ENOTSUP: glibc's malloc was never called in this process. */
int glibc_open(const struct memory *m, const struct mappings *maps, struct heap_memo *memo, struct occupied_figures *f,
	       struct glibc_heap *ret);
void glibc_done(struct glibc_heap *h);

/* A contiguous run of chunks. */
struct glibc_segment {
	uint64_t arena, start, end;
	uint64_t top; /* its last chunk, which is free; 0: the arena's top lies in another segment */
	bool torn;    /* start is not known to be a chunk */
};
/* Of all arenas. *ret is freed by the caller. 0 or -errno. */
int glibc_segments(struct glibc_heap *h, struct heap_memo *memo, struct glibc_segment **ret, size_t *ret_n);

struct glibc_visitor {
	/*
	 * A chunk. User memory is at addr + 16. Chunks in tcache and fastbins are "used" too. sure: the walk has come here from the segment's start
	 * without a break; otherwise old headers within a chunk may have led it astray.
	 */
	void (*chunk)(void *ctx, uint64_t addr, uint64_t size, bool used, bool sure);
	/* The rest of the segment: the top chunk, free. */
	void (*top)(void *ctx, uint64_t from, uint64_t to);
	void *ctx;
};
/* From `from` to `to` of a segment (its own bounds: all). What is torn is passed over and counted: no visit there. */
void glibc_walk(struct glibc_heap *h, const struct glibc_segment *s, uint64_t from, uint64_t to,
		const struct glibc_visitor *v);

/* User addresses of the chunks in the tcaches that the walks met, and in the fastbins of all arenas. */
void glibc_cached(struct glibc_heap *h, void (*entry)(void *ctx, uint64_t user), void *ctx);

/* Can a chunk of this size be the one of a request, or one with a mapping of its own? If not another block took its place, or realloc changed it there. */
bool glibc_chunk_fits(uint64_t size, uint64_t user, uint64_t bytes);
bool glibc_mapping_fits(uint64_t usable, uint64_t user, uint64_t bytes); /* what grew by less than twice does */

/* Does the header before a user address fit a block of these bytes in use? Old headers do, too; that of a live block always does. */
bool glibc_header_fits(struct glibc_heap *h, uint64_t user, uint64_t bytes);

/*
 * Is a chunk with a mapping of its own at this user address? The header tells: flag, and a size that ends on a page (until 2.42 of chunk
 * and offset, from 2.43 with 16 bytes more). 1 yes, 0 no, -errno: can't be read. *ret_usable: bytes that the program
 * may use.
 */
int glibc_mapped_chunk(struct glibc_heap *h, uint64_t user, uint64_t *ret_usable);

#endif
