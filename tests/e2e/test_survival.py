#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What became of blocks that were sampled while the probes were in place: the allocator's bookkeeping read from outside, and what survival makes of it, against
a program that knows what lives. Comparison is made by tests/drive/survival.c, which reads that program's table while it is stopped.
"""
import json
import math
import subprocess

import harness as h

SITES = ("leak", "cache", "churn")


def drive(mode, program, threads, *args, seconds=90):
    with h.Target([h.build(program)[0], threads]) as target:
        ready = target.said("ready")
        argv = [h.build("drive_survival")[0], mode, target.pid, ready["table"], ready["records"], *ready["sites"], *args]
        run = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=seconds, check=False)
        h.check(run.returncode == 0, f"{mode} of {program}: exit {run.returncode}: {run.stderr.strip()}")
        return [json.loads(line) for line in run.stdout.splitlines()]


def occupied(program, threads):
    """Of the stopped program every answer is right; of the running one no block that lives is called dead."""
    lines = drive("occupied", program, threads, 3)
    for d in lines:
        what = f"{program} with {threads} threads: {d}"
        h.check(d["live"] > 1000 and d["dead"] > 500 and d["chunks"] > 20000, f"too little to compare: {what}")
        h.check_equal(d["live_called_dead"], 0, what)
        h.check(d["live_unknown"] <= d["live"] / 50, what)
        if d["tag"] == "stopped":
            # each thread may have been stopped in the middle of a call
            h.check(d["dead_called_used"] <= threads and d["live_unknown"] <= threads and d["dead_unknown"] <= threads, what)
        else:
            h.check(d["dead_called_used"] <= d["dead"] / 50, what)
    print(f"     {program}, {threads} threads: " + ", ".join(f"{d['tag']} {d['live']}+{d['dead']} in {d['cpu_ms']} ms" for d in lines))


def walk_one_thread():
    occupied("survive", 1)


def walk_threads():
    occupied("survive", 3)


def walk_static():
    occupied("survive_static", 2)


def sigmas(site):
    return (site["live_bytes"] - site["truth_bytes"]) / (site["se"] + 1)


def compare(looks, rate):
    h.check(all(d["looked"] == 1 and d["unknown"] <= d["blocks"] / 50 for d in looks), f"looks: {looks}")
    h.check(sum(d["controls"] for d in looks) > 100, f"controls: {[d['controls'] for d in looks]}")
    for name in SITES:
        sites = [d[name] for d in looks if d[name]["looked"]]
        h.check(len(sites) >= len(looks) - 1, f"{name} was met in {len(sites)} of {len(looks)} looks")
        off = [sigmas(s) for s in sites]
        h.check(all(math.isfinite(o) and abs(o) < 4 for o in off), f"{name} is off by standard errors {off}: {sites}")
    last = looks[-1]
    leak, cache, churn = (last[s] for s in SITES)
    h.check(leak["share"] > 0.95, f"a leak of which {leak['share']} is alive: {leak}")
    h.check(churn["share"] < 0.1, f"churn of which {churn['share']} is alive: {churn}")
    # Without a look nearly all of what was counted would seem to live.
    h.check(churn["raw_bytes"] > 2 * churn["truth_bytes"] + 100000, f"nothing was unseen: {churn}")
    off = sum(abs(d["cache"]["live_bytes"] - d["cache"]["truth_bytes"]) for d in looks[2:]) / sum(d["cache"]["truth_bytes"] for d in looks[2:])
    h.check(off < 0.75, f"the cache is off by {off:.2f} of itself: {[d['cache'] for d in looks]}")
    print(f"     {rate}: leak {leak['share']:.3f}, cache {cache['share']:.3f} (true {cache['truth_bytes'] / cache['allocated_bytes']:.3f}), "
          f"churn {churn['share']:.3f} of what was allocated, {last['controls']} controls, {last['cpu_ms']} ms per look")


def live_counted():
    """Every call in a slice is counted."""
    compare(drive("live", "survive", 1, 8), "all counted")


def live_threads():
    compare(drive("live", "survive", 3, 6), "three threads")


h.main(walk_one_thread, walk_threads, walk_static, live_counted, live_threads)
