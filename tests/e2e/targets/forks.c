/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A family of processes: a child that frees inherited blocks and makes its own, a grandchild, a vfork child that execs, a
 * spawned one that allocates from its first instruction on. Each prints its own truth and stays until the parent's second line.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "truth.h"

extern char **environ;

static int hold[2]; /* children wait for its end of file */

SITE void *site_parent(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_child(size_t n)
{
	return truth_alloc("malloc", __func__, malloc(n), n);
}

SITE void *site_grandchild(void *p, size_t n)
{
	struct truth_block b = truth_take(p);

	return truth_realloc("realloc", __func__, b, p, realloc(p, n), n);
}

SITE void *site_spawned(size_t n)
{
	return truth_alloc("calloc", __func__, calloc(n, 2), n * 2);
}

SITE void site_free(void *p)
{
	truth_free(p);
	free(p);
}

static void wait_for_end(int fd)
{
	char c;

	(void)!read(fd, &c, 1);
	_exit(0);
}

static void spawned_main(const char *fd)
{
	for (size_t i = 1; i <= 30; i++)
		site_spawned(i);
	site_free(site_spawned(1000));
	truth_print("spawned");
	wait_for_end(atoi(fd));
}

static void grandchild_main(void **of_parent, void **of_child)
{
	truth_forked();
	site_free(of_parent[5]);
	site_free(of_child[3]);
	site_grandchild(of_parent[6], 600); /* frees an inherited block, allocates its own */
	for (size_t i = 1; i <= 3; i++)
		site_grandchild(NULL, i * 100);
	truth_print("grandchild");
	wait_for_end(hold[0]);
}

static void child_main(void **of_parent)
{
	void *own[7];

	truth_forked();
	for (int i = 0; i < 7; i++)
		own[i] = site_child(70 + (size_t)i);
	for (int i = 0; i < 5; i++)
		site_free(of_parent[i]);
	site_free(own[0]);
	site_free(own[1]);
	if (!fork())
		grandchild_main(of_parent, own);
	site_child(5000);
	truth_print("child");
	wait_for_end(hold[0]);
}

static void spawn_one(const char *self)
{
	char fd[16];
	char *argv[] = { (char *)self, (char *)"spawned", fd, NULL };
	pid_t pid;

	snprintf(fd, sizeof(fd), "%d", hold[0]);
	if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ))
		truth_die("posix_spawn failed\n");
}

static void vfork_one(void)
{
	pid_t pid = vfork();

	if (!pid) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(96);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		truth_die("vfork failed\n");
}

int main(int argc, char **argv)
{
	void *blocks[10];

	if (argc == 3 && !strcmp(argv[1], "spawned"))
		spawned_main(argv[2]);
	if (pipe(hold) || fcntl(hold[1], F_SETFD, FD_CLOEXEC))
		return 1;
	truth_start();
	for (int i = 0; i < 10; i++)
		blocks[i] = site_parent(1000 + (size_t)i);
	if (!fork()) {
		close(hold[1]);
		child_main(blocks);
	}
	vfork_one();
	for (int i = 7; i < 10; i++)
		site_free(blocks[i]);
	spawn_one(argv[0]);
	site_parent(123);
	truth_print("parent");
	truth_wait_line();
	_exit(0); /* closes `hold`: the others follow */
}
