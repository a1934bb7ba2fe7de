/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine code one instruction at a time, for the planner: where the bytes come from (an ELF file, a test's array),
 * where an instruction leads, and whether the kernel emulates it under a breakpoint.
 */
#ifndef TIDEMARK_PROBE_DECODE_H
#define TIDEMARK_PROBE_DECODE_H

#include <capstone/capstone.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses are as linked. Strings are borrowed from the source. */
struct code_source {
	const void *ctx;
	/* Bytes copied, or negative errno. */
	int (*read)(const void *ctx, uint64_t vaddr, uint8_t *buf, size_t cap);
	/* Name that a call of this address reaches through the linkage table; NULL: not a stub. */
	const char *(*plt)(const void *ctx, uint64_t vaddr);
	/* Name of the function of the families table that starts here; NULL: none. */
	const char *(*own)(const void *ctx, uint64_t vaddr);
	/* Does this file define the function itself? */
	bool (*defines)(const void *ctx, const char *name);
};

struct decoder {
	const struct code_source *src; /* borrowed, must outlive the decoder */
	csh handle;
	cs_insn *insn;
};

enum flow { FLOW_NEXT, FLOW_JCC, FLOW_JMP, FLOW_CALL, FLOW_JMP_INDIRECT, FLOW_CALL_INDIRECT, FLOW_RET, FLOW_STOP };

/* 0 or -ENOMEM. */
int decoder_open(const struct code_source *src, struct decoder *ret);
void decoder_close(struct decoder *d);

/* Valid until the next call. NULL: not readable or not an instruction that Capstone knows. */
const cs_insn *decoder_at(struct decoder *d, uint64_t vaddr);

/* *ret_target is written for FLOW_JCC, FLOW_JMP and FLOW_CALL only. */
enum flow insn_flow(const cs_insn *insn, uint64_t *ret_target);
bool insn_is_endbr(const cs_insn *insn);
/*
 * An indirect jump or call through a slot next to the code: what -fno-plt makes of a call of another file's function.
 */
bool insn_is_via_got(const cs_insn *insn);

/* Kernel version: major << 16 | minor << 8 | patch. */
bool insn_is_emulated(const cs_insn *insn, uint32_t kernel_version);
/* A five-byte nop that this kernel replaces by a call of its own trampoline: no trap at all. */
bool insn_is_optimised_nop(const cs_insn *insn, uint32_t kernel_version);

#endif
