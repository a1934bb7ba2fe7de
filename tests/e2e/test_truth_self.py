#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The measures themselves: the programs' own truth against the LD_PRELOAD counter, without Tidemark."""
import os

import harness as h

SUMS = ("alloc_bytes", "alloc_count", "free_bytes", "free_count")


def run(argv, tag, also=(), bytes_too=True):
    """What the counter saw between the start line and the truth must be the truth."""
    counter = h.Counter(h.scratch())
    env = dict(os.environ, LD_PRELOAD=":".join([str(counter.lib), *also]), TRUTH_FILE=str(counter.path))
    with h.Target(argv, env=env) as t:
        before = [r for r in counter.records() if r["pid"] == t.pid]
        t.send()
        truth = t.said(tag)
        after = [r for r in counter.records() if r["pid"] == t.pid][0]
        for k in SUMS if bytes_too else SUMS[1::2]:
            got = after[k] - (before[0][k] if before else 0)
            h.check_equal(got, truth[k], f"{tag} {k}")
        h.check_equal(after["unmatched_free"], truth["unmatched_free"], f"{tag} unmatched frees")
        return counter, truth, t


def shapes():
    _, truth, _ = run(h.build("shapes"), "shapes")
    h.check(truth["alloc_count"] > 10000 and truth["live_count"] > 100, f"a truth about nothing: {truth}")


def threads():
    run(h.build("threads"), "threads")


def cancelled_threads():
    run([*h.build("storms"), "cancel"], "storms")


def cxx_counts():
    # libstdc++ rounds sizes of aligned blocks up before it calls aligned_alloc: bytes differ there, calls don't.
    _, truth, _ = run(h.build("cxx"), "cxx", bytes_too=False)
    h.check_equal(sum(s["alloc_count"] for s in truth["sites"] if s["caller"] == "__cxa_allocate_exception"), 70, "exceptions")


def many():
    run([*h.build("many"), "1000"], "many")


def forked_children():
    """Children that inherit blocks: the record of each against its own truth."""
    counter = h.Counter(h.scratch())
    env = dict(os.environ, LD_PRELOAD=str(counter.lib), TRUTH_FILE=str(counter.path))
    for name, tags in (("forks", ["parent", "child", "grandchild", "spawned"]), ("prefork", ["master", "worker0", "worker2"])):
        with h.Target(h.build(name), env=env) as t:
            t.send()
            for tag in tags:
                truth = t.said(tag)
                record = [r for r in counter.records() if r["pid"] == truth["pid"]][-1]
                for k in (*SUMS, "unmatched_free", "live_bytes"):
                    h.check_equal(record[k], truth[k], f"{tag} {k}")


def a_wrong_truth_is_noticed():
    """The comparison itself: one byte too many, one call too few, a site too many must each be found."""
    interval = h.Interval()
    counts = {"live_bytes": 10, "live_count": 1, "alloc_bytes_total": 30, "alloc_count_total": 2, "free_bytes_total": 20,
              "free_count_total": 1}
    stack = {"pid": 1, "start_ts": 2.0, "layer": "heap", "site": "malloc", "frames": [{"name": "site_a"}], **counts}
    interval.procs.append({"pid": 1, "start_ts": 2.0, "state": "running", "layers": {"heap": dict(counts)}, "losses": {}})
    interval.stacks.append(stack)
    site = {"site": "malloc", "caller": "site_a", "live_bytes": 10, "live_count": 1, "alloc_bytes": 30, "alloc_count": 2,
            "free_bytes": 20, "free_count": 1}
    truth = {"tag": "t", "pid": 1, "sites": [site], **{k: v for k, v in site.items() if k in h.COUNTS}}
    h.check_equal(h.compare(interval, truth), [], "equal figures")
    for key in h.COUNTS:
        wrong = dict(truth, sites=[dict(site, **{key: site[key] + 1})])
        h.check(h.compare(interval, wrong), f"a wrong {key} of a site was not noticed")
        h.check(h.compare(interval, dict(truth, **{key: truth[key] + 1})), f"a wrong {key} of the process was not noticed")
    interval.stacks.append(dict(stack, frames=[{"name": "site_b"}]))
    h.check(h.compare(interval, truth), "a site that nobody named was not noticed")
    interval.stacks.pop()
    interval.procs[0]["losses"] = {"live_full": 1}
    h.check(h.compare(interval, truth), "a loss was not noticed")


h.main(shapes, threads, cancelled_threads, cxx_counts, many, forked_children, a_wrong_truth_is_noticed,
       root=False)
