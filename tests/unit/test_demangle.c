// SPDX-License-Identifier: GPL-2.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "sym/sym.h"
#include "util/clock.h"
#include "util/mem.h"

static void names_become_readable(void **state)
{
	static const struct {
		const char *raw, *plain;
	} cases[] = {
		{ "_Z3fooi", "foo(int)" },
		{ "_ZN2ns3BoxIiE3getEv", "ns::Box<int>::get()" },
		{ "_Znwm", "operator new(unsigned long)" },
		{ "_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int> >::push_back(int&&)" },
		{ "_ZN2ns4workEi.cold", "ns::work(int) [clone .cold]" },
		{ "_ZZN2ns6hiddenEiENKUliE_clEi", "ns::hidden(int)::{lambda(int)#1}::operator()(int) const" },
		/* Rust, legacy: the hash goes. */
		{ "_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write" },
		{ "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$"
		  "3bar17h930b740aa94f1d3aE",
		  "<Test + 'static as foo::Bar<Test>>::bar" },
		/* Rust, v0. */
		{ "_RNvC6_123foo3bar", "123foo::bar" },
		{ "_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(freep) char *plain = sym_demangle(cases[i].raw);
		assert_non_null(plain);
		assert_string_equal(plain, cases[i].plain);
	}
}

static void other_names_stay(void **state)
{
	static const char *const names[] = { "", "_", "_Z", "_R", "__libc_malloc", "malloc", "Z3fooi", "_Zzzz", "_init",
					     "\xff\xfe", "_Z\xff",
					     /* Go's are readable as they are */
					     "main.main", "main.(*Shop).serve.func1", "runtime.mallocgc", "go:buildid",
					     "github.com/a/b%2ec.(*T[go.shape.int]).Do-fm", "type:.eq._Zone" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_null(sym_demangle(names[i]));
}

/* f(A, B, C, ...) where each type is a pair of the one before it, twice: every level doubles the text. */
static char *bomb(unsigned int levels)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char *raw = xasprintf("_Z1f1A");

	for (unsigned int i = 0; i < levels; i++) {
		/* S_ is A, S0_ the name P, S1_ the first pair, S2_ the pair of that... */
		char ref = i ? digits[i] : 0;
		char *next = i ? xasprintf("%sS0_IS%c_S%c_E", raw, ref, ref) : xasprintf("%s1PIS_S_E", raw);
		free(raw);
		raw = next;
	}
	return raw;
}

static void a_bomb_is_given_up(void **state)
{
	_cleanup_(freep) char *small = bomb(2), *big = bomb(34);
	uint64_t start = mono_ns();
	_cleanup_(freep) char *plain = sym_demangle(small), *none = sym_demangle(big);

	(void)state;
	assert_non_null(plain);
	assert_int_equal(strncmp(plain, "f(A, P<A, A>, P<", 16), 0);
	assert_null(none);
	assert_true(mono_ns() - start < 60000000000ull); /* all of it takes years */
}

static void long_and_deep_names_are_bounded(void **state)
{
	_cleanup_(freep) char *deep = xcalloc(1, 100000);

	(void)state;
	memcpy(deep, "_Z1f", 4);
	for (size_t len = 16; len < 99000; len *= 3) {
		memset(deep + 4, 'P', len);
		deep[4 + len] = 'i';
		deep[5 + len] = 0;
		_cleanup_(freep) char *plain = sym_demangle(deep);
		assert_true(!plain || strlen(plain) < 16384);
	}
	memcpy(deep, "_RNv", 4);
	memset(deep + 4, 'N', 3000);
	deep[3004] = 0;
	assert_null(sym_demangle(deep));
}

static void long_honest_names_are_read(void **state)
{
	char raw[4096] = "_Z4work";
	size_t len = strlen(raw);

	(void)state;
	for (int i = 0; i < 200; i++)
		len += (size_t)snprintf(raw + len, sizeof(raw) - len, "9long_name");
	raw[len] = 0;
	_cleanup_(freep) char *plain = sym_demangle(raw);
	assert_non_null(plain);
	assert_int_equal(strncmp(plain, "work(long_name, long_name", 25), 0);
}

static void garbage_is_survived(void **state)
{
	static const char alphabet[] = "ZNRKSTIELCPQivmbA_0123456789acdefst$.";
	uint64_t seed = 88172645463325252ull;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		char raw[96] = "_Z";
		if (i % 3 == 0)
			raw[1] = 'R';
		for (size_t k = 2; k < 2 + (size_t)(i % 90); k++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			raw[k] = alphabet[seed % (sizeof(alphabet) - 1)];
		}
		_cleanup_(freep) char *plain = sym_demangle(raw);
		assert_true(!plain || strlen(plain) < 16384);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_become_readable),      cmocka_unit_test(other_names_stay),
		cmocka_unit_test(a_bomb_is_given_up),	      cmocka_unit_test(long_and_deep_names_are_bounded),
		cmocka_unit_test(long_honest_names_are_read), cmocka_unit_test(garbage_is_survived),
	};

	return cmocka_run_group_tests_name("demangle", tests, NULL, NULL);
}
