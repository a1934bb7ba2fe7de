#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the calibration takes, and whether what it expects of a pair of malloc and free is what a program then pays."""
import json
import os
import re
import statistics
import subprocess

from common import TOOL, Observer, Pair, against, h, main, own_libc, spread

BAR_MS = 150
WITHIN = 1.3  # times more or less


def measured_anew(pid):
    """A start without kept figures: the milliseconds that it took, and what a pair is expected to cost."""
    kept = h.scratch("tidemark-costs-")
    env = dict(os.environ, TIDEMARK_COSTS_DIR=str(kept), TIDEMARK_DEBUG="1")
    done = subprocess.run([TOOL, "probes", "-f", "json", "-p", str(pid)], capture_output=True, text=True, timeout=60, env=env, check=True)
    took = re.search(r"costs of hits: measured in ([0-9.]+) ms", done.stderr)
    h.check(took, f"nothing was measured: {done.stderr.strip()}")
    rows = {r["symbol"]: r for r in map(json.loads, done.stdout.splitlines()) if r["type"] == "probe" and r["planned"]}
    return float(took[1]), rows["malloc"]["call_ns"] + rows["free"]["call_ns"]


def paid(target, env):
    bare = target.measure()["cpu"]
    with Observer("-p", target.pid, "--mode", "exact", "--layer", "heap", env=env).attached() as tool:
        cost = target.measure()["cpu"] - bare
        tool.end()
    return cost


def calibrate(report, settings):
    env = own_libc()
    target = Pair(env)
    try:
        turns = [(*measured_anew(target.pid), paid(target, env)) for _ in range(settings.rounds(9))]
    finally:
        target.end()
    took, ratios = [t[0] for t in turns], [t[1] / t[2] for t in turns]
    report.section("Calibration", "least", "median", "most")
    report.row("takes, ms", *spread(took), remark=against(BAR_MS, statistics.median(took), unit=" ms"))
    report.row("a pair that is counted: expected, ns", *spread([t[1] for t in turns], 0))
    report.row("paid, ns", *spread([t[2] for t in turns], 0))
    middle = statistics.median(ratios)
    report.row("expected / paid", *spread(ratios, 2), remark=against(WITHIN, max(middle, 1 / middle)))


if __name__ == "__main__":
    main(calibrate)
