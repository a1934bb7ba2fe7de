/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/hits.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "collect/ring.h"
#include "hit.h"
#include "util/mem.h"

struct hits {
	struct ring_reader *ring;
	FILE *file;
	char *folder;
	int stacks_fd, more_fd; /* borrowed */
};

static void on_hit(void *ctx, const void *data, size_t bytes)
{
	struct hits *h = ctx;

	if (bytes >= sizeof(struct hit_record))
		(void)fwrite(data, sizeof(struct hit_record), 1, h->file); /* a short file shows at its reader */
}

static void hits_freep(struct hits **h)
{
	if (!*h)
		return;
	ring_reader_close((*h)->ring);
	if ((*h)->file)
		(void)fclose((*h)->file); /* what could not be written shows at the reader */
	free((*h)->folder);
	free(*h);
}

int hits_open(const char *folder, struct loader *l, struct hits **ret)
{
	_cleanup_(hits_freep) struct hits *h = xcalloc(1, sizeof(*h));
	_cleanup_(freep) char *path = xasprintf("%s/hits", folder);

	h->folder = xstrdup(folder);
	h->file = fopen(path, "wbe");
	if (!h->file)
		return -errno;
	h->stacks_fd = loader_map_fd(l, KMAP_STACKS);
	h->more_fd = loader_map_fd(l, KMAP_MORE_STACKS);
	int err = ring_reader_open(loader_map_fd(l, KMAP_HITS), loader_map_info(l, KMAP_HITS).capacity, on_hit, h,
				   &h->ring);
	if (err)
		return err;
	*ret = h;
	h = NULL;
	return 0;
}

void hits_drain(struct hits *h)
{
	if (h)
		ring_reader_consume(
			h->ring); /* what did not fit was not recorded: the oracle needs no hit in particular */
}

static void write_table(FILE *f, int fd)
{
	uint64_t key, next;
	struct hit_stack s;

	for (uint64_t *at = NULL; !bpf_map_get_next_key(fd, at, &next); at = &key) {
		key = s.native_id = next;
		if (!bpf_map_lookup_elem(fd, &key, &s.stack))
			(void)fwrite(&s, sizeof(s), 1, f);
	}
}

static void write_stacks(const struct hits *h)
{
	_cleanup_(freep) char *path = xasprintf("%s/stacks", h->folder);
	FILE *f = fopen(path, "wbe");

	if (!f)
		return; /* the reader says that it is not there */
	write_table(f, h->stacks_fd);
	write_table(f, h->more_fd);
	(void)fclose(f);
}

void hits_close(struct hits *h)
{
	if (!h)
		return;
	hits_drain(h);
	write_stacks(h);
	hits_freep(&h);
}

void hits_maps(struct hits *h, uint32_t pid, uint32_t ppid)
{
	char line[8192];

	if (!h)
		return;
	_cleanup_(freep) char *from = xasprintf("/proc/%u/maps", pid), *to = xasprintf("%s/maps.%u", h->folder, pid);
	_cleanup_(freep) char *parent = xasprintf("%s/maps.%u", h->folder, ppid);
	FILE *in = fopen(from, "re");

	if (!in && access(to, F_OK))
		in = fopen(parent, "re");
	FILE *out = in ? fopen(to, "we") : NULL;
	while (out && fgets(line, sizeof(line), in))
		(void)fputs(line, out);
	if (in)
		(void)fclose(in);
	if (out)
		(void)fclose(out);
}
