/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program's own allocator: jemalloc, linked into the executable. The C library's is what we probe, and our own calls would pay for each probe
 * that they run into: reading a large library's debug information took a hundred times as long. Owns nothing but the allocator's settings.
 */
#include "alloc.h"

/* One arena is enough for two threads; what is freed goes back to the kernel within a second. */
const char *malloc_conf = "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,tcache_max:4096";
