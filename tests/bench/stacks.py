#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a stack costs: run time of the programs per allocation, as the kernel measures it (entry and return together), for stacks of 20
native frames and of 20 native and 20 Python frames, repeated and never seen before. Printed beside the same allocations of a
program whose stack is 2 frames deep, so that what the stack costs stands by itself. Needs root. stacks.py [ROUNDS]
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from run import BUILD, TOOL, Failure, Pair, Progtime, Watch, against, end, heading, own_libc, programs_of, row, run, spread, start, wait_until

HERE = Path(__file__).resolve().parent
CALLS = {"same": 20000, "new": 1000}
ROUNDS = 5
BARS = {("native", "new"): 2500, ("native", "same"): 500, ("merged", "new"): 6000, ("merged", "same"): 1500}


class Target:
    """A program that makes N allocations by one way or by ways of their own."""

    def __init__(self, argv, env):
        self.p = start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        self.pid = self.p.pid
        if self.p.stdout.readline() != "ready\n":
            raise Failure(f"{argv[0]} did not start")

    def run(self, what, n):
        self.p.stdin.write(f"{what} {n}\n")
        self.p.stdin.flush()
        if self.p.stdout.readline() != "done\n":
            raise Failure("the target is gone")

    def end(self):
        end(self.p)


def entry_cost(progtime, ids, target, what, n):
    """Nanoseconds of program time per allocation: entry and return. Nothing else calls on_alloc_session but a few allocations of the interpreter."""
    def total():
        rows = [v for k, v in progtime.read().items() if k in ids and v[0].startswith("on_alloc")]
        return sum(r[1] for r in rows), sum(r[2] for r in rows)

    hits, ns = total()
    target.run(what, n)
    hits_after, ns_after = total()
    if hits_after - hits < 2 * n:
        raise Failure(f"{hits_after - hits} runs for {n} allocations")
    return (ns_after - ns) / (hits_after - hits) * 2


def frames_of(lines, pid):
    """Depth of the deepest stack: native and Python frames."""
    deepest = max((l for l in lines if l["pid"] == pid), key=lambda l: len(l["frames"]), default=None)
    kinds = [f["kind"] for f in deepest["frames"]] if deepest else []
    return kinds.count("native"), kinds.count("python")


def measure(target, env, rounds):
    progtime, watch = Progtime(), Watch(target.pid, env).attached()
    ids = programs_of(watch.p.pid)
    costs = {what: [] for what in CALLS}
    target.run("same", 2000)
    for _ in range(rounds):
        for what, n in CALLS.items():
            costs[what].append(entry_cost(progtime, ids, target, what, n))
    stats = watch.ticks[-1][1]["self"].get("stacks", {})
    watch.end()
    progtime.end()
    return costs, stats


def pythons():
    """An interpreter of 3.11 or newer whose malloc calls are libc's."""
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3"):
        path = shutil.which(name, path="/usr/bin:/usr/local/bin:" + os.environ.get("PATH", ""))
        if path and subprocess.run([path, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode == 0:
            return path
    raise Failure("no Python of 3.11 or newer")


def shallow(env, rounds):
    """Entry and return of an allocation whose stack is 2 frames: what is not the stack's."""
    target, progtime = Pair(env), Progtime()
    watch = Watch(target.pid, env).attached()
    ids, found = programs_of(watch.p.pid), []

    class Two:
        def run(self, _, n):
            target.run(n)

    for _ in range(rounds):
        found.append(entry_cost(progtime, ids, Two(), "same", CALLS["same"]))
    watch.end()
    progtime.end()
    target.end()
    return found


def main():
    if os.geteuid():
        raise Failure("probes need root")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="tidemark-libc-") as d:
        env = own_libc(Path(d))
        heading("program time per allocation (entry and return), ns", "least", "median", "most")
        row("stack of main only", *spread(shallow(env, rounds), 0))
        for kind, argv in (("native", [BUILD / "bench/depth"]), ("merged", [pythons(), "-S", HERE / "depth.py"])):
            target = Target(argv, env)
            costs, stats = measure(target, env, rounds)
            target.end()
            for what, taken in costs.items():
                row(f"20 frames {kind}, {'repeated' if what == 'same' else 'new'}", *spread(taken, 0),
                    against(BARS[kind, what], statistics.median(taken)))
            row("", "", "", "", f"last interval: {json.dumps({k: stats.get(k) for k in ('taken', 'repeated', 'unwound', 'defined')})}")


if __name__ == "__main__":
    run(main)
