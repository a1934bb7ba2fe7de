/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said once per run: tool, host, kernel, target. */
#ifndef TIDEMARK_META_H
#define TIDEMARK_META_H

#include "args.h"
#include "view/report.h"

struct meta {
	struct report_meta m;
	char host[128], kernel[128];
};

/* Points into *s and *ret: both must outlive its use. */
void meta_fill(const struct settings *s, uint64_t kernel_bytes, struct meta *ret);

#endif
