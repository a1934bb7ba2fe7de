/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose links count while user space changes over from those for the whole host to those for one process each, or back.
 *
 *	old links  -------------------------------------+
 *	new links        +----------------------------------------
 *	scope word   old | old        new, both         | new
 *
 * In between a hit runs the programs of both, one after the other, and each reads the word for itself: it may change between them. The kernel
 * runs those that were attached last first (kernel/events/uprobes.c: consumer_add, 6.13 and newer; where there are no sessions the scope never changes).
 * So where the new program still saw the old word, the old one counts the hit whatever it sees; and where the new one counted, it left the word in
 * the thread's state. Only a free that is the thread's very first hit leaves none, and is taken as counted.
 */
#ifndef TIDEMARK_BPF_SCOPE_H
#define TIDEMARK_BPF_SCOPE_H

#include "procs.bpf.h"

/* The word once: another program of the same hit may see another. */
static __always_inline __u32 scope_read(void)
{
	return *(volatile __u32 *)&scope;
}

/* links: the scope that the program was attached for. */
__noinline int scope_between(__u32 word, __u32 links)
{
	struct thread_state *t = thread_get(0);

	if (!t)
		return (word & SCOPE_BIT) == links;
	if ((word & SCOPE_BIT) != links)
		return (t->scope ^ word) >= SCOPE_TURN;
	t->scope = word;
	return 1;
}

static __always_inline int is_in_scope(__u32 links)
{
	__u32 word = scope_read();

	return word & SCOPE_BOTH ? scope_between(word, links) : (word & SCOPE_BIT) == links;
}

#endif
