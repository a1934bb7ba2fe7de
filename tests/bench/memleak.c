/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaches bpf/memleak.bpf.c to one process, as bcc's memleak does. Only the kernel's side is compared: nothing reads the tables while it runs, so what
 * it costs is less than such a tool costs.
 *
 *   memleak OBJECT PID LIBC    attaches, prints "attached", stays until stdin ends, prints the numbers of allocations and frees
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct place {
	const char *function, *program;
	bool result;
};

static const struct place places[] = {
	{ "malloc", "on_malloc", false },  { "malloc", "on_result", true },    { "calloc", "on_calloc", false },
	{ "calloc", "on_result", true },   { "realloc", "on_realloc", false }, { "realloc", "on_result", true },
	{ "mmap", "on_second", false },	   { "mmap", "on_result", true },      { "memalign", "on_second", false },
	{ "memalign", "on_result", true }, { "munmap", "on_free", false },     { "free", "on_free", false },
};

static int fail(const char *what, int err)
{
	fprintf(stderr, "memleak: %s: %s\n", what, strerror(err < 0 ? -err : errno));
	return -1;
}

/* Links stay until the process ends. */
static int attach(struct bpf_object *object, pid_t pid, const char *libc)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = places[i].function, .retprobe = places[i].result);
		struct bpf_program *program = bpf_object__find_program_by_name(object, places[i].program);

		if (!program)
			return fail(places[i].program, -ENOENT);
		if (!bpf_program__attach_uprobe_opts(program, pid, libc, 0, &opts))
			return fail(places[i].function, 0);
	}
	return 0;
}

static int print_counts(struct bpf_object *object)
{
	struct bpf_map *bss = bpf_object__find_map_by_name(object, ".bss");
	uint64_t counts[2];
	uint32_t zero = 0;

	if (!bss || bpf_map__value_size(bss) != sizeof(counts) ||
	    bpf_map__lookup_elem(bss, &zero, sizeof(zero), counts, sizeof(counts), 0))
		return fail("counts", -EINVAL);
	printf("%llu %llu\n", (unsigned long long)counts[0], (unsigned long long)counts[1]);
	return 0;
}

int main(int argc, char **argv)
{
	struct bpf_object *object;
	char c;

	if (argc != 4) {
		fputs("usage: memleak OBJECT PID LIBC, as root\n", stderr);
		return 2;
	}
	object = bpf_object__open_file(argv[1], NULL);
	if (!object || bpf_object__load(object)) {
		fail(argv[1], 0);
		return 1;
	}
	if (attach(object, atoi(argv[2]), argv[3]))
		return 1;
	puts("attached");
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		continue;
	return print_counts(object) ? 1 : 0;
}
