/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Real programs' memory, as record.c wrote it down: the unwinder and the walker of Python frames find in it what they found in the live
 * process, which was checked against the interpreter's own traceback then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glob.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "image.h"

static int setup(void **state)
{
	(void)state;
	world_init(true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_done();
	return 0;
}

static void expect_native(const struct image *im, uint64_t id)
{
	const struct stack *st = bpf_map_lookup_elem(&stacks, &id);

	assert_non_null(st);
	for (uint32_t i = 0; i < im->n_ips && i < st->n_ips; i++)
		assert_int_equal(st->ip[i], im->ip[i]);
	assert_int_equal(st->n_ips, im->n_ips);
	assert_int_equal(st->cut, im->cut);
}

static void expect_python(const struct image *im, uint64_t id)
{
	const struct python_chain *c = bpf_map_lookup_elem(&python_chains, &id);

	if (!im->n_python) {
		assert_int_equal(id, 0);
		return;
	}
	assert_non_null(c);
	for (uint32_t i = 0; i < im->n_python && i < c->n; i++)
		assert_int_equal(c->frame[i], im->frame[i]);
	assert_int_equal(c->n, im->n_python);
	assert_int_equal(c->flags, im->chain_flags);
	/* One code object, one identity. */
	for (uint32_t i = 0; i < c->n; i++)
		for (uint32_t k = 0; k < i; k++)
			assert_int_equal(python_frame_code(c->frame[i]) == python_frame_code(c->frame[k]),
					 c->code_id[i] == c->code_id[k]);
}

static void replay(const char *path)
{
	struct image *im = image_read(path);

	if (!im)
		fail_msg("%s: not an image", path);
	struct thread *th = image_thread(im, text_layout(im->texts, (uint32_t)im->n_texts));
	for (size_t i = 0; i < im->n_regions; i++) {
		host_map_region(th->task.mm, im->regions[i].base, im->regions[i].bytes);
		memcpy(th->task.mm->regions[i].image, im->regions[i].image, im->regions[i].bytes);
		free(im->regions[i].image);
	}
	struct stack_ids ids = image_take(im, th), again;
	expect_native(im, ids.native);
	expect_python(im, ids.python);
	for (int i = 0; i < 3; i++) { /* remembered */
		again = image_take(im, th);
		assert_memory_equal(&again, &ids, sizeof(ids));
	}
	print_message("%s: %u frames, %u of Python\n", strrchr(path, '/') + 1, im->n_ips, im->n_python);
	free(im);
}

static void test_images(void **state)
{
	(void)state;
	glob_t g;

	assert_int_equal(glob("tests/host/images/*.img", 0, NULL, &g), 0);
	for (size_t i = 0; i < g.gl_pathc; i++) {
		replay(g.gl_pathv[i]);
		world_init(true);
	}
	assert_true(g.gl_pathc >= 12);
	globfree(&g);
}

/* Files that are none. */
static void test_not_an_image(void **state)
{
	(void)state;
	assert_null(image_read("tests/host/images/none.img"));
	assert_null(image_read("tests/host/image.h"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_images, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_an_image, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
