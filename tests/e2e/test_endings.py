#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
However it ends, no probe remains, targets go on at full speed, and the exit code says what happened. How soon all that is, tests/bench/kill.py
tells.
"""
import os
import random
import signal
import struct
import subprocess
import time

import harness as h

MEASURED_S = 0.05  # of CPU time
SLOWED = 8  # Probes make a pair a hundred times as dear, in CPU time; nothing else on a machine makes it eight times as dear.


class Busy(h.Target):
    """Allocates without pause on a libc of its own, so that nobody else's probes slow it down; its speed can be read."""

    def __init__(self, threads=1):
        d = h.scratch()
        self.file = d / "count"
        self.file.write_bytes(bytes(4096))
        super().__init__([*h.build("busy"), self.file, threads], env=h.private_libc(d))

    def pairs(self):
        return struct.unpack("<Q", self.file.read_bytes()[:8])[0]

    def cpu(self):
        return time.clock_gettime(~self.pid << 3 | 2)  # include/linux/posix-timers.h: CPUCLOCK_SCHED of a process

    def speed(self):
        """Pairs per second of its own CPU time: what else runs does not matter."""
        a, began = self.pairs(), self.cpu()
        h.wait_until(lambda: self.cpu() - began >= MEASURED_S, 30, "the target runs")
        return (self.pairs() - a) / (self.cpu() - began)


def watch(pid, *args, **kw):
    return h.Tool("top", "-f", "json", "-i", "0.2", *args, "-p", pid, **kw)


def check_left_alone(busy, bare, ids):
    h.check_equal(busy.p.poll(), None, "exit code of the target while it was watched")
    h.wait_gone(ids)
    h.wait_until(lambda: not h.patched_bytes(busy.pid, "libc.so.6"), 10, f"no breakpoint in the target's libc: "
                 f"{h.patched_bytes(busy.pid, 'libc.so.6')[:5]}")
    h.wait_until(lambda: busy.speed() > bare / SLOWED, 20, f"full speed again: bare {bare:.0f} pairs/s, now {busy.speed():.0f}")


def killed_at_any_moment():
    rng = random.Random(1)
    slowed = 0
    with Busy() as busy:
        bare = max(busy.speed() for _ in range(5))
        for n in range(10):
            tool = watch(busy.pid)
            if n % 3 == 0:
                tool.attached()
                slowed += busy.speed() < bare / SLOWED
            time.sleep(rng.random() * (0.3 if n % 3 else 1.0))
            ids = tool.bpf_ids()
            tool.kill(signal.SIGKILL)
            h.check_equal(tool.wait(10), -signal.SIGKILL, "exit code")
            check_left_alone(busy, bare, ids)
        h.check(slowed, "the target was never slowed down: it was not watched, and this proved nothing")


def signals_end_cleanly():
    with Busy() as busy:
        bare = max(busy.speed() for _ in range(5))
        for sig in (signal.SIGINT, signal.SIGTERM):
            tool = watch(busy.pid)
            tool.attached()
            tool.fresh()
            ids = tool.bpf_ids()
            h.check(ids, "no program of the running tool is visible, so nothing is proved")
            h.check(h.patched_bytes(busy.pid, "libc.so.6"), "the target was not probed")
            end = tool.finish(sig)
            h.check_equal((end["reason"], end["exit_code"]), ("interrupted", 0), f"end line after {sig.name}")
            h.check_equal(tool.error_lines(), [], "stderr")
            check_left_alone(busy, bare, ids)


def signal_before_attached():
    """Also while it still attaches."""
    with Busy() as busy:
        for wait in (0.0, 0.05, 0.1, 0.2, 0.4):
            tool = watch(busy.pid)
            time.sleep(wait)
            tool.kill(signal.SIGTERM)
            code = tool.wait(5, "tidemark, told to end while it attaches,")
            h.check(code in (0, -signal.SIGTERM), f"exit code {code} when ended after {wait} s: {tool.errors()}")
        h.wait_until(lambda: not h.patched_bytes(busy.pid, "libc.so.6"), 10, "no breakpoint in the target's libc")


def closed_pipe():
    with Busy() as busy:
        bare = max(busy.speed() for _ in range(5))
        r, w = os.pipe()
        tool = h.Process([h.TOOL, "top", "-f", "json", "-i", "0.2", "-p", busy.pid], stdin=subprocess.DEVNULL, stdout=w)
        os.close(w)
        with os.fdopen(r, "rb") as pipe:
            h.check(b'"meta"' in pipe.readline(), "the first line is not the meta line")
            pipe.readline()
        h.check_equal(tool.wait(10, "tidemark with a closed pipe"), 0, f"exit code with a closed pipe ({tool.errors()})")
        h.check_equal(tool.error_lines(), [], "stderr")
        check_left_alone(busy, bare, set())


def full_disk():
    with Busy() as busy:
        bare = max(busy.speed() for _ in range(5))
        tool = h.Process([h.TOOL, "top", "-f", "json", "-i", "0.2", "-o", "/dev/full", "-p", busy.pid], stdin=subprocess.DEVNULL)
        h.check_equal(tool.wait(20, "tidemark on a full disk"), 1, "exit code with -o /dev/full")
        h.check_equal(len(tool.error_lines()), 1, f"lines on stderr: {tool.error_lines()}")
        h.check("/dev/full" in tool.errors(), f"the file is not named: {tool.errors()}")
        check_left_alone(busy, bare, set())


def output_to_a_file():
    out = h.scratch() / "out.json"
    with h.Target([*h.build("many"), "100"]) as t:
        with h.Process([h.TOOL, "top", "-f", "json", "-i", "0.3", "-d", "1", "-o", out, "-p", t.pid], stdin=subprocess.DEVNULL) as tool:
            h.check_equal(tool.wait(20), 0, f"exit code ({tool.errors()})")
            with tool.lock:
                h.check_equal(b"".join(tool.out), b"", "stdout with -o")
        checker = h.contract.Checker()
        lines = [checker.feed(l) for l in out.read_bytes().splitlines(keepends=True)]
        h.check_equal(checker.finish(ended=True), [], "faults of the file")
        h.check_equal((lines[-1]["reason"], lines[-1]["exit_code"]), ("duration", 0), "end line")


def duration_and_targets_gone():
    with h.Target([*h.build("many"), "100"]) as t:
        with h.Tool("top", "-f", "json", "-i", "0.5", "-d", "2", "-p", t.pid) as tool:
            end = tool.ended(20)
            h.check_equal(end["reason"], "duration", "reason of the end")
            took = end["ts"] - tool.meta["start_ts"]
            h.check(took > 1.9, f"-d 2 took {took:.2f} s by its own clock")
            # One at the start, one in each interval, one at the end: fewer on a machine that was paused, never more.
            h.check(2 <= len(tool.intervals) <= 6, f"-d 2 -i 0.5 gave {len(tool.intervals)} intervals")
    with h.Target([*h.build("many"), "100"]) as t, h.Tool("top", "-f", "json", "-i", "0.5", "-p", t.pid) as tool:
        tool.attached()
        t.kill(signal.SIGKILL)
        h.check_equal(tool.ended(20)["reason"], "targets_gone", "reason of the end")
        states = [p["state"] for i in tool.intervals for p in i.procs if p["pid"] == t.pid]
        h.check_equal((states[-1], states.count("exited")), ("exited", 1), f"states shown: {states}")


h.main(killed_at_any_moment, signals_end_cleanly, signal_before_attached, closed_pipe, full_disk, output_to_a_file,
       duration_and_targets_gone)
