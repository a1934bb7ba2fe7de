/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * .gnu_debugdata: an ELF file with .symtab only, packed with xz, as Fedora and its relatives ship it. Unpacking is
 * bounded in memory and output.
 */
#include <errno.h>
#include <lzma.h>

#include "sym/elfimg.h"
#include "util/mem.h"

#define PACKED_MAX (16u << 20)
#define UNPACKED_MAX (32u << 20)
#define DECODER_BYTES_MAX (72ull << 20) /* xz -9 needs 65 MiB, most of it never touched for small streams */

static void lzma_endp(lzma_stream *z)
{
	lzma_end(z);
}

int minidebug_load(const struct elfimg *e, uint8_t **ret, size_t *ret_len)
{
	_cleanup_(freep) char *packed = NULL;
	_cleanup_(freep) uint8_t *out = NULL;
	_cleanup_(lzma_endp) lzma_stream z = LZMA_STREAM_INIT;
	const Elf64_Shdr *sh = elfimg_section(e, ".gnu_debugdata");
	size_t len, cap = 0;
	lzma_ret code = LZMA_OK;

	if (!sh)
		return -ENOENT;
	int r = elfimg_load(e, sh, PACKED_MAX, &packed, &len);
	if (r < 0)
		return r;
	if (lzma_stream_decoder(&z, DECODER_BYTES_MAX, 0) != LZMA_OK)
		return -EBADMSG;
	z.next_in = (const uint8_t *)packed;
	z.avail_in = len;
	while (code == LZMA_OK) {
		if (z.total_out > UNPACKED_MAX)
			return -EFBIG;
		out = grow_to(out, &cap, z.total_out + 65536, 1);
		z.next_out = out + z.total_out;
		z.avail_out = cap - z.total_out;
		code = lzma_code(&z, LZMA_FINISH);
	}
	if (code != LZMA_STREAM_END)
		return -EBADMSG;
	*ret = out;
	*ret_len = z.total_out;
	out = NULL;
	return 0;
}
