#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every function of the malloc family with its failures: figures per site and process equal the truth, to the byte."""
import harness as h


def shapes():
    h.run_exact(h.build("shapes"), "shapes")


def shapes_from_birth():
    """The same program started by Tidemark: nothing may be counted beside the program's own sites."""
    with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-d", "6", "--", "/bin/sh", "-c",
                f"(echo; sleep 20) | exec {h.build('shapes')[0]} > {h.scratch() / 'out'}") as tool:
        tool.attached()
        wanted = h.Target(h.build("shapes"))
        with wanted:
            wanted.send()
            truth = wanted.said("shapes")
        found = tool.until(lambda i: any(p["comm"] == "shapes" and p["layers"]["heap"]["alloc_count_total"] >= truth["alloc_count"]
                                         for p in i.procs), 20, "the started program has done its work")
        pid = next(p["pid"] for p in found.procs if p["comm"] == "shapes")
        faults = h.compare(found, truth, pid=pid)
        h.check(not faults, "; ".join(faults[:10]))
        tool.finish()


def attached_late():
    """Blocks from before the attach are not counted, and freeing them is unmatched, not negative."""
    with h.Target([*h.build("many"), "2000"]) as t:
        t.send()
        t.said("many")
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid) as tool:
            proc = tool.fresh().proc(t.pid)
            h.check_equal(proc["layers"]["heap"]["alloc_count_total"], 0, "allocations since the attach")
            h.check_equal(proc["layers"]["heap"]["live_bytes"], 0, "live bytes of an idle process that ran before")
            h.check("late_attach" in proc["losses"], f"late_attach is not said: {proc['losses']}")
            tool.finish()


h.main(shapes, shapes_from_birth, attached_late)
