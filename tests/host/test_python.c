/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The walker over CPython's frames, on memory as each version lays it out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "books.h"
#include "probe/pyoffsets.h"
#include "python_fixture.h"

#define FIRST_MINOR 8
#define LAST_MINOR 14
#define for_each_version(minor) for (uint32_t minor = FIRST_MINOR; minor <= LAST_MINOR; minor++)

static struct python_chain with_events(uint64_t id, uint64_t told, uint64_t chains)
{
	uint64_t n_codes = 0, n_chains = 0;

	for (struct host_record *r; (r = host.ring); free(r)) {
		const struct event *e = (const void *)r->data;
		assert_true(r->submitted);
		n_codes += e->kind == EVENT_CODE;
		if (e->kind == EVENT_PYTHON) {
			assert_int_equal(e->map.ids.python, id);
			n_chains++;
		}
		host.ring = r->next;
	}
	assert_int_equal(n_codes, told);
	assert_int_equal(n_chains, chains);
	return *chain_of(id);
}

/* Several eval loops, frames at all kinds of places of their code. */
static struct chain usual_chain(void)
{
	struct chain c = chain_begin();

	chain_add(&c, code_new(0), 0, false);
	chain_add(&c, code_new(1), 5, true);
	chain_add(&c, code_new(2), -1, false); /* not begun */
	chain_add(&c, code_new(3), 100000, false);
	chain_add(&c, code_new(1), 6, true);
	chain_add(&c, code_new(4), 1, true);
	return c;
}

static void test_versions(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		struct chain c = usual_chain();
		uint64_t id = chain_take();
		EXPECT_CHAIN(id, 0, &c);
		struct python_chain got = with_events(id, 5, 1);
		struct proc_key self = id_of(f.p);
		assert_true(id_equal(&got.first_seen_in, &self));
		assert_int_equal(got.code_id[1], got.code_id[4]);
		for (int i = 0; i < 4; i++)
			for (int k = 0; k < i; k++)
				assert_int_not_equal(got.code_id[i], got.code_id[k]);
		/* Once more: nothing new is told. */
		assert_int_equal(chain_take(), id);
		assert_int_equal(chain_take(), id);
		assert_null(host.ring);
		f.pr->id.image++; /* the next version is another program */
	}
	assert_int_equal(host_map_of(&python_chains)->n, LAST_MINOR - FIRST_MINOR + 1);
}

/* Another instruction, another code, another depth, another entry: another chain. */
static void test_different(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		uint64_t id[5];
		version_begin(minor);
		(void)usual_chain();
		id[0] = chain_take();
		frame_unit(CHUNK + 64, CODE_AT(0), 1);
		id[1] = chain_take();
		poke(f.th, CHUNK + 64 + f.py.frame_code, code_new(5));
		frame_unit(CHUNK + 64, CODE_AT(5), 1);
		id[2] = chain_take();
		state_frame(STATE, CHUNK + 64 + 176);
		id[3] = chain_take();
		f.pr->id.image++;
		id[4] = chain_take();
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < i; k++)
				assert_int_not_equal(id[i], id[k]);
		/* A word that is no part of it. */
		(void)ring_take(EVENT_NR);
		poke(f.th, CHUNK + 64 + 176 + 120, 0x1234);
		assert_int_equal(chain_take(), id[4]);
		assert_null(host.ring);
		f.pr->id.image++;
	}
}

/* The line is not known that far out. */
static void test_large_unit(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		struct chain c = chain_begin();
		chain_add(&c, code_new(0), PYTHON_UNIT_MAX - 2, true);
		chain_add(&c, code_new(0), PYTHON_UNIT_MAX - 1, true);
		chain_add(&c, code_new(0), PYTHON_UNIT_MAX, true);
		chain_add(&c, code_new(0), PYTHON_UNIT_MAX + 10, true);
		EXPECT_CHAIN(chain_take(), 0, &c);
		if (!f.py.has_lasti) { /* before the code, as far as can be */
			poke(f.th, CHUNK + 64 + f.py.frame_instr, 0);
			assert_int_equal(python_frame_unit(chain_of(chain_take())->frame[0]), 0);
		}
		f.pr->id.image++;
	}
}

static void expect_none(void)
{
	uint64_t before = stat_of()->python_foreign;

	assert_int_equal(chain_take(), 0);
	assert_int_equal(stat_of()->python_foreign, before + 1);
}

/* Thread-specific data: first block, further blocks, musl's array. */
static void test_thread_data(void **state)
{
	(void)state;
	static const uint32_t keys[] = { 0, 1, 31, 32, 33, 63, 64, 1023 };
	const uint64_t block = TCB + 0x2000;

	for_each_version(minor)
	{
		version_begin(minor);
		poke(f.th, glibc_slot(KEY), 0);
		struct chain c = usual_chain();
		for (size_t i = 0; i < sizeof(keys) / 4; i++) {
			uint64_t at = glibc_slot(keys[i]), pointer = TCB + GLIBC_TSD_SECOND + keys[i] / 32 * 8;
			key_set(1, keys[i]);
			if (keys[i] >= GLIBC_TSD_KEYS) {
				expect_none(); /* no such block yet */
				poke(f.th, pointer, 8);
				expect_none(); /* not readable */
				poke(f.th, pointer, block);
				at = block + keys[i] % 32 * 16 + 8;
			}
			expect_none();
			poke(f.th, at, STATE);
			EXPECT_CHAIN(chain_take(), 0, &c);
			poke(f.th, at, 0);
			if (keys[i] >= GLIBC_TSD_KEYS)
				poke(f.th, pointer, 0);
		}
		f.py.tsd = PYTHON_TSD_MUSL;
		python_change();
		key_set(1, 5);
		expect_none(); /* its array is nowhere */
		poke(f.th, TCB + MUSL_TSD_OFFSET, block);
		expect_none();
		poke(f.th, block + 5 * 8, STATE);
		EXPECT_CHAIN(chain_take(), 0, &c);
		poke(f.th, block + 5 * 8, 0);
		poke(f.th, TCB + MUSL_TSD_OFFSET, 0);
		f.pr->id.image++;
	}
}

/* The runtime makes its key when it starts; until then there is no Python. A key is the image's. */
static void test_no_key_yet(void **state)
{
	(void)state;
	version_begin(11);
	struct chain c = usual_chain();
	key_set(0, KEY);
	expect_none();
	poke32(RUNTIME + f.py.tss_key, 1); /* nothing of before is kept */
	EXPECT_CHAIN(chain_take(), 0, &c);
	poke32(RUNTIME + f.py.tss_key + 4, KEY + 1); /* never happens: it is not read again */
	EXPECT_CHAIN(chain_take(), 0, &c);
	f.pr->id.image++;
	expect_none(); /* another program has another */
	f.pr->python = 0;
	assert_int_equal(chain_take(), 0);
	f.pr->python = PYTHON_INFOS;
	assert_int_equal(chain_take(), 0);
	f.pr->python = PYTHON_INDEX + 1; /* an empty slot */
	assert_int_equal(chain_take(), 0);
}

/* Threads that run no Python, while another one does. */
static void test_foreign_threads(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		struct chain c = usual_chain();
		poke(f.th, STATE + f.py.tstate_thread, TCB);
		if (f.py.tstate_current)
			poke(f.th, RUNTIME + f.py.tstate_current, STATE); /* holds the GIL */
		EXPECT_CHAIN(chain_take(), 0, &c);
		f.th->task.thread.fsbase = TCB + 0x4000; /* a thread of its own, no thread-specific data */
		expect_none();
		f.th->task.thread.fsbase = 0x1000; /* not readable */
		expect_none();
		f.th->task.thread.fsbase = TCB;
		f.pr->id.image++;
	}
}

/* Before 3.12 the holder of the GIL may be in a subinterpreter, whose state is not the one that the thread's data has. */
static void test_subinterpreter(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		struct chain c = usual_chain();
		poke(f.th, STATE + f.py.tstate_thread, TCB);
		state_frame(OTHER_STATE, CHUNK + 64 + 176);
		poke(f.th, OTHER_STATE + f.py.tstate_thread, TCB + 8); /* another thread's */
		poke(f.th, RUNTIME + (f.py.tstate_current ? f.py.tstate_current : 8), OTHER_STATE);
		EXPECT_CHAIN(chain_take(), 0, &c);
		poke(f.th, OTHER_STATE + f.py.tstate_thread, TCB);
		if (f.py.tstate_current)
			assert_int_equal(chain_of(chain_take())->frame[0], c.want[1]);
		else
			EXPECT_CHAIN(chain_take(), 0, &c);
		if (f.py.tstate_current) {
			poke(f.th, RUNTIME + f.py.tstate_current, NOT_MAPPED); /* it is gone meanwhile */
			EXPECT_CHAIN(chain_take(), 0, &c);
			poke(f.th, RUNTIME + f.py.tstate_current, 0); /* nobody holds it */
			EXPECT_CHAIN(chain_take(), 0, &c);
		}
		f.pr->id.image++;
	}
}

/* A thread between two calls of the interpreter: it has a state, and no frame. */
static void test_no_frame(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		state_frame(STATE, 0);
		expect_none();
		poke(f.th, STATE + f.py.tstate_frame, 0); /* not even a CFrame */
		expect_none();
		if (f.py.has_cframe) {
			poke(f.th, STATE + f.py.tstate_frame, NOT_MAPPED);
			expect_none();
		}
		poke(f.th, glibc_slot(KEY), NOT_MAPPED);
		expect_none();
		/* Only a shim: an eval loop that has not begun. */
		if (f.py.entry == PYTHON_ENTRY_SHIM) {
			poke(f.th, glibc_slot(KEY), STATE);
			frame_make(CHUNK + 64, 0, 0, 0, f.py.shim_owner);
			state_frame(STATE, CHUNK + 64);
			assert_int_equal(chain_take(), 0);
		}
		f.pr->id.image++;
	}
}

static struct chain deep_chain(int n, bool is_entry)
{
	struct chain c = chain_begin();

	for (int i = 0; i < n; i++)
		chain_add(&c, CODE_AT(i % 3), i, is_entry);
	if (c.n > PYTHON_FRAMES_MAX)
		c.n = PYTHON_FRAMES_MAX;
	return c;
}

/* A thousand deep is cut, however many shims are between. */
static void test_depth(void **state)
{
	(void)state;
	host_map_region(f.p->mm, CHUNK + CHUNK_BYTES, 0x10000);
	for_each_version(minor)
	{
		version_begin(minor);
		for (uint32_t i = 0; i < 3; i++)
			code_new(i);
		for (int is_entry = 0; is_entry < 2; is_entry++) {
			for (int n = PYTHON_FRAMES_MAX - 2; n <= PYTHON_FRAMES_MAX + 3; n++) {
				struct chain c = deep_chain(n, is_entry);
				EXPECT_CHAIN(chain_take(), n > PYTHON_FRAMES_MAX ? PYTHON_CHAIN_CUT : 0, &c);
			}
		}
		f.pr->id.image++;
	}
}

/* What can't be followed ends the chain there, and it says so. */
static void test_broken(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		struct chain c = usual_chain();
		uint64_t second = CHUNK + 64 + 176, third = second + 176 * (f.py.entry == PYTHON_ENTRY_SHIM ? 2 : 1);
		uint64_t back = second + f.py.frame_back, was = peek(f.th, back);
		static const uint64_t wrong[] = { 1,	 8,	CHUNK + 4,	    NOT_MAPPED, USER_ADDR_MAX,
						  ~0ull, ~7ull, CHUNK + CHUNK_BYTES };
		for (size_t i = 0; i < sizeof(wrong) / 8; i++) {
			poke(f.th, back, wrong[i]);
			struct python_chain got = *chain_of(chain_take());
			assert_int_equal(got.n, 2);
			assert_int_equal(got.flags, PYTHON_CHAIN_BROKEN);
			assert_int_equal(got.frame[0], c.want[0]);
			assert_int_equal(got.frame[1] & ~PYTHON_FRAME_ENTRY, c.want[1] & ~PYTHON_FRAME_ENTRY);
		}
		poke(f.th, back, was);
		static const uint64_t codes_wrong[] = { 0, 1, 7, NOT_MAPPED, USER_ADDR_MAX, CODES + CODES_BYTES - 64 };
		for (size_t i = 0; i < sizeof(codes_wrong) / 8; i++) {
			poke(f.th, third + f.py.frame_code, codes_wrong[i]);
			struct python_chain got = *chain_of(chain_take());
			assert_int_equal(got.n, 2);
			assert_int_equal(got.flags, PYTHON_CHAIN_BROKEN);
			assert_int_equal(got.frame[1], c.want[1]);
		}
		state_frame(STATE, NOT_MAPPED);
		assert_int_equal(chain_take(), PYTHON_LOST);
		f.pr->id.image++;
	}
}

/* The frame whose `back` is the last one's: frames lie one behind the other. */
static uint64_t last_frame(void)
{
	return f.at - 176;
}

/* `previous` in a circle: memory that is changed while it is read, or a hostile target. */
static void test_circle(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		(void)usual_chain();
		poke(f.th, last_frame() + f.py.frame_back, CHUNK + 64);
		const struct python_chain *got = chain_of(chain_take());
		assert_int_equal(got->n, PYTHON_FRAMES_MAX);
		assert_int_equal(got->flags, PYTHON_CHAIN_CUT);
		poke(f.th, CHUNK + 64 + f.py.frame_back, CHUNK + 64); /* itself */
		got = chain_of(chain_take());
		assert_int_equal(got->n, PYTHON_FRAMES_MAX);
		if (f.py.entry == PYTHON_ENTRY_SHIM) { /* of shims only */
			struct chain c = chain_begin();
			chain_add(&c, code_new(0), 0, true);
			poke(f.th, last_frame() + f.py.frame_back, last_frame());
			EXPECT_CHAIN(chain_take(), PYTHON_CHAIN_CUT, &c);
		}
		f.pr->id.image++;
	}
}

/* Frames at every place near the end of a chunk, behind which nothing is mapped; the next one lies in another chunk. */
static void test_chunk_borders(void **state)
{
	(void)state;
	const uint64_t other = CHUNK + 0x100000;

	host_map_region(f.p->mm, other, 4096);
	for_each_version(minor)
	{
		version_begin(minor);
		if (f.py.has_lasti)
			continue; /* each frame is an object of its own, larger than what is read */
		uint64_t least = f.py.frame_owner / 8 * 8 + 8; /* what a frame has at least */
		for (uint64_t room = least; room < 400; room += 8) {
			uint64_t inner = CHUNK + CHUNK_BYTES - room, outer = other + 4096 - room;
			frame_make(inner, outer, code_new(0), 3, 0);
			frame_make(outer, 0, code_new(1), 4, 1);
			state_frame(STATE, inner);
			struct chain c = { .n = 2 };
			c.want[0] = python_frame_pack(CODE_AT(0), 4);
			c.want[1] = python_frame_pack(CODE_AT(1), 5);
			if (f.py.entry == PYTHON_ENTRY_FLAG)
				c.want[1] |= PYTHON_FRAME_ENTRY;
			for (int again = 0; again < 3; again++)
				EXPECT_CHAIN(chain_take(), 0, &c);
			/* The first one of a chunk, with nothing mapped in front of it. */
			frame_make(other, 0, code_new(1), 4, 1);
			poke(f.th, inner + f.py.frame_back, other);
			EXPECT_CHAIN(chain_take(), 0, &c);
		}
		f.pr->id.image++;
	}
}

/* A code object is freed and another one made at its place. */
static void test_code_replaced(void **state)
{
	(void)state;
	for_each_version(minor)
	{
		version_begin(minor);
		struct chain c = chain_begin();
		chain_add(&c, code_new(0), 3, true);
		(void)ring_take(EVENT_NR);
		uint64_t first = chain_take(), second, third;
		assert_int_equal(ring_take(EVENT_CODE), 1);
		code_make(CODE_AT(0), 1, TABLE_AT(0));
		second = chain_take();
		assert_int_not_equal(first, second);
		EXPECT_CHAIN(second, 0, &c);
		assert_int_not_equal(chain_of(first)->code_id[0], chain_of(second)->code_id[0]);
		assert_int_equal(ring_take(EVENT_CODE), 1); /* its names are told anew */
		/* Everything at the same places; only what the line table says differs. */
		poke_bytes(TABLE_AT(0) + 32 + 15, "?", 1);
		third = chain_take();
		assert_int_not_equal(third, second);
		poke_bytes(TABLE_AT(0) + 32 + 16, "?", 1); /* behind what is looked at */
		poke(f.th, TABLE_AT(0) + 24, 77);	   /* its hash, which is computed at some time */
		assert_int_equal(chain_take(), third);
		poke(f.th, TABLE_AT(0) + PYTHON_TABLE_HEAD, 12); /* shorter: what is behind its end does not count */
		third = chain_take();
		poke_bytes(TABLE_AT(0) + 32 + 13, "!", 1);
		assert_int_equal(chain_take(), third);
		poke_bytes(TABLE_AT(0) + 32 + 11, "!", 1);
		assert_int_not_equal(chain_take(), third);
		/* The same source compiled anew is the same code. */
		third = chain_take();
		poke32(CODE_AT(0) + f.py.code_id + PYTHON_VERSION_WORD * 8 + 4, 99);
		assert_int_equal(chain_take(), third);
		f.pr->id.image++;
	}
}

/* 3.14: what a frame refers to has its owner's mark in the low bits. */
static void test_tagged_code(void **state)
{
	(void)state;
	version_begin(14);
	struct chain c = usual_chain();

	for (uint64_t tag = 0; tag < 8; tag++) {
		poke(f.th, CHUNK + 64 + f.py.frame_code, CODE_AT(0) | tag);
		EXPECT_CHAIN(chain_take(), 0, &c);
	}
	assert_int_equal(host_map_of(&python_chains)->n, 1);
}

static void test_cannot_be_stored(void **state)
{
	(void)state;
	version_begin(12);
	struct chain c = usual_chain();

	host_map_of(&python_chains)->max = host_map_of(&more_chains)->max = 0;
	assert_int_equal(chain_take(), PYTHON_LOST);
	assert_int_equal(loss_take(f.p, LOSS_STACKS_FULL), 1);
	assert_null(host.ring);
	host_map_of(&python_chains)->max = 1;
	for (uint32_t i = 0; i < SCRATCH_PER_CPU; i++)
		((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy = 1;
	assert_int_equal(chain_take(), PYTHON_LOST);
	assert_int_equal(loss_take(f.p, LOSS_SCRATCH_BUSY), 1);
	for (uint32_t i = 0; i < SCRATCH_PER_CPU; i++)
		((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy = 0;
	host.ring_full = true; /* the chain is there, its names will be read later */
	uint64_t id = chain_take();
	EXPECT_CHAIN(id, 0, &c);
	host.ring_full = false;
	for (uint32_t i = 0; i < SCRATCH_PER_CPU; i++)
		((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy = 1;
	assert_int_equal(chain_take(), id); /* a chain that is known needs no place */
	for (uint32_t i = 0; i < SCRATCH_PER_CPU; i++)
		((struct scratch *)bpf_map_lookup_elem(&scratches, &i))->busy = 0;
	((struct python_chain *)bpf_map_lookup_elem(&python_chains, &id))->n--;
	assert_int_equal(chain_take(), PYTHON_LOST);
	assert_int_equal(loss_take(f.p, LOSS_STACK_COLLISION), 1);
}

/* The pair of a hit: native and Python. */
static void test_pair(void **state)
{
	(void)state;
	version_begin(13);
	struct chain c = usual_chain();

	call(f.th, &fn_malloc, PROG_TEXT + 0x100, ARGS(8), HEAP_BASE);
	struct stack_ids ids = stack_ids_at(account_of(f.p), HEAP_BASE);
	EXPECT_CHAIN(ids.python, 0, &c);
	assert_int_equal(ids.id, stack_id_of(ids.native, ids.python, 0, LAYER_HEAP));
	state_frame(STATE, 0);
	call(f.th, &fn_malloc, PROG_TEXT + 0x100, ARGS(8), HEAP_BASE + 64);
	struct stack_ids bare = stack_ids_at(account_of(f.p), HEAP_BASE + 64);
	assert_int_equal(bare.native, ids.native);
	assert_int_equal(bare.python, 0);
	assert_int_equal(bare.id, stack_id_of(ids.native, 0, 0, LAYER_HEAP));
}

/* --- remembered chains --- */
static uint64_t repeated(void)
{
	return stat_of()->python_repeated;
}

static void test_remembered(void **state)
{
	(void)state;
	version_begin(13);
	counter_begin(1000);
	struct chain c = usual_chain();
	uint64_t id = chain_take();

	for (int i = 0; i < 4; i++)
		assert_int_equal(chain_take(), id);
	uint64_t before = repeated();
	assert_true(before >= 2);
	EXPECT_CHAIN(id, 0, &c);
	poke32(INTERP + COUNTER_AT, 1001); /* a code object was made: it may lie where one of these did */
	assert_int_equal(chain_take(), id);
	assert_int_equal(repeated(), before);
	assert_int_equal(chain_take(), id);
	assert_int_equal(repeated(), before + 1);
	f.pr->id.image++;
	assert_int_not_equal(chain_take(), id);
	assert_int_equal(repeated(), before + 1);
	f.pr->id.image--;
	/* What is no counter: below the versions that are there, far above them, or none. */
	const uint32_t wrong[] = { 0, 3, 5, 5 + COUNTER_AHEAD_MAX + 10 };
	for (size_t i = 0; i < sizeof(wrong) / 4; i++) {
		poke32(INTERP + COUNTER_AT, wrong[i]);
		before = repeated();
		for (int k = 0; k < 4; k++)
			assert_int_equal(chain_take(), id);
		assert_int_equal(repeated(), before);
	}
	poke(f.th, STATE + 16, NOT_MAPPED);
	assert_int_equal(chain_take(), id);
}

/* Whatever changes in the frames' memory: with a memory and without, the same chain. */
static void test_every_word(void **state)
{
	(void)state;
	host_map_of(&python_chains)->max = UINT32_MAX;
	version_begin(13);
	counter_begin(1000);
	(void)usual_chain();
	uint64_t whole = chain_take(), rng = 88172645463325252ull, before = repeated();

	for (uint64_t at = CHUNK; at < f.at + 64; at += 8) {
		const uint64_t was = peek(f.th, at);
		for (int how = 0; how < 5; how++) {
			rng ^= rng << 13;
			rng ^= rng >> 7;
			rng ^= rng << 17;
			const uint64_t to[] = { was + 2, was ^ 1ull << (rng % 64), CHUNK + 64 + 176 * (rng % 9),
						CODE_AT(rng % 6), 0 };
			while (repeated() == before)
				assert_int_equal(chain_take(), whole);
			poke(f.th, at, to[how]);
			uint64_t with = chain_take();
			forget();
			assert_int_equal(with, chain_take());
			poke(f.th, at, was);
			assert_int_equal(chain_take(), whole);
			before = repeated();
		}
	}
	(void)loss_take(f.p, LOSS_STACK_COLLISION);
}

#define TEST(name) \
	{ \
#name, name, python_setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_versions),	   TEST(test_different),   TEST(test_large_unit),
		TEST(test_thread_data),	   TEST(test_no_key_yet),  TEST(test_foreign_threads),
		TEST(test_subinterpreter), TEST(test_no_frame),	   TEST(test_depth),
		TEST(test_broken),	   TEST(test_circle),	   TEST(test_chunk_borders),
		TEST(test_code_replaced),  TEST(test_tagged_code), TEST(test_cannot_be_stored),
		TEST(test_pair),	   TEST(test_remembered),  TEST(test_every_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
