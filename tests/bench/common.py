# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the benches share: options, the table that is printed and written, runs in turn, Tidemark as a subject, the programs that are watched.
Starting and ending processes comes from the end-to-end tests' harness.

Machines are shared and noisy, so nothing is compared with a figure of another moment: what is compared runs in turn, A B A B..., and each
figure is divided by the mean of the bare ones before and after it. How far two bare runs beside each other differ is printed too (noise): what is
smaller than that has not been measured. Targets run with a copy of the C library of their own: what others probe on this machine at the same
time then hits none of these programs.
"""
import argparse
import ctypes
import json
import mmap
import os
import random
import signal
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import harness as h  # noqa: E402

BUILD, TOOL = h.BUILD, h.TOOL
BENCH = BUILD / "bench"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)


def die_with_parent():
    """For preexec_fn: a bench that is killed leaves no programs behind."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# --- options ---

class Settings:
    """Each bench names what a full run takes; a quick one (BENCH_QUICK=1) shows only that everything works."""

    def __init__(self, options):
        self.quick, self.given, self.seed = options.quick, options, options.seed
        self.out = options.out

    def seconds(self, full):
        return self.given.seconds or (min(full, 2) if self.quick else full)

    def rounds(self, full=5):
        return self.given.rounds or (1 if self.quick else full)

    def count(self, full, quick):
        return quick if self.quick else full


def options_of(argv, names=()):
    p = argparse.ArgumentParser(description="Measures what Tidemark costs.")
    if names:
        p.add_argument("what", nargs="*", help=f"of {', '.join(names)} (all)")
    env = os.environ
    p.add_argument("--quick", action="store_true", default=env.get("BENCH_QUICK", "0") not in ("", "0"), help="BENCH_QUICK=1: a smoke run")
    p.add_argument("--rounds", type=int, default=int(env.get("BENCH_ROUNDS", "0")), help="BENCH_ROUNDS: of each comparison, in place of its own")
    p.add_argument("--seconds", type=float, default=float(env.get("BENCH_SECONDS", "0")), help="BENCH_SECONDS: of each phase, in place of its own")
    p.add_argument("--seed", type=int, default=random.randrange(10**6), help="of all that is random")
    p.add_argument("--out", type=Path, default=BUILD / "bench.md", help="the table as Markdown (build/bench.md)")
    options = p.parse_args(argv)
    unknown = set(getattr(options, "what", ())) - set(names)
    if unknown:
        p.error(f"no bench named {', '.join(sorted(unknown))}")
    return options


# --- the table ---

class Report:
    """Printed row by row and written whole after each, so that a run which is cut off leaves what it had."""
    WIDTHS = (64, 11, 11, 11, 11)

    def __init__(self, path):
        self.path, self.text, self.missed = path, "", []
        self.columns, self.under = (), ""

    def _put(self, line, markdown):
        print(line.rstrip(), flush=True)
        self.text += markdown
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text, encoding="utf-8")

    def title(self, text):
        self._put(text, f"# {text}\n")

    def section(self, text, *columns):
        """columns: of figures; a last one for remarks is added."""
        self.columns, self.under = columns, text.split(" (")[0]
        self._put(f"\n{text}", f"\n## {text}\n\n")
        if columns:
            cells = ("", *columns, "")
            self._put(self._line(cells), self._markdown(cells) + "|---|" + "---:|" * len(columns) + "---|\n")

    def row(self, label, *cells, remark=""):
        cells = (label, *cells, *[""] * (len(self.columns) - len(cells)), remark)
        if "MISSED" in remark:
            self.missed += [f"{self.under}: {label}: {r}" for r in remark.split("; ") if "MISSED" in r]
        self._put(self._line(cells), self._markdown(cells))

    def miss(self, text):
        self.missed.append(f"{self.under}: {text}")

    def verbatim(self, text):
        self._put(text, f"```\n{text}\n```\n")

    def note(self, text):
        self._put(f"  {text}", f"\n{text}\n")

    def _line(self, cells):
        widths = self.WIDTHS + (11,) * len(cells)
        return "  " + " ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells[:-1], widths))) + f"  {cells[-1]}"

    @staticmethod
    def _markdown(cells):
        return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |\n"


def spread(values, digits=1, scale=1):
    """Least, median, most."""
    return [f"{f(values) * scale:,.{digits}f}" for f in (min, statistics.median, max)] if values else ["-"] * 3


def against(bar, value, at_least=False, unit=""):
    met = value >= bar if at_least else value <= bar
    return f"bar {'>=' if at_least else '<='} {bar:g}{unit}: {'met' if met else 'MISSED'}"


# --- in turn ---

class Turns:
    """What `in_turn` has taken: per variant its figures, and the bare ones before and after."""

    def __init__(self, names):
        self.taken = {n: [] for n in names}
        self.bare, self.skipped, self.failed = [], {}, {}

    def why_not(self, name):
        return self.skipped.get(name) or self.failed.get(name) or "no figures"

    def check(self):
        """After what there is has been printed."""
        h.check(not self.failed, "; ".join(f"{name}: {why}" for name, why in self.failed.items()))

    def values(self, name, figure):
        return [got[figure] for got, _, _ in self.taken[name]]

    def bare_values(self, figure):
        return [b[figure] for b in self.bare]

    def ratios(self, name, figure):
        return [got[figure] / ((b[figure] + a[figure]) / 2) for got, b, a in self.taken[name] if b[figure] + a[figure] > 0]

    def noise(self, figure):
        """Bare figures against the mean of the two bare ones beside them."""
        v = self.bare_values(figure)
        return [v[i] / ((v[i - 1] + v[i + 1]) / 2) for i in range(1, len(v) - 1) if v[i - 1] + v[i + 1] > 0]


def in_turn(bare, variants, rounds, often=()):
    """
    bare, one, bare, another, bare...: each is a call that returns {figure: value}. The order turns from round to round. `often`: those of which small
    differences count, twice per round.
    """
    turns, names = Turns(variants), [*variants, *often]
    turns.bare.append(bare())
    for n in range(rounds):
        for i in range(len(names)):
            name = names[(n + i) % len(names)]
            if name in turns.skipped or name in turns.failed:
                continue
            try:
                got = variants[name]()
            except h.Skip as e:
                turns.skipped[name] = str(e)
                continue
            except h.Failure as e:
                turns.failed[name] = str(e)
                continue
            turns.bare.append(bare())
            turns.taken[name].append((got, *turns.bare[-2:]))
    return turns


# --- Tidemark ---

class Observer:
    """
    `tidemark top -f json` into a file: reading along would take CPU time from what is measured. The file is looked at only while somebody
    waits for a tick, and parsed after the end.
    """
    TICK = b'"type":"tick"'

    def __init__(self, *args, env=None):
        self.path = h.scratch("tidemark-bench-") / "out.json"
        self.began = time.monotonic()
        self.process = h.Process([TOOL, "top", "-f", "json", "-o", self.path, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 env=env)
        self.pid, self._offset, self._ticks, self._tail, self.lines = self.process.pid, 0, 0, b"", []

    def alive(self):
        if self.process.p.poll() is not None:
            code = self.process.wait(10)
            raise h.Failure(f"tidemark ended with {code}: {self.process.errors().strip()}")

    def ticks(self):
        self.alive()
        if self.path.exists():
            with open(self.path, "rb") as f:
                f.seek(self._offset)
                new = f.read()
            self._offset += len(new)
            self._tail += new
            self._ticks += self._tail.replace(b" ", b"").count(self.TICK)
            # A mark that is only half written comes again; a counted one does not.
            self._tail = self._tail[-32:] if self.TICK not in self._tail[-32:].replace(b" ", b"") else b""
        return self._ticks

    def attached(self):
        """The first tick says so."""
        h.wait_until(self.ticks, 60, "tidemark's first tick", step=0.005)
        return self

    def wait_more(self, n, seconds=20):
        have = self.ticks()
        h.wait_until(lambda: self.ticks() >= have + n, seconds, f"{n} more ticks of tidemark")

    def end(self, sig=signal.SIGTERM):
        """Ends it and reads what it wrote."""
        self.process.kill(sig)
        self.process.wait(30, "tidemark")
        self.process.end()
        for raw in self.path.read_bytes().split(b"\n") if self.path.exists() else []:
            try:
                self.lines.append(json.loads(raw))
            except ValueError:
                pass  # the last one of a killed run
        self.path.unlink(missing_ok=True)
        return self

    def of(self, kind, pid=None):
        return [l for l in self.lines if l["type"] == kind and pid in (None, l.get("pid"))]

    def how(self, pid=None):
        """What it says of itself: mode, share of the time attached, overhead."""
        procs = [p for p in self.of("proc", pid) if p["state"] == "running"] or self.of("proc", pid)
        if not procs:
            return "nothing said"
        known = [p["overhead_pct"] for p in procs if p["overhead_pct"] is not None]
        text = f"{'/'.join(sorted({p['mode'] for p in procs}))}, attached {statistics.mean(p['attached_share'] for p in procs):.0%}"
        return text + (f", says {statistics.mean(known):.2f} %" if known else "")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.end()


# --- what is watched ---

class Spoken(h.Process):
    """A program of tests/bench that answers on its output, line by line, without anybody polling."""

    def __init__(self, name, *args, **kw):
        read, write = os.pipe()
        kw.setdefault("preexec_fn", die_with_parent)
        try:
            super().__init__([BENCH / name, *args], stdout=write, **kw)
        finally:
            os.close(write)
        self.answers = os.fdopen(read, "rb")

    def hear(self):
        line = self.answers.readline()
        if not line:
            code = self.wait(10)
            if code == 77:
                raise h.Skip(f"{Path(self.argv[0]).name} can't run here: {self.errors().strip()}")
            raise h.Failure(f"{' '.join(self.argv)} ended with {code}: {self.errors().strip()}")
        return line.decode().strip()

    def end(self):
        super().end()
        self.answers.close()

    def stop(self):
        """Its input ends: returns what it says at last."""
        self.p.stdin.close()
        last = self.answers.readline().decode().split()
        self.wait(20)
        self.answers.close()
        return last


class Pair(Spoken):
    """Makes pairs of malloc and free on demand."""
    ROUND_S = 0.06  # one measurement: long against a time slice of the scheduler, short against the run
    PER_ROUND = 5   # measurements per round, of which the median counts

    def __init__(self, env):
        super().__init__("pair", env=env)
        self.made = 0
        self.hear()

    def run(self, n):
        """n pairs; returns nanoseconds per pair by the clock and by the processor's time."""
        self.send(b"%d\n" % n)
        self.made += n
        wall, cpu = map(int, self.hear().split())
        return wall / n, cpu / n

    def measure(self):
        """The medians of one round, whose length does not depend on the cost: what a pair costs is tried out first."""
        n = 500
        for _ in range(2):
            n = max(500, int(self.ROUND_S * 1e9 / self.run(n)[0]))
        taken = [self.run(n) for _ in range(self.PER_ROUND)]
        return {"wall": statistics.median(w for w, _ in taken), "cpu": statistics.median(c for _, c in taken)}


class Work:
    """A file that programs count their work in: one 64-bit counter per 64 bytes, each with one writer."""
    SLOTS, STRIDE = 64, 64

    def __init__(self):
        self.path = h.scratch("tidemark-work-") / "work"
        self.path.write_bytes(bytes(self.SLOTS * self.STRIDE))
        self.path.parent.chmod(0o755)
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)

    def total(self):
        return sum(struct.unpack_from("<Q", self.map, i * self.STRIDE)[0] for i in range(self.SLOTS))


def own_libc():
    """The environment in which programs use a copy of the C library that nobody else probes."""
    d = h.scratch("tidemark-libc-")
    d.chmod(0o755)
    return h.private_libc(d)


def libc_of(pid):
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        path = line.split(None, 5)[5] if line.count("/") else ""
        if path.endswith("/libc.so.6"):
            return path
    raise h.Skip(f"process {pid} has no libc.so.6")


def cpu_seconds(pid):
    """(all, in user mode) of a process; (0, 0) when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return 0, 0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S, int(fields[11]) / TICKS_PER_S


def memory_of(pid):
    """MiB by the kernel's names: VmHWM, VmRSS, RssAnon..."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {l.split(":")[0]: int(l.split()[1]) / 1024 for l in lines if l.startswith(("VmHWM", "VmRSS", "Rss"))}


def children(pid):
    return [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]


class Progtime(Spoken):
    """How often and how long the kernel's BPF programs ran, from now on."""

    def __init__(self):
        super().__init__("progtime")
        h.check_equal(self.hear(), "counting", "progtime")

    def read(self):
        """{id: (name, runs, ns)}"""
        self.send()
        found = {}
        while (words := self.hear().split()):
            found[int(words[0])] = (words[1], int(words[2]), int(words[3]))
        return found


# --- running ---

def main(bench):
    """Of a file that is run by itself."""
    run_all({bench.__name__: bench}, options_of(sys.argv[1:]))


def each_part(report, parts):
    """parts: {name: call}. One that fails or can't be run does not keep the others from it; Failure at the end."""
    failed = []
    for name, part in parts.items():
        try:
            part()
        except h.Skip as e:
            report.note(f"{name}: skipped: {e}")
        except (h.Failure, OSError, subprocess.SubprocessError) as e:
            failed.append(name)
            report.note(f"{name}: FAILED: {e}")
    h.check(not failed, f"in part: {', '.join(failed)}")


def run_all(benches, options):
    """Every bench, also after one that failed. Exit 1 when one failed; a missed bar is no failure: it stands in the table."""
    if os.geteuid():
        sys.exit("bench: probes need root")
    if not TOOL.exists():
        sys.exit(f"bench: {TOOL} is not built")
    version = subprocess.run([TOOL, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    report, failed = Report(options.out), []
    report.title(f"{version}, kernel {os.uname().release}, {os.cpu_count()} CPUs")
    report.note(f"{time.strftime('%Y-%m-%d %H:%M')}, load {os.getloadavg()[0]:.1f}, seed {options.seed}{', quick: figures mean nothing' if options.quick else ''}")
    random.seed(options.seed)
    for name, bench in benches.items():
        began = time.monotonic()
        try:
            bench(report, Settings(options))
        except h.Skip as e:
            report.note(f"{name}: skipped: {e}")
        except (h.Failure, OSError, subprocess.SubprocessError) as e:
            failed.append(name)
            report.note(f"{name}: FAILED: {e}")
        report.note(f"{name}: {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
    report.section("Bars missed")
    for line in report.missed or ["none"]:
        report.note(line)
    for name in failed:
        report.note(f"{name} FAILED")
    sys.exit(bool(failed))
