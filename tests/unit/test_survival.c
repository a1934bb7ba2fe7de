/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Survival against simulated allocators whose truth is known. The kernel side is played by the test: in a slice at a random moment of each period
 * allocations are entered into `live` and frees take them out; outside of slices nothing is seen.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "collect/occupied.h"
#include "collect/reuse.h"
#include "collect/survival.h"
#include "probe/sample_tables.h"
#include "sampling.h"
#include "tables.h"
#include "util/mem.h"

#define BUCKETS 1024u
#define SUMS 8u
#define ACCOUNT (7u | 1u << PROC_SLOT_BITS)
#define SLOTS 40000u
#define SAMPLE_BYTES 400 /* one of 10, two of 5 blocks of the two sizes */
#define SAMPLE_RATE 1u
#define PERIOD_MS 400
#define MS 1000000ull

enum { LEAK, CACHE, CHURN, SITES };
enum { SIZES = 2 };
static const uint32_t size_of[SIZES] = { 40, 200 };

/* What a program does per millisecond, and how its allocator hands out what was freed. */
struct model {
	const char *name;
	double leaks, caches, churns; /* blocks per ms */
	int cache_ms;		      /* lifetime */
	double churn_ms;	      /* mean lifetime */
	double lifo;		      /* how often the address freed last comes next; else any of the free ones */
	unsigned reserve;	      /* free addresses of each size at the start */
	double attached;	      /* share of each period */
	unsigned runs;
	bool starved;
};

struct slot {
	bool used, counted; /* counted: born in a slice */
	uint8_t site, size;
	int dies_ms;
	int next_dying; /* slots that die in one millisecond */
};

struct world {
	const struct model *m;
	struct live_bucket *live;
	struct sum *sums;
	struct proc *procs;
	int live_fd, sums_fd;
	__u64 filter[LIVE_FILTER_WORDS];
	struct slot slots[SLOTS];
	unsigned n_slots;
	unsigned spare[SIZES][SLOTS], n_spare[SIZES];
	int *dying; /* by ms: first slot */
	int end_ms, now_ms;
	bool attached;
	uint64_t random;
	double alive[SITES], allocated[SITES]; /* bytes, of those counted */
	struct sampling_tables tables;
	int fails; /* answers that are withheld, in percent */
};

static double unit(struct world *w)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return (double)(w->random * 0x2545f4914f6cdd1dull >> 11) * 0x1p-53;
}

static uint64_t key_of(unsigned slot)
{
	return live_key(0x10000000 + 1024ull * slot, LAYER_HEAP, ACCOUNT);
}

static struct live_bucket *bucket(struct world *w, uint64_t key, unsigned choice)
{
	return &w->live[live_place(key, choice, BUCKETS)];
}

static struct sample_weight weight_of(const struct world *w, const struct live_block *b)
{
	if (!b->rate)
		return (struct sample_weight){ .bytes = b->bytes, .count = 1 };
	return sample_weigh(&w->tables, SAMPLE_BYTES, b->rate, b->bytes, b->up);
}

/* 1: it was there. As bpf/account.bpf.h: a block of no sum books nothing. */
static int kernel_free(struct world *w, unsigned slot)
{
	uint64_t key = key_of(slot);

	for (unsigned choice = 0; choice < 2; choice++)
		for (int i = 0; i < LIVE_WAYS; i++) {
			struct live_bucket *b = bucket(w, key, choice);
			if (b->key[i] != key)
				continue;
			if (b->block[i].sum < SUMS)
				w->sums[b->block[i].sum].free_bytes += weight_of(w, &b->block[i]).bytes;
			/* Else the programs would not have looked here. */
			assert_true(!live_is_filtered(&b->block[i]) || live_filter_has(w->filter, key));
			if (live_is_filtered(&b->block[i]))
				live_filter_remove(w->filter, key);
			b->key[i] = 0;
			return 1;
		}
	return 0;
}

static void kernel_alloc(struct world *w, unsigned slot)
{
	const struct slot *s = &w->slots[slot];
	uint64_t key = key_of(slot);
	struct live_block block = {
		.bytes = size_of[s->size], .rate = SAMPLE_RATE, .sum = s->site, .birth_ms = (uint32_t)w->now_ms
	};

	if (unit(w) >= -expm1(-(double)block.bytes / SAMPLE_BYTES))
		return;
	block.up = sample_round_up(&w->tables, SAMPLE_BYTES, block.rate, block.bytes, (uint32_t)(unit(w) * 0x1p32));
	(void)kernel_free(w, slot);
	w->sums[s->site].alloc_bytes += weight_of(w, &block).bytes;
	for (unsigned choice = 0; choice < 2; choice++)
		for (int i = 0; i < LIVE_WAYS; i++) {
			struct live_bucket *b = bucket(w, key, choice);
			if (b->key[i])
				continue;
			assert_true(live_filter_add(w->filter, key));
			b->block[i] = block;
			b->key[i] = key;
			return;
		}
	fail_msg("the table is full");
}

static unsigned take_slot(struct world *w, unsigned size)
{
	unsigned *n = &w->n_spare[size], at;

	if (!*n) {
		assert_true(w->n_slots < SLOTS);
		return w->n_slots++;
	}
	at = unit(w) < w->m->lifo ? *n - 1 : (unsigned)(unit(w) * *n);
	unsigned slot = w->spare[size][at];
	w->spare[size][at] = w->spare[size][--*n];
	return slot;
}

static void allocate(struct world *w, unsigned site, int life_ms)
{
	unsigned size = unit(w) < 0.5, slot = take_slot(w, size);
	struct slot *s = &w->slots[slot];

	*s = (struct slot){ .used = true, .counted = w->attached, .site = (uint8_t)site, .size = (uint8_t)size };
	s->dies_ms = w->now_ms + life_ms;
	if (s->dies_ms < w->end_ms) {
		s->next_dying = w->dying[s->dies_ms];
		w->dying[s->dies_ms] = (int)slot;
	}
	if (!s->counted)
		return;
	w->alive[site] += size_of[size];
	w->allocated[site] += size_of[size];
	kernel_alloc(w, slot);
}

static void let_die(struct world *w)
{
	for (int i = w->dying[w->now_ms], next; i >= 0; i = next) {
		struct slot *s = &w->slots[i];
		next = s->next_dying;
		s->used = false;
		if (s->counted)
			w->alive[s->site] -= size_of[s->size];
		w->spare[s->size][w->n_spare[s->size]++] = (unsigned)i;
		if (w->attached)
			(void)kernel_free(w, (unsigned)i);
	}
}

static int number(struct world *w, double rate)
{
	return (int)rate + (unit(w) < rate - floor(rate));
}

static void run_ms(struct world *w)
{
	const struct model *m = w->m;
	int left[SITES] = { number(w, m->leaks), number(w, m->caches), number(w, m->churns) };

	let_die(w);
	while (left[LEAK] + left[CACHE] + left[CHURN]) {
		unsigned site = (unsigned)(unit(w) * SITES);
		if (!left[site])
			continue;
		left[site]--;
		int life = site == LEAK	   ? w->end_ms
			   : site == CACHE ? m->cache_ms
					   : 1 + (int)(-m->churn_ms * log1p(-unit(w)));
		allocate(w, site, life);
	}
}

static int on_ask(void *ctx, struct occupied_query *queries, size_t n)
{
	struct world *w = ctx;

	if (w->fails < 0)
		return w->fails;
	for (size_t i = 0; i < n; i++) {
		unsigned slot = (unsigned)((queries[i].addr - 0x10000000) / 1024);
		assert_true(slot < w->n_slots);
		queries[i].is = w->slots[slot].used ? OCCUPANCY_IN_USE : OCCUPANCY_FREE;
		if (unit(w) * 100 < w->fails)
			queries[i].is = OCCUPANCY_UNKNOWN;
	}
	for (size_t i = 0; i + 1 < n; i++) { /* walkers answer in an order of their own */
		size_t k = i + (size_t)(unit(w) * (double)(n - i));
		struct occupied_query q = queries[i];
		queries[i] = queries[k];
		queries[k] = q;
	}
	return 0;
}

static void *map_file(int *ret_fd, size_t bytes)
{
	*ret_fd = memfd_create("table", MFD_CLOEXEC);
	assert_true(*ret_fd >= 0 && ftruncate(*ret_fd, (off_t)((bytes + 4095) & ~4095ull)) == 0);
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

static struct world *world_new(const struct model *m, uint64_t seed, int end_ms)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->m = m;
	w->random = seed * 0x9e3779b97f4a7c15ull | 1;
	w->end_ms = end_ms;
	sampling_tables_fill(&w->tables);
	w->dying = xcalloc((size_t)end_ms, sizeof(int));
	memset(w->dying, 0xff, (size_t)end_ms * sizeof(int));
	w->live = map_file(&w->live_fd, BUCKETS * sizeof(struct live_bucket));
	w->sums = map_file(&w->sums_fd, SUMS * sizeof(struct sum));
	w->procs = xcalloc(PROC_SLOTS, sizeof(struct proc));
	w->procs[account_slot(ACCOUNT)].account = ACCOUNT;
	w->procs[account_slot(ACCOUNT)].sampled = 1;
	for (unsigned size = 0; size < SIZES; size++)
		for (unsigned i = 0; i < m->reserve; i++)
			w->spare[size][w->n_spare[size]++] = w->n_slots++;
	return w;
}

/* What is left in the filter is what is left in the table. */
static void check_filter(const struct world *w)
{
	__u64 *filter = xcalloc(LIVE_FILTER_WORDS, sizeof(*filter));

	for (unsigned i = 0; i < BUCKETS * LIVE_WAYS; i++) {
		const struct live_bucket *b = &w->live[i / LIVE_WAYS];
		if (b->key[i % LIVE_WAYS] && live_is_filtered(&b->block[i % LIVE_WAYS]))
			assert_true(live_filter_add(filter, b->key[i % LIVE_WAYS]));
	}
	assert_memory_equal(filter, w->filter, sizeof(w->filter));
	free(filter);
}

static void world_free(struct world *w)
{
	check_filter(w);
	(void)munmap(w->live, BUCKETS * sizeof(struct live_bucket));
	(void)munmap(w->sums, SUMS * sizeof(struct sum));
	(void)close(w->live_fd);
	(void)close(w->sums_fd);
	free(w->procs);
	free(w->dying);
	free(w);
}

static struct survival *survival_in(struct world *w)
{
	const struct survival_tables t = { .live = { w->live_fd, w->sums_fd, BUCKETS, SUMS, w->filter },
					   .procs = w->procs,
					   .ask = on_ask,
					   .ctx = w,
					   .seed = w->random };

	return survival_new_of(&t);
}

/* What many runs say of one site: errors as shares of what was counted in all, which do not explode where little is left. */
struct verdict {
	double error, square, truth, estimate, share;
	int looks, inside, counted;
};

static void judge(const struct world *w, const struct survival *s, struct verdict v[SITES])
{
	for (unsigned site = 0; site < SITES; site++) {
		struct survival_figures f;
		double allocated = w->allocated[site];
		if (!allocated || !survival_find(s, site, (double)w->sums[site].alloc_bytes, 0, &f))
			continue;
		double error = f.live_bytes - w->alive[site];
		assert_false(isnan(f.live_bytes) || isnan(f.live_bytes_se));
		v[site].error += error / allocated;
		v[site].square += error * error / allocated / allocated;
		v[site].truth += w->alive[site];
		v[site].estimate += f.live_bytes;
		v[site].share += f.live_bytes / (double)w->sums[site].alloc_bytes;
		v[site].inside += fabs(error) <= 1.96 * f.live_bytes_se + 1;
		v[site].looks++;
	}
}

static void run(const struct model *m, uint64_t seed, int end_ms, int fails, struct verdict v[SITES])
{
	const struct survival_target t = { .account = ACCOUNT, .sample_bytes = SAMPLE_BYTES };
	struct world *w = world_new(m, seed, end_ms);
	struct survival *s = survival_in(w);
	int open = 0, close = 0;

	w->fails = fails;
	for (; w->now_ms < end_ms; w->now_ms++) {
		if (w->now_ms % PERIOD_MS == 0) {
			open = w->now_ms + (int)(unit(w) * PERIOD_MS * (1 - m->attached));
			close = open + (int)(PERIOD_MS * m->attached);
		}
		w->attached = w->now_ms >= open && w->now_ms < close;
		run_ms(w);
		/* Looks are made between slices: their own time is not what is tested. */
		if (!w->attached && w->now_ms % 20 == 0 && survival_look(s, &t, (uint64_t)w->now_ms * MS) == 1)
			judge(w, s, v);
	}
	survival_free(s);
	world_free(w);
}

static void print(const struct model *m, const struct verdict v[SITES])
{
	static const char *const names[] = { "leak", "cache", "churn" };

	for (unsigned i = 0; i < SITES; i++)
		if (v[i].looks)
			print_message("%-26s %-5s mean error %+.4f (rms %.4f) of what was allocated, estimate/truth "
				      "%.3f, in 95 %%: %.3f of %d\n",
				      m->name, names[i], v[i].error / v[i].looks, sqrt(v[i].square / v[i].looks),
				      v[i].truth ? v[i].estimate / v[i].truth : NAN, (double)v[i].inside / v[i].looks,
				      v[i].looks);
}

#define END_MS 11000

static void all_runs(const struct model *m, int fails, struct verdict v[SITES])
{
	for (uint64_t seed = 1; seed <= m->runs; seed++)
		run(m, seed, END_MS, fails, v);
	print(m, v);
}

/* What the mean of so many runs may be off by: their looks are taken for one. */
static double chance(const struct model *m, const struct verdict *v)
{
	return 2.5 * sqrt(v->square / v->looks / m->runs);
}

static void check(const struct model *m, const struct verdict v[SITES])
{
	for (unsigned i = 0; i < SITES; i++) {
		if (!v[i].looks)
			continue;
		assert_true(v[i].looks >= (int)m->runs * 2);
		/* Errors of one run's looks depend on each other. */
		assert_true((double)v[i].inside / v[i].looks > 0.9);
		/* Right in the mean. Figures are cut off at nothing, so of what is all dead a little is left. */
		assert_true(m->starved ||
			    fabs(v[i].error / v[i].looks) < (i == CHURN ? 0.05 : 0.03) + chance(m, &v[i]));
	}
	if (v[LEAK].looks)
		assert_true(v[LEAK].share / v[LEAK].looks > 0.99);
	if (v[CHURN].looks && m->churn_ms < 100 && !m->starved)
		assert_true(v[CHURN].share / v[CHURN].looks < 0.06);
	if (v[CACHE].looks && !m->starved)
		assert_true(fabs(v[CACHE].estimate / v[CACHE].truth - 1) < 0.08 + chance(m, &v[CACHE]));
}

static const struct model models[] = {
	/* Addresses freed last come next, as in a tcache: most are in use again at once. */
	{ "tcache", 0.06, 1, 3, 2500, 20, 0.9, 5000, 0.2, 200, false },
	{ "any free address", 0.06, 1, 3, 2500, 20, 0, 5000, 0.2, 30, false },
	{ "rarely attached", 0.06, 1.5, 3, 2500, 20, 0.5, 5000, 0.05, 30, false },
	{ "slow churn", 0.06, 1, 1, 1500, 400, 0.5, 5000, 0.2, 30, false },
	{ "leak and cache", 0.3, 1, 0, 2500, 20, 0.5, 5000, 0.2, 200, false },
	{ "leak alone", 1, 0, 0, 2500, 20, 0.5, 100, 0.2, 30, false },
	{ "cache alone", 0, 1.5, 0, 3000, 20, 0.5, 5000, 0.2, 30, false },
	{ "churn alone", 0, 0, 4, 2500, 30, 0.5, 100, 0.2, 30, false },
	/* All free addresses are taken: what is looked at says nothing, and the error has to say so. */
	{ "starved", 0.3, 1, 2, 2500, 20, 0.5, 5, 0.2, 30, true },
};

static void unbiased(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
		struct verdict v[SITES] = { 0 };
		all_runs(&models[i], 0, v);
		check(&models[i], v);
	}
}

static const struct survival_target target = { .account = ACCOUNT, .sample_bytes = SAMPLE_BYTES };

/* A world with some blocks that were counted, of which the first half is dead, unseen. */
static struct world *world_with_blocks(int n)
{
	static const struct model none = { .name = "none" };
	struct world *w = world_new(&none, 1, 100);

	for (int i = 0; i < n; i++) {
		struct slot s = { .used = i >= n / 2, .counted = true, .size = 1 };
		struct live_block block = { .bytes = size_of[1], .sum = 3, .birth_ms = 5 };
		w->slots[w->n_slots] = s;
		uint64_t key = key_of(w->n_slots++);
		bucket(w, key, 0)->block[0] = block;
		bucket(w, key, 0)->key[0] = key;
		w->sums[3].alloc_bytes += block.bytes;
		w->procs[account_slot(ACCOUNT)].live_bytes[LAYER_HEAP] += block.bytes;
	}
	return w;
}

/* What is found dead leaves the table and is booked as freed, once, as the programs would. */
static void dead_are_booked(void **state)
{
	struct world *w = world_with_blocks(10);
	struct survival *s = survival_in(w);
	struct survival_figures f;
	struct survival_status status;

	(void)state;
	assert_false(survival_find(s, 3, 10 * 200, 10, &f));
	assert_int_equal(survival_look(s, &target, 10 * MS), 0);
	assert_false(survival_status(s, ACCOUNT, &status));
	assert_int_equal(survival_look(s, &target, 5000 * MS), 1);
	assert_int_equal(w->sums[3].free_bytes, 5 * 200);
	assert_int_equal(w->sums[3].free_count, 5);
	assert_int_equal(w->procs[account_slot(ACCOUNT)].live_bytes[LAYER_HEAP], 5 * 200);
	assert_true(survival_find(s, 3, 10 * 200, 10, &f));
	assert_int_equal(f.looked, 10);
	assert_true(survival_status(s, ACCOUNT, &status));
	assert_int_equal(status.found_dead, 5);
	assert_int_equal(status.blocks, 10);
	assert_int_equal(survival_look(s, &target, 5001 * MS), 0);
	assert_int_equal(survival_look(s, &target, 50000 * MS), 1);
	assert_int_equal(w->sums[3].free_count, 5);
	survival_forget(s, ACCOUNT);
	assert_false(survival_find(s, 3, 10 * 200, 10, &f));
	survival_free(s);
	world_free(w);
}

/* Blocks without an answer stay, and make the error larger, not the figure smaller. */
static void unknown_stay(void **state)
{
	struct world *w = world_with_blocks(10);
	struct survival *s = survival_in(w);
	struct survival_status status;
	struct survival_figures f;

	(void)state;
	w->fails = 100;
	assert_int_equal(survival_look(s, &target, 0), 0);
	assert_int_equal(survival_look(s, &target, 5000 * MS), 1);
	assert_true(survival_status(s, ACCOUNT, &status) && status.unanswered[LAYER_HEAP]);
	assert_false(status.unanswered[LAYER_PYTHON]); /* it has none */
	assert_int_equal(w->sums[3].free_count, 0);
	assert_true(survival_find(s, 3, 10 * 200, 10, &f));
	/* All or none of them live, for all that is known. */
	assert_true(f.live_bytes == 10 * 200 && f.live_bytes_se >= 10 * 200);
	w->fails = 0;
	assert_int_equal(survival_look(s, &target, 900000 * MS), 1);
	assert_true(survival_status(s, ACCOUNT, &status) && !status.unanswered[LAYER_HEAP]);
	survival_free(s);
	world_free(w);
}

/* No figures rather than old ones; and no look a second later. */
static void no_allocator(void **state)
{
	struct world *w = world_with_blocks(10);
	struct survival *s = survival_in(w);
	struct survival_figures f;

	(void)state;
	(void)survival_look(s, &target, 0);
	assert_int_equal(survival_look(s, &target, 5000 * MS), 1);
	w->fails = -ENOTSUP;
	assert_int_equal(survival_look(s, &target, 15000 * MS), -ENOTSUP);
	assert_false(survival_find(s, 3, 10 * 200, 10, &f));
	assert_int_equal(survival_look(s, &target, 20000 * MS), 0);
	w->fails = 0;
	assert_int_equal(survival_look(s, &target, 90000 * MS), 1);
	assert_true(survival_find(s, 3, 10 * 200, 10, &f));
	survival_free(s);
	world_free(w);
}

static size_t entries(const struct world *w, uint32_t sum)
{
	size_t n = 0;

	for (uint32_t i = 0; i < BUCKETS; i++)
		for (int k = 0; k < LIVE_WAYS; k++)
			n += w->live[i].key[k] && w->live[i].block[k].sum == sum;
	return n;
}

/* A control whose address is in use gets an entry of no sum; a free that is seen there takes it, and books nothing. */
static void controls_are_followed(void **state)
{
	struct world *w = world_with_blocks(10);
	struct survival *s = survival_in(w);
	struct survival_status status;

	(void)state;
	(void)survival_look(s, &target, 0);
	assert_int_equal(survival_look(s, &target, 5000 * MS), 1);
	assert_int_equal(kernel_free(w, 9), 1); /* seen; and its address is taken again at once */
	assert_int_equal(kernel_free(w, 8), 1);
	w->slots[8].used = false;
	assert_int_equal(survival_look(s, &target, 15000 * MS), 1);
	assert_true(survival_status(s, ACCOUNT, &status));
	assert_int_equal(status.controls, 2);
	assert_int_equal(status.hidden, 1);
	assert_int_equal(entries(w, UINT32_MAX), 1);
	assert_int_equal(kernel_free(w, 9), 1);
	w->slots[9].used = false;
	assert_int_equal(survival_look(s, &target, 25000 * MS), 1);
	assert_true(survival_status(s, ACCOUNT, &status));
	assert_int_equal(status.controls, 0);
	assert_int_equal(status.hidden, 0);
	assert_int_equal(w->sums[3].free_bytes, 7 * 200); /* five by the first look, two that were seen */
	survival_free(s);
	world_free(w);
}

static void classes(void **state)
{
	(void)state;
	uint32_t last = 0;
	for (uint64_t bytes = 0; bytes < 1 << 20; bytes++) {
		uint32_t c = reuse_class(false, bytes);
		assert_true(c >= last && c <= last + 1 + (bytes == 0) && c < REUSE_CLASSES / 2);
		assert_int_equal(reuse_class(true, bytes), c + REUSE_CLASSES / 2);
		last = c;
	}
	assert_true(last > 50);
	assert_int_equal(reuse_class(false, 24), reuse_class(false, 0));
	assert_int_not_equal(reuse_class(false, 24), reuse_class(false, 25));
	assert_int_equal(reuse_class(false, UINT64_MAX - 100), REUSE_CLASSES / 2 - 1);
}

/* Whatever there is of controls, figures are finite, and little of them is a large error. */
static void odds_are_finite(void **state)
{
	(void)state;
	for (int used = 0; used < 200; used += 13)
		for (int is_free = 0; is_free < 60; is_free += 7) {
			struct reuse r = { 0 };
			struct reuse_odds o;
			for (int i = 0; i < used; i++)
				reuse_count(&r, 5, true);
			for (int i = 0; i < is_free; i++)
				reuse_count(&r, 5, false);
			reuse_odds(&r, 5, &o);
			assert_true(isfinite(o.odds) && isfinite(o.odds_var) && o.odds >= 0 && o.odds_var > 0);
			assert_true(o.carry >= -1 && o.carry <= 1 && o.carry_var > 0);
			if (used + is_free < 10)
				assert_true(sqrt(o.odds_var) > 20);
			if (used >= 100 && is_free >= 40)
				assert_true(fabs(o.odds - (double)used / (is_free + 1)) < 0.01 &&
					    sqrt(o.odds_var) < 0.35 * o.odds + 0.2);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes),	   cmocka_unit_test(odds_are_finite),
		cmocka_unit_test(dead_are_booked), cmocka_unit_test(unknown_stay),
		cmocka_unit_test(no_allocator),	   cmocka_unit_test(controls_are_followed),
		cmocka_unit_test(unbiased),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
