/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The code that the kernel maps into every process: the same for all 64-bit ones, so ours serves. */
#ifndef TIDEMARK_SYM_VDSO_H
#define TIDEMARK_SYM_VDSO_H

#define VDSO_PATH "[vdso]"

/* A descriptor of a copy in memory (caller closes), or negative errno. */
int vdso_open(void);

#endif
