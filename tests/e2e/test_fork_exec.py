#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes from their birth: fork, grandchild, vfork and exec, posix_spawn, exec in place. Inherited blocks never debit the parent."""
import harness as h


def family():
    with h.Target(h.build("forks")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        truths = [t.said(tag) for tag in ("parent", "child", "grandchild", "spawned")]
        interval = tool.fresh()
        for truth in truths:
            h.check_truth(interval, truth)
            h.check_unmatched(interval, truth)
        for truth in truths:
            h.check_equal(interval.proc(truth["pid"])["ppid"], truth["ppid"], f"ppid of {truth['tag']}")
        t.send()
        h.check_equal(t.wait(10), 0, "exit code of the target")
        end = tool.ended(20)
        h.check_equal(end["reason"], "targets_gone", "reason of the end")
        last = h.last_lines(tool)
        for truth in truths[:3]:
            proc, _ = last[truth["pid"], "forks"]
            h.check_equal(proc["state"], "exited", f"last state of {truth['tag']}")
            h.check_equal(proc["layers"]["heap"]["alloc_bytes_total"], truth["alloc_bytes"], f"last alloc bytes of {truth['tag']}")
            h.check_equal(proc["layers"]["heap"]["free_bytes_total"], truth["free_bytes"], f"last free bytes of {truth['tag']}")


def exec_in_place():
    """The new image starts from nothing under the same pid."""
    with h.Target(h.build("execs")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        before = t.said("before")
        h.check_truth(tool.fresh(), before)
        t.send()
        after = t.said("after")
        interval = tool.fresh()
        h.check_truth(interval, after)
        h.check_unmatched(interval, after)
        tool.finish()


def pid_used_again():
    """A pid that comes back is another process: the figures of the first one are not its own."""
    with h.Target(h.build("reuse")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        first = t.said("first")
        h.check_truth(tool.fresh(), first)
        t.send()
        second = t.said("second")
        h.check_equal(second["pid"], first["pid"], "the pid of the second child")
        h.check_truth(tool.fresh(), second)
        starts = {p["start_ts"] for i in tool.intervals for p in i.procs if p["pid"] == first["pid"]}
        h.check_equal(len(starts), 2, f"start times shown under pid {first['pid']}")
        t.send()
        tool.ended(20)


def short_lived():
    """Short-lived children of one master: each is its own process, with the figures of one child."""
    with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "--", "/bin/sh", "-c",
                f"for i in 1 2 3 4 5 6 7 8; do (echo; echo) | {h.build('execs')[0]} second; done; sleep 1") as tool:
        tool.attached()
        tool_end = tool.ended(60)
        h.check_equal(tool_end["reason"], "targets_gone", "reason of the end")
        found = [(p, i) for (_, comm), (p, i) in h.last_lines(tool).items() if comm == "execs"]
        h.check_equal(len(found), 8, "processes named execs")
        for p, _ in found:
            h.check_equal((p["layers"]["heap"]["alloc_bytes_total"], p["layers"]["heap"]["free_bytes_total"], p["state"]),
                          (3250, 250, "exited"), f"last figures of pid {p['pid']}")


h.main(family, exec_in_place, pid_used_again, short_lived)
