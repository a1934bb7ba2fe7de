/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sampling.h"
#include "util/fmt.h"
#include "util/log.h"
#include "util/mem.h"
#include "view/view.h"

/* Reads one value. 0, or -EINVAL; *ret_why (caller frees) may say more than "not a valid value". */
typedef int (*read_fn)(const char *text, struct settings *s, char **ret_why);

struct option_row {
	char letter;			 /* 0: none */
	const char *name, *value, *help; /* value NULL: a flag */
	read_fn read;
	bool leaks_only;
};

static int no_two_targets(const struct settings *s, char **ret_why)
{
	if (s->target.kind == TARGET_ALL && !s->target.text)
		return 0;
	*ret_why = xstrdup("only one of -p, -n, -g, -a and -- CMD can be given");
	return -EINVAL;
}

static int read_pids(const char *text, struct settings *s, char **ret_why)
{
	return no_two_targets(s, ret_why) ? -EINVAL : target_from_pids(text, &s->target, ret_why);
}

static int read_regex(const char *text, struct settings *s, char **ret_why)
{
	return no_two_targets(s, ret_why) ? -EINVAL : target_from_regex(text, &s->target, ret_why);
}

static int read_cgroup(const char *text, struct settings *s, char **ret_why)
{
	return no_two_targets(s, ret_why) ? -EINVAL : target_from_cgroup(text, &s->target, ret_why);
}

static int read_all(const char *text, struct settings *s, char **ret_why)
{
	(void)text;
	if (no_two_targets(s, ret_why))
		return -EINVAL;
	s->target.text = xstrdup(""); /* given, not only the default */
	return 0;
}

static int read_interval(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	return parse_seconds(text, &s->interval_s) || s->interval_s < 0.01 || s->interval_s > 86400 ? -EINVAL : 0;
}

static int read_duration(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	return parse_seconds(text, &s->duration_s);
}

static int read_output(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	s->output = text;
	return *text ? 0 : -EINVAL;
}

static int read_format(const char *text, struct settings *s, char **ret_why)
{
	s->format = text;
	if (view_find(text))
		return 0;
	*ret_why = xasprintf("\"%s\" is no format: text and json are", text);
	return -EINVAL;
}

static int read_sort(const char *text, struct settings *s, char **ret_why)
{
	s->sort_given = true;
	if (sort_key_parse(text, &s->sort) == 0)
		return 0;
	*ret_why = xasprintf("\"%s\" is no sort key:", text);
	for (int i = 0; i < SORT_NR; i++) {
		char *longer = xasprintf("%s %s", *ret_why, sort_key_name((enum sort_key)i));
		free(*ret_why);
		*ret_why = longer;
	}
	return -EINVAL;
}

static int read_count(const char *text, unsigned long max, unsigned long *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*ret = strtoul(text, &end, 10);
	return errno || *end || *ret > max ? -EINVAL : 0;
}

static int read_limit(const char *text, struct settings *s, char **ret_why)
{
	unsigned long n;

	(void)ret_why;
	if (read_count(text, 1000000, &n))
		return -EINVAL;
	s->limit = n;
	s->limit_given = true;
	return 0;
}

static int read_mode(const char *text, struct settings *s, char **ret_why)
{
	static const char *const names[] = {
		[MODE_AUTO] = "auto", [MODE_ALL_EXACT] = "exact", [MODE_ONLY_PAGES] = "pages"
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(text, names[i])) {
			s->mode = (enum mode)i;
			return 0;
		}
	*ret_why = xasprintf("\"%s\" is no mode: auto, exact and pages are", text);
	return -EINVAL;
}

static int read_budget(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	return parse_percent(text, &s->budget_pct) || s->budget_pct > 100 ? -EINVAL : 0;
}

static int read_sample_bytes(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	return parse_bytes(text, &s->sample_bytes) || !s->sample_bytes || s->sample_bytes > SAMPLE_BYTES_MAX ? -EINVAL
													     : 0;
}

static int read_layers(const char *text, struct settings *s, char **ret_why)
{
	static const char *const names[] = {
#define X(id, name) [LAYER_##id] = name,
		for_each_layer(X)
#undef X
	};
	_cleanup_(freep) char *list = xstrdup(text);
	char *rest = list, *word;

	s->layers_given = true;
	memset(s->layer_on, 0, sizeof(s->layer_on));
	while ((word = strsep(&rest, ","))) {
		size_t i = 0;
		while (i < LAYER_NR && strcmp(word, names[i]))
			i++;
		if (i == LAYER_NR) {
			*ret_why = xasprintf("\"%s\" is no layer: page, map, heap and python are", word);
			return -EINVAL;
		}
		s->layer_on[i] = true;
	}
	return 0;
}

static int read_native(const char *text, struct settings *s, char **ret_why)
{
	(void)text;
	(void)ret_why;
	s->native_only = true;
	return 0;
}

static int read_python(const char *text, struct settings *s, char **ret_why)
{
	(void)text;
	(void)ret_why;
	s->python_only = true;
	return 0;
}

static int read_threads(const char *text, struct settings *s, char **ret_why)
{
	(void)text;
	(void)ret_why;
	s->by_thread = true;
	return 0;
}

static int read_group(const char *text, struct settings *s, char **ret_why)
{
	if (group_by_parse(text, &s->group) == 0)
		return 0;
	*ret_why = xasprintf("\"%s\" is no grouping: function, module, file:line and thread are", text);
	return -EINVAL;
}

static int read_threshold(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	return parse_percent(text, &s->rule.threshold_pct);
}

static int read_consecutive(const char *text, struct settings *s, char **ret_why)
{
	unsigned long n;

	(void)ret_why;
	if (read_count(text, 1000000, &n) || n == 0)
		return -EINVAL;
	s->rule.consecutive = (uint32_t)n;
	return 0;
}

static int read_min_size(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	return parse_bytes(text, &s->rule.min_bytes);
}

static int read_warmup(const char *text, struct settings *s, char **ret_why)
{
	(void)ret_why;
	return parse_seconds(text, &s->rule.warmup_s);
}

static int read_help(const char *text, struct settings *s, char **ret_why)
{
	(void)text;
	(void)ret_why;
	s->help = true;
	return 0;
}

static const struct option_row options[] = {
	{ 'p', "pid", "PID[,PID...]", "these processes; their children are followed", read_pids, false },
	{ 'n', "name", "REGEX", "processes whose name or command line matches, now and later", read_regex, false },
	{ 'g', "cgroup", "PATH", "processes of a control group, in any mounted hierarchy", read_cgroup, false },
	{ 'a', "all", NULL, "all processes (the default); heap probes for those that grow", read_all, false },
	{ 'i', "interval", "SEC", "time between two looks (1)", read_interval, false },
	{ 'd', "duration", "SEC", "end after this time (0: when interrupted)", read_duration, false },
	{ 'o', "output", "FILE", "write there instead of standard output", read_output, false },
	{ 'f', "format", "FORMAT", "text or json (JSON lines)", read_format, false },
	{ 0, "sort", "KEY", "growth, rss, live_bytes, live_count, alloc_bytes_per_s, alloc_bytes_total, age_p50_s",
	  read_sort, false },
	{ 0, "limit", "N", "stacks per process and layer (50; 0: all)", read_limit, false },
	{ 0, "mode", "MODE",
	  "auto (sampled within the budget), exact (every heap call), pages (resident memory and mappings only)",
	  read_mode, false },
	{ 0, "layer", "LAYER[,...]", "page, map, heap, python (CPython's own allocators; only if asked for)",
	  read_layers, false },
	{ 0, "native", NULL, "frames of machine code only, also the interpreter's (Python frames are merged in)",
	  read_native, false },
	{ 0, "python", NULL, "Python frames only, where a stack has some", read_python, false },
	{ 0, "threads", NULL, "keep the threads of a process apart: thread id and name with each stack", read_threads,
	  false },
	{ 0, "group", "BY", "add stacks up by function, module, file:line (of the innermost frame) or thread",
	  read_group, false },
	{ 0, "threshold", "PCT", "growth per check that counts (2%)", read_threshold, true },
	{ 0, "consecutive", "N", "checks in a row that must have grown (3)", read_consecutive, true },
	{ 0, "min-size", "BYTES", "growth over these checks that is worth an alert (1M)", read_min_size, true },
	{ 0, "warmup", "SEC", "time after the first sight of a process in which nothing is judged (0)", read_warmup,
	  true },
	{ 'h', "help", NULL, "this text", read_help, false },
	{ 0, "budget", "PCT",
	  "CPU time that observing may take from a process, in percent of what it uses (2; 0: no limit)", read_budget,
	  false },
	{ 0, "sample-bytes", "BYTES", "one sample per so many bytes allocated, in the mean (16K; 1 to 1G)",
	  read_sample_bytes, false },
};

static const struct option_row *option_find(const char *arg, size_t name_len)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option_row *o = &options[i];
		if (arg[1] != '-' && o->letter && arg[1] == o->letter)
			return o;
		if (arg[1] == '-' && strlen(o->name) == name_len && !strncmp(arg + 2, o->name, name_len))
			return o;
	}
	return NULL;
}

static int usage_error(const char *why)
{
	log_error("%s (see tidemark help)", why);
	return EXIT_USAGE;
}

/* One option with its value: "-i 1", "-i1", "--interval 1", "--interval=1". *at moves past what was used. */
static int parse_option(int argc, char **argv, int *at, struct settings *s)
{
	const char *arg = argv[*at], *equals = strchr(arg, '='), *value = NULL;
	bool is_long = arg[1] == '-';
	size_t len = is_long ? (equals ? (size_t)(equals - arg) : strlen(arg)) - 2 : 0;
	const struct option_row *o = option_find(arg, len);
	_cleanup_(freep) char *why = NULL;

	(*at)++;
	if (!o || (o->leaks_only && !s->command->leak_options)) {
		why = xasprintf("\"%s\" is no option of %s", arg, s->command->name);
		return usage_error(why);
	}
	if (is_long && equals)
		value = equals + 1;
	else if (!is_long && arg[2])
		value = arg + 2;
	else if (o->value && *at < argc)
		value = argv[(*at)++];
	if (!!value != !!o->value) {
		why = xasprintf("\"%s\" %s", arg, o->value ? "needs a value" : "takes no value");
		return usage_error(why);
	}
	int err = o->read(value, s, &why);
	if (err == -ENOENT || err == -ENOTDIR) { /* a control group that isn't there is no slip of the keyboard */
		log_error("%s", why ? why : strerror(-err));
		return EXIT_FAILURE;
	}
	if (!err)
		return 0;
	_cleanup_(freep) char *full = why ? xasprintf("%s: %s", arg, why)
					  : xasprintf("%s: \"%s\" is not a valid value (%s)", arg, value, o->value);
	return usage_error(full);
}

static int take_command(char **argv, struct settings *s)
{
	if (s->target.kind != TARGET_ALL || s->target.text)
		return usage_error("only one of -p, -n, -g, -a and -- CMD can be given");
	if (!argv[0])
		return usage_error("\"--\" is followed by no command");
	s->target.kind = TARGET_COMMAND;
	s->target.argv = argv;
	s->target.text = xstrdup(argv[0]);
	for (char **arg = argv + 1; *arg; arg++) {
		char *longer = xasprintf("%s %s", s->target.text, *arg);
		free(s->target.text);
		s->target.text = longer;
	}
	return 0;
}

/* What was not said follows from what was. */
static int settle(struct settings *s)
{
	if (s->mode == MODE_ONLY_PAGES && s->layers_given && s->layer_on[LAYER_HEAP])
		return usage_error("--mode pages and --layer heap contradict each other: it observes no heap");
	if (s->mode == MODE_ONLY_PAGES && s->layers_given && s->layer_on[LAYER_PYTHON])
		return usage_error("--mode pages and --layer python contradict each other: it observes no allocators");
	if (s->native_only && s->python_only)
		return usage_error(
			"--native and --python contradict each other: without either, both kinds of frames are merged");
	if (s->group == GROUP_THREAD)
		s->by_thread = true;
	if (!s->target.text)
		s->target.text = xstrdup("");
	if (s->layers_given)
		return 0;
	s->layer_on[LAYER_PAGE] = s->layer_on[LAYER_MAP] = true;
	/* The whole system is watched cheaply: heap probes come with a name, a mode or a look. */
	s->layer_on[LAYER_HEAP] = s->mode == MODE_ALL_EXACT || (s->mode == MODE_AUTO && s->target.kind != TARGET_ALL);
	return 0;
}

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < commands_n; i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

/* -1: printed what was asked for. 0: a command stands in *ret. */
static int parse_command(int argc, char **argv, struct settings *s)
{
	_cleanup_(freep) char *why = NULL;

	if (argc < 2 || !strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		usage_print();
		return -1;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("tidemark %s\n", TIDEMARK_VERSION);
		return -1;
	}
	s->command = command_find(argv[1]);
	if (s->command)
		return 0;
	why = xasprintf("\"%s\" is no command", argv[1]);
	return usage_error(why);
}

int args_parse(int argc, char **argv, struct settings *ret)
{
	*ret = (struct settings){ .interval_s = 1,
				  .limit = 50,
				  .budget_pct = 2,
				  .sample_bytes = SAMPLE_BYTES_DEFAULT,
				  .rule = leak_rule_default,
				  .sort = SORT_LIVE };
	int err = parse_command(argc, argv, ret);
	int at = 2;

	while (!err && at < argc) {
		if (!strcmp(argv[at], "--")) {
			err = take_command(argv + at + 1, ret);
			break;
		}
		if (argv[at][0] != '-' || !argv[at][1]) {
			_cleanup_(freep) char *why = xasprintf(
				"\"%s\" is neither an option nor its value: a command to start comes after --",
				argv[at]);
			return usage_error(why);
		}
		err = parse_option(argc, argv, &at, ret);
	}
	if (!err && ret->help) {
		usage_print_command(ret->command);
		return -1;
	}
	return err ? err : settle(ret);
}

void settings_done(struct settings *s)
{
	target_done(&s->target);
}

void usage_print(void)
{
	printf("Tidemark tells where a running process's memory comes from and what leaks.\n\n"
	       "usage: tidemark COMMAND [TARGET] [OPTIONS]\n\ncommands:\n");
	for (size_t i = 0; i < commands_n; i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].help);
	printf("\nTARGET is one of -p, -n, -g, -a (the default) or, at the end, -- CMD ARGS...\n"
	       "tidemark COMMAND --help shows its options; tidemark --version its version.\n"
	       "exit codes: 0 done, 1 failed, 2 usage, 3 leak found, 4 no target\n");
}

void usage_print_command(const struct command *c)
{
	printf("usage: tidemark %s [TARGET] [OPTIONS]\n%s\n\n", c->name, c->help);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option_row *o = &options[i];
		char head[64];
		if (o->leaks_only && !c->leak_options)
			continue;
		snprintf(head, sizeof(head), "%s%c%s--%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ',
			 o->letter ? ", " : "  ", o->name, o->value ? " " : "", o->value ? o->value : "");
		printf("  %-30s %s\n", head, o->help);
	}
}
