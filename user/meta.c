/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "meta.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>

#include "target/proc.h"
#include "util/clock.h"

static const char *mode_name(const struct settings *s)
{
	if (s->mode == MODE_ONLY_PAGES ||
	    (!s->layer_on[LAYER_HEAP] && !s->layer_on[LAYER_PYTHON] && s->target.kind != TARGET_ALL))
		return "pages";
	return s->mode == MODE_ALL_EXACT ? "exact" : "auto";
}

void meta_fill(const struct settings *s, uint64_t kernel_bytes, struct meta *ret)
{
	unsigned char id[16];
	struct utsname u = { 0 };

	memset(ret, 0, sizeof(*ret));
	(void)uname(&u); /* only fails on a bad pointer */
	snprintf(ret->host, sizeof(ret->host), "%s", u.nodename);
	snprintf(ret->kernel, sizeof(ret->kernel), "%s", u.release);
	ret->m = (struct report_meta){
		.tool = "tidemark",
		.version = TIDEMARK_VERSION,
		.host = ret->host,
		.kernel = ret->kernel,
		.start_ts = unix_seconds(),
		.boot_ts = proc_boot_unix_seconds(),
		.interval_s = s->interval_s,
		.budget_pct = s->budget_pct,
		.sample_bytes = s->mode == MODE_AUTO ? s->sample_bytes : 0,
		.mode = mode_name(s),
		.target_kind = target_kind_name(s->target.kind),
		.target_text = s->target.text,
		.map_memory_bytes = kernel_bytes,
	};
	memcpy(ret->m.layer_on, s->layer_on, sizeof(ret->m.layer_on));
	if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
		memset(id, 0, sizeof(id));
	for (size_t i = 0; i < sizeof(id); i++)
		snprintf(ret->m.run_id + 2 * i, 3, "%02x", id[i]);
}
