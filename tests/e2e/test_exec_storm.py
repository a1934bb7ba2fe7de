#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Births, execs and ends at every moment of a look: what a process has allocated is never forgotten while it lives."""
import harness as h

CHILDREN, BYTES = 400, 100 * 1000


def never_forgotten():
    seen = {}

    def look(interval):
        for p in interval.procs:
            if not p["cmdline"].startswith("kept"):
                continue
            key, now = (p["pid"], p["start_ts"]), p["layers"]["heap"]["alloc_bytes_total"]
            h.check(now >= seen.get(key, 0), f"{key} had {seen.get(key)} bytes, now {now} ({p['state']}, {p['losses']})")
            h.check(now <= BYTES, f"{key} has {now} bytes of {BYTES}")
            seen[key] = now
        return False

    with h.Target([*h.build("spawns"), str(CHILDREN)]) as t:
        with h.Tool("top", "-f", "json", "-i", "0.05", "--limit", "1", "--layer", "heap", "-p", t.pid) as tool:
            tool.attached()
            t.send()
            t.said("spawns", 120)
            tool.fresh()
            for i in tool.intervals:
                look(i)
            full = sum(v == BYTES for v in seen.values())
            h.check(full >= CHILDREN * 9 // 10, f"{full} of {CHILDREN} children were seen with all that they allocated")
            tool.finish()


def long_exec_chain():
    """A command that comes through many others is let go, not held."""
    with h.Tool("top", "-f", "json", "-i", "0.2", "--", *["env"] * 40, "sleep", "0.3") as tool:
        tool.wait(20, "a command behind 40 others")
        tool.pump()
        h.check_equal(tool.ended()["reason"], "targets_gone", "reason of the end")


h.main(never_forgotten, long_exec_chain)
