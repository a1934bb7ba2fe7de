/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tables of include/sampling.h, computed in double precision: BPF programs only read them. */
#ifndef TIDEMARK_PROBE_SAMPLE_TABLES_H
#define TIDEMARK_PROBE_SAMPLE_TABLES_H

struct sampling_tables;

void sampling_tables_fill(struct sampling_tables *t);

#endif
