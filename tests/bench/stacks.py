#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a stack costs: run time of the programs per allocation (entry and return), as the kernel measures it, less that of the same
allocations with stacks left out (TIDEMARK_NO_STACKS), measured in turn. For stacks of 20 native frames and of 20 native and 20 Python
frames, repeated and never seen before. PYTHON="python3.12 ..." chooses the interpreter.
"""
import os
import shutil
import statistics
import subprocess
from pathlib import Path

from common import BENCH, HERE, Observer, Progtime, Spoken, against, h, main, own_libc, spread

CALLS = {"same": 20000, "new": 1000}
BARS = {("native", "new"): 2500, ("native", "same"): 500, ("merged", "new"): 6000, ("merged", "same"): 1500}


class Target(Spoken):
    """A program that makes N allocations by one way or by ways of their own."""

    def __init__(self, argv, env):
        super().__init__(argv[0], *argv[1:], env=env)
        h.check_equal(self.hear(), "ready", argv[0])

    def run(self, what, n):
        self.send(b"%s %d\n" % (what.encode(), n))
        h.check_equal(self.hear(), "done", self.argv[0])


def entry_cost(progtime, ids, target, what, n):
    """Nanoseconds of program time per allocation: entry and return. Nothing else calls on_alloc_session but a few allocations of the interpreter."""
    def total():
        rows = [v for k, v in progtime.read().items() if ("prog", k) in ids and v[0].startswith("on_alloc")]
        return sum(r[1] for r in rows), sum(r[2] for r in rows)

    hits, ns = total()
    target.run(what, n)
    hits_after, ns_after = total()
    h.check(hits_after - hits >= 2 * n, f"{hits_after - hits} runs for {n} allocations")
    return (ns_after - ns) / (hits_after - hits) * 2


def measure(argv, env, bare):
    """Nanoseconds per allocation, by kind of stack; bare: without stacks."""
    with Target(argv, env) as target, Progtime() as progtime, \
            Observer("-p", target.pid, "--mode", "exact", env=dict(env, TIDEMARK_NO_STACKS="1") if bare else env).attached() as tool:
        ids = h.Tool.bpf_ids(tool.process)
        target.run("same", 2000)
        costs = {what: entry_cost(progtime, ids, target, what, n) for what, n in CALLS.items()}
        tool.end()
    return costs


def pythons():
    """An interpreter of 3.11 or newer whose malloc calls are libc's."""
    for name in os.environ.get("PYTHON", "python3.14 python3.13 python3.12 python3.11 python3").split():
        path = shutil.which(name, path="/usr/bin:/usr/local/bin:" + os.environ.get("PATH", ""))
        if path and subprocess.run([path, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], capture_output=True, check=False).returncode == 0:
            return path
    raise h.Skip("no Python of 3.11 or newer")


def stacks(report, settings):
    env, rounds = own_libc(), settings.rounds(5)
    report.section(f"Program time per allocation, ns ({rounds} rounds in turn)", "least", "median", "most")
    for kind, argv in (("native", [BENCH / "depth"]), ("merged", [pythons(), "-S", HERE / "depth.py"])):
        taken = [(measure(argv, env, True), measure(argv, env, False)) for _ in range(rounds)]
        report.row(f"no stacks ({Path(argv[0]).name})", *spread([bare["same"] for bare, _ in taken], 0))
        for what, text in (("same", "repeated"), ("new", "new")):
            report.row(f"with 20 frames {kind}, {text}", *spread([full[what] for _, full in taken], 0))
            cost = [full[what] - bare[what] for bare, full in taken]
            report.row("  the stack", *spread(cost, 0), remark=against(BARS[kind, what], statistics.median(cost)))


if __name__ == "__main__":
    main(stacks)
