#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`tidemark probes` on real programs: each function's instruction, kind and cost; nothing is attached to the target."""
import json
import os
import subprocess

import harness as h

ENV = dict(os.environ, TIDEMARK_COSTS_DIR=str(h.scratch() / "run"))


def run(pid, *args):
    done = subprocess.run([h.TOOL, "probes", "-p", str(pid), *args], capture_output=True, text=True, timeout=60, env=ENV, check=False)
    h.check_equal((done.returncode, done.stderr), (0, ""), "exit code and errors of probes")
    return done.stdout


def looked_at(pid, own):
    """(rows that are planned, the costs); held against what must be true of any target. `own`: part of the path of a file that is nobody else's."""
    lines = [json.loads(l) for l in run(pid, "-f", "json").splitlines()]
    rows = [l for l in lines if l["type"] == "probe"]
    h.check_equal([l["type"] for l in lines], ["probe"] * len(rows) + ["costs"], "types of the lines")
    faults = [f for l in rows for f in h.contract.fields(l, h.contract.PROBE, f"probe {l.get('symbol')}")]
    h.check_equal(faults[:5], [], "faults of the lines")
    for r in rows:
        consistent(r, lines[-1])
    h.check_equal(h.patched_bytes(pid, own), [], "breakpoints after `probes`")
    return [r for r in rows if r["planned"]], lines[-1]


def consistent(r, costs):
    what = f"{r['symbol']} of {r['module']}"
    if not r["planned"]:
        h.check_equal([r[k] for k in ("entry_ns", "return_ns", "body_ns", "call_ns")], [None] * 4, f"costs of {what}, which is not probed")
        return
    kind = costs[r["kind"] + "_ns"]
    h.check(kind - 0.2 <= r["entry_ns"] <= kind * 1.5 + 100, f"{what}: an entry costs {r['entry_ns']}, a {r['kind']} hit {kind}")
    h.check_equal(r["return_ns"] is not None, r["return_how"] != "none", f"{what}: cost of a return")
    if r["body_ns"] is None:
        h.check_equal((r["shape"], r["call_ns"]), ("wrapper", None), f"{what}: a body that is not known")
        return
    total = r["entry_ns"] + (r["return_ns"] or 0) + r["body_ns"]
    h.check(abs(r["call_ns"] - total) < 0.5, f"{what}: {r['call_ns']} is not the sum of its parts, {total}")


def dearest(rows):
    return max(rows, key=lambda r: r["call_ns"] or 0)


def redis():
    server = h.find_program("redis-server")
    port, d = h.free_port(), h.scratch()
    with h.Process([server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", d], env=h.private_libc(d)) as p:
        h.wait_until(lambda: h.listening(port), 30, "redis-server listens")
        rows, _ = looked_at(p.pid, f"{d}/libc.so.6")
        symbols = {r["symbol"] for r in rows}
        h.check({"malloc", "free", "realloc"} <= symbols, f"planned: {sorted(symbols)}")
        worst = dearest(rows)
        print(f"     {len(rows)} functions; dearest: {worst['symbol']} on {worst['insn']} ({worst['kind']}), {worst['call_ns']} ns")
        text = run(p.pid)
        h.check("1M CALLS" in text and "emulated hit" in text, f"the table says nothing of costs: {text[-400:]}")


def python():
    d = h.scratch()
    with h.Process(["/usr/bin/python3", "-c", "print('x', flush=True); input()"], env=h.private_libc(d)) as p:
        h.wait_until(lambda: p.out, 30, "python runs")
        rows, _ = looked_at(p.pid, f"{d}/libc.so.6")
        by_symbol = {r["symbol"]: r for r in rows if "libc" in r["module"]}
        h.check({"malloc", "free"} <= set(by_symbol), f"planned: {sorted(by_symbol)}")
        malloc, free = by_symbol["malloc"], by_symbol["free"]
        h.check(malloc["return_ns"] is not None and free["return_ns"] is None, f"returns: malloc {malloc['return_ns']}, free {free['return_ns']}")


def stepped():
    with h.Target(h.build("stepped")) as t:
        rows, _ = looked_at(t.pid, "/stepped")
        by_symbol = {r["symbol"]: r for r in rows}
        alloc, free = by_symbol["je_malloc"], by_symbol["je_free"]
        h.check_equal((alloc["kind"], free["kind"]), ("stepped", "emulated"), "kinds")
        h.check(alloc["insn"].startswith("lea"), f"the instruction: {alloc['insn']}")
        h.check(any("single-stepped" in z for z in alloc["hazards"]), f"hazards: {alloc['hazards']}")
        line = next(l for l in run(t.pid).splitlines() if l.split()[:1] == ["je_malloc"])
        h.check("stepped" in line, line)


h.main(redis, python, stepped)
