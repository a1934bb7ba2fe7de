/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/accounts.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

#include "tables.h"
#include "util/clock.h"
#include "util/mem.h"

struct dead {
	uint32_t account;
	uint64_t since_ns;
	UT_hash_handle hh;
};

struct accounts {
	uint64_t turns; /* of code objects: the last ones given out */
	struct proc *slots;
	struct dead *dead;
};

struct accounts *accounts_new(struct proc *slots)
{
	struct accounts *a = xcalloc(1, sizeof(*a));

	a->slots = slots;
	return a;
}

void accounts_free(struct accounts *a)
{
	struct dead *d, *next;

	if (!a)
		return;
	HASH_ITER(hh, a->dead, d, next) {
		HASH_DEL(a->dead, d);
		free(d);
	}
	free(a);
}

/* The programs enter processes at the same time (births): a slot is taken by compare-and-swap, and shown by its tgid at last. */
int accounts_enter(struct accounts *a, uint32_t tgid, const struct proc *as, uint32_t *ret_account)
{
	struct proc *p = NULL;

	for (uint32_t i = 0; i < PROC_PROBES; i++)
		if (__atomic_load_n(&a->slots[proc_place(tgid, i)].tgid, __ATOMIC_ACQUIRE) == tgid)
			return -EEXIST;
	for (uint32_t i = 0; i < PROC_PROBES && !p; i++) {
		struct proc *slot = &a->slots[proc_place(tgid, i)];
		if (__sync_bool_compare_and_swap(&slot->tgid, 0, PROC_CLAIMED))
			p = slot;
	}
	if (!p)
		return -ENOSPC;
	struct proc filled = *as;
	filled.tgid = PROC_CLAIMED; /* the slot stays claimed while it is written */
	filled.used = p->used + 1;
	filled.swept = p->swept;
	filled.account = account_make((uint32_t)(p - a->slots), filled.used);
	*p = filled;
	*ret_account = filled.account;
	__atomic_store_n(&p->tgid, tgid, __ATOMIC_RELEASE);
	return 0;
}

uint32_t accounts_of_pid(const struct accounts *a, uint32_t tgid)
{
	for (uint32_t i = 0; i < PROC_PROBES; i++) {
		const struct proc *p = &a->slots[proc_place(tgid, i)];
		if (__atomic_load_n(&p->tgid, __ATOMIC_ACQUIRE) == tgid)
			return p->account;
	}
	return 0;
}

static struct proc *slot_of(const struct accounts *a, uint32_t account)
{
	struct proc *p = &a->slots[account_slot(account)];

	return p->tgid && p->tgid != PROC_CLAIMED && p->account == account ? p : NULL;
}

const struct proc *accounts_get(const struct accounts *a, uint32_t account)
{
	return slot_of(a, account);
}

const struct proc *accounts_slot(const struct accounts *a, uint32_t i)
{
	const struct proc *p = &a->slots[i];

	return p->tgid && p->tgid != PROC_CLAIMED ? p : NULL;
}

void accounts_set_flags(struct accounts *a, uint32_t account, uint32_t set, uint32_t clear)
{
	struct proc *p = slot_of(a, account);

	if (!p)
		return;
	(void)__sync_fetch_and_or(&p->flags, set);
	(void)__sync_fetch_and_and(&p->flags, ~clear);
}

void accounts_set_layout(struct accounts *a, uint32_t account, uint64_t layout)
{
	struct proc *p = slot_of(a, account);

	if (p)
		__atomic_store_n(&p->layout, layout, __ATOMIC_RELEASE); /* its ranges are written */
}

void accounts_set_python(struct accounts *a, uint32_t account, uint32_t slot)
{
	struct proc *p = slot_of(a, account);

	if (p)
		__atomic_store_n(&p->python, slot, __ATOMIC_RELEASE);
}

void accounts_watch_codes(struct accounts *a, uint32_t account, bool on)
{
	struct proc *p = slot_of(a, account);

	if (!p || (on && p->code_turn >= CODE_TURNS_APART))
		return;
	a->turns += CODE_TURNS_APART; /* what was remembered before never comes again */
	__atomic_store_n(&p->code_turn, on ? a->turns : 0, __ATOMIC_RELEASE);
}

void accounts_answer(struct accounts *a, uint32_t account)
{
	struct proc *p = slot_of(a, account);

	if (p && p->layout_asked)
		__atomic_store_n(&p->layout_asked, 0, __ATOMIC_RELEASE);
}

static struct dead *dead_find(const struct accounts *a, uint32_t account)
{
	struct dead *d = NULL;

	HASH_FIND(hh, a->dead, &account, sizeof(account), d);
	return d;
}

void accounts_end(struct accounts *a, uint32_t account)
{
	struct dead *d = dead_find(a, account);

	if (!d) {
		d = xcalloc(1, sizeof(*d));
		d->account = account;
		HASH_ADD(hh, a->dead, account, sizeof(d->account), d);
	}
	d->since_ns = mono_ns();
}

bool accounts_is_dead(const struct accounts *a, uint32_t account)
{
	return a->dead && dead_find(a, account);
}

/* The kernel side may give out this turn of its slot again. */
static void free_turn(struct accounts *a, uint32_t account)
{
	struct proc *p = &a->slots[account_slot(account)];
	uint32_t turn = (account >> PROC_SLOT_BITS) - 1, now = p->used;
	uint32_t used = now - (now % ACCOUNT_TURNS + ACCOUNT_TURNS - turn) % ACCOUNT_TURNS;

	if ((int32_t)(used - p->swept) > 0)
		__atomic_store_n(&p->swept, used, __ATOMIC_RELEASE);
}

void accounts_buried(struct accounts *a, uint64_t before_ns)
{
	struct dead *d, *next;

	HASH_ITER(hh, a->dead, d, next) {
		if (d->since_ns >= before_ns)
			continue;
		free_turn(a, d->account);
		HASH_DEL(a->dead, d);
		free(d);
	}
}
