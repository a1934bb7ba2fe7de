#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The oracle itself, without Tidemark: it agrees with libgcc's unwinder on a program that makes stacks hard, and it sees every kind of wrong stack.
"""
import shutil
import struct
import subprocess

import harness as h
import oracle

STACK = struct.Struct("<Q16xHBBI127Q")  # struct hit_stack: id, site, cut, n_ips, pad, ip[]
CUT_NONE, CUT_DEPTH = 0, 1


def record():
    folder = h.scratch("tidemark-oracle-")
    program, = oracle.build_oracle("selftest")
    done = subprocess.run([program, folder], capture_output=True, text=True, timeout=60, check=False)
    h.check(done.returncode == 0, f"selftest ended with {done.returncode}: {done.stderr.strip()}")
    return folder


def agrees():
    said, examples = oracle.judge(record())
    print(f"     {said}")
    h.check(said["hits"] >= 500 and said["frames"] >= 5 * said["hits"], f"too little is compared: {said}")
    h.check(said["equal"] + said["prefix_equal"] == said["hits"], f"libdw and libgcc differ: {said}\n{examples}")
    h.check(0 < said["prefix_equal"] < said["hits"] // 5, f"a tenth of the stacks is larger than what is recorded: {said}")


def sees_faults():
    """Each kind of fault in every stack that has frames enough: the hit is in its class, and the run is not good."""
    folder = record()
    stacks = (folder / "stacks").read_bytes()

    def changed(how):
        out = b""
        for at in range(0, len(stacks), STACK.size):
            key = stacks[at + 8:at + 24]
            s = list(STACK.unpack_from(stacks, at))
            if s[2] == CUT_NONE and s[3] >= 4:
                how(s)
            row = bytearray(STACK.pack(*s))
            row[8:24] = key
            out += row
        (folder / "stacks").write_bytes(out)
        return oracle.judge(folder)[0]

    def set_to(index, value):
        def how(s):
            s[index] = value(s) if callable(value) else value
        return how

    def doubled_end(s):
        s[3] += s[3] < 127
        s[4 + s[3]] = s[3 + s[3]]

    def frame(n):
        return set_to(5 + n, lambda s: s[5 + n] + 1)

    faults = [("frame", frame(0)), ("frame", frame(2)), ("short", set_to(3, lambda s: s[3] - 1)), ("long", doubled_end),
              ("other_end", set_to(2, CUT_DEPTH)), ("undefined", set_to(0, lambda s: s[0] + 1)), ("short", set_to(3, 0))]
    for kind, how in faults:
        said = changed(how)
        h.check(not said["good"] and said["differ"].get(kind, 0) > said["hits"] // 2, f"stacks with the fault {kind!r}: {said}")
    shutil.rmtree(folder)


h.main(agrees, sees_faults, root=False)
