/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The safety gate: may return probes be placed in this process on this kernel? They kill seccomp-filtered processes on 6.11 up to the fix
 * (facts: 6.12.14, 6.13.3, 6.14), Go processes always (moving stacks), shadow-stack processes before 6.11.
 */
#ifndef TIDEMARK_PROBE_GATE_H
#define TIDEMARK_PROBE_GATE_H

#include <stdbool.h>
#include <stdint.h>

struct gate_input {
	uint32_t kernel_version; /* major << 16 | minor << 8 | patch */
	int seccomp_mode;	 /* 2: filter */
	bool shadow_stack;
	bool go; /* maps a file with .gopclntab */
};

/* true: safe. Otherwise *ret_why is one static sentence. Pure. */
bool gate_allows_return(const struct gate_input *in, const char **ret_why);

#endif
