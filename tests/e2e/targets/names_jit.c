/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code that this program generates itself, named in its perf map when a line says so: `forwards` allocates through it.
 * Says what it is called inside of its own pid namespace.
 */
#include <sys/mman.h>

#include "truth.h"

SITE void *site_plain(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

/* push %rbp; mov %rsp,%rbp; movabs $site_plain,%rax; call *%rax; pop %rbp; ret */
static void *(*generate(void))(size_t)
{
	static const unsigned char head[] = { 0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8 }, tail[] = { 0xff, 0xd0, 0x5d, 0xc3 };
	void *(*target)(size_t) = site_plain, *(*made)(size_t);
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED)
		truth_die("no memory for code\n");
	memcpy(code, head, sizeof(head));
	memcpy(code + sizeof(head), &target, sizeof(target));
	memcpy(code + sizeof(head) + sizeof(target), tail, sizeof(tail));
	if (mprotect(code, 4096, PROT_READ | PROT_EXEC))
		truth_die("code can't be run\n");
	memcpy(&made, &code, sizeof(made));
	return made;
}

static void write_map(void *(*code)(size_t))
{
	char path[64];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	FILE *f = fopen(path, "w");
	if (!f)
		truth_die("no perf map\n");
	fprintf(f, "%lx 12 generated::forwards /app.js:7\n", (unsigned long)code);
	fclose(f);
}

SITE void use_generated(void *(*code)(size_t), size_t n)
{
	for (size_t i = 0; i < n; i++)
		code(1000 + i);
}

int main(void)
{
	void *(*code)(size_t) = generate();

	truth_start();
	use_generated(code, 5);
	truth_say("{\"tag\": \"unnamed\"}");
	truth_wait_line();
	write_map(code);
	use_generated(code, 10);
	truth_print("named");
	truth_wait_line();
	_exit(0);
}
