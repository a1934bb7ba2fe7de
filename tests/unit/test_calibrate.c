/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hits cost: the statistics of the trial against made-up batches, the kept file against everything that can be wrong with it, and, where this user may
 * use BPF, the measurement itself in the ways of kernels that have neither sessions nor multi links.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/calibrate_cache.h"
#include "probe/calibrate_trial.h"
#include "probe/features.h"
#include "probe/loader.h"
#include "probe/sums.h"
#include "sampling.h"
#include "util/fs.h"
#include "util/mem.h"

static bool near(double got, double want)
{
	if (fabs(got - want) < 0.01)
		return true;
	print_message("%g, expected %g\n", got, want);
	return false;
}

/* --- statistics --- */

static const double batch_ns[BATCH_NR] = {
	[BATCH_BARE] = 3,	 [BATCH_EMULATED] = 553,    [BATCH_STEPPED] = 19003, [BATCH_NOP5] = 253,
	[BATCH_SKIP] = 573,	 [BATCH_FULL] = 873,	    [BATCH_BODY_SKIP] = 623, [BATCH_BODY_COUNT] = 1273,
	[BATCH_BODY_FREE] = 653, [BATCH_BODY_STACK] = 1473,
};

/* Rounds in which the processor runs at changing speed: the same is added to all batches of a round. */
static struct trial trial_of(uint32_t rounds)
{
	struct trial t = { .rounds = rounds };

	for (int b = 0; b < BATCH_NR; b++)
		for (uint32_t i = 0; i < rounds; i++)
			t.ns[b][i] = batch_ns[b] + 40 * (double)(i % 7);
	return t;
}

static void costs_are_differences(void **state)
{
	struct trial t = trial_of(TRIAL_ROUNDS);
	struct hit_costs c;

	(void)state;
	assert_int_equal(trial_costs(&t, true, &c), 0);
	assert_true(near(c.emulated_ns, 550));
	assert_true(near(c.stepped_ns, 19000));
	assert_true(near(c.nop5_ns, 250));
	assert_true(near(c.skip_ns, 570));
	assert_true(near(c.return_ns, 300));
	assert_true(near(c.body_skip_ns, 50));
	assert_true(near(c.body_count_ns, 400));
	assert_true(near(c.body_free_ns, 100));
	assert_true(near(c.body_stack_ns, 200));
	assert_true(isnan(c.body_python_ns));
	assert_true(hit_costs_complete(&c));
}

static void without_sessions_the_entry_is_a_plain_hit(void **state)
{
	struct trial t = trial_of(4); /* even: the mean of the two in the middle */
	struct hit_costs c;

	(void)state;
	for (int i = 0; i < 4; i++)
		t.ns[BATCH_BODY_SKIP][i] += 300; /* a return comes in any case */
	assert_int_equal(trial_costs(&t, false, &c), 0);
	assert_true(c.skip_ns == 0);
	assert_true(near(c.return_ns, 320));
	assert_true(near(c.body_skip_ns, 50));
}

static void disturbed_rounds_are_outvoted(void **state)
{
	struct trial t = trial_of(TRIAL_ROUNDS);
	struct hit_costs c;

	(void)state;
	for (int i = 0; i < TRIAL_ROUNDS / 2; i++) {
		t.ns[BATCH_EMULATED][i] += 1e5;
		t.ns[BATCH_FULL][TRIAL_ROUNDS - 1 - i] += 1e5;
	}
	assert_int_equal(trial_costs(&t, true, &c), 0);
	assert_true(near(c.emulated_ns, 550));
	assert_true(near(c.return_ns, 300));
}

static void what_was_not_run_is_unknown(void **state)
{
	struct trial t = trial_of(5);
	struct hit_costs c;

	(void)state;
	for (int b = BATCH_KERNEL_NR; b < BATCH_NR; b++)
		t.ns[b][2] = NAN;
	assert_int_equal(trial_costs(&t, true, &c), 0);
	assert_true(near(c.emulated_ns, 550));
	assert_true(isnan(c.body_skip_ns) && isnan(c.body_count_ns) && isnan(c.body_free_ns) && isnan(c.body_stack_ns));
	assert_false(hit_costs_complete(&c));
}

static void figures_are_bounded(void **state)
{
	struct trial t = trial_of(5);
	struct hit_costs c;

	(void)state;
	for (int i = 0; i < 5; i++) {
		t.ns[BATCH_STEPPED][i] = 1e9;
		t.ns[BATCH_BODY_STACK][i] = 0;
	}
	assert_int_equal(trial_costs(&t, true, &c), 0);
	assert_true(c.stepped_ns == COST_MAX_NS);
	assert_true(c.body_stack_ns == COST_MIN_NS);
}

/* A link that hits nothing must not pass for a cheap one. */
static void no_hits_are_no_figures(void **state)
{
	struct trial t = trial_of(5), none = trial_of(0), many = { .rounds = TRIAL_ROUNDS + 1 };
	struct hit_costs c = { .emulated_ns = 7 };

	(void)state;
	for (int i = 0; i < 5; i++)
		t.ns[BATCH_EMULATED][i] = t.ns[BATCH_BARE][i] + 1;
	assert_int_equal(trial_costs(&t, true, &c), -ENODATA);
	assert_int_equal(trial_costs(&none, true, &c), -ENODATA);
	assert_int_equal(trial_costs(&many, true, &c), -ENODATA);
	assert_true(c.emulated_ns == 7);
}

/* The loop keeps the ABI's registers and calls as often as it should. */
static void trial_runs_unprobed(void **state)
{
	struct trial t;

	(void)state;
	trial_run(&t, NULL);
	assert_int_equal(t.rounds, TRIAL_ROUNDS);
	for (int b = 0; b < BATCH_KERNEL_NR; b++)
		for (uint32_t i = 0; i < t.rounds; i++)
			assert_true(t.ns[b][i] >= 0 && t.ns[b][i] < COST_MAX_NS);
	assert_true(isnan(t.ns[BATCH_BODY_COUNT][0]));
	for (int f = 0; f < FUNC_NR; f++)
		for (int g = 0; g < f; g++)
			assert_true(trial_func_addr((enum trial_func)f) != trial_func_addr((enum trial_func)g));
}

/* --- the kept file --- */

static const struct hit_costs some = { 554.3, 19400.125, 253, 570, 301.5, 51, 410.75, 99, 180, NAN };
static const struct costs_key key = { "2f0c-boot", "6.18.44 #1 SMP", 0x9a1b };

static char *text_of(const struct hit_costs *c, const struct costs_key *k)
{
	char *buf = calloc(1, COSTS_TEXT_MAX);
	int n;

	assert_non_null(buf);
	n = costs_format(c, k, buf, COSTS_TEXT_MAX);
	assert_true(n > 0 && (size_t)n == strlen(buf));
	return buf;
}

static int parse(const char *text, const struct costs_key *k, struct hit_costs *ret)
{
	return costs_parse(text, strlen(text), k, ret);
}

static void assert_same(const struct hit_costs *a, const struct hit_costs *b)
{
	const double *x = (const double *)a, *y = (const double *)b;

	for (size_t i = 0; i < sizeof(*a) / sizeof(*x); i++)
		assert_true((isnan(x[i]) && isnan(y[i])) || fabs(x[i] - y[i]) < 0.001);
}

static void what_is_written_is_read(void **state)
{
	struct hit_costs no_session = some, kernel_only = some, got;

	(void)state;
	no_session.skip_ns = 0;
	kernel_only.body_skip_ns = kernel_only.body_count_ns = kernel_only.body_free_ns = kernel_only.body_stack_ns =
		NAN;
	const struct hit_costs *cases[] = { &some, &no_session, &kernel_only };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(freep) char *text = text_of(cases[i], &key);

		assert_int_equal(parse(text, &key, &got), 0);
		assert_same(&got, cases[i]);
	}
}

static void bodies_belong_to_their_programs(void **state)
{
	struct costs_key other = key, any = key;
	_cleanup_(freep) char *text = text_of(&some, &key);
	struct hit_costs got;

	(void)state;
	other.programs = 0x9a1c;
	any.programs = 0;
	assert_int_equal(parse(text, &other, &got), 0);
	assert_true(near(got.emulated_ns, 554.3) && isnan(got.body_skip_ns) && !hit_costs_complete(&got));
	assert_int_equal(parse(text, &any, &got), 0);
	assert_true(hit_costs_complete(&got));
}

static void another_boot_or_kernel_is_stale(void **state)
{
	struct costs_key boot = key, kernel = key;
	_cleanup_(freep) char *text = text_of(&some, &key);
	struct hit_costs got;

	(void)state;
	strcpy(boot.boot, "2f0c-boo");
	strcpy(kernel.kernel, "6.18.44 #2 SMP");
	assert_int_equal(parse(text, &boot, &got), -ESTALE);
	assert_int_equal(parse(text, &kernel, &got), -ESTALE);
}

/* A file that breaks off anywhere is not taken for a shorter one. */
static void cut_files_are_refused(void **state)
{
	_cleanup_(freep) char *text = text_of(&some, &key);
	struct hit_costs got = { .emulated_ns = 7 };

	(void)state;
	for (size_t n = 0; n < strlen(text); n++)
		if (costs_parse(text, n, &key, &got) >= 0)
			fail_msg("cut at %zu: accepted", n);
	assert_true(got.emulated_ns == 7);
}

#define HEAD "tidemark-costs 1\nboot 2f0c-boot\nkernel 6.18.44 #1 SMP\nprograms 9a1b\n"
#define REST "stepped_ps 19000000\nnop5_ps 250000\nskip_ps 570000\nreturn_ps 300000\n"

static void nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"\n",
		"garbage",
		"tidemark-costs 2\nboot 2f0c-boot\nkernel 6.18.44 #1 SMP\nprograms 9a1b\nemulated_ps 554300\n" REST
		"end\n",
		HEAD "end\n",
		HEAD REST "end\n",					      /* one is missing */
		HEAD "emulated_ps 554300\n" REST "end\nmore\n",		      /* behind the end */
		HEAD "emulated_ps 554300\n" REST "surprise_ps 1000\nend\n",   /* unknown */
		HEAD "emulated_ps 554300\n" REST "emulated_ps 554300\nend\n", /* twice */
		HEAD "emulated_ps 999\n" REST "end\n",			      /* below 1 ns */
		HEAD "emulated_ps 1000000001\n" REST "end\n",		      /* above 1 ms */
		HEAD "emulated_ps 0\n" REST "end\n",
		HEAD "emulated_ps -554300\n" REST "end\n",
		HEAD "emulated_ps 5.5e5\n" REST "end\n",
		HEAD "emulated_ps nan\n" REST "end\n",
		HEAD "emulated_ps inf\n" REST "end\n",
		HEAD "emulated_ps \n" REST "end\n",
		HEAD "emulated_ps  554300\n" REST "end\n",
		HEAD "emulated_ps 554300 \n" REST "end\n",
		HEAD "emulated_ps 18446744073710105916\n" REST "end\n", /* 2^64 + 554300 */
		HEAD "emulated_ns 554300\n" REST "end\n",
		HEAD "\nemulated_ps 554300\n" REST "end\n",
	};
	struct hit_costs got;

	(void)state;
	assert_int_equal(parse(HEAD "emulated_ps 554300\n" REST "end\n", &key, &got), 0);
	assert_int_equal(parse(HEAD "emulated_ps 1000\n" REST "end\n", &key, &got), 0);
	assert_int_equal(parse(HEAD "emulated_ps 1000000000\n" REST "end\n", &key, &got), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse(bad[i], &key, &got) != -EBADMSG)
			fail_msg("case %zu: accepted", i);
}

static void binary_and_huge_files_are_refused(void **state)
{
	_cleanup_(freep) char *text = text_of(&some, &key), *huge = calloc(1, 1 << 20);
	size_t n = strlen(text);
	struct hit_costs got;

	(void)state;
	assert_non_null(huge);
	memset(huge, '\n', 1 << 20);
	assert_int_equal(costs_parse(huge, 1 << 20, &key, &got), -EBADMSG);
	for (size_t i = 0; i < n; i++) {
		char was = text[i];

		text[i] = 0;
		assert_int_equal(costs_parse(text, n, &key, &got), -EBADMSG);
		text[i] = was;
	}
}

static void small_buffers_are_told(void **state)
{
	char buf[64];

	(void)state;
	assert_int_equal(costs_format(&some, &key, buf, sizeof(buf)), -EMSGSIZE);
}

static void key_of_this_machine(void **state)
{
	struct costs_key k;

	(void)state;
	assert_int_equal(costs_key_current(&k), 0);
	assert_int_equal(strlen(k.boot), 36);
	assert_null(strchr(k.kernel, '\n'));
	assert_true(strlen(k.kernel) > 3);
}

/* --- on disk --- */

struct place {
	char root[64], dir[96], file[128];
};

static int place_make(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	strcpy(p->root, "/tmp/tidemark-costs-XXXXXX");
	if (!mkdtemp(p->root))
		return -1;
	snprintf(p->dir, sizeof(p->dir), "%s/run", p->root);
	snprintf(p->file, sizeof(p->file), "%s/costs-v1", p->dir);
	*state = p;
	return 0;
}

static int place_remove(void **state)
{
	struct place *p = *state;

	(void)unlink(p->file);
	(void)rmdir(p->file);
	(void)rmdir(p->dir);
	(void)unlink(p->dir);	   /* where a test made a link of it */
	int left = rmdir(p->root); /* nothing else may lie about: no temporary file */
	free(p);
	return left;
}

static void put(const char *path, const char *text)
{
	_cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void stored_is_loaded(void **state)
{
	struct place *p = *state;
	struct hit_costs got, other = some;
	mode_t before = umask(077); /* modes are what they should be whatever the umask */

	assert_int_equal(costs_load(p->dir, &key, &got), -ENOENT);
	assert_int_equal(costs_store(p->dir, &key, &some), 0);
	(void)umask(before);
	assert_int_equal(mode_of(p->dir), 0755);
	assert_int_equal(mode_of(p->file), 0644);
	assert_int_equal(costs_load(p->dir, &key, &got), 0);
	assert_same(&got, &some);
	other.emulated_ns = 700;
	assert_int_equal(costs_store(p->dir, &key, &other), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), 0);
	assert_same(&got, &other);
}

static void broken_files_are_replaced(void **state)
{
	struct place *p = *state;
	struct hit_costs got;

	assert_int_equal(mkdir(p->dir, 0755), 0);
	put(p->file, "garbage\n");
	assert_int_equal(costs_load(p->dir, &key, &got), -EBADMSG);
	assert_int_equal(costs_store(p->dir, &key, &some), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), 0);
}

/* Files that others may write, and what is no plain file, are not read. */
static void hostile_files_are_ignored(void **state)
{
	struct place *p = *state;
	char elsewhere[160];
	struct hit_costs got;

	assert_int_equal(costs_store(p->dir, &key, &some), 0);
	assert_int_equal(chmod(p->file, 0666), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), -EPERM);
	assert_int_equal(chmod(p->file, 0644), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), 0);
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", p->root);
	assert_int_equal(rename(p->file, elsewhere), 0);
	assert_int_equal(symlink(elsewhere, p->file), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), -ELOOP);
	assert_int_equal(costs_store(p->dir, &key, &some), 0); /* in place of the link, not through it */
	assert_int_equal(costs_load(p->dir, &key, &got), 0);
	assert_int_equal(unlink(elsewhere), 0);
	assert_int_equal(unlink(p->file), 0);
	assert_int_equal(mkfifo(p->file, 0644), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), -EPERM); /* at once */
	assert_int_equal(unlink(p->file), 0);
	assert_int_equal(mkdir(p->file, 0755), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), -EPERM);
	assert_true(costs_store(p->dir, &key, &some) < 0);
}

static void hostile_directories_are_ignored(void **state)
{
	struct place *p = *state;
	char elsewhere[160];
	struct hit_costs got;

	assert_int_equal(costs_store(p->dir, &key, &some), 0);
	assert_int_equal(chmod(p->dir, 0777), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), -EPERM);
	assert_int_equal(costs_store(p->dir, &key, &some), -EPERM);
	assert_int_equal(chmod(p->dir, 0755), 0);
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", p->root);
	assert_int_equal(rename(p->dir, elsewhere), 0);
	assert_int_equal(symlink(elsewhere, p->dir), 0);
	assert_true(costs_load(p->dir, &key, &got) < 0);
	assert_true(costs_store(p->dir, &key, &some) < 0);
	assert_int_equal(unlink(p->dir), 0);
	assert_int_equal(rename(elsewhere, p->dir), 0);
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(p->dir, 65534, 65534), 0);
	assert_int_equal(costs_load(p->dir, &key, &got), -EPERM);
	assert_int_equal(costs_store(p->dir, &key, &some), -EPERM);
}

/* --- the measurement --- */

static void assert_plausible(const struct hit_costs *c, bool session)
{
	print_message(
		"emulated %.0f stepped %.0f nop5 %.0f skip %.0f return %.0f, not sampled %.0f counted %.0f stack %.0f "
		"free %.0f\n",
		c->emulated_ns, c->stepped_ns, c->nop5_ns, c->skip_ns, c->return_ns, c->body_skip_ns, c->body_count_ns,
		c->body_stack_ns, c->body_free_ns);
	assert_true(c->emulated_ns > 20 && c->emulated_ns < 1e5);
	assert_true(c->stepped_ns > 20 && c->stepped_ns < 1e6);
	assert_true(c->return_ns > 20 && c->return_ns < 1e5);
	assert_int_equal(c->skip_ns > 0, session);
}

static void measured_in_each_way(void **state)
{
	struct place *p = *state;
	struct features real;

	if (geteuid() != 0 || features_detect(&real) || !real.cookies)
		skip();
	const struct {
		bool multi, session;
	} ways[] = { { true, true }, { true, false }, { false, false } };
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct features f = real;
		struct hit_costs c, kept;
		bool fresh = false;

		f.multi &= ways[i].multi;
		f.session &= ways[i].session;
		assert_int_equal(setenv("TIDEMARK_COSTS_DIR", p->dir, 1), 0);
		(void)unlink(p->file);
		assert_int_equal(calibrate_kernel(&f, &c, &fresh), 0);
		assert_true(fresh);
		assert_plausible(&c, f.session);
		assert_true(isnan(c.body_count_ns));
		assert_int_equal(calibrate_kept(&f, &kept), 0);
		assert_same(&kept, &c);
		assert_int_equal(calibrate_kernel(&f, &kept, &fresh), 0);
		assert_false(fresh);
	}
	(void)unsetenv("TIDEMARK_COSTS_DIR");
}

static void loader_freep(struct loader **l)
{
	loader_free(*l);
}

static bool sum_is_left(void *ctx, uint32_t index, const struct sum *sum)
{
	(void)ctx;
	print_message("sum %u of account %u\n", index, sum->account);
	fail();
	return true;
}

static void no_traces(const struct loader *l)
{
	const struct proc *procs = loader_procs(l);
	struct sums_table sums = loader_sums(l);

	for (uint32_t i = 0; i < PROC_SLOTS; i++)
		assert_int_equal(procs[i].tgid, 0);
	assert_int_equal(sums_each(&sums, sum_is_left, NULL), 0);
}

/* Our own programs, as they are loaded for kernels with and without sessions. */
static void bodies_are_measured(void **state)
{
	struct place *p = *state;
	struct loader_opts o = { .cfg.own_tgid = (uint32_t)getpid(), .cfg.sample_bytes = SAMPLE_BYTES_DEFAULT };

	if (geteuid() != 0 || features_detect(&o.features) || !o.features.cookies || !o.features.btf)
		skip();
	assert_int_equal(setenv("TIDEMARK_COSTS_DIR", p->dir, 1), 0);
	for (int session = o.features.session; session >= 0; session--) {
		_cleanup_(loader_freep) struct loader *l = NULL;
		_cleanup_(freep) char *why = NULL;
		struct hit_costs c;
		bool fresh = false;

		o.features.session = session;
		if (loader_open(&o, &l, &why))
			fail_msg("%s", why);
		assert_int_equal(calibrate(l, &c, &fresh), 0);
		assert_true(fresh);
		assert_plausible(&c, session);
		assert_true(hit_costs_complete(&c));
		no_traces(l);
		assert_int_equal(calibrate(l, &c, &fresh), 0);
		assert_false(fresh);
		no_traces(l);
	}
	(void)unsetenv("TIDEMARK_COSTS_DIR");
}

#define on_disk(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

/* What a service pays more than a loop is the kernel's part; what is not known stays so. */
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(costs_are_differences),
		cmocka_unit_test(without_sessions_the_entry_is_a_plain_hit),
		cmocka_unit_test(disturbed_rounds_are_outvoted),
		cmocka_unit_test(what_was_not_run_is_unknown),
		cmocka_unit_test(figures_are_bounded),
		cmocka_unit_test(no_hits_are_no_figures),
		cmocka_unit_test(trial_runs_unprobed),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(bodies_belong_to_their_programs),
		cmocka_unit_test(another_boot_or_kernel_is_stale),
		cmocka_unit_test(cut_files_are_refused),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(binary_and_huge_files_are_refused),
		cmocka_unit_test(small_buffers_are_told),
		cmocka_unit_test(key_of_this_machine),
		on_disk(stored_is_loaded),
		on_disk(broken_files_are_replaced),
		on_disk(hostile_files_are_ignored),
		on_disk(hostile_directories_are_ignored),
		on_disk(measured_in_each_way),
		on_disk(bodies_are_measured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
