/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading the kernel's maps that are not mapped. */
#ifndef TIDEMARK_COLLECT_KMAPS_H
#define TIDEMARK_COLLECT_KMAPS_H

#include <stddef.h>
#include <stdint.h>

/* Sums a per-CPU element over all CPUs: `n` words of 64 bits into ret. 0 or -errno. */
int kmap_percpu_sum(int fd, uint32_t key, uint64_t *ret, size_t n);

#endif
