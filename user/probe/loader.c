/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe/loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "probe/faults.h"
#include "probe/link.h"
#include "probe/maplock.h"
#include "probe/sample_tables.h"
#include "sampling.h"
#include "tidemark.skel.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/mem.h"

/* kernel/bpf/hashtab.c: struct htab_elem is 48 bytes before the key; a bucket is 16. */
#define HASH_ELEM_BYTES 48
#define HASH_BUCKET_BYTES 16

#define MAP_LINKS_MAX 8
#define LOG_LINES 40
#define HITS_BYTES (32u << 20) /* of the tests' oracle: some 2,000 hits */

struct loader {
	struct tidemark_bpf *skel;
	struct features features;
	struct bpf_link *life[3];
	int map_links[MAP_LINKS_MAX]; /* of system calls */
	int n_map_links;
	struct bpf_link *lock_links[MAPLOCK_NR]; /* the other way to see them */
	struct faults *faults;			 /* NULL: not attached */
	/* The tables that both sides map, and how many bytes of each. */
	struct table {
		void *at;
		size_t bytes;
	} tables[KMAP_NR];
	size_t row_blocks; /* made so far */
};

/* The verifier's log comes as one message of thousands of lines; why it refused stands in the last ones. */
static void log_last_lines(char *text)
{
	char *from = text + strlen(text), *rest = NULL;

	for (int n = 0; from > text && n <= LOG_LINES; from--)
		n += from[-1] == '\n';
	for (char *line = strtok_r(from, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		log_debug("%s", line);
}

static int log_quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char *text;

	if (!getenv("TIDEMARK_DEBUG") || level == LIBBPF_DEBUG || vasprintf(&text, fmt, ap) < 0)
		return 0;
	log_last_lines(text);
	free(text);
	return 0;
}

static uint64_t round_up_pow2(uint64_t n)
{
	uint64_t p = 1;

	while (p < n)
		p *= 2;
	return p;
}

/* The coarse clocks step once per tick (kernel/time/posix-timers.c). */
static uint32_t tick_us(void)
{
	struct timespec res = { .tv_nsec = 4000000 };

	(void)clock_getres(CLOCK_MONOTONIC_COARSE, &res); /* can't fail for a clock that every kernel has */
	return (uint32_t)(res.tv_nsec / 1000);
}

static uint32_t scratch_slots(void)
{
	uint32_t want = (uint32_t)libbpf_num_possible_cpus() * SCRATCH_PER_CPU, slots = SCRATCH_PER_CPU;

	while (slots < want)
		slots *= 2;
	return slots;
}

/*
 * From 6.1 on maps have an allocator that tracing programs may use at any moment (kernel/bpf/memalloc.c): tables of stacks take memory as they fill, and may
 * be as large as programs need that import a lot. Before, they have the size that the object says, all of it allocated at the start.
 */
#define ALLOC_SAFE_VERSION ((6u << 16) | (1u << 8))
#define STACKS_MAX 131072
#define CHAINS_MAX 65536

static void grow_on_demand(struct bpf_map *m, uint32_t max)
{
	(void)bpf_map__set_map_flags(m, BPF_F_NO_PREALLOC); /* these only fail after load */
	(void)bpf_map__set_max_entries(m, max);
}

static void size_maps(struct tidemark_bpf *s, const struct loader_opts *o, struct config *cfg)
{
	uint32_t buckets = bpf_map__max_entries(s->maps.live);

	cfg->tick_us = tick_us();
	cfg->scratch_slots = scratch_slots();
	if (o->live_max)
		buckets = o->live_max < LIVE_WAYS ? 1 : o->live_max / LIVE_WAYS;
	(void)bpf_map__set_max_entries(s->maps.live, buckets); /* these only fail after load */
	(void)bpf_map__set_max_entries(s->maps.scratches, cfg->scratch_slots);
	cfg->live_buckets = buckets;
	cfg->sum_mask = bpf_map__max_entries(s->maps.sums) - 1;
	if (o->features.version >= ALLOC_SAFE_VERSION) {
		grow_on_demand(s->maps.more_stacks, STACKS_MAX);
		grow_on_demand(s->maps.more_chains, CHAINS_MAX);
	}
	if (o->cfg.record_hits)
		(void)bpf_map__set_max_entries(s->maps.hits, HITS_BYTES);
}

static struct bpf_map *map_of(const struct loader *l, enum kernel_map m)
{
	struct bpf_map *maps[] = {
#define X(id, name) [KMAP_##id] = l->skel->maps.name,
		for_each_kernel_map(X)
#undef X
	};
	return maps[m];
}

static size_t page_align(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

static int map_table(struct loader *l, enum kernel_map id)
{
	const struct bpf_map *m = map_of(l, id);
	size_t bytes = page_align((size_t)bpf_map__max_entries(m) * bpf_map__value_size(m));
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(m), 0);

	if (at == MAP_FAILED)
		return -errno;
	l->tables[id] = (struct table){ at, bytes };
	return 0;
}

static int map_tables(struct loader *l)
{
	static const enum kernel_map tables[] = { KMAP_PROCS, KMAP_PYTHONS, KMAP_PAGES, KMAP_RULES, KMAP_RANGES };
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tables) && !err; i++)
		err = map_table(l, tables[i]);
	return err;
}

/* Mapping calls are seen at the lock, if the kernel can: without sampling every call is to be seen as it is. */
static void choose_map_programs(struct tidemark_bpf *s, const struct features *f, bool sampled)
{
	uint32_t write_arg = sampled ? maplock_write_arg(f->version) : 0;

	if (write_arg)
		s->rodata->lock_write_arg = write_arg;
	bpf_program__set_autoload(s->progs.on_lock_taken, write_arg != 0);
	bpf_program__set_autoload(s->progs.on_area_found, write_arg != 0);
	bpf_program__set_autoload(s->progs.on_lock_released, write_arg != 0);
	bpf_program__set_autoload(s->progs.on_map_enter, !write_arg);
	bpf_program__set_autoload(s->progs.on_map_exit, !write_arg);
	bpf_program__set_autoload(s->progs.on_madvise, !write_arg);
}

/* A program that this kernel can't attach is not loaded at all: its helpers may not exist either. */
static void choose_programs(struct tidemark_bpf *s, const struct features *f)
{
	struct bpf_program *entries[] = { s->progs.on_alloc_enter, s->progs.on_alloc_exit, s->progs.on_free_enter,
					  s->progs.on_wrap_enter, s->progs.on_code_freed };

	bool faults = libbpf_find_vmlinux_btf_id("page_fault_user", BPF_TRACE_RAW_TP) > 0;

	bpf_program__set_autoload(s->progs.on_user_fault, faults);
	bpf_program__set_autoload(s->progs.on_kernel_fault, faults);
	bpf_program__set_autoload(s->progs.on_alloc_session, f->session);
	bpf_program__set_autoload(s->progs.on_alloc_enter, !f->session);
	bpf_program__set_autoload(s->progs.on_alloc_exit, !f->session);
	if (f->session)
		bpf_program__set_expected_attach_type(s->progs.on_alloc_session,
						      (enum bpf_attach_type)ATTACH_UPROBE_SESSION);
	for (size_t i = 0; f->multi && i < ARRAY_SIZE(entries); i++)
		bpf_program__set_expected_attach_type(entries[i], (enum bpf_attach_type)ATTACH_UPROBE_MULTI);
}

static int check_features(const struct features *f, char **ret_why)
{
	if (!f->cookies) {
		*ret_why = xasprintf("kernel %u.%u is too old: Linux 5.15 or newer is needed", f->version >> 16,
				     f->version >> 8 & 255);
		return -ENOTSUP;
	}
	if (!f->btf) {
		*ret_why = xstrdup("this kernel has no type information (/sys/kernel/btf/vmlinux): one built with "
				   "CONFIG_DEBUG_INFO_BTF is needed");
		return -ENOTSUP;
	}
	return 0;
}

static void loader_freep(struct loader **l)
{
	loader_free(*l);
}

int loader_open(const struct loader_opts *o, struct loader **ret, char **ret_why)
{
	int err = check_features(&o->features, ret_why);

	if (err)
		return err;
	libbpf_set_print(log_quiet);
	_cleanup_(loader_freep) struct loader *l = xcalloc(1, sizeof(*l));
	l->features = o->features;
	l->skel = tidemark_bpf__open();
	if (!l->skel) {
		*ret_why = xasprintf("the BPF object can't be opened: %s", strerror(errno));
		return -errno;
	}
	struct config cfg = o->cfg;
	size_maps(l->skel, o, &cfg);
	memcpy((void *)&l->skel->rodata->cfg, &cfg, sizeof(cfg));
	struct sampling_tables tables;
	sampling_tables_fill(&tables);
	memcpy((void *)&l->skel->rodata->sampling, &tables, sizeof(tables));
	choose_programs(l->skel, &o->features);
	choose_map_programs(l->skel, &o->features, cfg.rate != 0);
	err = tidemark_bpf__load(l->skel);
	if (err) {
		*ret_why = xasprintf("the kernel refused the BPF programs: %s (TIDEMARK_DEBUG=1 shows its reasons)",
				     strerror(-err));
		return err;
	}
	err = map_tables(l);
	if (err) {
		*ret_why = xasprintf("the kernel's tables can't be mapped: %s", strerror(-err));
		return err;
	}
	*ret = l;
	l = NULL;
	return 0;
}

void loader_free(struct loader *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(l->life); i++)
		if (l->life[i])
			(void)bpf_link__destroy(l->life[i]); /* closes a descriptor: can't fail usefully */
	for (int i = 0; i < l->n_map_links; i++)
		(void)close(l->map_links[i]);
	for (size_t i = 0; i < MAPLOCK_NR; i++)
		if (l->lock_links[i])
			(void)bpf_link__destroy(l->lock_links[i]);
	faults_detach(l->faults);
	for (size_t i = 0; i < KMAP_NR; i++)
		if (l->tables[i].at)
			(void)munmap(l->tables[i].at, l->tables[i].bytes);
	tidemark_bpf__destroy(l->skel);
	free(l);
}

static int attach_life(struct loader *l)
{
	struct bpf_program *progs[] = { l->skel->progs.on_fork, l->skel->progs.on_exec, l->skel->progs.on_exit };

	for (size_t i = 0; i < ARRAY_SIZE(progs); i++) {
		l->life[i] = bpf_program__attach(progs[i]);
		if (!l->life[i])
			return -errno;
	}
	return 0;
}

static int attach_locks(struct loader *l)
{
	struct bpf_program *progs[MAPLOCK_NR] = { [MAPLOCK_RELEASED] = l->skel->progs.on_lock_released,
						  [MAPLOCK_AREA] = l->skel->progs.on_area_found,
						  [MAPLOCK_TAKEN] = l->skel->progs.on_lock_taken };

	for (size_t i = 0; i < MAPLOCK_NR; i++) {
		l->lock_links[i] = bpf_program__attach_raw_tracepoint(progs[i],
								      maplock_point_name((enum maplock_point)i));
		if (!l->lock_links[i])
			return -errno;
	}
	return 0;
}

static int attach_calls(struct loader *l)
{
	static const char *const calls[] = { "mmap", "munmap", "mremap", "brk" };
	struct bpf_program *progs[] = { l->skel->progs.on_map_exit, l->skel->progs.on_map_enter };
	static const char *const sides[] = { "exit", "enter" };

	/* Exits first: an entry whose exit is not seen would stay announced. */
	for (size_t side = 0; side < 2; side++)
		for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
			_cleanup_(freep) char *event = xasprintf("syscalls/sys_%s_%s", sides[side], calls[i]);
			int fd = link_create_tracepoint(bpf_program__fd(progs[side]), event);
			if (fd < 0)
				return fd;
			l->map_links[l->n_map_links++] = fd;
		}
	return 0;
}

int loader_attach_tracepoints(struct loader *l, int with_maps)
{
	int err = attach_life(l);

	if (err || !with_maps)
		return err;
	return bpf_program__autoload(l->skel->progs.on_lock_taken) ? attach_locks(l) : attach_calls(l);
}

bool loader_sees_madvise(const struct loader *l)
{
	return bpf_program__autoload(l->skel->progs.on_madvise);
}

int loader_attach_pages(struct loader *l, uint32_t every)
{
	struct tidemark_bpf *s = l->skel;
	struct faults_side side = {
		.begins = { s->progs.on_user_fault, s->progs.on_kernel_fault },
		.end_prog = bpf_program__fd(s->progs.on_faulted),
		.madvise_prog = loader_sees_madvise(l) ? bpf_program__fd(s->progs.on_madvise) : -1,
		.ask_prog = bpf_program__fd(s->progs.on_paging),
		.paging = &s->bss->paging,
		.answer = &s->bss->paging_answer,
	};

	return bpf_program__autoload(side.begins[0]) ? faults_attach(&side, every, &l->faults) : -ENOTSUP;
}

int loader_map_fd(const struct loader *l, enum kernel_map m)
{
	return bpf_map__fd(map_of(l, m));
}

int loader_prog_fd(const struct loader *l, enum call_prog p)
{
	struct bpf_program *progs[] = {
#define X(id, name) [CALL_##id] = l->skel->progs.name,
		for_each_call_prog(X)
#undef X
	};
	return bpf_program__autoload(progs[p]) ? bpf_program__fd(progs[p]) : -1;
}

const struct features *loader_features(const struct loader *l)
{
	return &l->features;
}

void loader_set_scope(struct loader *l, enum probe_scope scope)
{
	__atomic_store_n(&l->skel->bss->scope, (uint32_t)scope, __ATOMIC_SEQ_CST);
}

void loader_switch_scope(struct loader *l)
{
	__atomic_store_n(&l->skel->bss->scope, scope_switched(l->skel->bss->scope), __ATOMIC_SEQ_CST);
}

void loader_settle_scope(struct loader *l)
{
	__atomic_fetch_and(&l->skel->bss->scope, ~SCOPE_BOTH, __ATOMIC_SEQ_CST);
}

uint32_t loader_new_image(struct loader *l)
{
	return __sync_fetch_and_add(&l->skel->bss->next_image, 1);
}

struct proc *loader_procs(const struct loader *l)
{
	return l->tables[KMAP_PROCS].at;
}

__u64 *loader_live_filter(const struct loader *l)
{
	return l->skel->bss->live_filter;
}

struct sums_table loader_sums(const struct loader *l)
{
	return (struct sums_table){ loader_map_fd(l, KMAP_SUMS), (uint64_t *)l->skel->bss->sum_marks };
}

struct python_info *loader_pythons(const struct loader *l)
{
	return l->tables[KMAP_PYTHONS].at;
}

/* The kernel keeps the block through the outer map; our descriptor of it is needed no more. */
static struct row_block *block_new(void *ctx, uint32_t i)
{
	struct loader *l = ctx;
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "rows", sizeof(uint32_t), sizeof(struct row_block), 1, &opts);

	if (fd < 0)
		return NULL;
	void *at = mmap(NULL, page_align(sizeof(struct row_block)), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int err = at == MAP_FAILED ? -errno : bpf_map_update_elem(bpf_map__fd(l->skel->maps.row_blocks), &i, &fd, 0);
	(void)close(fd); /* held by the outer map, or of no use */
	if (err && at != MAP_FAILED)
		(void)munmap(at, page_align(sizeof(struct row_block)));
	l->row_blocks += !err;
	return err ? NULL : at;
}

static void block_done(void *ctx, struct row_block *b)
{
	(void)ctx;
	(void)munmap(b, page_align(sizeof(*b)));
}

struct unwind_area loader_unwind_area(struct loader *l)
{
	return (struct unwind_area){
		.pages = l->tables[KMAP_PAGES].at,
		.rules = l->tables[KMAP_RULES].at,
		.ranges = l->tables[KMAP_RANGES].at,
		.block_new = block_new,
		.block_done = block_done,
		.ctx = l,
	};
}

/* What the kernel says that a map takes now; 0: it does not. */
static uint64_t memory_now(const struct bpf_map *m)
{
	char path[64], text[1024];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", bpf_map__fd(m));
	if (fs_read_into(path, text, sizeof(text)) <= 0)
		return 0;
	const char *at = strstr(text, "memlock:");
	return at ? strtoull(at + strlen("memlock:"), NULL, 10) : 0;
}

static uint64_t map_bytes(const struct bpf_map *m)
{
	uint64_t n = bpf_map__max_entries(m);
	uint64_t key = (bpf_map__key_size(m) + 7) & ~7ull, value = (bpf_map__value_size(m) + 7) & ~7ull;
	uint64_t elem = HASH_ELEM_BYTES + key + value;

	switch (bpf_map__type(m)) {
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_HASH:
		if (bpf_map__map_flags(m) & BPF_F_NO_PREALLOC)
			return memory_now(m);
		return n * elem + round_up_pow2(n) * HASH_BUCKET_BYTES;
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return n * value * (uint64_t)libbpf_num_possible_cpus();
	case BPF_MAP_TYPE_RINGBUF:
		return n;
	default:
		return n * value;
	}
}

struct kernel_map_info loader_map_info(const struct loader *l, enum kernel_map m)
{
	const struct bpf_map *map = map_of(l, m);
	struct kernel_map_info info = {
		.name = bpf_map__name(map),
		.capacity = bpf_map__max_entries(map),
		.bytes = map_bytes(map),
	};

	if (m == KMAP_ROW_BLOCKS)
		info.bytes += l->row_blocks * sizeof(struct row_block);
	return info;
}
