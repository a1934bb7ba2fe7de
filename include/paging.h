/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the page layer's programs are told by user space and tell it: how often a fault is looked at, and how page tables are read. In .bss, which
 * both sides map.
 */
#ifndef TIDEMARK_PAGING_H
#define TIDEMARK_PAGING_H

#include "sampling.h"

#define PAGING_GAP_SHIFT 16
#define PAGING_FAULTS_EVERY \
	32 /* a fault in so many is looked at: what it costs then is at most what hearing of all of them costs */
#define PAGING_FAULTS_MAX 65536

struct paging {
	__u32 every;  /* faults that one stands for; 0: none is looked at */
	__u32 levels; /* of page tables: 4 or 5 */
	__u64 gap;    /* -1 / ln(1 - 1/every), 1.0 being 1 << PAGING_GAP_SHIFT: distances are geometric */
	__u64 direct_base; /* physical address 0 as the kernel sees it (page_offset_base): KASLR moves it, and no symbol need tell */
	__u64 huge_zero_pfn; /* the huge page of zeros, which no process has for itself; 0: not known */
};

/* Faults until the next one that is looked at, itself among them: geometric, so each is with probability 1/every, whatever came before. random: 32 bits. */
static inline __u32 paging_turn(const volatile struct sampling_tables *t, __u64 gap, __u32 random)
{
	return 1 + (__u32)((sample_distance(t, gap, 1, random) - 1) >> PAGING_GAP_SHIFT);
}

/* Answer of the program that user space runs to find these out. */
struct paging_answer {
	__u64 pgd;   /* our own uppermost table, as the kernel sees it */
	__u64 entry; /* the last one on the way to the address */
	__u32 shift; /* bits of address below that entry */
	__u32 failed;
};

/* Of an entry (arch/x86/include/asm/pgtable_types.h). */
#define PT_PRESENT (1ull << 0)
#define PT_LEAF (1ull << 7)	/* _PAGE_PSE: a huge page; not in the lowest table */
#define PT_PROTNONE (1ull << 8) /* where PT_PRESENT is not: there, but any access faults */
#define PT_SPECIAL \
	(1ull << 9) /* the page of zeros, device memory: nobody's resident memory (mm/memory.c: vm_normal_page) */
/*
 * Up to 128 TiB of physical memory. Memory encryption (SEV, TDX) puts its bit above: 47 or 51.
 */
#define PT_ADDRESS 0x00007ffffffff000ull
#define PT_INDEX 511ull

enum {
	PT_SHIFT_PAGE = 12,
	PT_SHIFT_HUGE = 21,
	PT_SHIFT_GIANT = 30,
	PT_SHIFT_TOP4 = 39,
	PT_SHIFT_TOP5 = 48,
	PT_SHIFT_STEP = 9
};

#endif
