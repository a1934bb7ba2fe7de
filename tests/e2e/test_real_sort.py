#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""sort on a big file, with threads and little memory, against the LD_PRELOAD counter."""
import random

import harness as h


def sort():
    program = h.find_program("/usr/bin/sort")
    d = h.scratch()
    rng = random.Random(7)
    with open(d / "big", "w", encoding="ascii") as f:
        for _ in range(400000):
            f.write(f"{rng.getrandbits(64):x} {rng.randrange(1000)} some text to make lines longer\n")
    command = ["/bin/sh", "-c", f"LC_ALL=C {program} --parallel=2 -S 4M -T {d} -k 2n -k 1 {d}/big > {d}/sorted && LC_ALL=C "
               f"{program} -c -k 2n -k 1 {d}/sorted"]
    h.run_counted(h.Counter(d), command, 120, wanted="^(sort|sh)$")


h.main(sort)
