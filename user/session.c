/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "collect/live.h"
#include "meta.h"
#include "model/model.h"
#include "sym/ahead.h"
#include "util/log.h"
#include "util/mem.h"
#include "view/report.h"
#include "view/stack_dict.h"
#include "view/tui.h"

#define GROWTH_WINDOW_S 60
#define PIPE_BYTES (1 << 20)	  /* fs/pipe.c: what everybody may have */
#define SYM_BUDGET_NS 20000000ull /* and up to 11 ms of work that is not cut short: a turn stays below 50 ms */

struct session {
	const struct session_opts *opts;
	const struct settings *settings;
	struct source *source;
	struct history *history;
	struct leak_watch *watch;
	struct sym *sym;
	struct stack_dict *stacks;
	struct meta meta;
	struct query query;
	struct snapshot *snap; /* newest, with its model and report */
	struct model *model;
	struct report *report;
	struct tui *tui;
	FILE *out;
	bool closes_out;
	int signals, timer;
	bool last_look; /* the duration is over: one more snapshot, then the end */
	bool over;
	enum end_reason reason;
	int error; /* of the output: -EPIPE is an ordinary end */
};

static void end_with(struct session *s, enum end_reason reason)
{
	if (s->over)
		return;
	s->over = true;
	s->reason = reason;
}

/* --- set-up and release --- */

static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	(void)signal(SIGPIPE, SIG_IGN); /* a closed pipe is told by write, as -EPIPE */
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int start_timer(double seconds)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)seconds,
					       .tv_nsec = (long)((seconds - floor(seconds)) * 1e9) } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd >= 0 && timerfd_settime(fd, 0, &at, NULL)) {
		(void)close(fd);
		fd = -1;
	}
	return fd < 0 ? -errno : fd;
}

static bool is_pipe(FILE *f)
{
	struct stat st;

	return fstat(fileno(f), &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* Each filling of a pipe is a change to its reader and back; megabytes of JSON filled the usual 64 KiB again and again. */
static void widen_pipe(FILE *f)
{
	if (is_pipe(f))
		(void)fcntl(fileno(f), F_SETPIPE_SZ, PIPE_BYTES); /* what it has will do */
}

static int open_output(struct session *s)
{
	s->out = s->settings->output ? fopen(s->settings->output, "we") : stdout;
	if (!s->out) {
		log_error("\"%s\" can't be written: %s", s->settings->output, strerror(errno));
		return EXIT_FAILURE;
	}
	s->closes_out = s->settings->output != NULL;
	widen_pipe(s->out);
	return 0;
}

static int exit_code_of(int err)
{
	return err == -ESRCH ? EXIT_NO_TARGET : EXIT_FAILURE;
}

/* The whole system, watched as it comes: processes that grow are looked at closer. */
static bool zooms(const struct settings *s)
{
	return s->mode == MODE_AUTO && s->target.kind == TARGET_ALL && !s->layers_given;
}

static int open_source(struct session *s)
{
	const struct settings *set = s->settings;
	struct live_opts lo = {
		.target = &set->target,
		.interval_s = set->interval_s,
		.heap = set->layer_on[LAYER_HEAP],
		.map = set->layer_on[LAYER_MAP],
		.page = set->layer_on[LAYER_PAGE],
		.python = set->layer_on[LAYER_PYTHON],
		.zoom = zooms(set),
		.exact = set->mode == MODE_ALL_EXACT,
		.sample_bytes = set->sample_bytes,
		.budget_pct = set->budget_pct,
		.by_thread = set->by_thread,
		.quiet_stdout = !set->output,
	};
	_cleanup_(freep) char *why = NULL;
	int err = live_open(&lo, &s->source, &why);

	const char *note = err ? NULL : live_note(s->source);
	if (note)
		log_error("%s", note);
	if (!err)
		return 0;
	log_error("%s", why ? why : strerror(-err));
	return exit_code_of(err);
}

static int open_screen(struct session *s)
{
	int err = s->opts->view ? 0 : tui_open(&s->tui);

	if (!err)
		return 0;
	log_error("the live screen can't be opened: %s; -f text prints a table", strerror(-err));
	return EXIT_FAILURE;
}

static int session_open(struct session *s)
{
	s->signals = block_signals();
	if (s->signals < 0) {
		log_error("signals can't be received: %s", strerror(-s->signals));
		return EXIT_FAILURE;
	}
	int code = open_output(s);
	if (!code)
		code = open_source(s);
	if (!code)
		code = open_screen(s);
	if (code)
		return code;
	if (s->settings->duration_s > 0)
		s->timer = start_timer(s->settings->duration_s);
	meta_fill(s->settings, live_kernel_bytes(s->source), &s->meta);
	s->history = history_new(GROWTH_WINDOW_S);
	s->sym = sym_new();
	s->stacks = stack_dict_new();
	s->watch = leak_watch_new(&s->settings->rule);
	s->query.limit = s->settings->limit;
	s->query.only_opened = s->tui != NULL;
	s->query.proc_sort = s->settings->sort_given ? s->settings->sort : s->opts->view ? SORT_LIVE : SORT_GROWTH;
	s->query.stack_sort = s->settings->sort;
	memcpy(s->query.layer_on, s->settings->layer_on, sizeof(s->query.layer_on));
	s->query.layer_on[LAYER_HEAP] |= zooms(s->settings);
	s->query.native_only = s->settings->native_only;
	s->query.python_only = s->settings->python_only;
	s->query.by_thread = s->settings->by_thread;
	s->query.group = s->settings->group;
	return 0;
}

static void forget_report(struct session *s)
{
	report_free(s->report);
	model_free(s->model);
	snapshot_free(s->snap);
	s->report = NULL;
	s->model = NULL;
	s->snap = NULL;
}

static void session_done(struct session *s)
{
	tui_close(s->tui);
	if (s->source)
		s->source->close(s->source);
	forget_report(s);
	leak_watch_free(s->watch);
	stack_dict_free(s->stacks);
	sym_free(s->sym);
	history_free(s->history);
	if (s->closes_out && fclose(s->out) && !s->error)
		s->error = -errno;
	if (s->signals > 0)
		(void)close(s->signals);
	if (s->timer > 0)
		(void)close(s->timer);
}

/* --- one turn --- */

static int rebuild(struct session *s)
{
	struct report *r = NULL;

	sym_set_budget(s->sym, s->tui ? SYM_BUDGET_NS : 0);
	int err = report_build(s->model, &s->meta.m, &s->query, s->sym, s->stacks, &r);
	if (err)
		return err;
	report_free(s->report);
	s->report = r;
	return 0;
}

static int show(struct session *s)
{
	if (s->tui) {
		tui_draw(s->tui, s->report);
		return 0;
	}
	return s->opts->view->show(s->out, s->report);
}

/* Takes over the snapshot. */
static int take(struct session *s, struct snapshot *snap)
{
	struct model *m = NULL;

	sym_add_modules(s->sym, snap->new_modules, snap->n_new_modules);
	stack_dict_add(s->stacks, snap->new_stacks, snap->n_new_stacks);
	if (!s->tui && !s->query.limit) { /* all of them will be shown, and nobody waits for a key */
		sym_set_budget(s->sym, 0);
		sym_name_ahead(s->sym, snap->new_stacks, snap->n_new_stacks);
	}
	int err = model_build(snap, s->history, s->watch, &m);
	if (err) {
		snapshot_free(snap);
		return err;
	}
	if (s->tui && tui_paused(s->tui)) { /* history goes on; the picture stands still */
		model_free(m);
		snapshot_free(snap);
		tui_draw(s->tui, s->report);
		return 0;
	}
	forget_report(s);
	s->snap = snap;
	s->model = m;
	err = rebuild(s);
	return err ? err : show(s);
}

static void write_picture(struct session *s)
{
	char name[64], said[128];
	time_t now = time(NULL);

	strftime(name, sizeof(name), "tidemark-%Y%m%d-%H%M%S.json", localtime(&now));
	_cleanup_(fclosep) FILE *f = fopen(name, "we");
	int err = f ? 0 : -errno;
	s->query.only_opened = false; /* the file has all of them, the screen not */
	if (!err)
		err = rebuild(s);
	s->query.only_opened = true;
	if (!err)
		err = view_json.begin(f, &s->meta.m);
	if (!err)
		err = view_json.show(f, s->report);
	snprintf(said, sizeof(said), err ? "%s: %s" : "written to %s", name, strerror(-err));
	tui_message(s->tui, said);
}

static void open_proc(struct session *s, const struct proc_key *id)
{
	const struct settings *set = s->settings;
	bool may = set->mode != MODE_ONLY_PAGES && (!set->layers_given || set->layer_on[LAYER_HEAP]);
	int err = may ? live_zoom(s->source, id) : 0;

	s->query.opened = *id;
	s->query.layer_on[LAYER_HEAP] |= may;
	if (err)
		tui_message(s->tui, strerror(-err));
}

static int serve_keys(struct session *s)
{
	struct proc_key id = { 0 };
	enum tui_ask ask;
	int err = 0;

	while (s->tui && !err && !s->over && (ask = tui_keys(s->tui, &s->query, &id)) != TUI_NOTHING) {
		if (ask == TUI_QUIT)
			end_with(s, END_INTERRUPTED);
		else if (ask == TUI_OPEN_PROC)
			open_proc(s, &id);
		else if (ask == TUI_RESET_BASELINE)
			history_set_baseline(s->history);
		else if (ask == TUI_SNAPSHOT && s->report)
			write_picture(s);
		if (!s->over && s->model)
			err = rebuild(s);
		if (!s->over && s->report)
			tui_draw(s->tui, s->report);
	}
	return err;
}

static bool is_ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return fd > 0 && poll(&p, 1, 0) > 0;
}

static bool reader_gone(const struct session *s)
{
	struct pollfd p = { .fd = fileno(s->out) };

	return !s->tui && poll(&p, 1, 0) > 0 && p.revents & (POLLERR | POLLHUP);
}

static int serve_wakes(struct session *s)
{
	if (is_ready(s->signals, POLLIN))
		end_with(s, END_INTERRUPTED);
	if (reader_gone(s))
		return -EPIPE;
	if (is_ready(s->timer, POLLIN) && !s->last_look) {
		s->last_look = true;
		s->source->hurry(s->source);
	}
	return serve_keys(s);
}

static size_t wake_list(const struct session *s, int wake[4])
{
	size_t n = 0;

	wake[n++] = s->signals;
	if (s->tui)
		wake[n++] = tui_fd(s->tui);
	else if (is_pipe(s->out))
		wake[n++] = fileno(s->out); /* a reader that goes must be noticed between two intervals too */
	if (s->timer > 0 && !s->last_look)
		wake[n++] = s->timer;
	return n;
}

static int turn(struct session *s)
{
	struct snapshot *snap = NULL;
	int wake[4];
	size_t n = wake_list(s, wake);
	int event = s->source->next(s->source, wake, n, &snap);

	if (event < 0)
		return event;
	if (event == SOURCE_END)
		end_with(s, END_TARGETS_GONE);
	int err = event == SOURCE_SNAPSHOT ? take(s, snap) : 0;
	if (event == SOURCE_SNAPSHOT && s->last_look)
		end_with(s, END_DURATION);
	return err || s->over ? err : serve_wakes(s);
}

/* --- the whole --- */

static int exit_code(const struct session *s)
{
	if (s->error && s->error != -EPIPE)
		return EXIT_FAILURE;
	return s->opts->judge && leak_watch_found(s->watch) ? EXIT_LEAK : EXIT_SUCCESS;
}

static void run(struct session *s)
{
	if (!s->tui)
		s->error = s->opts->view->begin(s->out, &s->meta.m);
	while (!s->over && !s->error)
		s->error = turn(s);
	if (s->error == -EPIPE)
		end_with(s, END_INTERRUPTED);
	else if (s->error)
		end_with(s, END_ERROR);
	if (s->tui || s->error)
		return;
	s->error = s->opts->view->end(s->out, &s->meta.m, s->reason, exit_code(s));
}

int session_run(const struct session_opts *o)
{
	struct session s = { .opts = o, .settings = o->settings };
	int code = session_open(&s);
	bool opened = !code;

	if (opened) {
		run(&s);
		code = exit_code(&s);
	}
	session_done(&s);
	if (opened && s.error && s.error != -EPIPE) {
		log_error("\"%s\": %s", o->settings->output ? o->settings->output : "standard output",
			  strerror(-s.error));
		code = EXIT_FAILURE;
	}
	return code;
}
