/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPython of a process. Known truth: what the interpreters of this machine say of themselves (address of the runtime, frames with their code objects
 * and instructions), read again from outside with the offsets, from the threads' own registers on. tests/unit/test_pyoffsets.c has what is built
 * by hand: broken offsets, versions that are not supported. TIDEMARK_PYTHONS (paths, ":" between) adds interpreters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/pyinfo.h"
#include "target/proc.h"
#include "util/clock.h"
#include "util/mem.h"

#define ANSWER_MS 60000
#define FRAMES_MAX 16

/*
 * Two threads, each with frames that one activation of the eval loop runs (f calls g) and that another one does (sorted calls g's key, Thread.run the
 * target). Each says its frames, outermost last: code object, code unit, first line, name, qualified name, file, bytes of the line table.
 */
static const char script[] =
	"import ctypes, os, sys, threading\n"
	"def table(c): return len(getattr(c, 'co_linetable', None) or c.co_lnotab)\n"
	"def say():\n"
	"    f, text = sys._getframe(1), ''\n"
	"    while f:\n"
	"        c = f.f_code\n"
	"        text += '%x %d %d %s %s %s %d\\n' % (id(c), f.f_lasti // 2, c.co_firstlineno, c.co_name,\n"
	"            getattr(c, 'co_qualname', '-').replace(' ', ''), c.co_filename.replace(' ', ''), table(c))\n"
	"        f = f.f_back\n"
	"    sys.stdout.write('thread %d\\n%send\\n' % (threading.get_native_id(), text))\n"
	"    sys.stdout.flush()\n"
	"class Waiter:\n"
	"    def wait(self, key): say(); os.read(0, 1)\n"
	"def called(keys): return sorted(keys, key=Waiter().wait)\n"
	"def caf\xc3\xa9(): return called([1])\n"
	"runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, '_PyRuntime'))\n"
	"print('%x %x' % (runtime, sys.hexversion), flush=True)\n"
	"t = threading.Thread(target=lambda: called([1]), daemon=True)\n"
	"t.start()\n"
	"caf\xc3\xa9()\n";

/* --- a process --- */

struct child {
	pid_t pid;
	int in, out;
};

static struct child start(const char *const *argv)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		(void)dup2(in[0], STDIN_FILENO);
		(void)dup2(out[1], STDOUT_FILENO);
		(void)unsetenv("LD_PRELOAD"); /* the sanitizer's runtime */
		(void)setenv("LC_ALL", "C.UTF-8", 1);
		(void)execv(argv[0], (char **)argv);
		_exit(127);
	}
	(void)close(in[0]);
	(void)close(out[1]);
	return (struct child){ .pid = pid, .in = in[1], .out = out[0] };
}

static struct child start_python(const char *path, const char *text)
{
	const char *argv[] = { path, "-S", "-c", text, NULL };

	return start(argv);
}

static void stop(struct child *c)
{
	(void)close(c->in);
	(void)close(c->out);
	(void)kill(c->pid, SIGKILL);
	assert_int_equal(waitpid(c->pid, NULL, __WALL), c->pid);
}

/* false: it ended. */
static bool read_line(struct child *c, char *buf, size_t cap)
{
	size_t n = 0;

	while (n + 1 < cap) {
		struct pollfd p = { .fd = c->out, .events = POLLIN };
		assert_int_equal(poll(&p, 1, ANSWER_MS), 1);
		if (read(c->out, buf + n, 1) != 1)
			return false;
		if (buf[n] == '\n')
			break;
		n++;
	}
	buf[n] = 0;
	return true;
}

static void peek(pid_t pid, uint64_t addr, void *buf, size_t n)
{
	struct iovec to = { .iov_base = buf, .iov_len = n };
	struct iovec from = { .iov_base = (void *)(uintptr_t)addr, .iov_len = n };

	assert_int_equal(process_vm_readv(pid, &to, 1, &from, 1, 0), n);
}

static uint64_t peek_word(pid_t pid, uint64_t addr)
{
	uint64_t word;

	peek(pid, addr, &word, sizeof(word));
	return word;
}

static int find(pid_t pid, struct py_process *ret, const char **ret_why)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	assert_int_equal(mappings_read((uint32_t)pid, &maps), 0);
	return pyinfo_find((uint32_t)pid, &maps, ret, ret_why);
}

/* --- frames as the process says them --- */

struct said {
	uint64_t code, unit;
	uint32_t first_line, table_bytes;
	char name[64], qualname[128], file[256];
};

struct said_thread {
	pid_t tid;
	size_t n;
	struct said frames[FRAMES_MAX];
};

static void read_thread(struct child *c, struct said_thread *t)
{
	char line[512];

	assert_true(read_line(c, line, sizeof(line)));
	assert_int_equal(sscanf(line, "thread %d", &t->tid), 1);
	for (t->n = 0; read_line(c, line, sizeof(line)) && strcmp(line, "end"); t->n++) {
		assert_true(t->n < FRAMES_MAX);
		struct said *s = &t->frames[t->n];
		assert_int_equal(sscanf(line, "%" SCNx64 " %" SCNu64 " %u %63s %127s %255s %u", &s->code, &s->unit,
					&s->first_line, s->name, s->qualname, s->file, &s->table_bytes),
				 7);
	}
}

/* --- and as they are found from outside, in the way of the kernel side's walker --- */

static void release(pid_t tid)
{
	assert_int_equal(ptrace(PTRACE_DETACH, tid, 0, 0), 0);
}

static struct user_regs_struct halt(pid_t tid)
{
	struct user_regs_struct regs;
	int status;

	assert_int_equal(ptrace(PTRACE_SEIZE, tid, 0, 0), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0);
	assert_int_equal(waitpid(tid, &status, __WALL), tid);
	assert_int_equal(ptrace(PTRACE_GETREGS, tid, 0, &regs), 0);
	return regs;
}

/* Halts a thread where its script waits: in read(0). */
static uint64_t halt_waiting(pid_t tid)
{
	uint64_t end_ns = mono_ns() + ANSWER_MS * 1000000ull;

	for (;;) {
		struct user_regs_struct regs = halt(tid);
		if (regs.orig_rax == SYS_read && !regs.rdi)
			return regs.fs_base;
		release(tid);
		assert_true(mono_ns() < end_ns);
		(void)poll(NULL, 0, 1);
	}
}

static uint64_t own_state(pid_t pid, const struct python_info *info, uint64_t fs)
{
	uint32_t tss[2];

	peek(pid, info->runtime + info->tss_key, tss, sizeof(tss));
	assert_int_equal(tss[0], 1);
	assert_int_equal(info->tsd, PYTHON_TSD_GLIBC);
	assert_true(tss[1] < GLIBC_TSD_KEYS);
	uint64_t state = peek_word(pid, fs + GLIBC_TSD_OFFSET + 16ull * tss[1] + 8);
	assert_int_equal(peek_word(pid, state + info->tstate_thread), fs);
	return state;
}

static void read_text(pid_t pid, const struct py_names *n, uint64_t str, char *buf, size_t cap)
{
	uint64_t length = peek_word(pid, str + n->str_length);
	uint32_t state;

	peek(pid, str + n->str_state, &state, sizeof(state));
	bool is_ascii = state >> 6 & 1;
	assert_true(length < cap);
	assert_int_equal(state >> 2 & 7, 1);
	assert_int_equal(state >> 5 & 1, 1);
	peek(pid, str + (is_ascii ? n->str_ascii_data : n->str_compact_data), buf, length);
	buf[length] = 0;
}

/* As the script writes it: no spaces, UTF-8. */
static void squeeze(char *s)
{
	char out[256], *to = out;

	for (const unsigned char *p = (unsigned char *)s; *p && to < out + sizeof(out) - 2; p++) {
		if (*p >= 0x80)
			*to++ = (char)(0xc0 | *p >> 6);
		if (*p != ' ')
			*to++ = (char)(*p >= 0x80 ? 0x80 | (*p & 0x3f) : *p);
	}
	*to = 0;
	memcpy(s, out, (size_t)(to - out) + 1);
}

static void expect_text(pid_t pid, const struct py_names *n, uint64_t field, const char *wanted)
{
	char got[256];

	read_text(pid, n, peek_word(pid, field), got, sizeof(got) / 2);
	squeeze(got);
	assert_string_equal(got, wanted);
}

static void expect_code(pid_t pid, const struct py_names *n, uint64_t code, const struct said *wanted)
{
	uint32_t first_line;

	assert_int_equal(code, wanted->code);
	expect_text(pid, n, code + n->code_name, wanted->name);
	expect_text(pid, n, code + n->code_filename, wanted->file);
	if (n->code_qualname && strcmp(wanted->qualname, "-"))
		expect_text(pid, n, code + n->code_qualname, wanted->qualname);
	assert_int_equal(n->code_qualname != 0, n->minor >= 11);
	peek(pid, code + n->code_firstlineno, &first_line, sizeof(first_line));
	assert_int_equal(first_line, wanted->first_line);
	assert_int_equal(peek_word(pid, peek_word(pid, code + n->code_linetable) + n->bytes_size), wanted->table_bytes);
}

static uint64_t unit_of(pid_t pid, const struct python_info *info, uint64_t frame, uint64_t code)
{
	if (info->has_lasti)
		return (uint32_t)peek_word(pid, frame + info->frame_instr) >> info->lasti_shift;
	return (peek_word(pid, frame + info->frame_instr) - code - info->code_start) / 2;
}

/* The first frame of an activation of the loop is one that C called. -1: versions differ (f(*args) goes through C until 3.11). */
static int begins_loop(const struct said *s)
{
	if (strcmp(s->file, "<string>") || !strcmp(s->name, "<lambda>"))
		return -1;
	return !strcmp(s->name, "<module>") || !strcmp(s->name, "wait");
}

static uint8_t owner_of(pid_t pid, const struct python_info *info, uint64_t frame)
{
	uint8_t owner;

	peek(pid, frame + info->frame_owner, &owner, 1);
	return owner;
}

static void expect_frames(pid_t pid, const struct py_process *p, uint64_t state, const struct said_thread *t)
{
	const struct python_info *info = &p->info;
	uint64_t at = peek_word(pid, state + info->tstate_frame);
	uint64_t frame = info->has_cframe ? peek_word(pid, at + info->cframe_frame) : at;

	for (size_t i = 0; i < t->n; i++) {
		bool is_entry = info->entry == PYTHON_ENTRY_ALL;
		/* Reached through a call of C: its shim was passed with the frame before. */
		while (info->entry == PYTHON_ENTRY_SHIM && owner_of(pid, info, frame) >= info->shim_owner)
			frame = peek_word(pid, frame + info->frame_back);
		assert_true(frame != 0);
		uint64_t code = peek_word(pid, frame + info->frame_code) & ~7ull;
		expect_code(pid, &p->names, code, &t->frames[i]);
		if (i) /* the innermost one has gone on since it said where it was */
			assert_int_equal(unit_of(pid, info, frame, code), t->frames[i].unit);
		if (info->entry == PYTHON_ENTRY_FLAG)
			is_entry = owner_of(pid, info, frame) == 1;
		frame = peek_word(pid, frame + info->frame_back);
		if (info->entry == PYTHON_ENTRY_SHIM)
			is_entry = owner_of(pid, info, frame) >= info->shim_owner;
		if (info->entry != PYTHON_ENTRY_ALL && begins_loop(&t->frames[i]) >= 0)
			assert_int_equal(is_entry, begins_loop(&t->frames[i]));
	}
}

/* --- the loop's ranges: return addresses into them lie on the stack of a thread that runs Python --- */

static void expect_eval(pid_t pid, const struct py_process *p)
{
	_cleanup_(mappings_done) struct mappings maps = { 0 };

	assert_int_equal(mappings_read((uint32_t)pid, &maps), 0);
	assert_true(p->n_eval > 0 && p->n_eval <= PY_EVAL_RANGES_MAX);
	for (size_t i = 0; i < p->n_eval; i++) {
		const struct mapping *m = mappings_find(&maps, p->eval[i].start);
		assert_true(m && m->exec && p->eval[i].end <= m->end && p->eval[i].start < p->eval[i].end);
		assert_true(!i || p->eval[i].start >= p->eval[i - 1].end);
	}
}

static void check_interpreter(const char *path)
{
	struct said_thread threads[2];
	struct py_process p = { 0 };
	uint64_t runtime;
	uint32_t version;
	char line[128];
	const char *why = "";

	struct child c = start_python(path, script);
	if (!read_line(&c, line, sizeof(line))) { /* no interpreter, or one without ctypes */
		print_message("%s does not run the script\n", path);
		stop(&c);
		return;
	}
	assert_int_equal(sscanf(line, "%" SCNx64 " %x", &runtime, &version), 2);
	read_thread(&c, &threads[0]);
	read_thread(&c, &threads[1]);
	uint64_t begin_ns = mono_ns();
	int err = find(c.pid, &p, &why);
	uint64_t spent_ns = mono_ns() - begin_ns;
	if (err)
		fail_msg("%s: %d %s", path, err, why);
	print_message("%s: %x, runtime %" PRIx64 ", %zu ranges, %" PRIu64 " ms\n", path, p.version_hex,
		      (uint64_t)p.info.runtime, p.n_eval, spent_ns / 1000000);
	assert_int_equal(p.info.runtime, runtime);
	assert_int_equal(p.version_hex, version);
	assert_int_equal(p.info.minor, version >> 16 & 0xff);
	expect_eval(c.pid, &p);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		uint64_t state = own_state(c.pid, &p.info, halt_waiting(threads[i].tid));
		expect_frames(c.pid, &p, state, &threads[i]);
		release(threads[i].tid);
	}
	stop(&c);
}

/* Who holds the GIL is known to the runtime until 3.11. */
static void check_current(const char *path)
{
	struct py_process p = { 0 };
	const char *why;
	char line[16];

	struct child c = start_python(path,
				      "import sys\nsys.stdout.write('up\\n')\nsys.stdout.flush()\nwhile True: pass\n");
	assert_true(read_line(&c, line, sizeof(line)));
	assert_int_equal(find(c.pid, &p, &why), 0);
	assert_int_equal(p.info.tstate_current != 0, p.info.minor <= 11);
	uint64_t state = 0, current = 0, end_ns = mono_ns() + ANSWER_MS * 1000000ull;
	/* It may still be writing, without the GIL. */
	while (p.info.tstate_current && !current && mono_ns() < end_ns) {
		state = own_state(c.pid, &p.info, halt(c.pid).fs_base);
		current = peek_word(c.pid, p.info.runtime + p.info.tstate_current);
		release(c.pid);
	}
	assert_int_equal(current, state);
	stop(&c);
}

static void each_interpreter(void (*check)(const char *path))
{
	const char *home = getenv("HOME"), *more = getenv("TIDEMARK_PYTHONS");
	_cleanup_(freep) char *pyenv = xasprintf("%s/.pyenv/versions/3.*/bin/python", home ? home : "");
	_cleanup_(freep) char *list = xstrdup(more ? more : "");
	glob_t g = { 0 };

	(void)glob("/usr/bin/python3", 0, NULL, &g);
	(void)glob(pyenv, GLOB_APPEND, NULL, &g);
	for (size_t i = 0; i < g.gl_pathc; i++)
		if (!strstr(g.gl_pathv[i], "/3.6.") && !strstr(g.gl_pathv[i], "/3.7."))
			check(g.gl_pathv[i]);
	globfree(&g);
	for (char *save = NULL, *path = strtok_r(list, ":", &save); path; path = strtok_r(NULL, ":", &save))
		check(path);
}

static void test_interpreters(void **state)
{
	(void)state;
	each_interpreter(check_interpreter);
}

static void test_current(void **state)
{
	(void)state;
	each_interpreter(check_current);
}

static void test_old_versions(void **state)
{
	static const struct {
		const char *pattern, *why;
	} rows[] = {
		{ "2.7.*", "Python 2" },
		{ "3.6.*", "Python 3.6 or older" },
		{ "3.7.*", "Python 3.7" },
	};
	const char *home = getenv("HOME");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(freep) char *path = xasprintf("%s/.pyenv/versions/%s/bin/python", home ? home : "",
							rows[i].pattern);
		struct py_process p;
		const char *why = "";
		char line[16];
		glob_t g = { 0 };
		if (glob(path, 0, NULL, &g) == 0) {
			struct child c = start_python(
				g.gl_pathv[0],
				"import os, sys\nsys.stdout.write('up\\n')\nsys.stdout.flush()\nos.read(0, 1)\n");
			assert_true(read_line(&c, line, sizeof(line)));
			assert_int_equal(find(c.pid, &p, &why), -ENOTSUP);
			assert_string_equal(why, rows[i].why);
			stop(&c);
		}
		globfree(&g);
	}
}

static void test_other_programs(void **state)
{
	static const char *const shell[] = { "/bin/sh", "-c", "echo up; read x", NULL };
	const char *why = "kept";
	struct py_process p;
	char line[8];

	(void)state;
	struct child c = start(shell);
	assert_true(read_line(&c, line, sizeof(line)));
	assert_int_equal(find(c.pid, &p, &why), -ENOENT);
	stop(&c);
	uint64_t begin_ns = mono_ns();
	assert_int_equal(find(getpid(), &p, &why), -ENOENT);
	print_message("no Python: %" PRIu64 " us\n", (mono_ns() - begin_ns) / 1000);
	assert_int_equal(pyinfo_find(4194303, &(struct mappings){ 0 }, &p, &why), -ENOENT);
	assert_string_equal(why, "kept");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interpreters),
		cmocka_unit_test(test_current),
		cmocka_unit_test(test_old_versions),
		cmocka_unit_test(test_other_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
