#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Attaching and detaching again and again, in all modes, ended by a signal at random moments, also by SIGKILL: does the target live, work and
answer in time? It times its own rounds, while a neighbour loads the machine's allocator as well.
"""
import os
import random
import select
import signal
import statistics
import time

from common import Observer, Spoken, against, h, libc_of, main, own_libc, spread

LOOPS = 1000
LOOK_EVERY = 10     # loops between two looks at the target
LATENCY_MS = 50
STUCK_S = 5
MODES = ((), ("--mode", "exact"), ("--mode", "auto", "--budget", "0"), ("--budget", "1"), ("--mode", "pages"))


class Stuck(h.Failure):
    """A thread of the target does not go on."""


class Target(Spoken):
    """Its rounds since the look before."""
    FIGURES = ("rounds", "p50", "p999", "most", "stalled", "least_of_a_thread")

    def __init__(self, threads, env):
        super().__init__("latency", threads, env=env)

    def look(self):
        self.send()
        if not select.select([self.answers], [], [], STUCK_S)[0]:
            raise Stuck(f"the target does not answer within {STUCK_S} s")
        return dict(zip(self.FIGURES, map(int, self.hear().split())))

    def works(self):
        """Every thread makes rounds. Returns the figures of the time before."""
        figures = self.look()
        looks = [figures]

        def all_moved():
            looks.append(self.look())
            return looks[-1]["least_of_a_thread"] > 0

        try:
            h.wait_until(all_moved, STUCK_S, "every thread of the target makes a round", step=0.05)
        except h.Failure as e:
            raise Stuck(str(e)) from e
        return dict(figures, rounds=sum(l["rounds"] for l in looks), **{k: max(l[k] for l in looks) for k in ("most", "stalled")})


def loop_once(target, env, mode, chance):
    """One life of Tidemark: ended while it attaches, or after the first table."""
    sig = chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGKILL))
    with Observer("-p", target.pid, *mode, "-i", "0.2", env=env) as tool:
        if chance.random() < 0.5:
            tool.attached()
        time.sleep(chance.uniform(0, 0.3))
        tool.alive()
        tool.end(sig)


def bare_look(target, seconds):
    time.sleep(seconds)
    return target.works()


def print_looks(report, label, looks, bar=None):
    ms = 1e-6
    report.row(f"{label}: longest round, ms", *spread([l["most"] for l in looks], 2, ms),
               remark=against(bar, max(l["most"] for l in looks) * ms) if bar else "")
    report.row(f"{label}: longest, less its wait for a processor, ms", *spread([l["stalled"] for l in looks], 2, ms))
    report.row(f"{label}: 99.9th percentile, ms", *spread([l["p999"] for l in looks], 2, ms))
    report.row(f"{label}: median, ms", *spread([l["p50"] for l in looks], 3, ms), remark=f"{sum(l['rounds'] for l in looks):,} rounds")


def attach(report, settings):
    loops, env, chance = settings.count(LOOPS, 10), own_libc(), random.Random(settings.seed)
    with Target(4, env) as target, Spoken("paced", 20000, 1000, env=env):
        bare_look(target, 0.5)
        bare, attached, stuck, done = [], [], 0, 0
        loops_s = 0.0
        while done < loops and target.p.poll() is None:
            began = time.monotonic()
            try:
                for _ in range(min(LOOK_EVERY, loops - done)):
                    loop_once(target, env, MODES[done % len(MODES)], chance)
                    done += 1
                attached.append(target.works())
            except h.Failure as e:
                report.note(f"after {done} loops: {e}")
                if target.p.poll() is None and not isinstance(e, Stuck):
                    raise
                stuck += target.p.poll() is None
                break
            took = time.monotonic() - began
            loops_s += took
            bare.append(bare_look(target, took))  # as long: the longest of twice as many rounds is longer
        crashed = target.p.poll() is not None
        left = [] if crashed else h.patched_bytes(target.pid, only=os.path.dirname(libc_of(target.pid)))
    report.section(f"7. Attach and detach, {done} of {loops} times under load (looks of {LOOK_EVERY} each, bare ones between)", "least", "median", "most")
    if bare:
        print_looks(report, "bare", bare)
        print_looks(report, "while it comes and goes", attached, LATENCY_MS)
        report.row("slow-down of the median", "", f"{statistics.median(l['p50'] for l in attached) / statistics.median(l['p50'] for l in bare):.2f}")
    report.row("targets crashed", "", str(int(crashed)), remark=against(0, crashed))
    report.row("targets stuck", "", str(stuck), remark=against(0, stuck))
    report.row("bytes of the C library's code still changed", "", str(len(left)), remark=against(0, len(left)))
    report.row("seconds per loop", "", f"{loops_s / max(1, done):.2f}")


if __name__ == "__main__":
    main(attach)
