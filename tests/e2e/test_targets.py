#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is watched: pids, names (also of processes that start later), control groups of both versions, a command, everything."""
import os
import shutil
from pathlib import Path

import harness as h

JSON = ("top", "-f", "json", "-i", "0.5", "--limit", "0")


def named(name):
    """The program `many` under another name."""
    d = h.scratch()
    return shutil.copy(h.build("many")[0], d / name)


def several_pids():
    many = h.build("many")[0]
    with h.Target([many, "300"]) as a, h.Target([many, "400"]) as b, h.Target([many, "500"]) as c:
        with h.Tool(*JSON, "-p", f"{a.pid},{b.pid}") as tool:
            tool.attached()
            truths = []
            for t in (a, b, c):
                t.send()
                truths.append(t.said("many"))
            interval = tool.fresh()
            for truth in truths[:2]:
                h.check_truth(interval, truth)
            h.check_equal({p["pid"] for p in interval.procs}, {a.pid, b.pid}, "processes shown")
            h.check_equal(interval.tick["procs"], 2, "tick.procs")
            h.check_equal(tool.meta["target"].get("kind"), "pid", "meta.target.kind")
            tool.finish()


def by_name():
    wanted, other = named("tide-wanted"), named("tide-other")
    with h.Target([wanted, "300"]) as a, h.Target([other, "300"]) as b, h.Tool(*JSON, "-n", "tide-wante[d]") as tool:
        tool.attached()
        a.send()
        b.send()
        truth = a.said("many")
        b.said("many")
        interval = tool.fresh()
        h.check_truth(interval, truth)
        h.check(not interval.proc(b.pid), "a process of another name is shown")
        h.check_equal([p["comm"] for p in interval.procs], ["tide-wanted"], "processes shown")
        with h.Target([wanted, "400"]) as late:
            tool.until(lambda i: i.proc(late.pid), 5, "a process that started later is found")
            tool.fresh()
            late.send()
            truth = late.said("many")
            interval = tool.fresh()
            h.check_truth(interval, truth)
            h.check_unmatched(interval, truth)
        tool.finish()


class Group:
    """A control group of our own in one hierarchy."""

    def __init__(self, hierarchy):
        self.dir = Path(hierarchy) / f"tidemark-e2e-{os.getpid()}"

    def __enter__(self):
        self.dir.mkdir()
        return self

    def add(self, pid):
        (self.dir / "cgroup.procs").write_text(f"{pid}\n")

    def __exit__(self, *_):
        def empty():
            try:
                self.dir.rmdir()
            except OSError:
                return False
            return True

        h.wait_until(empty, 10, f"{self.dir} can be removed")


def hierarchy(kind, controller=""):
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for line in f:
            _, where, fs, options = line.split()[:4]
            if fs == kind and (not controller or controller in options.split(",")):
                return where
    raise h.Skip(f"no {kind} hierarchy {controller}")


def watch_group(where, relative):
    many = h.build("many")[0]
    with Group(where) as group, h.Target([many, "300"]) as a, h.Target([many, "300"]) as outside:
        group.add(a.pid)
        with h.Tool(*JSON, "-g", group.dir.name if relative else group.dir) as tool:
            tool.attached()
            a.send()
            outside.send()
            truth = a.said("many")
            outside.said("many")
            interval = tool.fresh()
            h.check_truth(interval, truth)
            h.check(not interval.proc(outside.pid), "a process outside the group is shown")
            with h.Target([many, "400"]) as joins:
                group.add(joins.pid)
                tool.until(lambda i: i.proc(joins.pid), 5, "a process that joined the group later is found")
                tool.fresh()
                joins.send()
                truth = joins.said("many")
                h.check_truth(tool.fresh(), truth)
            tool.finish()
        a.end()


def cgroup_v2():
    watch_group(hierarchy("cgroup2"), False)


def cgroup_v1():
    watch_group(hierarchy("cgroup", "memory"), False)


def cgroup_by_relative_path():
    watch_group(hierarchy("cgroup", "memory"), True)


def cgroup_limit():
    """The limit of the group is the limit of the process."""
    with Group(hierarchy("cgroup", "memory")) as group, h.Target([*h.build("many"), "10"]) as t:
        (group.dir / "memory.limit_in_bytes").write_text(str(64 << 20))
        group.add(t.pid)
        with h.Tool(*JSON, "-p", t.pid) as tool:
            proc = tool.attached().proc(t.pid)
            h.check_equal(proc["limit_bytes"], 64 << 20, "limit_bytes")
            tool.finish()
        t.end()


def everything():
    """-a: all processes, and not one uprobe."""
    d = h.scratch()
    many = h.build("many")[0]
    with h.Target([many, "300"], env=h.private_libc(d)) as t, h.Tool("top", "-f", "json", "-i", "0.5", "-a") as tool:
        first = tool.attached()
        h.check_equal(h.patched_bytes(t.pid), [], "breakpoints in a process under -a")
        links = [l for l in h.bpftool("link", "list") if ("link", l["id"]) in tool.bpf_ids()]
        probes = [l for l in links if "uprobe" in l["type"] or "uprobe" in str(l.get("event_type", ""))]
        h.check_equal(probes, [], "uprobe links under -a")
        t.send()
        t.said("many")
        before = processes()
        interval = tool.fresh()
        proc = interval.proc(t.pid)
        h.check(proc, "our process is not among all")
        h.check(proc["mode"] == "pages" and "heap" not in proc["layers"], f"mode {proc['mode']}, layers {sorted(proc['layers'])}")
        h.check(proc["rss_bytes"] and proc["rss_bytes"] > 100000, f"rss_bytes {proc['rss_bytes']}")
        alive = before & processes()  # all the time
        shown = {p["pid"] for i in (first, interval) for p in i.procs}
        missing = alive - shown - {tool.pid}
        h.check(len(missing) <= 3, f"{len(missing)} of {len(alive)} processes are missing: {sorted(missing)[:10]}")
        tool.finish()


def processes():
    return {int(p) for p in os.listdir("/proc") if p.isdigit() and os.path.exists(f"/proc/{p}/exe") and _has_memory(p)}


def _has_memory(pid):
    try:
        return "VmRSS" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def a_command():
    out = h.scratch() / "out"
    with h.Tool(*JSON, "--", "/bin/sh", "-c", f"echo hello; echo error >&2; echo done > {out}; exit 3", "with spaces") as tool:
        end = tool.ended(20)
        h.check_equal((end["reason"], out.read_text()), ("targets_gone", "done\n"), "the command ran")
        shells = [p for i in tool.intervals for p in i.procs if p["comm"] == "sh"]
        h.check(shells, f"the command is not among {[p['comm'] for i in tool.intervals for p in i.procs]}")
        h.check("with spaces" in shells[0]["cmdline"], f"cmdline {shells[0]['cmdline']!r}")


def one_that_goes_one_that_stays():
    many = h.build("many")[0]
    with h.Target([many, "300"]) as a, h.Target([many, "400"]) as b, h.Tool(*JSON, "-p", f"{a.pid},{b.pid}") as tool:
        tool.attached()
        a.send()
        truth = a.said("many")
        tool.fresh()
        a.send()
        h.check_equal(a.wait(10), 0, "exit code of the first")
        gone = tool.until(lambda i: any(p["pid"] == a.pid and p["state"] == "exited" for p in i.procs), 10, "its end is shown")
        h.check_truth(gone, truth)
        b.send()
        truth = b.said("many")
        interval = tool.fresh()
        h.check_truth(interval, truth)
        h.check(not interval.proc(a.pid), "an ended process is shown more than once")
        tool.finish()


h.main(several_pids, by_name, cgroup_v2, cgroup_v1, cgroup_by_relative_path, cgroup_limit, everything, a_command,
       one_that_goes_one_that_stays)
