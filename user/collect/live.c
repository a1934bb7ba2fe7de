/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live source: owns the loaded programs, the links, the followed processes and the event ring, and turns them into a snapshot per
 * interval. Order of the start: births, execs and exits are watched before processes are listed, so that none slips between; a process is entered into the
 * kernel's table before its functions are probed, so that no call of it is taken for a stranger's.
 */
#include "collect/live.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "collect/assemble.h"
#include "collect/hits.h"
#include "collect/pyseen.h"
#include "collect/ring.h"
#include "collect/scope.h"
#include "collect/sumscatter.h"
#include "collect/survival.h"
#include "collect/threads.h"
#include "collect/windows.h"
#include "collect/zoomer.h"
#include "probe/calibrate.h"
#include "probe/self_limit.h"
#include "paging.h"
#include "target/cgroup.h"
#include "target/launch.h"
#include "target/proc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mem.h"

#define WAKE_MAX 4
#define OWN_FDS 3	       /* rings, files that are written */
#define HITS_EVERY 7	       /* odd: programs allocate in fixed orders */
#define SETTLE_NS 500000000ull /* no allocation call lasts longer */
#define BATCH_NS 20000000ull
#define TIDY_NS 60000000000ull

struct live_source {
	struct source base; /* first: a source is a live source */
	struct live_opts opts;
	struct loader *loader;
	struct attacher *attacher;
	struct places *places;
	struct ranges *ranges;
	struct images *images;
	struct stackdefs *defs;
	struct threads *threads;
	struct cgroup_limits *limits;
	struct pyseen *pyseen;
	struct hits *hits; /* NULL: not recorded */
	struct accounts *accounts;
	struct ages *ages;
	struct ring_reader *ring;
	struct follow follow;
	struct assembly assembly;
	struct launch launch;
	struct scope_policy policy;
	struct hit_costs costs;
	struct windows *windows; /* NULL: no calls are observed */
	struct self_limit self;
	struct zoomer *zoomer;
	struct survival *survival;
	struct sum_scatters *scatters;
	uint64_t windows_ns; /* when they want their next turn */
	uint64_t tidied_ns;
	bool written;		   /* files that had probes: who maps them is to be looked into */
	uint64_t scope_changed_ns; /* 0: links of the scope before are gone */
	uint64_t next_ns;	   /* when the next snapshot is due */
	uint64_t rests_until_ns;   /* events wait */
	uint64_t interval_ns;
	bool reported_gone;
};

static void on_ring(void *ctx, const void *data, size_t bytes)
{
	struct live_source *s = ctx;
	const struct event *e = data;

	if (bytes < sizeof(*e))
		return;
	if (e->kind == EVENT_SPENT && s->windows)
		windows_spent(s->windows, e->account, e->ts_ns, mono_ns());
	follow_event(&s->follow, e);
	ranges_step(s->ranges, e);
}

static void live_close(struct source *base)
{
	struct live_source *s = (struct live_source *)base;

	hits_close(s->hits);
	windows_free(s->windows);
	zoomer_free(s->zoomer);
	survival_free(s->survival);
	sum_scatters_free(s->scatters);
	launch_done(&s->launch);
	attacher_free(s->attacher);
	ring_reader_close(s->ring);
	follow_done(&s->follow);
	ages_free(s->ages);
	ranges_free(s->ranges);
	places_free(s->places);
	stackdefs_free(s->defs);
	images_free(s->images);
	threads_free(s->threads);
	cgroup_limits_free(s->limits);
	pyseen_free(s->pyseen);
	accounts_free(s->accounts);
	loader_free(s->loader);
	free(s);
}

static void live_closep(struct live_source **s)
{
	if (*s)
		live_close(&(*s)->base);
}

/* For the oracle: a process may be gone before the interval's end. */
static void keep_maps(struct live_source *s, bool only_new)
{
	for (struct watched *w = s->hits ? s->follow.all : NULL; w; w = w->hh.next)
		if (only_new ? !w->maps_kept : w->state == PROC_RUNNING) {
			hits_maps(s->hits, w->pid, w->ppid);
			w->maps_kept = true;
		}
}

static void step_windows(struct live_source *s)
{
	s->windows_ns = s->windows ? windows_step(s->windows, mono_ns()) : UINT64_MAX;
}

/* Before files are looked into: a new process's probes wait for its first window. */
static void sync_windows(struct live_source *s)
{
	_cleanup_(freep) struct window_wish *wishes = NULL;
	size_t n = 0, cap = 0;

	if (!s->windows)
		return;
	for (struct watched *w = s->follow.all; w; w = w->hh.next) {
		if (!(w->flags & (PROC_HEAP | PROC_PYTHON)) || w->state != PROC_RUNNING)
			continue;
		wishes = grow_to(wishes, &cap, n + 1, sizeof(*wishes));
		wishes[n++] = (struct window_wish){ w->account, w->pid, w->was_away };
	}
	windows_sync(s->windows, wishes, n, mono_ns());
}

/* All that goes through the processes one by one; most events (a mapping of data) change nothing of that. */
static void catch_up(struct live_source *s)
{
	if (!s->follow.changed)
		return;
	s->follow.changed = false;
	sync_windows(s);
	keep_maps(s, true);
	(void)follow_scan(&s->follow); /* a file that can't be probed shows as a process without functions */
}

static void drain(struct live_source *s)
{
	ring_reader_consume(s->ring); /* what it could not hold was counted by the kernel side */
	hits_drain(s->hits);
	catch_up(s);
	step_windows(s);
}

/* What can't be changed stays as it is, which is right too, only dearer for somebody. */
static void mind_scope(struct live_source *s, uint64_t now, double foreign_per_s)
{
	if (!attacher_can_change(s->attacher))
		return;
	if (s->scope_changed_ns && now - s->scope_changed_ns < SETTLE_NS)
		return; /* nor is a birth taken note of: it is still there to be seen afterwards */
	if (s->scope_changed_ns)
		attacher_settle(s->attacher);
	s->scope_changed_ns = 0;
	struct scope_policy before = s->policy;
	enum probe_scope is = attacher_scope(s->attacher);
	enum probe_scope want = scope_decide(&s->policy, is, now, foreign_per_s, s->follow.births);
	if (want == is)
		return;
	int err = attacher_set_scope(s->attacher, want);
	if (!err)
		s->scope_changed_ns = now;
	else if (err == -EBUSY) /* tried again the next time */
		s->policy = before;
}

/* What we take ourselves: too much of it, and probes are placed less often. cpu_pct: of one core. */
static void mind_own_cost(struct live_source *s, double cpu_pct)
{
	if (!s->windows)
		return;
	uint32_t times = self_limit_step(&s->self, cpu_pct / (double)sysconf(_SC_NPROCESSORS_ONLN));
	windows_stretch(s->windows, times);
	survival_stretch(s->survival, times);
}

/* Processes that are not probed all the time: what became of the blocks that were sampled is asked of their allocators. */
static void look_for_survivors(struct live_source *s, uint64_t now)
{
	for (struct watched *w = s->follow.all; w; w = w->hh.next) {
		struct survival_target t = { .account = w->account,
					     .pid = w->pid,
					     .sample_bytes = s->opts.sample_bytes };
		struct survival_status looked;
		if (!w->window.lever || w->window.whole || windows_in_slice(s->windows, w->account))
			continue;
		/* A look at a large heap takes half a second, in which no slice would be ended. */
		if (survival_is_long(s->survival, w->account, now) && windows_any_slice(s->windows))
			continue;
		int err = w->state == PROC_RUNNING ? survival_look(s->survival, &t, now) : 0;
		if (err < 0)
			log_debug("pid %u: what lives of its heap can't be told: %s", w->pid, strerror(-err));
		w->survivors = err >= 0 && survival_status(s->survival, w->account, &looked);
		if (w->survivors)
			memcpy(w->unanswered, looked.unanswered, sizeof(w->unanswered));
		if (err > 0)
			step_windows(s); /* of others */
	}
}

/* Not all that drain does: who ended since is to be reported first. */
static void look_into_zoomed(struct live_source *s)
{
	catch_up(s);
	step_windows(s);
}

static int take_snapshot(struct live_source *s, uint64_t now, struct snapshot **ret)
{
	if (s->opts.target->kind == TARGET_CGROUP)
		(void)follow_seed(&s->follow); /* the group may be gone: its processes are then, too */
	if (s->written)
		follow_stale(&s->follow);
	s->written = false;
	drain(s);
	bool gone = follow_running(&s->follow) == 0;
	look_for_survivors(s, now);
	int err = assemble(&s->assembly, ret);
	if (err)
		return err;
	mind_scope(s, now, (*ret)->self.foreign_hits_per_s);
	keep_maps(s, false);
	if (now - s->tidied_ns > TIDY_NS) {
		attacher_tidy(s->attacher);
		s->tidied_ns = now;
	}
	mind_own_cost(s, (*ret)->self.cpu_pct);
	zoomer_step(s->zoomer, now, (*ret)->self.target_overhead_pct);
	look_into_zoomed(s);
	follow_reap(&s->follow);
	s->reported_gone = gone;
	s->next_ns += s->interval_ns;
	if (s->next_ns < now) /* late by more than an interval: the clock of snapshots starts anew */
		s->next_ns = now + s->interval_ns;
	return SOURCE_SNAPSHOT;
}

/* A list of processes or a command can come to an end; a name, a control group, the whole system can't. */
static bool can_end(const struct live_source *s)
{
	return s->opts.target->kind == TARGET_PIDS || s->opts.target->kind == TARGET_COMMAND;
}

/* Where no probes wait for what events tell, these are taken in batches: each library that a program maps at its start is one. */
static void rest(struct live_source *s)
{
	s->rests_until_ns = s->follow.flags & (PROC_HEAP | PROC_PYTHON) ? 0 : mono_ns() + BATCH_NS;
}

/* Until a descriptor is ready (fds[0]: the ring's), or the next snapshot or window is due. As poll. */
static int wait_until(const struct live_source *s, struct pollfd *fds, size_t n)
{
	uint64_t now = mono_ns(); /* placing probes took its time: a slice would last longer by as much */
	uint64_t due = s->windows_ns < s->next_ns ? s->windows_ns : s->next_ns;
	bool rests = now < s->rests_until_ns;

	fds[0].fd = rests ? -1 : ring_reader_fd(s->ring);
	fds[0].revents = 0;
	due = rests && s->rests_until_ns < due ? s->rests_until_ns : due;
	uint64_t wait = due > now ? due - now : 0;
	struct timespec t = { .tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u) };

	return ppoll(fds, n, &t, NULL);
}

static int live_next(struct source *base, const int *wake, size_t n_wake, struct snapshot **ret)
{
	struct live_source *s = (struct live_source *)base;
	struct pollfd fds[OWN_FDS + WAKE_MAX] = { { .events = POLLIN },
						  { .fd = stackdefs_fd(s->defs), .events = POLLIN },
						  { .fd = attacher_written_fd(s->attacher), .events = POLLIN } };

	if (s->reported_gone && can_end(s))
		return SOURCE_END;
	for (size_t i = 0; i < n_wake && i < WAKE_MAX; i++)
		fds[OWN_FDS + i] = (struct pollfd){ .fd = wake[i], .events = POLLIN };
	for (;;) {
		uint64_t now = mono_ns();
		if (now >= s->next_ns)
			return take_snapshot(s, now, ret);
		if (now >= s->windows_ns)
			step_windows(s);
		int n = wait_until(s, fds, OWN_FDS + n_wake);
		if (n < 0)
			return errno == EINTR ? SOURCE_WOKEN : -errno;
		if (n > 0 && fds[2].revents)
			s->written |= attacher_drop_written(s->attacher);
		if (n > 0 && fds[1].revents)
			stackdefs_drain(s->defs);
		if (n > 0 && fds[0].revents) {
			drain(s);
			mind_scope(s, mono_ns(), NAN);
			rest(s);
		}
		/* The last target is gone: its last figures are shown now, not at the interval's end. */
		if (can_end(s) && s->assembly.n && follow_running(&s->follow) == 0)
			s->next_ns = 0;
		for (size_t i = 0; n > 0 && i < n_wake; i++)
			if (fds[OWN_FDS + i].revents)
				return SOURCE_WOKEN;
	}
}

static void live_hurry(struct source *base)
{
	((struct live_source *)base)->next_ns = 0;
}

static uint32_t target_flags(const struct live_opts *o)
{
	bool heap = o->heap;

	return PROC_FOLLOW | (heap ? PROC_HEAP : 0) | (o->python ? PROC_PYTHON : 0) | (o->map ? PROC_MAP : 0) |
	       (o->page ? PROC_PAGE : 0);
}

static int load(struct live_source *s, char **ret_why)
{
	const struct target *t = s->opts.target;
	struct loader_opts lo = { 0 };
	const char *live_max = getenv("TIDEMARK_LIVE_MAX");
	int err = features_detect(&lo.features);

	if (err) {
		*ret_why = xstrdup(
			"BPF is not allowed to this user: run as root (CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE)");
		return -EPERM;
	}
	lo.cfg.own_tgid = (uint32_t)getpid();
	lo.cfg.follow_all_flags = t->kind == TARGET_ALL ? target_flags(&s->opts) : 0;
	lo.cfg.watch_exec = t->kind == TARGET_NAME || t->kind == TARGET_CGROUP;
	if (t->kind == TARGET_CGROUP && t->cgroup.v2) {
		lo.cfg.cgroup_id = t->cgroup.id;
		lo.cfg.cgroup_level = t->cgroup.level;
		lo.cfg.adopt_flags = target_flags(&s->opts) | PROC_NAMED;
	}
	lo.cfg.no_stacks = getenv("TIDEMARK_NO_STACKS") != NULL;
	lo.cfg.by_thread = s->opts.by_thread;
	lo.cfg.rate = s->opts.exact ? 0 : 1;
	lo.cfg.windowed = !s->opts.exact && s->opts.budget_pct > 0;
	lo.cfg.sample_bytes = s->opts.sample_bytes;
	lo.cfg.record_hits = getenv("TIDEMARK_HITS") ? HITS_EVERY : 0;
	lo.live_max = live_max ? (uint32_t)strtoul(live_max, NULL, 10) : 0;
	return loader_open(&lo, &s->loader, ret_why);
}

/* The libc that we use ourselves is most likely the one of what starts later: probes are in place before its first call. */
static void attach_ahead(struct live_source *s)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	struct file_info info;

	if (!s->opts.heap || attacher_scope(s->attacher) != SCOPE_HOST || mappings_read((uint32_t)getpid(), &maps))
		return;
	for (size_t i = 0; i < maps.n; i++) {
		const struct mapping *m = &maps.items[i];
		if (!m->exec || !strstr(m->path, "/libc.so"))
			continue;
		_cleanup_(closep) int fd = mapping_open((uint32_t)getpid(), m, NULL);
		if (fd >= 0)
			(void)attacher_take_file(s->attacher, fd, 0, true, &info); /* tried again for each process */
	}
}

static void on_code(void *ctx)
{
	struct live_source *s = ctx;

	ring_reader_consume(s->ring);
	s->follow.held = true;
	for (struct watched *w = s->follow.all; w; w = w->hh.next)
		(void)follow_scan_one(&s->follow, w); /* what can't be probed shows as a process without functions */
	s->follow.held = false;
}

static int start_command(struct live_source *s, char **ret_why)
{
	char *const *argv = s->opts.target->argv;
	int err = follow_enter(&s->follow, (uint32_t)s->launch.pid, false);
	sync_windows(s);
	if (!err)
		err = launch_go(&s->launch, on_code, s);
	if (err && err != -ESRCH)
		*ret_why = xasprintf("\"%s\" can't be started: %s", argv[0], strerror(-err));
	return err == -ESRCH ? 0 : err; /* it ended at once: what it did is reported */
}

static int check_pids(const struct target *t, char **ret_why)
{
	for (size_t i = 0; i < t->n_pids; i++) {
		struct proc_stat st;
		if (proc_read_stat(t->pids[i], &st) == 0 && st.state != 'Z' && st.state != 'X')
			continue;
		*ret_why = xasprintf("no process has the number %u: look it up again (pgrep, ps)", t->pids[i]);
		return -ESRCH;
	}
	return 0;
}

/* By its number: children were not, and may be gone before they could be looked at. */
static bool is_named(const struct target *t, uint32_t pid)
{
	for (size_t i = 0; t->kind == TARGET_PIDS && i < t->n_pids; i++)
		if (t->pids[i] == pid)
			return true;
	return false;
}

/*
 * A process that was named must be observed; of many, some may end meanwhile or refuse, and show as processes without functions. But if all do,
 * something is in the way that the user has to know.
 */
static int check_attached(struct live_source *s, char **ret_why)
{
	struct watched *refused = NULL;
	bool any = false;

	for (struct watched *w = s->follow.all; w; w = w->hh.next) {
		bool counts = w->attach_error && w->attach_error != -ESRCH;
		any |= !counts && w->functions;
		if (counts && (!refused || is_named(s->opts.target, w->pid)))
			refused = w;
	}
	if (!refused || (any && !is_named(s->opts.target, refused->pid)))
		return 0;
	follow_names(&s->follow, refused);
	*ret_why = xasprintf("probes can't be placed in \"%s\" (pid %u): %s", refused->comm, refused->pid,
			     strerror(-refused->attach_error));
	return refused->attach_error;
}

/* A process that was named but has nothing to probe: its figures would be silent zeros. */
static int check_functions(struct live_source *s, char **ret_why)
{
	for (struct watched *w = s->follow.all; w && s->opts.heap; w = w->hh.next) {
		if (w->functions || w->state != PROC_RUNNING || !is_named(s->opts.target, w->pid))
			continue;
		follow_names(&s->follow, w);
		*ret_why = w->foreign ? xasprintf("\"%s\" (pid %u) is a 32-bit process: only x86-64 is supported; "
						  "--mode pages shows its memory",
						  w->comm, w->pid)
				      : xasprintf("\"%s\" (pid %u) has no allocation function with a symbol in any "
						  "file that it maps: "
						  "--mode pages shows its memory",
						  w->comm, w->pid);
		return -ENOEXEC;
	}
	return 0;
}

/* Where page tables can't be read layer page has resident memory, and no stacks. */
static void attach_pages(struct live_source *s)
{
	const char *text = getenv("TIDEMARK_FAULTS_EVERY"); /* for tests: 1 is all */
	uint32_t every = text ? (uint32_t)strtoul(text, NULL, 10) : 0;

	if (!s->opts.page)
		return;
	s->assembly.faults_every = every ? every : PAGING_FAULTS_EVERY;
	int err = loader_attach_pages(s->loader, s->assembly.faults_every);
	if (!err)
		return;
	log_debug("page faults can't be observed: %s", strerror(-err));
	s->follow.flags &= ~(uint32_t)PROC_PAGE;
}

static int attach(struct live_source *s, char **ret_why)
{
	attach_pages(s);
	int err = loader_attach_tracepoints(s->loader, s->opts.map);

	if (err) {
		*ret_why = xasprintf("tracepoints can't be attached: %s", strerror(-err));
		return err;
	}
	if (s->opts.target->kind == TARGET_COMMAND) {
		attach_ahead(s);
		return start_command(s, ret_why);
	}
	err = follow_seed(&s->follow);
	if (err < 0) {
		*ret_why = xasprintf("the processes to observe can't be listed: %s", strerror(-err));
		return err;
	}
	follow_prepare(&s->follow);
	attach_ahead(s);
	sync_windows(s);
	(void)follow_scan(&s->follow); /* each process keeps its error */
	step_windows(s);
	err = check_attached(s, ret_why);
	if (err)
		return err;
	if (s->opts.target->kind == TARGET_PIDS && !follow_running(&s->follow)) {
		*ret_why = xstrdup("the process ended while it was being attached");
		return -ESRCH;
	}
	return check_functions(s, ret_why);
}

static void make_windows(struct live_source *s)
{
	struct windows_opts o = {
		.attacher = s->attacher,
		.accounts = s->accounts,
		.slots = loader_procs(s->loader),
		.costs = &s->costs,
		.sample_bytes = s->opts.sample_bytes,
		.budget_pct = s->opts.budget_pct,
		.exact = s->opts.exact,
	};
	bool fresh;
	int err = calibrate(s->loader, &s->costs, &fresh);

	if (err)
		log_debug("what a hit costs can't be measured: %s", strerror(-err));
	s->windows = windows_new(&o);
	self_limit_init(&s->self, 0);
	s->survival = survival_new(s->loader);
	s->scatters = sum_scatters_new();
	s->zoomer = zoomer_new(&s->follow, s->opts.zoom, s->opts.budget_pct);
	if (s->opts.zoom) /* who does not grow must not pay for who does */
		attacher_force_process(s->attacher);
}

/* 0 or -errno: a ring can't be mapped. */
static int wire(struct live_source *s)
{
	s->attacher = attacher_new(s->loader);
	s->places = places_new();
	s->ranges = ranges_new();
	s->accounts = accounts_new(loader_procs(s->loader));
	make_windows(s);
	s->images = images_new(s->loader, s->accounts);
	int err = stackdefs_new(s->loader, s->places, s->images, &s->defs);
	s->threads = threads_new();
	s->limits = cgroup_limits_new();
	s->pyseen = pyseen_new(s->loader);
	const struct live_table live = live_table_of(s->loader);
	s->ages = ages_new(&live, s->opts.sample_bytes);
	s->follow = (struct follow){ .loader = s->loader,
				     .attacher = s->attacher,
				     .places = s->places,
				     .ranges = s->ranges,
				     .images = s->images,
				     .defs = s->defs,
				     .accounts = s->accounts,
				     .threads = s->threads,
				     .limits = s->limits,
				     .survival = s->survival,
				     .scatters = s->scatters,
				     .pyseen = s->pyseen,
				     .target = s->opts.target,
				     .flags = target_flags(&s->opts),
				     .rate = s->opts.exact ? 0 : 1,
				     .windowed = windows_governed(s->windows) };
	s->assembly = (struct assembly){ .loader = s->loader,
					 .follow = &s->follow,
					 .accounts = s->accounts,
					 .ranges = s->ranges,
					 .places = s->places,
					 .ages = s->ages,
					 .sums = loader_sums(s->loader),
					 .defs = s->defs,
					 .threads = s->threads,
					 .attacher = s->attacher,
					 .windows = s->windows,
					 .survival = s->survival,
					 .scatters = s->scatters,
					 .map = s->opts.map,
					 .by_thread = s->opts.by_thread,
					 .sample_bytes = s->opts.sample_bytes };
	if (!err)
		err = ring_reader_open(loader_map_fd(s->loader, KMAP_EVENTS),
				       loader_map_info(s->loader, KMAP_EVENTS).capacity, on_ring, s, &s->ring);
	return err;
}

int live_open(const struct live_opts *o, struct source **ret, char **ret_why)
{
	int err = o->target->kind == TARGET_PIDS ? check_pids(o->target, ret_why) : 0;

	if (err)
		return err;
	_cleanup_(live_closep) struct live_source *s = xcalloc(1, sizeof(*s));
	s->base = (struct source){ .next = live_next, .hurry = live_hurry, .close = live_close };
	s->opts = *o;
	s->interval_ns = (uint64_t)(o->interval_s * 1e9);
	const char *again = getenv("TIDEMARK_SCOPE_AGAIN_S"); /* for tests, which would wait */
	s->policy.again_ns = again ? (uint64_t)(strtod(again, NULL) * 1e9) : 0;
	/* Before anything of ours (limits, descriptors) could be handed down to it. */
	if (o->target->kind == TARGET_COMMAND)
		err = launch_hold(o->target->argv, o->quiet_stdout, &s->launch);
	if (err) {
		*ret_why = xasprintf("\"%s\" can't be started: %s", o->target->argv[0], strerror(-err));
		return err;
	}
	err = load(s, ret_why);
	if (err)
		return err;
	err = wire(s);
	if (err) {
		*ret_why = xasprintf("the event rings can't be mapped: %s", strerror(-err));
		return err;
	}
	if (getenv("TIDEMARK_HITS"))
		err = hits_open(getenv("TIDEMARK_HITS"), s->loader, &s->hits);
	if (err) {
		*ret_why = xasprintf("\"%s\" (TIDEMARK_HITS) can't be written: %s", getenv("TIDEMARK_HITS"),
				     strerror(-err));
		return err;
	}
	err = attach(s, ret_why);
	if (err)
		return err;
	s->next_ns = s->assembly.attached_ns = mono_ns();
	*ret = &s->base;
	s = NULL;
	return 0;
}

int live_zoom(struct source *base, const struct proc_key *id)
{
	struct live_source *s = (struct live_source *)base;
	const struct watched *w = follow_find(&s->follow, id);
	int err = zoomer_open(s->zoomer, id);

	if (err)
		return err;
	drain(s); /* its files are looked into */
	return w->functions ? 0 : -ENOEXEC;
}

const char *live_note(const struct source *base)
{
	const struct live_source *s = (const struct live_source *)base;
	const struct features *f = loader_features(s->loader);

	if (!(target_flags(&s->opts) & (PROC_HEAP | PROC_PYTHON)) || f->session)
		return NULL;
	return f->multi ? "this kernel has no session links (Linux 6.13 has): the return of each call is paid, and a "
			  "child is "
			  "probed only after its birth"
			: "this kernel has neither multi links (Linux 6.6 has) nor session links (6.13): functions are "
			  "attached one "
			  "by one, the return of each call is paid, and a child is probed only after its birth";
}

uint64_t live_kernel_bytes(const struct source *base)
{
	const struct live_source *s = (const struct live_source *)base;
	uint64_t bytes = 0;

	for (int i = 0; i < KMAP_NR; i++)
		bytes += loader_map_info(s->loader, (enum kernel_map)i).bytes;
	return bytes;
}
