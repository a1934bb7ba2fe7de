/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel as the BPF headers see it, on the host: included before them, it makes `bpf/<name>.bpf.h` compile as
 * ordinary C. Maps are generic tables keyed by the map object's address, with the sizes that the map's own declaration
 * gives; kernel structs hold the fields that are read; target memory is an image of regions. It decides nothing of what
 * the programs do.
 *
 * Stricter than the kernel on purpose: an element that was deleted or replaced is freed, so that reading it afterwards
 * is an error under ASan, and a ring record begins as garbage, so that a field that nobody wrote shows.
 */
#ifndef TIDEMARK_HOST_BPF_H
#define TIDEMARK_HOST_BPF_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/bpf.h>

/* --- declarations --- */
#define SEC(name)
#define __uint(name, val) HOST_UINT_##name(val)
#define HOST_UINT_type(val) int(*type)[val]
#define HOST_UINT_max_entries(val) int(*max_entries)[val]
#define HOST_UINT_map_flags(val) int(*map_flags)[val]
/* Where a map gives sizes instead of types. */
#define HOST_UINT_key_size(val) char(*key)[val]
#define HOST_UINT_value_size(val) char(*value)[val]
#define __type(name, val) __typeof__(val) *name
/* A map of maps: what it holds is the inner map itself. */
#define __array(name, val) \
	__typeof__(val) *value; \
	__typeof__(val) *name[]
#undef __always_inline
#define __always_inline inline
#undef __noinline
/* Global functions for the verifier; here each test program is one file. */
#define __noinline static __attribute__((noinline, unused))
#define barrier_var(var) __asm__ volatile("" : "+r"(var))

/* --- kernel structs: the fields that are read, and the target's memory --- */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

struct xol_area {
	unsigned long vaddr;
};

struct host_region {
	uint64_t base, bytes;
	unsigned char *image;
};

#define HOST_REGIONS 512

struct mm_struct {
	unsigned long brk, start_stack;
	uint64_t *pgd; /* of page tables that a test made; physical addresses are the host's own */
	struct {
		long counter;
	} hugetlb_usage;
	struct {
		struct xol_area *xol_area;
	} uprobes_state;
	struct host_region regions[HOST_REGIONS];
	int n_regions;
};

struct signal_struct {
	struct {
		int counter;
	} live;
};

struct return_instance {
	unsigned long stack, orig_ret_vaddr;
	bool chained;
	struct return_instance *next; /* outwards */
	const void *host_fn;	      /* whose return is awaited */
};

struct uprobe_task {
	struct return_instance *return_instances; /* the innermost */
};

struct task_struct {
	int pid, tgid, pagefault_disabled;
	struct {
		unsigned long fsbase;
	} thread;
	struct uprobe_task *utask;
	uint64_t start_boottime;
	struct task_struct *group_leader, *real_parent;
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct pt_regs *user_regs;
	uint64_t cgroups[4]; /* id per level */
};

struct trace_event_raw_sys_enter {
	long id;
	unsigned long args[6];
};

struct trace_event_raw_sys_exit {
	long id, ret;
};

/* --- the machine --- */
#define HOST_CPUS 8
#define HOST_MAPS 64
#define HOST_BUCKETS 4096

struct host_elem {
	struct host_elem *next;
	uint32_t bucket;
	void *value; /* of its own, so that ASan sees both ends */
	unsigned char key[];
};

struct host_map {
	const void *id;
	enum bpf_map_type type;
	uint32_t key_bytes, value_bytes, max, n;
	int fail_with, fail_cnt; /* the next fail_cnt updates give fail_with */
	struct host_elem *bucket[HOST_BUCKETS];
};

struct host_record {
	struct host_record *next;
	size_t bytes;
	uint64_t flags;
	bool submitted;
	uint64_t data[];
};

struct host {
	struct host_map *maps[HOST_MAPS];
	int n_maps;
	struct host_record *ring, **ring_end;
	bool ring_full, no_task_storage;
	uint64_t ring_avail; /* what BPF_RB_AVAIL_DATA tells */
	uint64_t now_ns, jiffies;
	uint32_t random;					     /* never 0 once drawn from */
	bool (*read_user)(void *dst, uint64_t addr, uint32_t bytes); /* instead of the memory image: a live process */
	void (*at_point)(void); /* called wherever a program may be preempted or another CPU may act: at each helper */
};

static struct host host;
static _Thread_local struct task_struct *host_task;
static _Thread_local uint32_t host_cpu;

static inline void host_point(void)
{
	if (host.at_point)
		host.at_point();
}

/* The programs' atomic operations are such points too, before and after, and so is whatever they order by a barrier. */
#define HOST_ATOMIC(operation) \
	({ \
		host_point(); \
		__typeof__(operation) host_was = (operation); \
		host_point(); \
		host_was; \
	})
#define __sync_fetch_and_add(at, v) HOST_ATOMIC(__sync_fetch_and_add((at), (v)))
#define __sync_val_compare_and_swap(at, old, new) HOST_ATOMIC(__sync_val_compare_and_swap((at), (old), (new)))
#define __sync_lock_test_and_set(at, v) HOST_ATOMIC(__sync_lock_test_and_set((at), (v)))
#define barrier() host_point()

/* --- maps --- */
static inline struct host_map *host_map_find(const void *id, enum bpf_map_type type, size_t key_bytes,
					     size_t value_bytes, size_t max)
{
	for (int i = 0; i < host.n_maps; i++)
		if (host.maps[i]->id == id)
			return host.maps[i];
	assert(host.n_maps < HOST_MAPS);
	struct host_map *m = calloc(1, sizeof(*m));

	assert(m);
	*m = (struct host_map){
		.id = id, .type = type, .key_bytes = key_bytes, .value_bytes = value_bytes, .max = max
	};
	return host.maps[host.n_maps++] = m;
}

#define host_map_of(m) \
	host_map_find((m), (enum bpf_map_type)(sizeof(*(m)->type) / sizeof(int)), sizeof(*(m)->key), \
		      sizeof(*(m)->value), sizeof(*(m)->max_entries) / sizeof(int))

static inline uint32_t host_hash(const struct host_map *m, const void *key)
{
	const unsigned char *k = key;
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (uint32_t i = 0; i < m->key_bytes; i++)
		hash = (hash ^ k[i]) * 16777619u;
	return hash % HOST_BUCKETS;
}

/* Where the element with this key is or would be linked. */
static inline struct host_elem **host_map_link(struct host_map *m, const void *key)
{
	struct host_elem **at = &m->bucket[host_hash(m, key)];

	while (*at && memcmp((*at)->key, key, m->key_bytes))
		at = &(*at)->next;
	return at;
}

static inline void host_elem_drop(struct host_map *m, struct host_elem **at)
{
	struct host_elem *e = *at;

	*at = e->next;
	free(e->value);
	free(e);
	m->n--;
}

static inline void *host_elem_add(struct host_map *m, struct host_elem **at, const void *key, const void *value)
{
	struct host_elem *e = calloc(1, sizeof(*e) + m->key_bytes);

	assert(e);
	e->value = calloc(1, m->value_bytes);
	assert(e->value);
	e->bucket = host_hash(m, key);
	memcpy(e->key, key, m->key_bytes);
	if (value)
		memcpy(e->value, value, m->value_bytes);
	e->next = *at;
	*at = e;
	m->n++;
	return e->value;
}

/* An array's elements all exist, zeroed; a per-CPU array has one per CPU: here they come into being when looked up. */
static inline void *host_array_elem(struct host_map *m, uint32_t index)
{
	uint64_t key = index;

	if (index >= m->max)
		return NULL;
	if (m->type == BPF_MAP_TYPE_PERCPU_ARRAY)
		key |= (uint64_t)host_cpu << 32;
	m->key_bytes = sizeof(key);
	struct host_elem **at = host_map_link(m, &key);
	return *at ? (*at)->value : host_elem_add(m, at, &key, NULL);
}

static inline void *host_map_lookup(struct host_map *m, const void *key)
{
	host_point();
	if (m->type == BPF_MAP_TYPE_ARRAY || m->type == BPF_MAP_TYPE_PERCPU_ARRAY)
		return host_array_elem(m, *(const uint32_t *)key);
	struct host_elem *e = *host_map_link(m, key);
	return e ? e->value : NULL;
}

/* An inner map comes into being. */
static inline void *host_inner_new(struct host_map *m, uint32_t index)
{
	struct host_elem **at = host_map_link(m, &index);

	assert(m->type == BPF_MAP_TYPE_ARRAY_OF_MAPS && index < m->max && !*at);
	return host_elem_add(m, at, &index, NULL);
}

/* kernel/bpf/hashtab.c, htab_map_update_elem: a new element is linked, then the old one goes. */
static inline long host_map_update(struct host_map *m, const void *key, const void *value, uint64_t flags)
{
	host_point();
	assert(m->type == BPF_MAP_TYPE_HASH || m->type == BPF_MAP_TYPE_LRU_HASH);
	if (m->fail_cnt && m->fail_cnt--)
		return m->fail_with;
	struct host_elem **at = host_map_link(m, key), *old = *at;
	if (old && flags == BPF_NOEXIST)
		return -EEXIST;
	if (!old && flags == BPF_EXIST)
		return -ENOENT;
	if (!old && m->n >= m->max)
		return -E2BIG;
	host_elem_add(m, at, key, value);
	if (old)
		host_elem_drop(m, &(*at)->next);
	return 0;
}

static inline long host_map_delete(struct host_map *m, const void *key)
{
	host_point();
	struct host_elem **at = host_map_link(m, key);

	if (!*at)
		return -ENOENT;
	host_elem_drop(m, at);
	return 0;
}

/* Iterates: NULL gives the first, the last gives NULL. */
static inline struct host_elem *host_map_next(struct host_map *m, const struct host_elem *e)
{
	if (e && e->next)
		return e->next;
	for (uint32_t i = e ? e->bucket + 1 : 0; i < HOST_BUCKETS; i++)
		if (m->bucket[i])
			return m->bucket[i];
	return NULL;
}

#define bpf_map_lookup_elem(m, k) host_map_lookup(host_map_of(m), (k))
#define bpf_map_update_elem(m, k, v, update_flags) host_map_update(host_map_of(m), (k), (v), (update_flags))
#define bpf_map_delete_elem(m, k) host_map_delete(host_map_of(m), (k))

static inline void *host_storage_get(const void *id, size_t value_bytes, struct task_struct *task, uint64_t flags)
{
	struct host_map *m = host_map_find(id, BPF_MAP_TYPE_TASK_STORAGE, sizeof(task), value_bytes, UINT32_MAX);

	host_point();
	struct host_elem **at = host_map_link(m, &task);
	if (*at)
		return (*at)->value;
	if (!(flags & BPF_LOCAL_STORAGE_GET_F_CREATE) || host.no_task_storage)
		return NULL;
	return host_elem_add(m, at, &task, NULL);
}

#define bpf_task_storage_get(m, task, init, get_flags) \
	((__typeof__((m)->value))host_storage_get((m), sizeof(*(m)->value), (task), (get_flags)))

/* What the kernel does when a task goes. */
#define host_storage_drop(m, task) host_storage_drop_of((m), sizeof(*(m)->value), (task))

static inline void host_storage_drop_of(const void *id, size_t value_bytes, struct task_struct *task)
{
	struct host_map *m = host_map_find(id, BPF_MAP_TYPE_TASK_STORAGE, sizeof(task), value_bytes, UINT32_MAX);
	struct host_elem **at = host_map_link(m, &task);

	if (*at)
		host_elem_drop(m, at);
}

/* --- the ring: records in the order of their reservation --- */
static inline void *host_ring_reserve(size_t bytes)
{
	host_point();
	if (host.ring_full)
		return NULL;
	struct host_record *r = malloc(sizeof(*r) + bytes);

	assert(r);
	*r = (struct host_record){ .bytes = bytes };
	memset(r->data, 0xa5, bytes);
	if (!host.ring)
		host.ring_end = &host.ring;
	*host.ring_end = r;
	host.ring_end = &r->next;
	return r->data;
}

static inline void host_ring_submit(void *data, uint64_t flags)
{
	struct host_record *r = (struct host_record *)((char *)data - offsetof(struct host_record, data));

	host_point();
	assert(!r->submitted);
	r->submitted = true;
	r->flags = flags;
}

#define bpf_ringbuf_reserve(ring, bytes, reserve_flags) host_ring_reserve(bytes)
#define bpf_ringbuf_submit(data, submit_flags) host_ring_submit((data), (submit_flags))
#define bpf_ringbuf_query(ring, what) (host.ring_avail)

/* --- memory --- */
static inline void host_map_region(struct mm_struct *mm, uint64_t base, uint64_t bytes)
{
	assert(mm->n_regions < HOST_REGIONS);
	struct host_region *r = &mm->regions[mm->n_regions++];

	*r = (struct host_region){ .base = base, .bytes = bytes, .image = calloc(1, bytes) };
	assert(r->image);
}

static inline void host_unmap_region(struct mm_struct *mm, uint64_t base)
{
	for (int i = 0; i < mm->n_regions; i++) {
		if (mm->regions[i].base != base)
			continue;
		free(mm->regions[i].image);
		mm->regions[i] = mm->regions[--mm->n_regions];
		return;
	}
}

/* The bytes at an address of the target; NULL: not mapped, or not up to the end. */
static inline void *host_at(const struct mm_struct *mm, uint64_t addr, uint64_t bytes)
{
	for (int i = 0; mm && i < mm->n_regions; i++) {
		const struct host_region *r = &mm->regions[i];
		if (addr >= r->base && bytes <= r->bytes && addr - r->base <= r->bytes - bytes)
			return r->image + (addr - r->base);
	}
	return NULL;
}

/* kernel/trace/bpf_trace.c: what could not be read is zeroed. */
static inline long bpf_probe_read_user(void *dst, uint32_t bytes, const void *from)
{
	host_point();
	if (host.read_user) {
		bool ok = host.read_user(dst, (uint64_t)(uintptr_t)from, bytes);
		if (!ok)
			memset(dst, 0, bytes);
		return ok ? 0 : -EFAULT;
	}
	const void *src = host_at(host_task->mm, (uint64_t)(uintptr_t)from, bytes);

	if (src)
		memcpy(dst, src, bytes);
	else
		memset(dst, 0, bytes);
	return src ? 0 : -EFAULT;
}

static inline long bpf_probe_read_kernel(void *dst, uint32_t bytes, const void *from)
{
	memcpy(dst, from, bytes);
	return 0;
}

#define bpf_core_field_exists(field) ((void)sizeof(field), 1)

/* Reading through a NULL pointer gives 0, as a kernel read that faults does. */
#define HOST_READ_1(src, a) \
	({ \
		__typeof__((src)->a) host_v1 = { 0 }; \
		__typeof__(&*(src)) host_p1 = (src); \
		if (host_p1) \
			host_v1 = host_p1->a; \
		host_v1; \
	})
#define HOST_READ_2(src, a, b) \
	({ \
		__typeof__((src)->a->b) host_v2 = { 0 }; \
		__typeof__((src)->a) host_p2 = HOST_READ_1(src, a); \
		if (host_p2) \
			host_v2 = host_p2->b; \
		host_v2; \
	})
#define HOST_READ_3(src, a, b, c) \
	({ \
		__typeof__((src)->a->b->c) host_v3 = { 0 }; \
		__typeof__((src)->a->b) host_p3 = HOST_READ_2(src, a, b); \
		if (host_p3) \
			host_v3 = host_p3->c; \
		host_v3; \
	})
#define HOST_READ_NAME(a, b, c, name, ...) name
#define BPF_CORE_READ(src, ...) HOST_READ_NAME(__VA_ARGS__, HOST_READ_3, HOST_READ_2, HOST_READ_1, )(src, __VA_ARGS__)

/* --- the current task --- */
static inline uint64_t bpf_get_current_pid_tgid(void)
{
	return (uint64_t)(uint32_t)host_task->tgid << 32 | (uint32_t)host_task->pid;
}

static inline uint64_t bpf_get_current_task(void)
{
	return (uint64_t)(uintptr_t)host_task;
}

static inline struct task_struct *bpf_get_current_task_btf(void)
{
	return host_task;
}

static inline long bpf_task_pt_regs(struct task_struct *task)
{
	return (long)(intptr_t)task->user_regs;
}

static inline uint64_t bpf_get_current_ancestor_cgroup_id(int level)
{
	return level >= 0 && level < 4 ? host_task->cgroups[level] : 0;
}

static inline long bpf_get_current_comm(void *dst, uint32_t bytes)
{
	assert(bytes);
	memset(dst, 0, bytes);
	snprintf(dst, bytes, "task-%d", host_task->pid);
	return 0;
}

static inline uint32_t bpf_get_smp_processor_id(void)
{
	return host_cpu;
}

static inline uint64_t bpf_jiffies64(void)
{
	return host.jiffies;
}

static inline uint64_t bpf_ktime_get_ns(void)
{
	return ++host.now_ns;
}

/* Deterministic: xorshift. */
static inline uint32_t bpf_get_prandom_u32(void)
{
	host.random = host.random ? host.random : 2463534242u;
	host.random ^= host.random << 13;
	host.random ^= host.random >> 17;
	host.random ^= host.random << 5;
	return host.random;
}

/* --- for tests --- */
/* Read-only data of the programs (`cfg`) is written by user space before they are loaded: so it is here. */
static inline void host_write_const(const volatile void *object, const void *from, size_t bytes)
{
	uintptr_t at = (uintptr_t)object;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	barrier_var(at); /* else the compiler knows it for a constant's address and drops the writes */
	uintptr_t first = at & ~(page - 1), end = (at + bytes + page - 1) & ~(page - 1);
	if (mprotect((void *)first, end - first, PROT_READ | PROT_WRITE))
		abort();
	memcpy((void *)at, from, bytes);
}

/* Empties all maps and the ring. */
static inline void host_done(void)
{
	for (int i = 0; i < host.n_maps; i++) {
		for (uint32_t b = 0; b < HOST_BUCKETS; b++)
			while (host.maps[i]->bucket[b])
				host_elem_drop(host.maps[i], &host.maps[i]->bucket[b]);
		free(host.maps[i]);
	}
	for (struct host_record *next, *r = host.ring; r; r = next) {
		next = r->next;
		free(r);
	}
	host = (struct host){ 0 };
}

/* The programs bring their own name for this one. */
#undef PROT_EXEC

#endif
