/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the kernel's maps: whole tables in batches, with buffers that are kept between intervals.
 */
#ifndef TIDEMARK_COLLECT_KMAPS_H
#define TIDEMARK_COLLECT_KMAPS_H

#include <stddef.h>
#include <stdint.h>

#include "abi.h"

struct kmap_reader {
	void *keys, *values;
	size_t bytes_keys, bytes_values;
};
void kmap_reader_done(struct kmap_reader *r);

typedef void (*kmap_fn)(const void *key, const void *value, void *ctx);

/*
 * Calls back for every element. Elements that come or go meanwhile may be seen or not, the others once. Returns the number of
 * elements or -errno. fn must not change the map.
 */
int kmap_each(struct kmap_reader *r, int fd, size_t key_bytes, size_t value_bytes, kmap_fn fn, void *ctx);

/* Sums a per-CPU element over all CPUs: `n` words of 64 bits into ret. */
int kmap_percpu_sum(int fd, uint32_t key, uint64_t *ret, size_t n);

#endif
