/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TIDEMARK_CMD_PROBES_H
#define TIDEMARK_CMD_PROBES_H

struct settings;

/* Prints the plan of every function that would be probed in the target. Exit code; attaches nothing. */
int cmd_probes(const struct settings *s);

#endif
