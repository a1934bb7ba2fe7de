/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code and its unwind rows, written into the maps as user space does (include/unwind.h). Included by world.h. Compiles nothing: a test
 * says which rule holds from where on.
 */
#ifndef TIDEMARK_HOST_TEXT_H
#define TIDEMARK_HOST_TEXT_H

struct text_row {
	uint64_t at; /* run-time address */
	struct unwind_rule rule;
};

/* One executable mapping. */
struct text {
	uint64_t start, end, bias;
	const struct text_row *rows; /* ascending; NULL: code of a JIT compiler, or of a file without rows */
	size_t n_rows;
};

struct text_tables {
	uint32_t n_pages, n_rules, n_rows, n_ranges;
};

static struct text_tables text_tables; /* how much of the maps is taken */

static inline uint32_t text_rule(const struct unwind_rule *r)
{
	for (uint32_t i = 0; i < text_tables.n_rules; i++)
		if (!memcmp(bpf_map_lookup_elem(&rules, &i), r, sizeof(*r)))
			return i;
	uint32_t i = text_tables.n_rules++;
	struct unwind_rule *at = bpf_map_lookup_elem(&rules, &i);
	assert(at);
	*at = *r;
	return i;
}

static inline void text_row_put(uint64_t vaddr, const struct unwind_rule *r)
{
	uint32_t zero = 0, block = text_tables.n_rows >> BLOCK_ROWS_SHIFT, rule = text_rule(r);
	void *inner = bpf_map_lookup_elem(&row_blocks, &block);

	if (!inner)
		inner = host_inner_new(host_map_of(&row_blocks), block);
	struct row_block *b = bpf_map_lookup_elem((struct row_block_map *)inner, &zero);
	b->row[text_tables.n_rows++ & (BLOCK_ROWS - 1)] = (uint32_t)(vaddr & 0xffff) << ROW_LOW_SHIFT | rule;
}

/* Rows of the page that begins there; *i: the first row behind it. The rule that holds at a page's begin is its first row. */
static inline void text_page_put(const struct text *t, uint64_t page, size_t *i)
{
	static const struct unwind_rule none;
	const struct unwind_rule *holds = *i ? &t->rows[*i - 1].rule : &none;
	uint32_t index = text_tables.n_pages++;
	struct unwind_page *p = bpf_map_lookup_elem(&pages, &index);
	size_t n = 0;

	assert(p);
	while (*i + n < t->n_rows && (t->rows[*i + n].at - t->bias) >> ROW_PAGE_SHIFT == page)
		n++;
	/* All rows of a page lie in one block. */
	if ((text_tables.n_rows & (BLOCK_ROWS - 1)) + n + 1 > BLOCK_ROWS)
		text_tables.n_rows = (text_tables.n_rows | (BLOCK_ROWS - 1)) + 1;
	p->first = text_tables.n_rows;
	if (!n || (t->rows[*i].at - t->bias) & 0xffff)
		text_row_put(0, holds);
	for (; n; n--, ++*i)
		text_row_put(t->rows[*i].at - t->bias, &t->rows[*i].rule);
	p->n = text_tables.n_rows - p->first;
}

/* Page index of linked address 0. */
static inline uint32_t text_pages_put(const struct text *t)
{
	uint64_t first = (t->start - t->bias) >> ROW_PAGE_SHIFT, last = (t->end - 1 - t->bias) >> ROW_PAGE_SHIFT;
	uint32_t base = text_tables.n_pages - (uint32_t)first;
	size_t i = 0;

	if (!t->rows)
		return RANGE_NO_ROWS;
	for (uint64_t page = first; page <= last; page++)
		text_page_put(t, page, &i);
	assert(i == t->n_rows);
	return base;
}

/* The layout of a process with these mappings, in any order. */
static inline uint64_t text_layout(const struct text *texts, uint32_t n)
{
	static const struct unwind_rule none;
	uint32_t first = text_tables.n_ranges;

	(void)text_rule(&none); /* rule 0 */
	for (uint32_t i = 0; i < n; i++) {
		const struct text *t = &texts[i];
		struct unwind_range now = { t->start, t->end, t->bias, text_pages_put(t), 0 };
		uint32_t at = text_tables.n_ranges++;
		struct unwind_range *to = bpf_map_lookup_elem(&ranges, &at);
		for (; at > first; at--) {
			uint32_t below = at - 1;
			struct unwind_range *r = bpf_map_lookup_elem(&ranges, &below);
			if (r->start < t->start)
				break;
			*to = *r;
			to = r;
		}
		*to = now;
	}
	return layout_pack(first, n);
}

#endif
