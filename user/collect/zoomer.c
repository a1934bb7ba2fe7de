/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/zoomer.h"

#include <errno.h>
#include <stdlib.h>

#include "collect/follow.h"
#include "collect/zoom.h"
#include "target/proc.h"
#include "util/mem.h"

#define CHANGES_MAX 16
#define NS_PER_TICK 10000000ull /* USER_HZ; since boot, which is the monotonic clock's zero but for times asleep */

struct item {
	uint32_t account; /* key */
	struct zoom zoom;
	bool opened, wanted;
	UT_hash_handle hh;
};

struct zoomer {
	struct follow *follow; /* borrowed */
	bool by_itself;
	double budget_pct;
	struct item *all;
};

struct zoomer *zoomer_new(struct follow *f, bool by_itself, double budget_pct)
{
	struct zoomer *z = xcalloc(1, sizeof(*z));

	*z = (struct zoomer){ .follow = f, .by_itself = by_itself, .budget_pct = budget_pct };
	return z;
}

static void item_free(struct zoomer *z, struct item *it)
{
	HASH_DEL(z->all, it);
	free(it);
}

void zoomer_free(struct zoomer *z)
{
	while (z && z->all)
		item_free(z, z->all);
	free(z);
}

static struct item *item_of(struct zoomer *z, const struct watched *w)
{
	struct item *it = NULL;

	HASH_FIND(hh, z->all, &w->account, sizeof(w->account), it);
	if (it)
		return it;
	it = xcalloc(1, sizeof(*it));
	it->account = w->account;
	zoom_init(&it->zoom, it);
	HASH_ADD(hh, z->all, account, sizeof(it->account), it);
	return it;
}

static void look(struct item *it, const struct watched *w, uint64_t now_ns)
{
	bool no_functions = it->zoom.zoomed && !w->functions && !w->files_changed; /* they were looked for */

	zoom_look(&it->zoom, &(struct zoom_look){
				     .now_ns = now_ns,
				     .started_ns = w->id.start_ticks * NS_PER_TICK,
				     .rss_bytes = w->rss.known ? w->rss.rss.rss_bytes : UNKNOWN_U64,
				     .anon_bytes = w->rss.known ? w->rss.rss.anon_bytes : UNKNOWN_U64,
				     .opened = it->opened,
				     .possible = !w->foreign && !no_functions,
			     });
}

static void carry_out(struct zoomer *z, const struct zoom_change *c)
{
	const struct item *it = c->zoom->owner;
	struct watched *w = follow_find_account(z->follow, it->account);

	if (w)
		follow_zoom(z->follow, w, c->in);
}

/* Looks at every process and forgets those that are gone. Their number in *ret, which has room for all. */
static size_t look_at_all(struct zoomer *z, uint64_t now_ns, struct zoom **ret)
{
	struct item *it, *next;
	size_t n = 0;

	for (struct watched *w = z->follow->all; w; w = w->hh.next) {
		if (w->state != PROC_RUNNING)
			continue;
		it = item_of(z, w);
		if (w->flags & PROC_HEAP && !it->zoom.zoomed && !it->opened)
			follow_zoom(z->follow, w, false); /* born to one that is zoomed: it has to grow by itself */
		it->wanted = true;
		look(it, w, now_ns);
		ret[n++] = &it->zoom;
	}
	HASH_ITER(hh, z->all, it, next) {
		if (!it->wanted)
			item_free(z, it);
		else
			it->wanted = false;
	}
	return n;
}

void zoomer_step(struct zoomer *z, uint64_t now_ns, double overhead_pct)
{
	struct zoom_host host = { .budget_pct = z->budget_pct, .overhead_pct = overhead_pct };
	struct zoom_change changes[CHANGES_MAX];

	if (!z->by_itself)
		return;
	_cleanup_(freep) struct zoom **all = xcalloc(HASH_COUNT(z->follow->all) + 1, sizeof(struct zoom *));
	size_t n = look_at_all(z, now_ns, all), n_changes = zoom_step(all, n, &host, changes, CHANGES_MAX);
	for (size_t i = 0; i < n_changes; i++)
		carry_out(z, &changes[i]);
}

int zoomer_open(struct zoomer *z, const struct proc_key *id)
{
	struct watched *w = follow_find(z->follow, id);

	if (!w || w->state != PROC_RUNNING)
		return -ESRCH;
	item_of(z, w)->opened = true;
	if (!(w->flags & PROC_HEAP))
		follow_zoom(z->follow, w, true);
	return 0;
}
