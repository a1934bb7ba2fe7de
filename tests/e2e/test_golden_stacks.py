#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Known stacks, name for name: callbacks, signals, a library, threads, strange frames, tail calls. Each is taken three times and has to be one stack."""
import golden
import harness as h

EXPECTED = h.ROOT / "tests/e2e/targets/stacks_golden.expected"


def stacks():
    with h.Target(h.build("stacks_golden")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "--layer", "heap",
                                                         "-p", t.pid) as tool:
        tool.attached()
        t.send()
        t.said("opened")
        tool.fresh()
        t.send()
        t.said("allocated")
        interval = tool.fresh()
        tool.finish()
        t.p.stdin.close()
        h.check_equal(t.wait(10), 0, "exit code of the program")
    text = EXPECTED.read_text()
    faults = list(golden.faults([s for s in interval.stacks if s["pid"] == t.pid and s["layer"] == "heap"], text))
    print(f"     {len(golden.expected(text)) - len(faults)} of {len(golden.expected(text))} stacks as expected")
    h.check(not faults, "\n       ".join(["these stacks differ:"] + faults))


h.main(stacks)
