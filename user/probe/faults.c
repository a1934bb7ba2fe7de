/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading page tables takes one number that no interface tells: where the kernel sees physical address 0. KASLR puts it at a multiple of 1 GiB
 * (arch/x86/mm/kaslr.c), so there are as many candidates as the machine has GiB of memory. Our own uppermost table proves one of them: its address, looked up in
 * the tables as read with that candidate, has to lead to the physical address that the candidate gives it.
 */
#include "probe/faults.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "probe/link.h"
#include "util/mem.h"

#define GIB (1ull << 30)
#define GIB_MAX 16384 /* of memory: candidates that are tried, at about a microsecond each */
#define HUGE_BYTES (2ul << 20)
#define ADDRESS_BITS_4 47 /* of the kernel's half, with four levels of tables */

struct faults {
	struct bpf_link *begins[2];
	int *ends, madvise; /* descriptors of links; madvise -1: none */
	size_t n_ends;
	void *zeros; /* keeps the huge page of zeros where it is; NULL: there is none */
};

static int ask(const struct faults_side *s, uint64_t addr)
{
	uint64_t args[1] = { addr };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = args, .ctx_size_in = sizeof(args));
	int err = bpf_prog_test_run_opts(s->ask_prog, &opts);

	return err ? err : s->answer->failed ? -EFAULT : 0;
}

static uint64_t low_bits(unsigned n)
{
	return (1ull << n) - 1;
}

/* Physical address that the tables give for the address that was asked about; all ones: none. */
static uint64_t answer_physical(const struct paging_answer *a, uint64_t addr)
{
	uint64_t low = low_bits(a->shift & 63);

	if (!(a->entry & PT_PRESENT))
		return ~0ull;
	return (a->entry & PT_ADDRESS & ~low) | (addr & low);
}

static int find_direct_base(const struct faults_side *s)
{
	struct paging *p = s->paging;

	p->direct_base = 0;
	(void)ask(s, 0); /* fails, but says where our table is */
	uint64_t pgd = s->answer->pgd, base = pgd & ~(GIB - 1);
	if (!pgd)
		return -ENOTSUP;
	p->levels = pgd >> ADDRESS_BITS_4 == low_bits(64 - ADDRESS_BITS_4) ? 4 : 5;
	for (int i = 0; i < GIB_MAX; i++, base -= GIB) {
		p->direct_base = base;
		if (!ask(s, 0) && answer_physical(s->answer, pgd) == pgd - base)
			return 0;
	}
	p->direct_base = 0;
	return -ENOTSUP;
}

/* Where huge pages are off, or none is free, there is nothing to find, nor to be taken for anybody's memory. */
static void *find_huge_zeros(const struct faults_side *s)
{
	char *at = mmap(NULL, 2 * HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	char *huge = (char *)(((uintptr_t)at + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	(void)madvise(huge, HUGE_BYTES, MADV_HUGEPAGE); /* a wish */
	(void)*(volatile char *)huge;
	if (!ask(s, (uintptr_t)huge) && s->answer->shift == PT_SHIFT_HUGE && s->answer->entry & PT_PRESENT)
		s->paging->huge_zero_pfn = answer_physical(s->answer, 0) >> PT_SHIFT_PAGE;
	return at;
}

void faults_set_every(struct paging *p, uint32_t every)
{
	uint32_t n = every < PAGING_FAULTS_MAX ? every : PAGING_FAULTS_MAX;

	/* Of 1 the distance is always 1. */
	p->gap = n > 1 ? (uint64_t)(-(1 << PAGING_GAP_SHIFT) / log1p(-1.0 / n)) : 0;
	__atomic_store_n(&p->every, n, __ATOMIC_RELEASE);
}

/* Links the program to the end of every fault, on each processor. */
static int link_ends(struct faults *f, int prog_fd)
{
	static const uint64_t events[] = { PERF_COUNT_SW_PAGE_FAULTS_MIN, PERF_COUNT_SW_PAGE_FAULTS_MAJ };
	int cpus = libbpf_num_possible_cpus();

	if (cpus < 0)
		return cpus;
	f->ends = xcalloc((size_t)cpus * ARRAY_SIZE(events), sizeof(*f->ends));
	for (int cpu = 0; cpu < cpus; cpu++)
		for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
			int fd = link_create_software(prog_fd, events[i], cpu);
			if (fd >= 0)
				f->ends[f->n_ends++] = fd;
			else if (fd != -ENODEV) /* a processor that is off */
				return fd;
		}
	return 0;
}

static int attach_all(struct faults *f, const struct faults_side *s, uint32_t every)
{
	int err = find_direct_base(s);

	if (err)
		return err;
	f->zeros = find_huge_zeros(s);
	err = link_ends(f, s->end_prog);
	if (err)
		return err;
	if (s->madvise_prog >= 0) {
		f->madvise = link_create_tracepoint(s->madvise_prog, "syscalls/sys_exit_madvise");
		if (f->madvise < 0)
			return f->madvise;
	}
	faults_set_every(s->paging, every);
	for (size_t i = 0; i < ARRAY_SIZE(f->begins); i++) {
		f->begins[i] = bpf_program__attach(s->begins[i]);
		if (!f->begins[i])
			return -errno;
	}
	return 0;
}

int faults_attach(const struct faults_side *s, uint32_t every, struct faults **ret)
{
	struct faults *f = xcalloc(1, sizeof(*f));

	f->madvise = -1;
	int err = attach_all(f, s, every);
	if (err)
		faults_detach(f);
	else
		*ret = f;
	return err;
}

void faults_detach(struct faults *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(f->begins); i++)
		if (f->begins[i])
			(void)bpf_link__destroy(f->begins[i]); /* closes a descriptor: can't fail usefully */
	for (size_t i = 0; i < f->n_ends; i++)
		(void)close(f->ends[i]);
	if (f->madvise >= 0)
		(void)close(f->madvise);
	if (f->zeros)
		(void)munmap(f->zeros, 2 * HUGE_BYTES);
	free(f->ends);
	free(f);
}
