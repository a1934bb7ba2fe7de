#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Python stacks of some 440 allocation sites (pytargets/sites.py) against what the program's own frames said at the instruction that
allocates: every function, file and line, in order, up to the thread's start, on each CPython that scripts/pythons finds. Seen from birth
and attached to. And the views: merged without the interpreter's loop, --native with it and without Python frames, --python without C code.
"""
import copy

import harness as h
import pytruth as t

PYTHONS = t.pythons()
LIVING = 1500  # stacks, by live bytes: all sites keep what they allocate


def comparison():
    """The comparison finds what it is there to find: a stack made from the truth passes, one with a fault does not."""
    frames = [["f", "a.py", 3], ["<module>", "a.py", 9]]
    site = {"label": "made up", "requested": 100008, "count": 2, "frames": frames, "native": [0], "gone": False, "depth": 0}

    def native(name):
        return {"kind": "native", "name": name, "file": None, "line": None}

    def python(frame):
        return {"kind": "python", "name": frame[0], "file": frame[1], "line": frame[2]}

    good = {"frames": [native("malloc"), python(frames[0]), native("list_sort"), python(frames[1]), native("_start")],
            "complete": True, "alloc_count_total": 2, "alloc_bytes_total": 200016}
    h.check_equal(list(t.site_faults(site, good)), [], "faults of a right stack")

    def fault(what, change):
        bad = copy.deepcopy(good)
        change(bad)
        found = [kind for kind, _ in t.site_faults(site, bad)]
        h.check_equal(found, [what], f"faults of a stack with wrong {what}")

    fault("frames", lambda s: s["frames"][1].update(line=4))
    fault("frames", lambda s: s["frames"][1].update(file="b.py"))
    fault("frames", lambda s: s["frames"][3].update(name="g"))
    fault("frames", lambda s: s["frames"].pop(3))
    fault("frames", lambda s: s["frames"].insert(4, python(frames[1])))
    fault("loops", lambda s: s["frames"].insert(2, native("_PyEval_EvalFrameDefault.cold")))
    fault("order", lambda s: s["frames"].pop(2))
    fault("complete", lambda s: s.update(complete=False))
    deep = dict(site, frames=[["r", "a.py", 1]] * 500, native=[], depth=500)
    cut = dict(good, frames=[python(["r", "a.py", 1])] * 120)
    h.check_equal([k for k, _ in t.site_faults(deep, cut)], ["complete"], "a deep stack that is called complete")
    h.check_equal([k for k, _ in t.site_faults(deep, dict(cut, complete=False))], [], "a deep stack that was cut")

    class Made:
        sites = [site]

    h.check_equal(t.compare(Made, [good])[0], 1, "equal sites")
    h.check_equal(t.compare(Made, [dict(good, alloc_count_total=1, alloc_bytes_total=100008)])[1][0][0], "size", "a block that is missing")


def sizes(python):
    """What the target says that it asks malloc for is what malloc is asked for, as often as said."""
    truth, counted = t.count_sizes(python, "sites.py", h.build("libsizes.so")[0])
    wrong = [f"{s['label']}: {counted[s['requested']]} requests of {s['requested']} bytes, said to be {s['count']}"
             for s in truth.sites if counted[s["requested"]] != s["count"]]
    fewer = [s for s in truth.sites if counted[s["requested"]] < s["count"]]
    # the program as a whole may ask for one of the sizes by chance: such blocks have a stack of their own
    h.check(not fewer and len(wrong) <= 4, "; ".join(wrong[:8]) + f" ({len(wrong)} of {len(truth.sites)})")


def check_rest(python, how, interval, pid):
    """The stacks shown, sites or not: how much of their bytes has Python frames, and where the loop shows."""
    stacks = t.of_process(interval, pid)
    total = sum(s["alloc_bytes_total"] for s in stacks)
    with_python = sum(s["alloc_bytes_total"] for s in stacks if t.frames_of(s))
    loops = [s for s in stacks if any(f["kind"] == "native" and t.EVAL.match(f["name"]) for f in s["frames"])]
    print(f"     {python.label} {how}: {len(stacks)} stacks; with Python frames {100 * with_python / total:.1f} % of {total} bytes; "
          f"{sum(s['complete'] for s in stacks)} complete; {len(loops)} show the loop; losses {interval.proc(pid)['losses']}", flush=True)
    for s in loops[:2]:
        print(f"       the loop in: {t.whole(s)}")


def run(python, birth):
    how = "from birth" if birth else "attached"
    with t.observe(python, "sites.py", birth, limit=LIVING) as seen:
        truth, interval = seen.go()
        check_rest(python, how, interval, truth.pid)
        equal, faults = t.compare(truth, t.of_process(interval, truth.pid))
        seen.finish()
        # a library that was loaded milliseconds ago may not be known yet: the native part is cut there and says so, the Python part is whole
        t.report(python, how, truth, equal, faults, tolerated=["complete"] if birth else [])


def from_birth(python):
    run(python, True)


def attached(python):
    run(python, False)


def native_view():
    """--native: the loop's frames, no Python ones. --python: Python frames and nothing else where there are any."""
    python = t.newest([p for p in PYTHONS if "/" == str(p.root) and "/usr/bin/" not in p.path] or PYTHONS)  # stripped ones may name no loop
    for option in "--native", "--python":
        with t.observe(python, "sites.py", False, option) as seen:
            truth, interval = seen.go()
            stacks = t.of_process(interval, truth.pid)
            kinds = [{f["kind"] for f in s["frames"]} for s in stacks]
            if option == "--native":
                h.check(not any("python" in k for k in kinds), f"{sum('python' in k for k in kinds)} stacks with Python frames under --native")
                loops = [s for s in stacks if any(t.EVAL.match(f["name"]) for f in s["frames"])]
                h.check(len(loops) > len(truth.sites) // 4, f"{len(loops)} of {len(stacks)} stacks show the loop under --native")
            else:
                mixed = [s for s, k in zip(stacks, kinds) if "python" in k and k != {"python"}]
                h.check(not mixed, f"{len(mixed)} stacks with C code beside Python frames under --python: {[t.whole(s) for s in mixed[:2]]}")
                h.check(sum(k == {"python"} for k in kinds) > len(truth.sites) // 2, "few stacks have Python frames under --python")
            seen.finish()


h.main(comparison, *t.for_each(PYTHONS, "sizes", sizes), *t.for_each(PYTHONS, "attached", attached),
       *t.for_each(PYTHONS, "from_birth", from_birth), native_view)
