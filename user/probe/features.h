/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this kernel can do, found by asking it (a trial link), not by its version: distributions backport. No libbpf types.
 */
#ifndef TIDEMARK_PROBE_FEATURES_H
#define TIDEMARK_PROBE_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

struct features {
	uint32_t version; /* major << 16 | minor << 8 | patch (at most 255) */
	bool btf;	  /* /sys/kernel/btf/vmlinux is there */
	bool cookies;	  /* bpf_get_attach_cookie (5.15): without it Tidemark can't run */
	bool multi;	  /* uprobe_multi links (6.6), pid filter correct (6.10, 6.6.35, 6.9.5) */
	bool session;	  /* uprobe_session links (6.13) */
};

/* 0, or -errno of the first bpf(2) call that shows that this process may not use BPF (-EPERM). */
int features_detect(struct features *ret);

#endif
