/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page faults: what one did is read off tables like the processor's, and booked by its weight. The tables lie in the host's memory;
 * physical address 0 is the host's address 0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "mapping.bpf.h"
#include "pages.bpf.h"
#include "world.h"
#include "books.h"

#include "probe/faults.h"

#define FAULT_AT (PROG_TEXT + 0x1000)
#define MAIN_AT (PROG_TEXT + 0x100)
#define DATA 0x7e0000000000ull /* begins a table of each kind */
#define PAGE(n) (DATA + (uint64_t)(n)*PAGE_BYTES)
#define HUGE_BYTES (HUGE_PAGES * PAGE_BYTES)
#define TABLES 64
#define PFN 0x1000ull
#define READ 0ull
#define USER 4ull /* arch/x86/include/asm/trap_pf.h: X86_PF_USER */

struct fixture {
	struct process *p;
	struct thread *th;
	uint32_t id;
	struct sum before;
	uint64_t *tables[TABLES];
	int n_tables;
};

static struct fixture f;

/* --- tables --- */
static uint64_t *table_new(void)
{
	uint64_t *t = aligned_alloc(PAGE_BYTES, PAGE_BYTES);

	assert_non_null(t);
	assert_true(f.n_tables < TABLES);
	memset(t, 0, PAGE_BYTES);
	return f.tables[f.n_tables++] = t;
}

/* The entry for an address at one level, with the tables above it. */
static uint64_t *entry_at(uint64_t addr, uint32_t level_shift)
{
	uint64_t *table = f.p->mm->pgd;

	for (uint32_t shift = paging.levels == 5 ? PT_SHIFT_TOP5 : PT_SHIFT_TOP4;; shift -= PT_SHIFT_STEP) {
		uint64_t *e = &table[addr >> shift & PT_INDEX];
		if (shift == level_shift)
			return e;
		if (!(*e & PT_PRESENT))
			*e = (uint64_t)(uintptr_t)table_new() | PT_PRESENT;
		table = (uint64_t *)(uintptr_t)(*e & PT_ADDRESS);
	}
}

static void map_page(int n, uint64_t pfn)
{
	*entry_at(PAGE(n), PT_SHIFT_PAGE) = pfn << PT_SHIFT_PAGE | PT_PRESENT;
}

static void map_pages(int from, int n)
{
	for (int i = from; i < from + n; i++)
		map_page(i, PFN + (uint64_t)i * 7); /* in no row */
}

static void tables_drop(void)
{
	while (f.n_tables)
		free(f.tables[--f.n_tables]);
}

static int setup(void **state)
{
	(void)state;
	tables_drop();
	world_init(true);
	f = (struct fixture){ 0 };
	f.p = process_new();
	f.th = f.p->leader;
	be(f.th);
	process_follow(f.p, PROC_PAGE);
	f.id = account_of(f.p);
	frame_enter(f.th, MAIN_AT);
	f.th->sp -= 32;
	f.th->user_regs = (struct pt_regs){ .ip = FAULT_AT, .bp = f.th->bp, .sp = f.th->sp };
	paging = (struct paging){ .levels = 4 };
	memset(faulting, 0, sizeof(faulting));
	faults_set_every(&paging, 1);
	f.p->mm->pgd = table_new();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	expect_no_loss();
	world_done();
	tables_drop();
	return 0;
}

/* --- faults --- */
static void begin(struct thread *th, int page, uint64_t error)
{
	be(th);
	(void)fault_begin(PAGE(page) + 0x123, error | USER);
}

static void end(struct thread *th)
{
	be(th);
	(void)fault_end();
}

static void expect_pages(uint64_t grown, uint64_t faults, uint64_t copied)
{
	struct sum s = sums_at(f.id, 0);

	assert_int_equal(s.alloc_bytes, grown * PAGE_BYTES);
	assert_int_equal(s.alloc_count, faults);
	assert_int_equal(s.cow_bytes, copied * PAGE_BYTES);
}

/* What one fault adds. */
static void expect_more(uint64_t grown, uint64_t copied)
{
	struct sum now = sums_at(f.id, 0);

	assert_int_equal(now.alloc_bytes - f.before.alloc_bytes, grown * PAGE_BYTES);
	assert_int_equal(now.cow_bytes - f.before.cow_bytes, copied * PAGE_BYTES);
	f.before = now;
}

static void test_one_page(void **state)
{
	(void)state;
	begin(f.th, 5, FAULT_WRITE);
	map_page(5, PFN);
	end(f.th);
	expect_pages(1, 1, 0);
	assert_int_equal(sums_at(f.id, 0).alloc_var, 0);
	assert_int_equal(sums_at(f.id, FAULT_AT + 1).alloc_count, 1); /* an instruction that has not run */
	end(f.th);						      /* of a fault that was not looked at */
	expect_pages(1, 1, 0);
}

static void test_weights(void **state)
{
	(void)state;
	faults_set_every(&paging, 32);
	uint32_t zero = 0, *left = bpf_map_lookup_elem(&fault_turns, &zero);
	*left = 3;
	for (int i = 0; i < 3; i++) {
		begin(f.th, i, READ);
		if (i == 2)
			faults_set_every(&paging, 100); /* it was taken as one of 32 */
		map_page(i, PFN);
		end(f.th);
	}
	expect_pages(32, 32, 0);
	assert_int_equal(sums_at(f.id, 0).alloc_var, 32 * 31);
	*left = 1;
	begin(f.th, 100, READ);
	map_pages(96, 16);
	end(f.th);
	expect_pages(32 + 100 * 16, 132, 0);
	assert_int_equal(sums_at(f.id, 0).alloc_var, 32 * 31 + 100 * 99 * 16 * 16);
}

/* Each fault is taken with the same chance, so the sums are right in the mean. */
static void test_adds_up(void **state)
{
	uint64_t grown = 0;

	(void)state;
	faults_set_every(&paging, 8);
	for (int i = 0; i < 20000; i++) {
		int n = i % 3 ? 1 : 16, at = i % 500 / 16 * 16;
		memset(entry_at(DATA, PT_SHIFT_PAGE), 0, PAGE_BYTES);
		begin(f.th, at, READ);
		map_pages(at, n);
		end(f.th);
		grown += (uint64_t)n;
	}
	struct sum s = sums_at(f.id, 0);
	double se = sqrt((double)s.alloc_var);
	assert_true(se < (double)grown / 20);
	assert_true(fabs((double)s.alloc_bytes / PAGE_BYTES - (double)grown) < 4 * se);
	assert_true(fabs((double)s.alloc_count - 20000) < 4 * sqrt(20000 * 7.0));
}

/* --- which are looked at --- */
static void test_not_ours(void **state)
{
	uint32_t zero = 0;

	(void)state;
	begin(f.th, 1, READ); /* brings the turn into being */
	end(f.th);
	uint32_t *left = bpf_map_lookup_elem(&fault_turns, &zero);
	*left = 3;
	(void)fault_begin(0xffff888000000000ull, READ); /* the kernel's own memory */
	(void)fault_begin(0, READ);
	f.th->task.pagefault_disabled = 1; /* a look that must not fault */
	begin(f.th, 1, READ);
	assert_int_equal(*left, 3);
	f.th->task.pagefault_disabled = 0;
	struct process *stranger = process_new();
	begin(stranger->leader, 1, READ); /* faults of all processes take turns */
	assert_int_equal(*left, 2);
	end(stranger->leader);
	proc_of(f.p)->flags = PROC_HEAP;
	begin(f.th, 1, READ);
	map_page(1, PFN);
	end(f.th);
	assert_int_equal(*left, 1);
	paging.every = 0;
	begin(f.th, 1, READ);
	assert_int_equal(*left, 1);
	expect_pages(0, 0, 0);
}

/* Two threads whose numbers end alike: the one that begins later has the place, and nothing is taken for another's. */
static void test_threads_of_one_place(void **state)
{
	(void)state;
	world.next_pid = (uint32_t)f.th->task.pid + FAULTING;
	struct thread *other = thread_new(f.p);

	other->user_regs = f.th->user_regs;
	begin(f.th, 1, READ);
	begin(other, 40, READ);
	map_page(1, PFN);
	map_page(40, PFN);
	end(f.th);
	expect_pages(0, 0, 0);
	end(other);
	expect_pages(1, 1, 0);
}

/* A fault that failed has no end; the thread's next one that is looked at is another. */
static void test_failed(void **state)
{
	(void)state;
	begin(f.th, 1, READ);
	begin(f.th, 200, READ);
	map_pages(200, 2);
	end(f.th);
	expect_pages(2, 1, 0);
	end(f.th);
	expect_pages(2, 1, 0);
}

static void test_no_table(void **state)
{
	(void)state;
	f.p->mm->pgd = NULL;
	begin(f.th, 1, READ);
	assert_int_equal(loss_take(f.p, LOSS_USER_READ), 1);
	end(f.th);
	expect_pages(0, 0, 0);
}

/* --- what they did --- */
static void test_around(void **state)
{
	static const int at[] = { 0, 1, 15, 16, 31, 32, 200, 479, 480, 481, 495, 510, 511 };

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint64_t *table = entry_at(DATA, PT_SHIFT_PAGE);
		memset(table, 0, PAGE_BYTES);
		int low = at[i] < 15 ? 0 : at[i] - 15, high = at[i] > 511 - 15 ? 511 : at[i] + 15;
		if (low != at[i])
			map_page(low, PFN); /* was there */
		begin(f.th, at[i], READ);
		for (int k = 0; k < TABLE_ENTRIES; k++) /* other threads fill all the rest meanwhile */
			if (!table[k])
				map_page(k, PFN + (uint64_t)k * 7);
		end(f.th);
		expect_more((uint64_t)(high - low + (low == at[i])), 0);
	}
}

/* Pages that lie in a row in physical memory came as one. */
static void test_large_folio(void **state)
{
	(void)state;
	for (int n = 32; n <= 256; n *= 2) {
		memset(entry_at(DATA, PT_SHIFT_PAGE), 0, PAGE_BYTES);
		begin(f.th, n + 3, FAULT_WRITE);
		for (int i = n; i < 2 * n; i++)
			map_page(i, PFN + (uint64_t)i);
		map_page(2 * n == TABLE_ENTRIES ? 0 : 2 * n, PFN); /* another */
		end(f.th);
		expect_more((uint64_t)n, 0);
	}
}

static void test_zero_page(void **state)
{
	uint64_t *e = entry_at(PAGE(3), PT_SHIFT_PAGE);

	(void)state;
	begin(f.th, 3, READ);
	*e = PFN << PT_SHIFT_PAGE | PT_PRESENT | PT_SPECIAL;
	end(f.th);
	expect_more(0, 0);
	begin(f.th, 3, FAULT_PRESENT | FAULT_WRITE);
	*e = (PFN + 1) << PT_SHIFT_PAGE | PT_PRESENT;
	end(f.th);
	expect_more(1, 0); /* not a copy: nobody had it */
}

static void test_copied(void **state)
{
	(void)state;
	faults_set_every(&paging, 1);
	map_pages(0, 30);
	begin(f.th, 3, FAULT_PRESENT | FAULT_WRITE);
	map_page(3, PFN * 2);
	end(f.th);
	expect_pages(0, 0, 1);
	begin(f.th, 4, FAULT_PRESENT | FAULT_WRITE); /* the last one that has it: it only becomes writable */
	end(f.th);
	begin(f.th, 5, FAULT_PRESENT); /* a read: it moved, by itself */
	map_page(5, PFN * 3);
	end(f.th);
	begin(f.th, 6, FAULT_WRITE); /* not there as the processor looked, there as we did: another thread brought it */
	map_page(6, PFN * 4);
	end(f.th);
	expect_pages(0, 0, 1);
	faults_set_every(&paging, 10);
	uint32_t zero = 0;
	*(uint32_t *)bpf_map_lookup_elem(&fault_turns, &zero) = 1;
	begin(f.th, 7, FAULT_PRESENT | FAULT_WRITE);
	map_page(7, PFN * 5);
	end(f.th);
	expect_pages(0, 0, 11);
}

/* A page that the kernel took the rights from, to see who uses it (NUMA), is there all the same. */
static void test_no_rights(void **state)
{
	uint64_t *e = entry_at(PAGE(3), PT_SHIFT_PAGE);

	(void)state;
	*e = PFN << PT_SHIFT_PAGE | PT_PROTNONE;
	begin(f.th, 3, FAULT_WRITE | FAULT_PRESENT);
	*e = PFN << PT_SHIFT_PAGE | PT_PRESENT;
	end(f.th);
	*e = PFN << PT_SHIFT_PAGE | PT_PROTNONE;
	begin(f.th, 3, FAULT_WRITE | FAULT_PRESENT);
	*e = (PFN + 1) << PT_SHIFT_PAGE | PT_PRESENT; /* moved to the node */
	end(f.th);
	expect_pages(0, 0, 0);
}

static void test_huge(void **state)
{
	uint64_t *e = entry_at(DATA, PT_SHIFT_HUGE), entry = PFN << PT_SHIFT_PAGE | PT_PRESENT | PT_LEAF;

	(void)state;
	paging.huge_zero_pfn = 2 * PFN;
	begin(f.th, 7, FAULT_WRITE);
	*e = entry;
	end(f.th);
	expect_more(HUGE_PAGES, 0);
	begin(f.th, 7, FAULT_PRESENT | FAULT_WRITE); /* only writable */
	*e = entry | 2;
	end(f.th);
	expect_more(0, 0);
	begin(f.th, 7,
	      FAULT_PRESENT | FAULT_WRITE); /* a huge page is never copied whole (do_huge_pmd_wp_page): it moved */
	*e = entry + (HUGE_PAGES << PT_SHIFT_PAGE);
	end(f.th);
	expect_more(0, 0);
	*e = entry;
	/* After a fork: split, and the one page copied. */
	begin(f.th, 7, FAULT_PRESENT | FAULT_WRITE);
	*e = 0;
	for (int i = 0; i < TABLE_ENTRIES; i++)
		map_page(i, PFN + (uint64_t)i);
	map_page(7, PFN * 3);
	end(f.th);
	expect_more(0, 1);
	*e = 0;
	begin(f.th, 9, READ);
	*e = 2 * PFN << PT_SHIFT_PAGE | PT_PRESENT | PT_LEAF; /* of zeros */
	end(f.th);
	expect_more(0, 0);
	begin(f.th, 9, FAULT_PRESENT | FAULT_WRITE);
	*e = entry;
	end(f.th);
	expect_more(HUGE_PAGES, 0);
}

/* hugetlbfs is no part of resident memory as the kernel counts it; neither are giant pages. */
static void test_hugetlb(void **state)
{
	(void)state;
	begin(f.th, 7, FAULT_WRITE);
	f.p->mm->hugetlb_usage.counter += HUGE_PAGES;
	*entry_at(DATA, PT_SHIFT_HUGE) = PFN << PT_SHIFT_PAGE | PT_PRESENT | PT_LEAF;
	end(f.th);
	*entry_at(DATA, PT_SHIFT_HUGE) = 0;
	begin(f.th, 7, FAULT_WRITE);
	*entry_at(DATA, PT_SHIFT_GIANT) = PFN << PT_SHIFT_PAGE | PT_PRESENT | PT_LEAF;
	end(f.th);
	expect_pages(0, 0, 0);
}

static void test_five_levels(void **state)
{
	(void)state;
	paging.levels = 5;
	begin(f.th, 7, FAULT_WRITE);
	map_pages(7, 3);
	end(f.th);
	expect_pages(3, 1, 0);
}

/* User space asks for the way to a page. */
static void test_ask(void **state)
{
	(void)state;
	map_page(7, PFN);
	be(f.th);
	(void)paging_ask(PAGE(7));
	assert_int_equal(paging_answer.failed, 0);
	assert_int_equal(paging_answer.entry, PFN << PT_SHIFT_PAGE | PT_PRESENT);
	assert_int_equal(paging_answer.shift, PT_SHIFT_PAGE);
	assert_int_equal(paging_answer.pgd, (uint64_t)(uintptr_t)f.p->mm->pgd);
	(void)paging_ask(DATA + (1ull << PT_SHIFT_GIANT)); /* nothing there */
	assert_int_equal(paging_answer.entry, 0);
	assert_int_equal(paging_answer.shift, PT_SHIFT_GIANT);
}

/* --- given back --- */
static void madvise_returns(uint64_t bytes, uint32_t advice, long ret)
{
	struct trace_event_raw_sys_exit ctx = { .id = 28, .ret = ret };

	f.th->user_regs.si = bytes;
	f.th->user_regs.dx = 0xffffffff00000000ull | advice; /* an int in a long's place */
	be(f.th);
	(void)madvise_done(&ctx);
}

static void test_given_back(void **state)
{
	(void)state;
	madvise_returns(PAGE_BYTES, MADV_DONTNEED, 0);
	madvise_returns(PAGE_BYTES + 1, MADV_FREE, 0);
	madvise_returns(PAGE_BYTES, MADV_FREE, -EINVAL);
	madvise_returns(PAGE_BYTES, 14 /* MADV_HUGEPAGE */, 0);
	assert_int_equal(proc_of(f.p)->given_back_bytes, 3 * PAGE_BYTES);
	proc_of(f.p)->flags = PROC_HEAP;
	madvise_returns(PAGE_BYTES, MADV_DONTNEED, 0);
	assert_int_equal(proc_of(f.p)->given_back_bytes, 3 * PAGE_BYTES);
}

#define CASE(name) \
	{ \
#name, name, setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_one_page),
		CASE(test_weights),
		CASE(test_adds_up),
		CASE(test_not_ours),
		CASE(test_threads_of_one_place),
		CASE(test_failed),
		CASE(test_no_table),
		CASE(test_around),
		CASE(test_large_folio),
		CASE(test_zero_page),
		CASE(test_copied),
		CASE(test_no_rights),
		CASE(test_huge),
		CASE(test_hugetlb),
		CASE(test_five_levels),
		CASE(test_ask),
		CASE(test_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
