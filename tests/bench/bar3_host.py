#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What Tidemark uses itself: the whole of a host with 300 processes, 20 processes in exact mode, one busy process; and how soon it shows a table."""
import contextlib
import os
import selectors
import signal
import statistics
import subprocess
import time

from common import BENCH, TOOL, Observer, Spoken, against, cpu_seconds, die_with_parent, each_part, h, main, memory_of, own_libc, spread
from services import PYTHON

CROWD = 300
SHARES = {"python": 0.2, "sleeper": 0.3, "ticker": 0.3, "toucher": 0.2}
PYTHON_TICKER = "import time\nkept = []\nwhile True:\n    kept = (kept + [str(time.time()) * 10])[-100:]\n    time.sleep(0.1)\n"
CROWD_REGEX = "bench/crowd|kept = "  # not every process of the machine: probes are felt
STACKS, EXACT_PROCESSES = 2500, 20
SETTLE_S = 4  # attaching and naming the stacks is another row's business


def crowd_command(kind):
    return [PYTHON, "-S", "-c", PYTHON_TICKER] if kind == "python" else [BENCH / "crowd", kind]


@contextlib.contextmanager
def crowd(n, env):
    """n processes of several kinds; what they say goes nowhere."""
    kinds = [k for k, share in SHARES.items() for _ in range(round(n * share))]
    started = []
    try:
        for k in kinds:
            started.append(subprocess.Popen([str(a) for a in crowd_command(k)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            preexec_fn=die_with_parent))
        time.sleep(1)  # the interpreters have started
        h.check(all(p.poll() is None for p in started), "one of the crowd has ended")
        yield len(started)
    finally:
        for p in started:
            p.kill()
        for p in started:
            p.wait()


def first_table_s(*args, env):
    """Until the last byte of the first table: the next one is a second away, so a silence of 0.3 s ends it."""
    began = time.monotonic()
    tool = subprocess.Popen([str(a) for a in (TOOL, "top", *args)], stdout=subprocess.PIPE, env=env, preexec_fn=die_with_parent)
    text, last = b"", 0.0
    try:
        selector = selectors.DefaultSelector()
        selector.register(tool.stdout, selectors.EVENT_READ)
        while selector.select(0.3 if b"PID" in text else 60):
            got = os.read(tool.stdout.fileno(), 65536)
            h.check(got, "tidemark ended before its first table")
            text += got
            last = time.monotonic() - began
    finally:
        tool.stdout.close()
        tool.send_signal(signal.SIGTERM)
        try:
            tool.wait(30)
        finally:
            tool.kill()
    h.check(b"PID" in text, "no table within 60 s")
    return last


class Use:
    """What one run takes, in windows after it has settled."""

    def __init__(self, *args, env, settings, windows):
        began = time.monotonic()
        self.cpu, self.user = [], []
        with Observer(*args, env=env).attached() as tool:
            time.sleep(settings.seconds(SETTLE_S))
            for _ in range(windows):
                self.window(tool.pid, settings.seconds(20))
            tool.ticks()  # or it has ended by itself
            self.memory = memory_of(tool.pid)
            self.whole = cpu_seconds(tool.pid)[0] / (time.monotonic() - began) * 100
            tool.end()
        self.tick, self.meta, self.tool = tool.of("tick")[-1], tool.of("meta")[0], tool

    def window(self, pid, seconds):
        from_s, (cpu0, user0) = time.monotonic(), cpu_seconds(pid)
        time.sleep(seconds)
        took, (cpu1, user1) = time.monotonic() - from_s, cpu_seconds(pid)
        self.cpu.append((cpu1 - cpu0) / took * 100)
        self.user.append((user1 - user0) / took * 100)

    def stacks(self):
        """Of the last interval, layer heap."""
        last = max(i for i, l in enumerate(self.tool.lines) if l["type"] == "tick")
        before = max((i for i, l in enumerate(self.tool.lines[:last]) if l["type"] == "tick"), default=0)
        return [l for l in self.tool.lines[before:last] if l["type"] == "stack" and l["layer"] == "heap"]

    def rows(self, report, cpu_bar, rss_bar, of_machine=False):
        share = [c / os.cpu_count() for c in self.cpu] if of_machine else self.cpu
        what = f"of the machine ({os.cpu_count()} CPUs)" if of_machine else "of a core"
        report.row(f"CPU time, % {what}", *spread(share, 2), remark=against(cpu_bar, statistics.median(share)) +
                   f"; user mode {statistics.median(self.user):.2f}, with the start {self.whole:.2f} % of a core")
        parts = ", ".join(f"{k[3:].lower()} {v:.1f}" for k, v in self.memory.items() if k.startswith("Rss"))
        report.row("peak RSS, MiB", "", f"{self.memory['VmHWM']:.1f}", remark=f"{against(rss_bar, self.memory['VmHWM'])}; {parts}")
        says = self.tick["self"]
        report.row("as it says itself: CPU %, RSS MiB, kernel maps MiB", f"{says['cpu_pct'] or 0:.2f}", f"{says['rss_bytes'] / 2**20:.1f}",
                   f"{self.meta.get('map_memory_bytes', 0) / 2**20:.1f}", remark=f"losses {says['losses'] or 'none'}")


def whole_host(report, settings, env):
    rounds = settings.rounds(5)
    with crowd(settings.count(CROWD, 30), env) as n:
        first = [first_table_s("-a", env=env) for _ in range(rounds)]
        exact = [first_table_s("-n", CROWD_REGEX, "--mode", "exact", env=env) for _ in range(settings.rounds(3))]
        use = Use("-a", env=env, settings=settings, windows=rounds)
    report.section(f"3a. `top -a` beside {n} processes", "least", "median", "most")
    report.row("first table, s", *spread(first, 2), remark=against(1.5, statistics.median(first)))
    use.rows(report, 0.5, 48, of_machine=True)
    report.row("processes shown", "", f"{use.tick['procs']}")
    report.row("first table with probes in all of them (-n, --mode exact), s", *spread(exact, 2))


def many_exact(report, settings, env):
    n, rounds = settings.count(EXACT_PROCESSES, 4), settings.rounds(5)
    with contextlib.ExitStack() as stack:
        paced = [stack.enter_context(Spoken("paced", 1000, 1000, STACKS // EXACT_PROCESSES, env=env)) for _ in range(n)]
        use = Use("-p", ",".join(str(p.pid) for p in paced), "--mode", "exact", "--limit", "0", "-i", "1", env=env, settings=settings, windows=rounds)
    report.section(f"3b. {n} processes in exact mode, {STACKS // EXACT_PROCESSES} stacks and 1,000 allocations/s each, all stacks as JSON at 1 s",
                   "least", "median", "most")
    use.rows(report, 1, 32)
    report.row("stacks shown", "", f"{len(use.stacks()):,}")


def one_busy(report, settings, env):
    rate = alive = 50000
    with Spoken("paced", rate, alive, env=env) as paced:
        use = Use("-p", paced.pid, "--mode", "exact", "--limit", "0", env=env, settings=settings, windows=settings.rounds(3))
        first = [first_table_s("-p", paced.pid, env=env) for _ in range(settings.rounds(7))]
    report.section(f"3c. One process, {rate:,} allocations/s, 1,024 stacks, {alive:,} blocks alive, exact, every stack shown", "least", "median", "most")
    use.rows(report, 2, 40)
    stacks = use.stacks()
    report.row("stacks with live blocks; blocks alive, as it says", "", f"{sum(s['live_count'] > 0 for s in stacks):,}",
               f"{sum(s['live_count'] for s in stacks):,}")
    report.row("first table, s", *spread(first, 2), remark=against(1.5, statistics.median(first)))


def host(report, settings):
    env = own_libc()
    each_part(report, {p.__name__: lambda p=p: p(report, settings, env) for p in (whole_host, many_exact, one_busy)})


if __name__ == "__main__":
    main(host)
