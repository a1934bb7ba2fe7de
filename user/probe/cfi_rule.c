/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What compilers write, and nothing else, becomes a rule. An expression that only looks alike must not: a wrong rule gives a wrong stack, none a
 * short one.
 */
#include "probe/cfi_rule.h"

#include <dwarf.h>

#include "util/mem.h"

/* Where the kernel's signal frame keeps rsp: uc_mcontext at 40 in struct ucontext, 15 registers before (asm/sigcontext.h). */
#define SIGNAL_RSP 160

static const struct unwind_rule other = { .kind = UNWIND_OTHER };

static bool fits_s32(int64_t v)
{
	return v >= INT32_MIN && v <= INT32_MAX;
}

static bool fits_s16(int64_t v)
{
	return v >= INT16_MIN && v <= INT16_MAX;
}

/* Both kinds of rule over a register, 0 (UNWIND_NONE): it is not followed. */
static const struct {
	uint8_t plain, deref;
} kinds_of_reg[] = {
	[CFI_REG_RBP] = { UNWIND_BP, UNWIND_BP_DEREF },
	[CFI_REG_RSP] = { UNWIND_SP, UNWIND_SP_DEREF },
};

static struct unwind_rule over_reg(uint32_t reg, int64_t off)
{
	if (reg >= ARRAY_SIZE(kinds_of_reg) || !kinds_of_reg[reg].plain || !fits_s32(off))
		return other;
	return (struct unwind_rule){ .kind = kinds_of_reg[reg].plain, .cfa_off = (int32_t)off };
}

static struct unwind_rule over_deref(uint32_t reg, int64_t off, int64_t add)
{
	if (reg >= ARRAY_SIZE(kinds_of_reg) || !kinds_of_reg[reg].plain || !fits_s32(off) || !fits_s32(add))
		return other;
	return (struct unwind_rule){ .kind = kinds_of_reg[reg].deref,
				     .cfa_off = (int32_t)off,
				     .cfa_add = (int32_t)add };
}

/* Operations of a constant operand, by its bytes and sign; LEB128 has 0 bytes. */
struct constant {
	uint8_t op, bytes;
	bool is_signed;
};

static const struct constant constants[] = {
	{ DW_OP_const1u, 1, false }, { DW_OP_const1s, 1, true },  { DW_OP_const2u, 2, false },
	{ DW_OP_const2s, 2, true },  { DW_OP_const4u, 4, false }, { DW_OP_const4s, 4, true },
	{ DW_OP_constu, 0, false },  { DW_OP_consts, 0, true },
};

static const uint8_t bare[] = { DW_OP_deref, DW_OP_and, DW_OP_plus, DW_OP_shl, DW_OP_ge };

static bool parse_constant(struct cfi_bytes *in, uint8_t op, struct cfi_op *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++) {
		const struct constant *c = &constants[i];
		if (c->op != op)
			continue;
		ret->op = DW_OP_lit0;
		if (!c->bytes)
			ret->value = (int64_t)bytes_leb(in, c->is_signed);
		else
			ret->value = c->is_signed ? bytes_signed(in, c->bytes) : (int64_t)bytes_unsigned(in, c->bytes);
		return true;
	}
	return false;
}

static bool parse_op(struct cfi_bytes *in, struct cfi_op *ret)
{
	uint8_t op = (uint8_t)bytes_unsigned(in, 1);

	*ret = (struct cfi_op){ .op = op };
	if (op >= DW_OP_lit0 && op <= DW_OP_lit31) {
		ret->op = DW_OP_lit0;
		ret->value = op - DW_OP_lit0;
	} else if (op >= DW_OP_breg0 && op <= DW_OP_breg31) {
		ret->op = DW_OP_breg0;
		ret->reg = op - DW_OP_breg0;
		ret->value = bytes_sleb(in);
	} else if (op == DW_OP_plus_uconst) {
		ret->value = (int64_t)bytes_uleb(in);
	} else if (!parse_constant(in, op, ret) && !memchr(bare, op, sizeof(bare))) {
		return false;
	}
	return !in->is_bad;
}

size_t cfi_expr_parse(const uint8_t *expr, size_t bytes, struct cfi_op ret[CFI_OPS_MAX])
{
	struct cfi_bytes in = { .at = expr, .end = expr + bytes };
	size_t n = 0;

	if (bytes > CFI_EXPR_BYTES_MAX)
		return 0;
	while (bytes_left(&in))
		if (n == CFI_OPS_MAX || !parse_op(&in, &ret[n++]))
			return 0;
	return n;
}

static bool is_reg(const struct cfi_op *op, uint8_t reg, int64_t value)
{
	return op->op == DW_OP_breg0 && op->reg == reg && op->value == value;
}

/*
 * ld's rule for a procedure linkage table: the stub of 16 bytes has pushed a second word from its byte `n` on (11; 9 or 10 with branch tracking):
 *	rsp + 8 + ((pc & 15) >= n) << 3
 */
static bool is_plt(const struct cfi_op *op, size_t n_ops, int64_t *ret)
{
	if (n_ops != 9 || !is_reg(&op[0], CFI_REG_RSP, 8) || !is_reg(&op[1], CFI_REG_RA, 0))
		return false;
	if (op[2].op != DW_OP_lit0 || op[2].value != 15 || op[3].op != DW_OP_and || op[4].op != DW_OP_lit0)
		return false;
	if (op[5].op != DW_OP_ge || op[6].op != DW_OP_lit0 || op[6].value != 3 || op[7].op != DW_OP_shl ||
	    op[8].op != DW_OP_plus)
		return false;
	*ret = op[4].value;
	return *ret >= 0 && *ret <= 16;
}

/* What is added by the operations to the end: nothing, a constant, or a literal and plus. False: something else. */
static bool sum_at_end(const struct cfi_op *op, size_t n_ops, int64_t *ret)
{
	*ret = n_ops ? op[0].value : 0;
	return !n_ops || (n_ops == 1 && op[0].op == DW_OP_plus_uconst) ||
	       (n_ops == 2 && op[0].op == DW_OP_lit0 && op[1].op == DW_OP_plus);
}

struct unwind_rule cfi_expr_cfa(const uint8_t *expr, size_t bytes)
{
	struct cfi_op op[CFI_OPS_MAX];
	size_t n = cfi_expr_parse(expr, bytes, op);
	int64_t value;

	if (is_plt(op, n, &value))
		return (struct unwind_rule){ .kind = UNWIND_PLT, .cfa_off = (int32_t)value };
	if (!n || op[0].op != DW_OP_breg0)
		return other;
	if (sum_at_end(op + 1, n - 1, &value))
		return __builtin_add_overflow(op[0].value, value, &value) ? other : over_reg(op[0].reg, value);
	if (op[1].op == DW_OP_deref && sum_at_end(op + 2, n - 2, &value))
		return over_deref(op[0].reg, op[0].value, value);
	return other;
}

bool cfi_expr_is_reg(const uint8_t *expr, size_t bytes, unsigned int reg, int64_t *ret)
{
	struct cfi_op op[CFI_OPS_MAX];

	if (cfi_expr_parse(expr, bytes, op) != 1 || op[0].op != DW_OP_breg0 || op[0].reg != reg)
		return false;
	*ret = op[0].value;
	return true;
}

/* Where rbp is saved; without a place that a rule expresses it is lost. */
static void add_bp(struct unwind_rule *rule, const struct cfi_cell *bp)
{
	int64_t off = 0;

	rule->bp = UNWIND_BP_LOST;
	if (bp->how == CFI_UNSET || bp->how == CFI_SAME) {
		rule->bp = UNWIND_BP_SAME;
	} else if (bp->how == CFI_OFFSET) {
		off = bp->value;
		rule->bp = UNWIND_BP_AT_CFA;
	} else if (bp->how == CFI_EXPR && cfi_expr_is_reg(bp->expr, bp->expr_bytes, CFI_REG_RBP, &off)) {
		rule->bp = UNWIND_BP_AT_BP;
	}
	if (!fits_s16(off)) {
		rule->bp = UNWIND_BP_LOST;
		off = 0;
	}
	rule->bp_off = (int16_t)off;
}

/*
 * A frame of the kernel is marked and takes rsp out of its struct ucontext. A mark alone is not enough: hand-written code that resumes a saved context is
 * marked too and says by ordinary rules where it is.
 */
static bool is_signal_frame(const struct cfi_cell *cfa)
{
	struct unwind_rule r;

	if (cfa->how != CFI_EXPR)
		return false;
	r = cfi_expr_cfa(cfa->expr, cfa->expr_bytes);
	return r.kind == UNWIND_SP_DEREF && r.cfa_off == SIGNAL_RSP && !r.cfa_add;
}

struct unwind_rule cfi_rule_build(const struct cfi_state *s, bool is_signal)
{
	const struct cfi_cell *cfa = &s->cell[CFI_CFA], *sp = &s->cell[CFI_RSP], *ra = &s->cell[CFI_RA];
	struct unwind_rule rule = other;

	if (ra->how == CFI_UNDEFINED)
		return (struct unwind_rule){ .kind = UNWIND_END };
	if (is_signal && is_signal_frame(cfa))
		return (struct unwind_rule){ .kind = UNWIND_SIGNAL };
	if (ra->how != CFI_OFFSET || ra->value != -8)
		return other;
	/* The caller's rsp is the CFA: what says something else can't be followed. */
	if (sp->how != CFI_UNSET && (sp->how != CFI_VAL_OFFSET || sp->value != 0))
		return other;
	if (cfa->how == CFI_REGISTER)
		rule = over_reg(cfa->reg, cfa->value);
	else if (cfa->how == CFI_EXPR)
		rule = cfi_expr_cfa(cfa->expr, cfa->expr_bytes);
	if (rule.kind != UNWIND_OTHER)
		add_bp(&rule, &s->cell[CFI_RBP]);
	return rule;
}

struct cfi_rules *cfi_rules_new(void)
{
	struct cfi_rules *r = xcalloc(1, sizeof(*r));

	r->rules = grow_to(NULL, &r->cap, 64, sizeof(*r->rules));
	r->rules[r->n++] = (struct unwind_rule){ .kind = UNWIND_NONE };
	return r;
}

void cfi_rules_free(struct cfi_rules *r)
{
	if (!r)
		return;
	free(r->rules);
	free(r);
}

static bool is_equal(const struct unwind_rule *a, const struct unwind_rule *b)
{
	return a->kind == b->kind && a->bp == b->bp && a->bp_off == b->bp_off && a->cfa_off == b->cfa_off &&
	       a->cfa_add == b->cfa_add;
}

static size_t hash_rule(const struct unwind_rule *r)
{
	uint64_t a = (uint64_t)(uint32_t)r->cfa_off << 32 | (uint32_t)r->cfa_add;
	uint64_t b = (uint64_t)r->kind << 24 | (uint64_t)r->bp << 16 | (uint16_t)r->bp_off;

	/* Odd constants of 64 bits: each input bit reaches the upper half, which is taken. */
	return (size_t)((a * 0x9e3779b97f4a7c15u ^ b * 0xc2b2ae3d27d4eb4fu) * 0x9e3779b97f4a7c15u >> 40);
}

uint32_t cfi_rules_intern(struct cfi_rules *r, const struct unwind_rule *rule)
{
	size_t slot = hash_rule(rule) % CFI_RULE_SLOTS;

	if (rule->kind == UNWIND_NONE)
		return UNWIND_RULE_NONE;
	for (; r->slots[slot]; slot = (slot + 1) % CFI_RULE_SLOTS)
		if (is_equal(&r->rules[r->slots[slot]], rule))
			return r->slots[slot];
	/* The last place is kept for what stands in for the ones that have none. */
	if (r->n >= UNWIND_RULES - 1 && rule->kind != UNWIND_OTHER)
		return cfi_rules_intern(r, &other);
	r->rules = grow_to(r->rules, &r->cap, r->n + 1, sizeof(*r->rules));
	r->slots[slot] = (uint16_t)r->n;
	r->rules[r->n] = *rule;
	return (uint32_t)r->n++;
}
