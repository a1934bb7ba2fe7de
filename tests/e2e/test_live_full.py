#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""When the table of live blocks is full, allocation totals stay exact, and what is no longer tracked is said."""
import harness as h

LIMIT = 1000


def live_full():
    with h.Target([*h.build("many"), "5000"]) as t:
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid, env={"TIDEMARK_LIVE_MAX": str(LIMIT)}) as tool:
            tool.attached()
            t.send()
            truth = t.said("many")
            interval = tool.fresh()
            proc = interval.proc(t.pid)
            heap = proc["layers"]["heap"]
            full = proc["losses"].get("live_full", 0)
            h.check(full > 0, f"{truth['alloc_count']} blocks in a table of {LIMIT}, and no loss live_full: {proc['losses']}")
            h.check_equal((heap["alloc_bytes_total"], heap["alloc_count_total"]), (truth["alloc_bytes"], truth["alloc_count"]),
                          "allocation totals of the process")
            sites = h.by_site(interval, proc, "heap")
            for s in truth["sites"]:
                got = sites[s["site"], s["caller"]]
                h.check_equal((got["alloc_bytes_total"], got["alloc_count_total"]), (s["alloc_bytes"], s["alloc_count"]),
                              f"allocation totals of {s['caller']}")
            h.check(heap["live_count"] <= LIMIT, f"{heap['live_count']} blocks tracked in a table of {LIMIT}")
            h.check_equal(heap.get("untracked_count"), full, "untracked_count and the loss live_full")
            h.check_equal(heap["live_count"] + heap["free_count_total"] + heap["untracked_count"], truth["alloc_count"],
                          "live + freed + untracked blocks")
            h.check_equal(heap["live_bytes"] + heap["free_bytes_total"] + heap["untracked_bytes"], truth["alloc_bytes"],
                          "live + freed + untracked bytes")
            h.check_equal(interval.tick["self"]["losses"].get("live_full"), full, "the loss in the tick")
            tool.finish()


def just_not_full():
    """The same with room for all: no loss at all."""
    with h.Target([*h.build("many"), "500"]) as t:
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid, env={"TIDEMARK_LIVE_MAX": "2000"}) as tool:
            tool.attached()
            t.send()
            truth = t.said("many")
            h.check_truth(tool.fresh(), truth)
            tool.finish()


h.main(live_full, just_not_full)
