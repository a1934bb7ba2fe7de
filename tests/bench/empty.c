/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's own part of the cost: a session on malloc and an entry probe on free at the places that Tidemark planned, with programs that do
 * nothing. What Tidemark costs beyond that is what its programs do.
 *
 *   empty FILE MALLOC_OFFSET FREE_OFFSET [skip]    attaches, prints "attached", stays until stdin ends; 77 if the kernel has no sessions (6.13)
 *
 * skip: the entry wants no return, as it says of a call that is not sampled.
 */
#include <bpf/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* enum bpf_attach_type of 6.13; the headers and the library that one builds with may be older. */
#define UPROBE_MULTI 48
#define UPROBE_SESSION 57

/* union bpf_attr of BPF_LINK_CREATE, as of 6.6 */
struct link_attr {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t cnt, multi_flags, pid, pad;
};

static int attach(const char *path, uint64_t offset, int type, int result)
{
	const struct bpf_insn insns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = result },
					  { .code = BPF_JMP | BPF_EXIT } };
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = (enum bpf_attach_type)type);
	int prog = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "empty", "GPL", insns, 2, &opts);
	struct link_attr a = {
		.prog_fd = (uint32_t)prog,
		.attach_type = (uint32_t)type,
		.path = (uintptr_t)path,
		.offsets = (uintptr_t)&offset,
		.cnt = 1,
	};

	/* Stays open, and so attached, until the process ends. */
	return prog < 0 ? prog : (int)syscall(SYS_bpf, BPF_LINK_CREATE, &a, sizeof(a));
}

int main(int argc, char **argv)
{
	int skip = argc == 5 && !strcmp(argv[4], "skip");
	char c;

	if (argc != 4 && !skip) {
		fputs("usage: empty FILE MALLOC_OFFSET FREE_OFFSET [skip], as root\n", stderr);
		return 2;
	}
	if (attach(argv[1], strtoull(argv[2], NULL, 10), UPROBE_SESSION, skip) < 0)
		return 77;
	if (attach(argv[1], strtoull(argv[3], NULL, 10), UPROBE_MULTI, 0) < 0) {
		perror("empty");
		return 1;
	}
	puts("attached");
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		continue;
	return 0;
}
