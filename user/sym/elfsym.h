/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Function symbols of one module, sorted by address: 16 bytes a symbol. Names stay in the file and are read when
 * asked for; only where no descriptor can be kept the string table is copied. Refuses to demangle and to know where
 * files come from.
 */
#ifndef TIDEMARK_SYM_ELFSYM_H
#define TIDEMARK_SYM_ELFSYM_H

#include <stddef.h>
#include <stdint.h>

#include "sym/elfimg.h"

#define SYM_NAME_CAP 16384 /* longest raw name; longer ones are cut */

struct elfsym;

struct elfsym *elfsym_new(void);
void elfsym_free(struct elfsym *t);

/*
 * Adds the functions of a symbol section (".symtab", ".dynsym"). `keep_fd` (optional, -1; owned by the table from
 * here on, also after an error) is a descriptor of the same file, for the names. Returns the number added, or
 * -ENOENT, -EBADMSG, -EFBIG, -ENOSPC (too many sections).
 */
int elfsym_add(struct elfsym *t, const struct elfimg *e, const char *section, int keep_fd);
/* Sorts. Nothing can be added after it, nothing found before it. */
void elfsym_seal(struct elfsym *t);

/* Name of the function that covers the address, without version suffix. 0 or -ENOENT. */
int elfsym_find(const struct elfsym *t, uint64_t addr, char ret[SYM_NAME_CAP]);
size_t elfsym_bytes(const struct elfsym *t);

#endif
