#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""sort on a big file, with threads and little memory, against the LD_PRELOAD counter."""
import random

import harness as h


def command(d):
    program = h.find_program("/usr/bin/sort")
    rng = random.Random(7)
    with open(d / "big", "w", encoding="ascii") as f:
        for _ in range(400000):
            f.write(f"{rng.getrandbits(64):x} {rng.randrange(1000)} some text to make lines longer\n")
    return ["/bin/sh", "-c", f"LC_ALL=C {program} --parallel=2 -S 4M -T {d} -k 2n -k 1 {d}/big > {d}/sorted && LC_ALL=C "
            f"{program} -c -k 2n -k 1 {d}/sorted"]


def sort():
    d = h.scratch()
    h.run_counted(h.Counter(d), command(d), 120, wanted="^(sort|sh)$")


def sort_at_once():
    """
    Before Tidemark has noticed the counter's library, libc's reallocarray reaches libc's realloc through a function that is not known to
    be an allocator's. Bytes and counts stay exact; the call may be booked as realloc, and then it is labelled.
    """
    d = h.scratch()
    h.run_counted(h.Counter(d), command(d), 120, wanted="^(sort|sh)$", warm=False, sites=False, allowed=("missed_return",))


h.main(sort, sort_at_once)
