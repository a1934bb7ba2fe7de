#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts: a leaking service gives exit code 3 and the site by name, a steady one and a filled cache give 0."""
import json
import signal
import subprocess

import harness as h

RULE = ("-i", "0.5", "--consecutive", "3", "--min-size", "200K", "--threshold", "2%")


def leaks(target, *args, **kw):
    return h.Process([h.TOOL, "leaks", "--mode", "exact", *RULE, *args, "-p", target.pid], stdin=subprocess.DEVNULL, **kw)


def need_tool():
    if not h.TOOL.exists():
        raise h.Skip(f"{h.TOOL.name} is not built")


def output(p):
    with p.lock:
        return b"".join(p.out).decode()


def leaking():
    need_tool()
    with h.Target([*h.build("leaky"), "leak"]) as t:
        t.send()
        p = leaks(t, "--warmup", "3", "-d", "10")
        code = p.wait(40, "tidemark leaks")
        h.check_equal(code, 3, f"exit code ({p.errors()} {output(p)[-500:]})")
        h.check("leak_in_request" in output(p), f"the site is not named: {output(p)[-1500:]}")


def leaking_json():
    need_tool()
    with h.Target([*h.build("leaky"), "leak"]) as t:
        t.send()
        p = leaks(t, "--warmup", "3", "-d", "10", "-f", "json")
        h.check_equal(p.wait(40, "tidemark leaks"), 3, f"exit code ({p.errors()})")
        checker = h.contract.Checker()
        lines = [checker.feed(l) for l in p.out]
        h.check_equal(checker.finish(ended=True)[:5], [], "faults of the JSON lines")
        alerts = [l for l in lines if l["type"] == "alert" and l["kind"] == "leak"]
        h.check_equal({a["pid"] for a in alerts}, {t.pid}, "pids of the alerts")
        firing = [a for a in alerts if a["state"] == "firing"]
        h.check(len(firing) == len({a["stack_id"] for a in firing}), f"an alert once per cause, not per interval: {len(firing)}")
        stacks = {l["stack_id"]: l for l in lines if l["type"] == "stack"}
        names = {a["stack_id"]: [f["name"] for f in stacks[a["stack_id"]]["frames"]] for a in firing}
        h.check(all("leak_in_request" in n for n in names.values()), f"alerts about what is no leak: {json.dumps(names)[:500]}")
        h.check_equal(lines[-1]["exit_code"], 3, "exit code in the end line")


def interrupted():
    need_tool()
    with h.Target([*h.build("leaky"), "leak"]) as t, h.Tool("leaks", "-f", "json", *RULE, "--warmup", "2", "-p", t.pid) as tool:
        tool.attached()
        t.send()
        tool.until(lambda i: i.alerts, 30, "an alert")
        tool.finish(signal.SIGINT, code=3)


def steady(kind, warmup, seconds):
    need_tool()
    with h.Target([*h.build("leaky"), kind]) as t:
        t.send()
        p = leaks(t, "--warmup", warmup, "-d", seconds)
        h.check_equal(p.wait(60, "tidemark leaks"), 0, f"exit code of a {kind} service ({p.errors()} {output(p)[-1500:]})")


def steady_service():
    steady("steady", "5", "12")


def filled_cache():
    steady("cache", "14", "22")


h.main(leaking, leaking_json, interrupted, steady_service, filled_cache)
