#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Code objects that die, and whose addresses are used again by others (pytargets/reuse.py). One that lived for an interval has its name, file and line.
One that was gone before anyone could look may be nameless, but never has the name, the file or the line of another one.
"""
import collections

import harness as h
import pytruth as t

# One of each way in which code objects are told apart and line tables written: all versions would take minutes.
PYTHONS = t.pythons("3.10", "3.11.2", "3.13.0") or t.pythons()


def nameless(stacks, truth):
    """Of the rushed sites: how many blocks have a stack that says that its code is gone."""
    rushed = {s["requested"] for s in truth.sites if s["gone"]}
    return sum(s["alloc_count_total"] for s in stacks if s["alloc_bytes_total"] in rushed and any(f[0] == "<gone>" for f in t.frames_of(s)))


def look_at_the_slow(seen):
    """Each lives for a complete interval that began after it."""
    truth, n = seen.folder / "truth", 0
    (seen.folder / "go").touch()

    def next_one():
        h.check(seen.target.p.poll() is None, f"the program ended: {seen.target.errors().strip()}")
        return truth.exists() or (seen.folder / f"alive-{n}").exists()

    while h.wait_until(next_one, 120, "the program goes on") and not truth.exists():
        seen.tool.fresh()
        (seen.folder / f"seen-{n}").touch()
        n += 1


def reuse(python):
    with t.observe(python, "reuse.py", False, every="0.5") as seen:
        look_at_the_slow(seen)
        truth, interval = seen.go()
        stacks = t.of_process(interval, truth.pid)
        equal, faults = t.compare(truth, stacks)
        seen.finish()
        places = collections.defaultdict(list)
        for site in truth.sites:
            places[site["label"]].append(site["code"])
        print(f"     {python.label}: {nameless(stacks, truth)} of {sum(s['gone'] for s in truth.sites)} rushed ones have no name; code objects and "
              "places: " + ", ".join(f"{label} {len(p)} in {len(set(p))}" for label, p in places.items()))
        h.check(any(len(set(p)) < len(p) for p in places.values()), "no address was used twice: this tests nothing")
        t.report(python, "reused code objects", truth, equal, faults)


h.main(*t.for_each(PYTHONS, "reuse", reuse))
