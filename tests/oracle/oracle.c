// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The second opinion on native stacks: unwinds recorded hits (include/hit.h) once more with libdw and compares frame for frame. Owns the
 * comparison and the names of what may differ; takes nothing from the program under test but the record files.
 *
 *	oracle [-n MAX] FOLDER...	one JSON line per folder; exit 1 if in one of them less than 99.5 % are equal
 *
 * equal: the same frames and the same end. prefix_equal: libdw came to memory outside of the recorded bytes, and all frames up to there are
 * equal. All else differs, in one of the classes below, and the first ten of each class are printed to stderr with both stacks. Hits of a process
 * that was gone before its maps could be read can't be judged, and are counted as that only.
 */
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hit.h"

enum verdict {
	EQUAL,	    /* the same frames, the same end */
	PREFIX,	    /* the same frames, as far as the recorded memory goes */
	UNDEFINED,  /* the hit's stack is not in `stacks` */
	GUESS,	    /* they part behind code without CFI, of which libdw only guesses */
	LIBDW_ENDS, /* ours goes on where libdw finds no CFI */
	OTHER_END,  /* the same frames, but one holds the end for the thread's start and the other does not */
	SHORT,	    /* ours stops before libdw does */
	LONG,	    /* ours goes on behind the thread's start */
	FRAME,	    /* another frame */
	VERDICT_NR
};

static const char *const verdict_names[VERDICT_NR] = { "equal",	    "prefix_equal", "undefined", "guess", "libdw_ends",
						       "other_end", "short",	    "long",	 "frame" };
static const char *const cut_names[CUT_NR] = { "none", "depth", "no_mapping", "no_row", "rule", "memory", "unknown" };

#define EXAMPLES 10
#define PERMILLE_EQUAL 995
#define FRAMES_MAX (STACK_MAX_FRAMES + 2) /* the probed function itself; one more, to see whether the end was reached */

struct walk {
	Dwarf_Addr ip[FRAMES_MAX];
	bool is_activation[FRAMES_MAX]; /* of a signal: its trampoline, and the frame that it interrupted */
	size_t n;
	bool is_whole;	   /* came to the thread's start */
	bool lacks_memory; /* ended where memory was needed that was not recorded */
};

struct process {
	struct process *next;
	pid_t pid;
	Dwfl *dwfl; /* NULL: no maps */
	const struct hit_record *hit;
	struct walk walk;
};

struct table {
	const void *rows;
	size_t n;
};

/* --- what libdw asks for --- */

/* What is not on the recorded stack is read from the file that is mapped there, if the program can't have written to it. */
static bool read_file(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *ret_word)
{
	Dwfl_Module *mod = dwfl_addrmodule(dwfl, addr);
	Dwarf_Addr bias;
	Elf_Scn *scn = mod ? dwfl_module_address_section(mod, &addr, &bias) : NULL;
	Elf_Data *data = scn ? elf_rawdata(scn, NULL) : NULL;
	GElf_Shdr shdr;

	if (!data || !data->d_buf || !gelf_getshdr(scn, &shdr) || (shdr.sh_flags & SHF_WRITE) || data->d_size < 8 ||
	    addr > data->d_size - 8)
		return false;
	memcpy(ret_word, (const char *)data->d_buf + addr, 8);
	return true;
}

static bool read_memory(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *ret_word, void *arg)
{
	struct process *p = arg;
	uint64_t at = addr - p->hit->regs[7];

	if (p->hit->stack_bytes >= 8 && at <= p->hit->stack_bytes - 8) {
		memcpy(ret_word, p->hit->stack + at, 8);
		return true;
	}
	if (read_file(dwfl, addr, ret_word))
		return true;
	p->walk.lacks_memory = true;
	return false;
}

static pid_t next_thread(Dwfl *dwfl, void *arg, void **ret_thread)
{
	struct process *p = arg;

	(void)dwfl;
	if (*ret_thread)
		return 0;
	*ret_thread = p;
	return p->pid;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
	return dwfl_thread_state_registers(thread, 0, HIT_REGS, (const Dwarf_Word *)((struct process *)arg)->hit->regs);
}

static int take_frame(Dwfl_Frame *f, void *arg)
{
	struct walk *w = arg;

	/* What was lacking on the way to this frame was a register that nobody needs. */
	w->lacks_memory = false;
	if (!dwfl_frame_pc(f, &w->ip[w->n], &w->is_activation[w->n]))
		return -1;
	return ++w->n == FRAMES_MAX ? DWARF_CB_ABORT : DWARF_CB_OK;
}

/* No separate debug information: what the processor executes is described by the files themselves. */
static int find_no_debuginfo(Dwfl_Module *mod, void **user, const char *name, Dwarf_Addr base, const char *file,
			     const char *link, GElf_Word crc, char **ret_name)
{
	(void)mod, (void)user, (void)name, (void)base, (void)file, (void)link, (void)crc, (void)ret_name;
	return -1;
}

/* --- processes --- */

/* The vdso is in no file, but the same in all processes of a kernel: our own one stands in. */
static void report_vdso(Dwfl *dwfl, FILE *maps)
{
	char line[4096];
	uint64_t start, end;

	while (fgets(line, sizeof(line), maps)) {
		if (!strstr(line, "[vdso]") || sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
			continue;
		int fd = memfd_create("vdso", 0);

		if (write(fd, (const void *)getauxval(AT_SYSINFO_EHDR), end - start) != (ssize_t)(end - start) ||
		    !dwfl_report_elf(dwfl, "[vdso]", "[vdso]", fd, start, false))
			fprintf(stderr, "oracle: vdso: %s\n", dwfl_errmsg(-1));
	}
}

static Dwfl *open_process(const char *folder, struct process *p)
{
	static const Dwfl_Callbacks callbacks = { .find_elf = dwfl_linux_proc_find_elf,
						  .find_debuginfo = find_no_debuginfo };
	static const Dwfl_Thread_Callbacks threads = { .next_thread = next_thread,
						       .memory_read = read_memory,
						       .set_initial_registers = set_registers };
	char path[4096];
	Dwfl *dwfl = dwfl_begin(&callbacks);
	FILE *maps;

	snprintf(path, sizeof(path), "%s/maps.%d", folder, p->pid);
	maps = fopen(path, "re");
	if (!maps)
		return NULL;
	dwfl_report_begin(dwfl);
	bool is_read = !dwfl_linux_proc_maps_report(dwfl, maps);
	rewind(maps);
	report_vdso(dwfl, maps);
	fclose(maps);
	if (dwfl_report_end(dwfl, NULL, NULL) || !is_read || !dwfl_attach_state(dwfl, NULL, p->pid, &threads, p)) {
		fprintf(stderr, "oracle: \"%s\": %s\n", path, dwfl_errmsg(-1));
		return NULL;
	}
	return dwfl;
}

static struct process *find_process(const char *folder, struct process **all, pid_t pid)
{
	for (struct process *p = *all; p; p = p->next)
		if (p->pid == pid)
			return p;
	struct process *p = calloc(1, sizeof(*p));

	*p = (struct process){ .next = *all, .pid = pid };
	p->dwfl = open_process(folder, p);
	return *all = p;
}

/* --- the comparison --- */

static void unwind(struct process *p, const struct hit_record *hit)
{
	p->hit = hit;
	memset(&p->walk, 0, sizeof(p->walk));
	/* To libdw a return address in memory that can't be read is an undefined one, as at the thread's start. */
	p->walk.is_whole = dwfl_getthread_frames(p->dwfl, p->pid, take_frame, &p->walk) == 0 && !p->walk.lacks_memory;
	/* What include/abi.h says of interrupted instructions; of the two activations of a signal the outer one is that. */
	for (size_t i = 2; i < p->walk.n; i++)
		if (p->walk.is_activation[i] && p->walk.is_activation[i - 1])
			p->walk.ip[i]++;
}

static bool has_cfi(Dwfl *dwfl, Dwarf_Addr ip)
{
	Dwfl_Module *mod = dwfl_addrmodule(dwfl, ip - 1);
	Dwarf_Addr bias;
	Dwarf_CFI *cfi = mod ? dwfl_module_eh_cfi(mod, &bias) : NULL;
	Dwarf_Frame *frame = NULL;
	bool is_there = cfi && !dwarf_cfi_addrframe(cfi, ip - 1 - bias, &frame);

	free(frame);
	cfi = mod && !is_there ? dwfl_module_dwarf_cfi(mod, &bias) : NULL;
	frame = NULL;
	is_there |= cfi && !dwarf_cfi_addrframe(cfi, ip - 1 - bias, &frame);
	free(frame);
	return is_there;
}

/* Index in the walk of what ip[0] is: system calls are seen in the code that enters the kernel, calls in the function called. */
static size_t first_frame(const struct walk *w, const struct stack *s)
{
	return s->site < SITE_FIRST_PROBE && w->n && s->n_ips && s->ip[0] == w->ip[0] + 1 ? 0 : 1;
}

static enum verdict compare(Dwfl *dwfl, const struct walk *w, const struct stack *s)
{
	size_t skip = first_frame(w, s), theirs = w->n > skip ? w->n - skip : 0, i = skip == 0;

	for (; i < theirs && i < s->n_ips; i++)
		if (s->ip[i] != w->ip[i + skip])
			return i && !has_cfi(dwfl, s->ip[i - 1]) ? GUESS : FRAME;
	if (s->n_ips == STACK_MAX_FRAMES && s->cut == CUT_DEPTH && theirs >= STACK_MAX_FRAMES)
		return EQUAL;
	if (s->n_ips < theirs)
		return s->n_ips && !has_cfi(dwfl, s->ip[s->n_ips - 1]) ? GUESS : SHORT;
	if (w->is_whole)
		return s->n_ips > theirs ? LONG : s->cut == CUT_NONE ? EQUAL : OTHER_END;
	if (w->lacks_memory)
		return PREFIX;
	return s->n_ips > theirs ? LIBDW_ENDS : s->cut == CUT_NONE ? OTHER_END : EQUAL;
}

static void print_address(Dwfl *dwfl, Dwarf_Addr ip)
{
	Dwfl_Module *mod = ip ? dwfl_addrmodule(dwfl, ip - 1) : NULL;
	Dwarf_Addr start = 0;
	const char *name = mod ? dwfl_module_info(mod, NULL, &start, NULL, NULL, NULL, NULL, NULL) : "?";
	const char *symbol = mod ? dwfl_module_addrname(mod, ip - 1) : NULL;
	char text[512];

	snprintf(text, sizeof(text), "%s+0x%" PRIx64 " %s", strrchr(name, '/') ? strrchr(name, '/') + 1 : name,
		 ip - start, symbol ? symbol : "");
	fprintf(stderr, " %-60.60s", ip ? text : "-");
}

static void print_example(struct process *p, const struct stack *s, enum verdict v)
{
	const struct walk *w = &p->walk;
	size_t skip = first_frame(w, s);

	fprintf(stderr, "%s: pid %u, site %u, cut %s, %s; libdw: %s; ours | libdw\n", verdict_names[v], p->hit->pid,
		s->site, s->cut < CUT_NR ? cut_names[s->cut] : "?", p->hit->repeated ? "repeated" : "unwound",
		w->is_whole	  ? "thread's start"
		: w->lacks_memory ? "no memory"
				  : dwfl_errmsg(-1));
	for (size_t i = 0; i < s->n_ips || i + skip < w->n; i++) {
		Dwarf_Addr ours = i < s->n_ips ? s->ip[i] : 0, theirs = i + skip < w->n ? w->ip[i + skip] : 0;

		fprintf(stderr, "  %3zu %c", i, ours == theirs ? ' ' : '*');
		print_address(p->dwfl, ours);
		print_address(p->dwfl, theirs);
		fprintf(stderr, "\n");
	}
}

/* --- folders --- */

static struct table map_table(const char *folder, const char *name, size_t row_bytes)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st)) {
		fprintf(stderr, "oracle: \"%s\": %m\n", path);
		exit(2);
	}
	void *p = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;

	close(fd);
	return (struct table){ p, p == MAP_FAILED ? 0 : (size_t)st.st_size / row_bytes };
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = (*(const struct hit_stack *const *)a)->native_id,
		 y = (*(const struct hit_stack *const *)b)->native_id;

	return x < y ? -1 : x > y;
}

static const struct hit_stack **index_stacks(struct table stacks)
{
	const struct hit_stack **index = calloc(stacks.n + 1, sizeof(*index));

	for (size_t i = 0; i < stacks.n; i++)
		index[i] = (const struct hit_stack *)stacks.rows + i;
	qsort(index, stacks.n, sizeof(*index), by_id);
	return index;
}

struct score {
	uint64_t hits, unjudged, repeated, frames, verdict[VERDICT_NR];
};

static void judge(const char *folder, struct process **all, const struct hit_record *hit,
		  const struct hit_stack **found, struct score *score)
{
	struct process *p = find_process(folder, all, (pid_t)hit->pid);
	static const struct stack none = { .cut = CUT_UNKNOWN };
	const struct stack *s = found ? &(*found)->stack : &none;
	enum verdict v;

	if (!p->dwfl) {
		score->unjudged++;
		return;
	}
	unwind(p, hit);
	v = found ? compare(p->dwfl, &p->walk, s) : UNDEFINED;
	score->hits++;
	score->repeated += hit->repeated != 0;
	score->frames += p->walk.n;
	if (++score->verdict[v] <= EXAMPLES && v > PREFIX)
		print_example(p, s, v);
}

static bool print_score(const char *folder, size_t recorded, const struct score *s)
{
	uint64_t same = s->verdict[EQUAL] + s->verdict[PREFIX];
	bool is_good = s->hits && same * 1000 >= s->hits * PERMILLE_EQUAL;
	const char *comma = "";

	printf("{\"program\": \"%s\", \"recorded\": %zu, \"unjudged\": %" PRIu64 ", \"hits\": %" PRIu64
	       ", \"repeated\": %" PRIu64 ", \"frames\": %" PRIu64 ", \"equal\": %" PRIu64
	       ", \"prefix_equal\": %" PRIu64 ", \"differ\": {",
	       strrchr(folder, '/') ? strrchr(folder, '/') + 1 : folder, recorded, s->unjudged, s->hits, s->repeated,
	       s->frames, s->verdict[EQUAL], s->verdict[PREFIX]);
	for (int v = PREFIX + 1; v < VERDICT_NR; v++) {
		if (!s->verdict[v])
			continue;
		printf("%s\"%s\": %" PRIu64, comma, verdict_names[v], s->verdict[v]);
		comma = ", ";
	}
	printf("}, \"good\": %s}\n", is_good ? "true" : "false");
	return is_good;
}

/* At most `max` hits, evenly spread over what was recorded. */
static bool judge_folder(const char *folder, size_t max)
{
	struct table hits = map_table(folder, "hits", sizeof(struct hit_record));
	struct table stacks = map_table(folder, "stacks", sizeof(struct hit_stack));
	const struct hit_stack **index = index_stacks(stacks);
	struct process *all = NULL;
	struct score score = { 0 };
	size_t n = hits.n < max ? hits.n : max;

	for (size_t i = 0; i < n; i++) {
		const struct hit_record *hit = (const struct hit_record *)hits.rows + i * hits.n / n;
		const struct hit_stack key = { .native_id = hit->native_id }, *wanted = &key;

		judge(folder, &all, hit, bsearch(&wanted, index, stacks.n, sizeof(*index), by_id), &score);
	}
	for (struct process *p = all, *next; p; p = next) {
		next = p->next;
		dwfl_end(p->dwfl);
		free(p);
	}
	free(index);
	return print_score(folder, hits.n, &score);
}

int main(int argc, char **argv)
{
	size_t max = SIZE_MAX;
	bool is_good = true;
	int option;

	while ((option = getopt(argc, argv, "n:")) != -1)
		max = option == 'n' ? strtoul(optarg, NULL, 10) : 0;
	if (optind == argc || !max) {
		fprintf(stderr, "usage: oracle [-n MAX] FOLDER...\n");
		return 2;
	}
	for (; optind < argc; optind++)
		is_good &= judge_folder(argv[optind], max);
	return is_good ? 0 : 1;
}
