#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Others stop paying: links narrow to the observed processes and widen again at a birth, and no call is lost or counted twice."""
import os
import signal

import harness as h


def scope(interval):
    return interval.tick["self"]["probe_scope"]


def child_of_before():
    """Born while links were for the whole host, it is observed all the same when they narrow."""
    d = h.scratch()
    (d / "count").write_bytes(bytes(4096))
    libc = h.private_libc(d)
    with h.Target([*h.build("busy"), d / "count", 1], env=libc), h.Target(h.build("steps"), env=libc) as t:
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid, env={"TIDEMARK_SCOPE_AGAIN_S": "6"}) as tool:
            tool.attached()
            t.send()
            if scope(tool.interval(0)) != "host":
                raise h.Skip("this kernel has no sessions: links are always for one process")
            t.send(b"worker\n")
            child = t.said("born")["pid"]
            tool.until(lambda i: scope(i) == "process", 60, "links are narrowed while others pay")
            narrow = tool.fresh().proc(child)
            later = tool.until(lambda i: i.proc(child)["layers"]["heap"]["alloc_count_total"] > narrow["layers"]["heap"]["alloc_count_total"],
                               10, "the child's calls are counted after that")
            h.check("late_attach" not in later.proc(child)["losses"], f"nothing of it is late: {later.proc(child)['losses']}")
            os.kill(child, signal.SIGUSR1)
            truth = t.said("worker")
            h.check(truth["pid"] == child, "the child tells its truth")
            h.check_truth(tool.fresh(), truth)
            t.send(b"end\n")
            tool.finish()


def narrows_and_widens():
    d = h.scratch()
    (d / "count").write_bytes(bytes(4096))
    libc = h.private_libc(d)  # both share it, and nobody else's probes are in it
    with h.Target([*h.build("busy"), d / "count", 1], env=libc) as other, h.Target(h.build("steps"), env=libc) as t:
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid) as tool:
            tool.attached()
            t.send()
            if scope(tool.interval(0)) != "host":
                raise h.Skip("this kernel has no sessions: links are always for one process")
            tool.until(lambda i: scope(i) == "process", 30, "links are narrowed while others pay")
            h.wait_until(lambda: not h.patched_bytes(other.pid, "libc.so.6"), 10, "no breakpoint is left in the other process")
            t.send(b"fork\n")
            t.said("child")
            tool.until(lambda i: scope(i) == "host", 10, "a birth widens the links")
            child = t.said("child")["pid"]
            born_late = tool.fresh().proc(child)
            h.check("late_attach" in born_late["losses"], f"a child born while links were narrow says so: {born_late['losses']}")
            t.send(b"end\n")
            truth = t.said("steps")
            h.check_truth(tool.fresh(), truth)
            tool.finish()


h.main(narrows_and_widens, child_of_before)
