#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What Tidemark takes on a host with many processes: time to the first table, processor time, memory, and what attaching does to
those it attaches to. Prints one table; fails only on errors. Needs root.

  scale.py [all] [screen] [exact] [attach] [--seconds 30]      without arguments: all four
"""
import argparse
import atexit
import ctypes
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ.get("B", "build")
TOOL = Path(os.environ.get("TIDEMARK", BUILD / "tidemark"))
TICKS = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count()
HOST = 300
PYTHON = """
import time, json, logging, threading, collections
kept = collections.deque(maxlen=100)
while True:
    kept.append(json.dumps(list(range(50))))
    time.sleep(1)
"""
SHELL = "while :; do sleep 5; done"
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_started = []


def _with_us():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv, **kw):
    p = subprocess.Popen([str(a) for a in argv], preexec_fn=_with_us, **kw)
    _started.append(p)
    return p


def end(procs):
    for p in procs:
        if p.poll() is None:
            p.kill()
    for p in procs:
        p.wait()
        if p in _started:
            _started.remove(p)


atexit.register(lambda: end(list(_started)))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def build_crowd():
    d = tempfile.mkdtemp(prefix="tidemark-scale-")
    atexit.register(subprocess.run, ["rm", "-rf", d], check=False)
    program = Path(d) / "crowd"
    subprocess.run(["cc", "-O1", "-g", "-fno-optimize-sibling-calls", "-o", program, Path(__file__).with_name("crowd.c")], check=True)
    return program


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        rows = dict(line.split(":", 1) for line in f if line.startswith(("Vm", "Rss")))
    return {k: int(v.split()[0]) / 1024 for k, v in rows.items()}


def settled(pids, seconds=90):
    """Until they have started: none of them has used a processor for a moment."""
    deadline = time.monotonic() + seconds
    before = None
    while time.monotonic() < deadline:
        time.sleep(1)
        now = sum(cpu_s(p) for p in pids)
        if before is not None and now - before < 0.3:
            return
        before = now


def processes():
    return sum(1 for p in Path("/proc").iterdir() if p.name.isdigit() and os.path.exists(p / "exe"))


class Json:
    """Tidemark with JSON lines."""

    def __init__(self, *args):
        self.began = time.monotonic()
        self.first = None
        self.ticks, self.bytes = [], 0
        self.p = start([TOOL, *args, "-f", "json"], stdout=subprocess.PIPE)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.p.stdout:
            self.bytes += len(line)
            if line.startswith(b'{"type":"tick"') or b'"type":"tick"' in line[:40]:
                self.first = self.first or time.monotonic() - self.began
                self.ticks.append(json.loads(line))


class Screen:
    """Tidemark on a terminal of 120x40. The first table is there when the first process stands on it."""

    def __init__(self, *args):
        self.began = time.monotonic()
        self.first = None
        self.bytes, self.ticks = 0, []
        self.fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.p = start([TOOL, *args], stdin=child, stdout=child, stderr=child, env=dict(os.environ, TERM="xterm-256color"))
        os.close(child)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        text = b""
        while True:
            try:
                new = os.read(self.fd, 65536)
            except OSError:
                return
            self.bytes += len(new)
            text = (text + new)[-65536:]
            if not self.first and (b"python3" in text or b"crowd" in text):
                self.first = time.monotonic() - self.began


def watch(tool, seconds, warm=3):
    """The figures of a run: first table, share of one processor, memory."""
    deadline = time.monotonic() + 60
    while not tool.first:
        if tool.p.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"no first table; exit code {tool.p.poll()}")
        time.sleep(0.01)
    start_s = cpu_s(tool.p.pid)
    time.sleep(warm)
    before, at = cpu_s(tool.p.pid), time.monotonic()
    most = {}
    while time.monotonic() - at < seconds:
        time.sleep(0.5)
        now = memory(tool.p.pid)
        most = {k: max(v, most.get(k, 0)) for k, v in now.items()}
    cpu = (cpu_s(tool.p.pid) - before) / (time.monotonic() - at)
    return {"first": tool.first, "start_s": start_s, "cpu": cpu, **most}


def stop(tool):
    tool.p.send_signal(signal.SIGINT)
    try:
        tool.p.wait(15)
    except subprocess.TimeoutExpired:
        tool.p.kill()
    end([tool.p])


def row(name, f, limit):
    print(f"{name:<22} first {f['first']:5.2f} s  start {f['start_s']:5.2f} s cpu  then {100 * f['cpu']:5.2f} % of a core ({100 * f['cpu'] / CPUS:.2f} % of {CPUS})"
          f"  rss {f['VmRSS']:5.1f} MB (anon {f['RssAnon']:.1f} file {f['RssFile']:.1f} shmem {f['RssShmem']:.1f}) peak {f['VmHWM']:5.1f} MB   [{limit}]", flush=True)


def host(crowd, n=HOST):
    shells = n // 15
    pythons = n * 6 // 10
    made = [start([sys.executable, "-c", PYTHON]) for _ in range(pythons)]
    made += [start([crowd, "tick", 2]) for _ in range(n - pythons - 2 * shells)]
    made += [start(["sh", "-c", SHELL]) for _ in range(shells)]  # each with a sleep
    settled([p.pid for p in made])
    return made


def measure(name, kind, args, seconds, limit, warm=8):
    tool = kind(*args)
    try:
        row(name, watch(tool, seconds, warm), limit)
        if tool.ticks:
            sizes = len(tool.ticks)
            print(f"{'':<22} {sizes} ticks, {tool.bytes / sizes / 1024:.0f} KB each; {tool.ticks[-1].get('procs')} processes", flush=True)
    finally:
        stop(tool)


def attach(crowd, n=500, pulses=8):
    """Until the first table of n processes, all with heap probes, and the longest turn of some of them meanwhile, against the same without."""
    quiet = [start([crowd, "tick", 1], stdout=subprocess.DEVNULL) for _ in range(n - pulses)]
    beats = [start([crowd, "pulse"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(pulses)]
    settled([p.pid for p in quiet])

    def longest():
        for p in beats:
            p.stdin.write(b"\n")
            p.stdin.flush()
        return max(int(p.stdout.readline()) for p in beats) / 1000

    longest()
    time.sleep(3)
    bare = longest()
    tool = Json("top", "-n", "^crowd|/crowd ", "-i", "1", "--layer", "heap")
    while not tool.first and tool.p.poll() is None:
        time.sleep(0.005)
    on = longest()
    time.sleep(2)
    run = longest()
    stop(tool)
    off = longest()
    end(quiet + beats)
    print(f"attach to {n:<12} first {tool.first or -1:5.2f} s; longest turn of {pulses} that beat each ms: bare {bare:.1f} ms, attaching {on:.1f} ms, attached {run:.1f} ms, "
          f"detaching {off:.1f} ms   [2 s, 20 ms]", flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("what", nargs="*", default=[])
    a.add_argument("--seconds", type=float, default=30)
    a.add_argument("--arg", action="append", default=[], help="one more argument of tidemark")
    o = a.parse_args()
    what = o.what or ["all", "screen", "exact", "attach"]
    crowd = build_crowd()
    if {"all", "screen"} & set(what):
        made = host(crowd)
        print(f"{processes()} processes, load {os.getloadavg()[0]:.1f}", flush=True)
        if "all" in what:
            measure("top -a, JSON", Json, ["top", "-a", "-i", "1", *o.arg], o.seconds, "1.5 s, 0.5 % of the machine, 48 MB")
        if "screen" in what:
            measure("top -a, screen", Screen, ["top", "-a", "-i", "1", *o.arg], o.seconds, "1.5 s, 0.5 % of the machine, 48 MB")
        end(made)
    if "exact" in what:
        made = [start([crowd, "stacks", 125, 500]) for _ in range(20)]
        time.sleep(1)
        measure("20 exact, 2,500 stacks", Json, ["top", "-p", ",".join(str(p.pid) for p in made), "--mode", "exact", "-i", "1", *o.arg], o.seconds,
                "1 % of a core, 32 MB", warm=12)
        end(made)
    if "attach" in what:
        attach(crowd)


if __name__ == "__main__":
    main()
