/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the state of a call frame program to a rule that the kernel side can follow, and the set of different rules of a file. What no rule
 * expresses is UNWIND_OTHER; nothing here evaluates an expression.
 */
#ifndef TIDEMARK_PROBE_CFI_RULE_H
#define TIDEMARK_PROBE_CFI_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/cfi_exec.h"
#include "unwind.h"

struct unwind_rule cfi_rule_build(const struct cfi_state *s, bool is_signal);

/* Twice as many slots as rules, so that a search stays short. */
#define CFI_RULE_SLOTS (2 * UNWIND_RULES)

/* Rules without doubles. [0] is UNWIND_NONE; at most UNWIND_RULES, what comes then is UNWIND_OTHER. */
struct cfi_rules {
	struct unwind_rule *rules;
	size_t n, cap;
	uint16_t slots[CFI_RULE_SLOTS]; /* index in rules, 0: empty */
};

struct cfi_rules *cfi_rules_new(void);
void cfi_rules_free(struct cfi_rules *r);
uint32_t cfi_rules_intern(struct cfi_rules *r, const struct unwind_rule *rule);

/*
 * An expression with its operands, as far as rules need it. 0 operations: more than CFI_OPS_MAX, unknown, or broken. It is read again for each row where
 * it holds: without a limit on its bytes, operands padded to megabytes would be, too.
 */
#define CFI_OPS_MAX 9
#define CFI_EXPR_BYTES_MAX 24 /* the longest that a rule expresses, of a linkage table, has 11 or 12 */

struct cfi_op {
	uint8_t op;    /* registers and literals: the first of their kind, DW_OP_breg0 or DW_OP_lit0 */
	uint8_t reg;   /* DW_OP_breg0 */
	int64_t value; /* literals and constants too */
};

size_t cfi_expr_parse(const uint8_t *expr, size_t bytes, struct cfi_op ret[CFI_OPS_MAX]);
/* The rule's kind and offsets for a CFA that is an expression; UNWIND_OTHER: none. */
struct unwind_rule cfi_expr_cfa(const uint8_t *expr, size_t bytes);
/* The expression is register + *ret. */
bool cfi_expr_is_reg(const uint8_t *expr, size_t bytes, unsigned int reg, int64_t *ret);

#endif
