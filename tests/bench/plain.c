/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Tidemark is compared with: the usual probes on the first instructions, a uprobe and a uretprobe on malloc and a uprobe on
 * free, for one process only, each with a program that does no more than count. So what it costs is the least that a tool built that way
 * costs. The libc is the one that this program itself is run with.
 *
 *   plain PID    attaches, prints "attached", stays until stdin ends, prints the number of hits
 */
#include <bpf/bpf.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UPROBE_TYPE "/sys/bus/event_source/devices/uprobe/type"
#define CONFIG_RETPROBE 1 /* format/retprobe: config:0 */

struct place {
	char path[512];
	uint64_t offset;
};

static int fail(const char *what)
{
	fprintf(stderr, "plain: %s: %s\n", what, strerror(errno));
	return -1;
}

/* Where in which file an address of this process lies. */
static int place_find(const void *address, struct place *ret)
{
	uintptr_t wanted = (uintptr_t)address;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[1024];
	int found = -1;

	while (found && maps && fgets(line, sizeof(line), maps)) {
		unsigned long from, to, offset;

		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %511s", &from, &to, &offset, ret->path) != 4)
			continue;
		if (wanted < from || wanted >= to)
			continue;
		ret->offset = wanted - from + offset;
		found = 0;
	}
	if (maps)
		fclose(maps);
	return found;
}

static int uprobe_type(void)
{
	FILE *f = fopen(UPROBE_TYPE, "re");
	int type = -1;

	if (f && fscanf(f, "%d", &type) != 1)
		type = -1;
	if (f)
		fclose(f);
	return type;
}

/* *(u64 *)(counters + 8 * index) += 1; return 0 */
static int program_load(int counters, int index)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_VALUE, .imm = counters },
		{ .imm = 8 * index },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = 1 },
		{ .code = BPF_STX | BPF_DW | BPF_ATOMIC, .dst_reg = 1, .src_reg = 2, .imm = BPF_ADD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "plain_count", "GPL", insns, sizeof(insns) / sizeof(insns[0]), NULL);
}

static int probe_place(const struct place *at, int is_return, pid_t pid, int prog)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = uprobe_type(),
		.config = is_return ? CONFIG_RETPROBE : 0,
		.uprobe_path = (uintptr_t)at->path,
		.probe_offset = at->offset,
	};
	int fd = syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return fail("perf_event_open");
	if (ioctl(fd, PERF_EVENT_IOC_SET_BPF, prog) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
		return fail("perf event");
	return 0;
}

/* The file descriptors stay open until the process ends: so does what is attached. */
static int attach(pid_t pid, int counters)
{
	const struct {
		const char *function;
		int is_return;
	} probes[] = { { "malloc", 0 }, { "malloc", 1 }, { "free", 0 } };

	for (int i = 0; i < 3; i++) {
		struct place at;
		int prog = program_load(counters, i);

		if (prog < 0)
			return fail("program");
		if (place_find(dlsym(RTLD_DEFAULT, probes[i].function), &at))
			return fail(probes[i].function);
		if (probe_place(&at, probes[i].is_return, pid, prog))
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int pid = argc == 2 ? atoi(argv[1]) : 0, zero = 0;
	int counters = bpf_map_create(BPF_MAP_TYPE_ARRAY, "plain_hits", sizeof(int), 3 * sizeof(uint64_t), 1, NULL);
	uint64_t hits[3];
	char c;

	if (pid <= 0 || counters < 0) {
		fail("usage: plain PID, as root");
		return 2;
	}
	if (attach(pid, counters))
		return 1;
	puts("attached");
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		continue;
	if (bpf_map_lookup_elem(counters, &zero, hits))
		return 1;
	for (int i = 0; i < 3; i++)
		printf("%llu%c", (unsigned long long)hits[i], i == 2 ? '\n' : ' ');
	return 0;
}
