/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One run of a watching command: next snapshot, build the model, build the report, show it; until the end comes, whichever way.
 */
#ifndef TIDEMARK_SESSION_H
#define TIDEMARK_SESSION_H

#include <stdbool.h>

#include "args.h"
#include "view/view.h"

struct session_opts {
	const struct settings *settings;
	const struct view *view; /* NULL: the live screen */
	bool judge;		 /* leak verdicts by settings->rule; a found leak ends with code 3 */
};

/* Exit code. Errors have been told on stderr. */
int session_run(const struct session_opts *o);

#endif
