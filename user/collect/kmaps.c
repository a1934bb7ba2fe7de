/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/kmaps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "util/mem.h"

#define BATCH_FIRST 1024

void kmap_reader_done(struct kmap_reader *r)
{
	free(r->keys);
	free(r->values);
}

static void room_for(struct kmap_reader *r, size_t n, size_t key_bytes, size_t value_bytes)
{
	r->keys = grow_to(r->keys, &r->bytes_keys, n * key_bytes, 1);
	r->values = grow_to(r->values, &r->bytes_values, n * value_bytes, 1);
}

int kmap_each(struct kmap_reader *r, int fd, size_t key_bytes, size_t value_bytes, kmap_fn fn, void *ctx)
{
	uint32_t batch = BATCH_FIRST, position = 0, next = 0;
	bool started = false;
	int seen = 0, err = 0;

	while (!err) {
		uint32_t n = batch;
		room_for(r, n, key_bytes, value_bytes);
		err = bpf_map_lookup_batch(fd, started ? &position : NULL, &next, r->keys, r->values, &n, NULL);
		if (err == -ENOSPC) { /* one bucket holds more than the batch */
			batch *= 2;
			err = 0;
			continue;
		}
		if (err && err != -ENOENT)
			return err;
		for (uint32_t i = 0; i < n; i++)
			fn((char *)r->keys + i * key_bytes, (char *)r->values + i * value_bytes, ctx);
		seen += (int)n;
		position = next;
		started = true;
	}
	return seen;
}

int kmap_percpu_sum(int fd, uint32_t key, uint64_t *ret, size_t n)
{
	int cpus = libbpf_num_possible_cpus();
	if (cpus <= 0)
		return -EINVAL;
	_cleanup_(freep) uint64_t *words = xcalloc((size_t)cpus, n * sizeof(*words));
	int err = bpf_map_lookup_elem(fd, &key, words);

	if (err)
		return err;
	memset(ret, 0, n * sizeof(*ret));
	for (int cpu = 0; cpu < cpus; cpu++)
		for (size_t i = 0; i < n; i++)
			ret[i] += words[(size_t)cpu * n + i];
	return 0;
}
