/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which CPython a process runs. Asked for every process of the system, so a program that is not Python has to cost a
 * few small reads: symbols are looked up through the GNU hash table, not by walking tables of symbols. Guesses nothing: a
 * file counts only when it defines the interpreter's symbols, and a version is either the constant that the interpreter
 * itself reports or, shorter, the X.Y of the file's name.
 *
 *	Py_Version		since 3.11: the version as a number, 0xMMmmppLS (Include/cpython/initconfig.h, patchlevel.h)
 *	Py_GetVersion()		all: its code loads the address of the string PY_VERSION ("3.10.13"). The string can't be
 *				searched for: linkers join equal tails of strings, so it often is the end of
 *				"/usr/local/python/3.10.13", as any other text could be.
 *
 * Files belong to whoever runs the target: nothing is mapped, every read is bounded, loops have limits.
 */
#include "target/python.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "target/dynsym.h"
#include "target/elf.h"
#include "target/proc.h"
#include "util/mem.h"

#define CODE_MAX 512u /* Py_GetVersion has 50 to 100 bytes in 2.7 to 3.13 */

struct version {
	char text[PYTHON_VERSION_MAX]; /* "": not known */
};

/* For files without that table: old linkers, and static programs, whose only table may be .symtab. */
static bool want_get_version(const char *name, void *ctx)
{
	(void)ctx;
	return !strcmp(name, "Py_GetVersion");
}

static bool find_get_version(const struct dynsym *f, bool thorough, Elf64_Sym *ret)
{
	_cleanup_(elf_done) struct elf_file e = { 0 };
	const struct elf_func *func;

	if (dynsym_find(f, "Py_GetVersion", ret))
		return true;
	if (!thorough || f->hash || elf_open(f->fd, want_get_version, NULL, &e))
		return false;
	func = elf_find(&e, "Py_GetVersion");
	if (func)
		*ret = (Elf64_Sym){ .st_value = func->vaddr, .st_size = func->bytes };
	return func != NULL;
}

/* PY_VERSION_HEX: the release level is a letter of "abc" as a hexadecimal digit, or f (final). */
static bool version_of_number(uint64_t hex, struct version *ret)
{
	static const char *const levels[16] = { [0xa] = "a", [0xb] = "b", [0xc] = "rc", [0xf] = "" };
	const char *level = levels[hex >> 4 & 0xf];

	if (hex >> 32 || hex >> 24 < 2 || hex >> 24 > 9 || !level)
		return false;
	int n = snprintf(ret->text, sizeof(ret->text), "%u.%u.%u%s", (unsigned int)(hex >> 24),
			 (unsigned int)(hex >> 16 & 0xff), (unsigned int)(hex >> 8 & 0xff), level);
	if (*level)
		(void)snprintf(ret->text + n, sizeof(ret->text) - (size_t)n, "%u", (unsigned int)(hex & 0xf));
	return true;
}

/* One to three digits; stops behind them. */
static bool take_digits(const char **s)
{
	const char *from = *s;

	while (isdigit((unsigned char)**s) && *s - from < 3)
		(*s)++;
	return *s > from;
}

/* PY_VERSION as it is written: "3.10.13", "3.9.0rc2", "2.7.18+", "3.8.0a1+". */
static bool is_version(const char *s)
{
	if ((*s != '2' && *s != '3') || s[1] != '.')
		return false;
	s += 2;
	if (!take_digits(&s) || *s++ != '.' || !take_digits(&s))
		return false;
	size_t level = strspn(s, "abrc");
	s += level;
	if (level > 2 || (level && !take_digits(&s)))
		return false;
	s += *s == '+';
	return !*s;
}

/* The address that the instruction at p loads: lea disp32(%rip),%r64 or, where code has fixed addresses, mov $imm32,%r32. */
static bool loaded_address(const uint8_t *p, uint64_t vaddr, uint64_t *ret)
{
	int32_t disp;
	uint32_t imm;

	if ((p[0] & 0xfb) == 0x48 && p[1] == 0x8d && (p[2] & 0xc7) == 0x05) {
		memcpy(&disp, p + 3, sizeof(disp));
		*ret = vaddr + 7 + (uint64_t)(int64_t)disp;
		return true;
	}
	memcpy(&imm, p + 1, sizeof(imm));
	*ret = imm;
	return p[0] >= 0xb8 && p[0] <= 0xbf;
}

static bool version_at(const struct dynsym *f, uint64_t vaddr, struct version *ret)
{
	memset(ret, 0, sizeof(*ret));
	/* Byte by byte: a string may stand at the end of its segment. */
	for (size_t i = 0; i < sizeof(ret->text); i++)
		if (!dynsym_read(f, vaddr + i, &ret->text[i], 1) || !ret->text[i])
			break;
	return !ret->text[sizeof(ret->text) - 1] && is_version(ret->text);
}

/* Every place in the function is tried as an instruction's begin: what is not one doesn't point to a version. */
static bool version_of_code(const struct dynsym *f, const Elf64_Sym *func, struct version *ret)
{
	uint8_t code[CODE_MAX];
	size_t n = func->st_size < CODE_MAX ? func->st_size : CODE_MAX;
	struct version found = { "" };

	if (n < 7 || !dynsym_read(f, func->st_value, code, n))
		return false;
	for (size_t i = 0; i + 7 <= n; i++) {
		struct version v;
		uint64_t at;
		if (!loaded_address(code + i, func->st_value + i, &at) || !version_at(f, at, &v))
			continue;
		if (found.text[0] && strcmp(found.text, v.text))
			return false;
		found = v;
	}
	*ret = found;
	return found.text[0];
}

/*
 * X.Y of "libpython3.6m.so.1.0", "libpython3.13t.so", "python2.7", "python3.11-dbg"; "" for "python3" and "python2".
 * "libpython3.so" is none: it only leads to the library of the version.
 */
static bool version_of_name(const char *name, struct version *ret)
{
	bool library = !strncmp(name, "lib", 3);
	const char *s = name + (library ? 3 : 0), *from;

	if (strncmp(s, "python", 6) || (s[6] != '2' && s[6] != '3'))
		return false;
	from = s += 6;
	s++;
	ret->text[0] = 0;
	if (*s == '.' && isdigit((unsigned char)s[1])) {
		s++;
		(void)take_digits(&s);
		(void)snprintf(ret->text, sizeof(ret->text), "%.*s", (int)(s - from), from);
	}
	if (library)
		return ret->text[0] && strstr(s, ".so");
	return !*s || *s == '-' || isalpha((unsigned char)*s);
}

/* name: X.Y of its name, NULL when the name says nothing of Python. */
static bool version_of_file(const struct dynsym *f, const struct version *name, struct version *ret)
{
	Elf64_Sym sym;
	uint64_t hex;

	if (dynsym_find(f, "Py_Version", &sym) && ELF64_ST_TYPE(sym.st_info) == STT_OBJECT &&
	    sym.st_size == sizeof(hex) && dynsym_read(f, sym.st_value, &hex, sizeof(hex)) &&
	    version_of_number(hex, ret))
		return true;
	if (!find_get_version(f, name != NULL, &sym))
		return false;
	if (version_of_code(f, &sym, ret))
		return true;
	if (name)
		*ret = *name;
	return name && name->text[0];
}

static bool version_of_fd(int fd, const struct version *name, struct version *ret)
{
	struct dynsym f;

	return dynsym_open(fd, &f) && version_of_file(&f, name, ret);
}

static bool version_of_exe(uint32_t pid, struct version *ret)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%u/exe", pid);
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd >= 0 && version_of_fd(fd, NULL, ret);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int python_file_version(const struct dynsym *f, const char *path, char ret[PYTHON_VERSION_MAX])
{
	struct version name, v;
	bool named = version_of_name(base_name(path), &name);

	if (!version_of_file(f, named ? &name : NULL, &v))
		return -ENOENT;
	memcpy(ret, v.text, sizeof(v.text));
	return 0;
}

bool python_is_named(const char *path)
{
	struct version name;

	return version_of_name(base_name(path), &name);
}

int python_version(uint32_t pid, const struct mappings *maps, char ret[PYTHON_VERSION_MAX])
{
	struct version found = { "" }, name, v;
	uint64_t last = 0;

	/* Whatever the program is called: Debian's contains the interpreter, and so do others that were linked with it. */
	bool in_exe = version_of_exe(pid, &found);
	for (size_t i = 0; i < maps->n && !in_exe; i++) {
		const struct mapping *m = &maps->items[i];
		if (!m->exec || !m->inode || m->inode == last || !version_of_name(base_name(m->path), &name))
			continue;
		last = m->inode;
		_cleanup_(closep) int fd = mapping_open(pid, m, NULL);
		if (fd < 0 || !version_of_fd(fd, &name, &v))
			continue;
		if (found.text[0] && strcmp(found.text, v.text))
			return -ENOENT;
		found = v;
	}
	if (!found.text[0])
		return -ENOENT;
	memcpy(ret, found.text, sizeof(found.text));
	return 0;
}
