/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "interpreters_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/mem.h"

#define MINOR_MIN 8
#define MINOR_MAX 14

static void add(struct interpreters *is, const char *path)
{
	char real[PATH_MAX];

	if (is->n == INTERPRETERS_MAX || !realpath(path, real) || access(real, X_OK) != 0)
		return;
	for (size_t i = 0; i < is->n; i++)
		if (!strcmp(is->path[i], real))
			return;
	memcpy(is->path[is->n++], real, sizeof(real));
}

static void add_matching(struct interpreters *is, const char *pattern)
{
	glob_t g = { 0 };

	(void)glob(pattern, 0, NULL, &g); /* none: nothing is added */
	for (size_t i = 0; i < g.gl_pathc; i++)
		add(is, g.gl_pathv[i]);
	globfree(&g);
}

/* Every python3.N of a list of directories. pyenv's shims are scripts that stand for what its own folder has. */
static void add_from(struct interpreters *is, const char *dirs)
{
	_cleanup_(freep) char *copy = xstrdup(dirs);
	char *rest = NULL;

	for (char *dir = strtok_r(copy, ":", &rest); dir; dir = strtok_r(NULL, ":", &rest)) {
		if (strstr(dir, "/shims"))
			continue;
		for (int minor = MINOR_MIN; minor <= MINOR_MAX; minor++) {
			_cleanup_(freep) char *pattern = xasprintf("%s/python3.%d", dir, minor);
			add_matching(is, pattern);
		}
	}
}

void interpreters_find(struct interpreters *ret)
{
	const char *root = getenv("PYENV_ROOT"), *home = getenv("HOME"), *path = getenv("PATH");
	const char *more = getenv("TIDEMARK_PYTHONS");
	_cleanup_(freep) char *pyenv = root ? xasprintf("%s/versions/*/bin", root)
					    : xasprintf("%s/.pyenv/versions/*/bin", home ? home : "");
	_cleanup_(freep) char *listed = xstrdup(more ? more : "");
	char *rest = NULL;

	ret->n = 0;
	for (char *p = strtok_r(listed, ":", &rest); p; p = strtok_r(NULL, ":", &rest))
		add(ret, p);
	add_from(ret, "/usr/bin:/usr/local/bin");
	add_from(ret, pyenv);
	add_from(ret, path ? path : "");
}

void interpreter_start(const char *path, const char *script, struct interpreter *ret)
{
	const char *argv[] = { path, "-S", "-u", "-c", script, NULL };
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	*ret = (struct interpreter){ .pid = fork() };
	assert_true(ret->pid >= 0);
	if (!ret->pid) {
		(void)dup2(in[0], STDIN_FILENO);
		(void)dup2(out[1], STDOUT_FILENO);
		(void)unsetenv("LD_PRELOAD"); /* the sanitizer's runtime */
		(void)setenv("PYTHONUTF8", "1", 1);
		(void)execv(path, (char **)argv);
		_exit(127);
	}
	(void)close(in[0]);
	(void)close(out[1]);
	ret->in = fdopen(in[1], "w");
	ret->out = fdopen(out[0], "r");
	assert_non_null(ret->in);
	assert_non_null(ret->out);
	const char *minor = interpreter_line(ret);
	if (!minor)
		fail_msg("%s: said nothing", path);
	ret->minor = (unsigned int)strtoul(minor, NULL, 10);
	assert_in_range(ret->minor, MINOR_MIN, MINOR_MAX);
}

char *interpreter_line(struct interpreter *p)
{
	ssize_t n = getline(&p->line, &p->cap, p->out);

	if (n <= 0)
		return NULL;
	if (p->line[n - 1] == '\n')
		p->line[n - 1] = 0;
	return p->line;
}

void interpreter_tell(struct interpreter *p, const char *line)
{
	assert_true(fprintf(p->in, "%s\n", line) > 0);
	assert_int_equal(fflush(p->in), 0);
}

void interpreter_stop(struct interpreter *p)
{
	(void)fclose(p->in);
	(void)fclose(p->out);
	free(p->line);
	assert_int_equal(kill(p->pid, SIGKILL), 0);
	assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
}

unsigned char *bytes_of_hex(const char *hex, size_t *ret_n)
{
	size_t n = hex[0] == '-' ? 0 : strlen(hex) / 2;
	unsigned char *bytes = xcalloc(n + 1, 1);

	for (size_t i = 0; i < n; i++) {
		char digits[3] = { hex[2 * i], hex[2 * i + 1], 0 };
		bytes[i] = (unsigned char)strtoul(digits, NULL, 16);
	}
	*ret_n = n;
	return bytes;
}
