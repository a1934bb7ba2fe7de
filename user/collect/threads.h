/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of threads, read at first sight and kept: a thread may be gone while its blocks live. Private to collect/. */
#ifndef TIDEMARK_COLLECT_THREADS_H
#define TIDEMARK_COLLECT_THREADS_H

#include <stdint.h>

struct threads;

struct threads *threads_new(void);
void threads_free(struct threads *t);
/* NULL: it was gone before it could be asked. Lives as long as t, or until the account is forgotten. */
const char *threads_name(struct threads *t, uint32_t account, uint32_t pid, uint32_t tid);
void threads_forget(struct threads *t, uint32_t account);

#endif
