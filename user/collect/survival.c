/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One look at a process, in order:
 *
 *   1. its blocks are copied from `live`; what was there at the last look and is not now was freed with the probes in place: new controls
 *   2. the allocator is asked for all of these addresses. Mappings are read after the copy, so that no block is older than they are
 *   3. blocks at free addresses are dead: taken out of `live` and booked as freed, by compare-and-swap, as the programs do
 *   4. controls at addresses in use are put into `live` as blocks of no sum ("ghosts"): a free or an allocation that the probes see there takes them
 *      out, as it does with a block that died unseen. So controls go the way of blocks, whatever share of the time the probes are in place
 *   5. collect/reuse.h makes figures of it, per sum and size class, and of those, figures per sum
 *   6. collect/between.h carries these on until the next look
 *
 * A ghost has a sum that is none and no bytes: the programs book nothing when it goes.
 *
 * Looks come at random distances: a fixed one might keep step with the periods in which probes are attached, and controls would all have been dead
 * for the same time. As it is, frees that are seen are a random part of all frees.
 */
#include "collect/survival.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "collect/between.h"
#include "collect/occupied.h"
#include "collect/livetable.h"
#include "collect/reuse.h"
#include "probe/loader.h"
#include "probe/sample_tables.h"
#include "sampling.h"
#include "tables.h"
#include "util/clock.h"
#include "util/mem.h"

/* Looks at all processes together take 1 % of a core, on small machines a quarter of a percent of the machine: half of what we may take there. */
#define CORE_SHARE 0.01
#define MACHINE_SHARE 0.0025
#define LONG_NS 2000000u /* a slice that ends later by so much costs more than it may */
#define PATIENCE_NS 3000000000ull
#define FIRST_LOOK_NS 2000000000ull
#define LOOK_EVERY_NS 2000000000ull
#define AGAIN_NS 60000000000ull /* allocators do not change often */
#define JITTER 0.5		/* distances are within half of this share of their mean, on each side */

#define GHOSTS_MAX 4096u     /* of one process */
#define GHOSTS_NEW_MAX 1024u /* of one look */

struct cell {
	struct {
		uint32_t sum, class;
	} key;
	struct cohort cohort;
	struct sample_weight freed; /* found dead in this look, not booked yet */
	UT_hash_handle hh;
};

struct of_sum {
	uint32_t sum, account;
	struct between bytes, blocks;
	uint64_t looked; /* blocks, in the last look */
	struct {
		double live_bytes, live_count, var, all_bytes;
		uint64_t looked;
	} now; /* of the look that is under way */
	UT_hash_handle hh;
};

struct watch {
	uint32_t account;
	uint64_t next_ns;
	bool looked;
	struct live_entry *last; /* at the last look */
	size_t n_last;
	size_t ghosts;
	struct cell *cells;
	struct reuse reuse;
	struct heap_memo memo;
	uint64_t cost_ns; /* of the last look */
	struct survival_status status;
	UT_hash_handle hh;
};

struct survival {
	struct survival_tables tables;
	struct live_table table;
	struct sampling_tables sampling;
	struct watch *watches;
	struct of_sum *sums;
	uint64_t random;
	uint32_t stretch;
	double core_share; /* of one, that looks may take */
};

/* What one look works on. */
struct look {
	struct survival *s;
	struct watch *w;
	const struct survival_target *t;
	struct live_entry *now;
	size_t n, cap;
	struct live_entry **dead; /* of now */
	size_t n_dead, cap_dead;
	struct live_entry *controls; /* new ones: as they were at the last look */
	size_t n_controls, cap_controls;
	struct occupied_query *queries;		     /* of now, then of controls */
	uint8_t *is;				     /* answers, by the same index */
	uint64_t known[LAYER_NR], unknown[LAYER_NR]; /* blocks by whether there was an answer */
};

struct survival *survival_new_of(const struct survival_tables *t)
{
	struct survival *s = xcalloc(1, sizeof(*s));

	s->tables = *t;
	s->stretch = 1;
	s->core_share = fmin(CORE_SHARE, MACHINE_SHARE * (double)sysconf(_SC_NPROCESSORS_ONLN));
	s->table = t->live;
	s->random = (t->seed ? t->seed : mono_ns()) | 1;
	sampling_tables_fill(&s->sampling);
	return s;
}

struct survival *survival_new(const struct loader *l)
{
	const struct survival_tables t = { .live = live_table_of(l), .procs = loader_procs(l) };

	return survival_new_of(&t);
}

static void cells_free(struct watch *w)
{
	struct cell *c, *next;

	HASH_ITER(hh, w->cells, c, next) {
		HASH_DEL(w->cells, c);
		free(c);
	}
}

static void sum_drop(struct survival *s, struct of_sum *f)
{
	HASH_DEL(s->sums, f);
	free(f);
}

static void sums_forget(struct survival *s, uint32_t account)
{
	struct of_sum *f, *next;

	HASH_ITER(hh, s->sums, f, next) {
		if (f->account == account)
			sum_drop(s, f);
	}
}

static struct watch *watch_find(const struct survival *s, uint32_t account)
{
	struct watch *w = NULL;

	HASH_FIND(hh, s->watches, &account, sizeof(account), w);
	return w;
}

void survival_forget(struct survival *s, uint32_t account)
{
	struct watch *w = watch_find(s, account);

	if (!w)
		return;
	sums_forget(s, account);
	cells_free(w);
	free(w->last);
	HASH_DEL(s->watches, w);
	free(w);
}

void survival_free(struct survival *s)
{
	if (!s)
		return;
	while (s->watches)
		survival_forget(s, s->watches->account);
	free(s);
}

void survival_stretch(struct survival *s, uint32_t times)
{
	s->stretch = times;
}

static double random_unit(struct survival *s)
{
	/* xorshift64*, Vigna, ACM TOMS 42 (2016) */
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return (double)(s->random * 0x2545f4914f6cdd1dull >> 11) * 0x1p-53;
}

static bool is_ghost(const struct live_entry *b)
{
	return b->block.sum == LIVE_GHOST_SUM;
}

static struct sample_weight weight_of(const struct look *l, const struct live_block *b)
{
	return sample_block(&l->s->sampling, l->t->sample_bytes, b);
}

/* As the programs do it (bpf/account.bpf.h: book_gone), all blocks of a cell at once. */
static void book_freed(struct look *l, struct cell *c)
{
	struct proc *p = &l->s->tables.procs[account_slot(l->w->account)];
	struct table_view v;
	struct sum *sum = sum_open(&l->s->table, c->key.sum, &v);

	if (sum) {
		(void)__sync_fetch_and_add(&sum->free_bytes, c->freed.bytes);
		(void)__sync_fetch_and_add(&sum->free_count, c->freed.count);
		sample_var_add(&sum->gone_var, c->freed.var);
		table_close(&v);
	}
	if (p->account == l->w->account)
		(void)__sync_fetch_and_sub(
			&p->live_bytes[reuse_class_is_python(c->key.class) ? LAYER_PYTHON : LAYER_HEAP],
			(int64_t)c->freed.bytes);
	memset(&c->freed, 0, sizeof(c->freed));
}

/* --- who is a control --- */

static int by_key(const void *a, const void *b)
{
	uint64_t x = ((const struct live_entry *)a)->key, y = ((const struct live_entry *)b)->key;

	return x < y ? -1 : x > y;
}

static uint32_t class_of(const struct live_entry *b)
{
	return reuse_class(live_key_is_python(b->key), b->block.bytes);
}

/*
 * A block of the last look that is not there any more. Where a sampled block lies at its address by now it is a control too, and its address in use:
 * to leave these out would count the others, among them all that are free, for too much.
 */
static void on_vanished(struct look *l, const struct live_entry *b)
{
	if (is_ghost(b)) {
		reuse_count_old(&l->w->reuse, reuse_class(live_key_is_python(b->key), b->block.birth_ms), REUSE_LEFT);
		return;
	}
	l->controls = grow_to(l->controls, &l->cap_controls, l->n_controls + 1, sizeof(*l->controls));
	l->controls[l->n_controls++] = *b;
}

static void compare_with_last(struct look *l)
{
	size_t i = 0;

	if (l->n)
		qsort(l->now, l->n, sizeof(*l->now), by_key);
	l->w->ghosts = 0;
	for (size_t k = 0; k < l->n; k++)
		l->w->ghosts += is_ghost(&l->now[k]);
	if (l->w->n_last)
		qsort(l->w->last, l->w->n_last, sizeof(*l->w->last), by_key);
	for (size_t k = 0; k < l->w->n_last; k++) {
		const struct live_entry *b = &l->w->last[k];
		while (i < l->n && l->now[i].key < b->key)
			i++;
		bool there = i < l->n && l->now[i].key == b->key;
		if (!there || memcmp(&l->now[i].block, &b->block, sizeof(b->block)) != 0)
			on_vanished(l, b);
	}
}

/* --- asking --- */

static int ask(struct look *l, size_t n)
{
	const struct survival_tables *t = &l->s->tables;
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	_cleanup_(process_memory_done) struct process_memory memory = { .pagemap = -1 };

	if (t->ask)
		return t->ask(t->ctx, l->queries, n);
	int err = mappings_read(l->t->pid, &maps);
	if (err)
		return err;
	process_memory_open(l->t->pid, &memory);
	struct occupied_look o = { .memory = &memory.memory,
				   .maps = &maps,
				   .memo = &l->w->memo,
				   .queries = l->queries,
				   .n = n,
				   .seed = l->s->random };
	err = occupied_look(&o);
	l->w->status.resyncs = o.figures.resyncs;
	l->w->status.skipped_bytes = o.figures.skipped_bytes;
	return err;
}

static struct occupied_query query_of(const struct live_entry *b, size_t index)
{
	return (struct occupied_query){ .addr = live_key_addr(b->key),
					.bytes = is_ghost(b) ? b->block.birth_ms : b->block.bytes,
					.layer = live_key_is_python(b->key) ? LAYER_PYTHON : LAYER_HEAP,
					.index = (uint32_t)index };
}

static int ask_all(struct look *l)
{
	size_t n = l->n + l->n_controls;

	l->queries = xcalloc(n + 1, sizeof(*l->queries));
	l->is = xcalloc(n + 1, sizeof(*l->is));
	for (size_t i = 0; i < l->n; i++)
		l->queries[i] = query_of(&l->now[i], i);
	for (size_t i = 0; i < l->n_controls; i++)
		l->queries[l->n + i] = query_of(&l->controls[i], l->n + i);
	int err = ask(l, n);
	for (size_t i = 0; i < n && !err; i++)
		l->is[l->queries[i].index] = l->queries[i].is;
	return err;
}

static bool is_dead(uint8_t is)
{
	return is == OCCUPANCY_FREE || is == OCCUPANCY_NO_BLOCK;
}

/* --- controls and ghosts --- */

/*
 * Ghosts keep what they are in place of a birth: the bytes of the block, for its class and the question whether what lies there now has its size.
 * They have no bytes of their own.
 */
static struct live_entry ghost_of(const struct live_entry *control)
{
	uint64_t bytes = control->block.bytes < UINT32_MAX ? control->block.bytes : UINT32_MAX;

	return (struct live_entry){ .key = control->key,
				    .block = { .sum = LIVE_GHOST_SUM, .birth_ms = (uint32_t)bytes } };
}

/* Dead ones, ghosts too, are taken out later, all in a row. */
static void push_dead(struct look *l, struct live_entry *b)
{
	l->dead = grow_to(l->dead, &l->cap_dead, l->n_dead + 1, sizeof(struct live_entry *));
	l->dead[l->n_dead++] = b;
	b->gone = true;
}

static void settle_ghost(struct look *l, struct live_entry *b, uint8_t is)
{
	uint32_t class = reuse_class(live_key_is_python(b->key), b->block.birth_ms);

	if (is == OCCUPANCY_IN_USE)
		reuse_count_old(&l->w->reuse, class, REUSE_STAYED);
	if (!is_dead(is))
		return;
	reuse_count_old(&l->w->reuse, class, REUSE_LIGHT);
	push_dead(l, b);
	l->w->ghosts--;
}

static void settle_controls(struct look *l)
{
	size_t n_new = 0;

	l->w->status.controls = 0;
	for (size_t i = 0; i < l->n_controls; i++) {
		uint8_t is = l->is[l->n + i];
		struct live_entry ghost = ghost_of(&l->controls[i]);
		if (is == OCCUPANCY_UNKNOWN)
			continue;
		reuse_count(&l->w->reuse, class_of(&l->controls[i]), is == OCCUPANCY_IN_USE);
		l->w->status.controls++;
		if (is != OCCUPANCY_IN_USE || l->w->ghosts >= GHOSTS_MAX || n_new >= GHOSTS_NEW_MAX ||
		    !live_put_in(&l->s->table, &ghost))
			continue;
		l->w->ghosts++;
		n_new++;
		l->now = grow_to(l->now, &l->cap, l->n + n_new, sizeof(*l->now));
		l->now[l->n + n_new - 1] = ghost; /* behind those that were asked for */
	}
	l->n_controls = n_new; /* that many stand behind now */
}

/* --- blocks --- */

static struct cell *cell_of(struct watch *w, const struct live_entry *b)
{
	struct cell key = { 0 }, *c = NULL;

	key.key.sum = b->block.sum;
	key.key.class = class_of(b);
	HASH_FIND(hh, w->cells, &key.key, sizeof(key.key), c);
	if (!c) {
		c = xcalloc(1, sizeof(*c));
		c->key = key.key;
		HASH_ADD(hh, w->cells, key, sizeof(c->key), c);
	}
	return c;
}

static void add_weights(double to[REUSE_WEIGHTS], const double weights[REUSE_WEIGHTS])
{
	for (int k = 0; k < REUSE_WEIGHTS; k++)
		to[k] += weights[k];
}

static void weigh(const struct look *l, const struct live_entry *b, double weights[REUSE_WEIGHTS], double *ret_p)
{
	double bytes = (double)b->block.bytes, size = bytes > 1 ? bytes : 1, p = 1;
	double scale = exp2((double)b->block.scale / SCALE_PER_OCTAVE);

	if (b->block.rate)
		p = -expm1(-size / (double)sample_mean(l->t->sample_bytes, b->block.rate));
	weights[WEIGHT_BYTES] = bytes / p * scale;
	weights[WEIGHT_COUNT] = scale / p;
	*ret_p = p / scale;
}

static void settle_block(struct look *l, struct live_entry *b, uint8_t is)
{
	struct cohort *c = &cell_of(l->w, b)->cohort;
	double weights[REUSE_WEIGHTS], p;

	(is == OCCUPANCY_UNKNOWN ? l->unknown : l->known)[live_key_is_python(b->key) ? LAYER_PYTHON : LAYER_HEAP]++;
	if (is_dead(is)) {
		push_dead(l, b);
		return;
	}
	weigh(l, b, weights, &p);
	if (is == OCCUPANCY_IN_USE) {
		add_weights(c->in_use, weights);
		c->n_in_use++;
	} else {
		add_weights(c->unknown, weights);
		c->n_unknown++;
		l->w->status.unknown++;
	}
	c->in_use_var += (1 - p) * weights[WEIGHT_BYTES] * weights[WEIGHT_BYTES];
}

static void settle_found(struct look *l, const struct live_entry *b)
{
	struct cell *c = cell_of(l->w, b);
	struct sample_weight w = weight_of(l, &b->block);
	double weights[REUSE_WEIGHTS], p;

	weigh(l, b, weights, &p);
	add_weights(c->cohort.found, weights);
	c->cohort.found_squares += weights[WEIGHT_BYTES] * weights[WEIGHT_BYTES];
	c->cohort.n_found++;
	c->freed.bytes += w.bytes;
	c->freed.count += w.count;
	c->freed.var += w.var;
	l->w->status.found_dead++;
}

static int by_bucket(const void *a, const void *b)
{
	uint32_t x = (*(struct live_entry *const *)a)->bucket, y = (*(struct live_entry *const *)b)->bucket;

	return x < y ? -1 : x > y;
}

static void settle_dead(struct look *l)
{
	struct live_window window = { 0 };

	if (l->n_dead)
		qsort(l->dead, l->n_dead, sizeof(struct live_entry *), by_bucket);
	for (size_t i = 0; i < l->n_dead; i++)
		/* else the programs took it out: seen, and no more of ours */
		if (live_take_out(&l->s->table, &window, l->dead[i]) && !is_ghost(l->dead[i]))
			settle_found(l, l->dead[i]);
	live_window_done(&window);
}

/* --- figures --- */

static struct of_sum *of_sum(struct look *l, uint32_t sum)
{
	struct of_sum *f = NULL;

	HASH_FIND(hh, l->s->sums, &sum, sizeof(sum), f);
	if (!f) {
		f = xcalloc(1, sizeof(*f));
		f->sum = sum;
		f->account = l->w->account;
		HASH_ADD(hh, l->s->sums, sum, sizeof(f->sum), f);
	}
	return f;
}

static void add_figures(struct of_sum *f, const struct cohort *c, const struct cohort_live *live)
{
	f->now.live_bytes += live->live[WEIGHT_BYTES];
	f->now.live_count += live->live[WEIGHT_COUNT];
	f->now.var += live->var;
	f->now.looked += c->n_in_use + c->n_found + c->n_unknown;
	f->now.all_bytes += c->in_use[WEIGHT_BYTES] + c->unknown[WEIGHT_BYTES];
}

/* Returns how many blocks were met. */
static uint64_t finish_figures(struct look *l, struct of_sum *f)
{
	struct table_view v;
	const struct sum *s = sum_open(&l->s->table, f->sum, &v);

	between_look(&f->bytes, fmin(f->now.all_bytes, f->now.live_bytes), f->now.var,
		     s ? (double)s->alloc_bytes - (double)s->untracked_bytes : f->bytes.allocated);
	between_look(&f->blocks, f->now.live_count, 0,
		     s ? (double)s->alloc_count - (double)s->untracked_count : f->blocks.allocated);
	if (s)
		table_close(&v);
	f->looked = f->now.looked;
	memset(&f->now, 0, sizeof(f->now));
	return f->looked;
}

static void make_figures(struct look *l)
{
	struct cell *c, *next;
	struct of_sum *f, *next_sum;

	HASH_ITER(hh, l->w->cells, c, next) {
		struct reuse_odds odds;
		struct cohort_live live;
		if (!c->cohort.n_in_use && !c->cohort.n_found && !c->cohort.n_unknown) {
			HASH_DEL(l->w->cells, c);
			free(c);
			continue;
		}
		if (c->cohort.n_found)
			book_freed(l, c);
		reuse_odds(&l->w->reuse, c->key.class, &odds);
		cohort_settle(&c->cohort, &odds, &live);
		add_figures(of_sum(l, c->key.sum), &c->cohort, &live);
	}
	HASH_ITER(hh, l->s->sums, f, next_sum) {
		if (f->account == l->w->account && !finish_figures(l, f))
			sum_drop(l->s, f); /* its blocks are gone, and booked so */
	}
}

/* What remains is the last look of the next one. */
static void keep_last(struct look *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n + l->n_controls; i++)
		if (!l->now[i].gone)
			l->now[kept++] = l->now[i];
	free(l->w->last);
	l->w->last = l->now;
	l->w->n_last = kept;
	l->now = NULL;
}

static void look_done(struct look *l)
{
	free(l->now);
	free(l->dead);
	free(l->controls);
	free(l->queries);
	free(l->is);
}

static int look(struct look *l)
{
	struct cell *c, *next;
	int err = live_copy(&l->s->table, l->w->account, &l->now, &l->n, &l->cap);

	if (err)
		return err;
	compare_with_last(l);
	err = ask_all(l);
	if (err) {
		l->w->n_last = 0; /* what vanished since has been told, and is not to be told again */
		return err;
	}
	HASH_ITER(hh, l->w->cells, c, next)
		cohort_begin(&c->cohort);
	l->w->status.found_dead = l->w->status.unknown = 0;
	l->w->status.blocks = l->n;
	for (size_t i = 0; i < l->n; i++)
		if (is_ghost(&l->now[i]))
			settle_ghost(l, &l->now[i], l->is[i]);
		else
			settle_block(l, &l->now[i], l->is[i]);
	settle_dead(l);
	settle_controls(l); /* may move `now` */
	for (int i = 0; i < LAYER_NR; i++)
		l->w->status.unanswered[i] = l->unknown[i] > l->known[i];
	make_figures(l);
	reuse_fade(&l->w->reuse);
	l->w->status.hidden = l->w->ghosts;
	keep_last(l);
	return 1;
}

static struct watch *watch_of(struct survival *s, uint32_t account, uint64_t now_ns)
{
	struct watch *w = watch_find(s, account);

	if (w)
		return w;
	w = xcalloc(1, sizeof(*w));
	w->account = account;
	w->next_ns = now_ns + FIRST_LOOK_NS;
	HASH_ADD(hh, s->watches, account, sizeof(w->account), w);
	return w;
}

static double cost_of_all(const struct survival *s)
{
	double ns = 0;

	for (const struct watch *w = s->watches; w; w = w->hh.next)
		ns += (double)w->cost_ns;
	return ns;
}

/* Nothing of it was ever counted: its blocks need not be searched. */
static bool is_untouched(const struct survival *s, uint32_t account)
{
	const struct proc *p = &s->tables.procs[account_slot(account)];

	return p->account == account && !p->sampled && !p->unsampled;
}

int survival_look(struct survival *s, const struct survival_target *t, uint64_t now_ns)
{
	struct watch *w = watch_of(s, t->account, now_ns);
	_cleanup_(look_done) struct look l = { .s = s, .w = w, .t = t };

	if (now_ns < w->next_ns || is_untouched(s, t->account))
		return 0;
	uint64_t began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	int err = look(&l);
	uint64_t cost = clock_ns(CLOCK_THREAD_CPUTIME_ID) - began;
	w->cost_ns = cost;
	double wait = fmax((double)LOOK_EVERY_NS * s->stretch, cost_of_all(s) / s->core_share);
	w->next_ns = now_ns + (uint64_t)(wait * (1 + JITTER * (random_unit(s) - 0.5)));
	if (err < 0) {
		/* Figures of an older look would grow stale unseen. */
		sums_forget(s, t->account);
		w->looked = false;
		if (err == -ENOTSUP)
			w->next_ns = now_ns + AGAIN_NS;
		return err;
	}
	w->looked = true;
	w->status.looked_ns = now_ns;
	w->status.cpu_ns = cost;
	return 1;
}

bool survival_status(const struct survival *s, uint32_t account, struct survival_status *ret)
{
	const struct watch *w = watch_find(s, account);

	if (!w || !w->looked)
		return false;
	*ret = w->status;
	return true;
}

bool survival_is_long(const struct survival *s, uint32_t account, uint64_t now_ns)
{
	const struct watch *w = watch_find(s, account);

	return w && w->looked && w->status.cpu_ns > LONG_NS && now_ns >= w->next_ns &&
	       now_ns - w->next_ns < PATIENCE_NS;
}

/* One sum, shown by itself: what chance brought below nothing is nothing. */
bool survival_find(const struct survival *s, uint32_t sum, double allocated_bytes, double allocated_count,
		   struct survival_figures *ret)
{
	struct of_sum *f = NULL;

	HASH_FIND(hh, s->sums, &sum, sizeof(sum), f);
	if (!f)
		return false;
	struct between_now bytes = between_at(&f->bytes, allocated_bytes);
	*ret = (struct survival_figures){ .live_bytes = fmax(0, bytes.live),
					  .live_bytes_se = sqrt(bytes.var),
					  .live_count = fmax(0, between_at(&f->blocks, allocated_count).live),
					  .looked = f->looked };
	return true;
}
