/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `tidemark probes` prints: for each allocation function where its probe would go, what a hit costs here, and
 * what is unsafe. Prints rows; finds nothing out.
 */
#ifndef TIDEMARK_VIEW_PROBES_H
#define TIDEMARK_VIEW_PROBES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "probe/plan.h"

struct probe_row {
	uint32_t pid;
	const char *module;   /* path as the process sees it */
	const char *build_id; /* hex; NULL: none */
	const struct plan *plan;
	const char *return_how;	    /* "session", "uretprobe", "none" */
	double entry_ns, return_ns; /* cost of a hit on this machine; NAN: not calibrated */
	double body_ns;		    /* of our programs in such a call, counted with its stack; NAN: not known */
	const char *gate_why;	    /* why no return probe may be placed in this process; NULL: it may */
};

/* One figure of what hits cost here. */
struct probe_cost {
	const char *key, *label;
	double ns; /* NAN: not known */
};

/*
 * All borrowed. 0 or a negative errno of the stream; flushed. Rows of one process and module should stand together:
 * one heading each.
 */
int probes_print_text(FILE *out, const struct probe_row *rows, size_t n);
/* One `probe` line per row (formats.md); gate_why comes last in hazards[]. */
int probes_print_json(FILE *out, const struct probe_row *rows, size_t n);

/* What the figures above are made of, behind them; fresh: measured now. n 0: nothing is known. 0 or a negative errno of the stream; flushed. */
int costs_print_text(FILE *out, const struct probe_cost *costs, size_t n, bool fresh);
/* One `costs` line. */
int costs_print_json(FILE *out, const struct probe_cost *costs, size_t n, bool fresh);

#endif
