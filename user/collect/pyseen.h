/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Measures for each process what share of its Python allocations the probes see (collect/pycoverage.h), by the kernel side's table of live blocks. */
#ifndef TIDEMARK_COLLECT_PYSEEN_H
#define TIDEMARK_COLLECT_PYSEEN_H

struct loader;
struct pyseen;
struct watched;

struct pyseen *pyseen_new(const struct loader *l); /* borrowed, must outlive */
void pyseen_free(struct pyseen *s);

/* Once per interval and process. */
void pyseen_step(struct pyseen *s, struct watched *w);

/*
 * 0..1; NAN: not known (yet). Measured while every call is counted; else 1 for builds whose compiler inlined nothing, because there all calls
 * go by the tables.
 */
double pyseen_share(const struct watched *w);

#endif
