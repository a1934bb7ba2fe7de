/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small machine for the programs to run on: processes, threads with a real stack image, functions of an allocator,
 * and what the kernel does around a probe: entry, hijacked return address, trampoline, fork, exec, exit. Included after
 * the BPF headers.
 *
 * Return probes follow kernel/events/uprobes.c (6.18) and arch/x86/kernel/uprobes.c: prepare_uretprobe,
 * cleanup_return_instances, uprobe_handle_trampoline, arch_uretprobe_is_alive.
 */
#ifndef TIDEMARK_HOST_WORLD_H
#define TIDEMARK_HOST_WORLD_H

#define LIBC_TEXT 0x7f0000010000ull
#define LIBC_END 0x7f0000100000ull
#define CXX_TEXT 0x7f1000000000ull
#define CXX_END 0x7f1000010000ull
#define PROG_TEXT 0x400000ull
#define PROG_END 0x500000ull
#define HEAP_BASE 0x10000000ull
#define STACKS_BASE 0x7f8000000000ull
#define STACK_SPACING 0x100000ull
#define STACK_BYTES 65536ull
#define TRAMPOLINE 0x7fffffffe000ull
#define RETURN_DEPTH 64 /* MAX_URETPROBE_DEPTH */

enum fn_kind { FN_ALLOC, FN_FREE, FN_WRAP };

struct fn {
	const char *name;
	uint64_t ip; /* probed instruction */
	enum fn_kind kind;
	struct call_cookie cookie;
};

/* Behind a function's probed instruction, inside it: where its own calls return to. */
#define INSIDE(f) ((f).ip + 0x20)
#define WRAP_BYTES 0x40

#define LIBC_FN(nr) (LIBC_TEXT + 0x8000 + (nr)*0x100)
#define NEAR 0x0f01 /* extent: libc's text from its begin to its end */
#define ALLOC_FN(nr, fn_name, shape_of, ptr, size, count) \
	{ \
		fn_name, LIBC_FN(nr), FN_ALLOC, \
		{ \
			.layer = LAYER_HEAP, .shape = shape_of, .ptr_reg = ptr, .size_reg = size, .count_reg = count, \
			.may_nest = (shape_of) != SHAPE_SIZE_TO_PTR, .site = SITE_FIRST_PROBE + (nr), .extent = NEAR \
		} \
	}
#define FREE_FN(nr, fn_name, shape_of) \
	{ \
		fn_name, LIBC_FN(nr), FN_FREE, \
		{ \
			.layer = LAYER_HEAP, .shape = shape_of, .ptr_reg = REG_DI, .size_reg = REG_NONE, \
			.count_reg = REG_NONE, .slot_words = 1, .site = SITE_FIRST_PROBE + (nr), .extent = NEAR \
		} \
	}
#define WRAP_FN(nr, fn_name) \
	{ \
		fn_name, CXX_TEXT + (nr)*0x100, FN_WRAP, \
		{ \
			.layer = LAYER_HEAP, .shape = SHAPE_WRAP, .ptr_reg = REG_NONE, .size_reg = REG_DI, \
			.count_reg = REG_NONE, .site = SITE_FIRST_PROBE + (nr), .extent = WRAP_BYTES \
		} \
	}

static const struct fn fn_malloc = ALLOC_FN(0, "malloc", SHAPE_SIZE_TO_PTR, REG_NONE, REG_DI, REG_NONE);
static const struct fn fn_calloc = ALLOC_FN(1, "calloc", SHAPE_N_SIZE_TO_PTR, REG_NONE, REG_SI, REG_DI);
static const struct fn fn_realloc = ALLOC_FN(2, "realloc", SHAPE_PTR_SIZE_TO_PTR, REG_DI, REG_SI, REG_NONE);
static const struct fn fn_reallocarray = ALLOC_FN(3, "reallocarray", SHAPE_PTR_N_SIZE_TO_PTR, REG_DI, REG_DX, REG_SI);
static const struct fn fn_memalign = ALLOC_FN(4, "memalign", SHAPE_ALIGN_SIZE_TO_PTR, REG_NONE, REG_SI, REG_NONE);
static const struct fn fn_posix_memalign = ALLOC_FN(5, "posix_memalign", SHAPE_OUT_ALIGN_SIZE_TO_INT, REG_DI, REG_DX,
						    REG_NONE);
static const struct fn fn_free = FREE_FN(6, "free", SHAPE_PTR_TO_VOID);
static const struct fn fn_free_sized = FREE_FN(7, "free_sized", SHAPE_PTR_SIZE_TO_VOID);
static const struct fn fn_new = WRAP_FN(8, "operator new");
static const struct fn fn_new_array = WRAP_FN(9, "operator new[]");
static const struct fn fn_new_nothrow = WRAP_FN(10, "operator new[](nothrow)");

/* operator new of an allocator that has its own: it allocates, and it may throw. */
static const struct fn fn_own_new = { "operator new",
				      LIBC_FN(11),
				      FN_ALLOC,
				      { .layer = LAYER_HEAP,
					.shape = SHAPE_SIZE_TO_PTR,
					.ptr_reg = REG_NONE,
					.size_reg = REG_DI,
					.count_reg = REG_NONE,
					.may_throw = 1,
					.site = SITE_FIRST_PROBE + 11,
					.extent = NEAR } };

struct process {
	uint32_t pid;
	struct mm_struct *mm;
	struct xol_area xol;
	struct signal_struct signal;
	struct thread *leader;
};

struct thread {
	struct task_struct task;
	struct process *process;
	struct pt_regs user_regs;
	uint64_t sp, bp, ip;
	struct return_instance ri[RETURN_DEPTH]; /* outermost first */
	struct uprobe_task utask;
	int n_ri;
};

#define WORLD_MAX 512

struct world {
	bool sessions; /* uprobe.session; else pairs of probes, whose returns always come */
	struct process *processes[WORLD_MAX];
	struct thread *threads[WORLD_MAX];
	struct mm_struct *mms[WORLD_MAX];
	int n_processes, n_threads, n_mms;
	uint32_t next_pid, live_buckets, sum_places;
	uint64_t layout; /* of all processes: the same program and libraries at the same addresses */
};

static struct world world;

#include "probe/sample_tables.h"
#include "text.h"

/* The list of awaited returns as the kernel has it. */
static inline void ri_link(struct thread *th)
{
	for (int i = 0; i < th->n_ri; i++)
		th->ri[i].next = i ? &th->ri[i - 1] : NULL;
	th->utask.return_instances = th->n_ri ? &th->ri[th->n_ri - 1] : NULL;
}

/* --- birth and death --- */
static inline struct mm_struct *mm_new(const struct mm_struct *from)
{
	struct mm_struct *mm = calloc(1, sizeof(*mm));

	assert(mm && world.n_mms < WORLD_MAX);
	for (int i = 0; from && i < from->n_regions; i++) {
		const struct host_region *r = &from->regions[i];
		host_map_region(mm, r->base, r->bytes);
		memcpy(mm->regions[i].image, r->image, r->bytes);
	}
	return world.mms[world.n_mms++] = mm;
}

static inline uint64_t stack_top(const struct thread *th)
{
	return STACKS_BASE + (uint64_t)th->task.pid * STACK_SPACING + STACK_BYTES;
}

static inline struct thread *thread_alloc(struct process *p)
{
	struct thread *th = calloc(1, sizeof(*th));

	assert(th && world.n_threads < WORLD_MAX);
	th->process = p;
	th->task.pid = (int)world.next_pid++;
	th->task.tgid = (int)p->pid;
	th->task.mm = p->mm;
	th->task.signal = &p->signal;
	th->task.user_regs = &th->user_regs;
	th->task.utask = &th->utask;
	th->task.start_boottime = (1000 + (uint64_t)th->task.pid) * NS_PER_TICK + 5;
	p->signal.live.counter++;
	return world.threads[world.n_threads++] = th;
}

static inline void frame_enter(struct thread *th, uint64_t ret);

/* The thread's first function has a frame; what called it is nothing. */
static inline void thread_stack(struct thread *th)
{
	host_map_region(th->task.mm, stack_top(th) - STACK_BYTES, STACK_BYTES);
	th->sp = stack_top(th) - 48;
	th->bp = 0;
	frame_enter(th, 0);
}

static inline struct process *process_alloc(struct mm_struct *mm)
{
	struct process *p = calloc(1, sizeof(*p));

	assert(p && world.n_processes < WORLD_MAX);
	p->mm = mm;
	p->pid = world.next_pid;
	p->leader = thread_alloc(p);
	p->leader->task.group_leader = &p->leader->task;
	return world.processes[world.n_processes++] = p;
}

static inline struct process *process_new(void)
{
	struct process *p = process_alloc(mm_new(NULL));

	thread_stack(p->leader);
	p->leader->task.real_parent = &p->leader->task;
	return p;
}

/* What user space does when it begins to follow a process. */
static inline void process_follow(struct process *p, uint32_t flags)
{
	struct proc_birth b = { .flags = flags };

	b.id.start_ticks = start_ticks_of(&p->leader->task);
	b.id.pid = p->pid;
	b.id.image = __sync_fetch_and_add(&next_image, 1);
	b.layout = world.layout;
	assert(proc_enter(p->pid, &b));
}

static inline struct thread *thread_new(struct process *p)
{
	struct thread *th = thread_alloc(p);

	th->task.group_leader = &p->leader->task;
	th->task.real_parent = p->leader->task.real_parent;
	thread_stack(th);
	return th;
}

/* The task whose code or system call runs now. */
static inline void be(struct thread *th)
{
	host_task = &th->task;
}

/* As on_fork. A child of vfork shares the memory, and runs on the parent's stack until it execs. */
static inline struct process *process_fork(struct thread *th, bool shares_mm)
{
	struct process *child = process_alloc(shares_mm ? th->task.mm : mm_new(th->task.mm));
	struct thread *c = child->leader;

	c->task.real_parent = th->task.group_leader;
	memcpy(c->task.cgroups, th->task.cgroups, sizeof(c->task.cgroups));
	c->sp = th->sp;
	c->bp = th->bp;
	be(th);
	proc_born(&th->task, &c->task);
	return child;
}

/* What user space does when it has looked at a process's mappings. */
static inline void process_know(struct process *p)
{
	uint32_t slot = proc_find(p->pid);

	if (slot != NO_SLOT)
		proc_at(slot)->layout = world.layout;
}

/* As on_exec: the other threads are gone, the memory is new. */
static inline void process_exec(struct thread *th)
{
	th->process->mm = th->task.mm = mm_new(NULL);
	th->n_ri = 0;
	ri_link(th);
	thread_stack(th);
	be(th);
	thread_gone(&th->task);
	proc_exec(&th->task);
	process_know(th->process);
}

/* As on_exit. */
static inline void thread_exit(struct thread *th)
{
	be(th);
	th->process->signal.live.counter--;
	thread_gone(&th->task);
	if (!th->process->signal.live.counter)
		proc_gone(&th->task);
	host_storage_drop(&threads, &th->task);
	host_unmap_region(th->task.mm, stack_top(th) - STACK_BYTES);
}

static inline void world_done(void)
{
	for (int i = 0; i < world.n_threads; i++)
		free(world.threads[i]);
	for (int i = 0; i < world.n_processes; i++)
		free(world.processes[i]);
	for (int i = 0; i < world.n_mms; i++) {
		for (int k = 0; k < world.mms[i]->n_regions; k++)
			free(world.mms[i]->regions[k].image);
		free(world.mms[i]);
	}
	world = (struct world){ 0 };
	host_done();
}

/* Stacks that were there lately. */
static inline void forget_stacks(void)
{
	for (uint32_t i = 0; i < REMEMBERED; i++)
		((struct remembered *)bpf_map_lookup_elem(&seen_stacks, &i))->layout = 0;
}

/* What is not set gets the sizes of this world. */
static inline void config_set(struct config settings)
{
	settings.scratch_slots = SCRATCH_PER_CPU * HOST_CPUS;
	settings.live_buckets = world.live_buckets;
	settings.sum_mask = world.sum_places - 1;
	if (!settings.sample_bytes)
		settings.sample_bytes = SAMPLE_BYTES_DEFAULT;
	host_write_const(&cfg, &settings, sizeof(settings));
	struct sampling_tables tables;
	sampling_tables_fill(&tables);
	host_write_const(&sampling, &tables, sizeof(tables));
	host_map_of(&scratches)->max = settings.scratch_slots;
}

/*
 * The program's functions have frame pointers, set up already wherever they are looked at; the allocator's have no frame but their
 * return address, except where it enters the kernel.
 */
#define SYSCALL_TEXT (LIBC_TEXT + 0x4000)
#define SYSCALL_BYTES 0x100

static inline uint64_t world_text(void)
{
	static const struct unwind_rule framed = {
		.kind = UNWIND_BP, .cfa_off = 16, .bp = UNWIND_BP_AT_CFA, .bp_off = -16
	};
	static const struct unwind_rule bare = { .kind = UNWIND_SP, .cfa_off = 8 };
	const struct text_row prog[] = { { PROG_TEXT, framed } }, cxx[] = { { CXX_TEXT, bare } };
	const struct text_row libc[] = { { LIBC_TEXT, bare },
					 { SYSCALL_TEXT, framed },
					 { SYSCALL_TEXT + SYSCALL_BYTES, bare } };
	const struct text texts[] = {
		{ PROG_TEXT, PROG_END, 0, prog, 1 },
		{ LIBC_TEXT, LIBC_END, LIBC_TEXT, libc, 3 },
		{ CXX_TEXT, CXX_END, CXX_TEXT, cxx, 1 },
	};

	return text_layout(texts, 3);
}

static inline void world_init(bool sessions)
{
	world_done(); /* of a test that failed half way */
	text_tables = (struct text_tables){ 0 };
	world = (struct world){ .sessions = sessions, .next_pid = 100, .live_buckets = 4096, .sum_places = 16384 };
	next_image = 1;
	adopting = 0;
	scope = SCOPE_HOST;
	memset(live_filter, 0, sizeof(live_filter));
	memset(inner_places, 0, sizeof(inner_places));
	memset(found_rows, 0, sizeof(found_rows));
	config_set((struct config){ 0 });
	world.layout = world_text();
}

/* Before anything is booked. A bucket has LIVE_WAYS places. */
static inline void world_shrink(uint32_t live_buckets, uint32_t sum_places)
{
	world.live_buckets = live_buckets;
	world.sum_places = sum_places;
	config_set((struct config){ 0 });
}

/* --- memory and frames --- */
static inline uint64_t peek(struct thread *th, uint64_t addr)
{
	uint64_t v, *at = host_at(th->task.mm, addr, sizeof(v));

	assert(at);
	memcpy(&v, at, sizeof(v));
	return v;
}

static inline void poke(struct thread *th, uint64_t addr, uint64_t v)
{
	void *at = host_at(th->task.mm, addr, sizeof(v));

	assert(at);
	memcpy(at, &v, sizeof(v));
}

static inline void push(struct thread *th, uint64_t v)
{
	th->sp -= 8;
	poke(th, th->sp, v);
}

static inline uint64_t pop(struct thread *th)
{
	th->sp += 8;
	return peek(th, th->sp - 8);
}

/* A function of the program with a frame pointer is called; ret: where it will return to. */
static inline void frame_enter(struct thread *th, uint64_t ret)
{
	push(th, ret);
	push(th, th->bp);
	th->bp = th->sp;
}

static inline void frame_leave(struct thread *th)
{
	th->sp = th->bp;
	th->bp = pop(th);
	(void)pop(th);
}

struct jump {
	uint64_t sp, bp;
};

static inline struct jump jump_save(const struct thread *th)
{
	return (struct jump){ th->sp, th->bp };
}

/* longjmp: nothing is told to the kernel. */
static inline void jump_to(struct thread *th, struct jump j)
{
	th->sp = j.sp;
	th->bp = j.bp;
}

/* --- return probes --- */
static inline void ri_cleanup(struct thread *th, bool chained)
{
	while (th->n_ri) {
		const struct return_instance *ri = &th->ri[th->n_ri - 1];
		if (chained ? th->sp <= ri->stack : th->sp < ri->stack)
			break;
		th->n_ri--;
	}
	ri_link(th);
}

static inline void return_prepare(struct thread *th, const struct fn *f)
{
	uint64_t orig = peek(th, th->sp);
	bool chained = orig == TRAMPOLINE;

	assert(!f->cookie.slot_words); /* the kernel takes what rsp points to for the return address */
	if (th->n_ri >= RETURN_DEPTH)
		return;
	if (!th->task.mm->uprobes_state.xol_area) {
		th->process->xol.vaddr = TRAMPOLINE;
		th->task.mm->uprobes_state.xol_area = &th->process->xol;
	}
	poke(th, th->sp, TRAMPOLINE);
	ri_cleanup(th, chained);
	if (chained) {
		if (!th->n_ri)
			return;
		orig = th->ri[th->n_ri - 1].orig_ret_vaddr;
	}
	th->ri[th->n_ri++] = (struct return_instance){ th->sp, orig, chained, NULL, f };
	ri_link(th);
}

/* The instance behind the chain of tail calls that ends at `top`, as a count of instances. */
static inline int ri_next_chain(const struct thread *th)
{
	int n = th->n_ri;

	while (th->ri[--n].chained)
		;
	return n;
}

static inline uint64_t trampoline_hit(struct thread *th, uint64_t ax)
{
	for (;;) {
		assert(th->n_ri); /* the kernel would kill the process */
		int next = ri_next_chain(th);
		bool valid = !next || th->sp <= th->ri[next - 1].stack;
		uint64_t orig = th->ri[th->n_ri - 1].orig_ret_vaddr;
		while (th->n_ri > next) {
			const struct fn *f = th->ri[--th->n_ri].host_fn;
			struct pt_regs regs = { .ax = ax, .sp = th->sp, .bp = th->bp, .ip = orig };
			if (valid)
				alloc_exit(&regs, &f->cookie);
		}
		ri_link(th);
		if (valid)
			return orig;
	}
}

/* --- calls --- */
struct args {
	uint64_t a[3];
};

#define ARGS(...) ((struct args){ { __VA_ARGS__ } })

/* The function is reached, by a call or by a jump: the probed instruction runs. */
static inline void fn_reach(struct thread *th, const struct fn *f, struct args a)
{
	struct pt_regs regs = { .di = a.a[0], .si = a.a[1], .dx = a.a[2], .ip = f->ip, .bp = th->bp };

	regs.sp = th->sp - f->cookie.slot_words * 8;
	be(th);
	if (f->kind == FN_FREE)
		free_enter(&regs, &f->cookie);
	else if (f->kind == FN_WRAP)
		wrap_enter(&regs, &f->cookie);
	else if (alloc_enter(&regs, &f->cookie) == WANT_RETURN || !world.sessions)
		return_prepare(th, f);
}

static inline void call_begin(struct thread *th, const struct fn *f, uint64_t caller, struct args a)
{
	push(th, caller);
	fn_reach(th, f, a);
}

/* The function entered last (also if that was by a jump) returns. */
static inline void call_end(struct thread *th, uint64_t ax)
{
	be(th);
	th->ip = pop(th);
	if (th->ip == TRAMPOLINE)
		th->ip = trampoline_hit(th, ax);
}

static inline void call(struct thread *th, const struct fn *f, uint64_t caller, struct args a, uint64_t result)
{
	call_begin(th, f, caller, a);
	call_end(th, result);
	assert(th->ip == caller);
}

#endif
