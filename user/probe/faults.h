/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the page layer needs of this machine: how page tables are read, how many faults one stands for, the events at which faults are handled. Private
 * to probe/.
 */
#ifndef TIDEMARK_PROBE_FAULTS_H
#define TIDEMARK_PROBE_FAULTS_H

#include <stddef.h>
#include <stdint.h>

#include "paging.h"

struct bpf_program;
struct faults;

/* The programs, and the values of .bss that both sides map. */
struct faults_side {
	struct bpf_program *begins[2];	      /* at the two tracepoints where faults begin */
	int end_prog, madvise_prog, ask_prog; /* descriptors; madvise -1: not to be seen */
	struct paging *paging;
	const struct paging_answer *answer;
};

/*
 * Finds out how page tables are read here and attaches everything; one fault in `every` is looked at. 0; -ENOTSUP: page tables can't be read; -errno.
 * Nothing stays attached after an error.
 */
int faults_attach(const struct faults_side *s, uint32_t every, struct faults **ret);
void faults_detach(struct faults *f); /* NULL is fine */

/* From now on one fault in so many is looked at, 1 to PAGING_FAULTS_MAX; 0: none. */
void faults_set_every(struct paging *p, uint32_t every);

#endif
