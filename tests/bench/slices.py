# SPDX-License-Identifier: GPL-2.0-or-later
"""
What probes cost a program that is watched in slices of time, by its own throughput, free of the machine's drift: its counter of what it has done and its
processor time are read every few milliseconds, beside whether a breakpoint stands in its C library; work per time within is held against work per time
outside, seconds apart instead of minutes. Nothing of it is Tidemark's word. What is left out is what also costs outside of slices.
"""
import math
import statistics
import time
from pathlib import Path

from common import h, libc_of

STEP_S = 0.002
LATE_S = 0.005     # looks that are further apart may have missed the shortest slice
BLOCKS = 20        # of the runs, for the error: each left out in turn
PLACES_MAX = 3     # of all breakpoints; they are placed and taken one after the other
STILL_S = 0.02     # so long nothing was placed: all are there
BREAKPOINT = 0xCC
PAGE = 4096


def cpu_clock(pid):
    """include/linux/posix-timers_types.h: CPUCLOCK_SCHED of a process."""
    return ~pid << 3 | 2


class Breakpoints:
    """Those in a process's libc, found by comparing it with its file."""

    def __init__(self, pid):
        self.mem = open(f"/proc/{pid}/mem", "rb", buffering=0)
        self.parts = []
        path = libc_of(pid)
        text = Path(path).read_bytes()
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
            if line.endswith(path) and " r-xp " in line:
                (start, end), offset = (int(a, 16) for a in line.split()[0].split("-")), int(line.split()[2], 16)
                self.parts.append((start, text[offset:offset + end - start]))
        self.places = []

    def _all(self):
        found = []
        for start, text in self.parts:
            self.mem.seek(start)
            now = self.mem.read(len(text))
            h.check(len(now) == len(text), "the process has ended")
            for page in range(0, len(text), PAGE) if now != text else ():
                if now[page:page + PAGE] != text[page:page + PAGE]:
                    found += [start + i for i in range(page, min(page + PAGE, len(text))) if now[i] != text[i] and now[i] == BREAKPOINT]
        return found

    def find(self, seconds):
        """They come with the next slice. Once found they are known for good."""
        until = time.monotonic() + seconds
        while not self.places and time.monotonic() < until:
            found = self._all()
            time.sleep(STILL_S if found else STEP_S)
            if found and found == self._all():
                self.places = [found[i * (len(found) - 1) // (PLACES_MAX - 1)] for i in range(PLACES_MAX)]
        time.sleep(max(0, until - time.monotonic()))

    def any(self):
        for at in self.places:
            self.mem.seek(at)
            byte = self.mem.read(1)
            h.check(byte, "the process has ended")
            if byte[0] == BREAKPOINT:
                return True
        return False

    def close(self):
        self.mem.close()


class Sums:
    """Of pieces of time."""

    def __init__(self):
        self.wall = self.cpu = self.work = 0.0

    def add(self, a, b):
        self.wall += b[0] - a[0]
        self.cpu += b[1] - a[1]
        self.work += b[2] - a[2]

    def rate(self, per):
        return self.work / getattr(self, per) if getattr(self, per) > 0 else math.nan


def total(sums):
    all_of = Sums()
    for s in sums:
        all_of.wall += s.wall
        all_of.cpu += s.cpu
        all_of.work += s.work
    return all_of


class SliceLog:
    """work: a call that is cheap. points: that were found (borrowed). May run several times."""

    def __init__(self, pid, work, points):
        self.pid, self.work, self.points = pid, work, points
        self.pieces = []  # (all, outside) of each

    def cpu(self):
        return time.clock_gettime(cpu_clock(self.pid))

    def _look(self):
        return time.monotonic(), self.cpu(), self.work(), self.points.any()

    def run(self, seconds):
        """A piece of time, in which probes come and go."""
        every, outside, last = Sums(), Sums(), self._look()
        until = last[0] + seconds
        while last[0] < until:
            time.sleep(STEP_S)
            now = self._look()
            every.add(last, now)
            if not (now[3] or last[3]) and now[0] - last[0] < LATE_S:
                outside.add(last, now)
            last = now
        self.pieces.append((every, outside))

    def loss(self, per):
        """Per `wall` or `cpu`: (percent, its standard error); None: there was nothing outside."""
        def of(pieces):
            every, outside = total(e for e, _ in pieces), total(o for _, o in pieces)
            return (1 - every.rate(per) / outside.rate(per)) * 100

        n = min(BLOCKS, len(self.pieces))
        # Blocks of neighbours: what follows on one another is alike.
        parts = [[p for i, p in enumerate(self.pieces) if i * n // len(self.pieces) != k] for k in range(n)]
        if n < 2 or not all(total(o for _, o in part).work > 0 for part in parts):
            return None
        without = [of(part) for part in parts]
        mean = statistics.mean(without)
        return of(self.pieces), math.sqrt((n - 1) / n * sum((w - mean) ** 2 for w in without))
