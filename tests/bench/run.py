#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
`make bench`: what Tidemark costs those it watches, what it uses itself, how fast it is there and how well it goes.

Timings never fail the run, only errors do. Machines are shared and noisy: what is compared is measured in turn in one run,
and medians are printed with the least and the most. Targets and Tidemark run with a copy of the C library of their own:
what others run or probe on this machine at the same time then hits none of these probes, and their probes hit nothing here.
Needs root.

  run.py [pair] [own] [first] [kill]      without arguments: all
"""
import argparse
import atexit
import json
import os
import random
import selectors
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ.get("B", "build")
TOOL = Path(os.environ.get("TIDEMARK", BUILD / "tidemark"))
ROUND_S = 0.06      # one measurement: long against a time slice of the scheduler, short against the run
PER_ROUND = 5       # measurements per round, of which the median counts
TICKS = os.sysconf("SC_CLK_TCK")
_started = []


class Failure(Exception):
    """What went wrong, in one sentence."""


def _end_all():
    for p in reversed(_started):
        if p.poll() is None:
            p.kill()
            p.wait()


atexit.register(_end_all)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def wait_until(condition, seconds, what, step=0.005):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds:g} s: {what}")
        time.sleep(step)


def start(argv, **kw):
    p = subprocess.Popen([str(a) for a in argv], **kw)
    _started.append(p)
    return p


def end(p, sig=signal.SIGTERM):
    """Ends it and waits; one that does not listen is killed."""
    if p.poll() is None:
        p.send_signal(sig)
        try:
            p.wait(10)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    for stream in (p.stdin, p.stdout):
        if stream:
            stream.close()


# --- targets ---

def own_libc(directory):
    """Copies the C library there; returns the environment in which programs use the copy."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {l.split(None, 5)[5].strip() for l in maps if "/libc.so" in l or "/libc-2" in l}
    if not paths:
        raise Failure("this Python has no libc.so.6 of its own to copy")
    path = paths.pop()
    shutil.copyfile(path, directory / "libc.so.6")
    return dict(os.environ, LD_LIBRARY_PATH=str(directory))


class Pair:
    """build/bench/pair: measures pairs of malloc and free on demand."""

    def __init__(self, env):
        self.p = start([BUILD / "bench/pair"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.pid = self.p.pid
        self.made = 0
        self._answer()

    def _answer(self):
        line = self.p.stdout.readline().split()
        if len(line) != 2:
            raise Failure("the target is gone")
        return [int(w) for w in line]

    def run(self, n):
        """n pairs; returns nanoseconds per pair by the clock and by the processor's time."""
        self.p.stdin.write(b"%d\n" % n)
        self.p.stdin.flush()
        self.made += n
        wall, cpu = self._answer()
        return wall / n, cpu / n

    def measure(self):
        """The medians of one round, whose length does not depend on the cost: what a pair costs is tried out first."""
        guess, _ = self.run(500)
        n = max(500, int(ROUND_S * 1e9 / guess / PER_ROUND))
        guess, _ = self.run(n)
        n = max(500, int(ROUND_S * 1e9 / guess))
        taken = [self.run(n) for _ in range(PER_ROUND)]
        return statistics.median(w for w, _ in taken), statistics.median(c for _, c in taken)

    def changed_code_bytes(self):
        """Bytes of the mapped C library's code that differ from its file: probes, if any."""
        count = 0
        with open(f"/proc/{self.pid}/maps", encoding="utf-8") as maps, open(f"/proc/{self.pid}/mem", "rb") as mem:
            for line in maps:
                span, mode, offset, _, _, *path = line.split(None, 5)
                if "x" not in mode or not path or not path[0].strip().endswith("libc.so.6"):
                    continue
                first, last = (int(x, 16) for x in span.split("-"))
                mem.seek(first)
                have = mem.read(last - first)
                with open(path[0].strip(), "rb") as f:
                    f.seek(int(offset, 16))
                    want = f.read(last - first)
                count += sum(a != b for a, b in zip(have, want)) if have[:len(want)] != want else 0
        return count

    def end(self):
        end(self.p)


class Paced:
    """build/bench/paced: a fixed number of allocations per second from 1,024 stacks."""

    def __init__(self, env, rate, alive):
        self.p = start([BUILD / "bench/paced", rate, alive], stdout=subprocess.PIPE, env=env)
        self.pid = self.p.pid
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()
        wait_until(lambda: self.seen, 20, "the paced target speaks")

    def _read(self):
        for line in self.p.stdout:
            self.seen.append([int(w) for w in line.split()])

    def rate_since(self, index):
        (n0, t0), (n1, t1) = self.seen[index], self.seen[-1]
        return (n1 - n0) / (t1 - t0) * 1e9 if t1 > t0 else 0

    def end(self):
        if self.p.poll() is None:
            self.p.terminate()
            self.p.wait()


# --- what watches them ---

class Watch:
    """A run of `tidemark top -f json` whose lines are read as they come. The intervals' last lines are kept."""

    def __init__(self, pid, env):
        self.began = time.monotonic()
        self.meta, self.ticks, self.procs = None, [], []
        self.p = start([TOOL, "top", "-p", pid, "-f", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for raw in self.p.stdout:
            if not raw.endswith(b"\n"):
                break  # it was killed while it wrote
            line = json.loads(raw)
            if line["type"] == "tick":
                self.ticks.append((time.monotonic() - self.began, line))
            elif line["type"] == "proc":
                self.procs.append(line)
            elif line["type"] == "meta":
                self.meta = line

    def attached(self):
        """The first tick says so."""
        def look():
            if self.p.poll() is not None:
                raise Failure(f"tidemark ended with {self.p.returncode}: {self.p.stderr.read().decode().strip()}")
            return self.ticks

        wait_until(look, 30, "tidemark's first tick")
        return self

    def end(self):
        if self.p.poll() is None:
            self.p.terminate()
        self.p.wait(20)
        self.thread.join(10)
        self.p.stdout.close()
        self.p.stderr.close()

    def counted(self, pid):
        return [p["layers"]["heap"]["alloc_count_total"] for p in self.procs if p["pid"] == pid][-1]


class Plain:
    """build/bench/plain: probes on first instructions."""

    def __init__(self, pid, env):
        self.p = start([BUILD / "bench/plain", pid], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        if self.p.stdout.readline() != b"attached\n":
            raise Failure("the plain probes could not be attached")

    def end(self):
        """Returns the hits of malloc, its return and free."""
        self.p.stdin.close()
        hits = [int(w) for w in self.p.stdout.readline().split()]
        self.p.wait(20)
        self.p.stdout.close()
        return hits


class Empty:
    """build/bench/empty: Tidemark's places, programs that do nothing. Does not work on kernels without sessions."""

    def __init__(self, places):
        self.p = start([BUILD / "bench/empty", *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.works = self.p.stdout.readline() == b"attached\n"
        if not self.works and self.p.wait(10) != 77:
            raise Failure("the empty programs could not be attached")

    def end(self):
        self.p.stdin.close()
        self.p.wait(20)
        self.p.stdout.close()


def planned_places(pid):
    """The file and the offsets of malloc and free where `tidemark probes` would put its probes."""
    out = subprocess.run([TOOL, "probes", "-p", str(pid), "-f", "json"], capture_output=True, text=True, check=True).stdout
    probes = {l["symbol"]: l for l in map(json.loads, out.splitlines()) if l["type"] == "probe" and l["planned"]}
    return probes["malloc"]["module"], probes["malloc"]["offset"], probes["free"]["offset"]


class Progtime:
    """build/bench/progtime: how often and how long the kernel's BPF programs ran."""

    def __init__(self):
        self.p = start([BUILD / "bench/progtime"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.p.stdout.readline() != b"counting\n":
            raise Failure("the kernel does not measure programs")

    def read(self):
        self.p.stdin.write(b"\n")
        self.p.stdin.flush()
        found = {}
        while (line := self.p.stdout.readline().split()):
            found[int(line[0])] = (line[1].decode(), int(line[2]), int(line[3]))
        return found

    def end(self):
        end(self.p)


def programs_of(pid):
    """Ids of the BPF programs that a process holds."""
    ids = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        ids |= {int(l.split()[1]) for l in entry.read_text().splitlines() if l.startswith("prog_id:")}
    return ids


# --- printing ---

def row(*cells):
    widths = (46, 11, 11, 11, 40)
    print("  " + " ".join(f"{c:<{w}}" if i in (0, 4) else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths))).rstrip(),
          flush=True)


def heading(title, *columns):
    print(f"\n{title}", flush=True)
    if columns:
        row("", *columns)


def spread(values, digits=1, scale=1):
    return [f"{f(values) * scale:,.{digits}f}" for f in (min, statistics.median, max)]


def against(bar, value, at_least=False):
    met = value >= bar if at_least else value <= bar
    return f"bar {'>=' if at_least else '<='} {bar:g}: {'met' if met else 'MISSED'}"


# --- 1: the pair ---

def tidemark_round(target, neighbour, env, costs):
    watch = Watch(target.pid, env).attached()
    before = target.made
    costs["tidemark"].append(target.measure())
    costs["neighbour"].append(neighbour.measure())
    seen = len(watch.ticks)
    wait_until(lambda: len(watch.ticks) > seen + 1 or watch.p.poll() is not None, 10, "an interval after the pairs")
    counted = watch.counted(target.pid)
    watch.end()
    if counted != target.made - before:
        raise Failure(f"tidemark counted {counted} of {target.made - before} allocations: this is not the whole cost")


def plain_round(target, env, costs):
    plain = Plain(target.pid, env)
    before = target.made
    costs["plain"].append(target.measure())
    pairs = target.made - before
    hits = plain.end()
    # The target's own input and output allocate nothing.
    if hits != [pairs] * 3:
        raise Failure(f"plain probes were hit {hits} times in {pairs} pairs")


def empty_round(target, places, costs):
    empty = Empty(places)
    if empty.works:
        costs["empty"].append(target.measure())
    empty.end()


def pair_rounds(target, neighbour, env, rounds):
    costs = {k: [] for k in ("bare", "tidemark", "empty", "plain", "neighbour")}
    places = planned_places(target.pid)
    steps = [lambda: costs["bare"].append(target.measure()), lambda: tidemark_round(target, neighbour, env, costs),
             lambda: empty_round(target, places, costs), lambda: plain_round(target, env, costs)]
    for n in range(rounds):
        for i in range(len(steps)):
            steps[(n + i) % len(steps)]()
    return costs


def program_times(target, env):
    """One more round in which the kernel measures the programs (which costs by itself)."""
    progtime = Progtime()
    watch = Watch(target.pid, env).attached()
    ours = programs_of(watch.p.pid)
    before, pairs = progtime.read(), target.made
    wall, _ = target.measure()
    after, pairs = progtime.read(), target.made - pairs
    seen = len(watch.ticks)
    wait_until(lambda: len(watch.ticks) > seen, 10, "an interval after the pairs")
    body = [t["self"]["body_ns"] for _, t in watch.ticks if t["self"]["body_ns"]]
    watch.end()
    progtime.end()
    rows = []
    for i in ours & set(after):
        name, runs, ns = after[i]
        _, runs0, ns0 = before.get(i, (name, 0, 0))
        if runs > runs0:
            rows.append((name, (runs - runs0) / pairs, (ns - ns0) / (runs - runs0)))
    return wall, body, sorted(rows, key=lambda r: -r[1] * r[2])


PAIR_ROWS = (("bare", "bare"), ("tidemark", "tidemark attached"), ("empty", "its probes with empty programs"),
             ("plain", "plain probes on first instructions"), ("neighbour", "not observed, while another process is"))


def print_pair(costs, rounds):
    heading(f"1. A pair of malloc(64) and free, ns ({rounds} rounds in turn)", "min", "median", "max")
    for key, label in PAIR_ROWS:
        if not costs[key]:
            continue
        wall, cpu = zip(*costs[key])
        bar = "; " + against(2000, statistics.median(wall)) if key == "tidemark" else ""
        row(label, *spread(wall), f"processor time {statistics.median(cpu):,.1f}" + bar)
    for key, bar in (("plain", 8), ("empty", None)):
        ratios = [other[0] / own[0] for other, own in zip(costs[key], costs["tidemark"])]
        if ratios:
            row(f"{dict(PAIR_ROWS)[key].split(' with')[0]} / tidemark"[:46], *spread(ratios, 2),
                against(bar, statistics.median(ratios), at_least=True) if bar else "round by round")


def bench_pair(env, options):
    target, neighbour = Pair(env), Pair(env)
    print_pair(pair_rounds(target, neighbour, env, options.rounds), options.rounds)
    slowed, body, rows = program_times(target, env)
    heading(f"   Programs per pair, as the kernel measures them (a pair then takes {slowed:,.0f} ns)",
            "runs", "ns/run", "ns/pair")
    for name, runs, ns in rows:
        if runs > 0.001:
            row(f"  {name}", f"{runs:.2f}", f"{ns:,.0f}", f"{runs * ns:,.0f}")
    if body:
        row("  any of them, as tidemark says (body_ns)", "", f"{statistics.median(body):,.0f}")
    target.end()
    neighbour.end()


# --- 2: its own use ---

def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS, (int(fields[11]) / TICKS)


def memory_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {l.split(":")[0]: int(l.split()[1]) / 1024 for l in lines if l.startswith(("VmHWM", "VmRSS", "Rss"))}


def last_interval(path):
    """The last complete interval of a JSON file: its tick and stack lines."""
    stacks, last = [], (None, [])
    with open(path, encoding="utf-8") as f:
        for raw in f:
            if not raw.endswith("\n"):
                break
            line = json.loads(raw)
            if line["type"] == "stack":
                stacks.append(line)
            elif line["type"] == "tick":
                last, stacks = (line, stacks), []
    return last


def own_once(env, options, out):
    target = Paced(env, options.rate, options.alive)
    began = time.monotonic()
    p = start([TOOL, "top", "-p", target.pid, "-f", "json", "--limit", "0", "-i", "1", "-o", out], env=env)
    time.sleep(options.settle)  # attaching and naming the stacks is another row's business
    index, from_s, (cpu0, user0) = len(target.seen) - 1, time.monotonic(), cpu_seconds(p.pid)
    time.sleep(options.seconds)
    (cpu1, user1), took = cpu_seconds(p.pid), time.monotonic() - from_s
    found = {"steady": (cpu1 - cpu0) / took * 100, "user": (user1 - user0) / took * 100,
             "whole": cpu1 / (time.monotonic() - began) * 100, "memory": memory_of(p.pid), "rate": target.rate_since(index)}
    if p.poll() is not None:
        raise Failure(f"tidemark ended with {p.returncode}")
    end(p)
    target.end()
    return found


def print_own(found, label):
    memory = found["memory"]
    row(f"{label}: % of a core, steady", f"{found['steady']:.2f}", "", "", against(2, found["steady"]) +
        f" (of it {found['user']:.2f} in user mode)")
    row(f"{label}: % of a core, with the start", f"{found['whole']:.2f}")
    parts = ", ".join(f"{k[3:].lower()} {v:.1f}" for k, v in memory.items() if k.startswith("Rss"))
    row(f"{label}: peak RSS, MiB", f"{memory['VmHWM']:.1f}", "", "", against(40, memory["VmHWM"]) + f" ({parts})")
    row(f"{label}: allocations/s that the target made", f"{found['rate']:,.0f}")


def bench_own(env, options):
    heading(f"2. Own use at {options.rate:,} allocations/s, 1,024 stacks, {options.alive:,} blocks alive, every stack shown")
    print_own(own_once(env, options, "/dev/null"), "to /dev/null")
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as d:
        path = Path(d) / "out.json"
        print_own(own_once(env, options, path), "to a file")
        with open(path, encoding="utf-8") as f:
            bytes_max = json.loads(f.readline())["map_memory_bytes"]
        tick, stacks = last_interval(path)
        if not tick:
            raise Failure("the file holds no complete interval")
        heap = [s for s in stacks if s["layer"] == "heap"]
        seconds = max(1, tick["n"] - 1)
        row("output, KiB per interval", f"{path.stat().st_size / 1024 / seconds:,.0f}")
        row("kernel maps, MiB, as it says", f"{bytes_max / 2**20:.1f}", "", "", against(128, bytes_max / 2**20))
        row("own processor time, %, as it says", f"{tick['self']['cpu_pct']:.2f}")
        row("own RSS, MiB, as it says", f"{tick['self']['rss_bytes'] / 2**20:.1f}")
        row("stacks with live blocks in the last interval", f"{sum(s['live_count'] > 0 for s in heap):,}")
        row("blocks alive, as it says", f"{sum(s['live_count'] for s in heap):,}")
        print(f"  losses: {tick['self']['losses'] or 'none'}")


# --- 3: the first table ---

def first_tick_s(pid, env):
    watch = Watch(pid, env).attached()
    seconds = watch.ticks[0][0]
    watch.end()
    return seconds


def first_text_s(pid, env):
    """Until the last byte of the first table: the next one is a second away, so a silence of 0.3 s ends it."""
    began = time.monotonic()
    p = start([TOOL, "top", "-p", pid], stdout=subprocess.PIPE, env=env)
    selector = selectors.DefaultSelector()
    selector.register(p.stdout, selectors.EVENT_READ)
    text, last = b"", 0.0
    while selector.select(0.3 if b"PID" in text else 30):
        got = os.read(p.stdout.fileno(), 65536)
        if not got:
            raise Failure("tidemark ended before its first table")
        text += got
        last = time.monotonic() - began
    end(p)
    if str(pid).encode() not in text:
        raise Failure("the first table does not name the process")
    return last


def bench_first(env, options):
    target = Paced(env, options.rate, options.alive)
    json_s, text_s = [], []
    for _ in range(7):
        json_s.append(first_tick_s(target.pid, env))
        text_s.append(first_text_s(target.pid, env))
    target.end()
    heading("3. From start to the first table of one process, seconds (7 runs)", "min", "median", "max")
    row("first table (text)", *spread(text_s, 2), against(1.5, statistics.median(text_s)))
    row("first complete interval (JSON)", *spread(json_s, 2), against(1.5, statistics.median(json_s)))


# --- 4: SIGKILL ---

class Timeline(threading.Thread):
    """The target works without a pause; every short round is kept with when it began and ended."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target, self.go, self.rounds, self.error = target, True, [], None

    def run(self):
        try:
            while self.go:
                began = time.monotonic()
                wall, cpu = self.target.run(5000)
                self.rounds.append((began, time.monotonic(), wall, cpu))
        except Failure as e:
            self.error = e

    def between(self, first, last):
        return [ns for began, ended, ns, _ in self.rounds if began >= first and ended <= last]


def kill_once(target, env, moment):
    """One life: returns the costs before, while attached and after, and how long after the kill a probe was last felt."""
    timeline = Timeline(target)
    timeline.start()
    born = time.monotonic()
    wait_until(lambda: time.monotonic() > born + 0.2, 5, "bare rounds")
    started = time.monotonic()
    watch = Watch(target.pid, env)
    wait_until(lambda: time.monotonic() > started + moment or watch.p.poll() is not None, 10, "the moment", 0.001)
    if watch.p.poll() is not None:
        raise Failure("tidemark ended by itself")
    attached = watch.ticks[0][0] + watch.began if watch.ticks else None
    killed = time.monotonic()
    watch.p.kill()
    watch.p.wait()
    gone = time.monotonic()
    wait_until(lambda: time.monotonic() > gone + 0.3, 5, "rounds after it")
    left = target.changed_code_bytes()
    timeline.go = False
    timeline.join(30)
    watch.end()
    if timeline.error or target.p.poll() is not None:
        raise Failure("the target did not outlive the kill")
    before = statistics.median(timeline.between(born, started))
    # By its processor time: a round that waited for a processor is not a slow one.
    felt = [ended - killed for _, ended, _, ns in timeline.rounds if ended > killed and ns > 5 * before]
    return {"before": before, "while": timeline.between(attached, killed) if attached else [],
            "after": statistics.median(timeline.between(gone, time.monotonic())), "felt": max(felt, default=0), "left": left}


def bench_kill(env, options):
    target = Pair(env)
    chance = random.Random(options.seed)
    moments = [chance.uniform(0.02, 2.0) for _ in range(options.kills)]
    lives = [kill_once(target, env, m) for m in moments]
    target.end()
    heading(f"4. kill -9 at {options.kills} random moments, a pair in ns (seed {options.seed})", "min", "median", "max")
    row("before", *spread([l["before"] for l in lives]))
    attached = [statistics.median(l["while"]) for l in lives if l["while"]]
    if attached:
        row(f"while attached ({len(attached)} of them)", *spread(attached))
    row("afterwards", *spread([l["after"] for l in lives]))
    row("afterwards / before", *spread([l["after"] / l["before"] for l in lives], 2))
    row("last slow round ended after the kill, ms", *spread([l["felt"] for l in lives], 1, 1000))
    row("bytes of the C library's code still changed", *spread([l["left"] for l in lives], 0))


BENCHES = {"pair": bench_pair, "own": bench_own, "first": bench_first, "kill": bench_kill}


def options_of(argv):
    p = argparse.ArgumentParser(description="Measures what Tidemark costs.")
    p.add_argument("what", nargs="*", choices=[[], *BENCHES], help="without: all")
    p.add_argument("--rounds", type=int, default=9, help="of the pair (9)")
    p.add_argument("--seconds", type=float, default=20, help="of own use (20)")
    p.add_argument("--settle", type=float, default=4, help="before own use is measured (4)")
    p.add_argument("--rate", type=int, default=50000, help="allocations per second (50000)")
    p.add_argument("--alive", type=int, default=50000, help="blocks alive (50000)")
    p.add_argument("--kills", type=int, default=10, help="number of kills (10)")
    p.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the moments of the kills")
    return p.parse_args(argv)


def main():
    options = options_of(sys.argv[1:])
    if os.geteuid():
        raise Failure("probes need root")
    version = subprocess.run([TOOL, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}, kernel {os.uname().release}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="tidemark-libc-") as d:
        env = own_libc(Path(d))
        for name in options.what or BENCHES:
            BENCHES[name](env, options)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


def run(what):
    try:
        what()
    except (Failure, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
