/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Remembered stacks: a repeated one is not unwound again, a changed one always is. Random programs with frames of every kind, whose list of callers is
 * known because they made them, are hit over and over; and every single word of a stack is changed, with and without a memory of it.
 */
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

static void expect_stat(uint64_t repeated, uint64_t unwound)
{
	struct stack_stat st = stat_all();

	assert_int_equal(st.repeated, repeated);
	assert_int_equal(st.unwound, unwound);
	assert_int_equal(st.taken, repeated + unwound);
}

static void test_repeated(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x80;

	WORDS(f.base, IN(F_LEAF), IN(F_BP));
	WORDS(fp, 0, IN(F_SP), JUNK, JUNK, IN(F_END));
	uint64_t id = hit(fp);
	EXPECT(id, CUT_NONE, IN(F_LEAF), IN(F_BP), IN(F_SP), IN(F_END));
	expect_stat(0, 1);
	assert_false(f.t->was_repeated);
	assert_int_equal(hit(fp), id);
	assert_true(f.t->was_repeated);
	poke(f.th, fp - 8, JUNK); /* words that nobody goes by */
	poke(f.th, fp, JUNK);
	poke(f.th, fp + 16, 0);
	assert_int_equal(hit(fp), id);
	expect_stat(2, 1);
	/* The same frames elsewhere on the stack: another memory, the same stack. */
	f.base -= 0x2000;
	fp -= 0x2000;
	WORDS(f.base, IN(F_LEAF), IN(F_BP));
	WORDS(fp, 0, IN(F_SP), JUNK, JUNK, IN(F_END));
	assert_int_equal(hit(fp), id);
	expect_stat(2, 2);
	assert_int_equal(host_map_of(&stacks)->n, 1);
}

/* What must be the same besides the words. */
static void test_same_but(void **state)
{
	(void)state;
	uint64_t slot = f.base, id;

	WORDS(f.base, IN(F_LEAF), IN(F_END));
	id = hit(0);
	assert_int_equal(hit(JUNK), id); /* no rule used rbp */
	expect_stat(1, 1);
	assert_int_not_equal(hit_with(FN(F_LEAF), f.base, 0, slot, HIT_SITE + 1), id); /* site */
	expect_stat(1, 2);
	assert_int_equal(hit(0), id);
	f.pr->id.image++;
	assert_int_not_equal(hit(0), id);
	f.pr->id.image--;
	uint64_t unwound = stat_all().unwound;
	assert_int_equal(hit(0), id);
	f.pr->layout = fixture_layout(); /* the same once more: nobody knows */
	assert_int_equal(hit(0), id);
	assert_int_equal(stat_all().unwound, unwound + 2);
	assert_int_equal(hit_with(IN(F_SAVES), f.base, 0, slot, HIT_SITE),
			 id); /* another instruction of the function */
	assert_int_equal(stat_all().unwound, unwound + 3);
}

/* rbp at the hit, if a rule used it. */
static void test_rbp_of_hit(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x80, other = f.base + 0x100;

	WORDS(f.base, IN(F_LEAF), IN(F_BP));
	WORDS(fp, 0, IN(F_END));
	WORDS(other, 0, IN(F_END) + 1);
	EXPECT(hit(fp), CUT_NONE, IN(F_LEAF), IN(F_BP), IN(F_END));
	EXPECT(hit(other), CUT_NONE, IN(F_LEAF), IN(F_BP), IN(F_END) + 1);
	EXPECT(hit(fp), CUT_NONE, IN(F_LEAF), IN(F_BP), IN(F_END));
	expect_stat(0, 3);
	/* It is the end of a stack in code without rows. */
	WORDS(f.base, JIT + 8);
	EXPECT(hit(0), CUT_NONE, JIT + 8);
	EXPECT(hit(1), CUT_NO_ROW, JIT + 8);
}

/* What was cut for want of memory may be whole the next time. */
static void test_page_comes(void **state)
{
	(void)state;
	uint64_t low = HEAP_BASE, high = low + 4096, fp = high + 64;

	host_map_region(f.p->mm, low, 4096);
	f.base = high - 128;
	WORDS(f.base, IN(F_BP));
	EXPECT(hit(fp), CUT_MEMORY, IN(F_BP));
	host_map_region(f.p->mm, high, 4096);
	WORDS(fp, 0, IN(F_END));
	EXPECT(hit(fp), CUT_NONE, IN(F_BP), IN(F_END));
	host_unmap_region(f.p->mm, high);
	EXPECT(hit(fp), CUT_MEMORY, IN(F_BP));
	expect_stat(0, 3);
}

/* The place where rbp was saved is in memory the next time. */
static void test_saved_rbp_comes(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x80;

	host_unmap_region(f.p->mm, stack_top(f.th) - STACK_BYTES);
	host_map_region(f.p->mm, f.base, 4096);
	WORDS(f.base, IN(F_FAR), IN(F_BP));
	WORDS(fp, 0, IN(F_END));
	EXPECT(hit(0), CUT_RULE, IN(F_FAR), IN(F_BP));
	host_map_region(f.p->mm, f.base - 65536, 65536);
	poke(f.th, f.base + 16 - 32768, fp);
	EXPECT(hit(0), CUT_NONE, IN(F_FAR), IN(F_BP), IN(F_END));
	host_unmap_region(f.p->mm, f.base);
	host_unmap_region(f.p->mm, f.base - 65536);
	host_map_region(f.p->mm, stack_top(f.th) - STACK_BYTES, STACK_BYTES);
}

/* Stacks with more places than a memory has, or farther away, are unwound each time. */
static void test_too_large(void **state)
{
	(void)state;
	uint64_t fp = f.base + 0x40, far = f.base + (uint64_t)REMEMBER_REACH * 8;
	uint64_t want[STACK_MAX_FRAMES];

	host_map_region(f.p->mm, far & ~4095ull, 8192);
	WORDS(f.base, IN(F_BP));
	WORDS(fp, fp + 0x40, IN(F_BP) + 1);
	fp += 0x40;
	WORDS(fp, far, IN(F_BP));
	WORDS(far, 0, IN(F_END));
	for (int i = 0; i < 3; i++)
		EXPECT(hit(f.base + 0x40), CUT_NONE, IN(F_BP), IN(F_BP) + 1, IN(F_BP), IN(F_END));
	expect_stat(0, 3);
	/* 126 frames, each with a return address and a frame pointer. */
	f.base -= 0x4000;
	fp = f.base + 0x40;
	WORDS(f.base, IN(F_BP));
	want[0] = IN(F_BP);
	for (int i = 1; i < 126; i++, fp += 32) {
		WORDS(fp, fp + 32, IN(F_BP) + i % 8u);
		want[i] = IN(F_BP) + i % 8u;
	}
	WORDS(fp, 0, IN(F_END));
	want[126] = IN(F_END);
	for (int i = 0; i < 3; i++)
		EXPECT_LIST(hit(f.base + 0x40), CUT_NONE, want, 127);
	expect_stat(0, 6);
}

/* --- random programs --- */
#define STACK_LOW (stack_top(f.th) - STACK_BYTES + 8192)
#define FRAMES_MAX 140
#define RNG_SEED 0x7469646d61726bull

enum { R_BARE, R_SP, R_SAVES, R_BP, R_REALIGNED, R_SP_DEREF, R_LOST, R_NR };

/* A call that is under way: of the function whose frame this is. */
struct frame {
	uint64_t sp, bp; /* of the caller before the call */
	uint64_t ret;	 /* where it will return to: in the caller */
	uint8_t kind, variant;
};

struct program {
	struct frame frame[FRAMES_MAX];
	int n;
	uint64_t sp, bp;
};

struct play {
	uint64_t rng;
	uint64_t layout;
	struct program program[3];
	struct thread *th[3];
};

static struct play play;

static uint64_t draw(uint64_t below)
{
	play.rng ^= play.rng << 13;
	play.rng ^= play.rng >> 7;
	play.rng ^= play.rng << 17;
	return play.rng % below;
}

/* Function `kind` with `variant`: sizes differ. */
#define VARIANTS 16
#define RFN(kind, variant) (CODE + ((uint64_t)(kind)*VARIANTS + (uint64_t)(variant)) * FN_BYTES)
#define R_START (CODE + (uint64_t)R_NR * VARIANTS * FN_BYTES)

static struct unwind_rule random_rule(int kind, int v)
{
	switch (kind) {
	case R_BARE:
		return (struct unwind_rule){ .kind = UNWIND_SP, .cfa_off = 8 };
	case R_SP:
		return (struct unwind_rule){ .kind = UNWIND_SP, .cfa_off = 8 + 16 * v };
	case R_SAVES:
		return (struct unwind_rule){ .kind = UNWIND_SP,
					     .cfa_off = 32 + 8 * v,
					     .bp = UNWIND_BP_AT_CFA,
					     .bp_off = (__s16)(-16 - 8 * (v % 3)) };
	case R_BP:
		return (struct unwind_rule){ .kind = UNWIND_BP, .cfa_off = 16, .bp = UNWIND_BP_AT_CFA, .bp_off = -16 };
	case R_REALIGNED:
		return (struct unwind_rule){
			.kind = UNWIND_BP_DEREF, .cfa_off = -8, .cfa_add = 8 * v, .bp = UNWIND_BP_AT_BP
		};
	case R_SP_DEREF:
		return (struct unwind_rule){ .kind = UNWIND_SP_DEREF, .cfa_off = 8 * v, .cfa_add = 16 };
	default:
		return (struct unwind_rule){ .kind = UNWIND_SP, .cfa_off = 16, .bp = UNWIND_BP_LOST };
	}
}

static uint64_t random_layout(void)
{
	struct text_row rows[R_NR * VARIANTS + 1];
	size_t n = 0;

	for (int kind = 0; kind < R_NR; kind++)
		for (int v = 0; v < VARIANTS; v++)
			rows[n++] = (struct text_row){ RFN(kind, v), random_rule(kind, v) };
	rows[n++] = (struct text_row){ R_START, fn_rules[F_END] };
	const struct text t = { CODE, R_START + FN_BYTES, CODE, rows, n };
	return text_layout(&t, 1);
}

static void put(struct program *p, uint64_t v)
{
	p->sp -= 8;
	poke(f.th, p->sp, v);
}

static uint64_t draw_word(struct program *p)
{
	switch (draw(4)) {
	case 0:
		return p->sp + 8 * draw(64);
	case 1:
		return RFN(draw(R_NR), draw(VARIANTS)) + 1 + draw(FN_BYTES - 1);
	case 2:
		return p->bp;
	default:
		return draw(3);
	}
}

static void locals(struct program *p, uint64_t bytes)
{
	uint64_t to = p->sp - bytes;

	while (p->sp > to)
		put(p, draw_word(p));
}

/* What the function's first instructions do. The CFA is where the stack pointer was before the call. */
static void prologue(struct program *p, const struct frame *fr)
{
	struct unwind_rule r = random_rule(fr->kind, fr->variant);
	uint64_t cfa = p->sp + 8, saved = p->bp;

	switch (fr->kind) {
	case R_SAVES:
		locals(p, (uint64_t)r.cfa_off - 8);
		poke(f.th, cfa + (uint64_t)(int64_t)r.bp_off, saved);
		p->bp = draw_word(p);
		return;
	case R_BP:
		put(p, saved);
		p->bp = p->sp;
		locals(p, 8 * draw(20));
		return;
	case R_REALIGNED:
		locals(p, 8 * draw(6));
		put(p, saved);
		p->bp = p->sp;
		put(p, cfa - (uint64_t)r.cfa_add);
		locals(p, 8 * draw(20));
		return;
	case R_SP_DEREF:
		locals(p, 8 * draw(6));
		put(p, cfa - 16);
		locals(p, (uint64_t)r.cfa_off);
		return;
	case R_LOST:
		p->bp = draw_word(p);
		/* fall through */
	default:
		locals(p, (uint64_t)r.cfa_off - 8);
	}
}

static uint64_t draw_return(const struct program *p)
{
	const struct frame *fr = p->n ? &p->frame[p->n - 1] : NULL;
	uint64_t fn = fr ? RFN(fr->kind, fr->variant) : R_START;

	return fn + 1 + draw(p->n % 2 ? 4 : FN_BYTES); /* FN_BYTES: the call is its last instruction */
}

static void call_random(struct program *p)
{
	/* One in 16 loses rbp: those that need it are cut there. None in the deep one. */
	bool loses = p != &play.program[2] && !draw(16);
	struct frame fr = { .sp = p->sp, .bp = p->bp, .ret = draw_return(p), .variant = (uint8_t)draw(VARIANTS) };

	fr.kind = (uint8_t)(loses ? R_LOST : draw(R_LOST));
	put(p, fr.ret);
	p->frame[p->n++] = fr;
	prologue(p, &fr);
}

static void return_random(struct program *p)
{
	const struct frame *fr = &p->frame[--p->n];

	p->sp = fr->sp;
	p->bp = fr->bp;
}

/* Return addresses from the innermost on, up to where it is cut. */
static size_t expected(const struct program *p, uint64_t caller, uint64_t *ret, enum stack_cut *ret_cut)
{
	bool lost = false;
	size_t n = 0;

	*ret_cut = CUT_NONE;
	ret[n++] = caller;
	for (int i = p->n - 1; i >= 0; i--) {
		int kind = p->frame[i].kind;
		if (lost && (kind == R_BP || kind == R_REALIGNED)) {
			*ret_cut = CUT_RULE;
			return n;
		}
		lost = kind == R_LOST || (lost && kind != R_SAVES);
		if (n == STACK_MAX_FRAMES) {
			*ret_cut = CUT_DEPTH;
			return n;
		}
		ret[n++] = p->frame[i].ret;
	}
	return n;
}

static void hit_random(struct program *p)
{
	uint64_t want[FRAMES_MAX + 1], ret = draw_return(p), id;
	enum stack_cut cut;

	put(p, ret);
	size_t n = expected(p, ret, want, &cut);
	id = hit_with(RFN(R_BARE, 0), p->sp, p->bp, p->sp, HIT_SITE);
	EXPECT_LIST(id, cut, want, n);
	if (draw(2)) /* at once again */
		assert_int_equal(hit_with(RFN(R_BARE, 0), p->sp, p->bp, p->sp, HIT_SITE), id);
	p->sp += 8;
}

static void programs_begin(int n)
{
	play.rng = RNG_SEED;
	f.pr->layout = random_layout();
	host_map_of(&stacks)->max = UINT32_MAX;
	for (int i = 0; i < n; i++) {
		play.th[i] = i ? thread_new(f.p) : f.th;
		play.th[i]->task.thread.fsbase = i % 2 ? stack_top(play.th[i]) : 0;
		play.program[i].n = 0;
		play.program[i].sp = play.th[i]->sp - 64;
		play.program[i].bp = 0;
	}
}

static void program_be(int i)
{
	f.th = play.th[i];
	be(f.th);
	f.t = thread_get(BPF_LOCAL_STORAGE_GET_F_CREATE);
}

/* Depth wanders; most hits come from a few stacks that differ by their last calls. */
static void test_random(void **state)
{
	(void)state;
	programs_begin(3);
	for (int i = 0; i < 6000; i++) {
		int which = (int)draw(3);
		struct program *p = &play.program[which];
		program_be(which);
		uint64_t deep = which == 2 ? FRAMES_MAX - 8 : 24;
		while (which == 2 && i < 100 && (uint64_t)p->n < deep)
			call_random(p);
		uint64_t up = draw(draw(20) ? 3 : 12), down = draw(draw(20) ? 3 : 12);
		while (up-- && p->n)
			return_random(p);
		while (down-- && (uint64_t)p->n < deep && p->sp > STACK_LOW)
			call_random(p);
		for (uint64_t times = draw(4); times; times--)
			hit_random(p);
	}
	struct stack_stat st = stat_all();
	print_message("%llu taken, %llu repeated, %llu defined\n", st.taken, st.repeated, st.defined);
	assert_true(st.repeated * 4 > st.taken);
	assert_true(st.unwound * 4 > st.taken);
	assert_true(st.cut[CUT_NONE] && st.cut[CUT_RULE] && st.cut[CUT_DEPTH]);
	program_be(0);
}

/* Whatever word changes, a thread with a memory of the stack sees what one without sees. */
static void test_every_word(void **state)
{
	(void)state;
	programs_begin(1);
	for (int round = 0; round < 12; round++) {
		struct program *p = &play.program[0];
		while (p->n)
			return_random(p);
		for (int i = 0; i < 14; i++)
			call_random(p);
		put(p, draw_return(p));
		uint64_t whole = hit_with(RFN(R_BARE, 0), p->sp, p->bp, p->sp, HIT_SITE), changed = 0;
		for (uint64_t at = p->sp; at < p->frame[0].sp; at += 8) {
			uint64_t was = peek(f.th, at);
			const uint64_t words[] = { was + 8, was ^ 1ull << draw(48), draw_word(p),
						   RFN(draw(R_NR), 3) + 7 };
			poke(f.th, at, words[draw(4)]);
			uint64_t with = hit_with(RFN(R_BARE, 0), p->sp, p->bp, p->sp, HIT_SITE);
			forget_stacks();
			assert_int_equal(with, hit_with(RFN(R_BARE, 0), p->sp, p->bp, p->sp, HIT_SITE));
			changed += with != whole;
			poke(f.th, at, was);
			assert_int_equal(hit_with(RFN(R_BARE, 0), p->sp, p->bp, p->sp, HIT_SITE), whole);
		}
		assert_true(changed > 5);
		p->sp += 8;
	}
	f.pr->layout_asked = 0;
	uint64_t wake;
	free(event_next(&wake)); /* words that led to no code */
	assert_null(host.ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_repeated),	    TEST(test_same_but),  TEST(test_rbp_of_hit), TEST(test_page_comes),
		TEST(test_saved_rbp_comes), TEST(test_too_large), TEST(test_random),	 TEST(test_every_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
