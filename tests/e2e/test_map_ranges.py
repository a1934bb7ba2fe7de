#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Mappings split, overlaid, moved, grown, shrunk, refused, and brk: bytes per site and process equal the truth. In exact mode, which sees the
system calls, and in auto mode, which sees the lock of the address space where the kernel can show it: the figures are the same.
"""
import os

import harness as h

MAP = ("--layer", "map")
EXACT, AUTO = ("--mode", "exact"), ("--mode", "auto", "--budget", "0")


def maps(mode):
    # brk counts as one mapping: bytes only
    h.run_exact(h.build("maps"), "maps", layer="map", unmatched=False, uncounted=("brk",), tool_args=(*mode, *MAP))


def exact():
    maps(EXACT)


def auto():
    maps(AUTO)


def threads(mode):
    """Eight threads map and unmap at once, then a child."""
    with h.Target([*h.build("maps"), "threads"]) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", *mode, *MAP, "-p", t.pid) as tool:
        tool.attached()
        t.send()
        truths = [t.said("maps"), t.said("child")]
        interval = tool.fresh()
        for truth in truths:
            h.check_truth(interval, truth, layer="map")
        tool.finish()


def exact_threads():
    threads(EXACT)


def auto_threads():
    threads(AUTO)


def tracepoint_programs(tool):
    """Programs of the running tool that can be at tracepoints of system calls: raw ones, and those at other places, are of other types."""
    held = {n for kind, n in tool.bpf_ids() if kind == "prog"}
    found = [p for p in h.bpftool("prog", "list") if p["id"] in held]
    h.check(found, "the tool holds no program")
    return sorted(p["name"] for p in found if p["type"] == "tracepoint")


def no_system_call_is_traced():
    """One that is, and all calls of all tasks take the kernel's slow path."""
    version = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])
    if not (6, 4) <= version < (6, 19):
        raise h.Skip("this kernel does not show mapping calls at the lock of the address space")
    for mode in (EXACT, AUTO, ("--mode", "auto"), ("--mode", "pages")):
        with h.Target(h.build("maps")) as t, h.Tool("top", "-f", "json", "-i", "0.5", *mode, "-p", t.pid) as tool:
            tool.attached()
            found = tracepoint_programs(tool)
            if mode == EXACT:
                h.check("on_map_enter" in found, f"the test can't see what is traced: {found}")
            else:
                h.check_equal(found, [], f"programs for system calls with {' '.join(mode)}")
            tool.finish()


def through_libc():
    """The figures of the process; in the stack the caller may be hidden behind libc, which has no frame pointers."""
    for mode in (EXACT, AUTO):
        with h.Target([*h.build("maps"), "libc"]) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", *mode, *MAP, "-p", t.pid) as tool:
            tool.attached()
            t.send()
            truth = t.said("maps")
            interval = tool.fresh()
            proc = interval.proc(t.pid)
            h.check_equal(h.differences(proc["layers"]["map"], truth, "process"), [], "figures")
            for s in interval.stacks:
                names = [f["name"] for f in s["frames"]]
                h.check(s["layer"] != "map" or "site_libc_mmap" in names or not s["complete"], f"a stack without its caller that calls itself complete: {names}")
            tool.finish()


def file_mappings_apart():
    for mode in (EXACT, AUTO):
        with h.Target(h.build("maps")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", *mode, *MAP, "-p", t.pid) as tool:
            tool.attached()
            t.send()
            truth = t.said("maps")
            interval = tool.fresh()
            files = [s for s in interval.stacks if s["layer"] == "map" and h.frame_name(s) == "site_map_file"]
            h.check(files, "no stack of the file mappings")
            want = next(s for s in truth["sites"] if s["caller"] == "site_map_file")["live_bytes"]
            told = [s.get("detail") for s in files]
            h.check(all(isinstance(d, dict) for d in told), f"layer map without detail: {told}")
            h.check_equal(sum(d.get("file_bytes", d.get("file_live_bytes", 0)) for d in told), want, f"live bytes of file mappings {told}")
            tool.finish()


h.main(exact, auto, exact_threads, auto_threads, no_system_call_is_traced, through_libc, file_mappings_apart)
