/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User space's side of the kernel's process table, which both map, and the accounts that ended: their entries are to be removed from
 * the other tables before their numbers come again.
 */
#ifndef TIDEMARK_COLLECT_ACCOUNTS_H
#define TIDEMARK_COLLECT_ACCOUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"

struct accounts;

struct accounts *accounts_new(struct proc *slots); /* PROC_SLOTS of them, borrowed, must outlive */
void accounts_free(struct accounts *a);

/* Enters a process. 0 and its account; -EEXIST: it is there; -ENOSPC: no slot near its place. */
int accounts_enter(struct accounts *a, uint32_t tgid, const struct proc *as, uint32_t *ret_account);

/* Account of the process that has this number now; 0: none is followed. */
uint32_t accounts_of_pid(const struct accounts *a, uint32_t tgid);

/* The slot of an account that still holds it, else NULL. Figures in it go on changing. */
const struct proc *accounts_get(const struct accounts *a, uint32_t account);
/* Slot i of PROC_SLOTS, NULL if no process is in it. */
const struct proc *accounts_slot(const struct accounts *a, uint32_t i);
/* Sets and clears enum proc_flag; nothing if the account is gone. */
void accounts_set_flags(struct accounts *a, uint32_t account, uint32_t set, uint32_t clear);
/* What stacks need; nothing if the account is gone. */
void accounts_set_layout(struct accounts *a, uint32_t account, uint64_t layout);
void accounts_set_python(struct accounts *a, uint32_t account, uint32_t slot);
/* From now on, or no more, the kernel side is told of code objects that are freed: what it remembers of Python frames holds while none is. */
void accounts_watch_codes(struct accounts *a, uint32_t account, bool on);
/* The kernel side may ask for the layout again. */
void accounts_answer(struct accounts *a, uint32_t account);

void accounts_end(struct accounts *a, uint32_t account);
bool accounts_is_dead(const struct accounts *a, uint32_t account);
void accounts_buried(struct accounts *a, uint64_t before_ns); /* nothing is left of those that ended before */

#endif
