# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the tests of Python stacks share: interpreters, starting tests/e2e/pytargets under them and under Tidemark, and comparing the
Python frames of stacks with what the program said about itself (pytargets/truth.py). The comparison itself is pure.
"""
import atexit
import collections
import contextlib
import io
import itertools
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import harness as h

TARGETS = h.ROOT / "tests/e2e/pytargets"
EVAL = re.compile(r"^(_PyEval_EvalFrameDefault|_PyEval_EvalFrameEx|_TAIL_CALL_)")
CUT = 100  # of deeper stacks so many frames have to be right
SIZES = 1 << 20  # counters of libsizes.so


def _lines(stream, into, lock):
    with io.BufferedReader(stream, 1 << 20) as lines:
        for raw in lines:
            with lock:
                into.append(raw)


h._lines = _lines  # the harness' own reads a byte at a time: 15 s for the 7 MB of one interval of 1,700 stacks


def read_json(path):
    return json.loads(path.read_text(encoding="ascii"))


class Python:
    """An interpreter. root: the folder that it sees as its root; what it reads must lie there."""

    def __init__(self, version, path, root="/", why=None):
        self.version, self.path, self.root, self.why = version, path, Path(root), why
        self.minor = int((re.match(r"3\.(\d+)", version) or [0, 0])[1])
        self.label = version + ("" if self.root == Path("/") and "/usr/bin/" not in path else
                                "-debian" if self.root == Path("/") else "-" + self.root.name.split("-")[0])

    def folder(self):
        """A folder with the target scripts, gone at the end."""
        d = Path(tempfile.mkdtemp(prefix="tidemark-py-", dir=self.root / "tmp"))
        atexit.register(shutil.rmtree, d, ignore_errors=True)
        d.chmod(0o755)
        for f in TARGETS.glob("*.py"):
            shutil.copy(f, d)
        # compiled as any module is that was imported once before: the compiler alone has thousands of stacks
        subprocess.run([self.path, "-m", "compileall", "-q", self.inside(d)], capture_output=True, check=False)
        return d

    def inside(self, path):
        """A path as the interpreter sees it."""
        return Path("/") / Path(path).relative_to(self.root)

    def command(self, script, folder, *args):
        return [self.path, str(self.inside(folder / script)), str(self.inside(folder)), *map(str, args)]


def pythons(*prefixes):
    """All that scripts/pythons finds, also those that can't be had: `why` says it then."""
    done = subprocess.run([h.ROOT / "scripts/pythons", *prefixes], capture_output=True, text=True, check=False)
    found = []
    for line in done.stdout.splitlines():
        version, path, more = line.split(" ", 2)
        found.append(Python(version, path, root=more) if path != "-" else Python(version, "-", why=more))
    return found or [Python("3", "-", why=f"scripts/pythons found none: {done.stderr.strip()}")]


def newest(found):
    """The newest that runs."""
    usable = [p for p in found if not p.why]
    if not usable:
        raise h.Skip(found[0].why)
    return max(usable, key=lambda p: [int(n) for n in p.version.split(".")])


def for_each(found, name, test):
    """One check per interpreter, named after it."""
    checks = []
    for p in found:
        def check(p=p):
            if p.why:
                raise h.Skip(p.why)
            test(p)
        check.__name__ = f"{name}_{p.label}"
        checks.append(check)
    return checks


# --- running ---

class Truth:
    """What the target wrote."""

    def __init__(self, path):
        lines = [json.loads(l) for l in path.read_text(encoding="ascii").splitlines()]
        self.head, self.sites = lines[0], lines[1:]
        h.check_equal(len(self.sites), self.head["sites"], "sites in the file of truth")
        self.pid = self.head["pid"]


def await_file(path, seconds, process, what):
    def look():
        if process.p.poll() is not None and not path.exists():
            raise h.Failure(f"{what}: ended with {process.p.returncode}: {process.errors().strip()}")
        return path.exists()

    h.wait_until(look, seconds, what)
    return path


class Observed:
    """A target and a Tidemark, started in either order."""

    def __init__(self, python, script, folder, tool, target=None):
        self.python, self.script, self.folder, self.tool, self.target = python, script, folder, tool, target

    def go(self, read=Truth):
        """The truth, once the target has run its sites, and an interval that began after that."""
        (self.folder / "go").touch()
        who = self.target or self.tool
        truth = read(await_file(self.folder / "truth", 120, who, f"{self.script} of {self.python.label} runs its sites"))
        return truth, self.tool.fresh(60)

    def finish(self):
        """Lets the target end; Tidemark follows by itself."""
        (self.folder / "end").touch()
        if self.target:
            h.check_equal(self.target.wait(30), 0, f"exit code of {self.script}")
        return self.tool.ended(60)


@contextlib.contextmanager
def observe(python, script, birth, *tool_args, args=(), env=None, folder=None, every=None, limit=0):
    """
    `birth`: the target is started by Tidemark; else it waits, Tidemark attaches, and then it goes on. `limit`: an interpreter that starts has
    20,000 stacks, 100 MB of lines in each interval; what lives in large blocks is among the first thousand.
    """
    folder = folder or python.folder()
    every = every or ("2" if birth else "1")
    common = ["top", "-f", "json", "-i", every, "--limit", limit, "--layer", "heap", *tool_args]
    if birth:
        with h.Tool(*common, "--", *python.command(script, folder, *args), env=env) as tool:
            yield Observed(python, script, folder, tool)
        return
    with h.Process(python.command(script, folder, "wait", *args), env=env) as target:
        pid = int(await_file(folder / "ready", 60, target, f"{script} of {python.label} starts").read_text())
        with h.Tool(*common, "-p", pid) as tool:
            tool.attached()
            yield Observed(python, script, folder, tool, target)


def count_sizes(python, script, preload):
    """The truth of a run under libsizes.so, and {size: how often malloc was asked for it}. Needs no Tidemark."""
    folder = python.folder()
    shutil.copy(preload, folder / "libsizes.so")
    with open(folder / "sizes", "wb") as f:
        f.truncate(SIZES * 4)
    (folder / "end").touch()
    env = {"LD_PRELOAD": str(python.inside(folder / "libsizes.so")), "SIZES_FILE": str(python.inside(folder / "sizes"))}
    command = python.command(script, folder)
    enter = None
    if python.root != Path("/"):  # without the wrapper, which would be counted too
        command[0] = f"/usr/bin/python3.{python.minor}"

        def enter():
            os.chroot(python.root)

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ, **env), preexec_fn=enter)
    h.check_equal(done.returncode, 0, f"exit code of {script} of {python.label} ({done.stderr.strip()})")
    return Truth(folder / "truth"), struct.unpack(f"<{SIZES}I", (folder / "sizes").read_bytes())


# --- frames ---

def frames_of(stack):
    return [[f["name"], f["file"], f["line"]] for f in stack["frames"] if f["kind"] == "python"]


def plain(frame):
    """What can't be said in UTF-8 is U+FFFD, one or several."""
    return [re.sub("[\ud800-\udfff\ufffd]+", "\ufffd", x) if isinstance(x, str) else x for x in frame]


def of_process(interval, pid, layer="heap"):
    """Stacks of a process, of its last program image."""
    proc = interval.proc(pid)
    h.check(proc, f"process {pid} is not shown; there are {[p['pid'] for p in interval.procs]}")
    return [s for s in interval.stacks if (s["pid"], s["start_ts"], s["layer"]) == (pid, proc["start_ts"], layer)]


def subsets(sites):
    """All selections of sites that share their Python stack, single ones first: they may differ in their native frames."""
    for n in range(1, len(sites) + 1):
        yield from itertools.combinations(sites, n)


def stacks_of_group(sites, by_sum):
    """
    Which stacks hold the blocks of these sites, which have the same Python frames: [(stack, its sites)], and the sites of which no
    stack holds exactly the blocks. by_sum: {(blocks, bytes): [stacks]}.
    """
    found, left = [], list(sites)
    for some in subsets(sites) if len(sites) <= 8 else itertools.chain(((s,) for s in sites), (sites,)):
        if not all(s in left for s in some):
            continue
        key = sum(s["count"] for s in some), sum(s["count"] * s["requested"] for s in some)
        candidates = by_sum.get(key, [])
        if candidates:
            want = [plain(f) for f in some[0]["frames"]][:CUT]
            best = max(candidates, key=lambda c: [plain(f) for f in frames_of(c)][:CUT] == want)
            found.append((best, some))
            left = [s for s in left if s not in some]
    return found, left


def nice(frames, limit=8):
    text = " < ".join(f"{n} {Path(f).name if f else f}:{l}" for n, f, l in frames[:limit])
    return (text or "none") + (f" < ... {len(frames) - limit} more" if len(frames) > limit else "")


def whole(stack, limit=24):
    return " < ".join((f"[{f['name']} {f['line']}]" if f["kind"] == "python" else f["name"]) for f in stack["frames"][:limit])


def native_between(stack, inner):
    """Does a frame of C code stand between this Python frame and the next?"""
    n = -1
    for f in stack["frames"]:
        if f["kind"] == "python":
            n += 1
            if n > inner:
                return False
        elif n == inner:
            return True
    return False


def site_faults(site, stack, allow_gone=False):
    """What is wrong with a stack of exactly this site: [(what, text)]."""
    got, want = [plain(f) for f in frames_of(stack)], [plain(f) for f in site["frames"]]
    deep = len(want) > CUT
    if allow_gone:
        pairs = list(zip(got, want))
        got = [w if g[0] == "<gone>" else g for g, w in pairs] + got[len(pairs):]
    if deep:
        equal = got[:CUT] == want[:CUT]
    else:
        equal = got == want
    if not equal:
        at = next((i for i, (g, w) in enumerate(zip(got, want)) if g != w), min(len(got), len(want)))
        yield "frames", f"frame {at} of {len(want)} differs\n        got   {nice(got)}\n        truth {nice(want)}"
        return
    loops = [f["name"] for f in stack["frames"] if f["kind"] == "native" and EVAL.match(f["name"])]
    if loops:
        yield "loops", f"{len(loops)} frames of the eval loop are left: {whole(stack)}"
    for inner in site["native"]:
        if not native_between(stack, inner):
            yield "order", f"no C code between Python frames {inner} and {inner + 1}: {whole(stack)}"
    if deep and stack["complete"]:
        yield "complete", f"{len(want)} Python frames are called complete, {len(got)} are there"
    if not deep and not site["depth"] and not stack["complete"]:
        yield "complete", f"not complete: {whole(stack)} ... {stack['frames'][-1]['name']}"


def match(truth, stacks):
    """Stacks by the sizes of their blocks: yields (sites of one Python stack, [(stack, its sites)], sites that no stack fits)."""
    by_sum, groups = collections.defaultdict(list), collections.defaultdict(list)
    for s in stacks:
        by_sum[s["alloc_count_total"], s["alloc_bytes_total"]].append(s)
    for site in truth.sites:
        groups[json.dumps(site["frames"][:CUT + 1])].append(site)  # deeper ones are one stack when they are cut
    for sites in groups.values():
        yield (sites, *stacks_of_group(sites, by_sum))


def compare(truth, stacks):
    """Each site against the stacks of its process. Returns (number of equal ones, [(what, label, text)])."""
    equal, faults = 0, []
    for _, found, left in match(truth, stacks):
        for stack, some in found:
            for site in some:
                mine = [(what, site["label"], text) for what, text in site_faults(site, stack, site["gone"])]
                faults += mine
                equal += not mine
        for site in left:
            near = [s for s in stacks if frames_of(s)[:1] == site["frames"][:1]]
            faults.append(("size", site["label"], f"no stack has {site['count']} blocks of {site['requested']} bytes and no others; truth "
                           f"{nice(site['frames'])}" + "".join(f"\n        near    {s['alloc_count_total']} blocks, {s['alloc_bytes_total']} "
                                                               f"bytes: {nice(frames_of(s))}" for s in near[:2])))
    return equal, faults


def report(python, how, truth, equal, faults, show=8, tolerated=(), share=0.15):
    """Prints what was found and fails, unless all faults are of a tolerated kind, at few of the sites."""
    kinds = collections.Counter(what for what, _, _ in faults)
    print(f"     {python.label} {how}: {len(truth.sites)} sites, {equal} equal, {len(truth.sites) - equal} differing"
          + "".join(f", {k}: {n}" for k, n in sorted(kinds.items())), flush=True)
    for what, label, text in faults[:show]:
        print(f"       {what}: {label}: {text}")
    if len(faults) > show:
        print(f"       ... {len(faults) - show} more: " + ", ".join(sorted({l for _, l, _ in faults[show:]}))[:1500])
    if truth.head.get("missing"):
        print(f"       not run, {python.label} lacks it: {truth.head['missing']}")
    hard = [f for f in faults if f[0] not in tolerated]
    h.check(not hard and len(faults) <= share * len(truth.sites), f"{len(faults)} faults at {len(truth.sites) - equal} of {len(truth.sites)} sites of {python.label} {how}")
