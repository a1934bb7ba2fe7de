#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every function of the malloc family with its failures: figures per site and process equal the truth, to the byte."""
import json
import os

import harness as h


def shapes():
    h.run_exact(h.build("shapes"), "shapes")


def shapes_from_birth():
    """The same program started by Tidemark: nothing may be counted beside the program's own sites."""
    d = h.scratch()
    out, gate = d / "out", d / "gate"
    os.mkfifo(gate)
    with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "--", "/bin/sh", "-c", f"{h.build('shapes')[0]} > {out} < {gate}") as tool:
        with h.open_gate(gate, tool) as lines:
            lines.write(b"\n")
            lines.flush()
            h.wait_until(lambda: out.read_text().count("\n") == 2, 60, "the program tells its truth")
            truth = json.loads(out.read_text().splitlines()[1])
            h.check_truth(tool.fresh(), truth)  # running, with all of its work done
        end = tool.ended(60)
        h.check_equal(end["reason"], "targets_gone", "reason of the end")
        seen = [i for i in tool.intervals if i.proc(truth["pid"], comm="shapes")]
        h.check_truth(seen[-1], truth)  # and its last figures


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
