/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows of one process on a clock of the test's own. The program allocates a byte per nanosecond: what is counted, times the scales, is to be
 * the time that went by.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collect/accounts.h"
#include "collect/windows.h"
#include "sampling.h"
#include "tables.h"
#include "util/mem.h"

#define PID 4321u
#define MS 1000000ull
#define HIT_NS 690
#define CALM_PER_MS 0
#define BUSY_PER_MS 100	  /* some 7 % of a core */
#define STORM_PER_MS 2000 /* beyond what any slice is allowed */

static struct {
	uint64_t now_ns, cpu_ns;
	bool placed;
	unsigned paused, cuts;
	struct proc *hit_early;	       /* as soon as the first probe is in place, before the window opens */
	const struct proc *never_away; /* hits may come at any moment, also while windows are looked after */
} world;

static const struct hit_costs costs = { .emulated_ns = 540, .body_skip_ns = 150, .return_ns = 450 };

int clock_gettime(clockid_t clock, struct timespec *t)
{
	uint64_t ns = clock == CLOCK_MONOTONIC ? world.now_ns : world.cpu_ns;

	if (world.never_away)
		assert_int_equal(world.never_away->window_end_ns, WINDOW_ALWAYS);
	*t = (struct timespec){ (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
	return 0;
}

int clock_getcpuclockid(pid_t pid, clockid_t *ret)
{
	*ret = CLOCK_PROCESS_CPUTIME_ID;
	return pid == (pid_t)PID ? 0 : -1;
}

/* --- in place of the attacher --- */

void attacher_force_process(struct attacher *a)
{
	(void)a;
}

void attacher_pause(struct attacher *a, uint32_t pid)
{
	(void)a;
	(void)pid;
	world.placed = false;
	world.paused++;
}

int attacher_resume(struct attacher *a, uint32_t pid)
{
	(void)a;
	(void)pid;
	world.placed = true;
	if (world.hit_early)
		world.hit_early->hits += HITS_STEP;
	return 0;
}

bool attacher_tells_codes(const struct attacher *a, uint32_t pid)
{
	(void)a;
	(void)pid;
	return false;
}

double attacher_stepped_share(const struct attacher *a, uint32_t pid)
{
	(void)a;
	(void)pid;
	return 0;
}

/* --- the program --- */

struct run {
	struct proc *slots, *p;
	struct accounts *accounts;
	struct windows *windows;
	double counted_ns;
};

static void begin(struct run *r, bool exact, double budget_pct)
{
	struct proc born = { .id = { .start_ticks = 1, .pid = PID, .image = 1 }, .flags = PROC_HEAP };
	uint32_t account;

	memset(&world, 0, sizeof(world));
	world.now_ns = 1000 * MS;
	*r = (struct run){ .slots = xcalloc(PROC_SLOTS, sizeof(struct proc)) };
	r->accounts = accounts_new(r->slots);
	assert_int_equal(accounts_enter(r->accounts, PID, &born, &account), 0);
	r->p = &r->slots[account_slot(account)];
	struct windows_opts o = { .accounts = r->accounts,
				  .slots = r->slots,
				  .costs = &costs,
				  .sample_bytes = SAMPLE_BYTES_DEFAULT,
				  .budget_pct = budget_pct,
				  .exact = exact };
	r->windows = windows_new(&o);
	world.placed = !windows_governed(r->windows);
	windows_sync(r->windows, &(struct window_wish){ account, PID, false }, 1, world.now_ns);
}

static void end(struct run *r)
{
	world.never_away = world.hit_early = NULL;
	windows_free(r->windows);
	accounts_free(r->accounts);
	free(r->slots);
}

static void hits(struct run *r, unsigned n)
{
	world.cpu_ns += n * HIT_NS;
	r->p->hits += n;
	if (!r->p->hits_limit || r->p->hits <= r->p->hits_limit || r->p->spent)
		return;
	r->p->spent = 1;
	world.cuts++;
	windows_spent(r->windows, r->p->account, world.now_ns, world.now_ns);
}

static void pass(struct run *r, unsigned ms, unsigned hits_per_ms)
{
	for (unsigned i = 0; i < ms; i++) {
		(void)windows_step(r->windows, world.now_ns);
		world.now_ns += MS;
		world.cpu_ns += MS / 2;
		if (world.placed && world.now_ns <= r->p->window_end_ns)
			r->counted_ns += (double)MS * exp2((double)r->p->scale / SCALE_PER_OCTAVE);
		if (world.placed)
			hits(r, hits_per_ms);
	}
}

static bool is_always(const struct run *r)
{
	return r->p->window_end_ns == WINDOW_ALWAYS;
}

static void all_of_the_time_is_stood_for(void **state)
{
	struct run r;

	(void)state;
	begin(&r, false, 2);
	pass(&r, 10000, BUSY_PER_MS);
	r.counted_ns = 0;
	pass(&r, 100000, BUSY_PER_MS);
	assert_false(is_always(&r));
	assert_in_range((uint64_t)(r.counted_ns / 1e6), 90000, 110000);
	end(&r);
}

/* Told in the period before, and read late. */
static void what_was_spent_before_cuts_nothing(void **state)
{
	struct run r;

	(void)state;
	begin(&r, false, 2);
	pass(&r, 10000, BUSY_PER_MS);
	for (unsigned i = 0; i < 5000 && !world.placed; i++)
		pass(&r, 1, BUSY_PER_MS);
	assert_true(world.placed);
	windows_spent(r.windows, r.p->account, world.now_ns - 5000 * MS, world.now_ns);
	assert_true(world.placed);
	windows_spent(r.windows, r.p->account, world.now_ns, world.now_ns);
	assert_false(world.placed);
	end(&r);
}

/* Without a budget probes stay; but blocks of a time before the process was left alone are not known to live. */
static void who_was_away_is_not_whole(void **state)
{
	struct window_figures f;
	struct run r;

	(void)state;
	begin(&r, false, 0);
	pass(&r, 2000, CALM_PER_MS);
	assert_true(windows_figures(r.windows, r.p->account, world.now_ns, &f) && f.whole);
	windows_sync(r.windows, NULL, 0, world.now_ns);
	assert_false(windows_figures(r.windows, r.p->account, world.now_ns, &f));
	windows_sync(r.windows, &(struct window_wish){ r.p->account, PID, true }, 1, world.now_ns);
	pass(&r, 2000, CALM_PER_MS);
	assert_true(windows_figures(r.windows, r.p->account, world.now_ns, &f) && !f.whole);
	end(&r);
}

/* It did nothing, so probes stayed in place; then it did so much that they were taken away at once. */
static void a_storm_behind_a_calm(void **state)
{
	struct run r;

	(void)state;
	begin(&r, false, 2);
	for (unsigned i = 0; i < 120 && !is_always(&r); i++)
		pass(&r, 1000, CALM_PER_MS);
	assert_true(is_always(&r));
	for (unsigned i = 0; i < 500 && !world.cuts; i++)
		pass(&r, 1, STORM_PER_MS);
	assert_int_equal(world.cuts, 1);
	assert_false(world.placed);
	pass(&r, 20000, BUSY_PER_MS); /* what the storm cost is paid back */
	r.counted_ns = 0;
	pass(&r, 100000, BUSY_PER_MS);
	assert_in_range((uint64_t)(r.counted_ns / 1e6), 85000, 115000);
	end(&r);
}

static void exact_is_never_away(void **state)
{
	struct window_figures f;
	struct run r;

	(void)state;
	begin(&r, true, 2);
	pass(&r, 1, STORM_PER_MS);
	world.never_away = r.p;
	for (int i = 0; i < 20; i++) {
		pass(&r, 997, STORM_PER_MS);
		assert_true(windows_figures(r.windows, r.p->account, world.now_ns, &f));
		assert_true(f.whole && f.attached_share == 1 && f.spread == 1);
	}
	assert_true(is_always(&r));
	assert_int_equal(world.paused, 0);
	assert_int_equal(r.p->rate, 0);
	assert_int_equal(r.p->scale, 0);
	end(&r);
}

/* Its slot is free, and the event of its end has not been read yet. */
static void a_process_that_is_gone_in_a_window(void **state)
{
	struct window_figures before, f;
	struct run r;

	(void)state;
	begin(&r, false, 2);
	world.hit_early = r.p;
	pass(&r, 20000, BUSY_PER_MS);
	for (unsigned i = 0; i < 5000 && !world.placed; i++)
		pass(&r, 1, BUSY_PER_MS);
	assert_true(world.placed);
	assert_true(windows_figures(r.windows, r.p->account, world.now_ns, &before));
	uint32_t account = r.p->account;
	r.p->booked_bytes += 1000; /* seen by nobody */
	r.p->tgid = 0;
	assert_true(windows_figures(r.windows, account, world.now_ns, &f));
	assert_true(f.edge <= before.edge + 0.1);
	world.now_ns += 5000 * MS;
	(void)windows_step(r.windows, world.now_ns);
	assert_true(windows_figures(r.windows, account, world.now_ns, &f));
	assert_true(f.edge < 1 && f.spread < 10);
	end(&r);
}

/* Each turn of its own would wake us up: with twenty processes that was a tenth of what we took. */
static void processes_without_windows_share_their_turns(void **state)
{
	struct proc born = { .id = { .start_ticks = 1, .pid = PID + 1, .image = 1 }, .flags = PROC_HEAP };
	uint64_t until = 0;
	unsigned turns = 0;
	uint32_t account;
	struct run r;

	(void)state;
	begin(&r, true, 2);
	pass(&r, 400, CALM_PER_MS);
	assert_int_equal(accounts_enter(r.accounts, PID + 1, &born, &account), 0);
	const struct window_wish both[] = { { r.p->account, PID, false }, { account, PID + 1, false } };
	windows_sync(r.windows, both, 2, world.now_ns);
	for (until = world.now_ns + 10000 * MS; world.now_ns < until; turns++)
		world.now_ns = windows_step(r.windows, world.now_ns);
	assert_in_range(turns, 9, 12);
	end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_the_time_is_stood_for),
		cmocka_unit_test(a_storm_behind_a_calm),
		cmocka_unit_test(what_was_spent_before_cuts_nothing),
		cmocka_unit_test(who_was_away_is_not_whole),
		cmocka_unit_test(exact_is_never_away),
		cmocka_unit_test(a_process_that_is_gone_in_a_window),
		cmocka_unit_test(processes_without_windows_share_their_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
