/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cmd_probes.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "args.h"
#include "probe/calibrate.h"
#include "probe/features.h"
#include "probe/gate.h"
#include "probe/loader.h"
#include "probe/plan.h"
#include "sampling.h"
#include "target/proc.h"
#include "util/arena.h"
#include "util/log.h"
#include "util/mem.h"
#include "view/probes.h"

struct planned_file {
	uint64_t dev, inode;
};

struct collection {
	struct arena *arena; /* strings and plans */
	struct features features;
	struct plan_kernel kernel;
	struct hit_costs costs;
	bool costs_known, costs_fresh;
	struct probe_row *rows;
	size_t n_rows, cap_rows;
	struct planned_file *seen; /* whole system: each file once, with the first process that maps it */
	size_t n_seen, cap_seen;
	bool once;
	int unreadable; /* -errno of the first process that could not be looked into */
};

static bool seen_before(struct collection *c, const struct mapping *m)
{
	for (size_t i = 0; c->once && i < c->n_seen; i++)
		if (c->seen[i].inode == m->inode && c->seen[i].dev == m->dev)
			return true;
	c->seen = grow_to(c->seen, &c->cap_seen, c->n_seen + 1, sizeof(*c->seen));
	c->seen[c->n_seen++] = (struct planned_file){ .dev = m->dev, .inode = m->inode };
	return false;
}

static const char *hex(struct arena *a, const uint8_t *id, size_t n)
{
	char *text = arena_alloc(a, 2 * n + 1, 1);

	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	return n ? text : NULL;
}

static const char *return_how(const struct collection *c, const struct plan *p, const char *gate_why)
{
	if (!p->planned || !p->needs_return || (gate_why && !c->features.session))
		return "none";
	return c->features.session ? "session" : "uretprobe";
}

/* The programs are loaded to be measured, once per boot; they are attached to a process of our own only. Without them the kernel's part is known. */
static void find_costs(struct collection *c)
{
	struct loader_opts o = { .cfg.own_tgid = (uint32_t)getpid(),
				 .cfg.sample_bytes = SAMPLE_BYTES_DEFAULT,
				 .features = c->features };
	_cleanup_(freep) char *why = NULL;
	struct loader *l = NULL;

	c->costs_known = calibrate_kept(&c->features, &c->costs) == 0 && hit_costs_complete(&c->costs);
	if (c->costs_known)
		return;
	if (loader_open(&o, &l, &why))
		log_debug("what our programs cost can't be measured: %s", why);
	else
		c->costs_known = calibrate(l, &c->costs, &c->costs_fresh) == 0;
	loader_free(l);
	if (!c->costs_known)
		c->costs_known = calibrate_kernel(&c->features, &c->costs, &c->costs_fresh) == 0;
}

static void set_costs(struct probe_row *r, const struct collection *c)
{
	const struct hit_costs *k = &c->costs;

	if (!c->costs_known || !r->plan->planned)
		return;
	const double entry[] = {
		[INSN_EMULATED] = k->emulated_ns, [INSN_STEPPED] = k->stepped_ns, [INSN_NOP5] = k->nop5_ns
	};
	bool session = !strcmp(r->return_how, "session"), returns = session || !strcmp(r->return_how, "uretprobe");
	bool is_free = !r->plan->needs_return && r->plan->shape != SHAPE_WRAP;

	r->entry_ns = entry[r->plan->kind] + (session ? fmax(0, k->skip_ns - k->emulated_ns) : 0);
	r->return_ns = returns ? k->return_ns : NAN;
	/* A wrapper takes the stack, which the allocation inside it then has: together one body. */
	r->body_ns = is_free			    ? k->body_free_ns
		     : r->plan->shape == SHAPE_WRAP ? NAN
						    : k->body_count_ns + k->body_stack_ns;
}

static void add_rows(struct collection *c, uint32_t pid, const struct mapping *m, const struct elf_file *e,
		     const char *gate_why)
{
	struct plan *plans = NULL;
	size_t n = 0;

	if (plan_file(e, &c->kernel, &plans, &n))
		return;
	struct plan *kept = arena_alloc(c->arena, n, sizeof(*kept));
	if (n)
		memcpy(kept, plans, n * sizeof(*kept));
	free(plans);
	const char *module = arena_strdup(c->arena, m->path), *id = hex(c->arena, e->build_id, e->build_id_len);
	for (size_t i = 0; i < n; i++) {
		c->rows = grow_to(c->rows, &c->cap_rows, c->n_rows + 1, sizeof(*c->rows));
		c->rows[c->n_rows++] = (struct probe_row){
			.pid = pid,
			.module = module,
			.build_id = id,
			.plan = &kept[i],
			.entry_ns = NAN,
			.return_ns = NAN,
			.body_ns = NAN,
			.return_how = return_how(c, &kept[i], gate_why),
			.gate_why = gate_why,
		};
		set_costs(&c->rows[c->n_rows - 1], c);
	}
}

static void look_into_file(struct collection *c, uint32_t pid, const struct mapping *m, bool *go)
{
	_cleanup_(closep) int fd = mapping_open(pid, m, NULL);
	_cleanup_(elf_done) struct elf_file e = { 0 };
	struct proc_guard guard = { 0 };
	const char *why = NULL;

	if (fd < 0 || elf_open(fd, family_wants, NULL, &e))
		return;
	*go |= e.has_gopclntab;
	(void)proc_read_guard(pid, &guard); /* gone: the plan stands all the same */
	struct gate_input in = { .kernel_version = c->features.version,
				 .seccomp_mode = guard.seccomp_mode,
				 .shadow_stack = guard.shadow_stack,
				 .go = *go };
	add_rows(c, pid, m, &e, gate_allows_return(&in, &why) ? NULL : why);
}

static void look_into(struct collection *c, uint32_t pid)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };
	int err = mappings_read(pid, &maps);
	bool go = false;

	if (err && !c->unreadable)
		c->unreadable = err;
	for (size_t i = 0; i < maps.n; i++) {
		const struct mapping *m = &maps.items[i];
		bool again = i && maps.items[i - 1].inode == m->inode && maps.items[i - 1].exec;
		if (m->exec && m->inode && !again && !seen_before(c, m))
			look_into_file(c, pid, m, &go);
	}
}

static int print_costs(const struct collection *c, FILE *out, bool json)
{
	const struct hit_costs *k = &c->costs;
	const struct probe_cost costs[] = {
		{ "emulated_ns", "emulated hit", k->emulated_ns },
		{ "stepped_ns", "single-stepped hit", k->stepped_ns },
		{ "nop5_ns", "hit on a nop of 5 bytes", k->nop5_ns },
		{ "skip_ns", "entry that wants no return", k->skip_ns > 0 ? k->skip_ns : NAN },
		{ "return_ns", "return", k->return_ns },
		{ "body_skip_ns", "our program for a call that is not sampled", k->body_skip_ns },
		{ "body_count_ns", "for one that is counted", k->body_count_ns },
		{ "body_stack_ns", "for its stack", k->body_stack_ns },
		{ "body_free_ns", "for a free", k->body_free_ns },
		{ "body_python_ns", "for a Python stack", k->body_python_ns },
	};
	size_t n = c->costs_known ? ARRAY_SIZE(costs) : 0;

	return json ? costs_print_json(out, costs, n, c->costs_fresh) : costs_print_text(out, costs, n, c->costs_fresh);
}

static int print_rows(const struct collection *c, const struct settings *s)
{
	_cleanup_(fclosep) FILE *own = s->output ? fopen(s->output, "we") : NULL;
	FILE *out = s->output ? own : stdout;
	bool json = s->format && !strcmp(s->format, "json");

	if (!out) {
		log_error("\"%s\" can't be written: %s", s->output, strerror(errno));
		return EXIT_FAILURE;
	}
	int err = json ? probes_print_json(out, c->rows, c->n_rows) : probes_print_text(out, c->rows, c->n_rows);
	if (!err)
		err = print_costs(c, out, json);
	if (!err || err == -EPIPE)
		return EXIT_SUCCESS;
	log_error("\"%s\": %s", s->output ? s->output : "standard output", strerror(-err));
	return EXIT_FAILURE;
}

static int check_target(const struct settings *s)
{
	if (geteuid() != 0) {
		log_error("looking into other processes is not allowed to this user: run as root");
		return EXIT_FAILURE;
	}
	if (s->target.kind == TARGET_COMMAND) {
		log_error("probes looks at running processes: give -p, -n, -g or -a");
		return EXIT_USAGE;
	}
	for (size_t i = 0; s->target.kind == TARGET_PIDS && i < s->target.n_pids; i++) {
		struct proc_stat st;
		if (proc_read_stat(s->target.pids[i], &st) == 0)
			continue;
		log_error("no process has the number %u: look it up again (pgrep, ps)", s->target.pids[i]);
		return EXIT_NO_TARGET;
	}
	return 0;
}

int cmd_probes(const struct settings *s)
{
	struct collection c = { .once = s->target.kind == TARGET_ALL };
	_cleanup_(freep) uint32_t *pids = NULL;
	size_t n = 0;
	int code = check_target(s);

	if (code)
		return code;
	int err = target_list(&s->target, &pids, &n);
	if (!err)
		err = features_detect(&c.features);
	if (!err)
		err = plan_kernel_current(&c.kernel);
	if (err) {
		log_error("\"%s\" can't be looked at: %s", s->target.text, strerror(-err));
		return EXIT_FAILURE;
	}
	find_costs(&c);
	c.arena = arena_new();
	for (size_t i = 0; i < n; i++)
		look_into(&c, pids[i]);
	code = print_rows(&c, s);
	arena_free(c.arena);
	free(c.rows);
	free(c.seen);
	return code;
}
