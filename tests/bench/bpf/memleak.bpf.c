// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A heap observer of the shape that bcc's memleak made usual, to compare with in the same run: uprobes on first instructions, return probes
 * for results, the size of a call kept by thread between the two, live blocks by address, stacks by bpf_get_stackid (frame pointers) at the return,
 * and combined counts by stack in one packed word. The tables have that tool's sizes.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define THREADS_MAX 10240
#define BLOCKS_MAX 1000000
#define STACKS_MAX 10240
#define DEPTH_MAX 127
#define COUNT_SHIFT 40 /* bytes below, blocks above */

struct block {
	__u64 bytes, born_ns;
	__s32 stack;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, THREADS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BLOCKS_MAX);
	__type(key, __u64);
	__type(value, struct block);
} blocks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STACKS_MAX);
	__type(key, __u64);
	__type(value, __u64);
} combined SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, STACKS_MAX);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DEPTH_MAX * sizeof(__u64));
} stacks SEC(".maps");

__u64 allocs, frees;

static void combine(__s32 stack, __u64 packed)
{
	__u64 key = (__u64)stack, zero = 0, *sum = bpf_map_lookup_elem(&combined, &key);

	if (!sum) {
		bpf_map_update_elem(&combined, &key, &zero, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&combined, &key);
	}
	if (sum)
		__sync_fetch_and_add(sum, packed);
}

static int ask(__u64 bytes)
{
	__u32 thread = (__u32)bpf_get_current_pid_tgid();

	bpf_map_update_elem(&asked, &thread, &bytes, BPF_ANY);
	return 0;
}

static int got(struct pt_regs *ctx, __u64 address)
{
	__u32 thread = (__u32)bpf_get_current_pid_tgid();
	__u64 *bytes = bpf_map_lookup_elem(&asked, &thread);
	struct block b = {};

	if (!bytes)
		return 0;
	b.bytes = *bytes;
	bpf_map_delete_elem(&asked, &thread);
	if (!address || address == ~0ull)
		return 0;
	b.born_ns = bpf_ktime_get_ns();
	b.stack = (__s32)bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	bpf_map_update_elem(&blocks, &address, &b, BPF_ANY);
	if (b.stack >= 0)
		combine(b.stack, (1ull << COUNT_SHIFT) + b.bytes);
	__sync_fetch_and_add(&allocs, 1);
	return 0;
}

static int give_back(__u64 address)
{
	struct block *found = bpf_map_lookup_elem(&blocks, &address), b;

	__sync_fetch_and_add(&frees, 1);
	if (!found)
		return 0;
	b = *found;
	bpf_map_delete_elem(&blocks, &address);
	if (b.stack >= 0)
		combine(b.stack, -((1ull << COUNT_SHIFT) + b.bytes));
	return 0;
}

SEC("uprobe")
int on_malloc(struct pt_regs *ctx)
{
	return ask(PT_REGS_PARM1(ctx));
}

SEC("uprobe")
int on_calloc(struct pt_regs *ctx)
{
	return ask(PT_REGS_PARM1(ctx) * PT_REGS_PARM2(ctx));
}

SEC("uprobe")
int on_realloc(struct pt_regs *ctx)
{
	give_back(PT_REGS_PARM1(ctx));
	return ask(PT_REGS_PARM2(ctx));
}

/* memalign, aligned_alloc, mmap: the size comes second. */
SEC("uprobe")
int on_second(struct pt_regs *ctx)
{
	return ask(PT_REGS_PARM2(ctx));
}

SEC("uretprobe")
int on_result(struct pt_regs *ctx)
{
	return got(ctx, PT_REGS_RC(ctx));
}

SEC("uprobe")
int on_free(struct pt_regs *ctx)
{
	return give_back(PT_REGS_PARM1(ctx));
}

char _license[] SEC("license")
= "GPL";
