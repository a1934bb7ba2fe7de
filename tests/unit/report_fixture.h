/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Synthetic reports for tests of views: every kind of process, known and unknown figures, losses, an alert. No terminal, no
 * BPF, no clock: the same call gives the same report. Each report owns its arena; the query is borrowed.
 */
#ifndef TIDEMARK_TESTS_REPORT_FIXTURE_H
#define TIDEMARK_TESTS_REPORT_FIXTURE_H

#include "view/report.h"

#define FIXTURE_PROCS 5

struct query fixture_query(void);

/*
 * Interval n of a run with one second between intervals: the first process's heap grows with n. Processes: a leaking Python
 * worker, a steady server, one seen by pages only (most figures unknown), one that has exited with a multi-byte name, one sampled
 * with a limit. The alert fires at n == 5 only, as reports do. Frames, threads and groups of the first process are as the query wants them.
 */
struct report *fixture_report(const struct query *q, uint64_t n);
/* No process, nothing lost, nothing known of the cost on targets. */
struct report *fixture_empty(const struct query *q);
void fixture_free(struct report *r);

#endif
