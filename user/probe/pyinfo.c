/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the interpreter in a process: the mapped file that defines _PyRuntime (whatever the file is called: programs embed CPython), its version, where the
 * runtime lies in the process, and the offsets that hold there. Reads the target's memory with process_vm_readv, a few hundred bytes; writes nothing, stops nothing.
 *
 *	version <= 3.7, >= 3.15		refused
 *	3.8 to 3.12			the table's row; the memory has to agree in one point: a thread key, or zeros where it will be
 *	3.13, 3.14			_Py_DebugOffsets, which _PyRuntime begins with, says where fields lie; the row, what it leaves out
 *
 * A process is asked again while its runtime's memory is not there yet, so only that gives -EAGAIN.
 */
#include "probe/pyinfo.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "probe/pyeval.h"
#include "probe/pyoffsets.h"
#include "target/dynsym.h"
#include "target/proc.h"
#include "target/python.h"
#include "util/mem.h"

#define COOKIE "xdebugpy"
#define PUBLISHED_MAX 1024 /* bytes of _Py_DebugOffsets: 584 in 3.13, 760 in 3.14 */
#define TSS_KEYS_MAX 1024  /* PTHREAD_KEYS_MAX of glibc; musl has 128 */

struct candidate {
	uint32_t pid;
	const struct mapping *m; /* the first executable one of the file */
	struct dynsym f;
	uint64_t bias, runtime; /* runtime: as linked */
	uint32_t version_hex;
};

/* 0 or negative errno; -EAGAIN: nothing is mapped there (yet). */
static int read_memory(uint32_t pid, uint64_t addr, void *buf, size_t n)
{
	struct iovec to = { .iov_base = buf, .iov_len = n };
	struct iovec from = { .iov_base = (void *)(uintptr_t)addr,
			      .iov_len = n }; /* NOLINT(performance-no-int-to-ptr): not ours */
	ssize_t got = process_vm_readv((pid_t)pid, &to, 1, &from, 1, 0);

	if (got < 0)
		return errno == EFAULT ? -EAGAIN : -errno;
	return (size_t)got == n ? 0 : -EAGAIN;
}

static bool read_for_eval(const void *ctx, uint64_t addr, void *buf, size_t n)
{
	return !read_memory(*(const uint32_t *)ctx, addr, buf, n);
}

/* --- version --- */

/* "3.13.0rc2" -> 0x030d00c2, "3.10" -> 0x030a0000. */
static uint32_t hex_of_text(const char *s)
{
	static const char *const levels = "abc";
	uint32_t part[3] = { 0 }, hex;

	for (size_t i = 0; i < ARRAY_SIZE(part) && *s >= '0' && *s <= '9'; i++) {
		while (*s >= '0' && *s <= '9')
			part[i] = part[i] * 10 + (uint32_t)(*s++ - '0');
		if (i + 1 < ARRAY_SIZE(part) && *s != '.')
			return part[0] << 24 | part[1] << 16;
		s += *s == '.';
	}
	hex = (part[0] & 0xff) << 24 | (part[1] & 0xff) << 16 | (part[2] & 0xff) << 8;
	s += *s == 'r'; /* "rc" */
	const char *level = *s ? strchr(levels, *s) : NULL;
	if (!level)
		return hex | 0xf0;
	return hex | (uint32_t)(0xa + (level - levels)) << 4 | (uint32_t)(s[1] - '0');
}

/* A program that contains the interpreter and exports nothing has its version in .symtab, if anywhere. */
static uint32_t hex_of_symtab(const struct dynsym *f)
{
	Elf64_Sym sym;
	uint64_t hex;

	if (!dynsym_find_any(f, "Py_Version", STT_OBJECT, &sym) || sym.st_size != sizeof(hex) ||
	    !dynsym_read(f, sym.st_value, &hex, sizeof(hex)) || hex >> 32)
		return 0;
	return (uint32_t)hex;
}

static uint32_t minor_of(uint32_t version_hex)
{
	return version_hex >> 16 & 0xff;
}

/* NULL: supported. */
static const char *why_version(uint32_t version_hex)
{
	if (version_hex >> 24 != 3)
		return "Python 2";
	if (minor_of(version_hex) < 7)
		return "Python 3.6 or older";
	if (minor_of(version_hex) < PY_MINOR_MIN)
		return "Python 3.7";
	return minor_of(version_hex) > PY_MINOR_MAX ? "Python 3.15 or newer" : NULL;
}

const struct py_process *pyinfo_row(uint32_t minor)
{
	return minor >= PY_MINOR_MIN && minor <= PY_MINOR_MAX ? &py_rows[minor - PY_MINOR_MIN].process : NULL;
}

/* --- _Py_DebugOffsets --- */

static uint64_t number_at(const uint8_t *published, uint16_t at)
{
	uint64_t value = 0;

	memcpy(&value, published + at, sizeof(value));
	return value;
}

/*
 * Takes the offsets that a process publishes in place of the row's. Each has to lie within its structure, whose size is published too and
 * bounded here: the numbers are the target's.
 */
static int take_published(const uint8_t *bytes, const struct py_published *at, struct py_process *p)
{
	const struct {
		uint16_t size_at, at;
		uint8_t width;
		uint16_t *to;
	} fields[] = {
		{ at->tstate_bytes, at->tstate_thread, 8, &p->info.tstate_thread },
		{ at->tstate_bytes, at->tstate_frame, 8, &p->info.tstate_frame },
		{ at->frame_bytes, at->frame_back, 8, &p->info.frame_back },
		{ at->frame_bytes, at->frame_code, 8, &p->info.frame_code },
		{ at->frame_bytes, at->frame_instr, 8, &p->info.frame_instr },
		{ at->frame_bytes, at->frame_owner, 1, &p->info.frame_owner },
		{ at->code_bytes, at->code_start, 2, &p->info.code_start },
		{ at->code_bytes, at->code_name, 8, &p->names.code_name },
		{ at->code_bytes, at->code_qualname, 8, &p->names.code_qualname },
		{ at->code_bytes, at->code_filename, 8, &p->names.code_filename },
		{ at->code_bytes, at->code_linetable, 8, &p->names.code_linetable },
		{ at->code_bytes, at->code_firstlineno, 4, &p->names.code_firstlineno },
		{ at->str_bytes, at->str_length, 8, &p->names.str_length },
		{ at->str_bytes, at->str_state, 4, &p->names.str_state },
		{ at->str_bytes, at->str_ascii_data, 1, &p->names.str_ascii_data },
		{ at->bytes_bytes, at->bytes_size, 8, &p->names.bytes_size },
		{ at->bytes_bytes, at->bytes_data, 1, &p->names.bytes_data },
	};
	uint16_t utf8_bytes = (uint16_t)(p->names.str_compact_data - p->names.str_ascii_data); /* not published */

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint64_t size = number_at(bytes, fields[i].size_at), value = number_at(bytes, fields[i].at);
		if (size > 4096 || value >= size || size - value < fields[i].width ||
		    (fields[i].width > 1 && value % fields[i].width))
			return -EBADMSG;
		*fields[i].to = (uint16_t)value;
	}
	p->names.str_compact_data = (uint16_t)(p->names.str_ascii_data + utf8_bytes);
	return 0;
}

static bool fits_frame(uint16_t offset)
{
	return offset + 8 <= PYTHON_FRAME_BYTES;
}

/* What include/python.h takes for granted of frames and of the bytes that tell code objects apart. */
static bool is_walkable(struct py_process *p)
{
	const struct py_names *n = &p->names;

	if (!fits_frame(p->info.frame_back) || !fits_frame(p->info.frame_code) || !fits_frame(p->info.frame_instr) ||
	    !fits_frame(p->info.frame_owner))
		return false;
	if (n->code_filename < 56 || n->code_name != n->code_filename + 8 ||
	    n->code_qualname != n->code_filename + 16 || n->code_linetable != n->code_filename + 24)
		return false;
	p->info.code_id = n->code_filename - 56;
	return n->code_firstlineno >= p->info.code_id && n->code_firstlineno < p->info.code_id + 24;
}

static int read_published(const struct candidate *c, const struct py_published *at, struct py_process *p,
			  const char **ret_why)
{
	uint8_t bytes[PUBLISHED_MAX + sizeof(uint64_t)] = { 0 };
	int err = at->bytes > PUBLISHED_MAX ? -EBADMSG : read_memory(c->pid, c->runtime + c->bias, bytes, at->bytes);

	if (err)
		return err;
	uint64_t version = number_at(bytes, at->version);
	if (memcmp(bytes, COOKIE, strlen(COOKIE)) || version >> 16 != c->version_hex >> 16)
		return -EBADMSG;
	if (number_at(bytes, at->free_threaded)) {
		*ret_why = PYTHON_FREE_THREADED;
		return -ENOTSUP;
	}
	err = take_published(bytes, at, p);
	if (!err && (!is_walkable(p) || p->info.tss_key > number_at(bytes, at->runtime_bytes) - 8))
		err = -EBADMSG;
	if (!err)
		p->version_hex = (uint32_t)version;
	return err;
}

/* --- the runtime --- */

/*
 * Is a thread key where the row says that it lies? One is there while the runtime is initialised; before and after, it says that there is none. The
 * walker looks for the key itself, so a process that was just started is known before its first Python frame.
 */
static int check_key(const struct candidate *c, const struct python_info *info, bool *ret_ready)
{
	struct {
		uint32_t is_initialized, key;
	} tss;
	int err = read_memory(c->pid, info->runtime + info->tss_key, &tss, sizeof(tss));

	if (err)
		return err;
	if (tss.is_initialized > 1 || tss.key >= TSS_KEYS_MAX)
		return -EBADMSG;
	*ret_ready = tss.is_initialized;
	return 0;
}

static int fill(const struct candidate *c, struct py_process *p, bool *ret_ready, const char **ret_why)
{
	const struct py_row *row = &py_rows[minor_of(c->version_hex) - PY_MINOR_MIN];
	Elf64_Sym sym;
	int err = 0;

	/* Two more words before every object: only this kind of debug build exports it. */
	if (dynsym_find(&c->f, "_Py_PrintReferences", &sym)) {
		*ret_why = "built with Py_TRACE_REFS";
		return -ENOTSUP;
	}
	*p = row->process;
	p->version_hex = c->version_hex;
	p->info.runtime = c->runtime + c->bias;
	if (row->published.bytes)
		err = read_published(c, &row->published, p, ret_why);
	return err ? err : check_key(c, &p->info, ret_ready);
}

static void find_eval(const struct candidate *c, struct py_process *p)
{
	struct pyeval_query q = { .fd = c->f.fd,
				  .bias = c->bias,
				  .may_tail_call = minor_of(c->version_hex) >= 14,
				  .read = read_for_eval,
				  .ctx = &c->pid };
	Elf64_Sym sym;

	if (!dynsym_find_any(&c->f, "_PyEval_EvalFrameDefault", STT_FUNC, &sym))
		return;
	q.start = sym.st_value;
	q.bytes = sym.st_size;
	p->n_eval = pyeval_find(&q, p->eval);
	for (size_t i = 0; i < p->n_eval; i++) {
		p->eval[i].start += c->bias;
		p->eval[i].end += c->bias;
	}
}

/* --- which file --- */

/*
 * The runtime's address as linked. Exported by everything that extension modules can be loaded into. What exports nothing is asked for
 * the section that the runtime has had of its own since 3.10, so that symbols are read through only of what is a CPython.
 */
static bool find_runtime(struct candidate *c, bool is_named)
{
	Elf64_Shdr section;
	Elf64_Sym sym;

	if (dynsym_find(&c->f, "_PyRuntime", &sym)) {
		c->runtime = sym.st_value;
		return true;
	}
	bool has_section = dynsym_section(&c->f, ".PyRuntime", &section);
	if ((has_section || is_named) && dynsym_find_any(&c->f, "_PyRuntime", STT_OBJECT, &sym))
		c->runtime = sym.st_value;
	else if (has_section)
		c->runtime = section.sh_addr;
	return c->runtime;
}

/* Versions before 3.7 have no _PyRuntime, but say their version. */
static uint32_t find_version(const struct candidate *c)
{
	char text[PYTHON_VERSION_MAX];
	uint8_t head[24];
	uint64_t version;

	if (!python_file_version(&c->f, c->m->path, text))
		return hex_of_text(text);
	if (!c->runtime)
		return 0;
	uint32_t hex = hex_of_symtab(&c->f);
	if (hex || read_memory(c->pid, c->runtime + c->bias, head, sizeof(head)) ||
	    memcmp(head, COOKIE, strlen(COOKIE)))
		return hex;
	memcpy(&version, head + strlen(COOKIE), sizeof(version));
	return version >> 32 ? 0 : (uint32_t)version;
}

static int try_file(uint32_t pid, const struct mapping *m, struct py_process *ret, bool *ret_ready,
		    const char **ret_why)
{
	struct candidate c = { .pid = pid, .m = m };
	_cleanup_(closep) int fd = mapping_open(pid, m, NULL);

	if (fd < 0 || !dynsym_open(fd, &c.f) || !dynsym_bias(&c.f, m, &c.bias))
		return -ENOENT;
	bool has_runtime = find_runtime(&c, python_is_named(m->path));
	Elf64_Sym sym;
	if (!has_runtime && !dynsym_find(&c.f, "Py_GetVersion", &sym))
		return -ENOENT;
	c.version_hex = find_version(&c);
	if (!c.version_hex)
		return -ENOENT;
	const char *why = why_version(c.version_hex);
	if (why) {
		*ret_why = why;
		return -ENOTSUP;
	}
	if (!has_runtime)
		return -ENOENT;
	int err = fill(&c, ret, ret_ready, ret_why);
	if (!err)
		find_eval(&c, ret);
	return err;
}

static enum python_tsd tsd_of(const struct mappings *maps)
{
	for (size_t i = 0; i < maps->n; i++) {
		const char *slash = strrchr(maps->items[i].path, '/'), *name = slash ? slash + 1 : "";
		if (!strncmp(name, "ld-musl-", 8) || !strncmp(name, "libc.musl-", 10))
			return PYTHON_TSD_MUSL;
	}
	return PYTHON_TSD_GLIBC;
}

/* Of two failures the one that says more about the process is told. */
static bool says_more(int err, int than)
{
	static const int order[] = { -ENOENT, -ENOTSUP, -EBADMSG, -EAGAIN };
	size_t a = 0, b = 0;

	while (a < ARRAY_SIZE(order) && order[a] != err)
		a++;
	while (b < ARRAY_SIZE(order) && order[b] != than)
		b++;
	return a > b;
}

int pyinfo_find(uint32_t pid, const struct mappings *maps, struct py_process *ret, const char **ret_why)
{
	_cleanup_(freep) struct py_process *p = xcalloc(1, sizeof(*p));
	const char *why = NULL, *said = NULL;
	int result = -ENOENT;
	bool ready = false;

	/*
	 * A program that contains an interpreter may also map a libpython that is never initialised, because an extension module was linked with it, or
	 * the other way round. So one that is ready ends the search, else the first one is taken.
	 */
	for (size_t i = 0; i < maps->n && !ready; i++) {
		const struct mapping *m = &maps->items[i];
		if (!m->exec || !m->inode || mappings_is_repeated(maps, i))
			continue;
		int err = try_file(pid, m, p, &ready, &why);
		if (!err && (ready || result)) {
			p->info.tsd = tsd_of(maps);
			*ret = *p;
			result = 0;
		} else if (err && result && says_more(err, result)) {
			result = err;
			said = why;
		}
	}
	if (result == -ENOTSUP)
		*ret_why = said;
	return result;
}
