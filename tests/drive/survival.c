/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * survival occupied|live PID TABLE RECORDS LEAK CACHE CHURN [LOOKS [SAMPLE_BYTES [SHARE]]]: what survival and the walkers say of tests/e2e/targets/survive,
 * against its own table. One JSON line per look.
 *
 *   occupied  asks for every address of the table: of the stopped process each answer must be right, of the running one no live block may be called dead
 *   live      attaches in slices of SHARE of each period, looks, and compares each site with what lives of the blocks born in slices
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/syscall.h>

#include "collect/accounts.h"
#include "collect/occupied.h"
#include "collect/survival.h"
#include "probe/attach.h"
#include "probe/features.h"
#include "probe/loader.h"
#include "tables.h"
#include "target/proc.h"
#include "util/clock.h"
#include "util/mem.h"

/* asm/signal.h: with signal.h come names of registers, which include/shapes.h has too. */
#define SIGCONT 18
#define SIGSTOP 19

#define SITES 3
#define PERIOD_NS 300000000ull
#define WINDOWS_MAX 4096
#define DEAD_ENOUGH 20000 /* records, most of whose addresses were taken again */
#define SITE_SPAN 64	  /* bytes of code that a site has at most */

struct record {
	uint64_t addr, birth_ns;
	uint32_t bytes, site;
	uint64_t death_ns;
};

struct drive {
	uint32_t pid;
	uint64_t table, site[SITES];
	size_t records;
	struct record *copy;
	struct {
		uint64_t from, to;
	} windows[WINDOWS_MAX];
	size_t n_windows;
};

static void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static void read_table(struct drive *d)
{
	size_t bytes = d->records * sizeof(*d->copy);

	for (size_t done = 0; done < bytes;) {
		size_t n = bytes - done < 1 << 20 ? bytes - done : 1 << 20;
		struct iovec here = { (char *)d->copy + done, n }, there = { (void *)(uintptr_t)(d->table + done), n };
		if (process_vm_readv((pid_t)d->pid, &here, 1, &there, 1, 0) != (ssize_t)n)
			die("table", errno);
		done += n;
	}
}

static void send_signal(pid_t pid, int number)
{
	(void)syscall(SYS_kill, pid, number); /* gone: what follows says so */
}

static void stop(const struct drive *d)
{
	struct proc_stat st = { .state = 'R' };
	const struct timespec ms = { .tv_nsec = 1000000 };

	send_signal((pid_t)d->pid, SIGSTOP);
	while (proc_read_stat(d->pid, &st) == 0 && st.state != 'T')
		nanosleep(&ms, NULL);
}

/* --- occupied --- */

static int by_place(const void *a, const void *b)
{
	uint64_t x = ((const struct record *)a)->addr, y = ((const struct record *)b)->addr;

	return x < y ? -1 : x > y;
}

/* All records, once each: alive ones, and dead ones at whose address no live one is. Number. */
static size_t sort_records(struct drive *d, struct record *out)
{
	size_t n = 0, kept = 0;

	for (size_t i = 0; i < d->records; i++)
		if (d->copy[i].addr && d->copy[i].death_ns != 1)
			out[n++] = d->copy[i];
	qsort(out, n, sizeof(*out), by_place);
	for (size_t i = 0, j; i < n; i = j) {
		struct record one = out[i];
		for (j = i; j < n && out[j].addr == out[i].addr; j++)
			one = out[j].death_ns ? one : out[j];
		out[kept++] = one;
	}
	return kept;
}

static void occupied_once(struct drive *d, bool stopped, struct heap_memo *memo)
{
	struct record *records = xcalloc(d->records, sizeof(*records));
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	_cleanup_(process_memory_done) struct process_memory memory = { .pagemap = -1 };

	read_table(d);
	size_t n = sort_records(d, records);
	struct occupied_query *q = xcalloc(n + 1, sizeof(*q));
	for (size_t i = 0; i < n; i++)
		q[i] = (struct occupied_query){
			.addr = records[i].addr, .bytes = records[i].bytes, .layer = LAYER_HEAP, .index = (uint32_t)i
		};
	if (mappings_read(d->pid, &maps))
		die("maps", errno);
	process_memory_open(d->pid, &memory);
	struct occupied_look l = {
		.memory = &memory.memory, .maps = &maps, .memo = memo, .queries = q, .n = n, .seed = 1
	};
	uint64_t began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	int err = occupied_look(&l);
	uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - began;
	if (err)
		die("occupied_look", err);
	read_table(d); /* who was alive before and after was alive in between */
	struct record *after = xcalloc(d->records, sizeof(*after));
	size_t n_after = sort_records(d, after);
	size_t live = 0, called_dead = 0, live_unknown = 0, dead = 0, called_used = 0, dead_unknown = 0;
	for (size_t i = 0; i < n; i++) {
		const struct record *was = &records[q[i].index];
		const struct record *is = bsearch(was, after, n_after, sizeof(*after), by_place);
		bool same = is && is->birth_ns == was->birth_ns && is->death_ns == was->death_ns;
		if (!same)
			continue;
		live += !was->death_ns;
		dead += was->death_ns != 0;
		live_unknown += !was->death_ns && q[i].is == OCCUPANCY_UNKNOWN;
		called_dead += !was->death_ns && q[i].is > OCCUPANCY_IN_USE;
		dead_unknown += was->death_ns && q[i].is == OCCUPANCY_UNKNOWN;
		called_used += was->death_ns && q[i].is == OCCUPANCY_IN_USE;
	}
	printf("{\"tag\": \"%s\", \"live\": %zu, \"live_called_dead\": %zu, \"live_unknown\": %zu, \"dead\": %zu, "
	       "\"dead_called_used\": %zu, "
	       "\"dead_unknown\": %zu, \"chunks\": %" PRIu64 ", \"resyncs\": %" PRIu64 ", \"skipped_bytes\": %" PRIu64
	       ", \"cpu_ms\": %.2f}\n",
	       stopped ? "stopped" : "running", live, called_dead, live_unknown, dead, called_used, dead_unknown,
	       l.figures.chunks, l.figures.resyncs, l.figures.skipped_bytes, (double)cpu_ns / 1e6);
	fflush(stdout);
	free(records);
	free(after);
	free(q);
}

static size_t count_dead(const struct drive *d)
{
	size_t n = 0;

	for (size_t i = 0; i < d->records; i++)
		n += d->copy[i].addr && d->copy[i].death_ns > 1;
	return n;
}

static void run_occupied(struct drive *d, int looks)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	struct heap_memo memo = { 0 };

	do {
		nanosleep(&pause, NULL);
		read_table(d);
	} while (count_dead(d) < DEAD_ENOUGH);
	for (int i = 0; i < looks; i++) {
		nanosleep(&pause, NULL);
		occupied_once(d, false, &memo);
		stop(d);
		occupied_once(d, true, &memo);
		send_signal((pid_t)d->pid, SIGCONT);
	}
}

/* --- live --- */

struct watched_process {
	struct loader *loader;
	struct attacher *attacher;
	struct accounts *accounts;
	struct survival *survival;
	struct proc *slot;
	uint32_t account;
};

static void attach(const struct drive *d, uint64_t sample_bytes, struct watched_process *ret)
{
	struct loader_opts o = { .cfg = { .own_tgid = (uint32_t)getpid(),
					  .sample_bytes = sample_bytes ? sample_bytes : 1 } };
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	struct proc_stat st;
	char *why = NULL;
	int err = features_detect(&o.features);

	if (!err)
		err = loader_open(&o, &ret->loader, &why);
	if (err)
		die(why ? why : "features", err);
	ret->attacher = attacher_new(ret->loader);
	attacher_force_process(ret->attacher);
	ret->accounts = accounts_new(loader_procs(ret->loader));
	ret->survival = survival_new(ret->loader);
	if (proc_read_stat(d->pid, &st))
		die("stat", errno);
	struct proc p = {
		.id = { .start_ticks = st.start_ticks, .pid = d->pid, .image = loader_new_image(ret->loader) },
		.flags = PROC_HEAP | PROC_NAMED,
		.rate = sample_bytes != 0
	};
	err = accounts_enter(ret->accounts, d->pid, &p, &ret->account);
	if (err)
		die("enter", err);
	ret->slot = &loader_procs(ret->loader)[account_slot(ret->account)];
	if (mappings_read(d->pid, &maps))
		die("maps", errno);
	for (size_t i = 0; i < maps.n; i++) {
		struct file_info info;
		if (!maps.items[i].exec || !strstr(maps.items[i].path, "/libc"))
			continue;
		_cleanup_(closep) int fd = mapping_open(d->pid, &maps.items[i], NULL);
		err = fd < 0 ? fd : attacher_take_file(ret->attacher, fd, d->pid, true, &info);
		if (err)
			die("attach", err);
	}
	attacher_pause(ret->attacher, d->pid);
}

static void sleep_until(uint64_t ns)
{
	const struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		continue;
}

static void one_period(struct drive *d, struct watched_process *w, double share)
{
	uint64_t began = mono_ns(), slice = (uint64_t)(share * PERIOD_NS);

	sleep_until(began + (uint64_t)(drand48() * (double)(PERIOD_NS - slice)));
	if (attacher_resume(w->attacher, d->pid) || d->n_windows == WINDOWS_MAX)
		die("resume", errno);
	uint64_t from = mono_ns(), to = from + slice;
	__atomic_store_n(&w->slot->window_end_ns, to, __ATOMIC_RELEASE);
	d->windows[d->n_windows].from = from;
	d->windows[d->n_windows++].to = to;
	sleep_until(to);
	attacher_pause(w->attacher, d->pid);
	if (mono_ns() < began + PERIOD_NS)
		sleep_until(began + PERIOD_NS);
}

static bool in_window(const struct drive *d, uint64_t ns)
{
	for (size_t i = 0; i < d->n_windows; i++)
		if (ns >= d->windows[i].from && ns < d->windows[i].to)
			return true;
	return false;
}

static int site_of_sum(const struct drive *d, const struct watched_process *w, const struct sum *s)
{
	static const enum kernel_map maps[] = { KMAP_STACKS, KMAP_MORE_STACKS };
	struct stack stack;

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		if (bpf_map_lookup_elem(loader_map_fd(w->loader, maps[i]), &s->ids.native, &stack) || !stack.n_ips)
			continue;
		int site = -1;
		for (int k = 0; k < SITES; k++)
			if (stack.ip[0] - d->site[k] < SITE_SPAN && (site < 0 || d->site[k] > d->site[site]))
				site = k;
		return site;
	}
	return -1;
}

struct site_figures {
	double live, se2, live_count, raw, allocated, truth, truth_count;
	uint64_t looked;
};

static void gather(const struct drive *d, const struct watched_process *w, struct site_figures f[SITES])
{
	size_t n = loader_map_info(w->loader, KMAP_SUMS).capacity, bytes = (n * sizeof(struct sum) + 4095) & ~4095ull;
	const struct sum *sums = mmap(NULL, bytes, PROT_READ, MAP_SHARED, loader_map_fd(w->loader, KMAP_SUMS), 0);

	if (sums == MAP_FAILED)
		die("sums", errno);
	for (uint32_t i = 0; i < n; i++) {
		struct survival_figures s;
		int site = sums[i].key && sums[i].account == w->account ? site_of_sum(d, w, &sums[i]) : -1;
		if (site < 0)
			continue;
		f[site].allocated += (double)sums[i].alloc_bytes;
		f[site].raw += (double)(int64_t)(sums[i].alloc_bytes - sums[i].free_bytes);
		if (!survival_find(w->survival, i, (double)sums[i].alloc_bytes, (double)sums[i].alloc_count, &s))
			continue;
		f[site].live += s.live_bytes;
		f[site].live_count += s.live_count;
		f[site].se2 += s.live_bytes_se * s.live_bytes_se;
		f[site].looked += s.looked;
	}
	(void)munmap((void *)sums, bytes);
	for (size_t i = 0; i < d->records; i++) {
		const struct record *r = &d->copy[i];
		if (!r->addr || r->death_ns || !in_window(d, r->birth_ns))
			continue;
		f[r->site].truth += r->bytes;
		f[r->site].truth_count++;
	}
}

static void look(struct drive *d, struct watched_process *w, uint64_t sample_bytes, int number)
{
	static const char *const names[] = { "leak", "cache", "churn" };
	const struct survival_target t = { .account = w->account, .pid = d->pid, .sample_bytes = sample_bytes };
	struct site_figures f[SITES] = { { 0 } };
	struct survival_status st = { 0 };
	static uint64_t now;

	/* Every other look at the process while it runs. */
	if (number & 1)
		stop(d);
	now += 3600 * 1000000000ull; /* a look is always due */
	int err = survival_look(w->survival, &t, now);
	if (!(number & 1))
		stop(d);
	if (err < 0)
		die("survival_look", err);
	read_table(d);
	gather(d, w, f);
	send_signal((pid_t)d->pid, SIGCONT);
	(void)survival_status(w->survival, w->account, &st);
	printf("{\"tag\": \"look\", \"looked\": %d, \"stopped\": %d, \"blocks\": %" PRIu64 ", \"unknown\": %" PRIu64
	       ", \"found_dead\": %" PRIu64 ", \"controls\": %" PRIu64 ", \"hidden\": %" PRIu64
	       ", \"resyncs\": %" PRIu64 ", \"cpu_ms\": %.1f",
	       err, number & 1, st.blocks, st.unknown, st.found_dead, st.controls, st.hidden, st.resyncs,
	       (double)st.cpu_ns / 1e6);
	for (int i = 0; i < SITES; i++)
		printf(", \"%s\": {\"live_bytes\": %.0f, \"se\": %.0f, \"live_count\": %.1f, \"raw_bytes\": %.0f, "
		       "\"allocated_bytes\": %.0f, \"looked\": %" PRIu64
		       ", \"truth_bytes\": %.0f, \"truth_count\": %.0f}",
		       names[i], f[i].live, sqrt(f[i].se2), f[i].live_count, f[i].raw, f[i].allocated, f[i].looked,
		       f[i].truth, f[i].truth_count);
	printf("}\n");
	fflush(stdout);
}

static void run_live(struct drive *d, int looks, uint64_t sample_bytes, double share)
{
	struct watched_process w = { 0 };

	attach(d, sample_bytes, &w);
	const struct survival_target t = { .account = w.account, .pid = d->pid, .sample_bytes = sample_bytes };
	(void)survival_look(w.survival, &t, 0); /* the first call only begins */
	for (int i = 0; i < looks; i++) {
		for (int k = 0, n = 2 + (int)(drand48() * 3); k < n; k++)
			one_period(d, &w, share);
		look(d, &w, sample_bytes, i);
	}
	survival_free(w.survival);
	attacher_free(w.attacher);
	accounts_free(w.accounts);
	loader_free(w.loader);
}

int main(int argc, char **argv)
{
	struct drive d = { 0 };

	if (argc < 8)
		return 2;
	d.pid = (uint32_t)strtoul(argv[2], NULL, 10);
	d.table = strtoull(argv[3], NULL, 10);
	d.records = strtoull(argv[4], NULL, 10);
	for (int i = 0; i < SITES; i++)
		d.site[i] = strtoull(argv[5 + i], NULL, 10);
	int looks = argc > 8 ? atoi(argv[8]) : 5;
	uint64_t sample_bytes = argc > 9 ? strtoull(argv[9], NULL, 10) : 0;
	double share = argc > 10 ? atof(argv[10]) : 0.2;
	d.copy = mmap(NULL, d.records * sizeof(*d.copy), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (d.copy == MAP_FAILED)
		die("memory", errno);
	srand48(getpid());
	if (!strcmp(argv[1], "occupied"))
		run_occupied(&d, looks);
	else
		run_live(&d, looks, sample_bytes, share);
	return 0;
}
