/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Offsets in CPython's structures: made by scripts/pyoffsets from CPython's headers, not to be edited. A row's comment names the releases whose headers
 * it was made from. Holds for builds without Py_TRACE_REFS and without Py_GIL_DISABLED, x86-64.
 */
#include "probe/pyoffsets.h"

/* clang-format off */
const struct py_row py_rows[PY_ROWS_NR] = {
	/* 3.8.18 */
	{
		.process.info = {
		  .tss_key = 1392, .tstate_current = 1368, .tstate_thread = 176, .tstate_frame = 24, .frame_back = 24,
		  .frame_code = 32, .frame_instr = 104, .code_id = 40, .has_lasti = 1, .lasti_shift = 1, .minor = 8,
		},
		.process.names = {
		  .code_name = 112, .code_filename = 104, .code_firstlineno = 40, .code_linetable = 120, .str_length = 16,
		  .str_state = 32, .str_ascii_data = 48, .str_compact_data = 72, .bytes_size = 16, .bytes_data = 32,
		  .minor = 8,
		},
		.process.version_hex = 0x03080000,
	},
	/* 3.9.2, 3.9.18 */
	{
		.process.info = {
		  .tss_key = 584, .tstate_current = 568, .tstate_thread = 176, .tstate_frame = 24, .frame_back = 24,
		  .frame_code = 32, .frame_instr = 104, .code_id = 40, .has_lasti = 1, .lasti_shift = 1, .minor = 9,
		},
		.process.names = {
		  .code_name = 112, .code_filename = 104, .code_firstlineno = 40, .code_linetable = 120, .str_length = 16,
		  .str_state = 32, .str_ascii_data = 48, .str_compact_data = 72, .bytes_size = 16, .bytes_data = 32,
		  .minor = 9,
		},
		.process.version_hex = 0x03090000,
	},
	/* 3.10.13 */
	{
		.process.info = {
		  .tss_key = 584, .tstate_current = 568, .tstate_thread = 176, .tstate_frame = 24, .frame_back = 24,
		  .frame_code = 32, .frame_instr = 96, .code_id = 40, .has_lasti = 1, .minor = 10,
		},
		.process.names = {
		  .code_name = 112, .code_filename = 104, .code_firstlineno = 40, .code_linetable = 120, .str_length = 16,
		  .str_state = 32, .str_ascii_data = 48, .str_compact_data = 72, .bytes_size = 16, .bytes_data = 32,
		  .minor = 10,
		},
		.process.version_hex = 0x030a0000,
	},
	/* 3.11.2, 3.11.7 */
	{
		.process.info = {
		  .tss_key = 592, .tstate_current = 576, .tstate_thread = 152, .tstate_frame = 56, .cframe_frame = 8,
		  .frame_back = 48, .frame_code = 32, .frame_instr = 56, .frame_owner = 68, .code_start = 184, .code_id = 56,
		  .has_cframe = 1, .entry = 1, .minor = 11,
		},
		.process.names = {
		  .code_name = 120, .code_qualname = 128, .code_filename = 112, .code_firstlineno = 72, .code_linetable = 136,
		  .str_length = 16, .str_state = 32, .str_ascii_data = 48, .str_compact_data = 72, .bytes_size = 16,
		  .bytes_data = 32, .minor = 11,
		},
		.process.version_hex = 0x030b0000,
	},
	/* 3.12.1 */
	{
		.process.info = {
		  .tss_key = 1544, .tstate_thread = 136, .tstate_frame = 56, .frame_back = 8, .frame_instr = 56,
		  .frame_owner = 70, .code_start = 192, .code_id = 56, .has_cframe = 1, .entry = 2, .shim_owner = 3,
		  .minor = 12,
		},
		.process.names = {
		  .code_name = 120, .code_qualname = 128, .code_filename = 112, .code_firstlineno = 68, .code_linetable = 136,
		  .str_length = 16, .str_state = 32, .str_ascii_data = 40, .str_compact_data = 56, .bytes_size = 16,
		  .bytes_data = 32, .minor = 12,
		},
		.process.version_hex = 0x030c0000,
	},
	/* 3.13.0 */
	{
		.process.info = {
		  .tss_key = 2160, .tstate_interp = 16, .code_counter = 17000, .tstate_thread = 152, .tstate_frame = 72,
		  .frame_back = 8, .frame_instr = 56, .frame_owner = 70, .code_start = 200, .code_id = 56, .entry = 2,
		  .shim_owner = 3, .minor = 13,
		},
		.process.names = {
		  .code_name = 120, .code_qualname = 128, .code_filename = 112, .code_firstlineno = 68, .code_linetable = 136,
		  .str_length = 16, .str_state = 32, .str_ascii_data = 40, .str_compact_data = 56, .bytes_size = 16,
		  .bytes_data = 32, .minor = 13,
		},
		.process.version_hex = 0x030d0000,
		.published = {
		  .bytes = 584, .version = 8, .free_threaded = 16, .runtime_bytes = 24, .tstate_bytes = 152,
		  .tstate_thread = 192, .tstate_frame = 184, .frame_bytes = 224, .frame_back = 232, .frame_code = 240,
		  .frame_instr = 248, .frame_owner = 264, .code_bytes = 272, .code_filename = 280, .code_name = 288,
		  .code_qualname = 296, .code_linetable = 304, .code_firstlineno = 312, .code_start = 344, .bytes_bytes = 512,
		  .bytes_size = 520, .bytes_data = 528, .str_bytes = 536, .str_state = 544, .str_length = 552,
		  .str_ascii_data = 560,
		},
	},
	/* 3.14.10 */
	{
		.process.info = {
		  .tss_key = 2336, .tstate_thread = 152, .tstate_frame = 72, .frame_back = 8, .frame_instr = 56,
		  .frame_owner = 74, .code_start = 208, .code_id = 56, .entry = 2, .shim_owner = 3, .minor = 14,
		},
		.process.names = {
		  .code_name = 120, .code_qualname = 128, .code_filename = 112, .code_firstlineno = 68, .code_linetable = 136,
		  .str_length = 16, .str_state = 32, .str_ascii_data = 40, .str_compact_data = 56, .bytes_size = 16,
		  .bytes_data = 32, .minor = 14,
		},
		.process.version_hex = 0x030e0000,
		.published = {
		  .bytes = 760, .version = 8, .free_threaded = 16, .runtime_bytes = 24, .tstate_bytes = 176,
		  .tstate_thread = 216, .tstate_frame = 208, .frame_bytes = 248, .frame_back = 256, .frame_code = 264,
		  .frame_instr = 272, .frame_owner = 288, .code_bytes = 312, .code_filename = 320, .code_name = 328,
		  .code_qualname = 336, .code_linetable = 344, .code_firstlineno = 352, .code_start = 384, .bytes_bytes = 592,
		  .bytes_size = 600, .bytes_data = 608, .str_bytes = 616, .str_state = 624, .str_length = 632,
		  .str_ascii_data = 640,
		},
	},
};
/* clang-format on */
