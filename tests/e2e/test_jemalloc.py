#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs on jemalloc: its malloc family and its own operator new are counted once; libc functions above it too."""
import glob
import os

import harness as h


def jemalloc():
    found = glob.glob("/usr/lib/*/libjemalloc.so.2")
    if not found:
        raise h.Skip("libjemalloc2 is not installed")
    return dict(os.environ, LD_PRELOAD=found[0])


def shapes():
    h.run_exact([*h.build("shapes"), "no-pvalloc"], "shapes", env=jemalloc(), unmatched=False)


def threads():
    h.run_exact(h.build("threads"), "threads", env=jemalloc(), unmatched=False)


def cxx():
    # its operator new allocates by itself and throws: such calls can't have a return probe, and it is said how many there were
    h.run_exact([*h.build("cxx"), "other-operators"], "cxx", env=jemalloc(), unmatched=False, allowed=("return_unsafe",))


h.main(shapes, threads, cxx)
