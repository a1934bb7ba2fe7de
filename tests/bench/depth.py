# SPDX-License-Identifier: GPL-2.0-or-later
"""Target of the benchmark of stacks, as depth.c: "same N" or "new N" makes N blocks of 600 bytes under 19 Python functions called one by another."""
import sys

LEVELS = 18


def down(level, way):
    if not level:
        return bytearray(600)
    if way & 1:
        return down(level - 1, way >> 1)
    return down(level - 1, way >> 1)


def main():
    way = 0
    print("ready", flush=True)
    for line in sys.stdin:
        what, n = line.split()
        for _ in range(int(n)):
            if what == "new":
                way += 1
            down(LEVELS, way if what == "new" else 0)
        print("done", flush=True)


main()
