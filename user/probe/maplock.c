/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/maplock.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"
#include "util/mem.h"

/* From there on raw tracepoints can be preempted, and calls be missed. */
#define PREEMPTED_VERSION ((6u << 16) | (19u << 8))
#define NESTED_MAX 4 /* structs without a name, one in the other */

static const char *const points[MAPLOCK_NR] = {
	[MAPLOCK_RELEASED] = "mmap_lock_released",
	[MAPLOCK_AREA] = "vm_unmapped_area",
	[MAPLOCK_TAKEN] = "mmap_lock_acquire_returned",
};

static const uint32_t area_args = 2;

/* What bpf/maplock.bpf.h takes for granted. In bytes. */
static const struct {
	const char *type, *member;
	uint32_t offset;
} layout[] = {
	{ "maple_range_64", "pivot", 8 },  { "maple_range_64", "slot", 128 }, { "maple_range_64", "meta", 248 },
	{ "maple_arange_64", "pivot", 8 }, { "maple_arange_64", "slot", 80 }, { "maple_arange_64", "meta", 240 },
	{ "maple_metadata", "end", 0 },
};

static const struct {
	const char *name;
	int32_t value;
} kinds[] = { { "maple_leaf_64", 1 }, { "maple_range_64", 2 }, { "maple_arange_64", 3 } };

/* Fields that are found by name: of per-VMA locks, and of the tree. */
static const struct {
	const char *type, *member;
} fields[] = {
	{ "vm_area_struct", "vm_lock_seq" },
	{ "mm_struct", "mm_mt" },
	{ "maple_tree", "ma_root" },
	{ "vm_unmapped_area_info", "length" },
};

const char *maplock_point_name(enum maplock_point p)
{
	return points[p];
}

/* Offset of a member in bits, also of those in structs and unions without a name; -1: none. */
static int64_t member_bits(const struct btf *btf, const struct btf_type *t, const char *name, int depth)
{
	const struct btf_member *m = btf_members(t);

	for (uint16_t i = 0; i < btf_vlen(t); i++) {
		const char *is = btf__name_by_offset(btf, m[i].name_off);
		int64_t bits = btf_member_bit_offset(t, i);
		if (!strcmp(is, name))
			return bits;
		const struct btf_type *inner = *is || depth >= NESTED_MAX ? NULL : btf__type_by_id(btf, m[i].type);
		int64_t more = inner && btf_is_composite(inner) ? member_bits(btf, inner, name, depth + 1) : -1;
		if (more >= 0)
			return bits + more;
	}
	return -1;
}

static int64_t offset_bits(const struct btf *btf, const char *type, const char *member)
{
	int32_t id = btf__find_by_name_kind(btf, type, BTF_KIND_STRUCT);

	return id < 0 ? -1 : member_bits(btf, btf__type_by_id(btf, (uint32_t)id), member, 0);
}

static bool has_kinds(const struct btf *btf)
{
	int32_t id = btf__find_by_name_kind(btf, "maple_type", BTF_KIND_ENUM);
	const struct btf_type *t = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);
	size_t found = 0;

	for (uint16_t i = 0; t && i < btf_vlen(t); i++)
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
			found += btf_enum(t)[i].val == kinds[k].value &&
				 !strcmp(btf__name_by_offset(btf, btf_enum(t)[i].name_off), kinds[k].name);
	return found == ARRAY_SIZE(kinds);
}

static bool has_layout(const struct btf *btf)
{
	for (size_t i = 0; i < ARRAY_SIZE(layout); i++)
		if (offset_bits(btf, layout[i].type, layout[i].member) != (int64_t)layout[i].offset * 8)
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (offset_bits(btf, fields[i].type, fields[i].member) < 0)
			return false;
	return has_kinds(btf);
}

/* Arguments of a tracepoint; 0: it has none, or is not there. The function that the type describes has one more, before them. */
static uint32_t args_of(const struct btf *btf, const char *point)
{
	_cleanup_(freep) char *name = xasprintf("btf_trace_%s", point);
	int32_t id = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF);
	const struct btf_type *t = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);

	t = t ? btf__type_by_id(btf, t->type) : NULL;
	t = t && btf_is_ptr(t) ? btf__type_by_id(btf, t->type) : NULL;
	return t && btf_is_func_proto(t) && btf_vlen(t) ? btf_vlen(t) - 1u : 0;
}

/* (mm, write) and (mm, write, success); up to 6.13 a string is between the first two. */
static uint32_t write_arg_of(const struct btf *btf)
{
	uint32_t released = args_of(btf, points[MAPLOCK_RELEASED]), taken = args_of(btf, points[MAPLOCK_TAKEN]);

	if (taken != released + 1 || released < 2 || released > 3 || args_of(btf, points[MAPLOCK_AREA]) != area_args)
		return 0;
	return released - 1;
}

/* Links a program that does nothing: a tracepoint that is described need not be there. */
static bool can_link(void)
{
	static const struct bpf_insn exit_zero[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	_cleanup_(closep) int prog = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "tm_trial", "GPL", exit_zero,
						   ARRAY_SIZE(exit_zero), NULL);

	for (size_t i = 0; i < MAPLOCK_NR; i++) {
		_cleanup_(closep) int link = prog < 0 ? prog : bpf_raw_tracepoint_open(points[i], prog);
		if (link < 0)
			return false;
	}
	return true;
}

uint32_t maplock_write_arg(uint32_t version)
{
	struct btf *btf = version < PREEMPTED_VERSION ? btf__load_vmlinux_btf() : NULL;
	uint32_t arg = btf && has_layout(btf) ? write_arg_of(btf) : 0;

	btf__free(btf);
	if (arg && can_link())
		return arg;
	log_debug("mapping calls are observed as system calls: this kernel does not show them at the lock");
	return 0;
}
