#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Layer page by stack: what became resident and what was copied on write, by function; all of it, and sampled.

Samples are drawn by chance, and a verdict must not be: estimates are held against what chance makes of the true number of faults in one of
10^8 runs (Chernoff's bound of a Poisson distribution, which is good for faults of several pages, too, counted in the largest of them).
"""
import math

import harness as h

CHANCE = 1e-8
EVERY = 32  # faults, of which one is taken
PAGE = 4096
AROUND = 16  # pages that a fault on a file may map (mm/memory.c: do_fault_around, 64 KiB)
EVERY_FAULT = {"TIDEMARK_FAULTS_EVERY": "1"}


def stacks(interval, pid, function=None):
    found = [s for s in interval.stacks if s["pid"] == pid and s["layer"] == "page"]
    return [s for s in found if function is None or any(f["name"] == function for f in s["frames"])]


def total(interval, pid, function, field):
    return sum(s[field] for s in stacks(interval, pid, function))


def tool(*args, env=None):
    return h.Tool("top", "-f", "json", "-i", "0.3", "--limit", "0", *args, env=env)


def settled(t, pid, function, want):
    """An interval in which the function has all its bytes: the last fault may come after a look."""
    return t.until(lambda i: total(i, pid, function, "alloc_bytes_total") + total(i, pid, function, "cow_bytes") >= want, 15,
                   f"{function} with {want} bytes")


def check_sites(interval, truth):
    for site in truth["sites"]:
        name, pid = site["function"], truth["pid"]
        h.check_equal(total(interval, pid, name, "alloc_bytes_total"), site["bytes"], f"resident by {name}")
        h.check_equal(total(interval, pid, name, "cow_bytes"), site["cow"], f"copied by {name}")


def check_lines(interval, pid):
    """What every line of the layer says, and that a process is the sum of its stacks."""
    p = interval.proc(pid)["layers"]["page"]
    h.check_equal(p["live_bytes"], interval.proc(pid)["rss_bytes"], "live bytes of the layer")
    for field in ("alloc_bytes_total", "alloc_count_total", "cow_bytes"):
        h.check_equal(p[field], sum(s[field] for s in stacks(interval, pid)), f"{field} of the process")
    for s in stacks(interval, pid):
        h.check_equal(s["site"], "page fault", "site")
        h.check(s["live_bytes"] is None and s["free_bytes_total"] is None, f"per stack it is not known what is live: {s}")


def exact(*args):
    with h.Target(h.build("faults")) as target, tool("-p", target.pid, *args, env=EVERY_FAULT) as t:
        t.attached()
        target.send()
        child, done = target.said("child1"), target.said("done1")
        interval = settled(t, child["pid"], "unshare_pages", child["sites"][0]["cow"])
        check_sites(interval, done)
        check_sites(interval, child)
        for pid in (done["pid"], child["pid"]):
            check_lines(interval, pid)
            p = interval.proc(pid)["layers"]["page"]
            h.check_equal((p["alloc_bytes_total_se"], p["cow_bytes_se"]), (0, 0), "standard errors of what was all counted")
        given_back = interval.proc(done["pid"])["layers"]["page"]["given_back_bytes"]
        if given_back is not None or "--mode" not in args:  # not known where no system call is traced
            h.check_equal(given_back, done["given_back"], "given back")
        h.check_equal(interval.proc(child["pid"])["losses"].get("user_read"), None, "page tables that could not be read")
        anon = stacks(interval, done["pid"], "touch_anon")
        h.check(any(s["complete"] and s["frames"][0]["name"] == "touch_anon" and s["frames"][0]["line"] for s in anon),
                f"the stack of a fault begins with its instruction: {anon}")
        target.send()
        t.finish()


def alone():
    exact("--mode", "pages", "--layer", "page")


def beside_heap():
    exact()


def is_possible(got, want, unit):
    taken, mean = got / (EVERY * unit), want / (EVERY * unit)
    return mean - taken + (taken * math.log(taken / mean) if taken else 0) < -math.log(CHANCE)


def check_estimate(interval, site, pid, names):
    """As near as chance allows, and with the standard error that faults taken with 1 / EVERY have."""
    if site["function"] not in names:
        return
    unit = PAGE * (AROUND if site["function"] == "read_file" else 1)
    for field, want in (("alloc_bytes_total", site["bytes"]), ("cow_bytes", site["cow"])):
        of = stacks(interval, pid, site["function"])
        got, var = sum(s[field] for s in of), sum(s[f"{field}_se"] ** 2 for s in of)
        what = f"{field} of {site['function']}"
        if not want:
            h.check_equal(got, 0, what)
            continue
        h.check(got and is_possible(got, want, unit), f"{what}: {got} is far from {want}: se {var ** 0.5}")
        most = (EVERY - 1) * unit * got  # if each had mapped as much as can be
        low = 0.98 if unit == PAGE else 1 / AROUND
        h.check(low * most < var < 1.02 * most, f"{what}: se {var ** 0.5} of {got}, {most ** 0.5} is expected")


def rounds(target, n):
    """The truth after so many."""
    for i in range(1, n + 1):
        target.send()
        done = target.said(f"done{i}")
        target.said(f"child{i}")
        target.send()
    return done


def sampled():
    """Many rounds at the default rate."""
    names = {"touch_anon", "read_zeros", "write_zeros", "touch_brk", "read_file", "copy_file", "fill_by_call"}
    with h.Target(h.build("faults")) as target, tool("-p", target.pid, "--mode", "pages", "--layer", "page") as t:
        t.attached()
        done = rounds(target, 20)
        interval = t.fresh()
        check_lines(interval, done["pid"])
        for site in done["sites"]:
            check_estimate(interval, site, done["pid"], names)
        t.finish()


def whole_host():
    """Part of -a: also of a process that is born later, whose first stacks may be cut."""
    with h.Tool("top", "-f", "json", "-i", "1", "-a") as t:
        t.attached(60)
        with h.Target(h.build("faults")) as target:
            done = rounds(target, 20)
            interval = t.fresh(60)
            for site in done["sites"]:
                check_estimate(interval, site, done["pid"], {"touch_anon", "write_zeros", "copy_file"})
            target.end()
        t.finish(seconds=30)


SCRIPT = """
import os, sys, signal, ctypes, json
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
preloaded = [("item %d" % i) * 3 for i in range(400000)]
print(json.dumps({"tag": "ready"}), flush=True)
sys.stdin.readline()
def touch_refcounts(items):
    kept = 0
    for item in items:
        if item is None:
            kept += 1
    return kept
pid = os.fork()
if not pid:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    touch_refcounts(preloaded)
    def private():
        for line in open("/proc/self/smaps_rollup"):
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) * 1024
    print(json.dumps({"tag": "worker", "pid": os.getpid(), "private": private()}), flush=True)
    sys.stdin.readline()
    os._exit(0)
os.waitpid(pid, 0)
"""


def python_prefork():
    """A worker that only reads what its master loaded un-shares it, by reference counts: told on the Python function that does."""
    with h.Target(["/usr/bin/python3", "-c", SCRIPT]) as target, tool("-p", target.pid, "--mode", "pages", env=EVERY_FAULT) as t:
        t.attached()
        target.send()
        worker = target.said("worker")
        interval = settled(t, worker["pid"], "touch_refcounts", 20 << 20)
        found = stacks(interval, worker["pid"], "touch_refcounts")
        copied = sum(s["cow_bytes"] for s in found)
        h.check(all(any(f["kind"] == "python" for f in s["frames"]) for s in found), "copies on stacks without Python frames")
        h.check(copied <= worker["private"], f"{copied} bytes copied, but only {worker['private']} are the worker's own")
        h.check(copied >= 0.8 * worker["private"], f"{copied} bytes copied of the {worker['private']} that are the worker's own")
        top = max(stacks(interval, worker["pid"]), key=lambda s: s["cow_bytes"])
        h.check_equal(next(f["name"] for f in top["frames"] if f["kind"] == "python"), "touch_refcounts", "the first to blame")
        target.send()
        t.finish()


h.main(alone, beside_heap, sampled, whole_host, python_prefork)
