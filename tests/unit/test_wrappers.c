/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the C library enters the kernel: against its own unwind tables, against the kernel's view of running calls, and
 * on functions written for it.
 */
#include "probe/wrappers.h"

#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "target/elf.h"
#include "util/mem.h"

#define SITES_MAX 64
#define RSP_DWARF 7 /* number of the register in DWARF, System V ABI for AMD64, figure 3.36 */
#define CALLER_BYTES 2048

struct opened {
	int fd;
	struct elf_file e;
	struct wrapper_site sites[SITES_MAX];
	size_t n;
};

static bool by_wrapper(const char *name, void *ctx)
{
	(void)ctx;
	return wrapper_wants(name);
}

static bool no_name(const char *name, void *ctx)
{
	(void)name;
	(void)ctx;
	return false;
}

static void open_file(const char *path, bool (*want)(const char *name, void *ctx), struct opened *ret)
{
	ret->fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(ret->fd >= 0);
	assert_int_equal(elf_open(ret->fd, want, NULL, &ret->e), 0);
	ret->n = wrappers_find(&ret->e, ret->sites, SITES_MAX);
}

static void close_file(struct opened *o)
{
	elf_done(&o->e);
	close(o->fd);
}

static const struct wrapper_site *site_at(const struct opened *o, uint64_t vaddr)
{
	for (size_t i = 0; i < o->n; i++)
		if (o->sites[i].vaddr == vaddr)
			return &o->sites[i];
	return NULL;
}

static const struct link_map *library(const char *name)
{
	void *lib = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
	struct link_map *map = NULL;

	return lib && !dlinfo(lib, RTLD_DI_LINKMAP, &map) ? map : NULL;
}

/* What .eh_frame says; -1: nothing, or not by rsp. */
static int64_t cfi_words(Dwarf_CFI *cfi, uint64_t vaddr)
{
	_cleanup_(freep) Dwarf_Frame *frame = NULL;
	Dwarf_Op *ops;
	size_t n;

	if (dwarf_cfi_addrframe(cfi, vaddr, &frame) || dwarf_frame_cfa(frame, &ops, &n) || n != 1)
		return -1;
	if (ops->atom == DW_OP_bregx)
		return ops->number == RSP_DWARF ? ((int64_t)ops->number2 - 8) / 8 : -1;
	return ops->atom == DW_OP_breg0 + RSP_DWARF ? ((int64_t)ops->number - 8) / 8 : -1;
}

static void assert_cfi_agrees(const struct opened *o)
{
	Elf *elf = elf_begin(o->fd, ELF_C_READ, NULL);
	Dwarf_CFI *cfi = dwarf_getcfi_elf(elf);

	assert_non_null(cfi);
	for (size_t i = 0; i < o->n; i++)
		assert_int_equal(o->sites[i].slot_words, cfi_words(cfi, o->sites[i].vaddr));
	dwarf_cfi_end(cfi);
	elf_end(elf);
}

static void test_libc_against_unwind_tables(void **state)
{
	static const char *const names[] = { "mmap", "munmap", "mremap", "brk", "syscall" };
	const struct link_map *map = library("libc.so.6");
	struct opened o;

	(void)state;
	if (!map)
		skip();
	open_file(map->l_name, by_wrapper, &o);
	assert_cfi_agrees(&o);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const struct elf_func *f = elf_find(&o.e, names[i]);
		size_t found = 0;
		assert_non_null(f);
		for (uint64_t at = 0; at + 2 <= f->bytes; at++) {
			uint8_t code[2];
			assert_int_equal(elf_read_code(&o.e, f->vaddr + at, code, 2), 2);
			bool is_call = !memcmp(code, "\x0f\x05", 2), is_site = site_at(&o, f->vaddr + at + 2);
			assert_true(is_call || !is_site);
			found += is_site;
		}
		assert_true(found >= 1 && found <= 2);
	}
	close_file(&o);
}

/* Without a single name the same calls are found: those before which the number is loaded. */
static void test_without_names(void **state)
{
	const struct link_map *map = library("libc.so.6");
	struct opened named, bare;

	(void)state;
	if (!map)
		skip();
	open_file(map->l_name, by_wrapper, &named);
	open_file(map->l_name, no_name, &bare);
	assert_int_equal(bare.e.n_funcs, 0);
	assert_cfi_agrees(&bare);
	for (size_t i = 0; i < named.n; i++) {
		const struct elf_func *f = elf_find_vaddr(&named.e, named.sites[i].vaddr - 1);
		const struct wrapper_site *s = site_at(&bare, named.sites[i].vaddr);
		assert_true(s || !strcmp(f->name, "syscall"));
		assert_true(!s || s->slot_words == named.sites[i].slot_words);
	}
	close_file(&bare);
	close_file(&named);
}

static void test_dynamic_linker(void **state)
{
	const struct link_map *map = library("ld-linux-x86-64.so.2");
	struct opened o;

	(void)state;
	if (!map)
		skip();
	open_file(map->l_name, by_wrapper, &o);
	assert_true(o.n >= 3); /* mmap, munmap, brk */
	assert_cfi_agrees(&o);
	close_file(&o);
}

struct calls {
	void *(*mmap)(void *p, size_t n, int prot, int flags, int fd, off_t offset);
	int (*munmap)(void *p, size_t n);
	void *(*mremap)(void *p, size_t n, size_t new_n, int flags, ...);
	int (*brk)(void *p);
	long (*syscall)(long nr, ...);
};

/* The libc's own, not those that a sanitizer puts before them. Each returns into this function. */
__attribute__((noinline, no_sanitize("address", "undefined"))) static int make_calls(const struct calls *c)
{
	volatile int failed = 0;
	volatile long end = c->syscall(SYS_brk, 0L);
	void *volatile p = c->mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *volatile q = c->mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	p = c->mremap(p, 1 << 20, 1 << 19, MREMAP_MAYMOVE);
	p = c->mremap(p, 1 << 19, 1 << 19, MREMAP_MAYMOVE | MREMAP_FIXED, q);
	failed |= p != q;
	failed |= c->munmap(p, 1 << 20);
	failed |= c->brk((void *)end);
	return failed;
}

static void run_child(void *libc)
{
	struct calls c;

	*(void **)&c.mmap = dlsym(libc, "mmap");
	*(void **)&c.munmap = dlsym(libc, "munmap");
	*(void **)&c.mremap = dlsym(libc, "mremap");
	*(void **)&c.brk = dlsym(libc, "brk");
	*(void **)&c.syscall = dlsym(libc, "syscall");
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(2);
	(void)raise(SIGSTOP);
	_exit(make_calls(&c));
}

static bool is_mapping(uint64_t nr)
{
	return nr == SYS_mmap || nr == SYS_munmap || nr == SYS_mremap || nr == SYS_brk;
}

static void assert_returns_to_caller(pid_t pid, const struct opened *o, uint64_t bias,
				     const struct user_regs_struct *regs)
{
	const struct wrapper_site *s = site_at(o, regs->rip - bias);

	assert_non_null(s);
	errno = 0;
	uint64_t slot = (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)(regs->rsp + 8ULL * s->slot_words), NULL);
	assert_int_equal(errno, 0);
	assert_in_range(slot, (uintptr_t)make_calls, (uintptr_t)make_calls + CALLER_BYTES);
}

/* What the kernel saved at each call of a running program. */
static void test_against_running_calls(void **state)
{
	const struct link_map *map = library("libc.so.6");
	struct user_regs_struct regs;
	struct opened o;
	size_t seen = 0;
	int status = 0;

	(void)state;
	if (!map)
		skip();
	open_file(map->l_name, by_wrapper, &o);
	pid_t pid = fork();
	if (!pid)
		run_child(dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
		skip(); /* not allowed to be traced */
	assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)), 0);
	for (bool enters = true;; enters = !enters) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			break;
		assert_int_equal(WSTOPSIG(status), SIGTRAP | 0x80);
		assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
		if (!enters || !is_mapping(regs.orig_rax))
			continue;
		assert_returns_to_caller(pid, &o, map->l_addr, &regs);
		seen++;
	}
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	assert_int_equal(seen, 7);
	close_file(&o);
}

/* Local symbols under names that are looked for; never called. */
__asm__(".pushsection .text\n"
	/* A path over a call and one past it meet at the same depth; a second call behind the first. */
	".type mremap, @function\n"
	"mremap: endbr64\n push %rbx\n sub $0x20, %rsp\n test %rdi, %rdi\n je 1f\n call *%rax\n"
	"1: mov $25, %eax\n syscall\n wrappers_same:\n add $0x20, %rsp\n"
	"mov $11, %eax\n syscall\n wrappers_after:\n pop %rbx\n ret\n .size mremap, . - mremap\n"
	/* Two depths at the second call only. */
	".type brk, @function\n"
	"brk: mov $12, %eax\n syscall\n wrappers_before:\n test %rax, %rax\n je 1f\n push %rax\n"
	"1: mov $12, %eax\n syscall\n wrappers_mixed:\n ret\n .size brk, . - brk\n"
	/* A loop that goes deeper on each turn. */
	".type __brk, @function\n"
	"__brk: push %rax\n mov $12, %eax\n syscall\n wrappers_deeper:\n jmp __brk\n .size __brk, . - __brk\n"
	/* A stack pointer of unknown value. */
	".type sbrk, @function\n"
	"sbrk: mov %rsp, %rdx\n and $-16, %rsp\n mov $12, %eax\n syscall\n wrappers_aligned:\n mov %rdx, %rsp\n"
	"ret\n .size sbrk, . - sbrk\n"
	/* Returns from the wrong depth: not entered where its name says. */
	".type __sbrk, @function\n"
	"__sbrk: push %rax\n mov $12, %eax\n syscall\n wrappers_odd:\n ret\n .size __sbrk, . - __sbrk\n"
	/* No size; the bytes of a call that never runs. */
	".type munmap, @function\n"
	"munmap: jmp 1f\n mov $11, %eax\n syscall\n wrappers_dead:\n 1: call wrappers_other\n mov $11, %eax\n "
	"syscall\n wrappers_live:\n "
	"ret\n"
	/* Another name, and no unwind table. */
	".type wrappers_other, @function\n"
	"wrappers_other: mov $11, %eax\n syscall\n wrappers_foreign:\n ret\n .size wrappers_other, . - wrappers_other\n"
	/* Another name, with one. */
	".type wrappers_listed, @function\n"
	"wrappers_listed: .cfi_startproc\n push %rbp\n .cfi_def_cfa_offset 16\n call *%rax\n mov $11, %eax\n"
	"mov %rdi, %rsi\n syscall\n wrappers_unnamed:\n pop %rbp\n .cfi_def_cfa_offset 8\n ret\n .cfi_endproc\n"
	".size wrappers_listed, . - wrappers_listed\n"
	/* A part that is entered with a word on the stack. */
	".type wrappers_part, @function\n"
	"wrappers_part: .cfi_startproc\n .cfi_def_cfa_offset 16\n mov $11, %eax\n syscall\n wrappers_cold:\n pop %rbp\n"
	".cfi_def_cfa_offset 8\n ret\n .cfi_endproc\n .size wrappers_part, . - wrappers_part\n"
	".popsection\n");

extern const char wrappers_same[], wrappers_after[], wrappers_before[], wrappers_mixed[], wrappers_deeper[],
	wrappers_aligned[], wrappers_odd[], wrappers_dead[], wrappers_live[], wrappers_foreign[], wrappers_unnamed[],
	wrappers_cold[], wrappers_listed[];

static bool by_wrapper_or_listed(const char *name, void *ctx)
{
	(void)ctx;
	return wrapper_wants(name) || !strcmp(name, "wrappers_listed");
}

static void test_paths(void **state)
{
	const struct {
		const char *label;
		int words; /* -1: left out */
	} rows[] = {
		{ wrappers_same, 5 },	 { wrappers_after, 1 },	   { wrappers_before, 0 },  { wrappers_mixed, -1 },
		{ wrappers_deeper, -1 }, { wrappers_aligned, -1 }, { wrappers_odd, -1 },    { wrappers_dead, -1 },
		{ wrappers_live, 0 },	 { wrappers_foreign, -1 }, { wrappers_unnamed, 1 }, { wrappers_cold, -1 },
	};
	struct opened o;

	(void)state;
	open_file("/proc/self/exe", by_wrapper_or_listed, &o);
	const struct elf_func *f = elf_find(&o.e, "wrappers_listed");
	assert_non_null(f);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t vaddr = f->vaddr + (uint64_t)(rows[i].label - wrappers_listed);
		const struct wrapper_site *s = site_at(&o, vaddr);
		int words = s ? (int)s->slot_words : -1;
		if (words != rows[i].words)
			print_error("row %zu: %d words\n", i, words);
		assert_int_equal(words, rows[i].words);
	}
	close_file(&o);
}

static void test_room(void **state)
{
	struct wrapper_site few[3] = { [2] = { 1, 1 } };
	struct opened o;

	(void)state;
	open_file("/proc/self/exe", by_wrapper, &o);
	assert_true(o.n > 2);
	assert_int_equal(wrappers_find(&o.e, few, 2), 2);
	for (size_t i = 0; i < 2; i++)
		assert_true(few[i].vaddr == o.sites[i].vaddr && few[i].slot_words == o.sites[i].slot_words);
	assert_int_equal(few[2].vaddr, 1);
	assert_int_equal(wrappers_find(&o.e, few, 0), 0);
	close_file(&o);
}

static uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	return *x ^= *x << 5;
}

/* Where the loader's unwind index lies in the file. */
static size_t index_offset(const uint8_t *file)
{
	const Elf64_Ehdr *h = (const Elf64_Ehdr *)file;
	const Elf64_Phdr *p = (const Elf64_Phdr *)(file + h->e_phoff);

	for (size_t i = 0; i < h->e_phnum; i++)
		if (p[i].p_type == PT_GNU_EH_FRAME)
			return p[i].p_offset;
	return 0;
}

/* Sites that are found in a damaged file still stand behind a `syscall` of it. */
static void test_damaged(void **state)
{
	const struct link_map *map = library("ld-linux-x86-64.so.2");
	uint32_t random = 1;

	(void)state;
	if (!map)
		skip();
	int from = open(map->l_name, O_RDONLY | O_CLOEXEC), to = memfd_create("damaged", MFD_CLOEXEC);
	size_t bytes = (size_t)lseek(from, 0, SEEK_END);
	_cleanup_(freep) uint8_t *file = xcalloc(bytes, 1);
	assert_int_equal(pread(from, file, bytes, 0), bytes);
	size_t index = index_offset(file);
	assert_true(index > 0 && index + 4096 < bytes);
	for (int turn = 0; turn < 60; turn++) {
		struct wrapper_site sites[SITES_MAX];
		struct elf_file e;
		assert_int_equal(pwrite(to, file, bytes, 0), bytes);
		for (int i = 0; i < 40; i++) {
			uint32_t r = next_random(&random);
			off_t at = turn % 3 ? (off_t)(index + r % (turn % 3 == 1 ? 64 : 4096)) : (off_t)(r % bytes);
			assert_int_equal(pwrite(to, &r, 1, at), 1);
		}
		if (elf_open(to, by_wrapper, NULL, &e))
			continue;
		size_t n = wrappers_find(&e, sites, SITES_MAX);
		for (size_t i = 0; i < n; i++) {
			uint8_t code[2];
			assert_int_equal(elf_read_code(&e, sites[i].vaddr - 2, code, 2), 2);
			assert_memory_equal(code, "\x0f\x05", 2);
		}
		elf_done(&e);
	}
	close(from);
	close(to);
}

static void test_names(void **state)
{
	static const char *const yes[] = { "mmap", "mmap64", "__munmap", "mremap", "sbrk", "syscall", "__unmapself" };
	static const char *const no[] = { "", "m", "mmap6", "mmap642", "malloc", "mprotect", "munmap mremap" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		assert_true(wrapper_wants(yes[i]));
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		assert_false(wrapper_wants(no[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libc_against_unwind_tables),
		cmocka_unit_test(test_without_names),
		cmocka_unit_test(test_dynamic_linker),
		cmocka_unit_test(test_against_running_calls),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_names),
	};

	(void)elf_version(EV_CURRENT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
