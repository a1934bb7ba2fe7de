/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One process as /proc shows it: identity, names, resident memory, mappings. Reads only; owns what it returns.
 * Every function returns 0 or a negative errno; -ESRCH (or -ENOENT) means that the process is gone.
 */
#ifndef TIDEMARK_TARGET_PROC_H
#define TIDEMARK_TARGET_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* start_ticks: field 22 of /proc/PID/stat, USER_HZ (100 Hz) ticks since boot. */
struct proc_stat {
	uint32_t pid, ppid;
	char state; /* 'R', 'S', ..., 'Z' */
	char comm[64];
	uint64_t start_ticks;
	uint64_t cpu_ticks; /* utime + stime */
	uint32_t threads;
};
int proc_read_stat(uint32_t pid, struct proc_stat *ret);

/* Bytes, from /proc/PID/status (VmRSS, RssAnon, RssFile, RssShmem, VmSwap). Kernel threads: -ENOENT. */
struct proc_rss {
	uint64_t rss_bytes, anon_bytes, file_bytes, shmem_bytes, swap_bytes;
};
int proc_read_rss(uint32_t pid, struct proc_rss *ret);

/* Pages, from a descriptor of /proc/PID/statm: a sixth of what status costs. shared: of files and shared memory. Kernel threads have none. */
struct proc_pages {
	uint64_t resident, shared;
};
int proc_open_pages(uint32_t pid); /* the descriptor */
int proc_read_pages(int fd, struct proc_pages *ret);
/*
 * Brings figures that were read with the pages `before` up to date with those of now, which tell exactly what is resident and what of that is not
 * anonymous: as long as the latter stays as it is, so do files and shared memory, and while anonymous pages only come, none went to swap. false: they
 * do not tell, status has to be read.
 */
bool proc_rss_follow(struct proc_rss *rss, const struct proc_pages *before, const struct proc_pages *now);

/* Arguments joined by spaces, unprintable bytes as '?'; an empty cmdline gives "". Caller frees. */
int proc_read_cmdline(uint32_t pid, char **ret);

/* Wall-clock time of boot, Unix seconds; start_ts = boot + start_ticks / 100. */
double proc_boot_unix_seconds(void);

/* All pids of /proc that are thread group leaders. Caller frees. */
int proc_list_pids(uint32_t **ret, size_t *ret_n);

/* Seccomp mode in force (Seccomp: of status, 0 none, 2 filter); tracer; 32-bit: see elf.h. */
struct proc_guard {
	int seccomp_mode;
	bool shadow_stack; /* x86_Thread_features has shstk */
	bool tight_memory; /* allocations may fail before the machine is full: RLIMIT_AS is set or overcommit is strict */
};
int proc_read_guard(uint32_t pid, struct proc_guard *ret);

/* One line of /proc/PID/maps. */
struct mapping {
	uint64_t start, end, file_offset;
	dev_t dev;
	uint64_t inode; /* 0: no file */
	bool read, write, exec, shared;
	bool deleted;
	char *path; /* "" for anonymous; "[heap]", "[vdso]"... ; "(deleted)" taken off */
};
struct mappings {
	struct mapping *items; /* ascending, do not overlap */
	size_t n;
};
int mappings_read(uint32_t pid, struct mappings *ret);
/* Parses the text of a maps file (fuzzed): lines that are not understood are left out. */
void mappings_parse(const char *text, struct mappings *ret);
void mappings_done(struct mappings *m);
const struct mapping *mappings_find(const struct mappings *m, uint64_t addr); /* NULL: not mapped */
const struct mapping *mappings_before(const struct mappings *m,
				      uint64_t addr); /* last one that starts at or before it; NULL: none */
/* Does an executable mapping before the i-th show the same file? */
bool mappings_is_repeated(const struct mappings *m, size_t i);

struct stat;
/* stat of the file that a mapping is of, without opening it. 0, or -errno: the process is gone, or another file's inode is told (-ENOENT). */
int mapping_stat(uint32_t pid, const struct mapping *m, struct stat *ret);

/*
 * Opens the file behind a mapping as the target sees it, never by the host's search path: /proc/PID/map_files/S-E, else
 * /proc/PID/root/PATH if device and inode agree. Returns a descriptor (caller closes) or negative errno.
 * *ret_path (optional, caller frees): the name under which a kernel attach by path can reach the same inode.
 */
int mapping_open(uint32_t pid, const struct mapping *m, char **ret_path);

#endif
