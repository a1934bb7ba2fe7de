/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of commands. */
#include <string.h>
#include <unistd.h>

#include "args.h"
#include "cmd_probes.h"
#include "session.h"
#include "util/mem.h"

static int run_top(const struct settings *s)
{
	bool screen = !s->format && !s->output && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
	struct session_opts o = { .settings = s, .view = screen ? NULL : view_find(s->format ? s->format : "text") };

	return session_run(&o);
}

static int run_leaks(const struct settings *s)
{
	bool json = s->format && !strcmp(s->format, "json");
	struct session_opts o = { .settings = s, .view = json ? &view_json : &view_leaks, .judge = true };

	return session_run(&o);
}

const struct command commands[] = {
	{ "top", "live table of processes and stacks; not a terminal: one table per interval", run_top, false },
	{ "leaks", "watch and judge: exit code 0 no leak, 3 leak found", run_leaks, true },
	{ "probes", "what would be attached where, and why (attaches nothing)", cmd_probes, false },
};
const size_t commands_n = ARRAY_SIZE(commands);
