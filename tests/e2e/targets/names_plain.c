// SPDX-License-Identifier: GPL-2.0-or-later
// C for test_names.py: inlined functions, clones, a cold part, aliases. Allocates a little.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
	struct node *next;
	int value;
};

static inline __attribute__((always_inline)) struct node *fresh(int value)
{
	struct node *n = malloc(sizeof(*n));

	if (!n)
		abort();
	n->value = value;
	n->next = NULL;
	return n;
}

static inline __attribute__((always_inline)) void push(struct node **list, int value)
{
	struct node *n = fresh(value);

	n->next = *list;
	*list = n;
}

__attribute__((noinline)) static int sum(const struct node *list, int scale)
{
	int s = 0;

	for (; list; list = list->next)
		s += list->value * scale;
	return s;
}

__attribute__((noinline, cold)) static void complain(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

__attribute__((noinline)) int __fill(struct node **list, int n)
{
	if (n < 0)
		complain("negative");
	for (int i = 0; i < n; i++)
		push(list, i);
	return sum(*list, 3);
}
int fill(struct node **list, int n) __attribute__((weak, alias("__fill")));

int main(int argc, char **argv)
{
	struct node *list = NULL;
	int all = fill(&list, 10 * argc) + (int)strlen(argv[0]);

	while (list) {
		struct node *next = list->next;
		free(list);
		list = next;
	}
	printf("%d\n", all);
	return 0;
}
