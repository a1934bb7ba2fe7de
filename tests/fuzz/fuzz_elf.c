/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A target's executable file: symbols, PLT, and the plan of its allocation functions. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/plan.h"
#include "target/elf.h"
#include "util/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct plan_kernel kernel = { .version = 6 << 16 | 18 << 8 };
	_cleanup_(closep) int fd = memfd_create("elf", MFD_CLOEXEC);
	_cleanup_(elf_done) struct elf_file elf = { 0 };
	_cleanup_(freep) struct plan *plans = NULL;
	size_t n = 0;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size || elf_open(fd, NULL, NULL, &elf))
		return 0;
	if (plan_file(&elf, &kernel, &plans, &n) == 0)
		for (size_t i = 0; i < n; i++)
			if (!plans[i].func || !plans[i].why[0])
				abort(); /* every function says why it is probed or not */
	return 0;
}
