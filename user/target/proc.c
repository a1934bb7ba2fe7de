/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads /proc files of one process and turns them into values. Keeps nothing between calls, judges nothing (who is
 * observed is select.c's business) and never writes to /proc.
 *
 * stat and status are read for many processes in every interval: one open, one read into the stack, one close,
 * scanned by hand. procfs produces such a file whole in one read when the buffer takes it (fs/seq_file.c), so there
 * is no second read for the end of file.
 */
#include "target/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/fs.h"
#include "util/mem.h"

/* More than any status file but those of processes with hundreds of groups; these are read again, whole. */
#define STATUS_CAP 4096
#define STATUS_MAX (1u << 20)
/* The kernel takes up to 6 MiB of arguments; what selects or shows a process stands in front. */
#define CMDLINE_MAX (128u << 10)
/* vm.max_map_count may be raised to millions; 64 MiB are about 600,000 lines. */
#define MAPS_MAX (64u << 20)

/* /proc answers ENOENT at open and ESRCH at read for a process that is gone. */
static int gone(int err)
{
	return err == -ENOENT ? -ESRCH : err;
}

static int open_proc(uint32_t pid, const char *name, int flags)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%u/%s", pid, name); /* names are ours and short */
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? gone(-errno) : fd;
}

static ssize_t read_some(int fd, char *buf, size_t cap)
{
	ssize_t n;

	do
		n = read(fd, buf, cap);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Returns the number of bytes; cap - 1 means that there may be more. */
static int read_once(uint32_t pid, const char *name, char *buf, size_t cap)
{
	_cleanup_(closep) int fd = open_proc(pid, name, O_RDONLY);
	if (fd < 0)
		return fd;
	ssize_t n = read_some(fd, buf, cap - 1);
	if (n < 0)
		return (int)n;
	buf[n] = 0;
	return (int)n;
}

/* Decimal digits at *s; stops behind them. */
static uint64_t take_u64(const char **s)
{
	uint64_t v = 0;

	for (; **s >= '0' && **s <= '9'; (*s)++)
		v = v * 10 + (uint64_t)(**s - '0');
	return v;
}

static int parse_stat(const char *text, struct proc_stat *ret)
{
	/* Names may hold anything, also ") S 1": the last parenthesis is the kernel's. */
	const char *open_at = strchr(text, '('), *close_at = strrchr(text, ')');
	struct proc_stat st = { 0 };
	uint64_t field[23] = { 0 };
	int n;

	if (!open_at || !close_at || close_at < open_at || close_at[1] != ' ' || !close_at[2])
		return -EBADMSG;
	size_t len = (size_t)(close_at - open_at - 1);
	if (len >= sizeof(st.comm))
		len = sizeof(st.comm) - 1;
	memcpy(st.comm, open_at + 1, len);
	st.pid = (uint32_t)take_u64(&text);
	st.state = close_at[2];
	const char *s = close_at + 3;
	/* Numbers as in proc(5): the state is field 3. */
	for (n = 4; n <= 22 && *s == ' '; n++) {
		s += s[1] == '-' ? 2 : 1; /* none of the wanted ones is negative */
		field[n] = take_u64(&s);
	}
	if (n <= 22)
		return -EBADMSG;
	st.ppid = (uint32_t)field[4];
	st.cpu_ticks = field[14] + field[15];
	st.threads = (uint32_t)field[20];
	st.start_ticks = field[22];
	*ret = st;
	return 0;
}

int proc_read_stat(uint32_t pid, struct proc_stat *ret)
{
	char buf[1024];
	int n = read_once(pid, "stat", buf, sizeof(buf));

	if (n < 0)
		return n;
	return n ? parse_stat(buf, ret) : -ESRCH;
}

/* Value of the line "KEY:<blanks>VALUE", NULL without one. Starts at `from` (NULL: none). */
static const char *status_value(const char *from, const char *key)
{
	size_t len = strlen(key);

	while (from && *from) {
		if (!strncmp(from, key, len) && from[len] == ':') {
			from += len + 1;
			return from + strspn(from, " \t");
		}
		from = strchr(from, '\n');
		from = from ? from + 1 : NULL;
	}
	return NULL;
}

static uint64_t status_kib(const char *text, const char *key)
{
	const char *v = status_value(text, key);

	return v ? take_u64(&v) * 1024 : UINT64_MAX;
}

/* The text is in buf, or in *ret_long (caller frees) when it is longer. */
static int read_status(uint32_t pid, char buf[STATUS_CAP], char **ret_long, const char **ret_text)
{
	int n = read_once(pid, "status", buf, STATUS_CAP);

	if (n < 0)
		return n;
	*ret_text = buf;
	if (n < STATUS_CAP - 1)
		return 0;
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%u/status", pid);
	n = fs_read_all(path, STATUS_MAX, ret_long, NULL);
	if (!n)
		*ret_text = *ret_long;
	return gone(n);
}

int proc_read_rss(uint32_t pid, struct proc_rss *ret)
{
	char buf[STATUS_CAP];
	_cleanup_(freep) char *longer = NULL;
	const char *text;
	int err = read_status(pid, buf, &longer, &text);

	if (err)
		return err;
	/* One scan: the five lines stand in this order (fs/proc/task_mmu.c, task_mem). */
	text = status_value(text, "VmRSS");
	if (!text)
		return -ENOENT;
	ret->rss_bytes = take_u64(&text) * 1024;
	ret->anon_bytes = status_kib(text, "RssAnon");
	ret->file_bytes = status_kib(text, "RssFile");
	ret->shmem_bytes = status_kib(text, "RssShmem");
	ret->swap_bytes = status_kib(text, "VmSwap");
	return 0;
}

int proc_open_pages(uint32_t pid)
{
	return open_proc(pid, "statm", O_RDONLY);
}

int proc_read_pages(int fd, struct proc_pages *ret)
{
	char buf[128];
	const char *s = buf;
	uint64_t field[3];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

	if (n <= 0)
		return n < 0 ? -errno : -ESRCH;
	buf[n] = 0;
	for (int i = 0; i < 3; i++) {
		if (*s < '0' || *s > '9')
			return -EBADMSG;
		field[i] = take_u64(&s);
		s += *s == ' ';
	}
	*ret = (struct proc_pages){ .resident = field[1], .shared = field[2] };
	return 0;
}

bool proc_rss_follow(struct proc_rss *rss, const struct proc_pages *before, const struct proc_pages *now)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	bool came = now->resident > before->resident;

	if (now->shared != before->shared || now->resident < before->resident || (came && rss->swap_bytes))
		return false;
	rss->rss_bytes = now->resident * page;
	rss->anon_bytes = (now->resident - now->shared) * page;
	return true;
}

/* RLIMIT_AS ("Max address space" of /proc/PID/limits: soft limit first) or overcommit mode 2. */
static bool memory_is_tight(uint32_t pid)
{
	static const char row[] = "Max address space";
	char buf[2048];
	uint64_t overcommit = 0;
	_cleanup_(freep) char *path = xasprintf("/proc/%u/limits", pid);

	if (fs_read_into(path, buf, sizeof(buf)) > 0) {
		const char *limit = strstr(buf, row);
		if (limit && strncmp(limit + sizeof(row) - 1 + strspn(limit + sizeof(row) - 1, " "), "unlimited", 9))
			return true;
	}
	return fs_read_u64("/proc/sys/vm/overcommit_memory", &overcommit) == 0 && overcommit == 2;
}

int proc_read_guard(uint32_t pid, struct proc_guard *ret)
{
	char buf[STATUS_CAP];
	_cleanup_(freep) char *longer = NULL;
	const char *text;
	int err = read_status(pid, buf, &longer, &text);

	if (err)
		return err;
	const char *mode = status_value(text, "Seccomp");
	ret->seccomp_mode = mode ? (int)take_u64(&mode) : 0; /* kernels without CONFIG_SECCOMP have no such line */
	const char *features = status_value(text, "x86_Thread_features");
	const char *shstk = features ? strstr(features, "shstk") : NULL;
	ret->shadow_stack = shstk && shstk < features + strcspn(features, "\n");
	ret->tight_memory = memory_is_tight(pid);
	return 0;
}

int proc_read_cmdline(uint32_t pid, char **ret)
{
	_cleanup_(closep) int fd = open_proc(pid, "cmdline", O_RDONLY);
	if (fd < 0)
		return fd;
	_cleanup_(freep) char *buf = NULL;
	size_t used = 0, cap = 0;
	while (used < CMDLINE_MAX) {
		buf = grow_to(buf, &cap, used + 512, 1);
		ssize_t n = read_some(fd, buf + used, cap - used - 1);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	while (used && !buf[used - 1])
		used--;
	for (size_t i = 0; i < used; i++) {
		unsigned char c = (unsigned char)buf[i];
		if (!c)
			buf[i] = ' ';
		else if (c < ' ' || c == 0x7f) /* bytes from 0x80 on may be UTF-8: who prints them decides */
			buf[i] = '?';
	}
	buf[used] = 0;
	*ret = buf;
	buf = NULL;
	return 0;
}

double proc_boot_unix_seconds(void)
{
	/*
	 * btime of /proc/stat has whole seconds only. start_ticks counts CLOCK_BOOTTIME, which goes on while
	 * suspended.
	 */
	return ((double)clock_ns(CLOCK_REALTIME) - (double)clock_ns(CLOCK_BOOTTIME)) / 1e9;
}

static void closedirp(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

int proc_list_pids(uint32_t **ret, size_t *ret_n)
{
	_cleanup_(closedirp) DIR *dir = opendir("/proc");
	if (!dir)
		return -errno;
	uint32_t *pids = NULL;
	size_t n = 0, cap = 0;
	for (struct dirent *e; (e = readdir(dir));) {
		const char *s = e->d_name;
		uint64_t pid = take_u64(&s);
		if (*s || !pid)
			continue;
		pids = grow_to(pids, &cap, n + 1, sizeof(*pids));
		pids[n++] = (uint32_t)pid;
	}
	*ret = pids;
	*ret_n = n;
	return 0;
}

/* Hexadecimal or decimal number and the character behind it. */
static bool take_number(const char **s, int base, char behind, uint64_t *ret)
{
	char *end;

	if (!isxdigit((unsigned char)**s))
		return false;
	errno = 0;
	unsigned long long v = strtoull(*s, &end, base);
	if (errno || end == *s || *end != behind)
		return false;
	*s = end + 1;
	*ret = v;
	return true;
}

static bool take_perms(const char **s, struct mapping *m)
{
	const char *p = *s;

	for (int i = 0; i < 4; i++)
		if (!p[i] || !strchr("rwxsp-", p[i]))
			return false;
	if (p[4] != ' ')
		return false;
	m->read = p[0] == 'r';
	m->write = p[1] == 'w';
	m->exec = p[2] == 'x';
	m->shared = p[3] == 's';
	*s = p + 5;
	return true;
}

/*
 * Takes " (deleted)" off; "\012" is how the kernel writes a line end in a name (fs/proc/task_mmu.c), and the only
 * escape.
 */
static char *take_path(const char *s, size_t len, bool *ret_deleted)
{
	static const char mark[] = " (deleted)";
	const size_t mark_len = sizeof(mark) - 1;

	*ret_deleted = len > mark_len && !memcmp(s + len - mark_len, mark, mark_len);
	if (*ret_deleted)
		len -= mark_len;
	char *path = xstrndup(s, len), *to = path;
	for (const char *from = path; *from;) {
		bool line_end = !strncmp(from, "\\012", 4);
		*to++ = line_end ? '\n' : *from;
		from += line_end ? 4 : 1;
	}
	*to = 0;
	return path;
}

/*
 * "55d0c8a00000-55d0c8a02000 r-xp 00001000 08:01 1234     /usr/bin/x" up to `end`, which holds the line end or the
 * text's.
 */
static bool parse_line(const char *s, const char *end, struct mapping *ret)
{
	struct mapping m = { 0 };
	uint64_t major_nr, minor_nr;
	char *number_end;

	if (!take_number(&s, 16, '-', &m.start) || !take_number(&s, 16, ' ', &m.end) || !take_perms(&s, &m) ||
	    !take_number(&s, 16, ' ', &m.file_offset) || !take_number(&s, 16, ':', &major_nr) ||
	    !take_number(&s, 16, ' ', &minor_nr) || s >= end || !isdigit((unsigned char)*s))
		return false;
	errno = 0;
	m.inode = strtoull(s, &number_end, 10);
	if (errno || (number_end < end && *number_end != ' ') || m.start >= m.end || major_nr > UINT32_MAX ||
	    minor_nr > UINT32_MAX)
		return false;
	m.dev = makedev((unsigned int)major_nr, (unsigned int)minor_nr);
	for (s = number_end; s < end && *s == ' ';)
		s++;
	m.path = take_path(s, (size_t)(end - s), &m.deleted);
	*ret = m;
	return true;
}

void mappings_parse(const char *text, struct mappings *ret)
{
	struct mappings all = { 0 };
	size_t cap = 0;

	for (const char *end; *text; text = *end ? end + 1 : end) {
		struct mapping m;
		end = text + strcspn(text, "\n");
		/*
		 * Between two reads of a long file mappings may have moved: what comes late and overlaps is left
		 * out.
		 */
		if (!parse_line(text, end, &m))
			continue;
		if (all.n && m.start < all.items[all.n - 1].end) {
			free(m.path);
			continue;
		}
		all.items = grow_to(all.items, &cap, all.n + 1, sizeof(*all.items));
		all.items[all.n++] = m;
	}
	*ret = all;
}

int mappings_read(uint32_t pid, struct mappings *ret)
{
	char path[64];
	_cleanup_(freep) char *text = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%u/maps", pid);
	int err = fs_read_all(path, MAPS_MAX, &text, NULL);
	if (err)
		return gone(err);
	mappings_parse(text, ret);
	return 0;
}

void mappings_done(struct mappings *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->items[i].path);
	free(m->items);
	*m = (struct mappings){ 0 };
}

const struct mapping *mappings_before(const struct mappings *m, uint64_t addr)
{
	size_t low = 0, high = m->n;

	/* First mapping that starts above the address. */
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (m->items[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low ? &m->items[low - 1] : NULL;
}

const struct mapping *mappings_find(const struct mappings *m, uint64_t addr)
{
	const struct mapping *before = mappings_before(m, addr);

	return before && addr < before->end ? before : NULL;
}

bool mappings_is_repeated(const struct mappings *m, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (m->items[j].exec && m->items[j].inode == m->items[i].inode && m->items[j].dev == m->items[i].dev)
			return true;
	return false;
}

/*
 * The device in maps is the superblock's; st_dev differs from it on file systems without a block device of their
 * own (btrfs subvolumes, overlayfs: major 0). There the inode has to do.
 */
static bool is_file_of(const struct stat *st, const struct mapping *m)
{
	if (st->st_ino != m->inode)
		return false;
	return st->st_dev == m->dev || !major(st->st_dev) || !major(m->dev);
}

/* Opening a device or a pipe can have effects or block: only regular files are opened. */
static int open_regular(const char *path, struct stat *ret_st)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENODEV;
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENODEV;
	*ret_st = st;
	int opened = fd;
	fd = -1;
	return opened;
}

/*
 * Inode numbers that overlayfs shows may be composed ones (xino): there the link's text tells whether the range
 * still is this file.
 */
static bool link_names(const char *link, const struct mapping *m)
{
	char text[PATH_MAX];
	ssize_t len = readlink(link, text, sizeof(text) - 1);

	if (len < 0)
		return false;
	text[len] = 0;
	size_t path_len = strlen(m->path);
	return !strncmp(text, m->path, path_len) && (!text[path_len] || (m->deleted && text[path_len] == ' '));
}

static int open_by_range(uint32_t pid, const struct mapping *m, char **ret_link, struct stat *ret_st)
{
	_cleanup_(freep) char *link = xasprintf("/proc/%u/map_files/%llx-%llx", pid, (unsigned long long)m->start,
						(unsigned long long)m->end);
	_cleanup_(closep) int fd = open_regular(link, ret_st);
	if (fd < 0)
		return fd;
	if (!is_file_of(ret_st, m) && !link_names(link, m))
		return -ESTALE;
	*ret_link = link;
	link = NULL;
	int opened = fd;
	fd = -1;
	return opened;
}

/*
 * The name in maps is seen from our root, through the target's mounts: right below its root when it lives in a
 * mount namespace of its own, right as it stands when it is only chrooted or not confined at all.
 */
static int name_of(uint32_t pid, const struct mapping *m, int which, char **ret)
{
	if (m->path[0] != '/' || m->deleted)
		return -ENOENT;
	*ret = which ? xasprintf("/proc/%u/root%s", pid, m->path) : xstrdup(m->path);
	return 0;
}

/* A name that outlives the process is better than one below /proc/PID, if it is the same file. */
static char *lasting_name(uint32_t pid, const struct mapping *m, const struct stat *st)
{
	for (int which = 0; which < 2; which++) {
		char *name;
		struct stat other;
		if (name_of(pid, m, which, &name))
			return NULL;
		if (!stat(name, &other) && other.st_ino == st->st_ino && other.st_dev == st->st_dev)
			return name;
		free(name);
	}
	return NULL;
}

static int open_by_name(uint32_t pid, const struct mapping *m, char **ret_name)
{
	for (int which = 1; which >= 0; which--) {
		_cleanup_(freep) char *name = NULL;
		struct stat st;
		int err = name_of(pid, m, which, &name);
		if (err)
			return err;
		_cleanup_(closep) int fd = open_regular(name, &st);
		if (fd < 0 || !is_file_of(&st, m))
			continue;
		*ret_name = name;
		name = NULL;
		int opened = fd;
		fd = -1;
		return opened;
	}
	return -ENOENT;
}

int mapping_stat(uint32_t pid, const struct mapping *m, struct stat *ret)
{
	char link[96];

	(void)snprintf(link, sizeof(link), "/proc/%u/map_files/%llx-%llx", pid, (unsigned long long)m->start,
		       (unsigned long long)m->end);
	if (stat(link, ret))
		return -errno;
	return ret->st_ino == m->inode ? 0 : -ENOENT;
}

int mapping_open(uint32_t pid, const struct mapping *m, char **ret_path)
{
	_cleanup_(freep) char *path = NULL;
	struct stat st;

	if (!m->inode)
		return -ENOENT;
	int fd = open_by_range(pid, m, &path, &st);
	if (fd == -ENODEV)
		return fd;
	if (fd < 0)
		fd = open_by_name(pid, m, &path);
	else if (ret_path) {
		char *better = lasting_name(pid, m, &st);
		if (better) {
			free(path);
			path = better;
		}
	}
	if (fd < 0)
		return fd;
	if (ret_path) {
		*ret_path = path;
		path = NULL;
	}
	return fd;
}
