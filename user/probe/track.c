/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Symbolic argument tracking over a straight line. Anything not understood loses the value: the answer may be "gone"
 * too early, never "here" wrongly.
 */
#include "probe/track.h"

#include <string.h>

#include "util/mem.h"

#define REG_SP TRACK_REGS
#define NO_REG (-1)

static const char shape_roles[][5] = {
#define X(id, name, roles) roles,
	for_each_shape(X)
#undef X
};

bool shape_has_role(enum shape shape, char role)
{
	return strchr(shape_roles[shape], role) != NULL;
}

/* Rows in the order of enum arg_reg. */
static int reg_index(unsigned int reg)
{
	static const unsigned short names[][5] = {
		{ X86_REG_RDI, X86_REG_EDI, X86_REG_DI, X86_REG_DIL },
		{ X86_REG_RSI, X86_REG_ESI, X86_REG_SI, X86_REG_SIL },
		{ X86_REG_RDX, X86_REG_EDX, X86_REG_DX, X86_REG_DL, X86_REG_DH },
		{ X86_REG_RCX, X86_REG_ECX, X86_REG_CX, X86_REG_CL, X86_REG_CH },
		{ X86_REG_R8, X86_REG_R8D, X86_REG_R8W, X86_REG_R8B },
		{ X86_REG_R9, X86_REG_R9D, X86_REG_R9W, X86_REG_R9B },
		{ X86_REG_RAX, X86_REG_EAX, X86_REG_AX, X86_REG_AL, X86_REG_AH },
		{ X86_REG_RBX, X86_REG_EBX, X86_REG_BX, X86_REG_BL, X86_REG_BH },
		{ X86_REG_RBP, X86_REG_EBP, X86_REG_BP, X86_REG_BPL },
		{ X86_REG_R12, X86_REG_R12D, X86_REG_R12W, X86_REG_R12B },
		{ X86_REG_R13, X86_REG_R13D, X86_REG_R13W, X86_REG_R13B },
		{ X86_REG_R14, X86_REG_R14D, X86_REG_R14W, X86_REG_R14B },
		{ X86_REG_R15, X86_REG_R15D, X86_REG_R15W, X86_REG_R15B },
		{ X86_REG_R10, X86_REG_R10D, X86_REG_R10W, X86_REG_R10B },
		{ X86_REG_R11, X86_REG_R11D, X86_REG_R11W, X86_REG_R11B },
		{ X86_REG_RSP, X86_REG_ESP, X86_REG_SP, X86_REG_SPL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		for (size_t j = 0; j < ARRAY_SIZE(names[i]) && names[i][j]; j++)
			if (names[i][j] == reg)
				return (int)i;
	return NO_REG;
}

void track_init(struct track *t, enum shape shape)
{
	*t = (struct track){ .sp_known = true };
	for (int i = 0; i < 4; i++) {
		t->roles[i] = shape_roles[shape][i] == '-' ? 0 : shape_roles[shape][i];
		if (t->roles[i])
			t->value[REG_DI + i] = (unsigned char)(VALUE_ARG0 + i);
	}
}

static enum track_value value_of_role(const struct track *t, const char *letters)
{
	for (int i = 0; i < 4; i++)
		if (t->roles[i] && strchr(letters, t->roles[i]))
			return (enum track_value)(VALUE_ARG0 + i);
	return VALUE_OTHER;
}

static void set_reg(struct track *t, int reg, enum track_value v)
{
	if (reg == REG_BP)
		t->bp_changed = true;
	if (reg == REG_SP)
		t->sp_known = false;
	else if (reg >= 0)
		t->value[reg] = (unsigned char)v;
}

/* A whole 64-bit register that is not rsp, or NO_REG. */
static int whole_reg(const cs_x86_op *op)
{
	int reg = op->type == X86_OP_REG && op->size == 8 ? reg_index(op->reg) : NO_REG;

	return reg < REG_SP ? reg : NO_REG;
}

static bool step_mov(struct track *t, const cs_x86 *x)
{
	int to = whole_reg(&x->operands[0]), from = whole_reg(&x->operands[1]);

	if (to < 0 || from < 0)
		return false;
	set_reg(t, to, (enum track_value)t->value[from]);
	return true;
}

static bool step_xchg(struct track *t, const cs_x86 *x)
{
	int a = whole_reg(&x->operands[0]), b = whole_reg(&x->operands[1]);
	enum track_value v;

	if (a < 0 || b < 0)
		return false;
	v = (enum track_value)t->value[a];
	set_reg(t, a, (enum track_value)t->value[b]);
	set_reg(t, b, v);
	return true;
}

static enum track_value product(const struct track *t, int a, int b)
{
	enum track_value n = value_of_role(t, "N"), s = value_of_role(t, "S");

	if (a < 0 || b < 0 || !n || !s)
		return VALUE_OTHER;
	return (t->value[a] == n && t->value[b] == s) || (t->value[a] == s && t->value[b] == n) ? VALUE_PRODUCT
												: VALUE_OTHER;
}

/*
 * The low half is count * size. When it overflows the call fails and nothing is booked, so the wrong figure is never
 * used. The signed multiplication has the same low half.
 */
static bool step_mul(struct track *t, const cs_x86 *x)
{
	int a = whole_reg(&x->operands[0]), b = x->op_count == 2 ? whole_reg(&x->operands[1]) : NO_REG;
	enum track_value v;

	if (x->op_count > 2 || x->operands[0].size != 8)
		return false;
	if (x->op_count == 2) {
		set_reg(t, a, product(t, a, b));
		return a >= 0;
	}
	v = product(t, REG_AX, a);
	set_reg(t, REG_AX, v);
	set_reg(t, REG_DX, VALUE_OTHER);
	return true;
}

static bool step_push(struct track *t, const cs_x86 *x)
{
	if (x->operands[0].size != 8)
		return false;
	t->sp_bytes += 8;
	return true;
}

static bool step_pop(struct track *t, const cs_x86 *x)
{
	if (x->operands[0].size != 8 || whole_reg(&x->operands[0]) < 0)
		return false;
	t->sp_bytes -= 8;
	set_reg(t, whole_reg(&x->operands[0]), VALUE_OTHER);
	return true;
}

static bool moves_sp(const cs_x86 *x)
{
	return x->op_count == 2 && x->operands[0].type == X86_OP_REG && x->operands[0].reg == X86_REG_RSP;
}

static bool step_sub(struct track *t, const cs_x86 *x)
{
	if (!moves_sp(x) || x->operands[1].type != X86_OP_IMM)
		return false;
	t->sp_bytes += x->operands[1].imm;
	return true;
}

static bool step_add(struct track *t, const cs_x86 *x)
{
	if (!moves_sp(x) || x->operands[1].type != X86_OP_IMM)
		return false;
	t->sp_bytes -= x->operands[1].imm;
	return true;
}

static bool step_lea(struct track *t, const cs_x86 *x)
{
	const x86_op_mem *m = &x->operands[1].mem;

	if (!moves_sp(x) || m->base != X86_REG_RSP || m->index != X86_REG_INVALID)
		return false;
	t->sp_bytes -= m->disp;
	return true;
}

/* Everything without a rule of its own: what it writes is lost. */
static void clobber(struct track *t, struct decoder *d, const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;
	cs_regs reads, writes;
	uint8_t n_reads = 0, n_writes = 0;

	if (cs_regs_access(d->handle, insn, reads, &n_reads, writes, &n_writes) != CS_ERR_OK) {
		memset(t->value, VALUE_OTHER, sizeof(t->value));
		t->sp_known = false;
		return;
	}
	for (uint8_t i = 0; i < n_writes; i++)
		set_reg(t, reg_index(writes[i]), VALUE_OTHER);
	/* Capstone's access tables have gaps: an operand without any entry counts as written. */
	for (uint8_t i = 0; i < x->op_count; i++)
		if (x->operands[i].type == X86_OP_REG &&
		    (x->operands[i].access & CS_AC_WRITE || !x->operands[i].access))
			set_reg(t, reg_index(x->operands[i].reg), VALUE_OTHER);
}

static bool is_local(const cs_x86_op *op)
{
	return op->type == X86_OP_MEM && op->mem.base == X86_REG_RBP && op->mem.index == X86_REG_INVALID;
}

static void note_spill(struct track *t, const cs_insn *insn)
{
	const cs_x86_op *op = insn->detail->x86.operands;
	enum track_value p = value_of_role(t, "PO");
	int from;

	if (insn->id != X86_INS_MOV || !is_local(&op[0]))
		return;
	from = whole_reg(&op[1]);
	if (p && from >= 0 && t->value[from] == p) {
		t->spilled = true;
		t->spill_disp = op[0].mem.disp;
	} else if (t->spill_disp == op[0].mem.disp) {
		t->spilled = false;
	}
}

/* test reg, reg or cmp with 0 of the pointer argument. */
static bool tests_pointer(const struct track *t, const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;
	const cs_x86_op *op = x->operands;
	enum track_value p = value_of_role(t, "PO");
	int reg;

	if (x->op_count != 2 || op[0].size != 8 || !p)
		return false;
	reg = whole_reg(&op[0]);
	if (insn->id == X86_INS_TEST)
		return reg >= 0 && op[1].type == X86_OP_REG && op[1].reg == op[0].reg && t->value[reg] == p;
	if (insn->id != X86_INS_CMP || op[1].type != X86_OP_IMM || op[1].imm != 0)
		return false;
	if (is_local(&op[0]))
		return t->spilled && op[0].mem.disp == t->spill_disp;
	return reg >= 0 && t->value[reg] == p;
}

static bool keeps_flags(const cs_insn *insn)
{
	static const unsigned int ids[] = { X86_INS_MOV, X86_INS_LEA, X86_INS_PUSH, X86_INS_NOP, X86_INS_MOVABS };

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (insn->id == ids[i])
			return true;
	return false;
}

static const struct {
	unsigned int id;
	bool (*step)(struct track *t, const cs_x86 *x); /* false: no rule for these operands */
} rules[] = {
	{ X86_INS_MOV, step_mov },  { X86_INS_XCHG, step_xchg }, { X86_INS_MUL, step_mul },
	{ X86_INS_IMUL, step_mul }, { X86_INS_PUSH, step_push }, { X86_INS_POP, step_pop },
	{ X86_INS_SUB, step_sub },  { X86_INS_ADD, step_add },	 { X86_INS_LEA, step_lea },
};

void track_step(struct track *t, struct decoder *d, const cs_insn *insn)
{
	bool tested = tests_pointer(t, insn), done = false;

	if (insn_is_endbr(insn))
		return;
	note_spill(t, insn);
	for (size_t i = 0; i < ARRAY_SIZE(rules) && !done; i++)
		done = rules[i].id == insn->id && rules[i].step(t, &insn->detail->x86);
	if (!done)
		clobber(t, d, insn);
	t->null_tested = tested || (t->null_tested && keeps_flags(insn));
}

static unsigned char holder(const struct track *t, enum track_value v)
{
	unsigned char original = (unsigned char)(REG_DI + (v - VALUE_ARG0));

	if (v == VALUE_OTHER)
		return REG_NONE;
	if (v <= VALUE_ARG3 && t->value[original] == v)
		return original;
	for (unsigned char r = REG_DI; r <= REG_R15; r++)
		if (t->value[r] == v)
			return r;
	return REG_NONE;
}

bool track_find(const struct track *t, struct track_regs *ret)
{
	enum track_value p = value_of_role(t, "PO"), s = value_of_role(t, "S"), n = value_of_role(t, "N");
	struct track_regs r = { .ptr = holder(t, p), .size = holder(t, s), .count = holder(t, n) };

	if (n && (r.size == REG_NONE || r.count == REG_NONE)) {
		r.size = holder(t, VALUE_PRODUCT);
		r.count = REG_NONE;
	}
	if ((p && r.ptr == REG_NONE) || (s && r.size == REG_NONE))
		return false;
	*ret = r;
	return true;
}
