/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A perf map as a target may write it, in two parts, as it grows. The first byte says where it is cut. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sym/perfmap.h"
#include "util/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void perfmap_freep(struct perfmap **m)
{
	perfmap_free(*m);
}

static void check_order(uint64_t start, uint64_t end, void *arg)
{
	uint64_t *last = arg;

	if (start < *last || end <= start)
		abort(); /* sorted and apart: lookup relies on it */
	*last = end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[PERFMAP_NAME_CAP];
	int fd = memfd_create("map", MFD_CLOEXEC);
	uint64_t last = 0;

	if (fd < 0)
		return 0;
	_cleanup_(perfmap_freep) struct perfmap *m = perfmap_of_fd(fd);
	size_t cut = size ? (size - 1) * data[0] / 255 + 1 : 0;
	if (size < 2 || pwrite(fd, data + 1, cut - 1, 0) != (ssize_t)(cut - 1))
		return 0;
	perfmap_read(m);
	if (pwrite(fd, data + cut, size - cut, (off_t)(cut - 1)) != (ssize_t)(size - cut))
		return 0;
	perfmap_read(m);
	perfmap_each(m, check_order, &last);
	if (!perfmap_find(m, 0x1000, name) && (!name[0] || strlen(name) >= sizeof(name) || strchr(name, '\n')))
		abort();
	(void)perfmap_find(m, last, name); /* only bounds matter here */
	return 0;
}
