# SPDX-License-Identifier: GPL-2.0-or-later
"""
Attaching and letting go, again and again, of programs under load: a C program of four threads and a Python one. None may crash, get stuck or
be left with a breakpoint, also when Tidemark is killed; each tells how long its longest round took.
"""
import contextlib
import itertools
import shutil
import signal
import statistics
import time

import harness as h

# What a round of attaching asks for: every way in which probes come and go.
WAYS = itertools.cycle([["--mode", "exact"], ["--mode", "auto"], ["--mode", "auto", "--budget", "0"], ["--mode", "exact", "--layer", "heap,python"]])


class Loaded(h.Target):
    def __init__(self, name, argv, env):
        super().__init__(argv, env=env)
        self.name, self.looks = name, 0

    def look(self):
        """Since the look before."""
        self.looks += 1
        self.send()
        found = self.said(f"look{self.looks}", 30)
        h.check(not found.get("fault"), f"{self.name}: {found.get('fault')}")
        return found


def programs():
    d = h.scratch()
    env, python = h.private_libc(d), shutil.copy(h.find_program("/usr/bin/python3"), d)  # copies: their probes are nobody else's
    return [Loaded("threads", h.build("attached"), env),
            Loaded("python", [python, h.ROOT / "tests/e2e/pytargets/attached.py"], dict(env, PYTHONHOME="/usr"))]


def wait_rounds(targets, what):
    """Until every thread of each has made a round; returns the longest of each, ms."""
    longest = {t.name: 0.0 for t in targets}
    for t in targets:
        def moved():
            found = t.look()
            longest[t.name] = max(longest[t.name], found["longest_ms"])
            return found["least"]

        h.wait_until(moved, 20, f"all threads of {t.name} go on {what}", step=0.01)
    return longest


def cycle(targets, kill):
    """Attach, let it run, end. The longest rounds meanwhile, by target."""
    for t in targets:
        t.look()
    tool = h.Tool("top", "-f", "json", "-i", "0.1", "-p", ",".join(str(t.pid) for t in targets), *next(WAYS))
    with tool:
        first = tool.attached()
        for t in targets:
            h.check(first.proc(t.pid), f"{t.name} is not shown")
        attached = wait_rounds(targets, "while attached")
        ids = tool.bpf_ids()
        if kill:
            tool.kill(signal.SIGKILL)
            tool.p.wait(15)
        else:
            tool.kill(signal.SIGINT)
            h.check_equal(tool.wait(15, "tidemark"), 0, f"exit code ({tool.errors().strip()})")
        after = wait_rounds(targets, "afterwards")
    return {t.name: max(attached[t.name], after[t.name]) for t in targets}, ids


def bare(targets, seconds):
    """As long without Tidemark."""
    wait_rounds(targets, "before")
    end, longest = time.monotonic() + seconds, dict.fromkeys((t.name for t in targets), 0.0)
    while time.monotonic() < end:
        for name, ms in wait_rounds(targets, "alone").items():
            longest[name] = max(longest[name], ms)
        time.sleep(0.02)
    return longest


def run(cycles, bare_seconds, progress=None):
    """{name: (longest round without, longest rounds of each cycle)}, ms."""
    with contextlib.ExitStack() as stack:
        targets = [stack.enter_context(t) for t in programs()]
        alone = bare(targets, bare_seconds)
        rounds = {t.name: [] for t in targets}
        for n in range(cycles):
            found, ids = cycle(targets, kill=n % 5 == 4)
            for name, ms in found.items():
                rounds[name].append(ms)
            if progress:
                progress(n + 1, found)
        h.wait_gone(ids)
        for t in targets:
            h.check(t.p.poll() is None, f"{t.name} ended with {t.p.returncode}: {t.errors().strip()}")
            h.check_equal(h.patched_bytes(t.pid), [], f"breakpoints left in {t.name}")
        return {t.name: (alone[t.name], rounds[t.name]) for t in targets}


def table(found):
    for name, (alone, rounds) in found.items():
        print(f"     {name}: longest round of {len(rounds)} times attached and let go {max(rounds):.1f} ms (median of them "
              f"{statistics.median(rounds):.1f} ms), without {alone:.1f} ms")
