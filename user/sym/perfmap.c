/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines are "START SIZE NAME\n", hexadecimal, in the order of writing; code that is moved or thrown away leaves its
 * line behind, so a later line wins over an earlier one wherever they overlap:
 *
 *	lines:   1000 500 a        kept:  [1000, 1200) a
 *	         1200 100 b               [1200, 1300) b
 *	                                  [1300, 1500) a
 *
 * Kept are ranges that don't overlap, sorted; what was added since the last look is laid over them. Names stay in the
 * file: 16 bytes a range.
 *
 * The target chooses what stands under that name, so the way to it is hostile too: links are not followed beyond the
 * target's own root, the last one not at all, the file must be the user's, and not older than the process (a process
 * that had the same pid left it). Formats: tools/perf/Documentation/jit-interface.txt of Linux; Node and CPython
 * write the address with and without 0x.
 */
#include "sym/perfmap.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "sym/elfimg.h"
#include "target/proc.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/mem.h"

#define FILE_MAX (64u << 20)
#define RANGES_MAX (1u << 20)
#define CHUNK 65536 /* longest line that is understood */
#define LOOK_NS 200000000ull
#define USERS_MAX 4
/* File times come from the kernel's coarse clock and start times in 10 ms: a file may look that much too old. */
#define AGE_SLACK_S 2.0

struct range {
	uint64_t start;
	uint32_t bytes;
	uint32_t name; /* where it stands in the file */
};

struct ranges {
	struct range *items;
	size_t n, cap;
};

struct perfmap {
	int root;   /* O_PATH; -1: not needed any more */
	char *name; /* under the root */
	int fd;	    /* -1: not there yet */
	uint32_t users[USERS_MAX];
	double born_unix_s;
	struct ranges ranges;
	uint32_t consumed;
	bool in_long_line;
	uint64_t looked_ns;
};

/* "/tmp/perf-", digits, ".map". */
static bool is_map_name(const char *s)
{
	size_t digits;

	if (strncmp(s, "/tmp/perf-", 10) != 0)
		return false;
	digits = strspn(s + 10, "0123456789");
	return digits && digits < 11 && !strcmp(s + 10 + digits, ".map");
}

static int split_open_path(const char *open_path, uint32_t *ret_pid, const char **ret_name)
{
	unsigned int pid;
	int used = 0;

	if (!open_path || sscanf(open_path, "/proc/%u/root%n", &pid, &used) != 1 || !used)
		return -EINVAL;
	if (!is_map_name(open_path + used))
		return -EINVAL;
	*ret_pid = pid;
	*ret_name = open_path + used + 1;
	return 0;
}

bool perfmap_is(const char *path, const char *open_path)
{
	const char *name;
	uint32_t pid;

	return path && is_map_name(path) && split_open_path(open_path, &pid, &name) == 0;
}

/* "Uid:\treal\teffective\tsaved\tfs" */
static int read_users(uint32_t pid, uint32_t users[USERS_MAX])
{
	_cleanup_(freep) char *text = NULL;
	char path[64];
	size_t len;

	(void)snprintf(path, sizeof(path), "/proc/%u/status", pid); /* fits */
	int r = fs_read_all(path, 65536, &text, &len);
	const char *line = r < 0 ? NULL : strstr(text, "\nUid:");
	if (!line || sscanf(line + 5, "%u %u %u %u", &users[0], &users[1], &users[2], &users[3]) != USERS_MAX)
		return -ESRCH;
	return 0;
}

struct perfmap *perfmap_of_fd(int fd)
{
	struct perfmap *m = xcalloc(1, sizeof(*m));

	m->root = -1;
	m->fd = fd;
	return m;
}

struct perfmap *perfmap_open(const char *open_path)
{
	uint32_t pid, users[USERS_MAX];
	struct proc_stat st;
	const char *name;
	char root[64];

	if (split_open_path(open_path, &pid, &name) < 0 || proc_read_stat(pid, &st) < 0 || read_users(pid, users) < 0)
		return NULL;
	(void)snprintf(root, sizeof(root), "/proc/%u/root", pid); /* fits */
	int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	struct perfmap *m = perfmap_of_fd(-1);
	m->root = fd;
	m->name = xstrdup(name);
	memcpy(m->users, users, sizeof(users));
	m->born_unix_s = proc_boot_unix_seconds() + (double)st.start_ticks / 100;
	return m;
}

void perfmap_free(struct perfmap *m)
{
	if (!m)
		return;
	closep(&m->root);
	closep(&m->fd);
	free(m->name);
	free(m->ranges.items);
	free(m);
}

static bool is_trusted(const struct perfmap *m, int fd)
{
	struct stat st;
	bool is_users = false;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	for (size_t i = 0; i < USERS_MAX; i++)
		is_users |= st.st_uid == m->users[i];
	return (is_users || st.st_uid == 0) && (double)st.st_mtime + AGE_SLACK_S >= m->born_unix_s;
}

static void find_file(struct perfmap *m)
{
	const struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW,
				      .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	_cleanup_(closep) int fd = (int)syscall(SYS_openat2, m->root, m->name, &how, sizeof(how));

	if (fd < 0 || !is_trusted(m, fd))
		return;
	m->fd = steal_fd(&fd);
	closep(&m->root);
	m->root = -1;
}

/* --- ranges --- */

static void put(struct ranges *out, uint64_t start, uint64_t end, uint32_t name)
{
	out->items[out->n++] = (struct range){ .start = start, .bytes = (uint32_t)(end - start), .name = name };
}

static uint64_t end_of(const struct range *r)
{
	return r->start + r->bytes;
}

/* `over` hides what it lies on. Each of its ranges can cut one of the others in two, so there is room for that. */
static struct ranges lay_over(const struct range *under, size_t n_under, const struct range *over, size_t n_over)
{
	struct ranges out = { .cap = n_under + 2 * n_over };
	struct range rest = n_under ? under[0] : (struct range){ 0 };
	size_t i = 0, k = 0;

	out.items = xcalloc(out.cap ? out.cap : 1, sizeof(*out.items));
	while (i < n_under || k < n_over) {
		if (k == n_over || (i < n_under && end_of(&rest) <= over[k].start)) {
			put(&out, rest.start, end_of(&rest), rest.name);
		} else if (i == n_under || end_of(&over[k]) <= rest.start) {
			out.items[out.n++] = over[k++];
			continue;
		} else {
			if (rest.start < over[k].start)
				put(&out, rest.start, over[k].start, rest.name);
			if (end_of(&rest) > end_of(&over[k])) {
				rest.bytes = (uint32_t)(end_of(&rest) - end_of(&over[k]));
				rest.start = end_of(&over[k]);
				continue;
			}
		}
		if (++i < n_under)
			rest = under[i];
	}
	return out;
}

static bool ascends(const struct range *lines, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (lines[i].start < end_of(&lines[i - 1]))
			return false;
	return true;
}

/* Lines in the order of writing become ranges: the later half over the earlier one. */
static struct ranges flatten(const struct range *lines, size_t n)
{
	if (ascends(lines, n))
		return lay_over(lines, n, NULL, 0);
	_cleanup_(freep) struct range *early = NULL, *late = NULL;
	struct ranges a = flatten(lines, n / 2), b = flatten(lines + n / 2, n - n / 2);
	early = a.items;
	late = b.items;
	return lay_over(early, a.n, late, b.n);
}

static void add_lines(struct perfmap *m, const struct ranges *lines)
{
	struct ranges fresh = flatten(lines->items, lines->n);

	if (!m->ranges.n) {
		free(m->ranges.items);
		m->ranges = fresh;
		return;
	}
	struct ranges all = lay_over(m->ranges.items, m->ranges.n, fresh.items, fresh.n);
	free(fresh.items);
	free(m->ranges.items);
	m->ranges = all;
}

/* --- reading --- */

static bool read_hex(const char **s, const char *end, uint64_t *ret)
{
	static const char digits[] = "0123456789abcdef";
	const char *p = *s;
	uint64_t v = 0;

	if (end - p > 2 && p[0] == '0' && (p[1] | 0x20) == 'x')
		p += 2;
	const char *first = p;
	for (; p < end && isxdigit((unsigned char)*p); p++) {
		if (v >> 60)
			return false;
		v = v << 4 | (uint64_t)(strchr(digits, tolower((unsigned char)*p)) - digits);
	}
	*s = p;
	*ret = v;
	return p > first;
}

static bool skip_blanks(const char **s, const char *end)
{
	const char *first = *s;

	while (*s < end && (**s == ' ' || **s == '\t'))
		++*s;
	return *s > first;
}

/* `at` is where the line stands in the file. What is not understood is left out. */
static void read_line(struct ranges *lines, const char *line, const char *end, uint32_t at)
{
	const char *s = line;
	uint64_t start, bytes;

	if (!read_hex(&s, end, &start) || !skip_blanks(&s, end) || !read_hex(&s, end, &bytes) ||
	    !skip_blanks(&s, end) || s == end)
		return;
	if (!bytes || bytes > UINT32_MAX || start > UINT64_MAX - bytes)
		return;
	lines->items = grow_to(lines->items, &lines->cap, lines->n + 1, sizeof(*lines->items));
	lines->items[lines->n++] =
		(struct range){ .start = start, .bytes = (uint32_t)bytes, .name = at + (uint32_t)(s - line) };
}

/* Whole lines of a chunk. Returns how many bytes of it are done with. */
static size_t read_chunk(struct perfmap *m, struct ranges *lines, const char *buf, size_t n)
{
	size_t done = 0;
	const char *nl;

	while (done < n && (nl = memchr(buf + done, '\n', n - done))) {
		if (!m->in_long_line)
			read_line(lines, buf + done, nl, m->consumed + (uint32_t)done);
		m->in_long_line = false;
		done = (size_t)(nl - buf) + 1;
	}
	if (done || n < CHUNK)
		return done;
	m->in_long_line = true; /* left out up to its end */
	return n;
}

static void forget(struct perfmap *m)
{
	free(m->ranges.items);
	m->ranges = (struct ranges){ 0 };
	m->consumed = 0;
	m->in_long_line = false;
}

void perfmap_read(struct perfmap *m)
{
	_cleanup_(freep) char *buf = NULL;
	struct ranges lines = { 0 };
	struct stat st;

	m->looked_ns = mono_ns();
	if (m->fd < 0 && m->root >= 0)
		find_file(m);
	if (m->fd < 0 || fstat(m->fd, &st) < 0)
		return;
	if (st.st_size < (off_t)m->consumed)
		forget(m); /* begun anew */
	if (st.st_size == (off_t)m->consumed)
		return;
	buf = xcalloc(1, CHUNK);
	while (m->consumed <= FILE_MAX - CHUNK && m->ranges.n + lines.n < RANGES_MAX) {
		ssize_t got = pread(m->fd, buf, CHUNK, (off_t)m->consumed);
		size_t done = got > 0 ? read_chunk(m, &lines, buf, (size_t)got) : 0;
		if (!done)
			break;
		m->consumed += (uint32_t)done;
	}
	if (lines.n)
		add_lines(m, &lines);
	free(lines.items);
}

static const struct range *range_at(const struct perfmap *m, uint64_t addr)
{
	size_t lo = 0, hi = m->ranges.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (m->ranges.items[mid].start <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || addr - m->ranges.items[lo - 1].start >= m->ranges.items[lo - 1].bytes)
		return NULL;
	return &m->ranges.items[lo - 1];
}

int perfmap_find(struct perfmap *m, uint64_t addr, char ret[PERFMAP_NAME_CAP])
{
	const struct range *r = range_at(m, addr);

	if (!r && (!m->looked_ns || mono_ns() - m->looked_ns >= LOOK_NS)) {
		perfmap_read(m);
		r = range_at(m, addr);
	}
	if (!r)
		return -ENOENT;
	ssize_t got = pread(m->fd, ret, PERFMAP_NAME_CAP - 1, (off_t)r->name);
	if (got <= 0)
		return -ENOENT; /* it was cut meanwhile */
	ret[got] = 0;
	ret[strcspn(ret, "\r\n")] = 0;
	return ret[0] ? 0 : -ENOENT;
}

size_t perfmap_n(const struct perfmap *m)
{
	return m->ranges.n;
}

void perfmap_each(const struct perfmap *m, void (*fn)(uint64_t start, uint64_t end, void *arg), void *arg)
{
	for (size_t i = 0; i < m->ranges.n; i++)
		fn(m->ranges.items[i].start, end_of(&m->ranges.items[i]), arg);
}
