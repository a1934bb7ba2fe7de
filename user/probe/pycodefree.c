/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/pycodefree.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "target/dynsym.h"
#include "target/proc.h"
#include "util/mem.h"

#define TYPE_DEALLOC 48 /* Include/cpython/object.h: PyTypeObject.tp_dealloc, 3.6 to 3.14 */

const struct family_func pycodefree_func = { .family = "python",
					     .symbol = "code_dealloc",
					     .site = "code_dealloc",
					     .shape = SHAPE_CODE_FREED,
					     .layer = LAYER_PYTHON };

static bool is_code(const struct mappings *maps, uint64_t addr)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->items[i].exec && maps->items[i].inode && addr >= maps->items[i].start &&
		    addr < maps->items[i].end)
			return true;
	return false;
}

static bool read_word(uint32_t pid, uint64_t addr, uint64_t *ret)
{
	struct iovec to = { .iov_base = ret, .iov_len = sizeof(*ret) };
	struct iovec from = { .iov_base = (void *)(uintptr_t)addr, /* NOLINT(performance-no-int-to-ptr): not ours */
			      .iov_len = sizeof(*ret) };

	return process_vm_readv((pid_t)pid, &to, 1, &from, 1, 0) == (ssize_t)sizeof(*ret);
}

int pycodefree_find(uint32_t pid, const struct mappings *maps, uint64_t *ret)
{
	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->items[i];
		struct dynsym f;
		Elf64_Sym sym;
		uint64_t bias, addr;
		if (!m->exec || !m->inode || (i && maps->items[i - 1].inode == m->inode && maps->items[i - 1].exec))
			continue;
		_cleanup_(closep) int fd = mapping_open(pid, m, NULL);
		if (fd < 0 || !dynsym_open(fd, &f) || !dynsym_find(&f, "PyCode_Type", &sym) || !sym.st_value ||
		    !dynsym_bias(&f, m, &bias))
			continue;
		if (!read_word(pid, sym.st_value + bias + TYPE_DEALLOC, &addr) || !is_code(maps, addr))
			return -EAGAIN;
		*ret = addr;
		return 0;
	}
	return -ENOENT;
}
