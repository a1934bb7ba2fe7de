#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pair of malloc(64) and free costs: with every call counted, with sampling, with empty programs, with a heap observer of the usual shape."""
import json
import statistics
import subprocess

from common import BENCH, TOOL, Observer, Pair, Progtime, Spoken, against, h, in_turn, libc_of, main, own_libc, spread

EXACT_NS, UNSAMPLED_NS, MEMLEAK_RATIO = 1800, 1250, 10
MODES = {"exact": ("--mode", "exact"), "auto": ("--mode", "auto", "--budget", "0")}
LABELS = {"exact": "exact, stacks, live blocks", "auto": "--mode auto --budget 0", "empty": "its probes, empty programs",
          "skip": "its probes, empty programs, entry skips", "plain": "first instructions, counting",
          "memleak": "memleak shape", "neighbour": "not observed, while another process is"}


def planned_places(pid):
    """The file and the offsets of malloc and free where `tidemark probes` would put its probes."""
    out = subprocess.run([TOOL, "probes", "-p", str(pid), "-f", "json"], capture_output=True, text=True, check=True).stdout
    probes = {l["symbol"]: l for l in map(json.loads, out.splitlines()) if l["type"] == "probe" and l["planned"]}
    return probes["malloc"]["module"], probes["malloc"]["offset"], probes["free"]["offset"]


class Pairs:
    """The target, a neighbour that uses the same libc, and every way to measure it."""

    def __init__(self, env):
        self.env, self.target, self.neighbour = env, Pair(env), Pair(env)
        self.places = planned_places(self.target.pid)
        self.beside, self.counted, self.said = [], {n: [] for n in MODES}, {}

    def observed(self, name):
        before = self.target.made
        with Observer("-p", self.target.pid, *MODES[name], env=self.env).attached() as tool:
            got = self.target.measure()
            if name == "exact":
                self.beside.append(self.neighbour.measure()["wall"])
            tool.wait_more(2)
            tool.end()
            made, seen = self.target.made - before, tool.of("proc", self.target.pid)[-1]["layers"]["heap"]["alloc_count_total"]
        h.check(name != "exact" or seen == made, f"tidemark counted {seen} of {made} allocations: this is not the whole cost")
        self.counted[name].append(seen / made)
        self.said[name] = tool.how(self.target.pid)
        return got

    def attached(self, program, *args, counts=0, **kw):
        """Under a program that attaches, waits for the end of its input, and says how often it was hit: `counts` numbers, each the pairs."""
        with Spoken(program, *args, **kw) as probes:
            h.check_equal(probes.hear(), "attached", program)
            before = self.target.made
            got = self.target.measure()
            pairs = self.target.made - before
            hits = [int(w) for w in probes.stop()]
        # The target's own input and output allocate nothing.
        h.check(hits == [pairs] * counts, f"{program} was hit {hits} times in {pairs} pairs")
        return got

    def ways(self):
        pid, libc = self.target.pid, libc_of(self.target.pid)
        return {"exact": lambda: self.observed("exact"), "auto": lambda: self.observed("auto"),
                "empty": lambda: self.attached("empty", *self.places), "skip": lambda: self.attached("empty", *self.places, "skip"),
                "plain": lambda: self.attached("plain", pid, counts=3, env=self.env),
                "memleak": lambda: self.attached("memleak", BENCH / "memleak.bpf.o", pid, libc, counts=2)}

    def end(self):
        self.target.end()
        self.neighbour.end()


def print_pairs(report, pairs, turns):
    bars = {"exact": EXACT_NS, "auto": UNSAMPLED_NS}
    bare = turns.bare_values("wall")
    report.row("bare", *spread(bare))
    for name, label in LABELS.items():
        wall = pairs.beside if name == "neighbour" else turns.values(name, "wall")
        if name in turns.skipped or not wall:
            report.row(label, remark=f"not measured: {turns.why_not(name)}")
            continue
        remark = [against(bars[name], statistics.median(wall))] if name in bars else []
        if name in turns.taken:
            remark.append(f"processor time {statistics.median(turns.values(name, 'cpu')):,.0f}")
        if name in MODES:
            remark.append(f"counted {statistics.median(pairs.counted[name]):.0%}; {pairs.said[name]}")
        report.row(label, *spread(wall), remark="; ".join(remark))


def print_ratios(report, turns):
    report.section("1b. The same, round by round, as ratios", "least", "median", "most")
    for name, to, bar in (("memleak", "exact", MEMLEAK_RATIO), ("memleak", "auto", None), ("plain", "exact", None), ("exact", "empty", None),
                          ("auto", "skip", None)):
        ratios = [a / b for a, b in zip(turns.values(name, "wall"), turns.values(to, "wall"))]
        if ratios:
            cpu = [a / b for a, b in zip(turns.values(name, "cpu"), turns.values(to, "cpu"))]
            remark = [against(bar, statistics.median(ratios), at_least=True)] if bar else []
            report.row(f"{LABELS[name]} / {LABELS[to]}", *spread(ratios, 2), remark="; ".join([*remark, f"processor time {statistics.median(cpu):.2f}"]))


def programs_of(tool):
    return {n for kind, n in h.Tool.bpf_ids(tool.process) if kind == "prog"}


def print_programs(report, target, env):
    """One more round in which the kernel measures the programs (which costs by itself)."""
    for name, args in MODES.items():
        with Progtime() as progtime, Observer("-p", target.pid, *args, env=env).attached() as tool:
            ours, before, pairs = programs_of(tool), progtime.read(), target.made
            wall = target.measure()["wall"]
            after, pairs = progtime.read(), target.made - pairs
            tool.wait_more(1)
            tool.end()
        report.section(f"1c. Programs per pair, {LABELS[name]}, as the kernel measures them", "runs", "ns/run", "ns/pair")
        for i in sorted(ours & set(after), key=lambda i: -after[i][2]):
            program, runs, ns = after[i][0], *(a - b for a, b in zip(after[i][1:], before.get(i, ("", 0, 0))[1:]))
            if runs > 0.001 * pairs:
                report.row(program, f"{runs / pairs:.2f}", f"{ns / runs:,.0f}", f"{ns / pairs:,.0f}")
        body = [t["self"]["body_ns"] for t in tool.of("tick") if t["self"]["body_ns"]]
        if body:
            report.row("any of them, as tidemark says (body_ns)", "", f"{statistics.median(body):,.0f}")
        report.row("a pair meanwhile", "", "", f"{wall:,.0f}")


def pair(report, settings):
    pairs = Pairs(own_libc())
    try:
        rounds = settings.rounds(9)
        turns = in_turn(pairs.target.measure, pairs.ways(), rounds)
        report.section(f"1. A pair of malloc(64) and free, ns ({rounds} rounds in turn)", "least", "median", "most")
        print_pairs(report, pairs, turns)
        print_ratios(report, turns)
        print_programs(report, pairs.target, pairs.env)
        turns.check()
    finally:
        pairs.end()


if __name__ == "__main__":
    main(pair)
