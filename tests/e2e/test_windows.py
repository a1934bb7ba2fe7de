#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Probes that are in place only for windows of time, as they are at default options: what is shown of a program with known truth, what it
costs it, and that it may end, fork, become another program or be left alone at any moment.

Bounds are wide: totals within five stated errors or a third of the truth (the program stands still in the middle of a period of up to five
seconds, of fifteen, whose window was already or was not yet), and the mean overhead comes to within 0.3 to 1.5 of the budget. tests/bench and
tests/stat hold them closely. Counted are intervals and windows, not seconds: how much is done in one depends on what else runs.
"""
import math

import harness as h

BUDGET = 2.0
LIBC = "libc.so.6"
ERRORS = 5
SHARE = 0.35
SETTLED = 7  # intervals whose mean overhead is asked for
WINDOWS = 3  # that are behind a figure of which the order of magnitude is to be sure
ENOUGH_LIVE = 24 << 20  # bytes, of which one in 16 KiB is sampled: an error of 2.5 %


def steady(*args):
    """The program, on a libc of its own: nobody else's probes are in it."""
    return h.Target([*h.build("steady"), *args], env=h.private_libc(h.scratch()))


def watch(pid, *args, interval="1"):
    return h.Tool("top", "-f", "json", "-i", interval, "--limit", "0", *args, "-p", pid)


def heap(interval, pid, **want):
    proc = interval.proc(pid, **want)
    h.check(proc and "heap" in proc["layers"], f"pid {pid} with layer heap among {[(p['pid'], p['mode']) for p in interval.procs]}")
    return proc, proc["layers"]["heap"]


def check_near(got, se, truth, what, largest_se=0.6):
    h.check(se is not None and math.isfinite(se), f"{what}: {got} has the standard error {se}")
    off = abs(got - truth)
    h.check(off <= max(ERRORS * se, SHARE * truth), f"{what}: {got}, truth {truth}: off by {off / (se + 1):.1f} errors, {off / truth:.0%}")
    h.check(se < largest_se * truth, f"{what}: an error of {se} at {truth} says nothing")


def check_losses(interval, pid):
    lost = {k: n for k, n in interval.proc(pid)["losses"].items() if k not in h.FACTS}
    h.check(not lost, f"losses of pid {pid}: {lost}")


def site(interval, pid, caller):
    """The sums of the stacks of one site: bytes allocated, live bytes and its error."""
    own = [s for s in interval.stacks if (s["pid"], s["layer"]) == (pid, "heap") and h.frame_name(s) == caller]
    h.check(own, f"no stack of {caller} among {sorted({str(h.frame_name(s)) for s in interval.stacks})}")
    h.check(all(None not in (s["live_bytes"], s["live_bytes_se"]) for s in own), f"{caller}: live bytes that are not known: {own}")
    return sum(s["live_bytes"] for s in own), math.sqrt(sum(s["live_bytes_se"] ** 2 for s in own))


def tell(tool, target):
    """The truth, and an interval that is complete with it."""
    target.send(b"tell\n")
    truth = target.said("steady")
    return truth, tool.fresh()


def check_left_alone(target, errors):
    h.check_equal(target.p.poll(), None, "exit code of the target while it was watched")
    h.wait_until(lambda: not h.patched_bytes(target.pid, LIBC), 10, "no breakpoint is left in the target's libc")
    h.check_equal(errors, [], "stderr of tidemark")


def at_default():
    """One run answers for what it costs, what is shown, and what is said to live."""
    with steady() as t, watch(t.pid, "--mode", "auto") as tool:
        first = tool.attached()
        t.send()
        tool.interval(15)
        tool.until(lambda i: is_on_budget(tool, t.pid) and is_known(i, t.pid), 150, f"the overhead comes to the budget of {BUDGET} %, and errors to "
                   "what says something")
        truth, last = tell(tool, t)
        procs = [heap(i, t.pid) for i in tool.intervals]
        h.check_equal({p["mode"] for p, _ in procs}, {"sampled"}, "modes")
        shares = [p["attached_share"] for p, _ in procs[2:15]]
        h.check(0 < sum(shares) / len(shares) < 1, f"shares of the time with probes: {shares}")
        proc, sums = procs[-1]
        h.check(proc["lever"], "what holds the cost is not said")
        check_near(sums["alloc_bytes_total"], sums["alloc_bytes_total_se"], truth["alloc_bytes"], "bytes of all sites")
        check_live(first, procs, last, truth)
        check_losses(last, t.pid)
        tool.finish()
        check_left_alone(t, tool.error_lines())
        print(f"     attached {sum(shares) / len(shares):.1%} of the time, overhead {proc['overhead_pct']} %, bytes "
              f"{sums['alloc_bytes_total'] / truth['alloc_bytes']:.2f} of the truth, error {sums['alloc_bytes_total_se'] / truth['alloc_bytes']:.2f}")


def is_on_budget(tool, pid):
    """One that is not held, or not used, never gets there."""
    figures = [heap(i, pid)[0]["overhead_pct"] for i in tool.intervals[-SETTLED:]]
    return None not in figures and 0.3 * BUDGET < sum(figures) / SETTLED < 1.5 * BUDGET


def is_known(interval, pid):
    """As well as is asked for at the end: how soon that is depends on how much of a processor the program gets."""
    sums = heap(interval, pid)[1]
    leak = [s for s in interval.stacks if (s["pid"], s["layer"]) == (pid, "heap") and h.frame_name(s) == "leak_in_request"]
    if not leak or None in (sums["live_bytes"], sums["alloc_bytes_total_se"], *(s["live_bytes_se"] for s in leak)):
        return False
    live, se = site(interval, pid, "leak_in_request")
    return se < live / 2 and sums["alloc_bytes_total_se"] < 0.3 * sums["alloc_bytes_total"]


def check_live(first, procs, last, truth):
    """Frees are not seen between windows: what lives is known once the heap itself has been looked at, and not before."""
    h.check_equal(heap(first, truth["pid"])[1]["live_bytes"], None, "live bytes before the first look")
    live = [sums["live_bytes"] for _, sums in procs]
    known = [i for i, n in enumerate(live) if n is not None]
    h.check(all(n is not None and n >= 0 for n in live[known[0]:]), f"live bytes after the first look: {live}")
    want = {s["caller"]: s for s in truth["sites"]}
    leak = want["leak_in_request"]["live_bytes"]
    got, se = site(last, truth["pid"], "leak_in_request")
    check_near(got, se, leak, "live bytes of the leak", 1)
    # Of 13 bytes that are allocated 12 are freed: without a look at the heap all would seem to live.
    for caller in ("buffer_of_request", "row_of_table"):
        got, se = site(last, truth["pid"], caller)
        off = got - want[caller]["live_bytes"]
        h.check(off <= max(ERRORS * se, 0.05 * want[caller]["alloc_bytes"]), f"live bytes of {caller}: {got} with an error of {se}, truth {want[caller]}")


def without_a_budget():
    with steady() as t, watch(t.pid, "--mode", "auto", "--budget", "0", interval="0.5") as tool:
        tool.attached()
        t.send()
        tool.until(lambda i: heap(i, t.pid)[1]["live_bytes"] > ENOUGH_LIVE, 240, f"{ENOUGH_LIVE} bytes live")
        truth, last = tell(tool, t)
        procs = [heap(i, t.pid) for i in tool.intervals]
        h.check_equal({(p["mode"], p["attached_share"]) for p, _ in procs}, {("sampled", 1)}, "mode and share of the time with probes")
        _, sums = procs[-1]
        for ours, theirs in (("alloc_bytes_total", "alloc_bytes"), ("live_bytes", "live_bytes")):
            got, se = sums[ours], sums[ours + "_se"]
            h.check(0 < se < 0.05 * truth[theirs], f"{ours}: standard error {se} of {truth[theirs]}")
            h.check(abs(got - truth[theirs]) < ERRORS * se, f"{ours}: {got}, error {se}, truth {truth[theirs]}")
        check_losses(last, t.pid)
        tool.finish()
        check_left_alone(t, tool.error_lines())


def exact():
    with steady() as t, watch(t.pid, "--mode", "exact", interval="0.5") as tool:
        tool.attached()
        t.send()
        tool.interval(4, 30)
        truth, last = tell(tool, t)
        procs = [heap(i, t.pid) for i in tool.intervals]
        h.check_equal({(p["mode"], p["attached_share"]) for p, _ in procs}, {("exact", 1)}, "mode and share of the time with probes")
        h.check_equal({s[k] for _, s in procs for k in ("alloc_bytes_total_se", "live_bytes_se")}, {0}, "standard errors")
        h.check_truth(last, truth)
        tool.finish()
        check_left_alone(t, tool.error_lines())


def check_magnitude(sums, truth):
    """Of a few windows of a program that has part of a processor, whose first one came at any moment, no more than the order of magnitude is sure."""
    h.check(truth["alloc_bytes"] / 8 < sums["alloc_bytes_total"] < truth["alloc_bytes"] * 8, f"{sums}, truth {truth}")


def last_of(tool, pid):
    """The last figures of each image of a process that has them: {start_ts: (line, sums of layer heap)}."""
    tool.pump()
    return {(p["start_ts"], p["comm"]): (p, p["layers"]["heap"]) for i in tool.intervals for p in i.procs
            if p["pid"] == pid and "heap" in p["layers"]}


def total_of(interval, pid):
    proc = interval.proc(pid, state="running")
    return proc["layers"]["heap"]["alloc_bytes_total"] if proc and "heap" in proc["layers"] else 0


def windows_seen(intervals, pid):
    """How often the total has grown. A window may lie in two intervals that are neighbours: those count once."""
    n, before, counted = 0, 0, False
    for total in (total_of(i, pid) for i in intervals):
        counted = total > before and not counted
        n += counted
        before = total
    return n


def wait_windows(tool, pid, what):
    """From now on."""
    tool.pump()
    since = len(tool.intervals)
    tool.until(lambda _: windows_seen(tool.intervals[since:], pid) >= WINDOWS, 60, f"{WINDOWS} windows show {what}")


def ends_in_a_window():
    with steady() as t, watch(t.pid, "--mode", "auto", interval="0.5") as tool:
        tool.attached()
        t.send()
        tool.until(lambda i: heap(i, t.pid)[1]["alloc_bytes_total"], 20, "a window has shown something")
        t.send(b"exit\n")
        h.check_equal(t.wait(30), 0, "exit code of a program that ends in a window")
        h.check_equal(tool.ended(20)["reason"], "targets_gone", "reason of the end")
        states = [p["state"] for i in tool.intervals for p in i.procs if p["pid"] == t.pid]
        h.check_equal((states[-1], states.count("exited")), ("exited", 1), f"states shown: {states}")
        h.check_equal(tool.error_lines(), [], "stderr of tidemark")


def execs_in_a_window():
    with steady() as t, watch(t.pid, "--mode", "auto", interval="0.5") as tool:
        tool.attached()
        t.send()
        tool.until(lambda i: heap(i, t.pid)[1]["alloc_bytes_total"], 20, "a window has shown something")
        t.send(b"exec\n")
        t.said("again", 30)
        tool.fresh()  # the last of the old one
        wait_windows(tool, t.pid, "what the new program allocates")
        truth, last = tell(tool, t)
        check_magnitude(heap(last, t.pid, state="running")[1], truth)
        t.send(b"go\n")
        # It waits for a breakpoint in the new image.
        t.send(b"exec\n")
        h.wait_until(lambda: len([w for w in t.words() if w["tag"] == "again"]) == 2, 30, "the program begins anew once more")
        tool.fresh()
        tool.finish()
        check_left_alone(t, tool.error_lines())


def forks_in_a_window():
    with steady() as t, watch(t.pid, "--mode", "auto", interval="0.5") as tool:
        tool.attached()
        t.send()
        tool.until(lambda i: heap(i, t.pid)[1]["alloc_bytes_total"], 20, "a window has shown something")
        t.send(b"fork\n")
        t.said("forked", 30)

        def children(i):
            return {p["pid"] for p in i.procs if p["ppid"] == t.pid and p["layers"].get("heap", {}).get("alloc_bytes_total")}

        seen = children(tool.until(lambda i: len(children(i)) == 2, 20, "windows show what both children allocate"))
        tool.until(lambda _: all(windows_seen(tool.intervals, pid) >= WINDOWS for pid in seen), 60, f"{WINDOWS} windows of each child")
        t.send(b"reap\n")
        h.check_equal(t.said("reaped", 30)["well"], 2, "children that ended with 0")
        truths = [w for w in t.words() if w["tag"] == "child"]
        h.check_equal({w["pid"] for w in truths}, seen, "children")
        tool.until(lambda i: all(not i.proc(pid, state="running") for pid in seen), 10, "the children have ended")
        for w in truths:
            (proc, sums), = last_of(tool, w["pid"]).values()
            h.check_equal((proc["state"], proc["mode"]), ("exited", "sampled"), f"last state of child {w['pid']}")
            check_magnitude(sums, w)
        tool.finish()
        check_left_alone(t, tool.error_lines())


def told_to_end_in_and_between_windows():
    """By the program itself, which sees the breakpoint in its own malloc."""
    with steady() as t:
        t.send()
        for order in ("int", "after"):
            with watch(t.pid, "--mode", "auto", interval="0.5") as tool:
                tool.attached()
                t.send(f"{order} {tool.pid}\n".encode())
                h.check_equal(tool.wait(10, "tidemark, told to end,"), 0, f"exit code ({tool.errors().strip()})")
                end = tool.finish()
                h.check_equal(end["reason"], "interrupted", "reason of the end")
                check_left_alone(t, tool.error_lines())


h.main(at_default, without_a_budget, exact, ends_in_a_window, execs_in_a_window, forks_in_a_window, told_to_end_in_and_between_windows)
