/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the rule of growth and the choice among those that grow. Refuses to know what a probe is.
 *
 * What growth is. Resident memory goes up and down for many reasons; what a leak or a cache that fills moves is the floor: the least that was
 * resident in each step of five seconds. Floors of two minutes are kept:
 *
 *        /|   /|   /|   /|          bytes of a program whose collector runs every few seconds: floors are flat
 *       / |  / |  / |  / |  /
 *      /  | /  | /  | /  | /
 *     /...|/...|/...|/...|/...      floors
 *
 * - If nothing ever fell, growth is the last less the first.
 * - If there was a fall (by more than half of the threshold), from one look to the next or from floor to floor, the program gives memory
 *   back, and floors rise and fall with the beat of teeth and steps. Then growth is the least of the later half less the least of the
 *   earlier one, once there is a minute of both, so that any tooth up to a minute is seen as flat; and the teeth set the scale: it
 *   must be an eighth of the largest fall.
 * Growth counts from 512 KiB and 1 % of what is resident on, if the floor still rose in the last fifteen seconds: 1 MiB a minute is
 * found after 35 s in a process of 50 MiB. In a large process 1 % takes longer than two minutes; there a floor that rose in each of 23
 * steps is taken as well: no noise does that.
 *
 * A young process has no floors yet, and much of what lives for long is allocated in its first seconds. From 2 to 10 s of age it counts
 * by what it grew since it was first seen, if that is at least 4 MiB (a shell or a compiler is not worth an attach).
 *
 * Standing still. Probes go when two minutes have passed since they came and the growth that the floors show, which is that of the last two
 * minutes, is below half of the threshold. A process that grows faster takes the place of another only if that one has had its first two
 * minutes and grows less than a quarter as much.
 */
#include "collect/zoom.h"

#include <stdlib.h>

#include "collect/snapshot.h"

#define SECOND 1000000000ull
#define BUCKET_NS (5 * SECOND)
#define GAP_NS (30 * SECOND) /* not looked at for so long: what was before says nothing */
#define GROWTH_MIN_BYTES (512ull << 10)
#define GROWTH_SHARE 100 /* 1 / that, of what is resident */
#define RISING_BUCKETS 3 /* over these it must still rise... */
#define RISING_SHARE 16	 /* ... by this part of the threshold */
#define TOOTH_BUCKETS 12 /* steps from which on halves are compared */
#define TEETH 8		 /* 1 / that, of a fall */
#define YOUNG_FROM_NS (2 * SECOND)
#define YOUNG_TO_NS (10 * SECOND)
#define YOUNG_MIN_BYTES (4ull << 20)
#define STAY_NS (120 * SECOND)
#define DISPLACE 4	  /* times the growth */
#define OVERHEAD_MAX 1.25 /* of the budget: each process is held to it, so beyond this one of them could not be */

void zoom_init(struct zoom *z, void *owner)
{
	*z = (struct zoom){ .owner = owner };
}

/* --- floors --- */

/* Where the i-th step lies in the rings, 0 the oldest. */
static uint32_t at(const struct zoom *z, uint32_t i)
{
	return (z->next + ZOOM_BUCKETS - z->n + i) % ZOOM_BUCKETS;
}

static uint64_t floor_at(const struct zoom *z, uint32_t i)
{
	return z->floor[at(z, i)];
}

static uint64_t least_of(const struct zoom *z, uint32_t from, uint32_t to)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = from; i < to; i++)
		least = floor_at(z, i) < least ? floor_at(z, i) : least;
	return least;
}

static uint64_t above(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t threshold_of(uint64_t bytes)
{
	uint64_t share = bytes / GROWTH_SHARE;

	return share > GROWTH_MIN_BYTES ? share : GROWTH_MIN_BYTES;
}

/* The largest, at once or from one step to the next. */
static uint64_t largest_fall(const struct zoom *z)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < z->n; i++) {
		uint64_t fall = z->fall[at(z, i)];

		if (i && above(floor_at(z, i - 1), floor_at(z, i)) > fall)
			fall = above(floor_at(z, i - 1), floor_at(z, i));
		most = fall > most ? fall : most;
	}
	return most;
}

static bool rose_throughout(const struct zoom *z)
{
	if (z->n < ZOOM_BUCKETS)
		return false;
	for (uint32_t i = 1; i < z->n; i++)
		if (floor_at(z, i) <= floor_at(z, i - 1))
			return false;
	return true;
}

/* Growth of the floor; *threshold is raised where the teeth are large. */
static uint64_t growth_of(const struct zoom *z, uint64_t *threshold)
{
	uint64_t fall = largest_fall(z);

	if (z->n < 2)
		return 0;
	if (fall <= *threshold / 2)
		return above(floor_at(z, z->n - 1), floor_at(z, 0));
	if (z->n < TOOTH_BUCKETS)
		return 0;
	if (fall / TEETH > *threshold)
		*threshold = fall / TEETH;
	return above(least_of(z, z->n / 2, z->n), least_of(z, 0, z->n / 2));
}

/* A step of time has ended: what do the floors say? */
static void judge(struct zoom *z)
{
	uint64_t threshold = threshold_of(z->last_bytes), growth = growth_of(z, &threshold);
	bool rises = z->n > RISING_BUCKETS &&
		     above(floor_at(z, z->n - 1), floor_at(z, z->n - 1 - RISING_BUCKETS)) > threshold / RISING_SHARE;

	z->grows = (growth >= threshold && rises) || (growth >= GROWTH_MIN_BYTES && rose_throughout(z));
	z->calm = growth < threshold / 2 && !rose_throughout(z);
	z->growth_bytes = z->grows ? growth : 0;
}

static void start_bucket(struct zoom *z, uint64_t now_ns, uint64_t bytes)
{
	z->bucket_open = true;
	z->bucket_ns = now_ns;
	z->low = bytes;
	z->drop = 0;
}

static void end_bucket(struct zoom *z)
{
	z->floor[z->next] = z->low;
	z->fall[z->next] = z->drop;
	z->next = (z->next + 1) % ZOOM_BUCKETS;
	z->n += z->n < ZOOM_BUCKETS;
}

/* --- looks --- */

static void judge_young(struct zoom *z, const struct zoom_look *seen, uint64_t bytes, bool rises)
{
	uint64_t age_ns = above(seen->now_ns, seen->started_ns), growth = above(bytes, z->first_bytes);

	if (!seen->started_ns || age_ns > YOUNG_TO_NS)
		return;
	z->grows = age_ns >= YOUNG_FROM_NS && rises && growth >= YOUNG_MIN_BYTES && growth >= threshold_of(bytes);
	z->growth_bytes = z->grows ? growth : 0;
}

static void start_anew(struct zoom *z)
{
	z->n = z->next = z->looks = 0;
	z->bucket_open = z->grows = z->calm = false;
	z->growth_bytes = 0;
}

void zoom_look(struct zoom *z, const struct zoom_look *seen)
{
	bool of_anon = seen->anon_bytes != UNKNOWN_U64;
	uint64_t bytes = of_anon ? seen->anon_bytes : seen->rss_bytes;

	z->opened = seen->opened;
	z->possible = seen->possible;
	if (bytes == UNKNOWN_U64 || (z->looks && seen->now_ns <= z->now_ns))
		return;
	if (z->looks && (seen->now_ns - z->now_ns > GAP_NS || of_anon != z->of_anon))
		start_anew(z);
	z->of_anon = of_anon;
	bool rises = z->looks && bytes > z->last_bytes;
	uint64_t fall = z->looks ? above(z->last_bytes, bytes) : 0;

	if (!z->looks)
		z->first_bytes = bytes;
	z->looks++;
	z->now_ns = seen->now_ns;
	z->last_bytes = bytes;
	z->drop = fall > z->drop ? fall : z->drop;
	if (!z->bucket_open) {
		start_bucket(z, seen->now_ns, bytes);
	} else if (seen->now_ns - z->bucket_ns >= BUCKET_NS) {
		end_bucket(z);
		judge(z);
		start_bucket(z, seen->now_ns, bytes);
	} else if (bytes < z->low) {
		z->low = bytes;
	}
	judge_young(z, seen, bytes, rises);
}

/* --- the choice --- */

/* Opened first; then by growth, largest first. */
static int by_claim(const void *a, const void *b)
{
	const struct zoom *x = *(struct zoom *const *)a, *y = *(struct zoom *const *)b;

	if (x->opened != y->opened)
		return x->opened ? -1 : 1;
	return x->growth_bytes > y->growth_bytes ? -1 : x->growth_bytes < y->growth_bytes;
}

struct changes {
	struct zoom_change *list;
	size_t n, cap;
};

static bool change(struct changes *c, struct zoom *z, bool in)
{
	if (c->n == c->cap)
		return false;
	c->list[c->n++] = (struct zoom_change){ z, in };
	z->zoomed = in;
	z->zoomed_ns = z->now_ns;
	return true;
}

static bool has_stayed(const struct zoom *z)
{
	return z->now_ns - z->zoomed_ns >= STAY_NS;
}

static bool should_go(const struct zoom *z)
{
	return !z->possible || (!z->opened && z->calm && has_stayed(z));
}

/* The one whose place may be taken by what grows by so much; NULL. `all` is in order of claims: the last one is the least. */
static struct zoom *least_worth(struct zoom **all, size_t n, uint64_t growth_bytes)
{
	for (size_t i = n; i-- > 0;)
		if (all[i]->zoomed && !all[i]->opened && has_stayed(all[i]))
			return all[i]->growth_bytes < growth_bytes / DISPLACE ? all[i] : NULL;
	return NULL;
}

size_t zoom_step(struct zoom **all, size_t n, const struct zoom_host *host, struct zoom_change *ret, size_t cap)
{
	struct changes c = { ret, 0, cap };
	size_t max = host->max ? host->max : ZOOM_MAX_DEFAULT, zoomed = 0;
	bool room = !(host->budget_pct > 0) || !(host->overhead_pct > OVERHEAD_MAX * host->budget_pct);

	if (n)
		qsort(all, n, sizeof(*all), by_claim);
	for (size_t i = 0; i < n; i++) {
		if (all[i]->zoomed && should_go(all[i]))
			change(&c, all[i], false);
		zoomed += all[i]->zoomed && !all[i]->opened;
	}
	for (size_t i = 0; i < n; i++) {
		struct zoom *z = all[i];

		if (z->zoomed || !z->possible)
			continue;
		if (z->opened) {
			change(&c, z, true);
			continue;
		}
		if (!z->grows || !room)
			continue;
		if (zoomed >= max) {
			struct zoom *other = least_worth(all, n, z->growth_bytes);

			if (!other || c.n + 2 > c.cap || !change(&c, other, false))
				break;
			zoomed--;
		}
		if (change(&c, z, true))
			zoomed++;
	}
	return c.n;
}
