#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Mappings split, overlaid, moved, grown, shrunk, failed, and brk: bytes per site and process equal the truth."""
import harness as h


def maps():
    # The wrappers of libc may be the first frame: the site is then the second one. brk counts as one mapping: bytes only.
    h.run_exact(h.build("maps"), "maps", layer="map", unmatched=False, depth=2, uncounted=("brk",), tool_args=("--layer", "map"))


def file_mappings_apart():
    with h.Target(h.build("maps")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "--layer", "map", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        truth = t.said("maps")
        interval = tool.fresh()
        files = [s for s in interval.stacks if s["layer"] == "map" and "site_map_file" in (h.frame_name(s, 0), h.frame_name(s, 1))]
        h.check(files, "no stack of the file mappings")
        want = next(s for s in truth["sites"] if s["caller"] == "site_map_file")["live_bytes"]
        told = [s.get("detail") for s in files]
        h.check(all(isinstance(d, dict) for d in told), f"layer map without detail: {told}")
        h.check_equal(sum(d.get("file_bytes", d.get("file_live_bytes", 0)) for d in told), want, f"live bytes of file mappings {told}")
        tool.finish()


h.main(maps, file_mappings_apart)
