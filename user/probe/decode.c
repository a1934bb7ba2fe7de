/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single instructions: decoding, flow, and the kernel's list of those that it emulates. Knows nothing of functions or
 * of allocation.
 *
 * The list follows arch/x86/kernel/uprobes.c: branch_setup_xol_ops and push_setup_xol_ops. It may be shorter than the
 * kernel's (a probe is then single-stepped or sits elsewhere), never longer.
 */
#include "probe/decode.h"

#include <errno.h>
#include <string.h>

#include "util/mem.h"

#define KERNEL(major, minor) ((uint32_t)(major) << 16 | (uint32_t)(minor) << 8)
#define INSN_BYTES_MAX 15 /* architectural limit */
#define PAGE_BYTES 4096

int decoder_open(const struct code_source *src, struct decoder *ret)
{
	struct decoder d = { .src = src };

	if (cs_open(CS_ARCH_X86, CS_MODE_64, &d.handle) != CS_ERR_OK)
		return -ENOMEM;
	d.insn = cs_option(d.handle, CS_OPT_DETAIL, CS_OPT_ON) == CS_ERR_OK ? cs_malloc(d.handle) : NULL;
	if (!d.insn) {
		(void)cs_close(&d.handle); /* nothing was allocated from it */
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

void decoder_close(struct decoder *d)
{
	if (!d->insn)
		return;
	cs_free(d->insn, 1);
	(void)cs_close(&d->handle); /* fails only for a handle that was never open */
	d->insn = NULL;
}

const cs_insn *decoder_at(struct decoder *d, uint64_t vaddr)
{
	uint8_t buf[INSN_BYTES_MAX];
	const uint8_t *p = buf;
	uint64_t addr = vaddr;
	int n = d->src->read(d->src->ctx, vaddr, buf, sizeof(buf));
	size_t left = n > 0 ? (size_t)n : 0;

	return left && cs_disasm_iter(d->handle, &p, &left, &addr, d->insn) ? d->insn : NULL;
}

bool insn_is_endbr(const cs_insn *insn)
{
	static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };

	return insn->size == sizeof(endbr64) && !memcmp(insn->bytes, endbr64, sizeof(endbr64));
}

bool insn_is_via_got(const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;

	return x->op_count == 1 && x->operands[0].type == X86_OP_MEM && x->operands[0].mem.base == X86_REG_RIP;
}

static bool in_group(const cs_insn *insn, uint8_t group)
{
	for (uint8_t i = 0; i < insn->detail->groups_count; i++)
		if (insn->detail->groups[i] == group)
			return true;
	return false;
}

/* The name of 0f b9 until Capstone 5. */
#if CS_API_MAJOR < 5
#define X86_INS_UD1 X86_INS_UD2B
#endif

static bool ends_path(const cs_insn *insn)
{
	static const unsigned int ids[] = { X86_INS_UD0, X86_INS_UD1,  X86_INS_UD2,
					    X86_INS_HLT, X86_INS_INT3, X86_INS_INT1 };

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (insn->id == ids[i])
			return true;
	return in_group(insn, CS_GRP_INT) || in_group(insn, CS_GRP_IRET);
}

enum flow insn_flow(const cs_insn *insn, uint64_t *ret_target)
{
	const cs_x86 *x = &insn->detail->x86;
	bool direct = x->op_count == 1 && x->operands[0].type == X86_OP_IMM;

	if (in_group(insn, CS_GRP_RET))
		return FLOW_RET;
	if (!in_group(insn, CS_GRP_JUMP) && !in_group(insn, CS_GRP_CALL))
		return ends_path(insn) ? FLOW_STOP : FLOW_NEXT;
	if (direct)
		*ret_target = (uint64_t)x->operands[0].imm;
	if (insn->id == X86_INS_CALL || insn->id == X86_INS_LCALL)
		return direct ? FLOW_CALL : FLOW_CALL_INDIRECT;
	if (insn->id == X86_INS_JMP || insn->id == X86_INS_LJMP)
		return direct ? FLOW_JMP : FLOW_JMP_INDIRECT;
	return direct ? FLOW_JCC : FLOW_STOP;
}

static bool is_push(const uint8_t *b, size_t n)
{
	if (n == 2 && b[0] == 0x41)
		b++, n--;
	return n == 1 && b[0] >= 0x50 && b[0] <= 0x57;
}

/*
 * Relative jmp, call, jcc. The only prefix let through is f2 (bnd), which the kernel skips; it refuses 66 and segment
 * prefixes.
 */
static bool is_branch(const uint8_t *b, size_t n)
{
	if (n && b[0] == 0xf2)
		b++, n--;
	if (n == 2)
		return b[0] == 0xeb || (b[0] & 0xf0) == 0x70;
	if (n == 5)
		return b[0] == 0xe9 || b[0] == 0xe8;
	return n == 6 && b[0] == 0x0f && (b[1] & 0xf0) == 0x80;
}

/* nop and its 66-prefixed forms: emulated since jumps are (3.15). Not f3 90 (pause) and not 41 90 (xchg r8, rax). */
static bool is_plain_nop(const uint8_t *b, size_t n)
{
	while (n > 1 && *b == 0x66)
		b++, n--;
	return n == 1 && *b == 0x90;
}

/* The forms of x86_nops that compilers emit, 3 to 9 bytes. */
static bool is_long_nop(const uint8_t *b, size_t n)
{
	static const uint8_t nops[][10] = {
		{ 3, 0x0f, 0x1f, 0x00 },
		{ 4, 0x0f, 0x1f, 0x40, 0x00 },
		{ 5, 0x0f, 0x1f, 0x44, 0x00, 0x00 },
		{ 6, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00 },
		{ 7, 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00 },
		{ 8, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(nops); i++)
		if (nops[i][0] == n)
			return !memcmp(b, nops[i] + 1, n);
	return false;
}

/*
 * mov %r64, same register (89 form) and lea 0(%r64), same register, without an index: insn_is_nop of
 * arch/x86/lib/insn-eval.c.
 */
static bool is_idle_move(const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;
	const cs_x86_op *op = x->operands;

	if (x->op_count != 2 || op[0].type != X86_OP_REG || op[0].size != 8 || !(insn->bytes[0] & 8))
		return false;
	if (insn->id == X86_INS_MOV)
		return insn->bytes[1] == 0x89 && op[1].type == X86_OP_REG && op[1].reg == op[0].reg;
	return insn->id == X86_INS_LEA && insn->bytes[1] == 0x8d && op[1].mem.base == op[0].reg &&
	       op[1].mem.disp == 0 && op[1].mem.index == X86_REG_INVALID && (insn->bytes[2] & 0xc0) != 0;
}

bool insn_is_emulated(const cs_insn *insn, uint32_t kernel_version)
{
	if (is_push(insn->bytes, insn->size) || is_branch(insn->bytes, insn->size) ||
	    is_plain_nop(insn->bytes, insn->size))
		return true;
	/* "uprobes/x86: Add support to emulate nop instructions", April 2025, is in every 6.18. */
	if (kernel_version >= KERNEL(6, 18) && is_long_nop(insn->bytes, insn->size))
		return true;
	/* 8a5c6cbfe4a3 "Unify insn_is_nop()", committed October 2025: not in 6.18 (6.18.44 steps both). */
	return kernel_version >= KERNEL(6, 19) && is_idle_move(insn);
}

bool insn_is_optimised_nop(const cs_insn *insn, uint32_t kernel_version)
{
	return kernel_version >= KERNEL(6, 18) && insn->size == 5 && is_long_nop(insn->bytes, 5) &&
	       insn->address % PAGE_BYTES <= PAGE_BYTES - 5;
}
