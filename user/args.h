/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line into plain settings. Every option is a row: name, letter, how its value is read, where it goes, what help says.
 */
#ifndef TIDEMARK_ARGS_H
#define TIDEMARK_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "model/leak.h"
#include "model/query.h"
#include "target/select.h"

enum mode { MODE_AUTO, MODE_ALL_EXACT, MODE_ONLY_PAGES };

struct command;

struct settings {
	const struct command *command;
	struct target target;
	double interval_s, duration_s; /* duration 0: until interrupted */
	const char *output, *format;   /* NULL: standard output; by the command */
	enum sort_key sort;
	bool sort_given;
	size_t limit;
	bool limit_given;
	bool native_only, python_only; /* frames shown; both false: merged */
	bool by_thread;		       /* the threads of a process are kept apart */
	enum group_by group;
	enum mode mode;
	double budget_pct;
	uint64_t sample_bytes;
	bool layer_on[LAYER_NR], layers_given;
	struct leak_rule rule;
	bool help;
};

/* A command: a row of the table in commands.c. */
struct command {
	const char *name, *help;
	int (*run)(const struct settings *s);
	bool leak_options;
};
extern const struct command commands[];
extern const size_t commands_n;

#define EXIT_USAGE 2
#define EXIT_LEAK 3
#define EXIT_NO_TARGET 4

/*
 * Fills *ret. 0; or the exit code to end with, after one line on stderr. `help` and `--version` print and give -1: end with 0.
 */
int args_parse(int argc, char **argv, struct settings *ret);
void settings_done(struct settings *s);

/* Help texts on stdout. */
void usage_print(void);
void usage_print_command(const struct command *c);

#endif
