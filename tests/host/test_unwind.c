/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The unwinder, step by step: each kind of rule, where the caller's rbp is, what ends a stack and what cuts it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"
#include "unwind_fixture.h"

#define JUNK 0x6a756e6b00ull

static void test_rsp(void **state)
{
	(void)state;
	WORDS(f.base, IN(F_SP), JUNK, JUNK, IN(F_LEAF), IN(F_END));
	EXPECT(hit(0), CUT_NONE, IN(F_SP), IN(F_LEAF), IN(F_END));
	const struct stack *st = stack_of(hit(0));
	assert_int_equal(st->site, HIT_SITE);
	struct proc_key id = id_of(f.p);
	assert_true(id_equal(&st->first_seen_in, &id));
}

static void test_rbp(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x80, outer = fp + 0x200;

	WORDS(f.base, IN(F_BP));
	WORDS(fp, outer, IN(F_LEAF), IN(F_BP));
	WORDS(outer, 0, IN(F_END));
	EXPECT(hit(fp), CUT_NONE, IN(F_BP), IN(F_LEAF), IN(F_BP), IN(F_END));
}

static void test_deref(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x100, cfa = f.base + 0x180;

	WORDS(f.base, IN(F_SP_DEREF), JUNK, JUNK, f.base + 0x40 - 8); /* rsp of the frame is base + 8 */
	WORDS(f.base + 0x38, IN(F_BP_DEREF));
	WORDS(fp - 8, cfa + 16, 0x77);
	WORDS(cfa - 8, IN(F_END));
	EXPECT(hit(fp), CUT_NONE, IN(F_SP_DEREF), IN(F_BP_DEREF), IN(F_END));
	poke(f.th, f.base + 0x18, NOWHERE); /* leads out of the stack */
	EXPECT(hit(fp), CUT_MEMORY, IN(F_SP_DEREF));
	f.base += 8;
	WORDS(f.base, IN(F_BP_DEREF));
	EXPECT(hit(NOWHERE), CUT_MEMORY, IN(F_BP_DEREF)); /* not readable */
}

/* push GOT; jmp: lazy binding jumps from a PLT entry, so its frame is always an exact one. */
static void test_plt(void **state)
{
	(void)state;
	for (uint64_t at = 0; at < 16; at++) {
		uint64_t pushed = at >= 11, pc = FN(F_PLT) + 0x20 + at;
		WORDS(f.base, pushed ? JUNK : IN(F_LEAF), pushed ? IN(F_LEAF) : IN(F_END), IN(F_END));
		EXPECT(hit_at(pc, 0), CUT_NONE, pc + 1, IN(F_LEAF), IN(F_END));
	}
}

static void signal_frame(uint64_t context, uint64_t bp, uint64_t sp, uint64_t pc)
{
	poke(f.th, context + UCONTEXT_BP, bp);
	poke(f.th, context + UCONTEXT_SP, sp);
	poke(f.th, context + UCONTEXT_IP, pc);
}

/* What was interrupted is looked up exactly: at the first byte of F_PUSHES nothing is pushed yet. */
static void test_signal(void **state)
{
	(void)state;
	uint64_t context = f.base + 8, sp = f.base + 0x400, fp = sp + 0x40;

	WORDS(f.base, IN(F_SIGNAL));
	signal_frame(context, fp, sp, FN(F_PUSHES));
	WORDS(sp, IN(F_BP));
	WORDS(fp, 0, IN(F_END));
	EXPECT(hit(JUNK), CUT_NONE, IN(F_SIGNAL), FN(F_PUSHES) + 1, IN(F_BP), IN(F_END));
	signal_frame(context, fp, sp, FN(F_PUSHES) + 1); /* one instruction later */
	WORDS(sp, JUNK, IN(F_BP));
	EXPECT(hit(JUNK), CUT_NONE, IN(F_SIGNAL), FN(F_PUSHES) + 2, IN(F_BP), IN(F_END));
	signal_frame(context, fp, sp, 0); /* jumped to 0 */
	EXPECT(hit(JUNK), CUT_MEMORY, IN(F_SIGNAL));
	signal_frame(context, fp, sp, USER_ADDR_MAX);
	EXPECT(hit(JUNK), CUT_MEMORY, IN(F_SIGNAL));
	f.base = stack_top(f.th) - 64; /* the context would lie behind the stack */
	WORDS(f.base, IN(F_SIGNAL));
	EXPECT(hit(JUNK), CUT_MEMORY, IN(F_SIGNAL));
	assert_int_equal(stat_all().repeated, 0);
}

/* A handler on a stack of its own, above and below the thread's. */
static void test_alternate_stack(void **state)
{
	(void)state;
	const uint64_t places[] = { HEAP_BASE, STACKS_BASE + 0x70000000000ull };
	uint64_t sp = f.base, fp = sp + 0x40;

	WORDS(sp, IN(F_BP));
	WORDS(fp, 0, IN(F_END));
	for (int i = 0; i < 2; i++) {
		host_map_region(f.p->mm, places[i], 4096);
		f.base = places[i] + 4096 - 512;
		WORDS(f.base, IN(F_SIGNAL));
		signal_frame(f.base + 8, fp, sp, FN(F_LEAF));
		for (int known = 0; known < 2; known++) { /* where the thread's stack ends */
			f.th->task.thread.fsbase = known ? stack_top(f.th) : 0;
			EXPECT(hit(0), CUT_NONE, IN(F_SIGNAL), FN(F_LEAF) + 1, IN(F_BP), IN(F_END));
		}
	}
}

static void test_end(void **state)
{
	(void)state;
	WORDS(f.base, IN(F_END));
	EXPECT(hit(0), CUT_NONE, IN(F_END));
	WORDS(f.base, IN(F_LEAF), 0); /* a return address of 0 */
	EXPECT(hit(0), CUT_NONE, IN(F_LEAF));
	WORDS(f.base, 0); /* the thread's first function allocates */
	EXPECT(hit(0), CUT_NONE, );
	EXPECT(hit_at(IN(F_END), 0), CUT_NONE, IN(F_END) + 1);
	WORDS(f.base, IN(F_LEAF), USER_ADDR_MAX); /* the first address that no user has */
	EXPECT(hit(0), CUT_MEMORY, IN(F_LEAF));
	WORDS(f.base, IN(F_LEAF), ~0ull);
	EXPECT(hit(0), CUT_MEMORY, IN(F_LEAF));
}

static void test_other_rule(void **state)
{
	(void)state;
	WORDS(f.base, IN(F_OTHER), IN(F_END));
	EXPECT(hit(0), CUT_RULE, IN(F_OTHER));
	/* The probed function's own rule tells nothing that the slot does not. */
	WORDS(f.base, IN(F_LEAF), IN(F_END));
	for (int i = F_SIGNAL; i <= F_OTHER; i++)
		EXPECT(hit_with(FN(i), f.base, 0, f.base, HIT_SITE), CUT_NONE, IN(F_LEAF), IN(F_END));
	EXPECT(hit_with(FN(F_END), f.base, 0, f.base, HIT_SITE), CUT_NONE, IN(F_LEAF), IN(F_END));
	EXPECT(hit_with(FN(F_GAP), f.base, 0, f.base, HIT_SITE), CUT_NONE, IN(F_LEAF), IN(F_END));
	EXPECT(hit_with(JIT, f.base, 0, f.base, HIT_SITE), CUT_NONE, IN(F_LEAF), IN(F_END));
}

/* The planner's slot counts, whatever the rule says of the CFA; the rule tells where the caller's rbp is. */
static void test_slot(void **state)
{
	(void)state;
	uint64_t slot = f.base + 24, fp = f.base + 0x80;

	WORDS(f.base, IN(F_OTHER), fp, IN(F_OTHER), IN(F_BP));
	WORDS(fp, 0, IN(F_END));
	/* F_SAVES: CFA = rsp + 32, rbp at CFA - 24 */
	EXPECT(hit_with(IN(F_SAVES), f.base, JUNK, slot, HIT_SITE), CUT_NONE, IN(F_BP), IN(F_END));
	/* F_LEAF's rule would find F_OTHER at rsp. */
	EXPECT(hit_with(FN(F_LEAF), f.base, fp, slot, HIT_SITE), CUT_NONE, IN(F_BP), IN(F_END));
	/* Without a slot the exact instruction's rule counts: before and behind the push. */
	WORDS(f.base, IN(F_LEAF), IN(F_END), IN(F_END));
	EXPECT(hit_at(FN(F_PUSHES), 0), CUT_NONE, FN(F_PUSHES) + 1, IN(F_LEAF), IN(F_END));
	WORDS(f.base, JUNK);
	EXPECT(hit_at(FN(F_PUSHES) + 1, 0), CUT_NONE, FN(F_PUSHES) + 2, IN(F_END));
	/* Slots that can't be. */
	EXPECT(hit_with(FN(F_LEAF), f.base, 0, f.base - 8, HIT_SITE), CUT_MEMORY, );
	EXPECT(hit_with(FN(F_LEAF), f.base, 0, f.base + 4, HIT_SITE), CUT_MEMORY, );
	EXPECT(hit_with(FN(F_LEAF), f.base, 0, NOWHERE, HIT_SITE), CUT_MEMORY, );
	assert_int_equal(loss_take(f.p, LOSS_USER_READ), 2);
}

/* A call that never returns may be its function's last instruction: the return address is another function's first byte. */
static void test_call_at_end(void **state)
{
	(void)state;
	uint64_t ret = FN(F_NORETURN + 1);

	WORDS(f.base, ret, JUNK, JUNK, IN(F_END));
	EXPECT(hit(0), CUT_NONE, ret, IN(F_END));
	EXPECT(hit_at(ret, 0), CUT_RULE, ret + 1); /* the same address, interrupted */
	/* At the first byte of a range nothing is in front of it. */
	WORDS(f.base, CODE);
	EXPECT(hit(0), CUT_NO_MAPPING, CODE);
}

static void test_saved_rbp(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x100;

	WORDS(fp, 0, IN(F_END));
	/* Through functions that leave it alone, and one that saves it (its CFA is base + 48). */
	WORDS(f.base, IN(F_LEAF), IN(F_SAVES), JUNK, fp, JUNK, IN(F_SP), JUNK, JUNK, IN(F_BP));
	EXPECT(hit(JUNK), CUT_NONE, IN(F_LEAF), IN(F_SAVES), IN(F_SP), IN(F_BP), IN(F_END));
	/* Saved at rbp + 16. */
	WORDS(f.base, IN(F_AT_BP), IN(F_BP));
	WORDS(fp + 0x40, JUNK, JUNK, fp);
	EXPECT(hit(fp + 0x40), CUT_NONE, IN(F_AT_BP), IN(F_BP), IN(F_END));
}

static void test_lost_rbp(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x100;

	WORDS(fp, 0, IN(F_END));
	WORDS(f.base, IN(F_LOST), IN(F_LEAF), IN(F_END)); /* nobody needs it */
	EXPECT(hit(fp), CUT_NONE, IN(F_LOST), IN(F_LEAF), IN(F_END));
	for (int i = 0; i < 3; i++) {
		static const uint64_t needs[] = { IN(F_BP), IN(F_BP_DEREF), JIT + 4 };
		static const enum stack_cut cut[] = { CUT_RULE, CUT_RULE, CUT_NO_ROW };
		WORDS(f.base, IN(F_LOST), IN(F_LEAF), needs[i]);
		EXPECT(hit(fp), cut[i], IN(F_LOST), IN(F_LEAF), needs[i]);
	}
	/* Found again: saved by a caller, which had it from nowhere. */
	WORDS(f.base, IN(F_LOST), IN(F_SAVES), JUNK, fp, JUNK, IN(F_BP));
	EXPECT(hit(JUNK), CUT_NONE, IN(F_LOST), IN(F_SAVES), IN(F_BP), IN(F_END));
	/* Its place is not readable: as good as lost. */
	f.base = stack_top(f.th) - STACK_BYTES + 4096;
	WORDS(f.base, IN(F_FAR), IN(F_LEAF), IN(F_END));
	EXPECT(hit(fp), CUT_NONE, IN(F_FAR), IN(F_LEAF), IN(F_END));
	WORDS(f.base, IN(F_FAR), IN(F_BP));
	EXPECT(hit(fp), CUT_RULE, IN(F_FAR), IN(F_BP));
}

/* Code without rows has frame pointers, or is the end of what can be told. */
static void test_frame_pointers(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x40, outer = fp + 0x80;
	const uint64_t kinds[] = { JIT + 0x10, IN(F_GAP) };

	for (int i = 0; i < 2; i++) {
		uint64_t at = kinds[i];
		WORDS(f.base, at);
		WORDS(fp, outer, at);
		WORDS(outer, 0, at);
		EXPECT(hit(fp), CUT_NONE, at, at, at); /* rbp 0: the start */
		WORDS(outer, JUNK, IN(F_END));
		EXPECT(hit(fp), CUT_NONE, at, at, IN(F_END));
		EXPECT(hit_at(at, fp), CUT_NONE, at + 1, at, IN(F_END));
		EXPECT(hit(0), CUT_NONE, at);
		const uint64_t refused[] = { f.base - 8, /* below the stack pointer */
					     fp + 4,	 /* not aligned */
					     f.base + 8 + FRAME_SPAN_MAX + 8,
					     1,
					     ~0ull,
					     NOWHERE,
					     CODE };
		for (size_t k = 0; k < sizeof(refused) / 8; k++)
			EXPECT(hit(refused[k]), CUT_NO_ROW, at);
		/* What stands there is no return address. */
		const uint64_t wrong[] = { NOWHERE, 1, JIT, f.base, CODE };
		for (size_t k = 0; k < sizeof(wrong) / 8; k++) {
			poke(f.th, outer + 8, wrong[k]);
			EXPECT(hit(fp), CUT_NO_ROW, at, at);
		}
		poke(f.th, outer + 8, USER_ADDR_MAX);
		EXPECT(hit(fp), CUT_MEMORY, at, at);
		poke(f.th, outer + 8, 0);
		EXPECT(hit(fp), CUT_NONE, at, at);
		poke(f.th, fp, fp); /* leads to itself */
		EXPECT(hit(fp), CUT_NO_ROW, at, at);
		poke(f.th, fp, f.base);
		EXPECT(hit(fp), CUT_NO_ROW, at, at);
	}
	/* From code with rows into it and back: the frame pointer goes through. */
	WORDS(f.base, IN(F_SAVES), JUNK, fp + 0x100, JUNK, JIT + 4);
	WORDS(fp + 0x100, fp + 0x200, IN(F_BP));
	WORDS(fp + 0x200, 0, IN(F_END));
	EXPECT(hit(JUNK), CUT_NONE, IN(F_SAVES), JIT + 4, IN(F_BP), IN(F_END));
	assert_null(host.ring);
}

static void chain(int n)
{
	for (int i = 0; i < n; i++)
		poke(f.th, f.base + (uint64_t)i * 8, IN(F_LEAF) + (uint64_t)(n - i) % 64);
	poke(f.th, f.base + (uint64_t)n * 8, IN(F_END));
}

static void test_depth(void **state)
{
	(void)state;
	uint64_t want[STACK_MAX_FRAMES];

	for (int n = STACK_MAX_FRAMES - 2; n <= STACK_MAX_FRAMES + 2; n++) {
		chain(n);
		for (int i = 0; i < STACK_MAX_FRAMES; i++)
			want[i] = peek(f.th, f.base + (uint64_t)i * 8);
		for (int again = 0; again < 2; again++)
			EXPECT_LIST(hit(0), n < STACK_MAX_FRAMES ? CUT_NONE : CUT_DEPTH, want,
				    n < STACK_MAX_FRAMES ? (size_t)n + 1 : STACK_MAX_FRAMES);
	}
	assert_int_equal(stat_all().repeated, 5);
}

static void expect_cfa_refused(uint64_t cfa)
{
	WORDS(f.base, IN(F_SP_DEREF), JUNK, JUNK, cfa - 8);
	EXPECT(hit(0), CUT_MEMORY, IN(F_SP_DEREF));
}

static void test_cfa_refused(void **state)
{
	(void)state;
	expect_cfa_refused(f.base); /* not above the frame */
	expect_cfa_refused(f.base + 8);
	expect_cfa_refused(f.base + 0x44); /* not aligned */
	expect_cfa_refused(0);
	expect_cfa_refused(8);
	expect_cfa_refused(~7ull);
	expect_cfa_refused(stack_top(f.th) + 8); /* the slot lies behind the stack */
	uint64_t far = f.base + 8 + FRAME_SPAN_MAX;
	host_map_region(f.p->mm, far & ~4095ull, 8192);
	WORDS(far - 8, IN(F_END), IN(F_END));
	expect_cfa_refused(far + 8);
	WORDS(f.base, IN(F_SP_DEREF), JUNK, JUNK, far - 8); /* the largest frame there is */
	EXPECT(hit(0), CUT_NONE, IN(F_SP_DEREF), IN(F_END));
}

/* Frames all over a large stack: the window follows; its first word may lie anywhere in a page. */
static void test_windows(void **state)
{
	(void)state;
	uint64_t want[64];

	for (int ends = 0; ends < 3; ends++) {
		f.th->task.thread.fsbase = ends == 1 ? stack_top(f.th) : 0;
		f.p->mm->start_stack = ends == 2 ? stack_top(f.th) - 8 : 0;
		for (uint64_t shift = 0; shift < 4096; shift += 8 * 37) {
			uint64_t fp = f.base - 8 * 4096 + 64 + shift, n = 0;
			f.base = fp - 64;
			WORDS(f.base, IN(F_BP));
			want[n++] = IN(F_BP);
			for (uint64_t step = 16; fp + 2 * step < stack_top(f.th) - 64; step = step * 3 / 2 & ~7ull) {
				WORDS(fp, fp + step, IN(F_BP) + n);
				want[n] = IN(F_BP) + n;
				n++;
				fp += step;
			}
			WORDS(fp, 0, IN(F_END));
			want[n++] = IN(F_END);
			EXPECT_LIST(hit(f.base + 64), CUT_NONE, want, n);
			f.base = stack_top(f.th) - STACK_BYTES / 2;
		}
	}
}

/* The stack ends inside the window, at every word of it. */
static void test_stack_end(void **state)
{
	(void)state;
	for (int known = 0; known < 2; known++) {
		f.th->task.thread.fsbase = known ? stack_top(f.th) : 0;
		for (uint64_t words = 2; words < 600; words += 13) {
			f.base = stack_top(f.th) - words * 8;
			WORDS(f.base, IN(F_BP));
			WORDS(stack_top(f.th) - 8, IN(F_END));
			EXPECT(hit(stack_top(f.th) - 16), CUT_NONE, IN(F_BP), IN(F_END));
			EXPECT(hit(stack_top(f.th) - 8), CUT_MEMORY, IN(F_BP));
		}
	}
}

/* Pages of the stack that are not in memory: one behind the first window, one in it. */
static void test_page_missing(void **state)
{
	(void)state;
	uint64_t low = HEAP_BASE, gap = low + 4096, high = gap + 4096;

	host_map_region(f.p->mm, low, 4096);
	host_map_region(f.p->mm, high, 4096);
	f.th->task.thread.fsbase = high + 4096;
	f.base = gap - 128;
	WORDS(f.base, IN(F_LEAF), IN(F_BP));
	WORDS(high + 64, 0, IN(F_END));
	EXPECT(hit(high + 64), CUT_NONE, IN(F_LEAF), IN(F_BP), IN(F_END)); /* nothing in the gap is needed */
	EXPECT(hit(gap + 64), CUT_MEMORY, IN(F_LEAF), IN(F_BP));
	EXPECT(hit(gap - 8), CUT_MEMORY, IN(F_LEAF), IN(F_BP)); /* rbp is there, the return address is not */
	f.base = gap;
	EXPECT(hit(0), CUT_MEMORY, );
	assert_int_equal(loss_take(f.p, LOSS_USER_READ), 1);
}

static void expect_asked(uint64_t addr)
{
	uint64_t wake;
	struct event *e = event_next(&wake);
	struct proc_key id = id_of(f.p);

	assert_non_null(e);
	assert_int_equal(e->kind, EVENT_LAYOUT);
	assert_int_equal(e->map.addr, addr);
	assert_int_equal(e->tid, f.th->task.pid);
	assert_int_equal(e->account, f.pr->account);
	assert_true(id_equal(&e->id, &id));
	assert_int_equal(wake, BPF_RB_FORCE_WAKEUP);
	free(e);
	assert_null(host.ring);
}

/* Code that nobody knows: asked for once until user space has looked. The stack is not remembered: it may be whole the next time. */
static void test_mapping_missing(void **state)
{
	(void)state;
	WORDS(f.base, IN(F_LEAF), NOWHERE + 8, IN(F_END));
	EXPECT(hit(0), CUT_NO_MAPPING, IN(F_LEAF), NOWHERE + 8);
	expect_asked(NOWHERE + 7);
	EXPECT(hit(0), CUT_NO_MAPPING, IN(F_LEAF), NOWHERE + 8);
	EXPECT(hit_at(NOWHERE, 0), CUT_NO_MAPPING, NOWHERE + 1);
	assert_null(host.ring);
	f.pr->layout_asked = 0; /* looked, and found nothing */
	EXPECT(hit_at(NOWHERE, 0), CUT_NO_MAPPING, NOWHERE + 1);
	expect_asked(NOWHERE);
	f.pr->layout_asked = 0;
	host.ring_full = true;
	EXPECT(hit(0), CUT_NO_MAPPING, IN(F_LEAF), NOWHERE + 8);
	assert_int_equal(loss_take(f.p, LOSS_RING_FULL), 1);
	host.ring_full = false;
	EXPECT(hit(0), CUT_NO_MAPPING, IN(F_LEAF), NOWHERE + 8);
	expect_asked(NOWHERE + 7);
	/* It is found. */
	const struct text_row rows[] = { { CODE, fn_rules[F_LEAF] },
					 { FN(F_END), fn_rules[F_END] },
					 { FN(F_SP), fn_rules[0] } };
	const struct text_row more[] = { { NOWHERE, fn_rules[F_LEAF] } };
	const struct text texts[] = { { NOWHERE, NOWHERE + 64, 0, more, 1 }, { CODE, CODE + 0x10000, 0, rows, 3 } };
	f.pr->layout = text_layout(texts, 2);
	f.pr->layout_asked = 0;
	EXPECT(hit(0), CUT_NONE, IN(F_LEAF), NOWHERE + 8, IN(F_END));
	assert_int_equal(stat_all().repeated, 0);
	assert_null(host.ring);
}

/* Nothing is known of the process yet: who called is, thanks to the slot. */
static void test_no_layout(void **state)
{
	(void)state;
	f.pr->layout = 0;
	WORDS(f.base, IN(F_LEAF), IN(F_END));
	EXPECT(hit(0), CUT_NO_MAPPING, IN(F_LEAF));
	expect_asked(FN(F_LEAF));
}

/* Return probes, ours or others', hide return addresses; the kernel's list has them. */
static void test_trampolines(void **state)
{
	(void)state;
	struct thread *th = f.th;

	f.p->xol.vaddr = TRAMPOLINE;
	f.p->mm->uprobes_state.xol_area = &f.p->xol;
	WORDS(f.base, IN(F_LEAF), TRAMPOLINE, TRAMPOLINE, IN(F_LEAF) + 3, TRAMPOLINE, IN(F_END));
	th->ri[0] = (struct return_instance){ .stack = f.base + 0x4000, .orig_ret_vaddr = JUNK };
	th->ri[1] = (struct return_instance){ .stack = f.base + 32, .orig_ret_vaddr = IN(F_LEAF) + 4 };
	th->ri[2] = (struct return_instance){ .stack = f.base + 16, .orig_ret_vaddr = IN(F_LEAF) + 2 };
	th->ri[3] = (struct return_instance){ .stack = f.base + 16, .orig_ret_vaddr = IN(F_LEAF) + 2, .chained = true };
	th->ri[4] = (struct return_instance){ .stack = f.base + 8, .orig_ret_vaddr = IN(F_LEAF) + 1 };
	th->ri[5] = (struct return_instance){ .stack = f.base - 64, .orig_ret_vaddr = JUNK }; /* left by longjmp */
	th->n_ri = 6;
	ri_link(th);
	for (int again = 0; again < 2; again++)
		EXPECT(hit(0), CUT_NONE, IN(F_LEAF), IN(F_LEAF) + 1, IN(F_LEAF) + 2, IN(F_LEAF) + 3, IN(F_LEAF) + 4,
		       IN(F_END));
	assert_int_equal(stat_all().repeated, 0); /* what stands there does not tell what it hides */
	/* The hit's own slot: a jump into the probed function. */
	WORDS(f.base, TRAMPOLINE);
	th->ri[5].stack = f.base;
	th->ri[5].orig_ret_vaddr = IN(F_LEAF) + 9;
	EXPECT(hit(0), CUT_NONE, IN(F_LEAF) + 9, IN(F_LEAF) + 1, IN(F_LEAF) + 2, IN(F_LEAF) + 3, IN(F_LEAF) + 4,
	       IN(F_END));
	/* One that the list has not. */
	th->ri[1].stack += 8;
	EXPECT(hit(0), CUT_MEMORY, IN(F_LEAF) + 9, IN(F_LEAF) + 1, IN(F_LEAF) + 2, IN(F_LEAF) + 3);
	th->n_ri = 0;
	ri_link(th);
	EXPECT(hit(0), CUT_MEMORY, );
	th->task.utask = NULL;
	EXPECT(hit(0), CUT_MEMORY, );
}

/* As many as the kernel can have, in a circle: an end is found all the same. */
static void test_trampolines_endless(void **state)
{
	(void)state;
	struct return_instance ring[3] = { { .stack = 8, .next = &ring[1] },
					   { .stack = 16, .next = &ring[2] },
					   { .stack = 24, .next = &ring[0] } };

	f.p->xol.vaddr = TRAMPOLINE;
	f.p->mm->uprobes_state.xol_area = &f.p->xol;
	f.th->utask.return_instances = ring;
	WORDS(f.base, IN(F_LEAF), TRAMPOLINE, IN(F_END));
	EXPECT(hit(0), CUT_MEMORY, IN(F_LEAF));
}

/* Many mappings, many pages, rows of one page: each address has the rule of the last row at or before it. */
static void test_search(void **state)
{
	(void)state;
	enum { RANGES = PROCESS_RANGES_MAX, ROWS = 3000 };
	static struct text texts[RANGES];
	static struct text_row rows[ROWS + 1], end;
	uint64_t at = NOWHERE;

	for (int i = 0; i < ROWS; i++) {
		rows[i] = (struct text_row){ at, fn_rules[i % 2 ? F_OTHER : F_LEAF] };
		at += (uint64_t)(i * 7919 % 300) + 1;
	}
	rows[ROWS] = (struct text_row){ at, fn_rules[0] };
	for (uint64_t i = 0; i < RANGES; i++)
		texts[i] = (struct text){ CODE + i * 0x10000, CODE + i * 0x10000 + 0x8000, CODE, NULL, 0 };
	texts[RANGES - 1] = (struct text){ NOWHERE, at + 64, NOWHERE - 0x123000, rows, ROWS + 1 };
	end = (struct text_row){ texts[0].start, fn_rules[F_END] };
	texts[0].rows = &end;
	texts[0].n_rows = 1;
	f.pr->layout = text_layout(texts, RANGES);
	for (int i = 0; i < ROWS; i++) {
		uint64_t next = i + 1 < ROWS ? rows[i + 1].at : at;
		for (int last = 0; last < 2; last++) {
			uint64_t pc = last ? next - 1 : rows[i].at;
			WORDS(f.base, texts[0].start + 1);
			if (i % 2)
				EXPECT(hit_at(pc, 0), CUT_RULE, pc + 1);
			else
				EXPECT(hit_at(pc, 0), CUT_NONE, pc + 1, texts[0].start + 1);
		}
	}
	assert_null(host.ring);
	for (uint64_t i = 1; i < RANGES - 1; i++) {
		EXPECT(hit_at(texts[i].start, 0), CUT_NONE, texts[i].start + 1);
		EXPECT(hit_at(texts[i].end - 1, 0), CUT_NONE, texts[i].end);
		EXPECT(hit_at(texts[i].end, 0), CUT_NO_MAPPING, texts[i].end + 1);
		f.pr->layout_asked = 1;
	}
	expect_asked(texts[1].end);
}

/* Nonsense in the tables cuts, no more. */
static void test_tables_broken(void **state)
{
	(void)state;
	uint32_t first = layout_first(f.pr->layout), zero = 0;
	struct unwind_range *r = bpf_map_lookup_elem(&ranges, &first);
	uint32_t page = r->page + (uint32_t)((FN(F_LEAF) - r->bias) >> ROW_PAGE_SHIFT);
	struct unwind_page *pg = bpf_map_lookup_elem(&pages, &page);
	struct row_block *rows = bpf_map_lookup_elem((struct row_block_map *)bpf_map_lookup_elem(&row_blocks, &zero),
						     &zero);

	WORDS(f.base, IN(F_LEAF), IN(F_END));
	f.base += 8;
	WORDS(f.base, IN(F_END));
	for (uint32_t i = 0; i < pg->n; i++) /* a rule that is none */
		rows->row[(pg->first & (BLOCK_ROWS - 1)) + i] |= 0xffff;
	EXPECT(hit_at(FN(F_LEAF), 0), CUT_NO_ROW, FN(F_LEAF) + 1);
	*pg = (struct unwind_page){ .first = (ROW_BLOCKS - 1) << BLOCK_ROWS_SHIFT,
				    .n = 5 }; /* a block that is not there */
	EXPECT(hit_at(FN(F_LEAF) + 1, 0), CUT_NONE, FN(F_LEAF) + 2);
	pg->n = ~0u;
	pg->first = BLOCK_ROWS - 1;
	(void)hit_at(FN(F_LEAF) + 2, 0);
	r->page = UNWIND_PAGES;
	EXPECT(hit_at(FN(F_LEAF) + 3, 0), CUT_NONE, FN(F_LEAF) + 4);
	f.pr->layout = layout_pack(UNWIND_RANGES - 1, 1000);
	EXPECT(hit_at(FN(F_LEAF) + 4, 0), CUT_NO_MAPPING, FN(F_LEAF) + 5);
	expect_asked(FN(F_LEAF) + 4);
}

/* A stack pointer that no compiler makes. */
static void test_rsp_unaligned(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x40;

	WORDS(fp, 0, IN(F_END));
	for (uint64_t i = 1; i < 8; i++)
		EXPECT(hit_with(IN(F_BP), f.base + i, fp, 0, SITE_MMAP), CUT_NONE, IN(F_BP) + 1, IN(F_END));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rsp),
		TEST(test_rbp),
		TEST(test_deref),
		TEST(test_plt),
		TEST(test_signal),
		TEST(test_alternate_stack),
		TEST(test_end),
		TEST(test_other_rule),
		TEST(test_slot),
		TEST(test_call_at_end),
		TEST(test_saved_rbp),
		TEST(test_lost_rbp),
		TEST(test_frame_pointers),
		TEST(test_depth),
		TEST(test_cfa_refused),
		TEST(test_windows),
		TEST(test_stack_end),
		TEST(test_page_missing),
		TEST(test_mapping_missing),
		TEST(test_no_layout),
		TEST(test_trampolines),
		TEST(test_trampolines_endless),
		TEST(test_search),
		TEST(test_tables_broken),
		TEST(test_rsp_unaligned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
