/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests may ask of the mock allocator beside allocating. */
#ifndef TIDEMARK_TESTS_MOCKALLOC_H
#define TIDEMARK_TESTS_MOCKALLOC_H

#include <setjmp.h>
#include <stddef.h>

#define MOCK_JUMP ((size_t)0x7e1ea401) /* malloc of this size leaves by longjmp(mock_out) */
#define MOCK_DIE ((size_t)0x7e1ea402)  /* the calling thread ends inside malloc */

extern jmp_buf mock_out;
extern volatile int mock_inside; /* 1: inside malloc, at a point where a handler may jump out */
extern volatile int mock_linger; /* 1: malloc takes its time there */

#endif
