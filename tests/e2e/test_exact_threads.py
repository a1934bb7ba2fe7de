#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Eight threads, blocks freed by other threads, threads that end with live blocks, threads cancelled in a storm: exact."""
import harness as h


def threads():
    # libc frees a thread's cached (already freed) blocks when it ends: unmatched frees that no program can count
    h.run_exact(h.build("threads"), "threads", unmatched=False)


def cancelled_threads():
    h.run_exact([*h.build("storms"), "cancel"], "storms", unmatched=False)


def entries(interval):
    return {m["name"]: m["entries"] for m in interval.tick["self"]["maps"] if m["entries"] is not None}


def exit_in_a_storm_leaves_nothing():
    """exit_group while eight threads allocate: nobody knows the last figures, but every entry of that process must go."""
    with h.Target([*h.build("many"), "10"]) as stays, h.Target([*h.build("storms"), "exit"]) as storm:
        with h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", f"{stays.pid},{storm.pid}") as tool:
            tool.attached()
            stays.send()
            stays.said("many")
            before = entries(tool.fresh())
            storm.send()
            h.check_equal(storm.wait(60), 0, "exit code of the storm")
            tool.until(lambda i: any(p["pid"] == storm.pid and p["state"] == "exited" for p in i.procs) or not i.proc(storm.pid), 20,
                       "the end of the process is seen")
            keeps = {n for n in before if "stack" in n or "sum" in n}  # what was seen stays readable

            def purged(i):
                now = entries(i)
                return all(now[n] <= before[n] for n in before if n in now and n not in keeps)

            tool.until(purged, 10, f"map entries of the dead process are gone (before: {before})")
            h.check(before, "no map tells its entries, so nothing was proved")
            tool.finish()


h.main(threads, cancelled_threads, exit_in_a_storm_leaves_nothing)
