/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/kmaps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#include "util/mem.h"

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
