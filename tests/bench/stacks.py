#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a stack costs: run time of the programs per allocation (entry and return), as the kernel measures it, less that of the same
allocations with stacks left out (TIDEMARK_NO_STACKS), measured in turn. For stacks of 20 native frames and of 20 native and 20 Python
frames, repeated and never seen before. Needs root. stacks.py [ROUNDS]; PYTHON="python3.12 ..." chooses the interpreter.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from run import BUILD, Failure, Progtime, Watch, against, end, heading, own_libc, programs_of, row, run, spread, start

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


def measure(argv, env, bare):
    """Nanoseconds per allocation, by kind of stack; bare: without stacks."""
    target, progtime = Target(argv, env), Progtime()
    watch = Watch(target.pid, dict(env, TIDEMARK_NO_STACKS="1") if bare else env).attached()
    ids = programs_of(watch.p.pid)
    target.run("same", 2000)
    costs = {what: entry_cost(progtime, ids, target, what, n) for what, n in CALLS.items()}
    watch.end()
    progtime.end()
    target.end()
    return costs


def pythons():
    """An interpreter of 3.11 or newer whose malloc calls are libc's."""
    for name in os.environ.get("PYTHON", "python3.14 python3.13 python3.12 python3.11 python3").split():
        path = shutil.which(name, path="/usr/bin:/usr/local/bin:" + os.environ.get("PATH", ""))
        if path and subprocess.run([path, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode == 0:
            return path
    raise Failure("no Python of 3.11 or newer")


def main():
    if os.geteuid():
        raise Failure("probes need root")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="tidemark-libc-") as d:
        env = own_libc(Path(d))
        heading("program time per allocation, ns", "least", "median", "most")
        for kind, argv in (("native", [BUILD / "bench/depth"]), ("merged", [pythons(), "-S", HERE / "depth.py"])):
            taken = [(measure(argv, env, True), measure(argv, env, False)) for _ in range(rounds)]
            row(f"no stacks ({Path(argv[0]).name})", *spread([bare["same"] for bare, _ in taken], 0))
            for what, text in (("same", "repeated"), ("new", "new")):
                row(f"with 20 frames {kind}, {text}", *spread([full[what] for _, full in taken], 0))
                cost = [full[what] - bare[what] for bare, full in taken]
                row("  the stack", *spread(cost, 0), against(BARS[kind, what], statistics.median(cost)))


if __name__ == "__main__":
    run(main)
