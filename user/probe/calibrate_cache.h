/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file that keeps what hits cost until the machine is started anew. A file that is not to be trusted (not ours, writable by others, a link, no plain
 * file) or not understood is as good as none.
 *
 *	tidemark-costs 1
 *	boot 2f0c...		/proc/sys/kernel/random/boot_id
 *	kernel 6.18.44 #1 ...	release and version
 *	programs 9a1b...	which ones the bodies were measured with; only with these
 *	emulated_ps 554300	a line per figure that is known; picoseconds, so that no locale matters
 *	end
 */
#ifndef TIDEMARK_PROBE_CALIBRATE_CACHE_H
#define TIDEMARK_PROBE_CALIBRATE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/calibrate.h"

/* For what the figures hold. */
struct costs_key {
	char boot[64];
	char kernel[192];
	uint64_t programs; /* 0: any */
};

/* 0 or -errno. programs is left 0. */
int costs_key_current(struct costs_key *ret);

#define COSTS_TEXT_MAX 2048

/* Text of the file, and its length; -EMSGSIZE. */
int costs_format(const struct hit_costs *c, const struct costs_key *k, char *buf, size_t cap);
/* 0; -EBADMSG not understood or out of bounds; -ESTALE of another boot or kernel. Bodies of other programs are NAN. Pure. */
int costs_parse(const char *text, size_t len, const struct costs_key *k, struct hit_costs *ret);

/* The directory: TIDEMARK_COSTS_DIR (for tests), or /run/tidemark. */
const char *costs_dir(void);
/* 0; -EPERM not to be trusted; or as above, or as open(2) says. */
int costs_load(const char *dir, const struct costs_key *k, struct hit_costs *ret);
/* Makes the directory if need be (0755); the file is there whole or not at all. 0 or -errno. */
int costs_store(const char *dir, const struct costs_key *k, const struct hit_costs *c);

#endif
