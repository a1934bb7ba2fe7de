#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What services under load keep of their throughput and their latency: under Tidemark in its modes, and under other tools in the same run."""
import contextlib
import shutil
import statistics
import subprocess
import tempfile

import services
from common import BENCH, HERE, Observer, Spoken, against, each_part, h, in_turn, libc_of, main, own_libc, spread

SETTLE_S = 3  # under load, after the attach: the governor is to have found its way
TOOLS = {"default": (), "auto": ("--mode", "auto", "--budget", "0"), "exact": ("--mode", "exact", "--layer", "heap"), "pages": ("--mode", "pages")}
LABELS = {"default": "tidemark, default options", "auto": "--mode auto --budget 0", "exact": "--mode exact --layer heap", "pages": "--mode pages",
          "memleak": "memleak shape", "tracemalloc": "tracemalloc from start", "memray": "memray run", "memray attach": "memray attach",
          "heaptrack": "heaptrack from start",
          "heaptrack attach": "heaptrack attach", "fresh": "a service started anew, bare"}
KEPT = {"default": 0.98, "auto": 0.88, "exact": 0.80, "pages": 0.99}
P99_RATIO = 1.10


class Phases:
    """Ways to measure one running service, and services started anew for the tools that can't come and go."""

    def __init__(self, service, settings):
        self.service, self.settle_s, self.seconds = service, settings.seconds(SETTLE_S), settings.seconds(10)
        self.said = {}

    def bare(self):
        return self.service.measure(self.seconds)

    def observed(self, name):
        with Observer("-p", self.service.pid, *TOOLS[name], env=self.service.env).attached() as tool:
            self.service.warm(self.settle_s)
            got = self.service.measure(self.seconds)
            tool.end()
        busy = max(tool.of("proc"), key=lambda p: sum(l.get("alloc_count_total") or 0 for l in p["layers"].values()), default={})
        self.said[name] = tool.how(busy.get("pid"))
        return got

    def memleak(self):
        pid = self.service.worker()
        with Spoken("memleak", BENCH / "memleak.bpf.o", pid, libc_of(pid)) as probes:
            h.check_equal(probes.hear(), "attached", "memleak")
            got = self.service.measure(self.seconds)
            allocs, _ = map(int, probes.stop())
        h.check(allocs, "the memleak shape saw no allocations")
        return got

    def anew(self, command=(), attach=None, **env):
        """attach(pid of the worker, a folder): a context in which the tool is attached."""
        with services.Flask(own_libc(), command, **env) as service:
            worker = service.worker() if attach else None
            with attach(worker, service.dir) if attach else contextlib.nullcontext():
                service.warm(self.settle_s)
                got = service.measure(self.seconds)
            if attach and service.worker() != worker:
                raise h.Skip("the worker did not survive it")
        return got


# --- other tools ---

def in_folder(phases, command, **env):
    """command(folder): what runs the service and writes there. Recordings are large: gone after each phase."""
    with tempfile.TemporaryDirectory(prefix="tidemark-peer-") as folder:
        return phases.anew(command(folder), **env)


def memray_command(folder):
    return [services.venv("memray"), "-m", "memray", "run", "--follow-fork", "-q", "-f", "-o", f"{folder}/out", "-m", "gunicorn"]


def heaptrack_command(folder):
    return [h.find_program("heaptrack"), "-o", f"{folder}/out", services.PYTHON, HERE / "flask_single.py"]


@contextlib.contextmanager
def memray_attached(pid, folder):
    if not shutil.which("gdb"):
        raise h.Skip("memray attach needs gdb")
    memray = [services.venv("memray"), "-m", "memray"]
    done = subprocess.run([*memray, "attach", "--method", "gdb", "-f", "-o", folder / "out", str(pid)], capture_output=True, text=True, timeout=60,
                          check=False)
    if done.returncode:
        raise h.Skip(f"memray attach: {(done.stderr or done.stdout).strip()[-200:]}")
    yield


@contextlib.contextmanager
def heaptrack_attached(pid, folder):
    with h.Process([h.find_program("heaptrack"), "-o", folder / "out", "-p", pid], cwd=folder, start_new_session=True) as tool:
        try:
            h.wait_until(lambda: b"injection finished" in b"".join(tool.out) or tool.p.poll() is not None, 60, "heaptrack has injected its library")
            if tool.p.poll() is not None:
                raise h.Skip(f"heaptrack: {tool.errors().strip()[-200:]}")
            yield
        finally:
            services.end_group(tool.pid)


def others(phases):
    return {"fresh": phases.anew, "tracemalloc": lambda: phases.anew(PYTHONTRACEMALLOC="1"), "memray": lambda: in_folder(phases, memray_command),
            "memray attach": lambda: phases.anew([services.venv("memray"), "-m", "gunicorn"], memray_attached),
            "heaptrack": lambda: in_folder(phases, heaptrack_command), "heaptrack attach": lambda: phases.anew(attach=heaptrack_attached)}


# --- tables ---

def print_turns(report, turns, said, rows, bars):
    """rows: (name, figure, label)"""
    for name, figure, label in rows:
        if name in turns.skipped or not turns.ratios(name, figure):
            report.row(label, remark=f"not measured: {turns.why_not(name)}")
            continue
        ratios, remark = turns.ratios(name, figure), []
        bar = bars.get((name, figure))
        if bar:
            remark.append(against(bar, statistics.median(ratios), at_least=figure != "p99"))
        remark.append(f"{statistics.median(turns.values(name, figure)):,.1f} absolute")
        if name in said and figure != "p99":
            remark.append(said[name])
        report.row(label, *spread(ratios, 3), remark="; ".join(remark))


def print_noise(report, turns, figure):
    noise = turns.noise(figure)
    report.row("noise: bare against the bare runs beside it", *spread(noise, 3),
               remark=f"{statistics.median(turns.bare_values(figure)):,.1f} absolute")


def flask(report, settings):
    rounds = settings.rounds(5)
    with services.Flask(own_libc()) as service:
        phases = Phases(service, settings)
        ways = {n: lambda n=n: phases.observed(n) for n in TOOLS} | {"memleak": phases.memleak} | others(phases)
        turns = in_turn(phases.bare, ways, rounds, often=("default", "pages"))
    bars = {(n, "per_s"): kept for n, kept in KEPT.items()} | {("default", "p99"): P99_RATIO}
    for figure, text in (("per_s", "throughput"), ("p99", "99th percentile of the latency, ms")):
        report.section(f"2. Flask under gunicorn, one worker, wrk: {text} against bare ({rounds} rounds in turn)", "least", "median", "most")
        print_noise(report, turns, figure)
        print_turns(report, turns, phases.said, [(n, figure, l) for n, l in LABELS.items()], bars)
    turns.check()


def by_default(report, settings, service, figures, title):
    rounds = settings.rounds(5)
    with service:
        phases = Phases(service, settings)
        turns = in_turn(phases.bare, {"default": lambda: phases.observed("default")}, rounds)
    report.section(f"2. {title}: throughput against bare ({rounds} rounds in turn)", "least", "median", "most")
    for figure, label in figures.items():
        print_noise(report, turns, figure)
        print_turns(report, turns, phases.said, [("default", figure, f"{label}, default options")], {("default", figure): 0.98})
    turns.check()


def redis(report, settings):
    by_default(report, settings, services.Redis(own_libc()), {t: t for t in services.Redis.TESTS}, "redis-benchmark")


def pgbench(report, settings):
    by_default(report, settings, services.Postgres(own_libc()), {"per_s": "transactions/s"}, "pgbench")


def service(report, settings):
    each_part(report, {p.__name__: lambda p=p: p(report, settings) for p in (flask, redis, pgbench)})


if __name__ == "__main__":
    main(service)
