/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes images (image.h) for test_images.c. Run by hand, as root:
 *
 *	make build/host/record
 *	build/host/record OUT MODULE PROGRAM [ARGUMENT...]	starts it; it stops itself by SIGSTOP before its site
 *	build/host/record OUT MODULE -p PID			a program that runs
 *
 * and tests/host/record-all does it for all images that are there. From the stop on, malloc of the first mapped file whose path contains
 * MODULE is watched by a breakpoint; a call for the targets' size (any of 4 KiB or more with -p) is the hit. The same unwinder and walker that
 * the kernel runs, compiled for the host, go over the live process; what they read is kept. Words that make no difference are zeroed.
 *
 * A chain of Python frames is written only if its names and lines are those that the target told, from its own frame objects.
 */
#include <fcntl.h>
#include <stdarg.h>

#include "context.h"

#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "host.bpf.h"
#include "heap.bpf.h"
#include "world.h"
#include "image.h"

#include "collect/pynames.h"
#include "probe/cfi.h"
#include "probe/pyinfo.h"
#include "target/dynsym.h"
#include "target/proc.h"

#define HIT_BYTES 1000003
#define HIT_BYTES_MORE 4096
#define ANY_BYTES 4096
#define TOLD_MAX 65536

struct file {
	struct cfi cfi;
	uint64_t bias;
	struct text_row *rows; /* of one mapping, by run-time address */
	size_t n_rows;
};

struct record {
	pid_t pid;
	bool attached;
	const char *module;
	int told_fd;
	char told[TOLD_MAX];
	struct mappings maps;
	struct file files[IMAGE_TEXTS];
	struct text texts[IMAGE_TEXTS];
	size_t n_texts;
	struct py_process py;
	bool has_python;
};

static struct image image;
static pid_t live_pid;

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* --- memory that was read --- */
/* Keeps the regions apart, each as large as what was read around it. */
static void region_keep(uint64_t addr, uint32_t bytes)
{
	uint64_t start = addr, end = addr + bytes;

	for (size_t i = 0; i < image.n_regions;) {
		struct host_region *r = &image.regions[i];
		if (r->base > end || r->base + r->bytes < start) {
			i++;
			continue;
		}
		start = r->base < start ? r->base : start;
		end = r->base + r->bytes > end ? r->base + r->bytes : end;
		*r = image.regions[--image.n_regions];
		i = 0;
	}
	if (image.n_regions == IMAGE_REGIONS)
		die("too many regions");
	image.regions[image.n_regions++] = (struct host_region){ start, end - start, NULL };
}

static bool read_live(void *dst, uint64_t addr, uint32_t bytes)
{
	struct iovec to = { dst, bytes }, from = { (void *)(uintptr_t)addr, bytes };

	if (process_vm_readv(live_pid, &to, 1, &from, 1, 0) != (ssize_t)bytes)
		return false;
	region_keep(addr, bytes);
	return true;
}

/* --- the process up to the hit --- */
static int stop_wait(const struct record *r)
{
	int status = 0;

	if (waitpid(r->pid, &status, __WALL) != r->pid || !WIFSTOPPED(status))
		die("it ended: status %x", status);
	return WSTOPSIG(status);
}

static void start(struct record *r, char **argv)
{
	int told[2];

	if (pipe2(told, O_NONBLOCK))
		die("pipe");
	r->pid = fork();
	if (!r->pid) {
		dup2(told[1], STDOUT_FILENO);
		close(told[0]);
		close(told[1]);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(told[1]);
	r->told_fd = told[0];
	for (int sig = stop_wait(r); sig != SIGSTOP; sig = stop_wait(r))
		ptrace(PTRACE_CONT, r->pid, 0, sig == SIGTRAP ? 0 : sig);
	ssize_t n = read(r->told_fd, r->told, sizeof(r->told) - 1);
	r->told[n > 0 ? n : 0] = 0;
}

static void attach(struct record *r, const char *pid)
{
	r->pid = atoi(pid);
	r->attached = true;
	if (ptrace(PTRACE_ATTACH, r->pid, 0, 0))
		die("can't attach to %s", pid);
	stop_wait(r);
}

static uint64_t malloc_find(const struct record *r)
{
	for (size_t i = 0; i < r->maps.n; i++) {
		const struct mapping *m = &r->maps.items[i];
		struct dynsym f;
		Elf64_Sym sym;
		uint64_t bias;
		if (!m->exec || !strstr(m->path, r->module))
			continue;
		int fd = mapping_open((uint32_t)r->pid, m, NULL);
		if (fd >= 0 && dynsym_open(fd, &f) && dynsym_find(&f, "malloc", &sym) && dynsym_bias(&f, m, &bias))
			return bias + sym.st_value;
	}
	die("no malloc in %s", r->module);
	return 0;
}

static void watch(const struct record *r, uint64_t at, bool on)
{
	ptrace(PTRACE_POKEUSER, r->pid, offsetof(struct user, u_debugreg[0]), at);
	if (ptrace(PTRACE_POKEUSER, r->pid, offsetof(struct user, u_debugreg[7]), on))
		die("no breakpoint at %lx", at);
}

/*
 * On to the call that is wanted; registers as at its first instruction. The breakpoint is the processor's: an instruction may be there already, of a
 * probe of the kernel's.
 */
static struct user_regs_struct hit_wait(const struct record *r, uint64_t at)
{
	struct user_regs_struct regs;
	int sig = 0;

	for (;;) {
		watch(r, at, true);
		ptrace(PTRACE_CONT, r->pid, 0, sig);
		sig = stop_wait(r);
		ptrace(PTRACE_GETREGS, r->pid, 0, &regs);
		if (sig != SIGTRAP || regs.rip != at)
			continue;
		sig = 0;
		watch(r, at, false);
		if (r->attached ? regs.rdi >= ANY_BYTES : regs.rdi - HIT_BYTES < HIT_BYTES_MORE)
			return regs;
		ptrace(PTRACE_SINGLESTEP, r->pid, 0, 0);
		stop_wait(r);
	}
}

static uint64_t stat_start_stack(pid_t pid)
{
	char path[64], line[2048];
	unsigned long long v = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	FILE *in = fopen(path, "r");
	char *at = in && fgets(line, sizeof(line), in) ? strrchr(line, ')') : NULL;
	for (int field = 2; at && field < 28; field++)
		at = strchr(at + 1, ' ');
	if (!at || sscanf(at, "%llu", &v) != 1)
		die("%s", path);
	fclose(in);
	return v;
}

/* --- unwind rows --- */
static void rows_of(struct record *r, const struct mapping *m)
{
	struct file *file = &r->files[r->n_texts];
	struct text *t = &r->texts[r->n_texts++];
	struct dynsym f;
	int fd = mapping_open((uint32_t)r->pid, m, NULL);

	*t = (struct text){ m->start, m->end, 0, NULL, 0 };
	if (fd < 0 || !dynsym_open(fd, &f) || !dynsym_bias(&f, m, &file->bias) || cfi_build(fd, &file->cfi) ||
	    !file->cfi.n_rows)
		return;
	file->rows = calloc(file->cfi.n_rows + 1, sizeof(*file->rows));
	const struct cfi_row *first = cfi_find(&file->cfi, m->start - file->bias);
	if (first)
		file->rows[file->n_rows++] = (struct text_row){ m->start, file->cfi.rules[first->rule] };
	for (size_t i = 0; i < file->cfi.n_rows; i++) {
		uint64_t at = file->cfi.rows[i].vaddr + file->bias;
		if (at > m->start && at < m->end)
			file->rows[file->n_rows++] = (struct text_row){ at, file->cfi.rules[file->cfi.rows[i].rule] };
	}
	t->rows = file->rows;
	t->n_rows = file->n_rows;
}

static void texts_read(struct record *r)
{
	for (size_t i = 0; i < r->maps.n; i++) {
		if (!r->maps.items[i].exec || r->maps.items[i].start >= USER_ADDR_MAX)
			continue;
		if (r->n_texts == IMAGE_TEXTS)
			die("too many mappings");
		rows_of(r, &r->maps.items[i]);
	}
}

static int row_order(const void *a, const void *b)
{
	uint64_t x = ((const struct text_row *)a)->at, y = ((const struct text_row *)b)->at;

	return x < y ? -1 : x > y;
}

/* The row that holds there, and where the next one begins, which is as good as none. */
static size_t row_touch(const struct text *t, uint64_t addr, struct text_row *rows, size_t n)
{
	size_t lo = 0, hi = t->n_rows;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (t->rows[mid].at <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return n;
	for (size_t i = 0; i < n; i++)
		if (rows[i].at == t->rows[lo - 1].at) {
			rows[i] = t->rows[lo - 1];
			return n;
		}
	rows[n++] = t->rows[lo - 1];
	for (size_t i = 0; i < n; i++)
		if (lo == t->n_rows || rows[i].at == t->rows[lo].at)
			return n;
	rows[n++] = (struct text_row){ .at = t->rows[lo].at };
	return n;
}

/* What the frames needed of the tables. */
static void image_texts(const struct record *r, const struct stack *st)
{
	for (size_t i = 0; i < r->n_texts; i++) {
		const struct text *t = &r->texts[i];
		struct text_row *rows = &image.rows[image.n_rows];
		bool met = image.pc >= t->start && image.pc < t->end;
		size_t n = 0;
		if (image.n_rows + 2 * STACK_MAX_FRAMES > IMAGE_ROWS)
			die("too many rows");
		if (met)
			n = row_touch(t, image.pc, rows, n);
		for (uint32_t k = 0; k < st->n_ips; k++) {
			uint64_t addr = st->ip[k] - 1;
			if (addr < t->start || addr >= t->end)
				continue;
			met = true;
			n = row_touch(t, addr, rows, n);
		}
		if (!met)
			continue;
		qsort(rows, n, sizeof(*rows), row_order);
		image.texts[image.n_texts++] = (struct text){ t->start, t->end, 0, t->rows ? rows : NULL, n };
		image.n_rows += n;
	}
}

/* --- less memory --- */
static void regions_fetch(struct thread *th)
{
	for (size_t i = 0; i < image.n_regions; i++) {
		struct host_region *r = &image.regions[i];
		struct iovec to, from = { (void *)(uintptr_t)r->base, r->bytes };
		host_map_region(th->task.mm, r->base, r->bytes);
		r->image = th->task.mm->regions[i].image;
		to = (struct iovec){ r->image, r->bytes };
		if (process_vm_readv(live_pid, &to, 1, &from, 1, 0) != (ssize_t)r->bytes)
			die("memory is gone");
	}
}

static struct stack_ids take_anew(struct thread *th)
{
	struct thread_state *t = bpf_task_storage_get(&threads, &th->task, 0, 0);
	struct python_thread *pt = bpf_task_storage_get(&python_threads, &th->task, 0, 0);

	if (t)
		memset(t, 0, sizeof(*t));
	if (pt)
		memset(pt, 0, sizeof(*pt));
	return image_take(&image, th);
}

static void words_drop(struct thread *th, struct stack_ids want)
{
	for (size_t i = 0; i < image.n_regions; i++) {
		for (uint64_t at = 0; at + 8 <= image.regions[i].bytes; at += 8) {
			uint64_t was, zero = 0;
			memcpy(&was, image.regions[i].image + at, 8);
			memcpy(image.regions[i].image + at, &zero, 8);
			struct stack_ids got = take_anew(th);
			if (memcmp(&got, &want, sizeof(got)))
				memcpy(image.regions[i].image + at, &was, 8);
		}
	}
}

/* --- writing --- */
static void write_region(FILE *out, const struct host_region *r)
{
	bool open = false;

	fprintf(out, "region %lx %lx\n", r->base, r->bytes);
	for (uint64_t at = 0; at + 8 <= r->bytes; at += 8) {
		uint64_t v;
		memcpy(&v, r->image + at, 8);
		if (v && !open)
			fprintf(out, "words %lx:", r->base + at);
		if (v)
			fprintf(out, " %lx", v);
		else if (open)
			fputc('\n', out);
		open = v;
	}
	if (open)
		fputc('\n', out);
}

static void write_inputs(FILE *out)
{
	fprintf(out, "regs %lx %lx %lx %lx %lx\n", image.pc, image.sp, image.bp, image.fsbase, image.start_stack);
	if (image.py.runtime) {
		fputs("python", out);
#define X(field) fprintf(out, " " #field "=%llx", (unsigned long long)image.py.field);
		for_each_python_field(X)
#undef X
			fputc('\n', out);
	}
	for (size_t i = 0; i < image.n_texts; i++) {
		const struct text *t = &image.texts[i];
		fprintf(out, "%s %lx %lx\n", t->rows ? "text" : "code", t->start, t->end);
		for (size_t k = 0; k < t->n_rows; k++) {
			const struct unwind_rule *rule = &t->rows[k].rule;
			fprintf(out, "row %lx %x %x %d %d %d\n", t->rows[k].at, rule->kind, rule->bp, rule->bp_off,
				rule->cfa_off, rule->cfa_add);
		}
	}
	for (size_t i = 0; i < image.n_regions; i++)
		write_region(out, &image.regions[i]);
}

static void write_native(FILE *out, const struct record *r, const struct stack *st)
{
	fprintf(out, "cut %x\n", st->cut);
	for (uint32_t i = 0; i < st->n_ips; i++) {
		const struct mapping *m = mappings_find(&r->maps, st->ip[i] - 1);
		const char *path = m ? m->path : "?", *name = strrchr(path, '/');
		fprintf(out, "ip %llx # %s\n", st->ip[i], name ? name + 1 : path);
	}
}

/* The target told the frames of `note` and outwards: the first line is the site's. */
static void write_python(FILE *out, const struct record *r, const struct python_chain *c)
{
	struct py_line lines[PYTHON_FRAMES_MAX];
	struct pynames *names = pynames_new();
	char got[512];
	const char *told = r->told;

	pynames_resolve(names, (uint32_t)r->pid, 1, &r->py.names, image.py.code_id, c, lines);
	fprintf(out, "chain %x\n", c->flags);
	for (uint32_t i = 0; i < c->n; i++) {
		fprintf(out, "py %llx %x %x # %s:%u\n", python_frame_code(c->frame[i]), python_frame_unit(c->frame[i]),
			!!(c->frame[i] & PYTHON_FRAME_ENTRY), lines[i].name, lines[i].line);
		int n = snprintf(got, sizeof(got), "%s %u\n", lines[i].name, lines[i].line);
		if (strncmp(told, got, (size_t)n))
			die("frame %u is %sthe target says:\n%s", i, got, told);
		told += n;
	}
	if (strcmp(told, "stop\n"))
		die("the target has more frames: %s", told);
	pynames_free(names);
}

static void record(struct record *r, const char *path, char **argv)
{
	const char *why = "";

	live_pid = r->pid;
	image.py = (struct python_info){ 0 };
	r->has_python = !pyinfo_find((uint32_t)r->pid, &r->maps, &r->py, &why);
	if (r->has_python)
		image.py = r->py.info;
	texts_read(r);
	world_init(true);
	host_map_of(&stacks)->max = host_map_of(&python_chains)->max = UINT32_MAX;
	host.ring_full = true; /* no copies of code objects */
	struct thread *th = image_thread(&image, text_layout(r->texts, (uint32_t)r->n_texts));
	host.read_user = read_live;
	struct stack_ids ids = image_take(&image, th), now;
	host.read_user = NULL;
	const struct stack *st = bpf_map_lookup_elem(&stacks, &ids.native);
	const struct python_chain *c = bpf_map_lookup_elem(&python_chains, &ids.python);
	if (!st || (r->has_python && !c))
		die("no stack");
	regions_fetch(th);
	words_drop(th, ids);
	image_texts(r, st);
	proc_of_thread(th)->layout = text_layout(image.texts, (uint32_t)image.n_texts);
	now = take_anew(th);
	if (memcmp(&now, &ids, sizeof(ids)))
		die("what is kept gives another stack");
	FILE *out = fopen(path, "w");
	if (!out)
		die("%s", path);
	fprintf(out, "#");
	for (int i = 0; argv[i] && strlen(argv[i]) < 64; i++)
		fprintf(out, " %s", strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i]);
	if (r->has_python)
		fprintf(out, ", CPython %u.%u.%u", r->py.version_hex >> 24, r->py.version_hex >> 16 & 255,
			r->py.version_hex >> 8 & 255);
	fputc('\n', out);
	write_inputs(out);
	write_native(out, r, st);
	if (c)
		write_python(out, r, c);
	fclose(out);
	printf("%s: %u frames, cut %u, %u of Python\n", path, st->n_ips, st->cut, c ? c->n : 0);
}

int main(int argc, char **argv)
{
	static struct record r;
	struct user_regs_struct regs;

	if (argc < 4)
		die("record OUT MODULE PROGRAM [ARGUMENT...] | record OUT MODULE -p PID");
	r.module = argv[2];
	if (!strcmp(argv[3], "-p") && argc == 5)
		attach(&r, argv[4]);
	else
		start(&r, argv + 3);
	if (mappings_read((uint32_t)r.pid, &r.maps))
		die("its mappings can't be read");
	regs = hit_wait(&r, malloc_find(&r));
	mappings_done(&r.maps);
	if (mappings_read((uint32_t)r.pid, &r.maps))
		die("its mappings can't be read");
	image.pc = regs.rip;
	image.sp = regs.rsp;
	image.bp = regs.rbp;
	image.fsbase = regs.fs_base;
	image.start_stack = stat_start_stack(r.pid);
	record(&r, argv[1], argv + 3);
	if (r.attached)
		ptrace(PTRACE_DETACH, r.pid, 0, 0);
	else
		kill(r.pid, SIGKILL);
	return 0;
}
