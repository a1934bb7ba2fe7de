/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 5,000 new frames in large files, named turn by turn with the budget of the screen: no turn waits for a file. How long turns take is printed;
 * asserted is what makes them short: a turn without time finds no name by itself, and none waits beyond its budget.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "sym/sym.h"
#include "util/clock.h"
#include "util/mem.h"

#define BUDGET_NS 20000000ull
#define FRAMES 5000
#define TURNS_MAX 3000
#define QUESTIONS 60000
#define END_LIMIT_NS 30000000000ull /* to answer all of them takes minutes */

static void sym_freep(struct sym **s)
{
	sym_free(*s);
}

/* --- a file with a million functions --- */

#define MANY (1u << 20)
#define TEXT_AT 0x1000u

struct big_file {
	Elf64_Ehdr eh;
	Elf64_Shdr sections[5];
	char names[64];
};

static void describe(struct big_file *b, uint64_t strings)
{
	static const char names[] = "\0.text\0.symtab\0.strtab\0.shstrtab";

	memcpy(b->eh.e_ident, ELFMAG, SELFMAG);
	b->eh.e_ident[EI_CLASS] = ELFCLASS64;
	b->eh.e_ident[EI_DATA] = ELFDATA2LSB;
	b->eh.e_shoff = offsetof(struct big_file, sections);
	b->eh.e_shentsize = sizeof(Elf64_Shdr);
	b->eh.e_shnum = ARRAY_SIZE(b->sections);
	b->eh.e_shstrndx = 4;
	memcpy(b->names, names, sizeof(names));
	b->sections[1] = (Elf64_Shdr){ .sh_name = 1,
				       .sh_type = SHT_PROGBITS,
				       .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
				       .sh_addr = TEXT_AT,
				       .sh_size = MANY * 16ull };
	b->sections[2] = (Elf64_Shdr){ .sh_name = 7,
				       .sh_type = SHT_SYMTAB,
				       .sh_offset = sizeof(*b),
				       .sh_size = MANY * sizeof(Elf64_Sym),
				       .sh_link = 3,
				       .sh_entsize = sizeof(Elf64_Sym) };
	b->sections[3] = (Elf64_Shdr){ .sh_name = 15,
				       .sh_type = SHT_STRTAB,
				       .sh_offset = sizeof(*b) + MANY * sizeof(Elf64_Sym),
				       .sh_size = strings };
	b->sections[4] = (Elf64_Shdr){ .sh_name = 23,
				       .sh_type = SHT_STRTAB,
				       .sh_offset = offsetof(struct big_file, names),
				       .sh_size = sizeof(b->names) };
}

/* Function i is "f<i>", 16 bytes; they are written in an order that is none. */
static void write_big_file(const char *path)
{
	struct big_file b = { 0 };
	FILE *f = fopen(path, "we");
	const uint64_t name_bytes = 9;

	assert_non_null(f);
	describe(&b, MANY * name_bytes + 1);
	assert_int_equal(fwrite(&b, sizeof(b), 1, f), 1);
	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t k = i * 40503u & (MANY - 1);
		const Elf64_Sym sym = { .st_name = (Elf64_Word)(1 + k * name_bytes),
					.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
					.st_shndx = 1,
					.st_value = TEXT_AT + k * 16ull,
					.st_size = 16 };
		assert_int_equal(fwrite(&sym, sizeof(sym), 1, f), 1);
	}
	assert_int_equal(fputc(0, f), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "f%07" PRIu32, i); /* fits */
		assert_int_equal(fwrite(name, name_bytes, 1, f), 1);
	}
	assert_int_equal(fclose(f), 0);
}

/* --- files of this very process --- */

struct files {
	struct file {
		char *path;
		uint64_t start, bytes; /* code, as linked */
	} items[32];
	size_t n;
};

static int add_file(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct files *files = arg;
	bool is_self = !info->dlpi_name[0];

	(void)size;
	if (files->n == ARRAY_SIZE(files->items) || (!is_self && info->dlpi_name[0] != '/'))
		return 0;
	/* The sanitizers' own debug information, which Debian ships, takes minutes under a sanitizer. */
	if (strstr(info->dlpi_name, "/libasan") || strstr(info->dlpi_name, "/libubsan"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const Elf64_Phdr *ph = &info->dlpi_phdr[i];
		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
			continue;
		char *path = is_self ? realpath("/proc/self/exe", NULL) : xstrdup(info->dlpi_name);
		files->items[files->n++] = (struct file){ .path = path, .start = ph->p_vaddr, .bytes = ph->p_memsz };
		break;
	}
	return 0;
}

static void files_done(struct files *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->items[i].path);
}

/* --- turns --- */

static pthread_t main_thread;
static uint64_t waits_until_ns; /* the latest that the main thread wanted to wait for */

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	uint64_t ns = (uint64_t)until->tv_sec * 1000000000u + (uint64_t)until->tv_nsec;

	if (!__atomic_load_n(&real, __ATOMIC_ACQUIRE)) {
		void *f = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
		__atomic_store(&real, (typeof(real) *)&f, __ATOMIC_RELEASE);
	}
	if (pthread_equal(pthread_self(), main_thread) && ns > waits_until_ns)
		waits_until_ns = ns;
	return real(cond, mutex, until);
}

struct turns {
	size_t n, named_in_first;
	uint64_t longest_ns, total_ns;
	uint64_t longest_cpu_ns; /* without what others took of the processor */
};

/* One turn of the loop: all frames that the screen shows. Returns how many are named. */
static size_t turn(struct sym *s, const struct snap_frame *frames, size_t n, uint64_t budget_ns, struct turns *t)
{
	uint64_t start = mono_ns(), start_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	const struct sym_frame *f;
	size_t named = 0;

	waits_until_ns = 0;
	sym_set_budget(s, budget_ns);
	uint64_t end = mono_ns() + budget_ns;
	for (size_t i = 0; i < n; i++) {
		assert_true(sym_resolve(s, &frames[i], &f) >= 1);
		named += f->final;
	}
	assert_true(waits_until_ns <= end);
	uint64_t took = mono_ns() - start, cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_cpu;
	if (cpu > t->longest_cpu_ns)
		t->longest_cpu_ns = cpu;
	if (took > t->longest_ns)
		t->longest_ns = took;
	t->total_ns += took;
	if (!t->n++)
		t->named_in_first = named;
	return named;
}

static struct turns until_named(struct sym *s, const struct snap_frame *frames, size_t n)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	struct turns t = { 0 };

	assert_int_equal(turn(s, frames, n, 1, &t), 0); /* asks, and goes on */
	while (turn(s, frames, n, BUDGET_NS, &t) < n) {
		assert_true(t.n < TURNS_MAX);
		(void)nanosleep(&pause, NULL); /* the screen's own pause is longer */
	}
	return t;
}

static void print_turns(const char *what, size_t n, const struct turns *t)
{
	printf("%s: %zu frames in %zu turns, longest %.1f ms (%.1f ms of work), all together %.0f ms, %zu named in the "
	       "first\n",
	       what, n, t->n, (double)t->longest_ns / 1e6, (double)t->longest_cpu_ns / 1e6, (double)t->total_ns / 1e6,
	       t->named_in_first);
}

/* The same answers as without a budget. */
static void check_names(struct sym *s, const struct snap_module *modules, size_t n_modules,
			const struct snap_frame *frames, size_t n)
{
	_cleanup_(sym_freep) struct sym *plain = sym_new();

	sym_add_modules(plain, modules, n_modules);
	for (size_t i = 0; i < n; i += 7) {
		const struct sym_frame *a, *b;
		size_t k = sym_resolve(s, &frames[i], &a);
		assert_int_equal(sym_resolve(plain, &frames[i], &b), k);
		for (size_t j = 0; j < k; j++) {
			assert_string_equal(a[j].name, b[j].name);
			assert_int_equal(a[j].line, b[j].line);
		}
	}
}

static void frames_of_many_files_stall_no_turn(void **state)
{
	struct snap_module modules[32] = { 0 };
	_cleanup_(freep) struct snap_frame *frames = xcalloc(FRAMES, sizeof(*frames));
	_cleanup_(files_done) struct files files = { 0 };
	_cleanup_(sym_freep) struct sym *s = sym_new();

	(void)state;
	(void)dl_iterate_phdr(add_file, &files); /* gives back what add_file gives: 0 */
	assert_true(files.n >= 5);
	for (size_t i = 0; i < files.n; i++)
		modules[i] = (struct snap_module){ .id = (uint32_t)i + 1,
						   .path = files.items[i].path,
						   .open_path = files.items[i].path,
						   .build_id = "" };
	for (size_t i = 0; i < FRAMES; i++) {
		const struct file *f = &files.items[i % files.n];
		frames[i] = (struct snap_frame){ .module = (uint32_t)(i % files.n) + 1,
						 .addr = f->start + i * 7919 * 13 % f->bytes };
	}
	uint64_t start = mono_ns();
	sym_add_modules(s, modules, files.n);
	printf("%zu files opened in %.1f ms\n", files.n, (double)(mono_ns() - start) / 1e6);
	struct turns t = until_named(s, frames, FRAMES);
	print_turns("files of this process", FRAMES, &t);
	struct turns again = { 0 };
	assert_int_equal(turn(s, frames, FRAMES, 1, &again), FRAMES); /* all known: needs no budget */
	check_names(s, modules, files.n, frames, FRAMES);
}

static void a_huge_symbol_table_stalls_no_turn(void **state)
{
	char path[] = "/tmp/tidemark-turns-XXXXXX";
	_cleanup_(closep) int fd = mkstemp(path);
	const struct snap_module m = { .id = 1, .path = path, .open_path = path, .build_id = "" };
	_cleanup_(freep) struct snap_frame *frames = xcalloc(FRAMES, sizeof(*frames));
	_cleanup_(sym_freep) struct sym *s = sym_new(), *alone = sym_new();
	const struct sym_frame *f;

	(void)state;
	assert_true(fd >= 0);
	write_big_file(path);
	sym_add_modules(s, &m, 1);
	sym_add_modules(alone, &m, 1);
	for (size_t i = 0; i < FRAMES; i++)
		frames[i] = (struct snap_frame){ .module = 1, .addr = TEXT_AT + (i * 199 % MANY) * 16 + 5 };
	uint64_t start = mono_ns();
	(void)sym_resolve(alone, &frames[0], &f);
	printf("a table of %u functions alone takes %.1f ms\n", MANY, (double)(mono_ns() - start) / 1e6);
	assert_string_equal(f->name, "f0000000");
	struct turns t = until_named(s, frames, FRAMES);
	print_turns("a huge table", FRAMES, &t);
	for (size_t i = 0; i < FRAMES; i++) {
		char want[16];
		(void)snprintf(want, sizeof(want), "f%07zu", i * 199 % MANY); /* fits */
		assert_int_equal(sym_resolve(s, &frames[i], &f), 1);
		assert_string_equal(f->name, want);
	}
	assert_int_equal(unlink(path), 0);
}

/* What is shown now comes before what was asked in an earlier turn and is shown no more. */
static void what_is_not_asked_again_waits(void **state)
{
	_cleanup_(files_done) struct files files = { 0 };
	_cleanup_(sym_freep) struct sym *s = sym_new();
	const struct sym_frame *f;
	struct turns t = { 0 };

	(void)state;
	(void)dl_iterate_phdr(add_file, &files); /* gives back what add_file gives: 0 */
	const struct file *self = &files.items[0];
	const struct snap_module m = { .id = 1, .path = self->path, .open_path = self->path, .build_id = "" };
	_cleanup_(freep) struct snap_frame *frames = xcalloc(FRAMES, sizeof(*frames));
	sym_add_modules(s, &m, 1);
	for (size_t i = 0; i < FRAMES; i++)
		frames[i] = (struct snap_frame){ .module = 1, .addr = self->start + i * 997 % self->bytes };
	(void)turn(s, frames, FRAMES, 1, &t); /* all are asked for, none is waited for */
	(void)turn(s, frames + FRAMES - 1, 1, 1, &t);
	const struct timespec pause = { .tv_nsec = 5000000 };
	uint64_t start = mono_ns();
	do {
		assert_true(mono_ns() - start < 60000000000ull);
		(void)nanosleep(&pause, NULL); /* only a pause */
		sym_set_budget(s, BUDGET_NS);
		(void)sym_resolve(s, &frames[FRAMES - 1], &f);
	} while (!f->final);
	struct turns later = { 0 };
	size_t named = turn(s, frames, FRAMES, 1, &later);
	printf("%zu of %d were named before the one that was wanted\n", named - 1, FRAMES);
	assert_true(named < FRAMES / 2);
}

static void the_end_does_not_wait(void **state)
{
	_cleanup_(files_done) struct files files = { 0 };
	struct sym *s = sym_new();
	const struct sym_frame *f;

	(void)state;
	(void)dl_iterate_phdr(add_file, &files); /* gives back what add_file gives: 0 */
	const struct file *self = &files.items[0];
	const struct snap_module m = { .id = 1, .path = self->path, .open_path = self->path, .build_id = "" };
	sym_add_modules(s, &m, 1);
	sym_set_budget(s, 1);
	for (size_t i = 0; i < QUESTIONS; i++) {
		const struct snap_frame at = { .module = 1, .addr = self->start + i * 97 % self->bytes };
		(void)sym_resolve(s, &at, &f);
	}
	uint64_t start = mono_ns();
	sym_free(s);
	printf("ended in %.1f ms\n", (double)(mono_ns() - start) / 1e6);
	assert_true(mono_ns() - start < END_LIMIT_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_of_many_files_stall_no_turn),
		cmocka_unit_test(a_huge_symbol_table_stalls_no_turn),
		cmocka_unit_test(what_is_not_asked_again_waits),
		cmocka_unit_test(the_end_does_not_wait),
	};

	main_thread = pthread_self();
	return cmocka_run_group_tests_name("sym_turns", tests, NULL, NULL);
}
