#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
kill -9 at random moments: what a pair of malloc and free costs before, while attached and after, and how long after the kill a probe is felt. And
how soon Tidemark ends that is told to.
"""
import random
import signal
import statistics
import threading
import time

from common import Observer, Pair, against, h, libc_of, main, own_libc, spread

END_MS = 2000  # a second, and the detach


class Timeline(threading.Thread):
    """The target works without a pause; every short round is kept with when it began and ended."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target, self.go, self.rounds, self.error = target, True, [], None

    def run(self):
        try:
            while self.go:
                began = time.monotonic()
                wall, cpu = self.target.run(5000)
                self.rounds.append((began, time.monotonic(), wall, cpu))
        except h.Failure as e:
            self.error = e

    def between(self, first, last):
        return [ns for began, ended, ns, _ in self.rounds if began >= first and ended <= last]


    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.go = False
        self.join(30)


def kill_once(target, env, moment):
    """One life of Tidemark."""
    born = time.monotonic()
    with Timeline(target) as timeline:
        time.sleep(0.2)
        with Observer("-p", target.pid, "--mode", "exact", env=env) as tool:
            started = time.monotonic()
            time.sleep(moment)
            tool.alive()
            killed = time.monotonic()
            tool.end(signal.SIGKILL)
        gone = time.monotonic()
        time.sleep(0.3)
        left = len(h.patched_bytes(target.pid, only=libc_of(target.pid)))
        ended = time.monotonic()
    h.check(not timeline.error and target.p.poll() is None, "the target did not outlive the kill")
    # Ticks tell Unix time.
    attached = next((t["ts"] - time.time() + time.monotonic() for t in tool.of("tick")), None)
    before = statistics.median(timeline.between(born, started))
    # By its processor time: a round that waited for a processor is not a slow one.
    felt = [at - killed for _, at, _, ns in timeline.rounds if at > killed and ns > 5 * before]
    return {"before": before, "while": timeline.between(attached, killed) if attached else [],
            "after": statistics.median(timeline.between(gone, ended)), "felt": max(felt, default=0), "left": left}


def told_to_end(target, env, sig):
    """From the signal to the end of the process, seconds: of a target that does not stop."""
    with Timeline(target), Observer("-p", target.pid, "--mode", "exact", env=env).attached() as tool:
        began = time.monotonic()
        tool.process.kill(sig)
        tool.process.wait(30, "tidemark")
        took = time.monotonic() - began
        tool.end()
    return took


def kill(report, settings):
    env, chance, kills = own_libc(), random.Random(settings.seed), settings.count(10, 2)
    with Pair(env) as target:
        lives = [kill_once(target, env, chance.uniform(0.02, 2.0)) for _ in range(kills)]
        ends = [told_to_end(target, env, sig) for _ in range(settings.count(5, 1)) for sig in (signal.SIGINT, signal.SIGTERM)]
    report.section(f"kill -9 at {kills} random moments, a pair in ns", "least", "median", "most")
    report.row("before", *spread([l["before"] for l in lives]))
    attached = [statistics.median(l["while"]) for l in lives if l["while"]]
    if attached:
        report.row(f"while attached ({len(attached)} of them)", *spread(attached))
    report.row("afterwards", *spread([l["after"] for l in lives]))
    report.row("afterwards / before", *spread([l["after"] / l["before"] for l in lives], 2))
    report.row("last slow round ended after the kill, ms", *spread([l["felt"] for l in lives], 1, 1000))
    report.row("bytes of the C library's code still changed", *spread([l["left"] for l in lives], 0))
    report.row("told to end by SIGINT or SIGTERM: ended after, ms", *spread(ends, 0, 1000),
               remark=against(END_MS, 1000 * statistics.median(ends), unit=" ms"))


if __name__ == "__main__":
    main(kill)
