/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unwind rows: .eh_frame and .debug_frame compiled to tables that a BPF program can search.
 *
 *	pc of a frame -> range of the process (`ranges`) -> address as linked -> page of 64 KiB (`pages`)
 *	              -> row of the page (`row_blocks`, binary search) -> rule (`rules`)
 *
 * A row says from which address on a rule holds: low 16 bits of the address as linked in its upper half, the rule's number in its lower
 * half, so that rows compare as numbers. The first row of a page is at its address 0 (what holds there began in the page before). All rows of a page lie in
 * one block, one behind the other. Pages, rows and rules belong to a file and are shared by all processes that map it; ranges belong
 * to a process (and to its children, until they map code of their own).
 *
 * x86-64: registers 6 (rbp), 7 (rsp), 16 (return address), System V ABI, AMD64 supplement, figure 3.36.
 */
#ifndef TIDEMARK_UNWIND_H
#define TIDEMARK_UNWIND_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

#define ROW_LOW_SHIFT 16
#define ROW_PAGE_SHIFT 16
#define BLOCK_ROWS_SHIFT 15
#define BLOCK_ROWS (1u << BLOCK_ROWS_SHIFT)
#define ROW_BLOCKS 256	   /* 8 M rows: some 200 large libraries */
#define UNWIND_PAGES 65536 /* 4 GiB of code */
#define UNWIND_RULES 16384 /* a whole desktop's files have some 9,700 different ones */
#define UNWIND_RANGES 65536
#define PROCESS_RANGES_MAX 1023

struct row_block {
	__u32 row[BLOCK_ROWS];
};

/* n 0: no rows for this page. */
struct unwind_page {
	__u32 first; /* block << BLOCK_ROWS_SHIFT | index of its first row in it */
	__u32 n;
};

/* How the canonical frame address (the stack pointer of the caller, behind the return address) is found. */
enum unwind_kind {
	UNWIND_NONE,	 /* no row covers the address: frame pointer, as code of JIT compilers has it */
	UNWIND_SP,	 /* rsp + cfa_off */
	UNWIND_BP,	 /* rbp + cfa_off */
	UNWIND_SP_DEREF, /* *(rsp + cfa_off) + cfa_add */
	UNWIND_BP_DEREF, /* *(rbp + cfa_off) + cfa_add: realigned stacks of gcc */
	UNWIND_PLT,	 /* rsp + 8 + ((pc & 15) >= cfa_off ? 8 : 0): lazy binding */
	UNWIND_SIGNAL,	 /* the kernel's signal frame: rsp points to struct ucontext */
	UNWIND_END,	 /* return address undefined: the thread starts here */
	UNWIND_OTHER,	 /* another register or expression: can't be followed, and is counted */
	UNWIND_KIND_NR
};

/* Where the caller's rbp is. */
enum unwind_bp {
	UNWIND_BP_SAME,	  /* still in the register */
	UNWIND_BP_AT_CFA, /* saved at cfa + bp_off */
	UNWIND_BP_AT_BP,  /* saved at rbp + bp_off: realigned stacks of gcc */
	UNWIND_BP_LOST,	  /* undefined or not followed: only a rule that needs it fails */
};

struct unwind_rule {
	__u8 kind; /* enum unwind_kind */
	__u8 bp;   /* enum unwind_bp */
	__s16 bp_off;
	__s32 cfa_off;
	__s32 cfa_add;
	__u32 pad; /* the kernel keeps array elements at multiples of 8 bytes */
};

/* Rule 0 is { UNWIND_NONE }. */
#define UNWIND_RULE_NONE 0

/* One executable mapping of a process. In `ranges` a process's ones lie together, ascending. */
struct unwind_range {
	__u64 start, end;
	__u64 bias; /* address - bias = address as linked */
	__u32 page; /* index in `pages` of linked address 0, modulo 2^32; RANGE_NO_ROWS: the file has none */
	__u32 pad;
};

#define RANGE_NO_ROWS 0xffffffffu

/* Which ranges a process has, in one word that changes at once: first index and number. 0: not known yet. */
static inline __u64 layout_pack(__u32 first, __u32 n)
{
	return (__u64)n << 32 | first;
}

static inline __u32 layout_first(__u64 layout)
{
	return (__u32)layout;
}

static inline __u32 layout_n(__u64 layout)
{
	return (__u32)(layout >> 32);
}

_Static_assert(sizeof(struct unwind_page) == 8, "unwind_page");
_Static_assert(sizeof(struct unwind_rule) == 16, "unwind_rule");
_Static_assert(sizeof(struct unwind_range) == 32, "unwind_range");

#endif
