/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug files from debuginfod servers, where the user asked for that. libdebuginfod is opened at run time; a thread of
 * its own fetches one file after the other, each within a time limit, so nobody waits. Refuses to ask without a build
 * id, and to ask twice for the same.
 */
#ifndef TIDEMARK_SYM_FETCH_H
#define TIDEMARK_SYM_FETCH_H

struct fetch;

enum fetch_state {
	FETCH_NOT_ASKED, /* too many files, or no thread */
	FETCH_ASKED,	 /* on its way */
	FETCH_HERE,
	FETCH_NOWHERE,
};

/* 0, -ENOENT (no libdebuginfod), -EAGAIN (no thread). */
int fetch_new(struct fetch **ret);
void fetch_free(struct fetch *f);

/* Asks at the first call. HERE: *ret_path is the file in the client's cache; belongs to `f`. */
enum fetch_state fetch_ask(struct fetch *f, const char *build_id, const char **ret_path);

#endif
