/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "collect/assemble.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "collect/kmaps.h"
#include "collect/procview.h"
#include "collect/sumscatter.h"
#include "collect/survival.h"
#include "collect/threads.h"
#include "sampling.h"
#include "util/arena.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/mem.h"

/* Growing lists while one snapshot is made; they end up in its arena. */
struct work {
	struct assembly *a;
	struct arena *arena;
	struct snap_stack *stacks;
	size_t n_stacks, cap_stacks;
	struct snap_stackdef *defs;
	size_t n_defs, cap_defs;
	uint64_t now_ns;
	bool any_sampled;		/* counts are estimates, not places taken */
	bool ages_known, live_is_swept; /* swept: of the blocks of accounts that ended */
};

void snapshot_free(struct snapshot *s)
{
	if (s)
		arena_free(s->arena); /* the snapshot itself lies in it */
}

/* First sight of a stack: it is defined now, while the process is there. */
static void define_stack(struct work *w, const struct stack_ids *ids, const struct proc_key *seen_in)
{
	struct snap_stackdef def;

	if (!stackdefs_take(w->a->defs, w->arena, ids, seen_in, &def))
		return;
	w->defs = grow_to(w->defs, &w->cap_defs, w->n_defs + 1, sizeof(*w->defs));
	w->defs[w->n_defs++] = def;
}

/*
 * A table is read while the target runs, field after field: a free may be in it whose allocation is not yet. What is freed was
 * allocated, so the difference is never below nothing.
 */
static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* A variance that the programs summed up, less one that went, as a standard error in bytes. NAN: it did not fit. */
static double se_bytes(uint64_t var, uint64_t gone, uint64_t sample_bytes)
{
	return var < SAMPLE_VAR_MAX ? sqrt((double)minus(var, gone)) * (double)sample_bytes / SAMPLE_VAR_UNIT : NAN;
}

static struct counts counts_of(const struct sum *s, uint64_t sample_bytes)
{
	uint64_t live = minus(s->alloc_bytes, s->free_bytes + s->untracked_bytes);

	return (struct counts){
		.live_bytes_se = se_bytes(s->alloc_var, s->gone_var, sample_bytes),
		.alloc_bytes_se = se_bytes(s->alloc_var, 0, sample_bytes),
		.live_bytes = live,
		.live_count = minus(s->alloc_count, s->free_count + s->untracked_count),
		.peak_live_bytes = s->peak_live_bytes > live ? s->peak_live_bytes
							     : live, /* the kernel side raises it last */
		.alloc_bytes = s->alloc_bytes,
		.alloc_count = s->alloc_count,
		.free_bytes = s->free_bytes,
		.free_count = s->free_count,
		.untracked_bytes = s->untracked_bytes,
		.untracked_count = s->untracked_count,
	};
}

/*
 * Of page faults. What they made resident is not told when it goes. Every copy is one page, taken with probability 1/every: its share of the variance
 * is (1 - 1/every)(every pages)², and cow_bytes is `every` pages for each.
 */
static struct counts page_counts_of(const struct sum *s, uint32_t every)
{
	uint64_t page = 4096;

	return (struct counts){
		.live_bytes = UNKNOWN_U64,
		.live_count = UNKNOWN_U64,
		.peak_live_bytes = UNKNOWN_U64,
		.live_bytes_se = NAN,
		.alloc_bytes = s->alloc_bytes,
		.alloc_count = s->alloc_count,
		.alloc_bytes_se = sqrt((double)s->alloc_var) * (double)page,
		.free_bytes = UNKNOWN_U64,
		.free_count = UNKNOWN_U64,
		.untracked_bytes = UNKNOWN_U64,
		.untracked_count = UNKNOWN_U64,
		.cow_bytes = s->cow_bytes,
		.cow_bytes_se = sqrt((double)s->cow_bytes * (double)page * (double)(every - 1)),
	};
}

static struct snap_stack *stack_push(struct work *w)
{
	w->stacks = grow_to(w->stacks, &w->cap_stacks, w->n_stacks + 1, sizeof(*w->stacks));
	struct snap_stack *s = &w->stacks[w->n_stacks++];
	*s = (struct snap_stack){ .old_live_bytes = UNKNOWN_U64 };
	return s;
}

static void take_ages(struct work *w, uint32_t sum, struct snap_stack *s)
{
	struct age_figures ages;

	if (ages_find(w->a->ages, sum, w->now_ns, &ages) && s->counts.live_count) {
		s->ages_known = true;
		s->age_p50_s = (float)ages.p50_s;
		s->age_p95_s = (float)ages.p95_s;
		s->age_max_s = (float)ages.max_s;
		s->old_live_bytes = ages.old_bytes < s->counts.live_bytes ? ages.old_bytes : s->counts.live_bytes;
	} else if (w->ages_known) {
		s->old_live_bytes = 0;
	}
}

static void take_thread(struct work *w, const struct watched *owner, uint32_t tid, struct snap_stack *s)
{
	if (!tid)
		return;
	s->tid = tid;
	/* A copy: the account may be forgotten while the snapshot is in use. */
	s->thread = arena_strdup(w->arena, threads_name(w->a->threads, owner->account, owner->pid, tid));
}

/*
 * Of what was counted in windows, what is still alive. A sum of which no look has met a block came since, or its blocks were found dead and are booked
 * as freed: as counted, then.
 */
static void take_survivors(const struct survival *s, uint32_t sum, struct counts *c)
{
	struct survival_figures f;

	c->peak_live_bytes = UNKNOWN_U64;
	if (!survival_find(s, sum, (double)minus(c->alloc_bytes, c->untracked_bytes),
			   (double)minus(c->alloc_count, c->untracked_count), &f))
		return;
	c->live_bytes = f.live_bytes > 0 ? (uint64_t)llround(f.live_bytes) : 0;
	c->live_count = f.live_count > 0 ? (uint64_t)llround(f.live_count) : 0;
	c->live_bytes_se = f.looked ? f.live_bytes_se : NAN;
	/* Most frees were not seen: they are what does not live any more. */
	c->free_bytes = minus(c->alloc_bytes, c->live_bytes + c->untracked_bytes);
	c->free_count = minus(c->alloc_count, c->live_count + c->untracked_count);
}

/* By how much standard errors are larger than if blocks came one by one: as in the process as a whole, or more. se: of what was allocated, as if so. */
static double spread_of(struct sum_scatters *s, const struct window_figures *window, const struct sum *sum,
			uint32_t index, double se)
{
	const struct sum_counted now = { .sum = index,
					 .account = sum->account,
					 .bytes = (double)sum->alloc_bytes,
					 .var = se * se,
					 .windows = window->windows,
					 .counted_ns = window->counted_ns,
					 .is_open = window->is_open };
	double own = window->whole ? NAN : sum_scatters_spread(s, &now);

	return own > window->spread ? own : window->spread; /* the process's is NAN where nothing can be said of any */
}

static bool has_blocks(const struct sum *sum)
{
	enum layer layer = (enum layer)(sum->ids.id & STACK_ID_LAYER_MASK);

	return layer == LAYER_HEAP || layer == LAYER_PYTHON;
}

/* A sum of an account that ended leaves the table once its blocks have left `live`, which only a walk of that tells. */
static bool keep_dead(struct work *w, const struct sum *sum)
{
	bool keep = !w->live_is_swept && has_blocks(sum);

	w->a->dead_sums |= keep;
	return keep;
}

static bool take_sum(void *ctx, uint32_t index, const struct sum *sum)
{
	struct work *w = ctx;

	w->a->any_blocks |= has_blocks(sum);
	if (accounts_is_dead(w->a->accounts, sum->account))
		return keep_dead(w, sum);
	const struct watched *owner = follow_find_account(w->a->follow, sum->account);
	if (!owner)
		return true; /* born since the events were read: the next snapshot has it */
	w->any_sampled |= owner->kernel.rate != 0;
	struct snap_stack *s = stack_push(w);
	struct stack_ids ids = sum->ids;
	s->id = owner->id;
	ids.id = stackdefs_id(w->a->defs, &ids, sum->tid, &owner->id);
	s->stack_id = ids.id;
	s->layer = (enum layer)(ids.id & STACK_ID_LAYER_MASK);
	take_thread(w, owner, sum->tid, s);
	if (s->layer == LAYER_PAGE)
		s->counts = page_counts_of(sum, w->a->faults_every);
	else
		s->counts = counts_of(sum, w->a->sample_bytes);
	double spread = 1;
	if (owner->window.lever && s->layer != LAYER_PAGE) {
		spread = spread_of(w->a->scatters, &owner->window, sum, index, s->counts.alloc_bytes_se);
		s->counts.live_bytes_se *= spread;
		s->counts.alloc_bytes_se *= spread;
		s->counts.alloc_bytes_se = hypot(s->counts.alloc_bytes_se,
						 owner->window.edge * (double)s->counts.alloc_bytes);
	}
	if (owner->survivors && has_blocks(sum)) {
		take_survivors(w->a->survival, index, &s->counts);
		s->counts.live_bytes_se = hypot(s->counts.live_bytes_se,
						owner->window.edge * (double)s->counts.live_bytes);
	}
	if (s->layer != LAYER_PAGE)
		take_ages(w, index, s);
	define_stack(w, &ids, &owner->id);
	return true;
}

static int by_stack(const void *a, const void *b)
{
	const struct snap_stack *x = a, *y = b;
	int order = memcmp(&x->id, &y->id, sizeof(x->id));

	if (!order && x->stack_id != y->stack_id)
		order = x->stack_id < y->stack_id ? -1 : 1;
	return order;
}

static void add_known(uint64_t *sum, uint64_t v)
{
	*sum = *sum == UNKNOWN_U64 || v == UNKNOWN_U64 ? UNKNOWN_U64 : *sum + v;
}

static void add_counts(struct counts *to, const struct counts *c)
{
	add_known(&to->live_bytes, c->live_bytes);
	add_known(&to->live_count, c->live_count);
	to->peak_live_bytes = UNKNOWN_U64; /* the two may have peaked at different times */
	to->alloc_bytes += c->alloc_bytes;
	to->alloc_count += c->alloc_count;
	add_known(&to->free_bytes, c->free_bytes);
	add_known(&to->free_count, c->free_count);
	add_known(&to->untracked_bytes, c->untracked_bytes);
	add_known(&to->untracked_count, c->untracked_count);
	to->cow_bytes += c->cow_bytes;
	to->cow_bytes_se = hypot(to->cow_bytes_se, c->cow_bytes_se);
	to->live_bytes_se = hypot(to->live_bytes_se, c->live_bytes_se);
	to->alloc_bytes_se = hypot(to->alloc_bytes_se, c->alloc_bytes_se);
}

/* Of the ages of two sums together only the oldest is known: medians can't be added. */
static void join_ages(struct snap_stack *to, const struct snap_stack *s)
{
	bool both = to->ages_known && s->ages_known;

	if (s->ages_known) {
		to->age_p50_s = both ? NAN : s->age_p50_s;
		to->age_p95_s = both ? NAN : s->age_p95_s;
		to->age_max_s = both && to->age_max_s > s->age_max_s ? to->age_max_s : s->age_max_s;
		to->ages_known = true;
	}
	if (to->old_live_bytes != UNKNOWN_U64)
		to->old_live_bytes = s->old_live_bytes == UNKNOWN_U64 ? UNKNOWN_U64
								      : to->old_live_bytes + s->old_live_bytes;
}

static void join_stack(struct snap_stack *to, const struct snap_stack *s)
{
	join_ages(to, s);
	to->file_bytes += s->file_bytes;
	add_counts(&to->counts, &s->counts);
}

/*
 * Two processors that were first with one stack at the same time made two sums of it, and stacks that read the same have one each: here
 * they are one.
 */
static void join_stacks(struct work *w)
{
	size_t kept = 0;

	if (w->n_stacks)
		qsort(w->stacks, w->n_stacks, sizeof(*w->stacks), by_stack);
	for (size_t i = 0; i < w->n_stacks; i++)
		if (kept && !by_stack(&w->stacks[kept - 1], &w->stacks[i]))
			join_stack(&w->stacks[kept - 1], &w->stacks[i]);
		else
			w->stacks[kept++] = w->stacks[i];
	w->n_stacks = kept;
}

static void take_range(const struct range_sum *r, void *ctx)
{
	struct work *w = ctx;

	const struct watched *owner = follow_find(w->a->follow, &r->proc);

	if (!owner)
		return;
	struct snap_stack *s = stack_push(w);
	s->id = r->proc;
	struct stack_ids ids = r->ids;
	ids.id = stackdefs_id(w->a->defs, &ids, w->a->by_thread ? r->tid : 0, &r->proc);
	s->stack_id = ids.id;
	if (w->a->by_thread)
		take_thread(w, owner, r->tid, s);
	s->layer = LAYER_MAP;
	s->counts = counts_of(&r->sum, w->a->sample_bytes);
	s->file_bytes = r->file_live_bytes;
	define_stack(w, &ids, &r->proc);
}

static bool is_dead(uint32_t account, void *ctx)
{
	return accounts_is_dead(ctx, account);
}

/* 0 or -errno. A block's sum is there before the block: accounts without sums have none in `live`. */
static int read_tables(struct work *w)
{
	struct assembly *a = w->a;
	uint64_t began_ns = mono_ns();
	struct age_walk walk = {
		.now_ns = w->now_ns,
		.old_before_ns = w->now_ns - (w->now_ns - a->attached_ns) / 2,
		.is_dead = is_dead,
		.ctx = a->accounts,
		.force = a->dead_sums,
	};

	/* Where nothing was in it the last time what is new there is found the next time. */
	w->live_is_swept = (a->any_blocks || a->n == 1) && ages_step(a->ages, &walk) == 1;
	w->ages_known = ages_entries(a->ages) != UINT64_MAX;
	a->dead_sums = a->any_blocks = false;
	int err = sums_each(&a->sums, take_sum, w);
	if (err)
		return err;
	if (a->map)
		ranges_each(a->ranges, take_range, w);
	join_stacks(w);
	if (!a->dead_sums)
		accounts_buried(a->accounts, began_ns);
	return 0;
}

static double share_pct(uint64_t part_ns, uint64_t whole_ns)
{
	return whole_ns ? 100.0 * (double)part_ns / (double)whole_ns : 0;
}

static void read_maps(struct work *w, struct snap_self *self)
{
	struct snap_map *maps = arena_alloc(w->arena, KMAP_NR, sizeof(*maps));
	uint64_t blocks = 0;

	for (int i = 0; i < KMAP_NR; i++) {
		struct kernel_map_info info = loader_map_info(w->a->loader, (enum kernel_map)i);
		uint64_t places = i == KMAP_LIVE ? (uint64_t)info.capacity * LIVE_WAYS : info.capacity;
		maps[i] = (struct snap_map){ info.name, UNKNOWN_U64, places, info.bytes };
	}
	for (size_t i = 0; i < w->n_stacks; i++)
		if (w->stacks[i].layer == LAYER_HEAP || w->stacks[i].layer == LAYER_PYTHON)
			blocks += w->stacks[i].counts.live_count;
	maps[KMAP_LIVE].entries = w->any_sampled ? ages_entries(w->a->ages) : blocks; /* UINT64_MAX: unknown */
	maps[KMAP_SUMS].entries = w->n_stacks;
	maps[KMAP_STACKS].entries = stackdefs_known(w->a->defs);
	maps[KMAP_PYTHON_CHAINS].entries = stackdefs_known_chains(w->a->defs);
	struct unwind_stats unwind = images_unwind_stats(w->a->follow->images);
	maps[KMAP_ROW_BLOCKS].entries = unwind.blocks;
	maps[KMAP_PAGES].entries = unwind.pages;
	maps[KMAP_RULES].entries = unwind.rules;
	maps[KMAP_RANGES].entries = unwind.ranges;
	maps[KMAP_PROCS].entries = HASH_COUNT(w->a->follow->all);
	self->maps = maps;
	self->n_maps = KMAP_NR;
}

static uint64_t own_rss(void)
{
	char text[256];
	unsigned long pages = 0;

	if (fs_read_into("/proc/self/statm", text, sizeof(text)) <= 0 || sscanf(text, "%*u %lu", &pages) != 1)
		return UNKNOWN_U64;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void add_losses(struct work *w, const struct snapshot *s, struct snap_self *self)
{
	for (size_t p = 0; p < s->n_procs; p++)
		for (int i = 0; i < LOSS_NR; i++)
			self->losses[i] += s->procs[p].losses[i];
	self->losses[LOSS_PROCS_FULL] += w->a->follow->refused;
	for (uint32_t i = 0; i < LOSS_NR; i++) {
		uint64_t n;
		if (kmap_percpu_sum(loader_map_fd(w->a->loader, KMAP_ORPHAN_LOSSES), i, &n, 1) == 0)
			self->losses[i] += n;
	}
}

/* Counters one by one: all of the struct's fields are such. */
static struct cpu_stat stat_since(const struct cpu_stat *now, const struct cpu_stat *before)
{
	struct cpu_stat d = *now;

	for (size_t i = 0; i < sizeof(d) / sizeof(uint64_t); i++)
		((uint64_t *)&d)[i] -= ((const uint64_t *)before)[i];
	return d;
}

/* The share of the time in which calls were observed, over the processes whose calls are. */
static double mean_attached_share(const struct snapshot *s)
{
	double sum = 0;
	size_t n = 0;

	for (size_t i = 0; i < s->n_procs; i++)
		if (s->procs[i].mode != MODE_PAGES) {
			sum += s->procs[i].attached_share;
			n++;
		}
	return n ? sum / (double)n : 1;
}

static void read_self(struct work *w, const struct snapshot *s, struct snap_self *self)
{
	struct assembly *a = w->a;
	uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID), elapsed_ns = w->now_ns - a->last_ns;
	struct cpu_stat st = { 0 };
	double seconds = s->seconds > 0 ? s->seconds : NAN;

	(void)kmap_percpu_sum(loader_map_fd(a->loader, KMAP_CPU_STATS), 0, (uint64_t *)&st, sizeof(st) / 8);
	struct cpu_stat d = stat_since(&st, &a->last);
	self->cpu_pct = a->last_ns ? share_pct(cpu_ns - a->last_cpu_ns, elapsed_ns) : NAN;
	self->rss_bytes = own_rss();
	self->hits_per_s = (double)minus(d.runs, d.foreign_hits) / seconds;
	self->foreign_hits_per_s = (double)d.foreign_hits / seconds;
	self->target_overhead_pct = a->windows ? windows_overhead_pct(a->windows) : NAN;
	self->probe_scope = attacher_scope(a->attacher) == SCOPE_HOST ? "host" : "process";
	self->attached_share = mean_attached_share(s);
	self->body_ns = d.body_samples ? (double)d.body_ns / (double)d.body_samples : NAN;
	self->stack_stat = d.stacks;
	add_losses(w, s, self);
	read_maps(w, self);
	a->last_cpu_ns = cpu_ns;
	a->last = st;
}

/* Moves a growing list into the arena. */
static void *keep(struct arena *arena, void *list, size_t n, size_t size)
{
	void *kept = arena_alloc(arena, n, size);

	if (n)
		memcpy(kept, list, n * size);
	free(list);
	return kept;
}

/* How each process was observed, before the figures are read that depend on it. */
static void read_windows(struct assembly *a, uint64_t now_ns)
{
	for (struct watched *w = a->follow->all; w && a->windows; w = w->hh.next) {
		/* Of an exited process the last ones stay. */
		if (w->state == PROC_RUNNING && !windows_figures(a->windows, w->account, now_ns, &w->window))
			w->window = (struct window_figures){ .overhead_pct = NAN };
	}
}

int assemble(struct assembly *a, struct snapshot **ret)
{
	struct work w = { .a = a, .arena = arena_new(), .now_ns = mono_ns() };
	struct snapshot *s = arena_alloc(w.arena, 1, sizeof(*s));

	s->arena = w.arena;
	s->n = a->n++;
	s->ts = unix_seconds();
	s->mono_ns = w.now_ns;
	s->seconds = a->last_ns ? (double)(w.now_ns - a->last_ns) / 1e9 : 0;
	follow_refresh(a->follow);
	read_windows(a, w.now_ns);
	int err = read_tables(&w);
	if (err) {
		free(w.stacks);
		free(w.defs);
		arena_free(w.arena);
		return err;
	}
	s->procs = procview_list(a->follow, a->ranges, w.arena, w.now_ns, a->map, &s->n_procs);
	s->n_stacks = w.n_stacks;
	s->stacks = w.stacks = keep(w.arena, w.stacks, w.n_stacks, sizeof(*w.stacks));
	s->n_new_stacks = w.n_defs;
	s->new_stacks = keep(w.arena, w.defs, w.n_defs, sizeof(*w.defs));
	s->new_modules = places_take_new(a->places, w.arena, &s->n_new_modules);
	read_self(&w, s, &s->self);
	a->last_ns = w.now_ns;
	*ret = s;
	return 0;
}
