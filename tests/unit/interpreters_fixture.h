/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPython interpreters of this machine, 3.8 to 3.14, as known truth: each runs a script of ours, says what it knows, and may be asked more.
 * TIDEMARK_PYTHONS names further ones (paths, parted by colons).
 */
#ifndef TIDEMARK_TESTS_INTERPRETERS_FIXTURE_H
#define TIDEMARK_TESTS_INTERPRETERS_FIXTURE_H

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#define INTERPRETERS_MAX 32

struct interpreters {
	size_t n;
	char path[INTERPRETERS_MAX][PATH_MAX];
};

/* Those that can be had, each once. */
void interpreters_find(struct interpreters *ret);

struct interpreter {
	pid_t pid;
	FILE *in, *out;	    /* what it is told, what it says */
	unsigned int minor; /* 3.minor */
	char *line;
	size_t cap;
};

/* Runs the script. Its first line out is to be sys.version_info[1]. */
void interpreter_start(const char *path, const char *script, struct interpreter *ret);
/* The next line that it says, without the end of line; belongs to p until the next call. NULL: it has ended. */
char *interpreter_line(struct interpreter *p);
/* Tells it a line. */
void interpreter_tell(struct interpreter *p, const char *line);
void interpreter_stop(struct interpreter *p);

/* Bytes of hexadecimal text ("-": none), zero-terminated besides; the caller frees. */
unsigned char *bytes_of_hex(const char *hex, size_t *ret_n);

#endif
