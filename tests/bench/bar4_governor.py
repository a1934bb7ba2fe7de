#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Is the budget kept? On each program Tidemark is attached for a while with one budget, detached, attached with the next; the program's own counter of
what it has done says what it lost against the bare phases before and after. Beside it what Tidemark itself says (proc.overhead_pct, weighted
by the processor time that each process used meanwhile). Loss counts Tidemark's own processor time too, where the program would have used it; loss
per processor second of the program does not.
"""
import statistics
import time

import services
from common import Observer, cpu_seconds, each_part, h, in_turn, main, own_libc, spread

BUDGETS = (1, 2, 5, 10)
HELD = 1.25       # times the budget
AGREES = 1.3      # times, either way
SETTLE_S = 4      # after the attach: the governor's first intervals
RECOVER_S = 1     # after the detach
CYCLE_S = (3, 3)  # idle, storm
LOOK_S = 0.5


class CpuLog:
    """The processor time of processes, sampled: for the weights of what is said per interval."""

    def __init__(self, pids):
        self.pids, self.samples = pids, []

    def run(self, seconds):
        until = time.monotonic() + seconds
        while True:
            self.samples.append((time.time(), {p: cpu_seconds(p)[0] for p in self.pids}))
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(LOOK_S, left))

    def at(self, ts, pid):
        """In between, by a straight line."""
        before = [s for s in self.samples if s[0] <= ts] or self.samples[:1]
        after = [s for s in self.samples if s[0] > ts] or self.samples[-1:]
        (t0, c0), (t1, c1) = before[-1], after[0]
        share = (ts - t0) / (t1 - t0) if t1 > t0 else 0
        return c0[pid] + (c1[pid] - c0[pid]) * min(max(share, 0), 1)

    def used(self):
        return sum(self.samples[-1][1][p] - self.samples[0][1][p] for p in self.pids)


def said_overhead(tool, log):
    """The mean of overhead_pct by used processor time. None: nothing said."""
    ticks = [t["ts"] for t in tool.of("tick")]
    weights = total = 0.0
    for p in tool.of("proc"):
        last = max((t for t in ticks if t < p["ts"]), default=None)
        if p["pid"] not in log.pids or p["overhead_pct"] is None or last is None or last < log.samples[0][0]:
            continue
        used = log.at(p["ts"], p["pid"]) - log.at(last, p["pid"])
        weights += used
        total += used * p["overhead_pct"]
    return total / weights if weights > 0 else None


class Subject:
    """One running, loaded program."""

    def __init__(self, service, settings, whole=0):
        """whole: phases take a multiple of so many seconds."""
        self.service = service
        seconds = settings.seconds(20)
        self.seconds = max(1, round(seconds / whole)) * whole if whole else seconds
        self.settle_s, self.said, self.how = settings.seconds(SETTLE_S), {b: [] for b in BUDGETS}, {}

    def phase(self):
        log = CpuLog(self.service.pids())
        work, began = self.service.work(), time.monotonic()
        log.run(self.seconds)
        work, took = self.service.work() - work, time.monotonic() - began
        self.service.check_alive()
        h.check(work, f"{self.service.name} does nothing")
        return log, {"per_s": work / took, "per_cpu_s": work / max(log.used(), 0.01)}

    def bare(self):
        time.sleep(RECOVER_S)
        return self.phase()[1]

    def observed(self, budget):
        with Observer("-p", self.service.pid, "--budget", budget, env=self.service.env).attached() as tool:
            time.sleep(self.settle_s)
            log, figures = self.phase()
            tool.end()
        self.said[budget].append(said_overhead(tool, log))
        self.how[budget] = tool.how(max(log.pids, key=lambda p: log.samples[-1][1][p]))
        return figures


def verdict(budget, losses, said, noise_pct):
    """Loss against the budget, and the estimate against the loss; what is smaller than the noise has not been measured."""
    loss = statistics.median(losses)
    words = [f"bar <= {HELD * budget:g} %: {'met' if loss <= HELD * budget else 'MISSED'}"]
    known = [s for s in said if s is not None]
    if not known:
        return words + ["says nothing of its cost"]
    estimate = statistics.median(known)
    if max(loss, estimate) <= noise_pct:
        return words + [f"says {estimate:.2f} %: both within the noise of {noise_pct:.2f} %"]
    ratio = estimate / loss if loss > 0 else float("inf")
    if 1 / AGREES <= ratio <= AGREES:
        agrees = "met"
    else:
        agrees = "within the noise" if abs(estimate - loss) <= noise_pct else "MISSED"
    return words + [f"says {estimate:.2f} %, {ratio:.2f} of the loss (bar {AGREES:g} either way: {agrees})"]


def losses_of(turns, budget, figure):
    return [(1 - r) * 100 for r in turns.ratios(budget, figure)]


def hold(report, subject, title, rounds):
    turns = in_turn(subject.bare, {b: lambda b=b: subject.observed(b) for b in BUDGETS}, rounds)
    report.section(f"4. {title}: loss of throughput in % by budget ({rounds} rounds in turn, {subject.seconds:g} s each)", "least", "median", "most",
                   "per CPU s")
    noise = [(1 - r) * 100 for r in turns.noise("per_s")]
    noise_pct = statistics.median(map(abs, noise)) if noise else 0.0
    report.row("noise: bare against the bare phases beside it", *spread(noise, 2),
               f"{statistics.median([(1 - r) * 100 for r in turns.noise('per_cpu_s')] or [0]):.2f}",
               remark=f"{statistics.median(turns.bare_values('per_s')):,.0f} per second bare")
    for b in BUDGETS:
        losses = losses_of(turns, b, "per_s")
        if not losses:
            report.row(f"--budget {b}", remark=f"not measured: {turns.why_not(b)}")
            continue
        report.row(f"--budget {b}", *spread(losses, 2), f"{statistics.median(losses_of(turns, b, 'per_cpu_s')):.2f}",
                   remark="; ".join(verdict(b, losses, subject.said[b], noise_pct) + [subject.how[b]]))
    turns.check()


def governor(report, settings):
    env = own_libc()
    rounds = settings.rounds(5)
    subjects = (("Flask under wrk", lambda: services.Flask(env), 0), ("redis under redis-benchmark", lambda: services.Redis(env), 0),
                ("a storm of malloc in 8 threads", lambda: services.Storm(env), 0),
                (f"idle {CYCLE_S[0]} s, storm {CYCLE_S[1]} s", lambda: services.Storm(env, 8, *CYCLE_S), sum(CYCLE_S)))

    def one(title, make, whole):
        with make() as service:
            service.load_steadily()
            service.wait_for(lambda: service.work() > 0, "the load begins")
            hold(report, Subject(service, settings, whole), title, rounds)

    each_part(report, {s[0]: lambda s=s: one(*s) for s in subjects})


if __name__ == "__main__":
    main(governor)
