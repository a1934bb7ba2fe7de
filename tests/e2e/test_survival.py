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
CONTROLS, SOUND = 100, 3  # blocks, looks
OFF_MOST, SQUARE_MOST = 8, 9


def drive(mode, program, threads, *args, seconds=600):
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
    """
    Looks of one process lean on the same blocks, so their errors are no independent draws: a single one may be off by some of its own, the mean
    square of all must not. What is said of shares is said of those looks together that had blocks enough whose death was seen.
    """
    h.check(all(d["looked"] == 1 and d["unknown"] <= d["blocks"] / 50 for d in looks), f"looks: {looks}")
    sound = [d for d in looks if d["controls"] >= CONTROLS]
    h.check(len(sound) >= SOUND, f"controls: {[d['controls'] for d in looks]}")
    for name in SITES:
        sites = [d[name] for d in looks if d[name]["looked"]]
        h.check(len(sites) >= len(looks) - 2, f"{name} was met in {len(sites)} of {len(looks)} looks")
        off = [sigmas(s) for s in sites]
        square = sum(o * o for o in off) / len(off)
        h.check(all(math.isfinite(o) and abs(o) < OFF_MOST for o in off) and square < SQUARE_MOST, f"{name} is off by standard errors {off}: {sites}")

    def share(name, what):
        return sum(d[name][what] for d in sound) / sum(d[name]["allocated_bytes"] for d in sound)

    h.check(share("leak", "live_bytes") > 0.95, f"a leak of which {share('leak', 'live_bytes')} is alive: {sound}")
    h.check(share("churn", "live_bytes") < 0.1, f"churn of which {share('churn', 'live_bytes')} is alive: {sound}")
    # Without a look nearly all of what was counted would seem to live.
    h.check(share("churn", "raw_bytes") > 2 * share("churn", "truth_bytes") + 0.01, f"nothing was unseen: {sound}")
    h.check(share("cache", "se") < 0.4 and share("churn", "se") < 0.12, f"errors that say nothing: {sound}")
    print(f"     {rate}: leak {share('leak', 'live_bytes'):.3f}, cache {share('cache', 'live_bytes'):.3f} (true {share('cache', 'truth_bytes'):.3f}), churn "
          f"{share('churn', 'live_bytes'):.3f} of what was allocated, {looks[-1]['controls']} controls, {looks[-1]['cpu_ms']} ms per look")


def live_counted():
    """Every call in a slice is counted."""
    compare(drive("live", "survive", 1, 12), "all counted")


def live_threads():
    compare(drive("live", "survive", 3, 10), "three threads")


h.main(walk_one_thread, walk_threads, walk_static, live_counted, live_threads)
