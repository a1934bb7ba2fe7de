/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unwind tables in our own memory, the kernel side's search in them, and ELF files whose rules are known. */
#ifndef TIDEMARK_TESTS_UNWIND_FIXTURE_H
#define TIDEMARK_TESTS_UNWIND_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/unwind.h"

struct tables {
	struct unwind_area area; /* its ctx is this */
	struct row_block *blocks[ROW_BLOCKS];
	size_t n_blocks, max_blocks; /* block_new fails beyond */
	size_t n_open, most_open;    /* not given back yet */
};

void tables_init(struct tables *t);
void tables_done(struct tables *t); /* after unwind_free */

/* As the BPF program does it. NULL: no page of that number, or the search took more than its 16 steps. */
const struct unwind_rule *tables_rule(const struct tables *t, uint32_t page, uint64_t vaddr);
/* The range that holds an address; NULL: none. */
const struct unwind_range *tables_range(const struct tables *t, uint64_t layout, uint64_t addr);
/* Both. UNWIND_NONE's rule where the range has no rows, NULL where there is no range. */
const struct unwind_rule *tables_find(const struct tables *t, uint64_t layout, uint64_t addr);

/* Is it what the file says? Of rules that can't be followed only the kind counts. */
bool rules_agree(const struct unwind_rule *a, const struct unwind_rule *b);

/*
 * An x86-64 file. Function i: `rows` rows, `step` bytes each; in row k the CFA is at rsp + first_cfa + 8 * (k %
 * period).
 */
struct fake_segment {
	uint64_t vaddr, bytes;
};
struct fake_function {
	uint64_t vaddr;
	uint32_t rows, step, first_cfa, period;
};
struct fake_elf {
	struct fake_segment segments[3]; /* executable, ascending; file offset congruent to vaddr modulo 4096 */
	size_t n_segments;
	struct fake_function functions[3];
	size_t n_functions;
	uint8_t build_id; /* each of its 20 bytes; 0: none */
};
/* An anonymous file in memory; caller closes. ret_offsets (optional): where the segments are. */
int fake_elf_open(const struct fake_elf *f, uint64_t ret_offsets[3]);

#endif
