/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a BPF ring buffer. Keeps its two positions mapped and nothing else: libbpf maps the data twice over for good, and all of it
 * counts as our own resident memory. What the ring holds is mapped while it is read.
 */
#ifndef TIDEMARK_COLLECT_RING_H
#define TIDEMARK_COLLECT_RING_H

#include <stddef.h>
#include <stdint.h>

/* A record; its data is gone after the call. */
typedef void (*ring_fn)(void *ctx, const void *data, size_t bytes);

struct ring_reader;

/* fd: of the map (borrowed, must outlive the ring; poll it for POLLIN). ring_bytes: its size. 0 or -errno. */
int ring_reader_open(int fd, size_t ring_bytes, ring_fn take, void *ctx, struct ring_reader **ret);
void ring_reader_close(struct ring_reader *r);
int ring_reader_fd(const struct ring_reader *r);
/* All that is there at the call: what comes meanwhile, and what can't be mapped now, is read the next time. */
void ring_reader_consume(struct ring_reader *r);

#endif
