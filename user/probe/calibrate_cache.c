/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/calibrate_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/mem.h"

#define MAGIC "tidemark-costs 1"
#define FILE_NAME "costs-v1"
#define PS_PER_NS 1000.0

enum need {
	ALWAYS,
	OR_ZERO, /* 0 says that this kernel has it not */
	BODY,	 /* may be unknown */
};

static const struct figure {
	const char *name;
	size_t at;
	enum need need;
} figures[] = {
#define F(field, need) \
	{ \
#field, offsetof(struct hit_costs, field##_ns), need \
	}
	F(emulated, ALWAYS), F(stepped, ALWAYS),  F(nop5, ALWAYS),    F(skip, OR_ZERO),	   F(return, ALWAYS),
	F(body_skip, BODY),  F(body_count, BODY), F(body_free, BODY), F(body_stack, BODY), F(body_python, BODY),
#undef F
};

static double *figure_of(struct hit_costs *c, const struct figure *f)
{
	return (double *)((char *)c + f->at);
}

/* A line's end may not be in it. */
static void one_line(char *s)
{
	s[strcspn(s, "\n")] = 0;
}

int costs_key_current(struct costs_key *ret)
{
	struct costs_key k = { 0 };
	struct utsname u;
	int n = fs_read_into("/proc/sys/kernel/random/boot_id", k.boot, sizeof(k.boot));

	if (n < 0)
		return n;
	if (uname(&u) < 0)
		return -errno;
	(void)snprintf(k.kernel, sizeof(k.kernel), "%.64s %.120s", u.release, u.version); /* cut is as good */
	one_line(k.boot);
	one_line(k.kernel);
	*ret = k;
	return 0;
}

static void print_figures(FILE *out, const struct hit_costs *c)
{
	struct hit_costs copy = *c;

	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		double ns = *figure_of(&copy, &figures[i]);

		if (!isnan(ns))
			fprintf(out, "%s_ps %.0f\n", figures[i].name, ns * PS_PER_NS);
	}
}

int costs_format(const struct hit_costs *c, const struct costs_key *k, char *buf, size_t cap)
{
	_cleanup_(fclosep) FILE *out = fmemopen(buf, cap, "w");

	if (!out)
		return -errno;
	fprintf(out, MAGIC "\nboot %s\nkernel %s\nprograms %016" PRIx64 "\n", k->boot, k->kernel, k->programs);
	print_figures(out, c);
	fputs("end\n", out);
	if (fflush(out) || ferror(out))
		return -EMSGSIZE;
	return (int)ftell(out);
}

/* The next line, ended by 0; NULL: there is none that is whole. */
static char *next_line(char **rest)
{
	char *line = *rest, *end = line ? strchr(line, '\n') : NULL;

	if (!end)
		return NULL;
	*end = 0;
	*rest = end + 1;
	return line;
}

/* What stands behind the word; NULL: the line begins otherwise. */
static const char *after_word(const char *line, const char *word)
{
	size_t n = strlen(word);

	return line && !strncmp(line, word, n) && line[n] == ' ' ? line + n + 1 : NULL;
}

/* Digits and nothing else. */
static bool parse_digits(const char *s, int base, uint64_t *ret)
{
	size_t n = strspn(s, base == 16 ? "0123456789abcdef" : "0123456789");

	if (!n || s[n] || n > 16)
		return false;
	*ret = strtoull(s, NULL, base);
	return true;
}

static int parse_figure(const char *line, struct hit_costs *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		const struct figure *f = &figures[i];
		size_t n = strlen(f->name);
		uint64_t ps;

		if (strncmp(line, f->name, n) || strncmp(line + n, "_ps ", 4))
			continue;
		if (!isnan(*figure_of(c, f)) || !parse_digits(line + n + 4, 10, &ps))
			return -EBADMSG;
		double ns = (double)ps / PS_PER_NS;
		if ((ns < COST_MIN_NS || ns > COST_MAX_NS) && !(f->need == OR_ZERO && !ps))
			return -EBADMSG;
		*figure_of(c, f) = ns;
		return 0;
	}
	return -EBADMSG;
}

static int parse_figures(char **rest, struct hit_costs *c)
{
	for (;;) {
		const char *line = next_line(rest);
		if (!line)
			return -EBADMSG; /* cut */
		if (!strcmp(line, "end"))
			break;
		int err = parse_figure(line, c);
		if (err)
			return err;
	}
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++)
		if (figures[i].need != BODY && isnan(*figure_of(c, &figures[i])))
			return -EBADMSG;
	return **rest ? -EBADMSG : 0;
}

int costs_parse(const char *text, size_t len, const struct costs_key *k, struct hit_costs *ret)
{
	struct hit_costs c;
	uint64_t programs;

	if (len > COSTS_TEXT_MAX || memchr(text, 0, len))
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++)
		*figure_of(&c, &figures[i]) = NAN;
	_cleanup_(freep) char *copy = xstrndup(text, len);
	char *rest = copy;
	const char *magic = next_line(&rest), *boot = after_word(next_line(&rest), "boot"),
		   *kernel = after_word(next_line(&rest), "kernel"), *tag = after_word(next_line(&rest), "programs");
	if (!magic || strcmp(magic, MAGIC) || !boot || !kernel || !tag || !parse_digits(tag, 16, &programs))
		return -EBADMSG;
	if (strcmp(boot, k->boot) || strcmp(kernel, k->kernel))
		return -ESTALE;
	int err = parse_figures(&rest, &c);
	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++)
		if (figures[i].need == BODY && k->programs && programs != k->programs)
			*figure_of(&c, &figures[i]) = NAN;
	*ret = c;
	return 0;
}

const char *costs_dir(void)
{
	const char *dir = getenv("TIDEMARK_COSTS_DIR");

	return dir && dir[0] ? dir : "/run/tidemark";
}

/* Ours or root's, and nobody else may write. */
static bool is_trusted(int fd, mode_t type)
{
	struct stat st;

	return !fstat(fd, &st) && (st.st_mode & S_IFMT) == type && (st.st_uid == 0 || st.st_uid == geteuid()) &&
	       !(st.st_mode & (S_IWGRP | S_IWOTH));
}

static int open_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (is_trusted(fd, S_IFDIR))
		return fd;
	(void)close(fd); /* only looked at */
	return -EPERM;
}

int costs_load(const char *dir, const struct costs_key *k, struct hit_costs *ret)
{
	char text[COSTS_TEXT_MAX + 1];
	_cleanup_(closep) int at = open_dir(dir);

	if (at < 0)
		return at;
	/* O_NONBLOCK: a pipe by that name must not hold us up. */
	_cleanup_(closep) int fd = openat(at, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!is_trusted(fd, S_IFREG))
		return -EPERM;
	ssize_t n = read(fd, text, sizeof(text)); /* a plain file: all of it at once */
	if (n < 0)
		return -errno;
	return costs_parse(text, (size_t)n, k, ret);
}

static int make_dir(const char *dir)
{
	if (mkdir(dir, 0755))
		return errno == EEXIST ? 0 : -errno;
	return chmod(dir, 0755) ? -errno : 0; /* whatever the umask */
}

static int write_all(int fd, const char *text, size_t len)
{
	ssize_t n = write(fd, text, len);

	if (n < 0)
		return -errno;
	if ((size_t)n != len)
		return -ENOSPC;
	return fchmod(fd, 0644) ? -errno : 0;
}

int costs_store(const char *dir, const struct costs_key *k, const struct hit_costs *c)
{
	char text[COSTS_TEXT_MAX], temporary[64];
	int len = costs_format(c, k, text, sizeof(text)), err = len < 0 ? len : make_dir(dir);

	if (err)
		return err;
	_cleanup_(closep) int at = open_dir(dir);
	if (at < 0)
		return at;
	(void)snprintf(temporary, sizeof(temporary), "." FILE_NAME ".%d", (int)getpid());
	(void)unlinkat(at, temporary, 0); /* left by an earlier process of this number, if at all */
	_cleanup_(closep) int fd = openat(at, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = write_all(fd, text, (size_t)len);
	if (!err && renameat(at, temporary, at, FILE_NAME))
		err = -errno;
	if (err)
		(void)unlinkat(at, temporary, 0); /* the first error is the one to tell */
	return err;
}
