# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the end-to-end tests share: building and running targets with known truth, running Tidemark and reading its JSON lines as
they come, comparing the two, and proving that nothing is left behind. Every wait has a deadline; every process that was started here
is ended here, by its pid, also when a test fails. The rules of the format itself are in contract.py.
"""
import atexit
import collections
import errno
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import contract

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ.get("B", "build")
TOOL = Path(os.environ.get("TIDEMARK", BUILD / "tidemark"))
COUNTS = {  # ours: theirs
    "live_bytes": "live_bytes", "live_count": "live_count", "alloc_bytes": "alloc_bytes_total",
    "alloc_count": "alloc_count_total", "free_bytes": "free_bytes_total", "free_count": "free_count_total",
}
FACTS = {"unmatched_free", "late_attach"}  # losses that are no faults
PATIENCE_S = 60  # No limit is below: they are there against hanging, and a slow machine, or one that was paused, must not reach them.
_started = []


class Failure(Exception):
    """What was expected and what came instead, in one sentence."""


class Skip(Exception):
    """Why this machine can't run the test."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_equal(got, want, what):
    check(got == want, f"{what}: got {got!r}, expected {want!r}")


def wait_until(condition, seconds, what, step=0.02):
    """Polls until condition() is true and returns its value."""
    seconds = max(seconds, PATIENCE_S)
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds:g} s: {what}")
        time.sleep(step)


def _end_all():
    for p in reversed(_started):
        if p.poll() is None:
            p.kill()
            p.wait()


atexit.register(_end_all)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def build(*names):
    """Builds programs of tests/e2e/targets; returns their paths."""
    paths = [BUILD / "e2e" / n for n in names]
    wanted = [str(p.relative_to(ROOT)) if p.is_relative_to(ROOT) else str(p) for p in paths]
    made = subprocess.run(["make", "-s", "-C", str(ROOT)] + wanted, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Failure(f"make {' '.join(names)}: {made.stderr.strip()}")
    return paths


def scratch(name="tidemark-e2e-"):
    """A directory that is gone at the end."""
    d = Path(tempfile.mkdtemp(prefix=name))
    atexit.register(shutil.rmtree, d, ignore_errors=True)
    return d


def _lines(stream, into, lock):
    with io.BufferedReader(stream) as buffered:  # the pipe itself would be read byte by byte
        for raw in buffered:
            with lock:
                into.append(raw)


class Process:
    """A child whose output is collected by threads, so that no pipe ever fills up."""

    def __init__(self, argv, **kw):
        self.argv = [str(a) for a in argv]
        self.lock = threading.Lock()
        self.out, self.err = [], []
        kw.setdefault("stdin", subprocess.PIPE)
        kw.setdefault("stdout", subprocess.PIPE)
        self.p = subprocess.Popen(self.argv, stderr=subprocess.PIPE, bufsize=0, **kw)
        _started.append(self.p)
        self.pid = self.p.pid
        self.threads = []
        if self.p.stdout:
            self.threads.append(threading.Thread(target=_lines, args=(self.p.stdout, self.out, self.lock), daemon=True))
        self.threads.append(threading.Thread(target=_lines, args=(self.p.stderr, self.err, self.lock), daemon=True))
        for t in self.threads:
            t.start()

    def errors(self):
        with self.lock:
            return b"".join(self.err).decode(errors="replace")

    def error_lines(self):
        return [l for l in self.errors().splitlines() if l.strip()]

    def send(self, text=b"\n"):
        try:
            self.p.stdin.write(text)
            self.p.stdin.flush()
        except BrokenPipeError as e:
            raise Failure(f"{self.argv[0]} is gone: {self.errors()}") from e

    def kill(self, sig=signal.SIGTERM):
        if self.p.poll() is None:
            self.p.send_signal(sig)

    def wait(self, seconds, what=None):
        seconds = max(seconds, PATIENCE_S)
        try:
            code = self.p.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{what or ' '.join(self.argv)} did not end within {seconds:g} s") from None
        for t in self.threads:
            t.join(PATIENCE_S)
        return code

    def end(self):
        """Whatever it takes."""
        if self.p.stdin and not self.p.stdin.closed:
            try:
                self.p.stdin.close()
            except OSError:
                pass
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Target(Process):
    """A program of tests/e2e/targets: says `ready`, waits for a line, prints its truth, waits again."""

    def __init__(self, argv, ready=True, **kw):
        super().__init__(argv, **kw)
        if ready:
            self.said("ready")

    def words(self):
        with self.lock:
            return [json.loads(raw) for raw in self.out]

    def said(self, tag, seconds=60):
        def look():
            found = [w for w in self.words() if w["tag"] == tag]
            if not found and self.p.poll() == 77:
                raise Skip(f"this machine can't run {self.argv[0]}")
            if not found and self.p.poll() is not None:
                raise Failure(f"{' '.join(self.argv)} ended with {self.p.returncode}: {self.errors().strip()}")
            return found

        return wait_until(look, seconds, f"{self.argv[0]} says {tag!r} {self.errors().strip()}")[0]


class Interval:
    """All lines up to a tick."""

    def __init__(self):
        self.procs = []
        self.stacks = []
        self.alerts = []
        self.tick = None
        self.done_at = None  # time.monotonic() when the tick came

    def proc(self, pid, **want):
        """The process' line; of several program images the last, running ones before exited ones."""
        found = [p for p in self.procs if p["pid"] == pid and all(p.get(k) == v for k, v in want.items())]
        found.sort(key=lambda p: p["state"] == "running")
        return found[-1] if found else None


class Tool(Process):
    """Tidemark with -f json: the stream, cut into intervals. Every line is held against the contract."""

    def __init__(self, *args, env=None, **kw):
        if not TOOL.exists():
            raise Skip(f"{TOOL.name} is not built")
        self.meta = self.end_line = None
        self.intervals = []
        self.checker = contract.Checker()
        self._open = Interval()
        self._read = 0
        full = dict(os.environ, **(env or {}))
        if "--mode" not in args and "-a" not in args:  # figures are held against the truth to the byte, unless a test says otherwise
            args = (args[0], "--mode", "exact", *args[1:])
        super().__init__([TOOL, *args], env=full, stdin=subprocess.DEVNULL, **kw)

    def pump(self):
        with self.lock:
            new, self._read = self.out[self._read:], len(self.out)
        for raw in new:
            line = self.checker.feed(raw)
            kind = line["type"]
            if kind == "meta":
                self.meta = line
            elif kind == "end":
                self.end_line = line
            elif kind == "tick":
                self._open.tick, self._open.done_at = line, time.monotonic()
                self.intervals.append(self._open)
                self._open = Interval()
            elif kind in ("proc", "stack", "alert"):
                {"proc": self._open.procs, "stack": self._open.stacks, "alert": self._open.alerts}[kind].append(line)

    def alive(self, doing):
        if self.p.poll() is not None:
            for t in self.threads:
                t.join(PATIENCE_S)
            self.pump()
            raise Failure(f"tidemark ended with {self.p.returncode} while {doing}: {self.errors().strip() or 'nothing on stderr'}")

    def attached(self, seconds=30):
        """Until the first tick: everything is attached."""
        return self.interval(1, seconds)

    def interval(self, n, seconds=30):
        """The n-th interval, from 1."""
        def look():
            self.pump()
            if len(self.intervals) < n:
                self.alive(f"waiting for tick {n}")
            return self.intervals[n - 1] if len(self.intervals) >= n else None

        return wait_until(look, seconds, f"tick {n} of tidemark ({self.errors().strip()})")

    def fresh(self, seconds=30):
        """An interval that began after this call."""
        self.pump()
        return self.interval(len(self.intervals) + 2, seconds)

    def until(self, condition, seconds, what):
        """The first interval from now on of which condition(interval) is true."""
        self.pump()
        seconds = max(seconds, PATIENCE_S)
        n = len(self.intervals) + 1
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            i = self.interval(n)
            if condition(i):
                return i
            n += 1
        raise Failure(f"not within {seconds:g} s: {what}")

    def bpf_ids(self):
        """Ids of the programs and links that the running tool holds: {("prog", 12), ...}."""
        ids = set()
        for f in Path(f"/proc/{self.pid}/fdinfo").glob("*"):
            try:
                text = f.read_text()
            except OSError:
                continue
            ids |= {(kind, int(n)) for kind, n in re.findall(r"^(prog|link)_id:\s*(\d+)", text, re.M)}
        return ids

    def finish(self, sig=signal.SIGINT, seconds=15, code=0):
        """Ends it, checks exit code, contract of the whole stream, and that its probes are gone."""
        ids = self.bpf_ids() if self.p.poll() is None else set()
        self.kill(sig)
        got = self.wait(seconds, "tidemark")
        self.pump()
        check_equal(got, code, f"exit code after {signal.Signals(sig).name} ({self.errors().strip()})")
        faults = self.checker.finish(ended=True)
        check(not faults, f"the JSON lines break the contract: {'; '.join(faults[:8])} ({len(faults)} in all)")
        wait_gone(ids)
        return self.end_line

    def ended(self, seconds=30, code=0):
        """Waits for an end of its own."""
        got = self.wait(seconds, "tidemark")
        self.pump()
        check_equal(got, code, f"exit code ({self.errors().strip()})")
        faults = self.checker.finish(ended=True)
        check(not faults, f"the JSON lines break the contract: {'; '.join(faults[:8])} ({len(faults)} in all)")
        return self.end_line


# --- nothing is left behind ---

def bpftool(*args):
    path = os.environ.get("BPFTOOL") or shutil.which("bpftool", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Skip("bpftool is not installed")
    for _ in range(5):  # what goes away while it is listed is an error
        done = subprocess.run([path, "-j", *args], capture_output=True, text=True, check=False)
        if not done.returncode:
            break
    else:
        raise Failure(f"bpftool {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout or "[]")


def kernel_ids():
    return {("prog", p["id"]) for p in bpftool("prog", "list")} | {("link", l["id"]) for l in bpftool("link", "list")}


def wait_gone(ids, seconds=10):
    """Programs are freed after a grace period of the kernel, so this is polled."""
    if ids:
        wait_until(lambda: not (ids & kernel_ids()), seconds, f"the kernel lets go of {len(ids)} programs and links", step=0.1)


def patched_bytes(pid, only=None):
    """
    Places in the executable file mappings of a process where the memory differs from the file: [(path, file offset)]. A
    breakpoint that was left behind is one. `only`: part of a path.
    """
    found = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ (\d+) +(/.*)$", line.rstrip("\n"))
            if not m or "x" not in m[3] or (only and only not in m[6]) or m[6].endswith(" (deleted)"):
                continue
            start, end, offset = int(m[1], 16), int(m[2], 16), int(m[4], 16)
            mem.seek(start)
            have = mem.read(end - start)
            with open(f"/proc/{pid}/root{m[6]}", "rb") as f:
                f.seek(offset)
                want = f.read(end - start)
            n = min(len(have), len(want))
            if have[:n] != want[:n]:
                found += [(m[6], offset + i) for i in range(n) if have[i] != want[i]]
    return found


def private_libc(directory):
    """Copies libc into a directory of its own: nobody else's probes are in it. Returns the environment that makes a target use it."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {l.split(None, 5)[5].strip() for l in maps if l.rstrip().endswith("/libc.so.6")}
    if not paths:
        raise Skip("this Python is not linked with glibc")
    shutil.copy(paths.pop(), directory / "libc.so.6")
    return dict(os.environ, LD_LIBRARY_PATH=str(directory))


# --- known truth ---

def frame_name(stack, n=0):
    frames = stack["frames"]
    return frames[n]["name"] if n < len(frames) else None


def plain_site(name):
    """aligned_alloc and memalign are one function in glibc before 2.38: a probe can't tell which name was used."""
    return {"memalign": "aligned_alloc"}.get(name, name)


def by_site(interval, proc, layer):
    """{(site, caller): counts}, the caller being frames[0]."""
    sums = collections.defaultdict(collections.Counter)
    for s in interval.stacks:
        if (s["pid"], s["start_ts"], s["layer"]) == (proc["pid"], proc["start_ts"], layer):
            for key in COUNTS.values():
                sums[plain_site(s["site"]), frame_name(s)][key] += s[key]
    return sums


def differences(got, want, what, keys=tuple(COUNTS)):
    return [f"{what} {k}: {got[COUNTS[k]]}, truth {want[k]}" for k in keys if got[COUNTS[k]] != want[k]]


def compare(interval, truth, layer="heap", extra=(), pid=None, uncounted=(), allowed=()):
    """
    Every site and the process as a whole against the truth, to the byte. `extra`: regular expressions of callers that
    may allocate beside the sites (what the C library does at the start of a process seen from birth). `uncounted`: sites of
    which only the bytes are defined. `allowed`: losses that the program provokes. Returns the list of differences.
    """
    pid = pid or truth["pid"]
    proc = interval.proc(pid)
    if not proc:
        return [f"pid {pid} ({truth['tag']}) is not among the processes {[p['pid'] for p in interval.procs]}"]
    got = by_site(interval, proc, layer)
    faults = []
    total = {k: truth[k] for k in COUNTS}
    for s in truth["sites"]:
        counts = got.pop((plain_site(s["site"]), s["caller"]), collections.Counter())
        keys = [k for k in COUNTS if not (s["site"] in uncounted and k.endswith("_count"))]
        faults += differences(counts, s, f"{truth['tag']} {s['site']} < {s['caller']}", keys)
    for (site, caller), counts in got.items():
        if not any(re.search(e, caller or "") for e in extra):
            faults.append(f"{truth['tag']}: allocations nobody made: {site} < {caller}: {dict(counts)}")
            continue
        for ours, theirs in COUNTS.items():
            total[ours] += counts[theirs]
    sums = proc["layers"].get(layer)
    if not sums:
        return faults + [f"{truth['tag']}: the process has no layer {layer}"]
    keys = [k for k in COUNTS if not (uncounted and k.endswith("_count"))]
    faults += differences(sums, total, f"{truth['tag']} process", keys)
    lost = {k: v for k, v in proc["losses"].items() if k not in FACTS and k not in allowed}
    if lost:
        faults.append(f"{truth['tag']}: losses {lost}")
    return faults


def check_truth(interval, truth, **kw):
    faults = compare(interval, truth, **kw)
    check(not faults, "; ".join(faults[:10]) + (f" ({len(faults)} in all)" if len(faults) > 10 else ""))


def check_unmatched(interval, truth):
    """Frees of blocks that were not the process' own: exact where libc makes none by itself (threads that end do)."""
    got = interval.proc(truth["pid"])["losses"].get("unmatched_free", 0)
    check_equal(got, truth["unmatched_free"], f"{truth['tag']}: unmatched_free")


def run_exact(argv, tag, layer="heap", env=None, unmatched=True, tool_args=(), **kw):
    """The usual exact test: attach, start line, truth, one complete interval, compare, clean end."""
    with Target(argv, env=env) as target, Tool("top", "-f", "json", "-i", "0.5", "--limit", "0", "-p", target.pid,
                                              *tool_args) as tool:
        tool.attached()
        target.send()
        truth = target.said(tag)
        interval = tool.fresh()
        check_truth(interval, truth, layer=layer, **kw)
        if unmatched:
            check_unmatched(interval, truth)
        tool.finish()
        return truth, interval


# --- the LD_PRELOAD counter ---

TRUTH_SITES = ["malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "memalign", "aligned_alloc", "valloc", "pvalloc"]
TRUTH_MAGIC = 0x3248545552544D54
TRUTH_HEAD = struct.Struct("<QQQ")  # magic, records, epoch
TRUTH_RECORDS = 1024
TRUTH_RECORD = struct.Struct("<Q16s7Q9Q9Q")


class Counter:
    """The shared file of libtruth.so: one record per program image, in the order in which they first allocated."""

    def __init__(self, directory):
        self.lib = build("libtruth.so")[0]
        self.path, self.gate = directory / "truth", directory / "gate"
        with open(self.path, "wb") as f:
            f.write(TRUTH_HEAD.pack(TRUTH_MAGIC, 0, 0))
            f.truncate(TRUTH_HEAD.size + TRUTH_RECORDS * TRUTH_RECORD.size)
        os.chmod(self.path, 0o666)

    def command(self, argv, warm=False):
        """
        A command line whose last program, and all that it starts, are counted. `warm`: after a shell that waits for let_go, until Tidemark
        has noticed the counter's own functions, which have the names of an allocator's.
        """
        if warm:
            os.mkfifo(self.gate)
        shell = ["/bin/sh", "-c", 'read -r x <"$0"; exec "$@"', str(self.gate)] if warm else []
        return ["/usr/bin/env", f"LD_PRELOAD={self.lib}", f"TRUTH_FILE={self.path}", *shell, *map(str, argv)]

    def let_go(self, tool):
        """Of the shell, once Tidemark has looked at it."""
        with open_gate(self.gate, tool) as gate:
            tool.fresh()
            gate.write(b"\n")

    def begin_epoch(self):
        """Everything counts anew from here. Only while all counted processes stand still."""
        with open(self.path, "r+b") as f:
            magic, n, epoch = TRUTH_HEAD.unpack(f.read(TRUTH_HEAD.size))
            f.seek(0)
            f.write(TRUTH_HEAD.pack(magic, n, epoch + 1))

    def records(self):
        data = self.path.read_bytes()
        n = TRUTH_HEAD.unpack_from(data)[1]
        check(n <= TRUTH_RECORDS, f"{n} program images, the counter has room for {TRUTH_RECORDS}")
        found = []
        for i in range(n):
            x = TRUTH_RECORD.unpack_from(data, TRUTH_HEAD.size + i * TRUTH_RECORD.size)
            r = dict(zip(("alloc_bytes", "alloc_count", "free_bytes", "free_count", "unmatched_free", "twice", "full"), x[2:9]))
            r.update(pid=x[0], comm=x[1].rstrip(b"\0").decode(), live_bytes=r["alloc_bytes"] - r["free_bytes"],
                     live_count=r["alloc_count"] - r["free_count"], site_bytes=dict(zip(TRUTH_SITES, x[9:18])),
                     site_count=dict(zip(TRUTH_SITES, x[18:27])))
            check(not r["full"] and not r["twice"], f"the counter itself lost track of {r['comm']} ({r['pid']}): {r}")
            found.append(r)
        return found


def open_gate(path, tool):
    """The writing end of a named pipe, once what runs under Tidemark waits at the other one."""
    def opened():
        try:
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb")
        except OSError as e:
            if e.errno != errno.ENXIO:  # nobody reads it yet
                raise
            tool.alive("waiting for its command to begin")
            return None

    return wait_until(opened, 30, "the command waits")


def stop_in_system_calls(pid, seconds=20):
    """Stops a process at a moment when none of its threads is in a function of the allocator: all wait in a system call."""
    def quiet():
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", 5, f"{pid} stops")
        calls = [t.read_text().split()[0] for t in Path(f"/proc/{pid}/task").glob("*/syscall")]
        if all(c.isdigit() for c in calls):  # "-1": stopped while it ran its own code
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    wait_until(quiet, seconds, f"all threads of {pid} wait in system calls", step=0.05)


def last_lines(tool):
    """{(pid, comm): (proc line, its interval)}: the last figures of each program image."""
    last = {}
    for i in tool.intervals:
        for p in i.procs:
            last[p["pid"], p["comm"]] = (p, i)
    return last


def compare_counter(tool, records, wanted=None, sites=True, allowed=()):
    """
    The last figures of every program image against the counter's records: totals, live, and totals per allocation function.
    Returns how many images were compared.
    """
    last, faults, n = last_lines(tool), [], 0
    for r in {(r["pid"], r["comm"]): r for r in records}.values():  # sh that execs sh: the last image is what is shown last
        if wanted and not re.search(wanted, r["comm"]):
            continue
        found = last.get((r["pid"], r["comm"]))
        if not found:
            faults.append(f"{r['comm']} ({r['pid']}) was never shown; seen {sorted(last)}")
            continue
        proc, interval = found
        what = f"{r['comm']} ({r['pid']})"
        n += 1
        if "heap" not in proc["layers"]:
            faults.append(f"{what} has no layer heap")
            continue
        faults += differences(proc["layers"]["heap"], r, what)
        lost = {k: v for k, v in proc["losses"].items() if k not in FACTS and k not in allowed}
        if lost:
            faults.append(f"{what}: losses {lost}")
        # more are possible: what a thread that ends has cached is freed past the counter
        if proc["losses"].get("unmatched_free", 0) < r["unmatched_free"]:
            faults.append(f"{what} unmatched_free: {proc['losses'].get('unmatched_free', 0)}, truth {r['unmatched_free']}")
        calls, truth = collections.Counter(), collections.Counter()
        for s in interval.stacks:
            if (s["pid"], s["start_ts"], s["layer"]) == (proc["pid"], proc["start_ts"], "heap"):
                calls[plain_site(s["site"])] += s["alloc_count_total"]
        for site, count in r["site_count"].items():
            truth[plain_site(site)] += count
        faults += [f"{what} calls of {s}: {calls[s]}, truth {truth[s]}" for s in set(calls) | set(truth) if sites and calls[s] != truth[s]]
    check(not faults, "; ".join(faults[:10]) + (f" ({len(faults)} in all)" if len(faults) > 10 else ""))
    check(n > 0, f"the counter saw none of {wanted!r}: {[(r['pid'], r['comm']) for r in records]}")
    return n


def run_counted(counter, argv, seconds, wanted=None, while_running=None, warm=True, limit=0, **kw):
    """Runs a command under both the counter and the tool, from its birth to its end, and compares. limit: of stacks that are shown."""
    with Tool("top", "-f", "json", "-i", "0.5", "--limit", limit, "--", *counter.command(argv, warm)) as tool:
        tool.attached()
        if warm:
            counter.let_go(tool)
        if while_running:
            while_running(tool)
        tool.wait(seconds, "the program under tidemark")
        tool.pump()
        n = compare_counter(tool, counter.records(), wanted, **kw)
        end = tool.ended()
        check_equal(end["reason"], "targets_gone", "reason of the end")
        print(f"     {n} program images compared: " + ", ".join(
            f"{r['comm']} {r['alloc_count']} allocations of {r['alloc_bytes']} bytes" for r in counter.records()[:6]))


# --- running the checks of one test file ---

def need_root():
    if os.geteuid():
        raise Skip("needs root")


def find_program(*names):
    for n in names:
        path = n if os.path.isabs(n) and os.access(n, os.X_OK) else shutil.which(n)
        if path:
            return path
    raise Skip(f"{names[0]} is not installed")


def listening(port, host="127.0.0.1"):
    import socket
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex((host, port)) == 0


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main(*checks, root=True):
    """Runs the checks (named on the command line: only those), one line each. Exit 0, 1, or 77 when nothing could be run."""
    names = sys.argv[1:]
    unknown = set(names) - {c.__name__ for c in checks}
    if unknown:
        sys.exit(f"no check named {sorted(unknown)}; there are {[c.__name__ for c in checks]}")
    results = collections.Counter()
    why = ""
    for c in checks:
        if names and c.__name__ not in names:
            continue
        began = time.monotonic()
        try:
            if root:
                need_root()
            c()
            verdict, why_now = "ok", ""
        except Skip as e:
            verdict, why_now = "skip", str(e)
            why = why_now
        except Failure as e:
            verdict, why_now = "FAIL", str(e)
        except Exception:  # a fault of the test is a failure too
            verdict, why_now = "FAIL", traceback.format_exc()
        results[verdict] += 1
        print(f"{verdict:4} {c.__name__} {time.monotonic() - began:.1f} s{': ' + why_now if why_now else ''}", flush=True)
    _end_all()
    if results["FAIL"]:
        sys.exit(1)
    if not results["ok"]:
        print(why)
        sys.exit(77)
    sys.exit(0)
