/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the separate debug file of a module: by build id under /usr/lib/debug, by .gnu_debuglink. On the host first,
 * then as the target sees its files. A file is taken only if its build id agrees (no build id: the CRC of
 * .gnu_debuglink). Refuses to fetch anything from elsewhere.
 */
#ifndef TIDEMARK_SYM_DEBUGFILE_H
#define TIDEMARK_SYM_DEBUGFILE_H

#include "sym/elfimg.h"

struct debugfile_query {
	const struct elfimg *img;
	const char *build_id;  /* hex, "": none */
	const char *path;      /* as the target names it */
	const char *open_path; /* where it was opened */
};

/* Returns a descriptor (caller closes) or -ENOENT; *ret_path (caller frees). */
int debugfile_open(const struct debugfile_query *q, char **ret_path);
/* For .gnu_debugaltlink: the file with this build id (hex), which is called `name` there. */
int debugfile_open_alt(const char *build_id, const char *name, const char *open_path, char **ret_path);

#endif
