/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From sections to rows:
 *
 *	section -> entries, sorted by address (cfi_entry.c) -> each one's program, run once (cfi_exec.c) -> rules (cfi_rule.c)
 *	        -> rows of the section -> rows of both sections -> gaps of padding closed
 *
 * Each program is run in the order of addresses, so that rows come out sorted; what an earlier function covers already is cut off at `covered`. Until the
 * end, an address without a rule has a row of UNWIND_NONE, however short the gap: that is where .debug_frame may have one.
 */
#include "probe/cfi.h"

#include <errno.h>

#include "probe/cfi_entry.h"
#include "probe/cfi_exec.h"
#include "probe/cfi_image.h"
#include "probe/cfi_rule.h"
#include "util/mem.h"

/* Less than this between two functions is padding: linkers and compilers align to 16. */
#define GAP_MIN 16

struct rows {
	struct cfi_row *v;
	size_t n, cap;
	bool is_over; /* CFI_ROWS_MAX */
};

struct compiler {
	struct cfi_rules *rules;
	struct rows *rows;
	uint64_t covered; /* addresses below have their rows */
	bool is_signal;
	/* The rule of the state before: most states differ from it, but many functions begin alike. */
	struct unwind_rule last;
	uint32_t last_index;
};

static void rows_done(struct rows *r)
{
	free(r->v);
}

/* A row that says what holds already is none. */
static void rows_add(struct rows *r, uint64_t vaddr, uint32_t rule)
{
	if (r->n && r->v[r->n - 1].rule == rule)
		return;
	if (r->n == CFI_ROWS_MAX) {
		r->is_over = true;
		return;
	}
	r->v = grow_to(r->v, &r->cap, r->n + 1, sizeof(*r->v));
	r->v[r->n++] = (struct cfi_row){ .vaddr = vaddr, .rule = rule };
}

static void take_state(void *ctx, uint64_t vaddr, const struct cfi_state *s)
{
	struct compiler *c = ctx;
	struct unwind_rule rule = cfi_rule_build(s, c->is_signal);

	if (memcmp(&rule, &c->last, sizeof(rule)) != 0) {
		c->last = rule;
		c->last_index = cfi_rules_intern(c->rules, &rule);
	}
	/* Of states that began before `covered` the last one holds there. */
	if (vaddr < c->covered)
		vaddr = c->covered;
	if (c->rows->n && c->rows->v[c->rows->n - 1].vaddr == vaddr)
		c->rows->v[c->rows->n - 1].rule = c->last_index;
	else
		rows_add(c->rows, vaddr, c->last_index);
}

/* Rows of one section's functions; adds to *n_broken. */
static int compile_section(const struct cfi_image *im, const struct cfi_section *s, struct cfi_rules *rules,
			   struct rows *rows, size_t *n_broken)
{
	_cleanup_(cfi_entries_done) struct cfi_entries entries = { 0 };
	struct compiler c = { .rules = rules, .rows = rows };
	struct cfi_run run;
	int err = cfi_entries_build(s, im, &entries);

	if (err)
		return err;
	*n_broken += entries.n_broken;
	run.section = s;
	run.sink.state = take_state;
	run.sink.ctx = &c;
	for (size_t i = 0; i < entries.n_fdes && !rows->is_over; i++) {
		const struct cfi_fde *fde = &entries.fdes[i];
		size_t before = rows->n;
		if (fde->end <= c.covered) {
			*n_broken += s->is_eh;
			continue;
		}
		if (rows->n && fde->start > c.covered)
			rows_add(rows, c.covered, UNWIND_RULE_NONE);
		run.cie = &entries.cies[fde->cie];
		run.program.at = s->data + fde->program;
		run.program.end = s->data + fde->program_end;
		run.program.is_bad = false;
		run.start = fde->start;
		run.end = fde->end;
		c.is_signal = run.cie->is_signal;
		if (cfi_exec_fde(&run)) {
			c.covered = fde->end;
		} else {
			rows->n = before;
			++*n_broken;
		}
	}
	if (rows->n)
		rows_add(rows, c.covered, UNWIND_RULE_NONE);
	return rows->is_over ? -EFBIG : 0;
}

/* `over` where it has a rule, else `under`. */
static int merge(const struct rows *over, const struct rows *under, struct rows *ret)
{
	uint32_t rule[2] = { UNWIND_RULE_NONE, UNWIND_RULE_NONE };
	size_t i = 0, j = 0;

	while (i < over->n || j < under->n) {
		uint64_t a = i < over->n ? over->v[i].vaddr : UINT64_MAX;
		uint64_t b = j < under->n ? under->v[j].vaddr : UINT64_MAX;
		uint64_t at = a < b ? a : b;
		if (i < over->n && a == at)
			rule[0] = over->v[i++].rule;
		if (j < under->n && b == at)
			rule[1] = under->v[j++].rule;
		rows_add(ret, at, rule[0] != UNWIND_RULE_NONE ? rule[0] : rule[1]);
	}
	return ret->is_over ? -EFBIG : 0;
}

/* What holds before padding holds on in it, as far as the next function. */
static void close_gaps(struct rows *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n; i++) {
		struct cfi_row row = r->v[i];
		if (row.rule == UNWIND_RULE_NONE && n && i + 1 < r->n && r->v[i + 1].vaddr - row.vaddr < GAP_MIN)
			continue;
		if (!n || r->v[n - 1].rule != row.rule)
			r->v[n++] = row;
	}
	r->n = n;
}

/* .debug_frame only adds to what .eh_frame has: where it can't be had the rest is good all the same. */
static int compile(const struct cfi_image *im, struct cfi_rules *rules, struct rows *rows, size_t *n_broken)
{
	_cleanup_(rows_done) struct rows eh = { 0 };
	_cleanup_(rows_done) struct rows debug = { 0 };
	int err = im->eh.data ? compile_section(im, &im->eh, rules, &eh, n_broken) : 0;

	*n_broken += im->debug.is_unreadable;
	if (!err && im->debug.data)
		err = compile_section(im, &im->debug, rules, &debug, n_broken);
	if (!err && eh.n && debug.n)
		return merge(&eh, &debug, rows);
	if (!err) {
		struct rows *only = eh.n ? &eh : &debug;
		*rows = *only;
		*only = (struct rows){ 0 };
	}
	return err;
}

static int build(struct cfi_image *im, struct cfi *ret)
{
	_cleanup_(rows_done) struct rows rows = { 0 };
	struct cfi c = { 0 };
	struct cfi_rules *rules = cfi_rules_new();
	int err = compile(im, rules, &rows, &c.n_broken);

	if (!err) {
		close_gaps(&rows);
		for (size_t i = 0; i < rows.n; i++)
			c.n_other += rules->rules[rows.v[i].rule].kind == UNWIND_OTHER;
		c.rows = xrealloc(rows.v, rows.n, sizeof(*rows.v));
		c.n_rows = rows.n;
		rows.v = NULL;
		c.rules = rules->rules;
		c.n_rules = rules->n;
		rules->rules = NULL;
		*ret = c;
	}
	cfi_rules_free(rules);
	return err;
}

static int build_from(int fd, const void *image, size_t bytes, struct cfi *ret)
{
	_cleanup_(cfi_image_done) struct cfi_image im = { 0 };
	int err = cfi_image_open(fd, image, bytes, &im);

	return err ? err : build(&im, ret);
}

int cfi_build(int fd, struct cfi *ret)
{
	return fd < 0 ? -EIO : build_from(fd, NULL, 0, ret);
}

int cfi_build_mem(const void *image, size_t bytes, struct cfi *ret)
{
	return build_from(-1, image, bytes, ret);
}

void cfi_done(struct cfi *c)
{
	free(c->rows);
	free(c->rules);
	*c = (struct cfi){ 0 };
}

const struct cfi_row *cfi_find(const struct cfi *c, uint64_t vaddr)
{
	size_t lo = 0, hi = c->n_rows;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (c->rows[mid].vaddr <= vaddr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? &c->rows[lo - 1] : NULL;
}
