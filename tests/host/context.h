/* SPDX-License-Identifier: GPL-2.0-or-later */
/* glibc's <ucontext.h> and <signal.h>, which have names that shapes.h has, too: these first. */
#ifndef TIDEMARK_HOST_CONTEXT_H
#define TIDEMARK_HOST_CONTEXT_H

#define REG_R8 UCONTEXT_R8
#define REG_R9 UCONTEXT_R9
#define REG_R12 UCONTEXT_R12
#define REG_R13 UCONTEXT_R13
#define REG_R14 UCONTEXT_R14
#define REG_R15 UCONTEXT_R15
#include <signal.h>
#include <ucontext.h>
#undef REG_R8
#undef REG_R9
#undef REG_R12
#undef REG_R13
#undef REG_R14
#undef REG_R15

#endif
