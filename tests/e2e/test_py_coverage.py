#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
How much of CPython's small allocations layer python sees, and where they come from all the same. In a plain build all of them; in Debian's builds, whose compiler
inlined the allocator, few, and the JSON says so. There the arenas that pymalloc maps lead to the Python code that makes it grow.
"""
import harness as h
import pytruth as t

PLAIN = t.pythons("3.9", "3.13.0")
INLINED = t.pythons("3.11.2", "3.13.5", "3.14")
ENOUGH = 0.9


def measured(python, *tool_args, layer="python"):
    return t.observe(python, "pools.py", False, "--layer", layer, *tool_args, every="1")


def share(seen, known):
    """What the JSON says once known(share) is true."""
    pid = int((seen.folder / "ready").read_text())

    def look(interval):
        proc = interval.proc(pid)
        h.check_equal(proc["python_allocator"], "pymalloc", "allocator")
        return known(proc["python_coverage"])

    return seen.tool.until(look, 30, "coverage is measured, and what it should be").proc(pid)


def plain(python):
    with measured(python) as seen:
        for _ in range(5):
            proc = share(seen, lambda c: c is not None)
            h.check(proc["python_coverage"] > 0.99, f"{python.label}: {proc['python_coverage']} of the bytes are seen")
        seen.finish()


def inlined(python):
    with measured(python) as seen:
        proc = share(seen, lambda c: c is not None and c < ENOUGH)  # it is drawn at random: a single look may be lucky
        print(f"     {python.label}: {proc['python_coverage']} of the bytes are seen")
        seen.finish()


def arenas(python):
    """Layer map: an arena has 256 KiB until 3.9, then 1 MiB."""
    arena = 1 << (18 if python.minor < 10 else 20)

    def has_arenas(interval):
        stacks = [s for s in interval.stacks if s["layer"] == "map" and any(f[0] == "grow" for f in t.frames_of(s))]
        return sum(s["alloc_bytes_total"] for s in stacks if s["alloc_bytes_total"] % arena == 0) >= 4 * arena

    with measured(python, layer="map") as seen:
        seen.tool.until(has_arenas, 60, f"{python.label}: arenas are mapped by grow()")
        seen.finish()


h.main(*t.for_each(PLAIN, "plain", plain), *t.for_each(INLINED, "inlined", inlined), *t.for_each(PLAIN + INLINED[:1], "arenas", arenas))
