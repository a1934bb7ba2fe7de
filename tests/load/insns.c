/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prints, of each BPF program that a process holds (argument: its pid), the name as the kernel keeps it and the instructions that the verifier
 * worked through. For guests that have no bpftool.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* The id that a descriptor's file in fdinfo tells, if it is a program's: links tell one, too, but no instructions. */
static unsigned int prog_id(const char *path)
{
	char line[128];
	unsigned int id = 0, n, is_prog = 0;
	FILE *f = fopen(path, "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "prog_id: %u", &n) == 1)
			id = n;
		is_prog |= sscanf(line, "verified_insns: %u", &n) == 1;
	}
	(void)fclose(f);
	return is_prog ? id : 0;
}

static int show(unsigned int id)
{
	union bpf_attr attr = { .prog_id = id };
	struct bpf_prog_info info;
	int fd = (int)bpf(BPF_PROG_GET_FD_BY_ID, &attr);

	if (fd < 0)
		return -1;
	memset(&info, 0, sizeof(info));
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (unsigned int)fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (unsigned long)&info;
	long err = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
	if (!err)
		printf("%s %u\n", info.name, info.verified_insns);
	close(fd);
	return (int)err;
}

int main(int argc, char **argv)
{
	char folder[64], path[384];
	int err = 0;

	(void)snprintf(folder, sizeof(folder), "/proc/%d/fdinfo", argc > 1 ? atoi(argv[1]) : 0);
	DIR *d = opendir(folder);
	if (!d) {
		perror(folder);
		return 1;
	}
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		(void)snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		unsigned int id = e->d_name[0] == '.' ? 0 : prog_id(path);
		if (id && show(id))
			err = 1;
	}
	closedir(d);
	return err;
}
