/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code objects that were identified lately: not read again, and nobody else's. */
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

/* What is known of a code object is used while the counter stands, and by no other object, process or counter. */
static void test_known_codes(void **state)
{
	(void)state;
	version_begin(13);
	for (int i = 0; i < 6; i++)
		(void)code_new(i);
	for (int i = 0; i < 64; i++) {
		/* Codes and counters that differ in the same bits. */
		uint32_t first = 1000 + (uint32_t)i, second = first ^ (uint32_t)(CODE_AT(i % 6) ^ CODE_AT((i + 1) % 6));
		counter_begin(first);
		struct chain c = chain_begin();
		chain_add(&c, CODE_AT(i % 6), 3, true);
		EXPECT_CHAIN(chain_take(), 0, &c);
		counter_begin(second);
		c = chain_begin();
		chain_add(&c, CODE_AT((i + 1) % 6), 3, true);
		uint64_t with = chain_take();
		EXPECT_CHAIN(with, 0, &c);
		forget();
		assert_int_equal(chain_take(), with);
	}
}

/* Read once; again when the counter has moved, or where there is none. */
static void test_known_codes_are_not_read(void **state)
{
	(void)state;
	version_begin(13);
	counter_begin(1000);
	struct chain c = chain_begin();
	chain_add(&c, code_new(0), 3, true);
	uint64_t id = chain_take();
	uint64_t name = peek(f.th, CODE_AT(0) + f.py.code_id + 72);

	poke(f.th, CODE_AT(0) + f.py.code_id + 72, name + 8); /* in life it can't change: it shows who looks */
	frame_unit(CHUNK + 64, CODE_AT(0), 4);
	uint32_t known = chain_of(chain_take())->code_id[0];
	assert_int_equal(known, chain_of(id)->code_id[0]);
	poke32(INTERP + COUNTER_AT, 1001);
	frame_unit(CHUNK + 64, CODE_AT(0), 5);
	assert_int_not_equal(chain_of(chain_take())->code_id[0], known);
	poke32(INTERP + COUNTER_AT, 1000);
	frame_unit(CHUNK + 64, CODE_AT(0), 6);
	assert_int_equal(chain_of(chain_take())->code_id[0], known);
	poke32(INTERP + COUNTER_AT, 0);
	frame_unit(CHUNK + 64, CODE_AT(0), 7);
	assert_int_not_equal(chain_of(chain_take())->code_id[0], known);
}

/* One frame in code object 0, at that code unit: a chain of its own. */
static uint64_t unit_take(int64_t unit)
{
	frame_unit(CHUNK + 64, CODE_AT(0), unit);
	return chain_take();
}

/* Another interpreter counts for itself: its code object at the same address, under the same number, is another one. */
static void test_another_interpreter(void **state)
{
	(void)state;
	version_begin(13);
	counter_begin(1000);
	struct chain c = chain_begin();
	chain_add(&c, code_new(0), 3, true);
	uint32_t first = chain_of(chain_take())->code_id[0];

	poke(f.th, STATE + 16, INTERP + 0x100);
	poke32(INTERP + 0x100 + COUNTER_AT, 1000);
	poke(f.th, CODE_AT(0) + f.py.code_id + 72, peek(f.th, CODE_AT(0) + f.py.code_id + 72) + 8);
	assert_int_not_equal(chain_of(unit_take(4))->code_id[0], first);
	poke(f.th, STATE + 16, INTERP);
	assert_int_equal(chain_of(unit_take(5))->code_id[0], first);
}

/* It is told once; if there was no room for it, with the next chain that it is in. */
static void test_told_once(void **state)
{
	(void)state;
	version_begin(13);
	counter_begin(1000);
	struct chain c = chain_begin();
	chain_add(&c, code_new(0), 3, true);
	host.ring_full = true;
	(void)chain_take();
	assert_int_equal(ring_take(EVENT_CODE), 0);
	host.ring_full = false;
	(void)unit_take(4);
	assert_int_equal(ring_take(EVENT_CODE), 1);
	for (int unit = 5; unit < 8; unit++)
		(void)unit_take(unit);
	assert_int_equal(ring_take(EVENT_CODE), 0);
}

#define TEST(name) \
	{ \
#name, name, python_setup, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_known_codes),
		TEST(test_known_codes_are_not_read),
		TEST(test_another_interpreter),
		TEST(test_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
