// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every form of operator new and delete: plain, array, aligned, nothrow; failures as bad_alloc (thrown and caught), as null, by a
 * new_handler that throws and one that jumps out. Blocks are counted at the operator, not at the malloc inside it.
 * The exception objects are real allocations of libstdc++: one malloc each, of the object plus its 128-byte header.
 * Argument "other-operators": operator new is not libstdc++'s.
 */
#include <csetjmp>
#include <new>

#include "truth.h"

#define HUGE_BYTES (SIZE_MAX / 2 - 4096)

struct alignas(128) wide {
	char bytes[384];
};

enum { EXCEPTION_HEADER = 128 };

#define NEW "operator new(unsigned long)"
#define NEW_ARRAY "operator new[](unsigned long)"
#define NEW_NOTHROW "operator new(unsigned long, std::nothrow_t const&)"
#define NEW_ARRAY_NOTHROW "operator new[](unsigned long, std::nothrow_t const&)"
#define NEW_ALIGNED "operator new(unsigned long, std::align_val_t)"
#define NEW_ARRAY_ALIGNED "operator new[](unsigned long, std::align_val_t)"
#define NEW_ALIGNED_NOTHROW "operator new(unsigned long, std::align_val_t, std::nothrow_t const&)"

static jmp_buf out;

SITE void *site_new(size_t n)
{
	return truth_alloc(NEW, __func__, ::operator new(n), n);
}

SITE void *site_new_array(size_t n)
{
	return truth_alloc(NEW_ARRAY, __func__, ::operator new[](n), n);
}

SITE void *site_new_nothrow(size_t n)
{
	return truth_alloc(NEW_NOTHROW, __func__, ::operator new(n, std::nothrow), n);
}

SITE void *site_new_array_nothrow(size_t n)
{
	return truth_alloc(NEW_ARRAY_NOTHROW, __func__, ::operator new[](n, std::nothrow), n);
}

SITE void *site_new_aligned(size_t n, size_t align)
{
	return truth_alloc(NEW_ALIGNED, __func__, ::operator new(n, std::align_val_t(align)), n);
}

SITE void *site_new_array_aligned(size_t n, size_t align)
{
	return truth_alloc(NEW_ARRAY_ALIGNED, __func__, ::operator new[](n, std::align_val_t(align)), n);
}

SITE void *site_new_aligned_nothrow(size_t n, size_t align)
{
	return truth_alloc(NEW_ALIGNED_NOTHROW, __func__, ::operator new(n, std::align_val_t(align), std::nothrow), n);
}

SITE wide *site_new_wide()
{
	wide *p = new wide;

	truth_alloc(NEW_ALIGNED, __func__, p, sizeof(wide));
	return p;
}

SITE int *site_new_ints(size_t n)
{
	int *p = new int[n];

	truth_alloc(NEW_ARRAY, __func__, p, n * sizeof(int));
	return p;
}

SITE void *site_c_malloc(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void drop(void *p)
{
	truth_free(p);
	::operator delete(p);
}

SITE void drop_array(void *p)
{
	truth_free(p);
	::operator delete[](p);
}

SITE void drop_sized(void *p, size_t n)
{
	truth_free(p);
	::operator delete(p, n);
}

SITE void drop_aligned(void *p, size_t align)
{
	truth_free(p);
	::operator delete(p, std::align_val_t(align));
}

// The exception object lives until the end of the handler; its address is not ours to know, so it is booked by hand.
static void book_exception(size_t object_bytes)
{
	uint32_t s = truth_find_site("malloc", "__cxa_allocate_exception");

	truth.sites[s].alloc_bytes += object_bytes + EXCEPTION_HEADER;
	truth.sites[s].alloc_count++;
	truth.sites[s].free_bytes += object_bytes + EXCEPTION_HEADER;
	truth.sites[s].free_count++;
}

static void do_plain()
{
	for (size_t i = 1; i <= 200; i++) {
		void *a = site_new(i), *b = site_new_array(i * 2), *c = site_new_nothrow(i * 3);
		void *d = site_new_array_nothrow(i * 4), *e = site_c_malloc(i);

		if (i % 2)
			drop(a), drop_array(b), drop_sized(c, i * 3), drop_array(d), truth_free(e), free(e);
	}
	drop(site_new(0));
	site_new(0);
	drop(nullptr);
	for (size_t i = 0; i < 50; i++) {
		void *a = site_new_aligned(100 + i, 64), *b = site_new_array_aligned(300 + i, 256);
		void *c = site_new_aligned_nothrow(500 + i, 4096);
		wide *w = site_new_wide();
		int *ints = site_new_ints(i);

		if (i % 5)
			continue;
		drop_aligned(a, 64);
		truth_free(b);
		::operator delete[](b, std::align_val_t(256));
		drop_aligned(c, 4096);
		truth_free(w);
		delete w;
		truth_free(ints);
		delete[] ints;
	}
}

static void handler_throws()
{
	throw 42;
}

static void handler_jumps()
{
	longjmp(out, 1);
}

// libstdc++'s nothrow forms catch what the plain ones throw; those of other allocators throw nothing in the first place.
static int do_failures(bool nothrow_throws)
{
	volatile int caught = 0; // survives the longjmp below

	for (int i = 0; i < 20; i++) {
		try {
			site_new(truth_opaque(HUGE_BYTES));
		} catch (const std::bad_alloc &) {
			caught = caught + 1;
		}
		book_exception(sizeof(std::bad_alloc));
		try {
			site_new_array(truth_opaque(HUGE_BYTES));
		} catch (const std::bad_alloc &) {
			caught = caught + 1;
		}
		book_exception(sizeof(std::bad_alloc));
		if (!site_new_nothrow(truth_opaque(HUGE_BYTES)))
			caught = caught + 1;
		if (nothrow_throws)
			book_exception(sizeof(std::bad_alloc));
		drop(site_new(10)); // and what comes after a failure is counted as before it
	}
	std::set_new_handler(handler_throws);
	for (int i = 0; i < 10; i++) {
		try {
			site_new(truth_opaque(HUGE_BYTES));
		} catch (int n) {
			caught = caught + (n == 42);
		}
		book_exception(sizeof(int));
		site_new(7);
	}
	std::set_new_handler(handler_jumps);
	for (volatile int i = 0; i < 10; i = i + 1) {
		if (!setjmp(out))
			site_new(truth_opaque(HUGE_BYTES));
		site_new(8);
		drop(site_new_array(9));
	}
	std::set_new_handler(nullptr);
	return caught;
}

int main(int argc, char **argv)
{
	bool libstdcxx = !(argc > 1 && !strcmp(argv[1], "other-operators"));

	// In static programs the unwinder allocates at the first throw: before the start line.
	try {
		throw 1;
	} catch (int) {
	}
	truth_start();
	do_plain();
	if (do_failures(libstdcxx) != 70)
		truth_die("an exception was lost\n");
	do_plain();
	truth_print("cxx");
	truth_wait_line();
	_exit(0);
}
