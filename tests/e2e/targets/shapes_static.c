/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The same program, linked statically: the allocator is in the executable. */
#include "shapes.c"
