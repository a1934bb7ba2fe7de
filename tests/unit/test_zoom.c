/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who gets probes by itself: synthetic processes over minutes, one look a second. What has to be zoomed, what must not, when it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "collect/snapshot.h"
#include "collect/zoom.h"

#define KIB 1024.0
#define MIB (1024 * KIB)
#define PAGE 4096
#define SECOND 1000000000ull
#define PROCS_MAX 300

struct world;
typedef double (*shape)(struct world *w, size_t i, double s); /* bytes of process i at s seconds */

struct synth_proc {
	struct zoom z;
	shape bytes;
	double arg;
	bool opened, impossible;
	double started_s;   /* < 0: not known */
	double in_s, out_s; /* of the first change of each kind; NAN */
	int ins, outs;
};

struct world {
	double now_s;
	uint64_t random;
	size_t n;
	struct zoom_host host;
	struct synth_proc p[PROCS_MAX];
};

/* SplitMix64's steps (Steele, Lea, Flood 2014) */
static double noise(struct world *w) /* -1 to 1 */
{
	uint64_t z = (w->random += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (double)((z ^ (z >> 31)) >> 11) / 4503599627370496.0 - 1;
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	w->random = 17;
	w->now_s = 1000;
	w->host = (struct zoom_host){ .max = 8, .budget_pct = 2, .overhead_pct = NAN };
	return w;
}

static struct synth_proc *add(struct world *w, shape bytes, double arg)
{
	struct synth_proc *p = &w->p[w->n++];

	*p = (struct synth_proc){ .bytes = bytes, .arg = arg, .started_s = -1, .in_s = NAN, .out_s = NAN };
	zoom_init(&p->z, p);
	return p;
}

static void note(struct world *w, const struct zoom_change *c)
{
	struct synth_proc *p = c->zoom->owner;

	assert_int_equal(c->zoom->zoomed, c->in);
	p->ins += c->in;
	p->outs += !c->in;
	if (c->in && isnan(p->in_s))
		p->in_s = w->now_s - 1000;
	if (!c->in && isnan(p->out_s))
		p->out_s = w->now_s - 1000;
}

static void look(struct world *w, size_t i)
{
	struct synth_proc *p = &w->p[i];
	uint64_t bytes = (uint64_t)p->bytes(w, i, w->now_s - 1000) / PAGE * PAGE;

	zoom_look(&p->z,
		  &(struct zoom_look){
			  .now_ns = (uint64_t)(w->now_s * (double)SECOND),
			  .started_ns = p->started_s < 0 ? 0 : (uint64_t)((1000 + p->started_s) * (double)SECOND),
			  .rss_bytes = bytes + 10 * (uint64_t)MIB,
			  .anon_bytes = bytes,
			  .opened = p->opened,
			  .possible = !p->impossible,
		  });
}

static size_t zoomed(const struct world *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++)
		n += w->p[i].z.zoomed;
	return n;
}

/* Runs to that second. Returns the largest number that was zoomed at once. */
static size_t run_to(struct world *w, double to_s)
{
	size_t most = 0;

	for (; w->now_s - 1000 < to_s; w->now_s++) {
		struct zoom *all[PROCS_MAX];
		struct zoom_change changes[16];

		for (size_t i = 0; i < w->n; i++) {
			look(w, i);
			all[i] = &w->p[i].z;
		}
		size_t n = zoom_step(all, w->n, &w->host, changes, 16);

		assert_true(n <= 16);
		for (size_t i = 0; i < n; i++)
			note(w, &changes[i]);
		most = zoomed(w) > most ? zoomed(w) : most;
	}
	return most;
}

/* --- shapes; arg: see each --- */

static double flat(struct world *w, size_t i, double s) /* MiB */
{
	(void)s;
	return w->p[i].arg * MIB * (1 + 0.005 * noise(w));
}

static double leak(struct world *w, size_t i, double s) /* MiB a minute */
{
	return 40 * MIB + w->p[i].arg * MIB * s / 60 + 60 * KIB * noise(w);
}

static double leak_of_large(struct world *w, size_t i, double s) /* MiB a minute */
{
	(void)w;
	return 4096 * MIB + w->p[i].arg * MIB * s / 60;
}

static double sawtooth(struct world *w, size_t i, double s) /* seconds between collections; 20 MiB a tooth */
{
	return 60 * MIB + 20 * MIB * fmod(s, w->p[i].arg) / w->p[i].arg + 30 * KIB * noise(w);
}

static double sawtooth_leaking(struct world *w, size_t i, double s)
{
	return sawtooth(w, i, s) + 4 * MIB * s / 60;
}

static double cache(struct world *w, size_t i, double s) /* seconds until it is full */
{
	return 50 * MIB + 40 * MIB * fmin(s, w->p[i].arg) / w->p[i].arg + 30 * KIB * noise(w);
}

static double start_up(struct world *w, size_t i, double s) /* MiB, in 6 s */
{
	return 4 * MIB + w->p[i].arg * MIB * fmin(s, 6) / 6;
}

static double shrinking(struct world *w, size_t i, double s)
{
	(void)w, (void)i;
	return 500 * MIB - MIB * s;
}

/* --- growth --- */

static void test_a_slow_leak_is_zoomed_within_a_minute(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct world *w = world_new();
		struct synth_proc *p = add(w, leak, 1);

		w->random = seed;
		run_to(w, 600);
		assert_true(p->in_s <= 60);
		assert_int_equal(p->outs, 0);
		free(w);
	}
}

static void test_a_slow_leak_in_a_large_process_is_found_by_its_steadiness(void **state)
{
	struct world *w = world_new();
	struct synth_proc *p = add(w, leak_of_large, 1);

	(void)state;
	run_to(w, 400);
	assert_true(p->in_s <= 130);
	assert_int_equal(p->outs, 0);
	free(w);
}

static void test_flat_processes_are_left_alone(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (int i = 0; i < PROCS_MAX; i++)
		add(w, flat, 1 + i % 50 * 20);
	assert_int_equal(run_to(w, 900), 0);
	free(w);
}

static void test_garbage_collection_is_no_growth(void **state)
{
	const double teeth_s[] = { 2, 2.5, 3, 3.3, 4.1, 5, 6.3, 7, 8.7, 11, 13.7, 16 };
	struct world *w = world_new();

	(void)state;
	for (size_t i = 0; i < sizeof(teeth_s) / sizeof(teeth_s[0]); i++)
		add(w, sawtooth, teeth_s[i]);
	assert_int_equal(run_to(w, 900), 0);
	free(w);
}

/* The first tooth of half a minute is growth, as far as anybody can know; the next ones are not. */
static void test_long_teeth_are_learned(void **state)
{
	struct world *w = world_new();
	struct synth_proc *p = add(w, sawtooth, 40);

	(void)state;
	run_to(w, 1200);
	assert_true(p->ins <= 1);
	assert_false(p->z.zoomed);
	free(w);
}

static void test_a_leak_under_teeth_is_growth(void **state)
{
	struct world *w = world_new();
	struct synth_proc *p = add(w, sawtooth_leaking, 11);

	(void)state;
	run_to(w, 600);
	assert_true(p->in_s <= 150);
	assert_int_equal(p->outs, 0);
	free(w);
}

static void test_a_cache_that_is_full_is_left(void **state)
{
	struct world *w = world_new();
	struct synth_proc *p = add(w, cache, 90);

	(void)state;
	run_to(w, 900);
	assert_true(p->in_s <= 30);
	assert_true(p->out_s >= 90 + 100 && p->out_s <= 90 + 150);
	assert_int_equal(p->ins, 1);
	assert_int_equal(p->outs, 1);
	free(w);
}

static void test_what_is_given_back_is_no_growth(void **state)
{
	struct world *w = world_new();

	(void)state;
	add(w, shrinking, 0);
	assert_int_equal(run_to(w, 400), 0);
	free(w);
}

static void test_a_young_process_that_fills_up_is_zoomed_at_once(void **state)
{
	struct world *w = world_new();
	struct synth_proc *large = add(w, start_up, 60), *small = add(w, start_up, 3), *old = add(w, start_up, 60);

	(void)state;
	large->started_s = small->started_s = 0;
	run_to(w, 10);
	assert_true(large->in_s <= 4);
	assert_true(isnan(small->in_s));
	assert_true(isnan(old->in_s)); /* nobody knows that it is young */
	run_to(w, 300);
	assert_int_equal(large->outs, 1);
	assert_true(large->out_s >= 120);
	free(w);
}

/* --- choice --- */

static void test_the_largest_growth_goes_first(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (int i = 0; i < 20; i++)
		add(w, leak, 10 + i);
	assert_int_equal(run_to(w, 60), 8);
	for (int i = 0; i < 20; i++)
		assert_int_equal(w->p[i].z.zoomed, i >= 12);
	free(w);
}

static void test_nobody_is_displaced_for_a_little_more(void **state)
{
	struct world *w = world_new();
	struct synth_proc *late;
	int outs = 0;

	(void)state;
	for (int i = 0; i < 9; i++)
		add(w, leak, 10);
	run_to(w, 600);
	for (int i = 0; i < 9; i++)
		outs += w->p[i].outs;
	assert_int_equal(outs, 0);
	late = add(w, leak, 200);
	assert_int_equal(run_to(w, 660), 8);
	assert_true(late->z.zoomed);
	for (int i = 0; i < 9; i++)
		outs += w->p[i].outs;
	assert_int_equal(outs, 1);
	free(w);
}

static void test_what_the_user_opened_stays(void **state)
{
	struct world *w = world_new();
	struct synth_proc *p = add(w, flat, 100);

	(void)state;
	for (int i = 0; i < 10; i++)
		add(w, leak, 100);
	run_to(w, 5);
	p->opened = true;
	run_to(w, 7);
	assert_true(p->z.zoomed);	     /* at once */
	assert_int_equal(run_to(w, 600), 9); /* and in nobody's place */
	assert_int_equal(p->outs, 0);
	p->opened = false;
	run_to(w, 602);
	assert_false(p->z.zoomed); /* long calm */
	free(w);
}

static void test_no_room_above_the_budget(void **state)
{
	struct world *w = world_new();
	struct synth_proc *p = add(w, leak, 10), *opened = add(w, flat, 10);

	(void)state;
	w->host.overhead_pct = 3;
	opened->opened = true;
	run_to(w, 100);
	assert_false(p->z.zoomed);
	assert_true(opened->z.zoomed);
	w->host.overhead_pct = 2.1; /* all budgets used: each is held by itself */
	run_to(w, 110);
	assert_true(p->z.zoomed);
	free(w);

	w = world_new();
	p = add(w, leak, 10);
	w->host = (struct zoom_host){ .max = 0, .budget_pct = 0, .overhead_pct = 90 };
	run_to(w, 100);
	assert_true(p->z.zoomed);
	free(w);
}

static void test_where_no_probes_can_be_placed(void **state)
{
	struct world *w = world_new();
	struct synth_proc *p = add(w, leak, 10);

	(void)state;
	p->impossible = true;
	assert_int_equal(run_to(w, 100), 0);
	p->impossible = false;
	run_to(w, 110);
	assert_true(p->z.zoomed);
	p->impossible = true;
	run_to(w, 112);
	assert_false(p->z.zoomed);
	free(w);
}

/* --- odd input --- */

static void test_gaps_and_clocks_that_stand_still(void **state)
{
	struct zoom z, *all[] = { &z };
	struct zoom_look seen = {
		.now_ns = 5 * SECOND, .rss_bytes = 10 << 20, .anon_bytes = UNKNOWN_U64, .possible = true
	};
	struct zoom_change c[1];
	const struct zoom_host host = { 0 };

	(void)state;
	zoom_init(&z, NULL);
	for (int i = 0; i < 50; i++) { /* a gap of a minute each time: no step of time is ever complete */
		seen.now_ns += 60 * SECOND;
		seen.rss_bytes += 10 << 20;
		zoom_look(&z, &seen);
		assert_int_equal(zoom_step(all, 1, &host, c, 1), 0);
	}
	for (int i = 0; i < 50; i++) { /* time stands still, or goes back */
		seen.now_ns -= i % 2;
		seen.rss_bytes += 10 << 20;
		zoom_look(&z, &seen);
		assert_int_equal(zoom_step(all, 1, &host, c, 1), 0);
	}
	for (int i = 0; i < 50; i++) { /* nothing is known */
		seen.now_ns += SECOND;
		seen.rss_bytes = UNKNOWN_U64;
		zoom_look(&z, &seen);
		assert_int_equal(zoom_step(all, 1, &host, c, 1), 0);
	}
	assert_int_equal(zoom_step(NULL, 0, &host, c, 1), 0);
}

/* What is anonymous is told in some looks only: that is no growth. */
static void test_two_kinds_of_bytes_are_not_compared(void **state)
{
	struct zoom z, *all[] = { &z };
	struct zoom_look seen = { .rss_bytes = 100 << 20, .anon_bytes = 10 << 20, .possible = true };
	struct zoom_change c[1];
	const struct zoom_host host = { 0 };

	(void)state;
	zoom_init(&z, NULL);
	for (int i = 1; i < 300; i++) {
		seen.now_ns = (uint64_t)i * SECOND;
		seen.anon_bytes = i % 40 < 20 ? 10 << 20 : UNKNOWN_U64;
		zoom_look(&z, &seen);
		assert_int_equal(zoom_step(all, 1, &host, c, 1), 0);
	}
}

/* More changes than the caller takes: the rest comes later, and nothing is lost. */
static void test_few_changes_at_a_time(void **state)
{
	struct zoom z[6], *all[6];
	struct zoom_change c[2];
	const struct zoom_host host = { 0 };
	size_t total = 0;

	(void)state;
	for (int i = 0; i < 6; i++) {
		zoom_init(&z[i], NULL);
		all[i] = &z[i];
		zoom_look(
			&z[i],
			&(struct zoom_look){
				.now_ns = SECOND, .rss_bytes = 1, .anon_bytes = 1, .opened = true, .possible = true });
	}
	for (int round = 0; round < 3; round++) {
		size_t n = zoom_step(all, 6, &host, c, 2);

		assert_int_equal(n, 2);
		total += n;
	}
	assert_int_equal(total, 6);
	assert_int_equal(zoom_step(all, 6, &host, c, 2), 0);
	for (int i = 0; i < 6; i++)
		assert_true(z[i].zoomed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_slow_leak_is_zoomed_within_a_minute),
		cmocka_unit_test(test_a_slow_leak_in_a_large_process_is_found_by_its_steadiness),
		cmocka_unit_test(test_flat_processes_are_left_alone),
		cmocka_unit_test(test_garbage_collection_is_no_growth),
		cmocka_unit_test(test_long_teeth_are_learned),
		cmocka_unit_test(test_a_leak_under_teeth_is_growth),
		cmocka_unit_test(test_a_cache_that_is_full_is_left),
		cmocka_unit_test(test_what_is_given_back_is_no_growth),
		cmocka_unit_test(test_a_young_process_that_fills_up_is_zoomed_at_once),
		cmocka_unit_test(test_the_largest_growth_goes_first),
		cmocka_unit_test(test_nobody_is_displaced_for_a_little_more),
		cmocka_unit_test(test_what_the_user_opened_stays),
		cmocka_unit_test(test_no_room_above_the_budget),
		cmocka_unit_test(test_where_no_probes_can_be_placed),
		cmocka_unit_test(test_gaps_and_clocks_that_stand_still),
		cmocka_unit_test(test_two_kinds_of_bytes_are_not_compared),
		cmocka_unit_test(test_few_changes_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
