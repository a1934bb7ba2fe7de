# SPDX-License-Identifier: GPL-2.0-or-later
"""
Sampled figures against the truth, over many runs of programs that know it: how far off the mean is, and how often the truth lies
within the stated standard error. Every run is a process; many of them are watched by one Tidemark. Of each run and site there are two
figures with an error of their own, total and live bytes; runs are independent, and sites nearly so.

A verdict of a short test must not be chance. Bounds below are such that a sound tool fails one of them in less than 2 of 1,000,000 runs of a check:
  bias       sum of (estimate - truth) / stated error over n figures, divided by sqrt(n): normal, beyond 5.5 in 4 of 10^8
  coverage   figures whose truth lies within 1.96 stated errors: binomial with 94.5 % (as small samples have it), less than 1 of 10^7
  spread     mean of the squares of those errors: chi-square / n, below its quantile of 10^-7, or above 1.25 times the one of 1 - 10^-7
             (the errors of few samples have longer tails than the normal distribution)
Each is held against total bytes and against live bytes, of a C++ and a Python program.
"""
import collections
import json
import math
from dataclasses import dataclass

import harness as h

FIGURES = {"total": ("alloc_bytes_total", "alloc_bytes_total_se", "alloc_bytes"), "live": ("live_bytes", "live_bytes_se", "live_bytes")}
CHANCE = 1e-7
BIAS = 5.5
QUANTILE = 5.199  # of the normal distribution at 1 - CHANCE


@dataclass
class Error:
    """One figure of one run."""
    program: str
    site: str
    truth: float
    estimate: float
    se: float

    @property
    def z(self):
        return (self.estimate - self.truth) / self.se if self.se else 0.0 if self.estimate == self.truth else math.inf

    @property
    def share(self):
        return (self.estimate - self.truth) / self.truth


class Results:
    """errors[figure]: one Error per run and site. counts: [(site, truth, estimate)] of blocks allocated."""

    def __init__(self):
        self.errors = {f: [] for f in FIGURES}
        self.counts = collections.defaultdict(list)
        self.runs = self.unknown = 0

    def add(self, program, truth, got):
        """got: {site: Counter}, see by_caller."""
        self.runs += 1
        for s in truth["sites"]:
            have = got.get(s["caller"], collections.Counter())
            for figure, (ours, var, theirs) in FIGURES.items():
                if math.isnan(have[ours]) or math.isnan(have[var]):
                    self.unknown += 1
                    continue
                self.errors[figure].append(Error(program, s["caller"], s[theirs], have[ours], math.sqrt(have[var])))
            self.counts[program, s["caller"]].append((s["alloc_count"], have["alloc_count_total"]))


def first_frame(stack):
    return h.frame_name(stack)


def python_function(stack):
    return next((f["name"] for f in stack["frames"] if f["kind"] == "python"), None)


def by_caller(interval, pid, name_of=first_frame):
    """{name: sums}; of standard errors the sums of squares. What is not known is NAN."""
    sums = collections.defaultdict(collections.Counter)
    for s in interval.stacks:
        if s["pid"] != pid or s["layer"] != "heap":
            continue
        to = sums[name_of(s)]
        for ours, se, _ in FIGURES.values():
            to[ours] += math.nan if s[ours] is None else s[ours]
            to[se] += math.nan if s[se] is None else s[se] ** 2
        to["alloc_count_total"] += s["alloc_count_total"]
    return sums


def options(sample_bytes, budget):
    if sample_bytes == 0:  # the tests' own arithmetic: no error at all is allowed
        return ["--mode", "exact"]
    return ["--mode", "auto", "--budget", str(budget), "--sample-bytes", str(sample_bytes)]


CUT_SHORT = 4  # calls of a process that a slice's end may meet, however long before it they began: their thread was waiting for a processor


def run_cpp(results, runs, sample_bytes, seed, budget=0, pause_us=0, seconds=1800):
    """Processes of tests/e2e/targets/sampled.cpp, one after the other; each is held against its last figures."""
    out = h.scratch() / "truth"
    argv = [*h.build("sampled"), out, runs, seed, pause_us]
    with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", *options(sample_bytes, budget), "--", *map(str, argv)) as tool:
        last, losses = {}, {}
        told, ticks = {}, 0  # pid: ticks when its truth was there

        def let_go():
            """Those of which a complete interval has shown all."""
            truths = out.read_text(encoding="utf-8") if out.exists() else ""
            for line in truths[:truths.rfind("\n") + 1].splitlines():
                pid = json.loads(line)["pid"]
                if ticks >= told.setdefault(pid, ticks) + 2:
                    out.with_name(f"{out.name}.{pid}").touch()

        def ended():
            nonlocal ticks
            tool.pump()
            ticks += len(tool.intervals)
            let_go()
            for i in tool.intervals:
                for p in i.procs:
                    last[p["pid"]] = by_caller(i, p["pid"])
                    losses[p["pid"]] = {k: n for k, n in p["losses"].items() if k not in h.FACTS and not (budget and k == "missed_return" and n <= CUT_SHORT)}
            tool.intervals.clear()
            return tool.p.poll() is not None

        h.wait_until(ended, seconds, f"{runs} runs", step=0.2)
        for t in tool.threads:
            t.join(5)
        ended()
        h.check_equal(tool.p.returncode, 0, f"exit code ({tool.errors().strip()})")
        faults = tool.checker.finish(ended=True)
        h.check(not faults, f"the JSON lines break the contract: {'; '.join(faults[:8])}")
        h.check(not any(losses.values()), f"losses {losses}")
    truths = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    h.check_equal(len(truths), runs, "runs that told the truth")
    for t in truths:
        h.check(t["pid"] in last, f"process {t['pid']} was never shown")
        results.add("c++", t, last[t["pid"]])


def run_python(results, runs, sample_bytes, seed, budget=0):
    """As many Python processes at once; they work one after the other."""
    program = h.ROOT / "tests/e2e/pytargets/sampled.py"
    targets = [h.Target([h.find_program("/usr/bin/python3"), program, seed + i]) for i in range(runs)]
    try:
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", *options(sample_bytes, budget), "-p",
                    ",".join(str(t.pid) for t in targets)) as tool:
            tool.until(lambda i: all((i.proc(t.pid) or {}).get("python") for t in targets), 20, "Python is recognised")
            truths = []
            for t in targets:
                t.send()
                truths.append(t.said("sampled"))
            interval = tool.fresh()
            for t, truth in zip(targets, truths):
                results.add("python", truth, by_caller(interval, t.pid, python_function))
            tool.finish()
    finally:
        for t in targets:
            t.end()


# --- verdicts ---

def binomial_low(n, p, chance):
    """The smallest k with P(X <= k) > chance."""
    total = 0.0
    for k in range(n + 1):
        total += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p))
        if total > chance:
            return k
    return n


def chi_square_share(n, quantile):
    """Quantile of chi-square / n (Wilson and Hilferty 1931)."""
    return (1 - 2 / (9 * n) + quantile * math.sqrt(2 / (9 * n))) ** 3


def covered(errors):
    return sum(abs(e.z) <= 1.96 for e in errors)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def own_error(values):
    """Standard error of the mean."""
    values = list(values)
    m = mean(values)
    return math.sqrt(sum((v - m) ** 2 for v in values) / max(len(values) - 1, 1) / len(values))


def check_quick(results):
    h.check(not results.unknown, f"{results.unknown} figures or their errors are not known")
    for figure, errors in results.errors.items():
        n, z = len(errors), [e.z for e in errors]
        bias, share, spread = sum(z) / math.sqrt(n), covered(errors), mean(v * v for v in z)
        low, high = chi_square_share(n, -QUANTILE), 1.25 * chi_square_share(n, QUANTILE)
        print(f"     {figure} bytes, {n} figures of {results.runs} runs: bias {bias:+.2f} (beyond {BIAS}), covered {share / n:.1%} "
              f"(below {binomial_low(n, .945, CHANCE) / n:.1%}), spread {spread:.2f} (outside {low:.2f} to {high:.2f})")
        h.check(abs(bias) < BIAS, f"{figure} bytes are off in the mean by {bias:.1f} of their errors; "
                f"worst {max(errors, key=lambda e: abs(e.z))}")
        h.check(share >= binomial_low(n, .945, CHANCE), f"{figure} bytes: the truth lies within the stated error in {share} of {n} cases only")
        h.check(low < spread < high, f"{figure} bytes: errors squared are {spread:.2f} of what is stated")


def check_exact(results):
    wrong = [e for errors in results.errors.values() for e in errors if e.estimate != e.truth or e.se]
    h.check(not wrong, f"without sampling there is no error, but: {wrong[:3]}")
