/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/cfi_bytes.h"

#include <dwarf.h>

#include "util/mem.h"

#define FORMAT 0x0f
#define BASE 0x70

/* Bytes of a number by its format; LEB128 has none here. */
static const struct {
	uint8_t bytes;
	bool is_known, is_signed;
} formats[] = {
	[DW_EH_PE_absptr] = { 8, true, false }, [DW_EH_PE_uleb128] = { 0, true, false },
	[DW_EH_PE_udata2] = { 2, true, false }, [DW_EH_PE_udata4] = { 4, true, false },
	[DW_EH_PE_udata8] = { 8, true, false }, [DW_EH_PE_signed] = { 8, true, true },
	[DW_EH_PE_sleb128] = { 0, true, true }, [DW_EH_PE_sdata2] = { 2, true, true },
	[DW_EH_PE_sdata4] = { 4, true, true },	[DW_EH_PE_sdata8] = { 8, true, true },
};

uint64_t bytes_pointer_raw(struct cfi_bytes *b, uint8_t encoding, uint64_t at)
{
	uint8_t format = encoding & FORMAT;

	if (encoding == DW_EH_PE_aligned) {
		(void)bytes_take(b, -at & 7); /* what is missing fails the next one */
		return bytes_unsigned(b, 8);
	}
	if (format >= ARRAY_SIZE(formats) || !formats[format].is_known) {
		bytes_fail(b);
		return 0;
	}
	if (!formats[format].bytes)
		return bytes_leb(b, formats[format].is_signed);
	if (formats[format].is_signed)
		return (uint64_t)bytes_signed(b, formats[format].bytes);
	return bytes_unsigned(b, formats[format].bytes);
}

uint64_t bytes_pointer(struct cfi_bytes *b, uint8_t encoding, uint64_t at, uint64_t data_base)
{
	uint8_t base = encoding & BASE;
	uint64_t value = bytes_pointer_raw(b, encoding, at);

	if (encoding & DW_EH_PE_indirect || encoding == DW_EH_PE_omit) {
		bytes_fail(b);
		return 0;
	}
	if (base == DW_EH_PE_absptr || base == DW_EH_PE_aligned)
		return value;
	if (base == DW_EH_PE_pcrel)
		return at + value;
	if (base == DW_EH_PE_datarel && data_base)
		return data_base + value;
	bytes_fail(b);
	return 0;
}
