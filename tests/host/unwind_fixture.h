/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process whose code is a row of small functions, one per kind of unwind rule, and hits at chosen registers: for the tests of the
 * unwinder. Included after books.h.
 */
#ifndef TIDEMARK_HOST_UNWIND_FIXTURE_H
#define TIDEMARK_HOST_UNWIND_FIXTURE_H

#define CODE 0x550000000000ull
#define FN_BYTES 0x100ull
#define FN(n) (CODE + (uint64_t)(n)*FN_BYTES)
#define IN(n) (FN(n) + 0x40)  /* a return address inside */
#define JIT 0x560000000000ull /* code without rows */
#define JIT_BYTES 0x10000ull
#define NOWHERE 0x570000000000ull /* in no range */
#define HIT_SITE (SITE_FIRST_PROBE + 3)

enum fn_rule {
	F_GAP,	/* a row that says that there is none */
	F_LEAF, /* rsp + 8 */
	F_END,
	F_SP, /* rsp + 24 */
	F_BP,
	F_SP_DEREF, /* CFA at rsp + 16 */
	F_BP_DEREF, /* CFA at rbp - 8, the caller's rbp at rbp */
	F_PLT,
	F_SIGNAL,
	F_OTHER,
	F_LOST,	    /* rsp + 8, rbp undefined */
	F_SAVES,    /* rsp + 32, rbp saved at CFA - 24 */
	F_AT_BP,    /* rsp + 8, rbp saved at rbp + 16 */
	F_FAR,	    /* rbp saved 1 MiB below the CFA */
	F_PUSHES,   /* rsp + 8, behind its first byte rsp + 16 */
	F_NORETURN, /* as F_SP: a call is its last instruction */
	F_NR
};

static const struct unwind_rule fn_rules[F_NR] = {
	[F_LEAF] = { .kind = UNWIND_SP, .cfa_off = 8 },
	[F_END] = { .kind = UNWIND_END },
	[F_SP] = { .kind = UNWIND_SP, .cfa_off = 24 },
	[F_BP] = { .kind = UNWIND_BP, .cfa_off = 16, .bp = UNWIND_BP_AT_CFA, .bp_off = -16 },
	[F_SP_DEREF] = { .kind = UNWIND_SP_DEREF, .cfa_off = 16, .cfa_add = 8 },
	[F_BP_DEREF] = { .kind = UNWIND_BP_DEREF, .cfa_off = -8, .cfa_add = -16, .bp = UNWIND_BP_AT_BP },
	[F_PLT] = { .kind = UNWIND_PLT, .cfa_off = 11 },
	[F_SIGNAL] = { .kind = UNWIND_SIGNAL },
	[F_OTHER] = { .kind = UNWIND_OTHER },
	[F_LOST] = { .kind = UNWIND_SP, .cfa_off = 8, .bp = UNWIND_BP_LOST },
	[F_SAVES] = { .kind = UNWIND_SP, .cfa_off = 32, .bp = UNWIND_BP_AT_CFA, .bp_off = -24 },
	[F_AT_BP] = { .kind = UNWIND_SP, .cfa_off = 8, .bp = UNWIND_BP_AT_BP, .bp_off = 16 },
	[F_FAR] = { .kind = UNWIND_SP, .cfa_off = 8, .bp = UNWIND_BP_AT_CFA, .bp_off = -32768 },
	[F_PUSHES] = { .kind = UNWIND_SP, .cfa_off = 8 },
	[F_NORETURN] = { .kind = UNWIND_SP, .cfa_off = 24 },
};

struct fixture {
	struct process *p;
	struct thread *th;
	struct proc *pr;
	struct thread_state *t;
	uint64_t base; /* the stack pointer of hits */
};

static struct fixture f;

static inline uint64_t fixture_layout(void)
{
	static const struct unwind_rule pushed = { .kind = UNWIND_SP, .cfa_off = 16 };
	struct text_row rows[F_NR + 2];
	size_t n = 0;

	for (int i = 0; i < F_NR; i++) {
		rows[n++] = (struct text_row){ FN(i), fn_rules[i] };
		if (i == F_PUSHES)
			rows[n++] = (struct text_row){ FN(i) + 1, pushed };
	}
	/* Behind the call that ends F_NORETURN stands another function. */
	rows[n++] = (struct text_row){ FN(F_NR), fn_rules[F_OTHER] };
	const struct text texts[] = {
		{ CODE, CODE + 0x20000, CODE - 0x11000, rows, n },
		{ JIT, JIT + JIT_BYTES, JIT, NULL, 0 },
	};
	return text_layout(texts, 2);
}

static inline int setup(void **state)
{
	(void)state;
	world_init(true);
	world.layout = fixture_layout();
	f.p = process_new();
	f.th = f.p->leader;
	be(f.th);
	process_follow(f.p, PROC_HEAP | PROC_FOLLOW);
	f.pr = proc_of(f.p);
	f.t = thread_get(BPF_LOCAL_STORAGE_GET_F_CREATE);
	f.base = stack_top(f.th) - STACK_BYTES / 2;
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	books_check();
	expect_no_loss();
	world_done();
	return 0;
}

static inline struct stack_stat stat_all(void)
{
	uint32_t zero = 0;
	struct cpu_stat *st = bpf_map_lookup_elem(&cpu_stats, &zero);

	return st->stacks;
}

/* Words from an address upwards. */
#define WORDS(at, ...) words_put((at), (const uint64_t[]){ __VA_ARGS__ }, sizeof((uint64_t[]){ __VA_ARGS__ }) / 8)

static inline void words_put(uint64_t at, const uint64_t *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		poke(f.th, at + i * 8, w[i]);
}

static inline uint64_t take(struct stack_start from)
{
	be(f.th);
	if (from.slot)
		from.caller = caller_read(from.sp, f.pr, f.t, from.slot);
	(void)trampoline_of(f.t, f.pr->id.image);
	return stack_native(f.pr, f.t, &from);
}

static inline uint64_t hit_with(uint64_t pc, uint64_t sp, uint64_t bp, uint64_t slot, uint16_t site)
{
	return take((struct stack_start){ .pc = pc, .sp = sp, .bp = bp, .slot = slot, .site = site });
}

/* A hit at the entry of F_LEAF: the return address stands at the stack pointer. */
static inline uint64_t hit(uint64_t bp)
{
	return hit_with(FN(F_LEAF), f.base, bp, f.base, HIT_SITE);
}

/* A system call there: the instruction itself is the first frame. */
static inline uint64_t hit_at(uint64_t pc, uint64_t bp)
{
	return hit_with(pc, f.base, bp, 0, SITE_MMAP);
}

static inline const struct stack *stack_of(uint64_t id)
{
	const struct stack *st = bpf_map_lookup_elem(&stacks, &id);

	assert_non_null(st);
	return st;
}

#define EXPECT(id, how, ...) \
	expect_at(__LINE__, (id), (how), (const uint64_t[]){ __VA_ARGS__ }, sizeof((uint64_t[]){ __VA_ARGS__ }) / 8)
#define EXPECT_LIST(id, how, ip, n) expect_at(__LINE__, (id), (how), (ip), (n))

static inline void expect_at(int line, uint64_t id, enum stack_cut cut, const uint64_t *ip, size_t n)
{
	const struct stack *st = stack_of(id);

	for (size_t i = 0; i < n && i < st->n_ips; i++)
		if (st->ip[i] != ip[i])
			fail_msg("line %d: frame %zu: %llx, expected %lx", line, i, st->ip[i], ip[i]);
	if (st->n_ips != n || st->cut != cut)
		fail_msg("line %d: %u frames, cut %u, expected %zu, %d", line, st->n_ips, st->cut, n, (int)cut);
}

#define TEST(name) \
	{ \
#name, name, setup, teardown, NULL \
	}

#endif
