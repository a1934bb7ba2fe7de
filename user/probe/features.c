/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/features.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "probe/link.h"
#include "util/mem.h"

#define KERNEL(a, b, c) ((uint32_t)(a) << 16 | (uint32_t)(b) << 8 | (uint32_t)(c))

static uint32_t kernel_version(void)
{
	struct utsname u;
	unsigned a = 0, b = 0, c = 0;

	if (uname(&u) || sscanf(u.release, "%u.%u.%u", &a, &b, &c) < 2)
		return 0;
	return KERNEL(a, b, c > 255 ? 255 : c);
}

/*
 * A trial link on "/", which is no regular file: a kernel that knows the link type says -EBADF, one that
 * does not says -EINVAL (kernel/trace/bpf_trace.c, bpf_uprobe_multi_link_attach).
 */
static bool has_link_type(int attach_type)
{
	static const struct bpf_insn exit_zero[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = (enum bpf_attach_type)attach_type);
	_cleanup_(closep) int prog = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "tm_trial", "GPL", exit_zero,
						   ARRAY_SIZE(exit_zero), &opts);
	uint64_t offset = 0, cookie = 0;
	struct link_multi l = {
		.prog_fd = prog, .attach_type = attach_type, .path = "/", .offsets = &offset, .cookies = &cookie, .n = 1
	};

	return prog >= 0 && link_create_multi(&l) == -EBADF;
}

/* Before 46ba0e49b642 (6.10; stable 6.6.35, 6.9.5) the pid filter of a multi link matched one thread only. */
static bool multi_pid_filter_works(uint32_t v)
{
	return v >= KERNEL(6, 10, 0) || (v >= KERNEL(6, 6, 35) && v < KERNEL(6, 7, 0)) ||
	       (v >= KERNEL(6, 9, 5) && v < KERNEL(6, 10, 0));
}

static int may_use_bpf(void)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "tm_trial", 4, 4, 1, NULL);

	if (fd < 0)
		return fd;
	(void)close(fd);
	return 0;
}

int features_detect(struct features *ret)
{
	struct features f = { .version = kernel_version() };
	int err = may_use_bpf();

	if (err)
		return err;
	f.btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0 && !getenv("TIDEMARK_SIMULATE_NO_BTF");
	f.cookies = f.version >= KERNEL(5, 15, 0);
	f.multi = has_link_type(ATTACH_UPROBE_MULTI) && multi_pid_filter_works(f.version);
	f.session = f.multi && has_link_type(ATTACH_UPROBE_SESSION);
	*ret = f;
	return 0;
}
