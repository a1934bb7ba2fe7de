#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Is the budget kept? On each program Tidemark is attached for a while with one budget, detached, attached with the next. What it cost says the program's own
counter of what it has done, in two ways: within slices against outside (slices.py: minutes of drift don't matter; per processor second, which is what the
budget is a share of), and against bare phases before and after, where all counts that Tidemark does, and the machine's drift. Beside it what Tidemark
itself says (proc.overhead_pct, weighted by the processor time that was used meanwhile).
"""
import statistics
import time

import services
from common import Observer, each_part, h, in_turn, main, own_libc, spread
from slices import Breakpoints, SliceLog

BUDGETS = (10, 5, 2, 1)
HELD = 1.25       # times the budget
AGREES = 1.3      # times, either way
SETTLE_S = 6      # after the attach: the governor's first intervals
RECOVER_S = 1     # after the detach
CYCLE_S = (3, 3)  # idle, storm
LOOK_S = 0.5


def said_overhead(tool, pid, times):
    """The mean of overhead_pct by processor time; times: [(clock, processor time)] before and after. None: nothing said."""
    ticks = [t["ts"] for t in tool.of("tick")]
    (began, _), (ended, _) = times[0], times[-1]

    def used(ts):
        """In between, by a straight line."""
        (t0, c0), (t1, c1) = max((t for t in times if t[0] <= ts), default=times[0]), min((t for t in times if t[0] > ts), default=times[-1])
        return c0 + (c1 - c0) * (min(max((ts - t0) / (t1 - t0), 0), 1) if t1 > t0 else 0)

    weights = total = 0.0
    for p in tool.of("proc", pid):
        last = max((t for t in ticks if t < p["ts"]), default=None)
        if p["overhead_pct"] is None or last is None or last < began or p["ts"] > ended:
            continue
        weights += used(p["ts"]) - used(last)
        total += (used(p["ts"]) - used(last)) * p["overhead_pct"]
    return total / weights if weights > 0 else None


class Subject:
    """One running, loaded program."""

    def __init__(self, service, settings, whole=0):
        """whole: phases take a multiple of so many seconds."""
        self.service = service
        seconds = settings.seconds(20)
        self.seconds = max(1, round(seconds / whole)) * whole if whole else seconds
        self.settle_s, self.said, self.how = settings.seconds(SETTLE_S), {b: [] for b in BUDGETS}, {}
        self.points = Breakpoints(service.busy())
        self.logs = {b: self.log() for b in BUDGETS}

    def log(self):
        return SliceLog(self.service.busy(), self.service.work_often, self.points)

    def phase(self, run):
        """run: a call that takes as long as the phase."""
        log = self.log()
        work, cpu, began = self.service.work(), log.cpu(), time.monotonic()
        run()
        work, took = self.service.work() - work, time.monotonic() - began
        self.service.check_alive()
        h.check(work, f"{self.service.name} does nothing")
        return {"per_s": work / took, "per_cpu_s": work / max(log.cpu() - cpu, 0.01)}

    def bare(self):
        """The same looks as beside the observed ones: they take time, too."""
        log = self.log()
        time.sleep(RECOVER_S)
        return self.phase(lambda: log.run(self.seconds))

    def observed(self, budget):
        log, times = self.logs[budget], []

        def run():
            for _ in range(max(1, round(self.seconds / LOOK_S))):
                times.append((time.time(), log.cpu()))
                log.run(LOOK_S)
            times.append((time.time(), log.cpu()))

        with Observer("-p", self.service.pid, "--budget", budget, env=self.service.env).attached() as tool:
            self.points.find(self.settle_s)
            h.check(self.points.places, f"no breakpoint was seen in {self.service.name} for {self.settle_s:g} s")
            figures = self.phase(run)
            tool.end()
        said = said_overhead(tool, log.pid, times)
        self.said[budget] += [said] if said is not None else []
        self.how[budget] = tool.how(log.pid)
        return figures


def verdict(budget, loss, error, said):
    """Loss against the budget, and the estimate against the loss. Beyond the bar, but within twice the error, it is not missed for sure."""
    held = loss <= HELD * budget
    words = [f"bar <= {HELD * budget:g} %: {'met' if held else 'MISSED' if loss - 2 * error > HELD * budget else 'within the error'}"]
    if not said:
        return words + ["says nothing of its cost"]
    estimate = statistics.mean(said)
    low, high = estimate / AGREES, estimate * AGREES
    if low <= loss <= high:
        agrees = "met"
    else:
        agrees = "within the error" if low - 2 * error <= loss <= high + 2 * error else "MISSED"
    return words + [f"says {estimate:.2f} % (bar {AGREES:g} times either way: {agrees})"]


def losses_of(turns, budget, figure):
    return [(1 - r) * 100 for r in turns.ratios(budget, figure)]


def hold(report, subject, title, rounds):
    turns = in_turn(subject.bare, {b: lambda b=b: subject.observed(b) for b in BUDGETS}, rounds)
    report.section(f"4. {title}: what is lost, in % ({rounds} rounds in turn, {subject.seconds:g} s each)", "in slices", "error", "bare, CPU s", "bare, wall")
    noise = {f: [(1 - r) * 100 for r in turns.noise(f)] or [0] for f in ("per_cpu_s", "per_s")}
    report.row("noise: bare against the bare phases beside it", "", "", *(f"{min(v):.1f}..{max(v):.1f}" for v in noise.values()),
               remark=f"{statistics.median(turns.bare_values('per_s')):,.0f} per second bare")
    for b in BUDGETS:
        losses, measured = losses_of(turns, b, "per_s"), subject.logs[b].loss("cpu")
        if not losses:
            report.row(f"--budget {b}", remark=f"not measured: {turns.why_not(b)}")
            continue
        # Without an outside (always attached) there are only the bare phases.
        by_turns = losses_of(turns, b, "per_cpu_s")
        loss, error = measured or (statistics.median(by_turns), max(map(abs, noise["per_cpu_s"])))
        report.row(f"--budget {b}", f"{loss:.2f}", f"{error:.2f}", spread(losses_of(turns, b, "per_cpu_s"), 2)[1], spread(losses, 2)[1],
                   remark="; ".join(verdict(b, loss, error, subject.said[b]) + [subject.how[b]]))
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
            subject = Subject(service, settings, whole)
            try:
                hold(report, subject, title, rounds)
            finally:
                subject.points.close()

    each_part(report, {s[0]: lambda s=s: one(*s) for s in subjects})


if __name__ == "__main__":
    main(governor)
