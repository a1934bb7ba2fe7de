/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turns what the user said into pids. Checks the words only: that a named process exists is found out by listing,
 * and what is done with a process is others' business.
 */
#include "target/select.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "target/proc.h"
#include "util/fs.h"
#include "util/mem.h"

/* PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h): 4 * 1024 * 1024, itself never given. */
#define PID_LIMIT (4u << 20)
#define ANCESTORS_MAX 64

static bool has_pid(const uint32_t *pids, size_t n, uint32_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

/* One word of the list, cut out. */
static int parse_pid(const char *word, uint32_t *ret, char **ret_why)
{
	size_t digits = strspn(word, "0123456789");

	if (!*word || word[digits]) {
		*ret_why = *word ? xasprintf("pid '%s' is not a number", word) : xstrdup("an empty pid in the list");
		return -EINVAL;
	}
	errno = 0;
	unsigned long v = strtoul(word, NULL, 10);
	if (errno || !v || v >= PID_LIMIT) {
		*ret_why = xasprintf("pid '%s' is out of range (1 to %u)", word, PID_LIMIT - 1);
		return -EINVAL;
	}
	*ret = (uint32_t)v;
	return 0;
}

/* Blanks around a pid are no mistake: -p "1, 2". */
static char *trim(char *word)
{
	while (isspace((unsigned char)*word))
		word++;
	size_t len = strlen(word);
	while (len && isspace((unsigned char)word[len - 1]))
		word[--len] = 0;
	return word;
}

int target_from_pids(const char *list, struct target *ret, char **ret_why)
{
	_cleanup_(freep) char *words = xstrdup(list);
	_cleanup_(freep) uint32_t *pids = NULL;
	size_t n = 0, cap = 0;
	char *rest = words;

	for (char *word; (word = strsep(&rest, ","));) {
		uint32_t pid;
		int err = parse_pid(trim(word), &pid, ret_why);
		if (err)
			return err;
		if (has_pid(pids, n, pid))
			continue;
		pids = grow_to(pids, &cap, n + 1, sizeof(*pids));
		pids[n++] = pid;
	}
	*ret = (struct target){ .kind = TARGET_PIDS, .text = xstrdup(list), .pids = pids, .n_pids = n };
	pids = NULL;
	return 0;
}

int target_from_regex(const char *regex, struct target *ret, char **ret_why)
{
	struct target t = { .kind = TARGET_NAME, .has_regex = true };

	if (!*regex) {
		*ret_why = xstrdup("the name pattern is empty");
		return -EINVAL;
	}
	int err = regcomp(&t.regex, regex, REG_EXTENDED | REG_NOSUB);
	if (err) {
		char reason[128];
		(void)regerror(err, &t.regex, reason, sizeof(reason)); /* the length, which is not needed */
		*ret_why = xasprintf("name pattern '%s' is not a regular expression: %s", regex, reason);
		return -EINVAL;
	}
	t.text = xstrdup(regex);
	*ret = t;
	return 0;
}

int target_from_cgroup(const char *path, struct target *ret, char **ret_why)
{
	struct target t = { .kind = TARGET_CGROUP };
	int err = cgroup_open(path, &t.cgroup);

	if (err) {
		*ret_why = err == -ENOTDIR  ? xasprintf("'%s' is not a control group", path)
			   : err == -ENOENT ? xasprintf("cgroup '%s' does not exist in any mounted hierarchy", path)
					    : xasprintf("cgroup '%s' can't be read: %s", path, strerror(-err));
		return -ENOENT;
	}
	t.text = xstrdup(path);
	*ret = t;
	return 0;
}

void target_done(struct target *t)
{
	free(t->text);
	free(t->pids);
	if (t->has_regex)
		regfree(&t->regex);
	cgroup_done(&t->cgroup);
	*t = (struct target){ 0 };
}

/* /proc/TID exists for every thread, but only leaders are processes. A zombie has no memory left. */
static bool is_process(uint32_t pid)
{
	char path[64], text[1024];

	(void)snprintf(path, sizeof(path), "/proc/%u/status", pid);
	if (fs_read_into(path, text, sizeof(text)) <= 0)
		return false;
	const char *tgid = strstr(text, "\nTgid:"), *state = strstr(text, "\nState:");
	if (!tgid || !state)
		return false;
	state += strlen("\nState:");
	state += strspn(state, " \t");
	return strtoul(tgid + strlen("\nTgid:"), NULL, 10) == pid && *state != 'Z' && *state != 'X';
}

/* This process first, then its parents up to the first one. */
static size_t read_ancestors(uint32_t pids[ANCESTORS_MAX])
{
	size_t n = 0;
	struct proc_stat st = { .ppid = (uint32_t)getpid() };

	do {
		pids[n++] = st.ppid;
	} while (n < ANCESTORS_MAX && !proc_read_stat(st.ppid, &st) && st.ppid);
	return n;
}

static bool name_matches(const struct target *t, uint32_t pid)
{
	struct proc_stat st;
	struct proc_rss rss;
	_cleanup_(freep) char *cmdline = NULL;

	if (proc_read_stat(pid, &st) || proc_read_cmdline(pid, &cmdline))
		return false;
	if (regexec(&t->regex, st.comm, 0, NULL, 0) && regexec(&t->regex, cmdline, 0, NULL, 0))
		return false;
	/* Kernel threads and zombies have neither arguments nor memory. */
	return *cmdline || !proc_read_rss(pid, &rss);
}

static bool any_matches(const struct target *t, uint32_t pid)
{
	(void)t;
	(void)pid;
	return true;
}

static bool listed_matches(const struct target *t, uint32_t pid)
{
	return has_pid(t->pids, t->n_pids, pid) && is_process(pid);
}

static bool cgroup_matches(const struct target *t, uint32_t pid)
{
	return cgroup_has_pid(&t->cgroup, pid) > 0;
}

static int list_all(const struct target *t, uint32_t **ret, size_t *ret_n)
{
	(void)t;
	return proc_list_pids(ret, ret_n);
}

static int list_given(const struct target *t, uint32_t **ret, size_t *ret_n)
{
	*ret = xcalloc(t->n_pids, sizeof(**ret));
	*ret_n = t->n_pids;
	if (t->n_pids)
		memcpy(*ret, t->pids, t->n_pids * sizeof(**ret));
	return 0;
}

static int list_cgroup(const struct target *t, uint32_t **ret, size_t *ret_n)
{
	return cgroup_list_pids(&t->cgroup, ret, ret_n);
}

struct kind {
	const char *name;
	int (*list)(const struct target *t, uint32_t **ret, size_t *ret_n);
	bool (*matches)(const struct target *t, uint32_t pid);
	bool list_is_exact; /* what is listed matches */
	bool skips_parents; /* this process is always skipped */
};

static const struct kind kinds[] = {
	[TARGET_ALL] = { "all", list_all, any_matches, true, false },
	[TARGET_PIDS] = { "pid", list_given, listed_matches, false, false },
	[TARGET_NAME] = { "name", list_all, name_matches, false, true },
	[TARGET_CGROUP] = { "cgroup", list_cgroup, cgroup_matches, true, false },
	[TARGET_COMMAND] = { "command", list_given, listed_matches, false, false },
};

const char *target_kind_name(enum target_kind k)
{
	return kinds[k].name;
}

/* Those that never match. */
static size_t read_kin(const struct target *t, uint32_t kin[ANCESTORS_MAX])
{
	if (kinds[t->kind].skips_parents)
		return read_ancestors(kin);
	kin[0] = (uint32_t)getpid();
	return 1;
}

int target_list(const struct target *t, uint32_t **ret, size_t *ret_n)
{
	const struct kind *kind = &kinds[t->kind];
	uint32_t kin[ANCESTORS_MAX], *pids = NULL;
	size_t n_kin = read_kin(t, kin), n = 0, kept = 0;
	int err = kind->list(t, &pids, &n);

	if (err)
		return err;
	for (size_t i = 0; i < n; i++)
		if (!has_pid(kin, n_kin, pids[i]) && (kind->list_is_exact || kind->matches(t, pids[i])))
			pids[kept++] = pids[i];
	*ret = pids;
	*ret_n = kept;
	return 0;
}

bool target_matches(const struct target *t, uint32_t pid)
{
	uint32_t kin[ANCESTORS_MAX];

	/* In this order: most processes do not match, and the parents are as many files to read. */
	return kinds[t->kind].matches(t, pid) && !has_pid(kin, read_kin(t, kin), pid);
}
