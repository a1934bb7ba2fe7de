/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bounded walk over the control flow of small functions: operator new and delete, free_sized. Allocators with a
 * fast path of their own have paths that return without a call, so for them the answer is no, which is right: nobody
 * else sees those blocks.
 */
#include "probe/reach.h"

#include <string.h>

#include "probe/track.h"
#include "util/mem.h"

#define DEPTH_MAX 3
#define PATHS_MAX 64
#define INSNS_MAX 2000 /* of one question, all calls together */

struct reach {
	struct decoder *d;
	const struct family_func *row;
	uint64_t self;
	unsigned int budget;
	bool frees, found;
	bool via_got; /* a call through a slot counts: the file defines no allocator, so it leads to another file's */
	const char *name;
};

/* Block starts of one function, each once, in the order in which they were found. */
struct paths {
	uint64_t at[PATHS_MAX];
	size_t n;
	bool full;
};

enum outcome { PASSES, ENDS, MISSES };

static bool path_ok(struct reach *r, uint64_t vaddr, int depth);

static bool frees(enum shape s)
{
	return s == SHAPE_PTR_TO_VOID || s == SHAPE_PTR_SIZE_TO_VOID;
}

static void paths_add(struct paths *p, uint64_t vaddr)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->at[i] == vaddr)
			return;
	if (p->n == PATHS_MAX)
		p->full = true;
	else
		p->at[p->n++] = vaddr;
}

/* Functions from which no path comes back: the bad_alloc branch of operator new. */
static bool never_returns(const char *name)
{
	static const char *const names[] = { "__cxa_throw",
					     "__cxa_rethrow",
					     "_Unwind_Resume",
					     "abort",
					     "_ZSt9terminatev",
					     "__stack_chk_fail",
					     "_ZSt17__throw_bad_allocv",
					     "_ZSt28__throw_bad_array_new_lengthv",
					     "__assert_fail" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static enum outcome call_outcome(struct reach *r, uint64_t target, int depth)
{
	const char *plt = r->d->src->plt(r->d->src->ctx, target);
	const char *name = plt ? plt : r->d->src->own(r->d->src->ctx, target);
	const struct family_func *row = name ? family_find(name) : NULL;

	if (row && target != r->self && frees(row->shape) == r->frees) {
		r->found = true;
		r->name = row->site;
		return PASSES;
	}
	if (plt)
		return never_returns(plt) ? ENDS : MISSES;
	return depth < DEPTH_MAX && target != r->self && path_ok(r, target, depth + 1) ? PASSES : MISSES;
}

static bool got_passes(struct reach *r, const cs_insn *insn)
{
	if (!r->via_got || !insn_is_via_got(insn))
		return false;
	r->found = true;
	return true;
}

/* Both ways of a conditional jump, or only the one on which the freed pointer is not NULL. */
static void branch(struct reach *r, struct paths *p, const struct track *t, const cs_insn *insn, uint64_t target)
{
	bool null_test = t && r->frees && t->null_tested;

	if (!null_test || insn->id != X86_INS_JNE)
		paths_add(p, insn->address + insn->size);
	if (!null_test || insn->id != X86_INS_JE)
		paths_add(p, target);
}

/* A jump out of the block: false when it leaves for a function that returns without having passed. */
static bool jump_ok(struct reach *r, struct paths *p, uint64_t target)
{
	bool is_stub = r->d->src->plt(r->d->src->ctx, target) != NULL;

	if (is_stub || r->d->src->own(r->d->src->ctx, target))
		if (call_outcome(r, target, DEPTH_MAX) != MISSES)
			return true;
	if (is_stub)
		return false;
	paths_add(p, target); /* in the function, in its cold part, or in another function whose return is ours */
	return true;
}

/* Follows one block to its end and adds where it leads. `t` is NULL where the arguments are no longer known. */
static bool block_ok(struct reach *r, struct paths *p, uint64_t vaddr, struct track *t, int depth)
{
	for (;;) {
		const cs_insn *insn = r->budget ? decoder_at(r->d, vaddr) : NULL;
		uint64_t target = 0;
		enum flow f;

		if (!insn)
			return false;
		r->budget--;
		f = insn_flow(insn, &target);
		vaddr = insn->address + insn->size;
		if (f == FLOW_STOP)
			return true;
		if (f == FLOW_RET)
			return false;
		if (f == FLOW_JMP)
			return jump_ok(r, p, target);
		if (f == FLOW_JMP_INDIRECT)
			return got_passes(r, insn);
		if (f == FLOW_JCC) {
			branch(r, p, t, insn, target);
			return true;
		}
		if (f == FLOW_CALL_INDIRECT && got_passes(r, insn))
			return true;
		if (f == FLOW_CALL && call_outcome(r, target, depth) != MISSES)
			return true;
		if (f != FLOW_NEXT)
			t = NULL; /* a call: the decoded instruction is gone, and the arguments with it */
		if (t)
			track_step(t, r->d, insn);
	}
}

static bool path_ok(struct reach *r, uint64_t vaddr, int depth)
{
	struct paths p = { .at = { vaddr }, .n = 1 };
	struct track t;

	track_init(&t, r->row->shape);
	for (size_t i = 0; i < p.n && !p.full; i++)
		if (!block_ok(r, &p, p.at[i], i == 0 && !depth ? &t : NULL, depth))
			return false;
	return !p.full;
}

bool reach_probed(struct decoder *d, uint64_t vaddr, const struct family_func *row, const char **ret_name)
{
	const struct code_source *src = d->src;
	bool of_frees = frees(row->shape);
	struct reach r = {
		.d = d,
		.row = row,
		.self = vaddr,
		.budget = INSNS_MAX,
		.frees = of_frees,
		.via_got = !src->defines(src->ctx, of_frees ? "free" : "malloc"),
	};

	if (!path_ok(&r, vaddr, 0) || !r.found)
		return false;
	if (ret_name)
		*ret_name = r.name;
	return true;
}
