#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON lines of real runs against the published contract, line by line; sums over stacks equal their process; help and version."""
import subprocess

import harness as h


def need_tool():
    if not h.TOOL.exists():
        raise h.Skip(f"{h.TOOL.name} is not built")


def check_sums(tool):
    faults = [f for i in tool.intervals for f in h.contract.sums(i)]
    h.check(not faults, f"{'; '.join(faults[:5])} ({len(faults)} in all)")


def busy_target():
    """Threads at work while the tables are read: every interval adds up, not only the last."""
    with h.Target([*h.build("leaky"), "leak"]) as a, h.Target(h.build("threads")) as b:
        with h.Tool("top", "-f", "json", "-i", "0.3", "--limit", "0", "-p", f"{a.pid},{b.pid}") as tool:
            tool.attached()
            a.send()
            b.send()
            b.said("threads")
            tool.fresh()
            tool.interval(4)
            tool.finish()
            check_sums(tool)
            ticks = [i.tick["ts"] for i in tool.intervals[1:]]
            # On a machine that was paused fewer; never more than time has gone by for, but for one that was late.
            h.check(ticks[-1] - ticks[0] > 0.3 * (len(ticks) - 3), f"intervals of 0.3 s came at {[round(t - ticks[0], 2) for t in ticks]} s")


def totals_never_shrink():
    with h.Target([*h.build("leaky"), "steady"]) as t, h.Tool("top", "-f", "json", "-i", "0.3", "--limit", "0", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        for _ in range(5):
            tool.fresh()
        tool.finish()
        last = {}
        for i in tool.intervals:
            now = {s["stack_id"]: s for s in i.stacks if s["layer"] == "heap"}
            for stack, s in now.items():
                before = last.get(stack)
                for k in ("alloc_bytes_total", "free_bytes_total", "peak_live_bytes") if before else ():
                    h.check(s[k] >= before[k], f"{k} of stack {stack} shrank from {before[k]} to {s[k]}")
            h.check(set(last) <= set(now), "a stack with counts is missing in a later interval")
            last = now
        h.check(last, "no stacks")


def frames_are_named():
    """Names, files and lines of a program with debug information; the file address is that of the call."""
    with h.Target([*h.build("many"), "100"]) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        t.said("many")
        stack = next(s for s in tool.fresh().stacks if h.frame_name(s) == "site_first")
        leaf = stack["frames"][0]
        h.check(leaf["file"] and leaf["file"].endswith("many.c") and leaf["line"], f"no file and line: {leaf}")
        with open(h.ROOT / "tests/e2e/targets/many.c", encoding="utf-8") as f:
            text = f.read().splitlines()[leaf["line"] - 1]
        h.check("malloc(n)" in text, f"line {leaf['line']} is {text!r}, the call of malloc stands elsewhere")
        h.check(leaf["module"].endswith("/many"), f"module {leaf['module']}")
        said = subprocess.run(["addr2line", "-f", "-e", h.build("many")[0], hex(leaf["offset"])], capture_output=True, text=True, check=True)
        h.check_equal(said.stdout.split()[0], "site_first", f"addr2line of offset {leaf['offset']:#x}")
        h.check_equal(int(said.stdout.split(":")[-1].split()[0]), leaf["line"], "line by addr2line")
        names = [f["name"] for f in stack["frames"]]
        h.check("main" in names, f"the caller is missing: {names}")
        tool.finish()


def limit_and_sort():
    with h.Target(h.build("shapes")) as t, h.Tool("top", "-f", "json", "-i", "0.5", "--limit", "3", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        truth = t.said("shapes")
        interval = tool.fresh()
        stacks = [s for s in interval.stacks if s["layer"] == "heap"]
        h.check_equal(len(stacks), 3, "stacks with --limit 3")
        live = [s["live_bytes"] for s in stacks]
        h.check_equal(live, sorted(live, reverse=True), "order by live bytes")
        h.check_equal(interval.proc(t.pid)["layers"]["heap"]["live_bytes"], truth["live_bytes"], "live bytes of the process, limit or not")
        tool.finish()


def several_commands_at_once():
    """Two runs of the tool beside each other don't disturb each other's figures."""
    with h.Target(h.build("shapes")) as t:
        args = ("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", t.pid)
        with h.Tool(*args) as one, h.Tool(*args) as two:
            one.attached()
            two.attached()
            t.send()
            truth = t.said("shapes")
            h.check_truth(one.fresh(), truth)
            h.check_truth(two.fresh(), truth)
            h.check(one.meta["run_id"] != two.meta["run_id"], "two runs with one run_id")
            one.finish()
            h.check_truth(two.fresh(), truth)
            two.finish()


def help_and_version():
    need_tool()
    for args in (["--version"], ["help"], ["--help"], ["top", "--help"], ["leaks", "--help"], ["probes", "--help"]):
        done = subprocess.run([h.TOOL, *args], capture_output=True, text=True, timeout=60, check=False)
        h.check_equal((done.returncode, done.stderr), (0, ""), f"`{' '.join(args)}`")
        h.check(done.stdout.strip(), f"`{' '.join(args)}` says nothing")


def probes():
    """The plan for a target, as JSON; nothing is attached by it."""
    need_tool()
    with h.Target([*h.build("many"), "10"], env=h.private_libc(h.scratch())) as t:
        done = subprocess.run([h.TOOL, "probes", "-f", "json", "-p", str(t.pid)], capture_output=True, timeout=60, check=False)
        h.check_equal(done.returncode, 0, f"exit code of probes ({done.stderr.decode()})")
        import json
        lines = [json.loads(l) for l in done.stdout.splitlines()]
        found = [l for l in lines if l["type"] == "probe"]
        faults = [f for l in found for f in h.contract.fields(l, h.contract.PROBE, f"probe {l.get('symbol')}")]
        h.check_equal(faults[:5], [], "faults of the probe lines")
        symbols = {l["symbol"] for l in found if l["planned"]}
        h.check({"malloc", "free", "calloc", "realloc", "posix_memalign"} <= symbols, f"planned: {sorted(symbols)}")
        places = [(l["build_id"] or l["module"], l["offset"]) for l in found if l["planned"]]
        h.check_equal(len(places), len(set(places)), "one probe per place")
        h.check_equal(h.patched_bytes(t.pid), [], "breakpoints after `probes`")


h.main(busy_target, totals_never_shrink, frames_are_named, limit_and_sort, several_commands_at_once, help_and_version, probes)
