#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers of a prefork master are counted from their first call on, which comes right after fork."""
import harness as h


def prefork():
    with h.Target(h.build("prefork")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        truths = [t.said(tag) for tag in ("master", "worker0", "worker1", "worker2")]
        interval = tool.fresh()
        for truth in truths:
            h.check_truth(interval, truth)
            h.check_unmatched(interval, truth)
        h.check("late_attach" not in interval.proc(truths[1]["pid"])["losses"], "a worker seen from birth is said to be late")
        tool.finish()


def many_times():
    """The race between fork and the first call of the child is lost rarely, if at all: tried again and again."""
    for _ in range(5):
        prefork()


h.main(prefork, many_times)
