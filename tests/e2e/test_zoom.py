#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The whole system is watched by pages; a process that grows is looked at closer, by itself, and nobody else is. (Who is chosen among many, and
when it ends, which takes minutes, is tests/unit/test_zoom.c.)
"""
import signal
import time

import harness as h

LIBC = "libc.so.6"
MIB_PER_S = 8
GROWER = "grow_in_request"
LOOKS = 13


def program(mib_per_s, libc):
    """Started after the tool: a young process is judged by what it grew since it was first seen."""
    t = h.Target([*h.build("grows"), mib_per_s], env=libc)
    t.send()
    return t


def mode(interval, pid):
    proc = interval.proc(pid, state="running")
    return proc and proc["mode"]


def names(interval, pid, layer):
    """Functions on the stacks of a layer, by bytes allocated, the largest stack first."""
    own = [s for s in interval.stacks if (s["pid"], s["layer"]) == (pid, layer) and s["alloc_bytes_total"]]
    own.sort(key=lambda s: -s["alloc_bytes_total"])
    return [[f["name"] for f in s["frames"]] for s in own]


def names_the_grower(interval, pid, layer):
    found = names(interval, pid, layer)
    return found and GROWER in found[0]


def a_process_that_grows():
    libc = h.private_libc(h.scratch())
    with h.Tool("top", "-a", "-f", "json", "-i", "1") as tool:
        tool.attached()
        with program(MIB_PER_S, libc) as t, program(0, libc) as idle:
            began = time.monotonic()
            i = tool.until(lambda i: mode(i, t.pid) == "sampled", 15, f"a process that grows by {MIB_PER_S} MiB/s is zoomed")
            took = i.done_at - began
            h.check("heap" in i.proc(t.pid)["layers"], f"layers of a process that is zoomed: {list(i.proc(t.pid)['layers'])}")
            i = tool.until(lambda i: names_the_grower(i, t.pid, "page") and names_the_grower(i, t.pid, "heap"), 15,
                           f"{GROWER} is on the first stack of layers page and heap")
            share = i.proc(t.pid)["attached_share"]
            h.check(0 <= share <= 1, f"attached_share {share}")
            t.send(b"fork\n")
            child = t.said("child")["pid"]
            # Born with what its parent has; it did not grow.
            tool.until(lambda i: mode(i, child) == "pages", 10, "the child of a process that is zoomed is not")
            for _ in range(3):
                i = tool.interval(len(tool.intervals) + 1)
                h.check_equal((mode(i, t.pid), mode(i, child), mode(i, idle.pid)), ("sampled", "pages", "pages"),
                              "modes of one that grows, its child, and one that stands still")
            modes = {mode(i, idle.pid) for i in tool.intervals} - {None}
            h.check_equal(modes, {"pages"}, "modes of the one that stood still, from its start")
            ends_cleanly(tool, t)
        tool.finish()
        h.check_equal(tool.error_lines(), [], "stderr of tidemark")
        print(f"     zoomed {took:.1f} s after its start")


def ends_cleanly(tool, t):
    """While it is zoomed."""
    t.p.stdin.close()
    h.check_equal(t.wait(10, "the program that is zoomed"), 0, "exit code of the program that is zoomed")
    i = tool.until(lambda i: i.proc(t.pid, state="exited"), 10, "its last figures")
    last = i.proc(t.pid, state="exited")
    lost = {k: n for k, n in last["losses"].items() if k not in h.FACTS}
    h.check(not lost, f"losses {lost}")
    h.check(last["layers"].get("heap", {}).get("alloc_bytes_total"), f"last figures of the heap: {last['layers'].get('heap')}")


def not_by_options():
    """Layers that were named, or pages alone, are all there is."""
    libc = h.private_libc(h.scratch())
    with h.Tool("top", "-a", "-f", "json", "-i", "1", "--layer", "page,map") as named, \
         h.Tool("top", "-a", "-f", "json", "-i", "1", "--mode", "pages") as pages:
        for tool in (named, pages):
            tool.attached()
        with program(MIB_PER_S, libc) as t:
            # As often as it would be judged as a young one, and more. With the breakpoint, not the word of the tool, as proof.
            def seen_by(tool):
                tool.alive("it watches a process that grows")
                tool.pump()
                return [i.proc(t.pid) for i in tool.intervals if i.proc(t.pid)]

            def looked_at():
                h.check_equal(h.patched_bytes(t.pid, LIBC), [], "breakpoints in a process that is not to be zoomed")
                return all(len(seen_by(tool)) >= LOOKS for tool in (named, pages))

            h.wait_until(looked_at, 60, f"the process is shown {LOOKS} times", step=0.05)
            for tool in (named, pages):
                seen = seen_by(tool)
                h.check_equal({p["mode"] for p in seen}, {"pages"}, f"modes with {tool.argv[5:]}")
                h.check(not any("heap" in p["layers"] or "python" in p["layers"] for p in seen), "a layer of probes")
                grown = seen[-1]["anon_bytes"]
                h.check(grown > 40 << 20, f"it has grown to {grown} bytes only, so nothing is proved")
        for tool in (named, pages):
            tool.finish(signal.SIGINT)
            h.check_equal(tool.error_lines(), [], "stderr of tidemark")


h.main(a_process_that_grows, not_by_options)
