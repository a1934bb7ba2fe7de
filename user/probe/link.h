/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bpf(2) calls for link types that the installed libbpf may not know yet (libbpf 1.1 in Debian 12 knows neither
 * multi nor session links). A link is a descriptor: closing it, or dying, removes its probes.
 */
#ifndef TIDEMARK_PROBE_LINK_H
#define TIDEMARK_PROBE_LINK_H

#include <stddef.h>
#include <stdint.h>

/* include/uapi/linux/bpf.h, 6.13: enum bpf_attach_type */
#define ATTACH_UPROBE_MULTI 48
#define ATTACH_UPROBE_SESSION 57

struct link_multi {
	int prog_fd;
	int attach_type;  /* ATTACH_UPROBE_MULTI or _SESSION, as the program was loaded */
	const char *path; /* "/proc/self/fd/N" */
	const uint64_t *offsets, *cookies;
	uint32_t n;
	uint32_t pid;  /* 0: every process */
	int is_return; /* fires at the return */
};

/* A link's descriptor or -errno. */
int link_create_multi(const struct link_multi *l);

/*
 * A probe at one offset through a perf event (any kernel from 5.15): the descriptor of the link, which holds the event. pid 0: every process.
 */
int link_create_uprobe(int prog_fd, const char *path, uint64_t offset, uint64_t cookie, uint32_t pid, int is_return);

/* A tracepoint by its path below events/, e.g. "syscalls/sys_enter_mmap", through a perf event. */
int link_create_tracepoint(int prog_fd, const char *event);

/* Every occurrence of one of the kernel's own events (PERF_COUNT_SW_*) on a processor. -ENODEV: it is off. */
int link_create_software(int prog_fd, uint64_t event, int cpu);

#endif
