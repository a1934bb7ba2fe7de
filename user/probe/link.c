/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/mem.h"

#define UPROBE_MULTI_RETURN 1 /* BPF_F_UPROBE_MULTI_RETURN, 6.6 */

/* union bpf_attr, BPF_LINK_CREATE, as of 6.6 (uprobe_multi) and 5.15 (perf_event.bpf_cookie). */
struct attr_link_create {
	uint32_t prog_fd, target_fd, attach_type, flags;
	union {
		struct {
			uint64_t path, offsets, ref_ctr_offsets, cookies;
			uint32_t cnt, flags, pid;
		} multi;
		struct {
			uint64_t bpf_cookie;
		} perf;
		uint64_t room[16];
	};
};

static int sys_link_create(const struct attr_link_create *a)
{
	long fd = syscall(SYS_bpf, BPF_LINK_CREATE, a, sizeof(*a));

	return fd < 0 ? -errno : (int)fd;
}

int link_create_multi(const struct link_multi *l)
{
	struct attr_link_create a = {
		.prog_fd = (uint32_t)l->prog_fd,
		.attach_type = (uint32_t)l->attach_type,
		.multi = {
			.path = (uintptr_t)l->path,
			.offsets = (uintptr_t)l->offsets,
			.cookies = (uintptr_t)l->cookies,
			.cnt = l->n,
			.flags = l->is_return ? UPROBE_MULTI_RETURN : 0,
			.pid = l->pid,
		},
	};

	return sys_link_create(&a);
}

/* The link keeps the event alive, so its descriptor can be closed. */
static int link_perf_event(int prog_fd, struct perf_event_attr *pa, int pid, int cpu, uint64_t cookie)
{
	long event = syscall(SYS_perf_event_open, pa, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return -errno;
	_cleanup_(closep) int fd = (int)event;
	struct attr_link_create a = {
		.prog_fd = (uint32_t)prog_fd,
		.target_fd = (uint32_t)fd,
		.attach_type = BPF_PERF_EVENT,
		.perf.bpf_cookie = cookie,
	};
	return sys_link_create(&a);
}

int link_create_uprobe(int prog_fd, const char *path, uint64_t offset, uint64_t cookie, uint32_t pid, int is_return)
{
	uint64_t type;
	int err = fs_read_u64("/sys/bus/event_source/devices/uprobe/type", &type);

	if (err)
		return err;
	struct perf_event_attr pa = {
		.size = sizeof(pa),
		.type = (uint32_t)type,
		.config = is_return ? 1 : 0, /* format/retprobe: config:0 */
		.uprobe_path = (uintptr_t)path,
		.probe_offset = offset,
	};
	return link_perf_event(prog_fd, &pa, pid ? (int)pid : -1, pid ? -1 : 0, cookie);
}

/*
 * tracefs as a descriptor of our own: where it isn't mounted we mount it nowhere, so nothing is left behind. fsopen and fsmount: 5.2.
 */
static int tracefs_open(void)
{
	static const char *const usual[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };

	for (size_t i = 0; i < ARRAY_SIZE(usual); i++) {
		_cleanup_(freep) char *events = xasprintf("%s/events", usual[i]);
		if (access(events, R_OK) == 0)
			return open(usual[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	_cleanup_(closep) int fs = (int)syscall(SYS_fsopen, "tracefs", 1 /* FSOPEN_CLOEXEC */);
	if (fs < 0)
		return -errno;
	if (syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) < 0)
		return -errno;
	int dir = (int)syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0);
	return dir < 0 ? -errno : dir;
}

static int tracepoint_id(const char *event, uint64_t *ret)
{
	_cleanup_(closep) int dir = tracefs_open();
	if (dir < 0)
		return dir;
	_cleanup_(freep) char *rel = xasprintf("events/%s/id", event);
	_cleanup_(closep) int fd = openat(dir, rel, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	char text[32];
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return n < 0 ? -errno : -ENODATA;
	text[n] = 0;
	*ret = strtoull(text, NULL, 10);
	return 0;
}

int link_create_tracepoint(int prog_fd, const char *event)
{
	uint64_t id = 0;
	int err = tracepoint_id(event, &id);

	if (err)
		return err;
	struct perf_event_attr pa = {
		.size = sizeof(pa),
		.type = PERF_TYPE_TRACEPOINT,
		.config = id,
		.sample_period = 1,
	};
	return link_perf_event(prog_fd, &pa, -1, 0, 0);
}

int link_create_software(int prog_fd, uint64_t event, int cpu)
{
	struct perf_event_attr pa = {
		.size = sizeof(pa),
		.type = PERF_TYPE_SOFTWARE,
		.config = event,
		.sample_period = 1,
	};

	return link_perf_event(prog_fd, &pa, -1, cpu, 0);
}
