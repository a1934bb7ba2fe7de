#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Mappings split, overlaid, moved, grown, shrunk, failed, and brk: bytes per site and process equal the truth."""
import harness as h


MAP = ("--layer", "map")


def maps():
    # brk counts as one mapping: bytes only
    h.run_exact(h.build("maps"), "maps", layer="map", unmatched=False, uncounted=("brk",), tool_args=MAP)


def through_libc():
    """The figures of the process; in the stack the caller may be hidden behind libc, which has no frame pointers."""
    with h.Target([*h.build("maps"), "libc"]) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", *MAP, "-p", t.pid) as tool:
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
    with h.Target(h.build("maps")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", *MAP, "-p", t.pid) as tool:
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


h.main(maps, through_libc, file_mappings_apart)
