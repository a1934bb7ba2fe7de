/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A target's file as the source of names: headers, symbol tables, packed symbols, links to debug files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sym/sym.h"
#include "util/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	_cleanup_(closep) int fd = memfd_create("elf", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd); /* fits */
	struct sym *s = sym_new();
	const struct snap_module m = { .id = 1, .path = path, .open_path = path, .build_id = "" };
	sym_add_modules(s, &m, 1);
	for (uint64_t addr = 0; addr < 0x4000; addr += 0x123) {
		const struct snap_frame at = { .module = 1, .addr = addr, .is_return = addr & 1 };
		const struct sym_frame *f;
		size_t n = sym_resolve(s, &at, &f);
		for (size_t i = 0; i < n; i++)
			if (!f[i].name || !f[i].name[0] || !f[i].final || f[i].inlined != (i + 1 < n))
				abort();
		if (!n)
			abort();
	}
	sym_free(s);
	return 0;
}
