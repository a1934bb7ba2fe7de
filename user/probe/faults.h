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

/* A value of .bss that both sides map, and the program that fills in the answer. */
struct faults_side {
	int ask_prog; /* descriptor */
	struct paging *paging;
	const struct paging_answer *answer;
};

/*
 * Finds out how this kernel's page tables are read. 0; -ENOTSUP: they can't be. *ret_zeros: a mapping of the huge page of zeros, which keeps that page
 * where it is as long as it stays, or NULL; the caller gives it back with faults_forget_zeros.
 */
int faults_learn(const struct faults_side *s, void **ret_zeros);
void faults_forget_zeros(void *zeros);

/* From now on one fault in so many is looked at, 1 to PAGING_FAULTS_MAX; 0: none. */
void faults_set_every(struct paging *p, uint32_t every);

/* Links the program to the end of every fault, on each processor. *ret (caller closes them and frees) are descriptors; 0 or -errno. */
int faults_link(int prog_fd, int **ret, size_t *ret_n);

#endif
