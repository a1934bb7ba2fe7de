/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of the gate, one row each. Decides only; what is lost without return probes is said by whoever asked. */
#include "probe/gate.h"

#include <stddef.h>

#include "util/mem.h"

#define VERSION(major, minor, patch) ((uint32_t)(major) << 16 | (uint32_t)(minor) << 8 | (uint32_t)(patch))
#define SECCOMP_MODE_FILTER 2 /* linux/seccomp.h */

static bool is_filtered(const struct gate_input *in)
{
	return in->seccomp_mode == SECCOMP_MODE_FILTER;
}

static bool is_go(const struct gate_input *in)
{
	return in->go;
}

static bool has_shadow_stack(const struct gate_input *in)
{
	return in->shadow_stack;
}

static const char why_seccomp[] =
	"this kernel returns from a return probe with a system call that the process's seccomp filter forbids, "
	"which kills the process (fixed in 6.12.14, 6.13.3 and 6.14)";

/* Kernels from `since` to before `until`. */
static const struct {
	uint32_t since, until;
	bool (*applies)(const struct gate_input *in);
	const char *why;
} rules[] = {
	/* Stacks are copied while they run: golang/go #22008, #27077. */
	{ 0, UINT32_MAX, is_go,
	  "the process runs Go code, whose stacks move: a return address replaced by a return probe crashes it" },
	/* The uretprobe system call came with 6.11; cf6cb56ef244 lets it pass through filters. */
	{ VERSION(6, 11, 0), VERSION(6, 12, 14), is_filtered, why_seccomp },
	{ VERSION(6, 13, 0), VERSION(6, 13, 3), is_filtered, why_seccomp },
	/* User shadow stacks exist since 6.6; return probes keep them in step since 6.11. */
	{ 0, VERSION(6, 11, 0), has_shadow_stack,
	  "the process has a shadow stack, which return probes don't respect before kernel 6.11: the processor would "
	  "stop it" },
};

bool gate_allows_return(const struct gate_input *in, const char **ret_why)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		if (in->kernel_version < rules[i].since || in->kernel_version >= rules[i].until ||
		    !rules[i].applies(in))
			continue;
		*ret_why = rules[i].why;
		return false;
	}
	return true;
}
