#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Attaching and detaching again and again, in all modes, ended by a signal at random moments, also by SIGKILL: does the target live, work and
answer in time? It times its own rounds, while a neighbour loads the machine's allocator as well.
"""
import os
import random
import signal
import statistics
import time

from common import Observer, Spoken, against, h, libc_of, main, own_libc, spread

LOOPS = 1000
LOOK_EVERY = 10     # loops between two looks at the target
LATENCY_MS = 50
STUCK_S = 5
MODES = ((), ("--mode", "exact"), ("--mode", "auto", "--budget", "0"), ("--budget", "1"), ("--mode", "pages"))


class Target(Spoken):
    """Its rounds since the look before."""
    FIGURES = ("rounds", "p50", "p999", "most", "least_of_a_thread")

    def __init__(self, threads, env):
        super().__init__("latency", threads, env=env)

    def look(self):
        self.send()
        return dict(zip(self.FIGURES, map(int, self.hear().split())))

    def works(self):
        """Every thread makes rounds. Returns the figures of the time before."""
        figures = self.look()
        most = [figures["most"]]

        def all_moved():
            now = self.look()
            most.append(now["most"])
            moved[0] += now["rounds"]
            return now["least_of_a_thread"] > 0

        moved = [0]
        h.wait_until(all_moved, STUCK_S, "every thread of the target makes a round", step=0.05)
        return dict(figures, most=max(most), rounds=figures["rounds"] + moved[0])


def loop_once(target, env, mode, chance):
    """One life of Tidemark: ended while it attaches, or after the first table."""
    sig = chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGKILL))
    with Observer("-p", target.pid, *mode, "-i", "0.2", env=env) as tool:
        if chance.random() < 0.5:
            tool.attached()
        time.sleep(chance.uniform(0, 0.3))
        h.check(tool.process.p.poll() is None, f"tidemark {' '.join(mode)} ended with {tool.process.p.returncode}: {tool.process.errors().strip()}")
        tool.end(sig)


def bare_looks(target, n, seconds):
    looks = []
    for _ in range(n):
        time.sleep(seconds)
        looks.append(target.works())
    return looks


def print_looks(report, label, looks, bar=None):
    ms = 1e-6
    report.row(f"{label}: longest round, ms", *spread([l["most"] for l in looks], 2, ms),
               remark=against(bar, max(l["most"] for l in looks) * ms) if bar else "")
    report.row(f"{label}: 99.9th percentile, ms", *spread([l["p999"] for l in looks], 2, ms))
    report.row(f"{label}: median, ms", *spread([l["p50"] for l in looks], 3, ms), remark=f"{sum(l['rounds'] for l in looks):,} rounds")


def attach(report, settings):
    loops, env, chance = settings.count(LOOPS, 10), own_libc(), random.Random(settings.seed)
    with Target(4, env) as target, Spoken("paced", 20000, 1000, env=env):
        bare_looks(target, 1, 0.5)
        bare, attached, stuck, done = [], [], 0, 0
        began = time.monotonic()
        while done < loops and target.p.poll() is None:
            bare += bare_looks(target, 1, settings.seconds(3))
            for _ in range(min(LOOK_EVERY, loops - done)):
                loop_once(target, env, MODES[done % len(MODES)], chance)
                done += 1
            try:
                attached.append(target.works())
            except h.Failure:
                stuck += 1
                break
        per_loop = (time.monotonic() - began) / max(1, done)
        crashed = target.p.poll() is not None
        left = [] if crashed else h.patched_bytes(target.pid, only=os.path.dirname(libc_of(target.pid)))
    report.section(f"7. Attach and detach, {done} of {loops} times under load (looks of {LOOK_EVERY} each, bare ones between)", "least", "median", "most")
    print_looks(report, "bare", bare)
    if attached:
        print_looks(report, "while it comes and goes", attached, LATENCY_MS)
        report.row("slow-down of the median", "", f"{statistics.median(l['p50'] for l in attached) / statistics.median(l['p50'] for l in bare):.2f}")
    report.row("targets crashed", "", str(int(crashed)), remark=against(0, crashed))
    report.row("targets stuck", "", str(stuck), remark=against(0, stuck))
    report.row("bytes of the C library's code still changed", "", str(len(left)), remark=against(0, len(left)))
    report.row("seconds per loop", "", f"{per_loop:.2f}")


if __name__ == "__main__":
    main(attach)
