#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The long form of tests/e2e/test_sampled_totals.py: sampled figures of many runs against the truth, one line per site. Needs root.

  sampled.py [--runs 200] [--sample-bytes 2048] [--python-runs 100] [--budget 0] [--pause-us 0] [--seed N]
  sampled.py --budget 2 --pause-us 120000 --python-runs 0      programs that take 60 s, observed for a part of the time

mean error   of the estimates, in percent of the truth, and its own standard error: no bias if the first is within some of the second
spread       of the estimates around the truth, in percent of it; stated: what Tidemark says it is
covered      share of runs whose truth lies within 1.96 stated errors: 95 % if they are right
Exit code 1 if the mean error of all sites is above 0.5 % or not within 4 of its own errors, or less than 93 % or more than 97 % is covered.
"""
import argparse
import collections
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
import harness as h  # noqa: E402
import sampled  # noqa: E402

AT_ONCE = 4  # programs with pauses: each takes 30 % of a processor
HEAD = f"{'program':8} {'site':15} {'figure':6} {'runs':>5} {'truth':>14} {'mean error':>11} {'own error':>10} {'spread':>8} {'stated':>8} {'covered':>8}"


def percent(x):
    return f"{100 * x:.3f} %"


def row(program, site, figure, errors):
    share = [e.share for e in errors]
    spread = math.sqrt(sampled.mean(v * v for v in share))
    stated = math.sqrt(sampled.mean((e.se / e.truth) ** 2 for e in errors))
    print(f"{program:8} {site:15} {figure:6} {len(errors):5} {sampled.mean(e.truth for e in errors):14.0f} {100 * sampled.mean(share):+9.3f} % "
          f"{percent(sampled.own_error(share)):>10} {percent(spread):>8} {percent(stated):>8} {100 * sampled.covered(errors) / len(errors):6.1f} %",
          flush=True)


def whole(errors, runs):
    """All sites of one run together: their errors are independent of each other."""
    by_run = [errors[i::runs] for i in range(runs)]  # they stand site by site, run by run
    return [sampled.Error(e[0].program, "all", sum(x.truth for x in e), sum(x.estimate for x in e), math.sqrt(sum(x.se ** 2 for x in e)))
            for e in by_run]


def report(results):
    faults = []
    print(HEAD)
    programs = sorted({e.program for e in results.errors["total"]})
    for program in programs:
        for figure, every in results.errors.items():
            by_site = collections.defaultdict(list)
            for e in every:
                if e.program == program:
                    by_site[e.site].append(e)
            for site, errors in by_site.items():
                row(program, site, figure, errors)
            runs = len(next(iter(by_site.values())))
            if len({len(site) for site in by_site.values()}) == 1:
                row(program, "all", figure, whole([e for site in by_site.values() for e in site], runs))
            faults += verdict(program, figure, by_site)
        for (p, site), counts in results.counts.items():
            if p == program:
                share = [got / want - 1 for want, got in counts]
                print(f"{program:8} {site:15} blocks {len(counts):5} {sampled.mean(w for w, _ in counts):14.0f} {100 * sampled.mean(share):+9.3f} % "
                      f"{percent(sampled.own_error(share)):>10}")
                if abs(sampled.mean(share)) > 4 * sampled.own_error(share) + 1e-4:
                    faults.append(f"{program} {site}: number of blocks off by {percent(sampled.mean(share))}")
    return faults


def verdict(program, figure, by_site):
    """Sites weigh the same: the one with the 64 MiB blocks would hide all others in a sum of bytes."""
    errors = [e for site in by_site.values() for e in site]
    bias, own = sampled.mean(e.share for e in errors), sampled.own_error(e.share for e in errors)
    covered, n = sampled.covered(errors) / len(errors), len(errors)
    print(f"{program}, {figure} bytes, {n} figures: mean error {100 * bias:+.3f} % (own error {100 * own:.3f} %), covered {100 * covered:.2f} % "
          f"(own error {100 * math.sqrt(covered * (1 - covered) / n):.2f} %)")
    if abs(bias) > .005:
        yield f"{program} {figure}: mean error {percent(bias)}"
    if abs(bias) > 4 * own:
        yield f"{program} {figure}: mean error {percent(bias)} is not chance ({percent(own)})"
    if not .93 <= covered <= .97:
        yield f"{program} {figure}: covered {percent(covered)}"
    for site, e in by_site.items():
        share = [x.share for x in e]
        if abs(sampled.mean(share)) > 4 * sampled.own_error(share) + 2.1e-5:
            yield f"{program} {figure} {site}: mean error {percent(sampled.mean(share))} is not chance"


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--runs", type=int, default=200)
    a.add_argument("--python-runs", type=int, default=100)
    a.add_argument("--sample-bytes", type=int, default=2048)
    a.add_argument("--budget", type=float, default=0)
    a.add_argument("--pause-us", type=int, default=0)
    a.add_argument("--seed", type=int, default=int(time.time()) % 1000000)
    a = a.parse_args()
    h.need_root()
    results = sampled.Results()
    print(f"seed {a.seed}, sample-bytes {a.sample_bytes}, budget {a.budget:g} %, {a.pause_us} us between 500 parts", flush=True)
    at_once = AT_ONCE if a.pause_us else max(a.runs, 1)
    for begin in range(0, a.runs, at_once):
        sampled.run_cpp(results, min(at_once, a.runs - begin), a.sample_bytes, a.seed + begin, a.budget, a.pause_us)
    for begin in range(0, a.python_runs, 20):
        sampled.run_python(results, min(20, a.python_runs - begin), 4 * a.sample_bytes, a.seed + begin, a.budget)
    faults = report(results)
    if results.unknown:
        print(f"{results.unknown} figures or their errors were not known")
    print("\n".join(f"WRONG {f}" for f in faults) or "all within their bounds")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
