/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stepped: defines allocation functions under jemalloc's prefixed names. Of je_malloc no instruction before its return is one that the kernel emulates,
 * je_free begins with one. Nobody calls them: this is for plans. Says `ready`, waits for a line.
 */
#include <stdio.h>

void *je_malloc(unsigned long n);
void je_free(void *p);

__asm__(".text\n"
	".globl je_malloc, je_free\n"
	".type je_malloc, @function\n"
	".type je_free, @function\n"
	".balign 16\n"
	"je_malloc: lea 4096(%rdi), %rax\n and $-16, %rax\n ret\n"
	".size je_malloc, .-je_malloc\n"
	".balign 16\n"
	"je_free: push %rbx\n mov %rdi, %rbx\n pop %rbx\n ret\n"
	".size je_free, .-je_free\n");

int main(void)
{
	puts("{\"tag\":\"ready\"}");
	fflush(stdout);
	return getchar() == EOF && je_malloc(0) == NULL;
}
