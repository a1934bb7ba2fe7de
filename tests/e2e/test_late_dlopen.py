#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A library with its own malloc that is opened long after the attach is picked up within one interval."""
import glob

import harness as h


def late(library):
    with h.Target([*h.build("late"), library]) as t, h.Tool("top", "-f", "json", "-i", "1", "--limit", "0", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        t.said("opened")
        tool.fresh()
        t.send()
        truth = t.said("late")
        interval = tool.fresh()
        # what dlopen itself allocates in libc and the loader is not of the program's making
        faults = [f for f in h.compare(interval, truth, extra=[""]) if " process " not in f]
        h.check(not faults, "; ".join(faults[:10]))
        tool.finish()


def mock_allocator():
    late(h.build("libmockalloc.so")[0])


def another_allocator():
    # not jemalloc: its initial-exec TLS makes dlopen refuse it
    found = glob.glob("/usr/lib/*/libmimalloc.so.2") + glob.glob("/usr/lib/*/libtcmalloc_minimal.so.4")
    if not found:
        raise h.Skip("no allocator library that can be opened at run time")
    late(found[0])


h.main(mock_allocator, another_allocator)
