/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Zoom: which of the processes that are observed by pages and mappings alone get heap and Python probes. Those that grow, as long as they
 * do; and those that the user opened, which stay. Pure: what was seen goes in, who changes comes out; one value per process, owned by the
 * caller. No clock, no allocation, no I/O. The essay is in zoom.c.
 */
#ifndef TIDEMARK_COLLECT_ZOOM_H
#define TIDEMARK_COLLECT_ZOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZOOM_MAX_DEFAULT 8
#define ZOOM_BUCKETS 24 /* two minutes in steps of five seconds */

/* One process in one interval. */
struct zoom_look {
	uint64_t now_ns;		/* CLOCK_MONOTONIC */
	uint64_t started_ns;		/* when the process did, same clock; 0: not known */
	uint64_t rss_bytes, anon_bytes; /* UNKNOWN_U64; anon is preferred: file pages come and go as the kernel likes */
	bool opened;			/* by the user */
	bool possible;			/* probes can be placed */
};

struct zoom {
	void *owner; /* the caller's: who this is */
	bool zoomed; /* as last decided by zoom_step */
	bool opened, possible;
	uint64_t growth_bytes; /* as last seen; 0: none that counts */

	/* The policy's own state: see zoom.c. */
	uint64_t now_ns, zoomed_ns;
	uint64_t floor[ZOOM_BUCKETS]; /* least bytes in each step of time; a ring, of which n are filled */
	uint64_t fall[ZOOM_BUCKETS];  /* largest drop from one look to the next in it */
	uint32_t n, next;
	uint64_t low, drop, bucket_ns; /* of the step that is running */
	bool bucket_open;
	uint64_t first_bytes, last_bytes, last_rise_ns;
	uint32_t looks;
	bool of_anon, grows, calm;
};

struct zoom_host {
	size_t max;	     /* that are zoomed at once because they grow; 0: ZOOM_MAX_DEFAULT */
	double budget_pct;   /* 0: no limit */
	double overhead_pct; /* cost in percent of the CPU time of all that is observed; NAN: not known */
};

struct zoom_change {
	struct zoom *zoom;
	bool in; /* place probes; else take them away */
};

void zoom_init(struct zoom *z, void *owner);
void zoom_look(struct zoom *z, const struct zoom_look *seen);
/*
 * Once per interval, after each process was looked at. Writes who changes, at most `cap` (who does not fit changes in the next interval),
 * those that go first; their `zoomed` is changed already. Returns how many. Order of `all` is free, and may be changed.
 */
size_t zoom_step(struct zoom **all, size_t n, const struct zoom_host *host, struct zoom_change *ret, size_t cap);

#endif
