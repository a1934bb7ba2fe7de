/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the kernel's BPF programs run. Has the kernel count while this process lives (the count ends with its file descriptor, however it
 * ends), and prints on each line on stdin one line per loaded program: id, name, runs, nanoseconds; then an empty one.
 */
#include <bpf/bpf.h>
#include <stdio.h>
#include <unistd.h>

static void print_program(__u32 id)
{
	struct bpf_prog_info info = {};
	__u32 bytes = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	if (fd < 0)
		return; /* gone since its id was read */
	if (!bpf_obj_get_info_by_fd(fd, &info, &bytes))
		printf("%u %s %llu %llu\n", id, info.name[0] ? info.name : "-", (unsigned long long)info.run_cnt,
		       (unsigned long long)info.run_time_ns);
	close(fd);
}

int main(void)
{
	int counting = bpf_enable_stats(BPF_STATS_RUN_TIME);
	char c;

	if (counting < 0) {
		perror("progtime: the kernel does not count");
		return 1;
	}
	puts("counting");
	fflush(stdout);
	while (read(0, &c, 1) == 1) {
		for (__u32 id = 0; !bpf_prog_get_next_id(id, &id);)
			print_program(id);
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
