/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings of jemalloc, which reads them by this name (jemalloc(3), TUNING). */
#ifndef TIDEMARK_ALLOC_H
#define TIDEMARK_ALLOC_H

extern const char *malloc_conf;

#endif
