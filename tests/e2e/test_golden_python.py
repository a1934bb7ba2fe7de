#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Known Python stacks, line for line, under this machine's own interpreter: the same script, list and comparison as in the kernel matrix."""
import sys

import harness as h
import pygolden

SCRIPT = h.ROOT / "tests/e2e/pytargets/golden.py"
EXPECTED = h.ROOT / "tests/e2e/pytargets/golden.expected"


def comparison():
    def python(name, line):
        return {"kind": "python", "name": name, "file": "/tmp/golden.py", "line": line}

    text = "1000 3 whole f:3 (c) g:5\n"
    native = {"kind": "native", "name": "x", "file": None, "line": None}
    stack = {"complete": True, "alloc_count_total": 3, "alloc_bytes_total": 3000, "frames": [native, python("f", 3), native, native, python("g", 5), native]}
    h.check_equal(list(pygolden.faults([stack], text)), [], "faults of the right stack")
    halves = [dict(stack, alloc_count_total=n, alloc_bytes_total=n * 1000) for n in (1, 2)]
    h.check_equal(list(pygolden.faults(halves, text)), [], "faults of the right stack in two parts")
    for what, wrong in (("line", dict(stack, frames=[python("f", 4), native, python("g", 5)])),
                        ("C code missing", dict(stack, frames=[python("f", 3), python("g", 5)])),
                        ("a frame more", dict(stack, frames=[python("f", 3), native, python("g", 5), python("h", 6)])),
                        ("a frame less", dict(stack, frames=[python("f", 3), native])),
                        ("calls", dict(stack, alloc_count_total=4, alloc_bytes_total=4000)),
                        ("cut", dict(stack, complete=False))):
        h.check_equal(len(list(pygolden.faults([wrong], text))), 1, f"faults of a stack with another {what}")


def stacks():
    if sys.version_info < (3, 11):
        raise h.Skip("the list has the qualified names of Python 3.11 and later")
    with h.Target([sys.executable, "-I", "-S", "-B", SCRIPT]) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "--layer", "heap",
                                                                            "-p", t.pid) as tool:
        tool.attached()
        t.send()
        t.said("allocated")
        interval = tool.fresh()
        tool.finish()
        t.p.stdin.close()
        h.check_equal(t.wait(10), 0, "exit code of the script")
    text = EXPECTED.read_text()
    faults = list(pygolden.faults([s for s in interval.stacks if s["pid"] == t.pid and s["layer"] == "heap"], text))
    known = len(pygolden.golden.expected(text))
    print(f"     {known - len(faults)} of {known} stacks as expected")
    h.check(not faults, "\n       ".join(["these stacks differ:"] + faults))


h.main(comparison, stacks)
