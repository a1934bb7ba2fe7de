/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the eval loop lies. Known truth: symbols. Each file is looked at as it is and without .symtab, and has to give the same ranges. A loop whose instructions are
 * functions is built here in assembly, as compilers lay it out: a table, labels that all share, parts moved away, and next to it code that is none of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/pyeval.h"
#include "target/dynsym.h"
#include "target/elf.h"
#include "util/mem.h"

#define LOOP "_PyEval_EvalFrameDefault"

/*
 *	text		table_eval: its frame, a jump to its cold part, a call of tc_start
 *			tc_0 ... tc_99: through the table to the next one; some to tc_error, one to its cold part
 *			tc_error: through the table; not an entry of it
 *			outsider: calls tc_start, has a cold part of its own
 *	text.cold	the cold parts
 */
__asm__(".text\n"
	".p2align 4\n"
	".globl table_eval\n.type table_eval, @function\n"
	"table_eval:\n.cfi_startproc\n"
	"push %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset 6, -16\n"
	"mov %rsp, %rbp\n.cfi_def_cfa_register 6\n"
	"test %rdi, %rdi\n"
	".byte 0x0f, 0x84\n.long table_eval_cold - . - 4\n"
	"call tc_start\n"
	"table_eval_back:\n"
	"pop %rbp\n.cfi_def_cfa 7, 8\n"
	"ret\n.cfi_endproc\n.size table_eval, . - table_eval\n"
	".p2align 4\n"
	"outsider:\n.cfi_startproc\n"
	"sub $8, %rsp\n.cfi_def_cfa_offset 16\n"
	"test %rdi, %rdi\n"
	".byte 0x0f, 0x84\n.long outsider_cold - . - 4\n"
	"call tc_start\n"
	"outsider_back:\n"
	"add $8, %rsp\n.cfi_def_cfa_offset 8\n"
	"ret\n.cfi_endproc\n"
	".p2align 4\n"
	"tc_start:\n.cfi_startproc\n"
	"lea tc_table(%rip), %rcx\n"
	"movzbl (%rdi), %eax\n"
	"jmp *(%rcx,%rax,8)\n"
	".cfi_endproc\n"
	".p2align 4\n"
	".globl tc_first\ntc_first:\n"
	".altmacro\n"
	".macro instruction n\n"
	".p2align 4\n"
	"tc_\\n:\n.cfi_startproc\n"
	"inc %rdi\n"
	".if \\n % 10 == 3\n"
	".byte 0x0f, 0x84\n.long tc_error - . - 4\n"
	".endif\n"
	".if \\n == 50\n"
	"push %rbx\n.cfi_def_cfa_offset 16\n"
	".byte 0x0f, 0x84\n.long tc_50_cold - . - 4\n"
	"tc_50_back:\n"
	"pop %rbx\n.cfi_def_cfa_offset 8\n"
	".endif\n"
	"lea tc_table(%rip), %rcx\n"
	"movzbl (%rdi), %eax\n"
	"jmp *(%rcx,%rax,8)\n"
	".cfi_endproc\n"
	".endm\n"
	".set i, 0\n"
	".rept 100\n"
	"instruction %i\n"
	".set i, i + 1\n"
	".endr\n"
	".p2align 4\n"
	"tc_error:\n.cfi_startproc\n"
	"xor %eax, %eax\n"
	"ret\n.cfi_endproc\n"
	".globl tc_last\ntc_last:\n"
	".fill 64, 1, 0xcc\n"
	".section .text.unlikely.pyeval, \"ax\", @progbits\n"
	".globl table_eval_cold\ntable_eval_cold:\n.cfi_startproc\n"
	".cfi_def_cfa 6, 16\n.cfi_offset 6, -16\n"
	"xor %eax, %eax\n"
	".byte 0xe9\n.long table_eval_back - . - 4\n"
	".cfi_endproc\n"
	".globl table_eval_cold_end\ntable_eval_cold_end:\n"
	".fill 64, 1, 0xcc\n"
	"outsider_cold:\n.cfi_startproc\n"
	".cfi_def_cfa_offset 16\n"
	".byte 0xe9\n.long outsider_back - . - 4\n"
	".cfi_endproc\n"
	".fill 64, 1, 0xcc\n"
	".globl tc_50_cold\ntc_50_cold:\n.cfi_startproc\n"
	".cfi_def_cfa_offset 16\n"
	".byte 0xe9\n.long tc_50_back - . - 4\n"
	".cfi_endproc\n"
	".globl tc_50_cold_end\ntc_50_cold_end:\n"
	".section .data.rel.ro.pyeval, \"aw\", @progbits\n"
	".p2align 3\n"
	"tc_table:\n"
	".macro entry n\n"
	".quad tc_\\n\n"
	".endm\n"
	".set i, 0\n"
	".rept 256\n"
	"entry %(i % 100)\n"
	".set i, i + 1\n"
	".endr\n"
	".text\n");

extern const uint8_t table_eval[], table_eval_cold[], table_eval_cold_end[], tc_first[], tc_last[], tc_50_cold[],
	tc_50_cold_end[];

/* --- copies without symbols --- */

static char dir[] = "/tmp/tidemark-pyeval-XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
	(void)state;
	return rmdir(dir); /* each test takes its files away */
}

static bool run(const char *const *argv)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		(void)unsetenv("LD_PRELOAD");
		(void)execvp(argv[0], (char **)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* Descriptor of a stripped copy, -1: there is no strip. */
static int stripped(const char *path)
{
	_cleanup_(freep) char *copy = xasprintf("%s/copy", dir);
	const char *argv[] = { "strip", "--strip-all", "-o", copy, path, NULL };

	if (!run(argv))
		return -1;
	int fd = open(copy, O_RDONLY | O_CLOEXEC);
	(void)unlink(copy);
	assert_true(fd >= 0);
	return fd;
}

/* --- ranges --- */

static bool read_self(const void *ctx, uint64_t addr, void *buf, size_t n)
{
	(void)ctx;
	memcpy(buf, (const void *)(uintptr_t)addr, n);
	return true;
}

static bool read_nothing(const void *ctx, uint64_t addr, void *buf, size_t n)
{
	(void)ctx;
	(void)addr;
	(void)buf;
	(void)n;
	return false;
}

static size_t find_in(int fd, struct py_eval_range ret[PY_EVAL_RANGES_MAX])
{
	struct pyeval_query q = { .fd = fd, .may_tail_call = true, .read = read_nothing };
	struct dynsym f;
	Elf64_Sym sym;

	if (!dynsym_open(fd, &f) || !dynsym_find(&f, LOOP, &sym))
		return 0;
	q.start = sym.st_value;
	q.bytes = sym.st_size;
	return pyeval_find(&q, ret);
}

static void expect_range(const struct py_eval_range *r, uint64_t start, uint64_t end, bool is_entry)
{
	if (r->start != start || r->end != end || r->is_entry != is_entry)
		fail_msg("%lx-%lx %d, not %lx-%lx %d", r->start, r->end, r->is_entry, start, end, is_entry);
}

/* A few bytes behind which nothing can be reached, as compilers leave them, stand in no stack: nothing there is called. */
static bool calls(int fd, const struct py_eval_range *r)
{
	uint8_t code[16];
	struct dynsym f;

	if (r->end - r->start > sizeof(code) || !dynsym_open(fd, &f) ||
	    !dynsym_read(&f, r->start, code, (size_t)(r->end - r->start)))
		return true;
	for (size_t i = 0; i < r->end - r->start; i++)
		if (code[i] == 0xe8 || code[i] == 0xff)
			return true;
	return false;
}

static void check_file(const char *path)
{
	struct py_eval_range named[PY_EVAL_RANGES_MAX], marked[PY_EVAL_RANGES_MAX];
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(closep) int bare = fd >= 0 ? stripped(path) : -1;
	struct dynsym f;
	Elf64_Shdr symtab;

	if (bare < 0)
		return;
	assert_true(dynsym_open(bare, &f) && !dynsym_section(&f, ".symtab", &symtab));
	size_t n_named = find_in(fd, named), n_marked = find_in(bare, marked);
	print_message("%s: %zu ranges by name, %zu without\n", path, n_named, n_marked);
	assert_true(n_named > 0);
	for (size_t i = 0, j = 0; i < n_named || j < n_marked; i++) {
		assert_true(i < n_named);
		if (j < n_marked && named[i].start == marked[j].start) {
			expect_range(&marked[j++], named[i].start, named[i].end, named[i].is_entry);
		} else if (calls(fd, &named[i])) {
			fail_msg("%lx-%lx is not found without its name", named[i].start, named[i].end);
		}
	}
}

static void test_same_without_symbols(void **state)
{
	const char *home = getenv("HOME"), *more = getenv("TIDEMARK_PYTHON_LIBRARIES");
	_cleanup_(freep) char *pyenv = xasprintf("%s/.pyenv/versions/3.*/lib/libpython3.*.so.1.0", home ? home : "");
	_cleanup_(freep) char *list = xstrdup(more ? more : "");
	glob_t g = { 0 };

	(void)state;
	(void)glob(pyenv, 0, NULL, &g);
	for (size_t i = 0; i < g.gl_pathc; i++)
		check_file(g.gl_pathv[i]);
	globfree(&g);
	for (char *save = NULL, *path = strtok_r(list, ":", &save); path; path = strtok_r(NULL, ":", &save))
		check_file(path);
}

/* --- instructions as functions: this program --- */

static const struct elf_func *symbol(const struct elf_file *e, const char *name)
{
	const struct elf_func *f = elf_find(e, name);

	assert_non_null(f);
	return f;
}

static uint64_t bias_of_self(int fd)
{
	_cleanup_(elf_done) struct elf_file e = { 0 };

	assert_int_equal(elf_open(fd, NULL, NULL, &e), 0);
	return (uintptr_t)table_eval - symbol(&e, "table_eval")->vaddr;
}

static struct pyeval_query query_self(int fd, uint64_t bias)
{
	const uint8_t *end = table_eval;

	while (*end != 0xc3)
		end++;
	return (struct pyeval_query){ .fd = fd,
				      .start = (uintptr_t)table_eval - bias,
				      .bytes = (size_t)(end + 1 - table_eval),
				      .may_tail_call = true,
				      .bias = bias,
				      .read = read_self };
}

static void test_table(void **state)
{
	struct py_eval_range r[PY_EVAL_RANGES_MAX];
	_cleanup_(closep) int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	_cleanup_(freep) char *self = realpath("/proc/self/exe", NULL);
	_cleanup_(closep) int bare = stripped(self);

	(void)state;
	assert_true(fd >= 0);
	if (bare < 0)
		skip();
	uint64_t bias = bias_of_self(fd);
	struct pyeval_query q = query_self(bare, bias);
	size_t n = pyeval_find(&q, r);
	for (size_t i = 0; i < n; i++) {
		r[i].start += bias;
		r[i].end += bias;
	}
	/* Linkers put .text.unlikely before .text. */
	assert_int_equal(n, 4);
	expect_range(&r[0], (uintptr_t)table_eval_cold, (uintptr_t)table_eval_cold_end, true);
	expect_range(&r[1], (uintptr_t)tc_50_cold, (uintptr_t)tc_50_cold_end, false);
	expect_range(&r[2], (uintptr_t)table_eval, (uintptr_t)table_eval + q.bytes, true);
	expect_range(&r[3], r[3].start, (uintptr_t)tc_last, false);
	assert_true(r[3].start <= (uintptr_t)tc_first && r[3].start > (uintptr_t)table_eval + q.bytes);
	/* Before 3.14, and where memory can't be read: the loop alone. */
	q.may_tail_call = false;
	assert_int_equal(pyeval_find(&q, r), 2);
	q.may_tail_call = true;
	q.read = read_nothing;
	assert_int_equal(pyeval_find(&q, r), 2);
}

static void test_no_loop(void **state)
{
	struct py_eval_range r[PY_EVAL_RANGES_MAX];
	_cleanup_(closep) int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	_cleanup_(closep) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct pyeval_query q = query_self(fd, bias_of_self(fd));

	(void)state;
	q.bytes = 0;
	assert_int_equal(pyeval_find(&q, r), 0);
	q.bytes = UINT64_MAX;
	assert_int_equal(pyeval_find(&q, r), 0);
	q.bytes = 32;
	q.fd = null;
	assert_int_equal(pyeval_find(&q, r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_without_symbols),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_no_loop),
	};

	return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
