/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel lets map of a ring (kernel/bpf/ringbuf.c), by page of the file:
 *
 *	0         1         2 ...              2 + n ...            2 + 2n
 *	consumer  producer  data, n pages      the same data again
 *
 * Positions only grow; modulo the size they are places in the data. As the data is there twice, what lies between the two positions
 * is in one piece, whatever place it begins at.
 */
#include "collect/ring.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/mem.h"

struct ring_reader {
	int fd; /* borrowed */
	size_t bytes, page;
	uint64_t *consumer;
	const uint64_t *producer;
	ring_fn take;
	void *ctx;
};

static void *map_page(const struct ring_reader *r, int prot, off_t number)
{
	void *at = mmap(NULL, r->page, prot, MAP_SHARED, r->fd, number * (off_t)r->page);

	return at == MAP_FAILED ? NULL : at;
}

static void ring_reader_closep(struct ring_reader **r)
{
	ring_reader_close(*r);
}

int ring_reader_open(int fd, size_t ring_bytes, ring_fn take, void *ctx, struct ring_reader **ret)
{
	_cleanup_(ring_reader_closep) struct ring_reader *r = xcalloc(1, sizeof(*r));

	*r = (struct ring_reader){
		.fd = fd, .bytes = ring_bytes, .page = (size_t)sysconf(_SC_PAGESIZE), .take = take, .ctx = ctx
	};
	r->consumer = map_page(r, PROT_READ | PROT_WRITE, 0);
	r->producer = r->consumer ? map_page(r, PROT_READ, 1) : NULL;
	if (!r->producer)
		return -errno;
	*ret = r;
	r = NULL;
	return 0;
}

void ring_reader_close(struct ring_reader *r)
{
	if (!r)
		return;
	if (r->consumer)
		(void)munmap(r->consumer, r->page);
	if (r->producer)
		(void)munmap((void *)r->producer, r->page);
	free(r);
}

int ring_reader_fd(const struct ring_reader *r)
{
	return r->fd;
}

static uint64_t record_bytes(uint32_t header)
{
	uint64_t bytes = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

	return (bytes + BPF_RINGBUF_HDR_SZ + 7) & ~7ull;
}

/* Records from `at` to `end`, up to the first one that is still being written; `data` is where `at` lies. */
static void take_records(struct ring_reader *r, const char *data, uint64_t at, uint64_t end)
{
	while (at < end) {
		uint32_t header = __atomic_load_n((const uint32_t *)data, __ATOMIC_ACQUIRE);

		if (header & BPF_RINGBUF_BUSY_BIT)
			break;
		if (!(header & BPF_RINGBUF_DISCARD_BIT))
			r->take(r->ctx, data + BPF_RINGBUF_HDR_SZ, header);
		data += record_bytes(header);
		at += record_bytes(header);
		__atomic_store_n(r->consumer, at, __ATOMIC_RELEASE);
	}
}

void ring_reader_consume(struct ring_reader *r)
{
	uint64_t at = *r->consumer, end = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
	uint64_t place = at & (r->bytes - 1), skip = place & (r->page - 1);

	if (at == end)
		return;
	size_t bytes = (size_t)(end - at + skip);
	char *data = mmap(NULL, bytes, PROT_READ, MAP_SHARED, r->fd, (off_t)(2 * r->page + place - skip));
	if (data == MAP_FAILED)
		return;
	take_records(r, data + skip, at, end);
	(void)munmap(data, bytes); /* only fails on bad arguments */
}
