/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds control groups by path, their processes and their memory limits. Reads only: creates, moves and freezes
 * nothing. Keeps no table of mounts between calls: they may change, and the calls are rare (a new process, a new
 * target); struct cgroup_limits, which is asked for all processes again and again, keeps it for seconds.
 *
 * A hierarchy is what mountinfo shows: a mount point and the group that appears there (the root, but for bind
 * mounts into containers). Names of groups count from the hierarchy's root as this process' cgroup namespace shows
 * it, as /proc/PID/cgroup does.
 */
#include "target/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "util/fs.h"
#include "util/mem.h"

#define MOUNTINFO_MAX (16u << 20)
#define PROCS_MAX (64u << 20)
#define MEMBERSHIP_MAX (64u << 10)
/* "No limit" of v1 is LONG_MAX rounded down to pages (mm/page_counter.c); nobody sets exabytes. */
#define V1_NO_LIMIT (1ull << 62)
/* Inode of the first cgroup namespace (include/linux/proc_ns.h, PROC_CGROUP_INIT_INO). */
#define INIT_CGROUP_NS 0xeffffffbull

struct hierarchy {
	char *dir;     /* mount point */
	char *root;    /* group that appears there, "/" */
	char *options; /* v1: comma-separated, with the controllers among them */
	bool v2;
};

struct hierarchies {
	struct hierarchy *items;
	size_t n;
};

static void hierarchies_done(struct hierarchies *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->items[i].dir);
		free(h->items[i].root);
		free(h->items[i].options);
	}
	free(h->items);
}

/* Copies a word; blanks, tabs, line ends and backslashes stand there as three octal digits (fs/proc_namespace.c). */
static char *unescape(const char *word)
{
	char *text = xstrdup(word), *to = text;

	for (const char *s = text; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
	return text;
}

/* "ID PARENT DEV ROOT DIR OPTIONS [TAGS...] - TYPE SOURCE SUPER_OPTIONS"; cuts the line up. */
static bool parse_mount(char *line, struct hierarchy *ret)
{
	char *tail = strstr(line, " - "), *save = NULL, *word[5] = { NULL };

	if (!tail)
		return false;
	*tail = 0;
	for (int i = 0; i < 5; i++) {
		word[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!word[i])
			return false;
	}
	const char *type = strtok_r(tail + 3, " ", &save), *source = strtok_r(NULL, " ", &save);
	const char *options = strtok_r(NULL, " ", &save);
	if (!type || !source || !options || (strcmp(type, "cgroup") && strcmp(type, "cgroup2")))
		return false;
	/* "/..": mounted from outside our cgroup namespace, its names mean nothing to us. */
	if (!strncmp(word[3], "/..", 3))
		return false;
	*ret = (struct hierarchy){
		.dir = unescape(word[4]),
		.root = unescape(word[3]),
		.options = xstrdup(options),
		.v2 = !strcmp(type, "cgroup2"),
	};
	return true;
}

static int hierarchies_read(struct hierarchies *ret)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_(hierarchies_done) struct hierarchies all = { 0 };
	size_t cap = 0;
	char *save = NULL;
	int err = fs_read_all("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL);

	if (err)
		return err;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct hierarchy h;
		if (!parse_mount(line, &h))
			continue;
		all.items = grow_to(all.items, &cap, all.n + 1, sizeof(*all.items));
		all.items[all.n++] = h;
	}
	*ret = all;
	all = (struct hierarchies){ 0 };
	return 0;
}

/* Is the word, `len` bytes long, one of the comma-separated ones? */
static bool list_has(const char *list, const char *word, size_t len)
{
	for (; *list; list += strcspn(list, ",")) {
		list += *list == ',';
		if (strcspn(list, ",") == len && !strncmp(list, word, len))
			return true;
	}
	return false;
}

static bool has_memory(const struct hierarchy *h)
{
	return !h->v2 && list_has(h->options, "memory", 6);
}

/* What follows `base` in `path` ("" or "/..."); NULL: path is not below it. */
static const char *below(const char *path, const char *base)
{
	size_t len = strlen(base);

	while (len && base[len - 1] == '/')
		len--;
	return !strncmp(path, base, len) && (!path[len] || path[len] == '/') ? path + len : NULL;
}

/* The hierarchy whose mount point is nearest above a directory. */
static const struct hierarchy *hierarchy_of_dir(const struct hierarchies *h, const char *dir)
{
	const struct hierarchy *found = NULL;

	for (size_t i = 0; i < h->n; i++)
		if (below(dir, h->items[i].dir) && (!found || strlen(h->items[i].dir) > strlen(found->dir)))
			found = &h->items[i];
	return found;
}

static char *join(const char *a, const char *b)
{
	size_t len = strlen(a);

	while (len && a[len - 1] == '/')
		len--;
	b += strspn(b, "/");
	return *b ? xasprintf("%.*s/%s", (int)len, a, b) : len ? xstrndup(a, len) : xstrdup("/");
}

/* Where the file system shows a group; NULL: this mount does not. */
static char *dir_of_name(const struct hierarchy *h, const char *name)
{
	const char *rest = below(name, h->root);

	return rest ? join(h->dir, rest) : NULL;
}

static uint32_t depth(const char *name)
{
	uint32_t n = 0;

	for (; *name; name++)
		n += name[0] == '/' && name[1] && name[1] != '/';
	return n;
}

static bool in_first_namespace(void)
{
	struct stat st;

	/* No such file: a kernel without cgroup namespaces. */
	return stat("/proc/self/ns/cgroup", &st) || st.st_ino == INIT_CGROUP_NS;
}

/* `dir` has to be a directory of this hierarchy, also after its links and dots are resolved. */
static int open_dir(const struct hierarchies *all, const struct hierarchy *h, const char *dir, struct cgroup *ret)
{
	struct stat st;
	_cleanup_(freep) char *real = realpath(dir, NULL);

	if (!real)
		return -errno;
	if (stat(real, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOENT;
	if (!h)
		h = hierarchy_of_dir(all, real);
	const char *rest = h ? below(real, h->dir) : NULL;
	if (!rest)
		return -ENOTDIR;
	char *name = join(h->root, rest);
	*ret = (struct cgroup){
		.dir = real,
		.name = name,
		.v2 = h->v2,
		.id = h->v2 && in_first_namespace() ? st.st_ino : 0,
		.level = depth(name),
	};
	real = NULL;
	return 0;
}

/* The order of search: v2, v1 memory, other v1. */
static int rank(const struct hierarchy *h)
{
	return h->v2 ? 0 : has_memory(h) ? 1 : 2;
}

static int open_name(const struct hierarchies *all, const char *name, struct cgroup *ret)
{
	for (int r = 0; r < 3; r++)
		for (size_t i = 0; i < all->n; i++) {
			const struct hierarchy *h = &all->items[i];
			_cleanup_(freep) char *dir = rank(h) == r ? join(h->dir, name) : NULL;
			if (dir && !open_dir(all, h, dir, ret))
				return 0;
		}
	return -ENOENT;
}

int cgroup_open(const char *path, struct cgroup *ret)
{
	_cleanup_(hierarchies_done) struct hierarchies all = { 0 };
	int err = hierarchies_read(&all);

	if (err)
		return err;
	if (!*path)
		return -ENOENT;
	err = path[0] == '/' ? open_dir(&all, NULL, path, ret) : -ENOENT;
	if (!err)
		return 0;
	/* Also "/web", as /proc/PID/cgroup and our own tables write it. */
	if (!open_name(&all, path, ret))
		return 0;
	return err == -ENOTDIR ? -ENOTDIR : -ENOENT;
}

void cgroup_done(struct cgroup *c)
{
	free(c->dir);
	free(c->name);
	*c = (struct cgroup){ 0 };
}

static void closedirp(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

struct pids {
	uint32_t *items;
	size_t n, cap;
};

static int add_pids(const char *dir, struct pids *p)
{
	_cleanup_(freep) char *file = join(dir, "cgroup.procs");
	_cleanup_(freep) char *text = NULL;
	int err = fs_read_all(file, PROCS_MAX, &text, NULL);

	if (err)
		return err;
	for (const char *s = text; *s;) {
		char *end;
		unsigned long pid = strtoul(s, &end, 10);
		if (end == s)
			break;
		s = end + strspn(end, "\n");
		/* 0: a process of an outer pid namespace */
		if (!pid || pid > UINT32_MAX)
			continue;
		p->items = grow_to(p->items, &p->cap, p->n + 1, sizeof(*p->items));
		p->items[p->n++] = (uint32_t)pid;
	}
	return 0;
}

struct dirs {
	char **items;
	size_t n, cap;
};

static void dirs_done(struct dirs *d)
{
	while (d->n)
		free(d->items[--d->n]);
	free(d->items);
}

static void push_children(const char *path, struct dirs *todo)
{
	_cleanup_(closedirp) DIR *dir = opendir(path);

	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (e->d_type != DT_DIR || !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		todo->items = grow_to(todo->items, &todo->cap, todo->n + 1, sizeof(*todo->items));
		todo->items[todo->n++] = join(path, e->d_name);
	}
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* v1 lists are neither sorted nor unique, and a process may move between two reads. */
static size_t sort_unique(uint32_t *pids, size_t n)
{
	size_t kept = 0;

	if (n)
		qsort(pids, n, sizeof(*pids), compare_u32);
	for (size_t i = 0; i < n; i++)
		if (!kept || pids[kept - 1] != pids[i])
			pids[kept++] = pids[i];
	return kept;
}

int cgroup_list_pids(const struct cgroup *c, uint32_t **ret, size_t *ret_n)
{
	struct pids pids = { 0 };
	_cleanup_(dirs_done) struct dirs todo = { 0 };
	int err = add_pids(c->dir, &pids);

	/* EOPNOTSUPP: a threaded group; its processes are listed further up. Groups below may come and go meanwhile. */
	if (err && err != -EOPNOTSUPP)
		return err == -ENODEV ? -ENOENT : err;
	push_children(c->dir, &todo);
	while (todo.n) {
		_cleanup_(freep) char *dir = todo.items[--todo.n];
		if (add_pids(dir, &pids) != -ENOENT)
			push_children(dir, &todo);
	}
	*ret = pids.items;
	*ret_n = sort_unique(pids.items, pids.n);
	return 0;
}

static int read_membership(uint32_t pid, char **ret)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%u/cgroup", pid);
	int err = fs_read_all(path, MEMBERSHIP_MAX, ret, NULL);
	return err == -ENOENT ? -ESRCH : err;
}

/* NAME of the line "ID:CONTROLLERS:NAME" (v2: "0::NAME") that is_line takes. Caller frees; NULL: none. */
static char *membership_name(const char *text, bool (*is_line)(const char *controllers, size_t len, const void *ctx),
			     const void *ctx)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		const char *controllers = memchr(line, ':', len);
		const char *name = NULL;
		if (controllers++)
			name = memchr(controllers, ':', len - (size_t)(controllers - line));
		if (name && is_line(controllers, (size_t)(name - controllers), ctx))
			return xstrndup(name + 1, len - (size_t)(name + 1 - line));
		line += len + (line[len] == '\n');
	}
	return NULL;
}

static bool is_v2_line(const char *controllers, size_t len, const void *ctx)
{
	(void)controllers;
	(void)ctx;
	return !len;
}

static bool is_memory_line(const char *controllers, size_t len, const void *ctx)
{
	(void)ctx;
	_cleanup_(freep) char *list = xstrndup(controllers, len);
	return list_has(list, "memory", 6);
}

/*
 * Co-mounted controllers stand on one line: the first one tells. A named hierarchy has "name=systemd" in both
 * places.
 */
static bool is_line_of(const char *controllers, size_t len, const void *ctx)
{
	const struct hierarchy *h = ctx;
	const char *comma = memchr(controllers, ',', len);

	if (h->v2 || !len)
		return h->v2 && !len;
	return list_has(h->options, controllers, comma ? (size_t)(comma - controllers) : len);
}

int cgroup_has_pid(const struct cgroup *c, uint32_t pid)
{
	_cleanup_(hierarchies_done) struct hierarchies all = { 0 };
	_cleanup_(freep) char *text = NULL;
	int err = read_membership(pid, &text);

	if (err)
		return err;
	if (c->v2) {
		_cleanup_(freep) char *name = membership_name(text, is_v2_line, NULL);
		return name && below(name, c->name);
	}
	err = hierarchies_read(&all);
	if (err)
		return err;
	const struct hierarchy *h = hierarchy_of_dir(&all, c->dir);
	_cleanup_(freep) char *name = h ? membership_name(text, is_line_of, h) : NULL;
	return name && below(name, c->name);
}

/* What is shown of a membership. Caller frees. */
static char *name_in(const char *membership)
{
	char *name = membership_name(membership, is_v2_line, NULL);

	if (!name || !strcmp(name, "/")) {
		free(name);
		name = membership_name(membership, is_memory_line, NULL);
	}
	return name ? name : xstrdup("/");
}

struct limit {
	uint64_t bytes, used_bytes;
};

static uint64_t read_or_unknown(const char *dir, const char *file)
{
	_cleanup_(freep) char *path = join(dir, file);
	uint64_t v;

	return fs_read_u64(path, &v) ? UINT64_MAX : v;
}

/* From the group up to what the mount shows of its hierarchy: every ancestor's limit holds. */
static void tighten(const struct hierarchy *h, const char *name, struct limit *l)
{
	_cleanup_(freep) char *dir = dir_of_name(h, name);

	while (dir && below(dir, h->dir)) {
		uint64_t max = read_or_unknown(dir, h->v2 ? "memory.max" : "memory.limit_in_bytes");
		if (max < l->bytes && (h->v2 || max < V1_NO_LIMIT)) {
			l->bytes = max;
			l->used_bytes = read_or_unknown(dir, h->v2 ? "memory.current" : "memory.usage_in_bytes");
		}
		char *slash = strrchr(dir, '/');
		if (!slash || slash == dir)
			break;
		*slash = 0;
	}
}

static struct limit limit_of(const struct hierarchies *all, const char *membership)
{
	struct limit l = { .bytes = UINT64_MAX, .used_bytes = UINT64_MAX };

	for (size_t i = 0; i < all->n; i++) {
		const struct hierarchy *h = &all->items[i];
		if (!h->v2 && !has_memory(h))
			continue;
		_cleanup_(freep) char *name = membership_name(membership, h->v2 ? is_v2_line : is_memory_line, NULL);
		if (name)
			tighten(h, name, &l);
	}
	return l;
}

int cgroup_memory_limit(uint32_t pid, uint64_t *ret_limit_bytes, uint64_t *ret_used_bytes)
{
	_cleanup_(hierarchies_done) struct hierarchies all = { 0 };
	_cleanup_(freep) char *text = NULL;
	int err = read_membership(pid, &text);

	if (!err)
		err = hierarchies_read(&all);
	if (err)
		return err;
	struct limit l = limit_of(&all, text);
	*ret_limit_bytes = l.bytes;
	if (ret_used_bytes)
		*ret_used_bytes = l.used_bytes;
	return 0;
}

/* All processes with this text in /proc/PID/cgroup. */
struct cgroup_group {
	char *membership, *name;
	uint32_t users;
	uint64_t read_ns; /* 0: the limit was not looked at */
	struct limit limit;
	UT_hash_handle hh;
};

struct cgroup_limits {
	struct hierarchies mounts;
	struct cgroup_group *groups;
	uint64_t read_ns; /* of the mounts; 0: nothing is known */
};

struct cgroup_limits *cgroup_limits_new(void)
{
	return xcalloc(1, sizeof(struct cgroup_limits));
}

static void group_free(struct cgroup_limits *c, struct cgroup_group *g)
{
	HASH_DEL(c->groups, g);
	free(g->membership);
	free(g->name);
	free(g);
}

void cgroup_limits_free(struct cgroup_limits *c)
{
	struct cgroup_group *g, *next;

	if (!c)
		return;
	HASH_ITER(hh, c->groups, g, next)
		group_free(c, g);
	hierarchies_done(&c->mounts);
	free(c);
}

struct cgroup_group *cgroup_group_hold(struct cgroup_group *g)
{
	if (g)
		g->users++;
	return g;
}

void cgroup_group_drop(struct cgroup_limits *c, struct cgroup_group *g)
{
	if (g && --g->users == 0)
		group_free(c, g);
}

const char *cgroup_group_name(const struct cgroup_group *g)
{
	return g->name;
}

int cgroup_group_of_pid(struct cgroup_limits *c, uint32_t pid, struct cgroup_group **ret)
{
	_cleanup_(freep) char *text = NULL;
	struct cgroup_group *g = NULL;
	int err = read_membership(pid, &text);

	if (err)
		return err;
	HASH_FIND_STR(c->groups, text, g);
	if (!g) {
		g = xcalloc(1, sizeof(*g));
		g->name = name_in(text);
		g->membership = text;
		text = NULL;
		HASH_ADD_KEYPTR(hh, c->groups, g->membership, strlen(g->membership), g);
	}
	*ret = cgroup_group_hold(g);
	return 0;
}

int cgroup_group_limit(struct cgroup_limits *c, struct cgroup_group *g, uint64_t now_ns, uint64_t *ret_limit_bytes,
		       uint64_t *ret_used_bytes)
{
	if (!c->read_ns || now_ns - c->read_ns >= CGROUP_LIMITS_NS) {
		struct hierarchies mounts = { 0 };
		int err = hierarchies_read(&mounts);
		if (err)
			return err;
		hierarchies_done(&c->mounts);
		c->mounts = mounts;
		c->read_ns = now_ns;
	}
	if (!g->read_ns || now_ns - g->read_ns >= CGROUP_LIMITS_NS) {
		g->limit = limit_of(&c->mounts, g->membership);
		g->read_ns = now_ns;
	}
	*ret_limit_bytes = g->limit.bytes;
	*ret_used_bytes = g->limit.used_bytes;
	return 0;
}
