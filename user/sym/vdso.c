/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Read through /proc/self/mem, which gives an error where a broken header would point beyond what is mapped.
 */
#include "sym/vdso.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "sym/elfimg.h"
#include "util/mem.h"

#define IMAGE_MAX (1u << 20) /* 8 KiB in Linux 6 */

/* The section headers come last. */
static size_t image_bytes(int mem, uint64_t at)
{
	Elf64_Ehdr eh;

	if (pread(mem, &eh, sizeof(eh), (off_t)at) != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
		return 0;
	uint64_t end = eh.e_shoff + (uint64_t)eh.e_shnum * eh.e_shentsize;
	return eh.e_shoff < IMAGE_MAX && end <= IMAGE_MAX ? (size_t)end : 0;
}

int vdso_open(void)
{
	uint64_t at = getauxval(AT_SYSINFO_EHDR);
	_cleanup_(closep) int mem = at ? open("/proc/self/mem", O_RDONLY | O_CLOEXEC) : -1;
	_cleanup_(freep) char *image = NULL;
	size_t n = mem >= 0 ? image_bytes(mem, at) : 0;

	if (!n)
		return -ENOENT;
	image = xcalloc(1, n);
	if (pread(mem, image, n, (off_t)at) != (ssize_t)n)
		return -EIO;
	_cleanup_(closep) int fd = memfd_create("vdso", MFD_CLOEXEC);
	if (fd < 0 || write(fd, image, n) != (ssize_t)n)
		return -EIO;
	return steal_fd(&fd);
}
